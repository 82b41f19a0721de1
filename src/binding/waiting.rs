//! The queue of waiters, and the ceiling that makes them wait.

use super::attachment::{JsAttachment, Result, size_class};
use super::lending::{Lent, lend_or_shortage};
use super::number::{to_bytes, to_number};
use napi::Env;
use napi::bindgen_prelude::External;
use napi_derive::napi;

/// Returns whether nobody waits for a block of the pool.
#[napi]
pub fn nobody_waits(attachment: &External<JsAttachment>) -> bool {
    attachment.pool().nobody_waits()
}

/// Returns whether a block of a class fits under the ceiling at all.
#[napi]
pub fn can_ever_hold(attachment: &External<JsAttachment>, class: u32) -> Result<bool> {
    Ok(attachment.pool().can_ever_hold(size_class(class)?))
}

/// Returns how many bytes the pool may hold beside those that never leave quarantine.
#[napi]
pub fn holdable_bytes(attachment: &External<JsAttachment>) -> f64 {
    to_number(attachment.pool().holdable_bytes() as u64)
}

/// Joins the queue of waiters for a block of a class, and returns the ticket.
#[napi]
pub fn wait(attachment: &External<JsAttachment>, class: u32) -> Result<f64> {
    Ok(to_number(attachment.wait(size_class(class)?)))
}

/// Returns a ticket of this thread that was granted and not claimed; `null` if there is none.
#[napi]
pub fn granted(attachment: &External<JsAttachment>) -> Option<f64> {
    attachment.granted().map(to_number)
}

/// Claims the block that a ticket was granted, as `lend_fresh` returns it; `null` if none was.
///
/// A number means that the ceiling can't hold such a block any more.
#[napi]
pub fn claim<'env>(
    env: &'env Env,
    attachment: &External<JsAttachment>,
    ticket: f64,
) -> Result<Option<Lent<'env>>> {
    lend_or_shortage(env, attachment, attachment.claim(to_bytes(ticket)))
}

/// Leaves the queue of waiters.
#[napi]
pub fn cancel(attachment: &External<JsAttachment>, ticket: f64) {
    attachment.cancel(to_bytes(ticket));
}
