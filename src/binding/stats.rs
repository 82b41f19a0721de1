//! The counters, as JavaScript has them.

use super::attachment::JsAttachment;
use super::number::{narrow, to_number};
use napi::bindgen_prelude::{External, Float64ArraySlice};
use napi_derive::napi;
use std::iter::once;

/// A snapshot of the counters, all threads together, as numbers that `lib/pool/stats.js` names: to make the
/// objects here takes three times as long. Returns how many classes there are.
#[napi]
pub fn stats(end: &External<JsAttachment>, mut words: Float64ArraySlice) -> u32 {
    let stats = end.pool().stats();
    let whole = [
        stats.peak_in_use_bytes,
        stats.unpooled_count,
        to_number(stats.wait_count),
        to_number(stats.overhead_bytes as u64),
        to_number(stats.waiting_count as u64),
        stats.longest_wait.as_secs_f64() * 1000.0,
    ];
    let classes = stats.classes.iter().flat_map(|(class, figures)| {
        once(to_number(class.block_size() as u64)).chain(figures.to_row())
    });
    let figures = stats.total.to_row().into_iter().chain(whole).chain(classes);
    // SAFETY: only this thread has the array, and it is in this call.
    for (word, figure) in unsafe { words.as_mut() }.iter_mut().zip(figures) {
        *word = figure;
    }
    narrow(stats.classes.len())
}
