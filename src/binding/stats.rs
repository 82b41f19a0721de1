//! The books, as JavaScript has them.

use super::attachment::ThreadEnd;
use super::number::{narrow, to_number};
use crate::pool::Figures;
use napi::bindgen_prelude::External;
use napi_derive::napi;

/// One class's figures, or all classes' together. See [`Figures`].
#[napi(object)]
pub struct JsFigures {
    pub in_use_count: f64,
    pub in_use_bytes: f64,
    pub idle_count: f64,
    pub idle_bytes: f64,
    pub alloc_count: f64,
    pub alloc_bytes: f64,
    pub fresh_count: f64,
    pub fresh_bytes: f64,
    pub hit_count: f64,
    pub miss_count: f64,
    pub release_count: f64,
    pub collected_count: f64,
    pub discard_count: f64,
    pub freed_bytes: f64,
    pub quarantined_bytes: f64,
}

/// The books as they stand. See [`Stats`](crate::pool::Stats).
#[napi(object)]
pub struct JsStats {
    pub total: JsFigures,
    pub peak_in_use_bytes: f64,
    pub unpooled_count: f64,
    pub wait_count: f64,
    /// The block sizes of the classes that have been used, in bytes, the smallest first.
    pub block_sizes: Vec<u32>,
    /// Their figures, in the same order.
    pub classes: Vec<JsFigures>,
}

/// A snapshot of the books, all threads together.
#[napi]
pub fn stats(end: &External<ThreadEnd>) -> JsStats {
    let stats = end.pool().stats();
    let (sizes, classes): (Vec<_>, Vec<_>) = stats.classes.into_iter().unzip();
    JsStats {
        total: stats.total.into(),
        peak_in_use_bytes: stats.peak_in_use_bytes,
        unpooled_count: stats.unpooled_count,
        wait_count: to_number(stats.wait_count),
        block_sizes: sizes.into_iter().map(|class| narrow(class.block_size())).collect(),
        classes: classes.into_iter().map(JsFigures::from).collect(),
    }
}

impl From<Figures> for JsFigures {
    fn from(figures: Figures) -> Self {
        Self {
            in_use_count: figures.in_use_count,
            in_use_bytes: figures.in_use_bytes,
            idle_count: figures.idle_count,
            idle_bytes: figures.idle_bytes,
            alloc_count: figures.alloc_count,
            alloc_bytes: figures.alloc_bytes,
            fresh_count: figures.fresh_count,
            fresh_bytes: figures.fresh_bytes,
            hit_count: figures.hit_count,
            miss_count: figures.miss_count,
            release_count: figures.release_count,
            collected_count: figures.collected_count,
            discard_count: figures.discard_count,
            freed_bytes: figures.freed_bytes,
            quarantined_bytes: figures.quarantined_bytes,
        }
    }
}
