//! Gives idle memory back, to the operating system or to other threads.

use super::attachment::JsAttachment;
use super::number::{to_bytes, to_number, to_size};
use napi::bindgen_prelude::External;
use napi_derive::napi;

/// Frees idle blocks in the depot and on their way to it. Stops after `bytes` bytes, or after
/// `blocks` blocks of the depot. Returns the bytes freed.
#[napi]
pub fn trim(attachment: &External<JsAttachment>, bytes: f64, blocks: u32) -> f64 {
    let freed = attachment.pool().trim_some(to_bytes(bytes), blocks as usize);
    attachment.report_overhead();
    to_number(freed)
}

/// Tells the other threads to free idle bytes.
#[napi]
pub fn trim_others(attachment: &External<JsAttachment>, bytes: f64) {
    attachment.trim_others(to_size(bytes));
}

/// Asks the other threads to give up idle bytes.
#[napi]
pub fn ask(attachment: &External<JsAttachment>, bytes: f64) {
    attachment.ask_others(to_size(bytes));
}

/// Shrinks the pool's overhead to what its blocks still need.
#[napi]
pub fn shrink(attachment: &External<JsAttachment>) {
    attachment.pool().shrink();
    attachment.report_overhead();
}

/// Returns how many bytes are idle in the depot.
#[napi]
pub fn depot_bytes(attachment: &External<JsAttachment>) -> f64 {
    to_number(attachment.pool().depot_bytes() as u64)
}
