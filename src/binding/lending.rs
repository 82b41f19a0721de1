//! How blocks go to JavaScript and come back.

use super::array_buffer;
use super::attachment::{JsAttachment, Result, size_class, unknown};
use super::error::Code;
use super::number::to_number;
use crate::pool::{Fate, Lender, Loan, Refusal};
use napi::bindgen_prelude::{ArrayBuffer, Either, External, Unknown};
use napi::{Env, Error, JsValue};
use napi_derive::napi;

/// A block as JavaScript gets it, or the number of bytes that must be given up first.
pub type Lent<'env> = Either<Unknown<'env>, f64>;

/// Ends the loan of a V8-backed block when JavaScript has lost the block.
///
/// On a runtime that allows no memory of ours, V8 owns the memory and frees it by itself. Another
/// thread that still holds it keeps it, so only the counters are settled here.
struct Guard(Option<Loan>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(loan) = self.0.take() {
            loan.settle(Lender::Alive);
        }
    }
}

/// Lends an idle block of a class from the depot, as an `ArrayBuffer`; `null` if there is none.
///
/// The counters have its row in [`Column::LastRow`](crate::pool::Column::LastRow). Each call lends
/// one block and not an array of them: a store into an array can run JavaScript that a user has put
/// on its prototype.
#[napi]
pub fn lend_idle<'env>(
    env: &'env Env,
    attachment: &External<JsAttachment>,
    class: u32,
) -> Result<Option<Unknown<'env>>> {
    attachment.lend_idle(size_class(class)?)?.map(|loan| lend(env, attachment, loan)).transpose()
}

/// Lends a block from the operating system in the same way; `null` if the pool is closed.
///
/// A number means that the pool is at its ceiling and must first give up that many bytes. For a
/// V8-backed block it returns a guard, which JavaScript must keep with the memory.
#[napi]
pub fn lend_fresh<'env>(
    env: &'env Env,
    attachment: &External<JsAttachment>,
    class: u32,
) -> Result<Option<Lent<'env>>> {
    let class = size_class(class)?;
    if attachment.pool().is_closed() {
        return Ok(None);
    }
    lend_or_shortage(env, attachment, attachment.lend_fresh(class).map(Some))
}

/// Hands out a loan, or the bytes that are short.
pub fn lend_or_shortage<'env>(
    env: &'env Env,
    attachment: &JsAttachment,
    outcome: std::result::Result<Option<Loan>, Refusal>,
) -> Result<Option<Lent<'env>>> {
    match outcome {
        Ok(None) => Ok(None),
        Ok(Some(loan)) => lend(env, attachment, loan).map(|value| Some(Either::A(value))),
        Err(Refusal::Exhausted(shortage)) => Ok(Some(Either::B(to_number(shortage as u64)))),
        Err(Refusal::OutOfMemory(error)) => Err(error.into()),
    }
}

fn lend<'env>(env: &'env Env, attachment: &JsAttachment, loan: Loan) -> Result<Unknown<'env>> {
    attachment.note_lent();
    if let Some(address) = loan.address() {
        return Ok(unknown(env, array_buffer::lend(env.raw(), loan, address)?));
    }
    let guard = External::new(Guard(Some(loan)));
    guard.into_unknown(env).map_err(|error| Error::new(Code::Refused, error.reason.clone()))
}

/// Ends the loan of a V8-backed block whose memory V8 refused.
#[napi]
pub fn withdraw(attachment: &External<JsAttachment>, row: u32) -> bool {
    attachment.counters().loan_on(row).is_some_and(|key| attachment.pool().end_if_gone(key))
}

/// Detaches the `ArrayBuffer` on `row`, after which its block comes back and meets its [`Fate`].
///
/// Returns whether it could be detached; if not, nothing has changed. The block is back at once if
/// a witness says that the backing store is gone, otherwise when the finalizer runs.
#[napi]
pub fn detach(
    env: &Env,
    attachment: &External<JsAttachment>,
    array_buffer: ArrayBuffer<'_>,
    row: u32,
    class: u32,
    fate: u32,
) -> Result<bool> {
    let class = size_class(class)?;
    // If the `ArrayBuffer` is empty, the user has transferred its memory, and it can't be detached
    // here. The block may be back already, and its row freed.
    if array_buffer.is_empty() {
        return Ok(false);
    }
    let key = attachment
        .counters()
        .loan_on(row)
        .ok_or_else(|| Error::new(Code::InvalidArgument, format!("no row {row}")))?;
    let fate = Fate::from_number(fate);
    // Marked in advance, because some runtimes call the finalizer within the call that detaches.
    let before = attachment.mark_detached(row, class, fate);
    // SAFETY: the value was converted in this call, so it belongs to this environment. `lib/` has
    // just moved the memory to it, or runs on Node 20, which knows no keys.
    if !unsafe { array_buffer::detach(env.raw(), array_buffer.raw()) } {
        attachment.undo_detached(row, class, fate, before);
        return Ok(false);
    }
    attachment.pool().end_if_gone(key);
    Ok(true)
}
