//! The thread's counters, for JavaScript to write, and the sums of all threads' counters.

use super::attachment::{JsAttachment, Result, unknown};
use super::error::Code;
use super::number::{narrow, to_number};
use super::shared_words;
use napi::bindgen_prelude::{External, Float64ArraySlice, Unknown};
use napi::{Env, Error};
use napi_derive::napi;
use std::iter::once;

/// Returns the thread's own words, for a `Float64Array`.
#[napi]
pub fn words<'env>(env: &'env Env, attachment: &External<JsAttachment>) -> Result<Unknown<'env>> {
    let (address, length, memory) = attachment.counters().words();
    let value = if attachment.pool().config().external {
        // SAFETY: the words live as long as their memory, and are atomics that anyone may write.
        unsafe { shared_words::share(env.raw(), memory, address.cast(), length) }?
    } else {
        let (value, data, anchored) = shared_words::anchor(env.raw(), length)?;
        attachment.anchor(anchored);
        // SAFETY: V8's memory is as long, and anchored until the attachment is dropped, which first
        // takes the words back.
        unsafe { attachment.counters().put_words(data.cast()) };
        value
    };
    Ok(unknown(env, value))
}

/// Returns the words of one segment of the thread's rows, for a `Float64Array`.
#[napi]
pub fn segment<'env>(
    env: &'env Env,
    attachment: &External<JsAttachment>,
    index: u32,
) -> Result<Unknown<'env>> {
    let counters = attachment.counters();
    let (address, length, memory) = counters
        .segment(index as usize)
        .ok_or_else(|| Error::new(Code::InvalidArgument, format!("no segment {index}")))?;
    let value = if attachment.pool().config().external {
        // SAFETY: the words live as long as their memory, and are atomics that anyone may write.
        unsafe { shared_words::share(env.raw(), memory, address.cast(), length) }?
    } else {
        let (value, data, anchored) = shared_words::anchor(env.raw(), length)?;
        attachment.anchor(anchored);
        // SAFETY: V8's memory is as long, and anchored until the attachment is dropped, which first
        // takes the words back.
        unsafe { counters.put_segment(index as usize, data.cast()) };
        value
    };
    Ok(unknown(env, value))
}

/// Returns whether the segment of that number still has that name. If not, JavaScript drops its
/// view of the words.
#[napi]
pub fn has_segment(attachment: &External<JsAttachment>, index: u32, name: u32) -> bool {
    attachment.counters().has_segment(index as usize, name)
}

/// The figures that only the pool as a whole has, in the order in which [`stats`] writes them.
pub const POOL_FIGURES: [&str; 6] = [
    "peakInUseBytes",
    "unpooledCount",
    "waitCount",
    "overheadBytes",
    "waitingCount",
    "longestWaitMs",
];

/// Writes a snapshot of the counters, all threads together, and returns how many classes it has.
///
/// First the figures of all classes, then [`POOL_FIGURES`], then for each class its block size and
/// its figures. `lib/pool/stats.js` makes the objects: this function would take three times as long
/// for that.
#[napi]
pub fn stats(attachment: &External<JsAttachment>, mut words: Float64ArraySlice) -> u32 {
    let stats = attachment.pool().stats();
    let of_pool: [f64; POOL_FIGURES.len()] = [
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
    let figures = stats.total.to_row().into_iter().chain(of_pool).chain(classes);
    // SAFETY: only this thread has the array, and it is in this call.
    for (word, figure) in unsafe { words.as_mut() }.iter_mut().zip(figures) {
        *word = figure;
    }
    narrow(stats.classes.len())
}
