//! The core's requests to a thread, and its reports.

use super::attachment::JsAttachment;
use super::js_waker::JsWaker;
use super::number::to_number;
use crate::pool::{BlockState, Reason};
use napi::bindgen_prelude::{External, Function};
use napi_derive::napi;

/// Registers `on_wake`, which the core calls in an event-loop turn of this thread when it has a
/// request.
#[napi]
pub fn listen(
    attachment: &External<JsAttachment>,
    on_wake: Function<'_, (), ()>,
) -> napi::Result<()> {
    attachment.thread().listen(Box::new(JsWaker::new(&on_wake)?));
    Ok(())
}

/// Notes whether this thread has idle blocks. Returns whether the process's trimmer watches them.
#[napi]
pub fn set_idle(attachment: &External<JsAttachment>, has_idle: bool) -> bool {
    attachment.set_idle(has_idle)
}

/// Takes the number of idle bytes that other threads ask this one to give up.
#[napi]
pub fn take_asked(attachment: &External<JsAttachment>) -> f64 {
    to_number(attachment.thread().take_asked() as u64)
}

/// Takes the number of idle bytes that this thread must free, because another called `trim`.
#[napi]
pub fn take_trimmed(attachment: &External<JsAttachment>) -> f64 {
    to_number(attachment.thread().take_trimmed() as u64)
}

/// Takes whether this thread must free all its idle blocks.
#[napi]
pub fn take_free_all(attachment: &External<JsAttachment>) -> bool {
    attachment.thread().take_free_all()
}

/// Takes what this thread must do at the end of an interval: a [`Tick`](crate::pool::Tick).
#[napi]
pub fn take_tick(attachment: &External<JsAttachment>) -> u8 {
    attachment.report_overhead();
    attachment.thread().take_tick() as u8
}

/// Takes the number of bytes that the trimmer has freed because they were idle.
#[napi]
pub fn take_freed_as_idle(attachment: &External<JsAttachment>) -> f64 {
    to_number(attachment.pool().take_unreported(Reason::Idle) as u64)
}

/// Takes the number of bytes that the trimmer has freed because memory runs short.
#[napi]
pub fn take_freed_under_pressure(attachment: &External<JsAttachment>) -> f64 {
    to_number(attachment.pool().take_unreported(Reason::Pressure) as u64)
}

/// Takes the oldest report of a sampled lease that ended without a release in this thread.
///
/// Returns the number of its call site's record, below zero if another thread has released it;
/// `null` if there is no report.
#[napi]
pub fn next_report(attachment: &External<JsAttachment>) -> Option<f64> {
    let left = attachment.thread().next_report()?;
    Some(if left.state == BlockState::Sampled { left.sample } else { -left.sample })
}

/// Notes the call site of a leak. Returns its number from 1 up if a warning must follow; 0 if some
/// thread has noted it before, or the pool has noted too many.
#[napi]
#[allow(clippy::needless_pass_by_value, reason = "napi converts to no other")]
pub fn note_leak_site(attachment: &External<JsAttachment>, site: String) -> u32 {
    attachment.pool().note_leak_site(&site)
}
