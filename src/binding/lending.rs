//! How blocks go to JavaScript and come back.

use super::array_buffer;
use super::attachment::{JsAttachment, Result, size_class, unknown};
use super::backing_store::{self, Held};
use super::error::Code;
use super::number::{to_bytes, to_number, to_size};
use crate::pool::{BlockState, Lender, Loan, Pool, Refusal, UnpooledKey};
use napi::bindgen_prelude::{ArrayBuffer, Either, External, FromNapiValue, Function, Unknown};
use napi::{Env, Error, JsValue};
use napi_derive::napi;
use std::sync::Arc;

/// Ends the loan of a V8-backed block when JavaScript has lost the last trace of it.
///
/// On a runtime that allows no memory of ours V8 has the memory, and its own care of it: whoever holds
/// that then, in whichever thread, keeps it. Only the counters are closed.
struct Guard(Option<Loan>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(loan) = self.0.take() {
            loan.settle(Lender::Alive);
        }
    }
}

/// An idle block of a class from the depot, as an `ArrayBuffer`; its row is in the counters'
/// [`Column::LastRow`](crate::pool::Column::LastRow). `null` where there is none.
///
/// One at a time, and not in an array: storing into one can run JavaScript that a user has put on
/// its prototype.
#[napi]
pub fn lend_idle<'env>(
    env: &'env Env,
    end: &External<JsAttachment>,
    class: u32,
) -> Result<Option<Unknown<'env>>> {
    end.lend_idle(size_class(class)?)?.map(|loan| lend(env, end, loan)).transpose()
}

/// The same with a block from the operating system; for a V8-backed one, a guard that JavaScript must
/// keep with the memory. A number: so many bytes must be given up first, the ceiling is reached.
/// `null` where the pool is closed.
#[napi]
pub fn lend_fresh<'env>(
    env: &'env Env,
    end: &External<JsAttachment>,
    class: u32,
) -> Result<Option<Either<Unknown<'env>, f64>>> {
    let class = size_class(class)?;
    if end.pool().is_closed() {
        return Ok(None);
    }
    lend_or_tell(env, end, end.lend_fresh(class).map(Some))
}

fn lend_or_tell<'env>(
    env: &'env Env,
    end: &JsAttachment,
    outcome: std::result::Result<Option<Loan>, Refusal>,
) -> Result<Option<Either<Unknown<'env>, f64>>> {
    match outcome {
        Ok(None) => Ok(None),
        Ok(Some(loan)) => lend(env, end, loan).map(|value| Some(Either::A(value))),
        Err(Refusal::Exhausted(shortage)) => Ok(Some(Either::B(to_number(shortage as u64)))),
        Err(Refusal::OutOfMemory(error)) => Err(error.into()),
    }
}

fn lend<'env>(env: &'env Env, end: &JsAttachment, loan: Loan) -> Result<Unknown<'env>> {
    end.note_lent();
    if let Some(address) = loan.address() {
        return Ok(unknown(env, array_buffer::lend(env.raw(), loan, address)?));
    }
    let guard = External::new(Guard(Some(loan)));
    guard.into_unknown(env).map_err(|error| Error::new(Code::Refused, error.reason.clone()))
}

/// The memory for a V8-backed block could not be had: its loan ends.
#[napi]
pub fn withdraw(end: &External<JsAttachment>, row: u32) -> bool {
    end.counters().loan_on(row).is_some_and(|key| end.pool().end_if_gone(key))
}

/// Detaches the `ArrayBuffer` on `row`, after which its block comes back; `fate`: 0, to be kept; 1, to
/// be freed; 2, to be freed because it is not wanted. Whether it could be detached; if not, nothing
/// has changed.
///
/// The block is back at once where the runtime tells that the backing store is gone, else when
/// the finalizer comes.
#[napi]
pub fn detach(
    env: &Env,
    end: &External<JsAttachment>,
    array_buffer: ArrayBuffer<'_>,
    row: u32,
    class: u32,
    fate: u32,
) -> Result<bool> {
    let class = size_class(class)?;
    // An empty one was transferred by someone: the block is not here to be detached. It may be back already, and its
    // row gone.
    if array_buffer.is_empty() {
        return Ok(false);
    }
    let counters = end.counters();
    let key = counters
        .loan_on(row)
        .ok_or_else(|| Error::new(Code::InvalidArgument, format!("no row {row}")))?;
    // Beforehand, because some runtimes call the finalizer within the call that detaches.
    let before = counters.state(row);
    match fate {
        0 => counters.set_state(row, BlockState::Detached),
        1 => end.mark_freeing(row, class),
        _ => end.discard(row, class),
    }
    // SAFETY: the value was converted in this call, so it belongs to this environment. `lib/` has
    // just moved the memory to it, or runs on Node 20, which knows no keys.
    if !unsafe { array_buffer::detach(env.raw(), array_buffer.raw()) } {
        end.spare(row, class, before, fate > 0, fate > 1);
        return Ok(false);
    }
    end.pool().end_if_gone(key);
    Ok(true)
}

/// Where no witness tells that V8's memory is gone, what tells that JavaScript has lost the `ArrayBuffer` that a lease
/// was given.
pub struct UnpooledGuard {
    pool: Arc<Pool>,
    key: UnpooledKey,
}

impl Drop for UnpooledGuard {
    fn drop(&mut self) {
        self.pool.unpooled().lose(self.key);
    }
}

/// Notes that V8 serves a lease with an `ArrayBuffer` of its own. Returns what must live as long as that, if anything.
#[napi]
pub fn note_unpooled(
    end: &External<JsAttachment>,
    array_buffer: ArrayBuffer<'_>,
) -> Option<External<UnpooledGuard>> {
    let (address, size) = place_of(&array_buffer);
    if size == 0 {
        return None;
    }
    // SAFETY: the value was converted in this call, and is attached: it is not empty.
    let witness = unsafe { backing_store::witness(array_buffer.raw()) };
    let is_watched = witness.is_some();
    let pool = end.pool();
    let key = pool.unpooled().insert(address, size, witness);
    (!is_watched).then(|| External::new(UnpooledGuard { pool: pool.clone(), key }))
}

/// Notes that the thread that leased such an `ArrayBuffer` releases it; `detached`: it is detached next.
#[napi]
pub fn release_unpooled(
    end: &External<JsAttachment>,
    array_buffer: ArrayBuffer<'_>,
    detached: bool,
) {
    let (address, size) = place_of(&array_buffer);
    end.pool().unpooled().release(address, size, detached);
}

/// What the pool knows of an `ArrayBuffer` that carries no slot of this thread's: one that was posted
/// here, or that the memory was moved to. 2: it has memory of V8's that is leased from this pool; 1: it has
/// a leased block; 0: what was released; -1: nothing of this pool's.
#[napi]
pub fn state_of(end: &External<JsAttachment>, array_buffer: ArrayBuffer<'_>) -> i32 {
    let (address, size) = place_of(&array_buffer);
    match end.pool().state_of(address, size) {
        Some(state) if state.is_leased() => 1,
        Some(_) => 0,
        None => end.pool().unpooled().is_leased(address, size).map_or(-1, |is| i32::from(is) * 2),
    }
}

/// Releases such an `ArrayBuffer`, by detaching it. Whether it had memory that was leased from this pool, and
/// could be detached.
#[napi]
pub fn release_remotely(
    env: &Env,
    end: &External<JsAttachment>,
    array_buffer: ArrayBuffer<'_>,
) -> bool {
    let (address, size) = place_of(&array_buffer);
    if size == 0 {
        return false;
    }
    // Before it is detached: then V8 may give the address to another thread.
    if end.pool().unpooled().release_at(address, size) {
        // SAFETY: as in `detach`.
        return unsafe { array_buffer::detach(env.raw(), array_buffer.raw()) };
    }
    if !end.pool().release_remotely(address, size) {
        return false;
    }
    // SAFETY: as in `detach`.
    if !unsafe { array_buffer::detach(env.raw(), array_buffer.raw()) } {
        return false;
    }
    end.pool().end_released_remotely(address);
    true
}

fn place_of(array_buffer: &ArrayBuffer<'_>) -> (usize, usize) {
    (array_buffer.as_ptr().addr(), array_buffer.len())
}

/// Whether [`move_memory`] can do it.
#[napi]
pub fn can_move_memory() -> bool {
    Held::is_possible()
}

/// Moves an `ArrayBuffer`'s memory to a new one, as `transfer()` does, for Node 20 alone. `null` where
/// it can't be moved; then nothing has changed.
#[napi]
pub fn move_memory<'env>(env: &'env Env, array_buffer: ArrayBuffer<'_>) -> Option<Unknown<'env>> {
    if array_buffer.is_empty() {
        return None;
    }
    // SAFETY: the value was converted in this call, and is attached: it is not empty.
    let held = unsafe { Held::by(array_buffer.raw()) }?;
    // SAFETY: as in `discard`.
    if !unsafe { array_buffer::detach(env.raw(), array_buffer.raw()) } {
        return None;
    }
    Some(unknown(env, held.into_array_buffer()))
}

/// Whether a function moves the memory of an `ArrayBuffer` to a new one, as V8's `transfer()` does. Other code can put
/// one in its place that copies: views of the old memory then live on, and the new memory is no block.
#[napi]
pub fn moves_memory<'env>(
    env: &'env Env,
    transfer: Function<'env, ArrayBuffer<'env>, ArrayBuffer<'env>>,
) -> bool {
    let Some(probe) = array_buffer::probe(env.raw()) else { return false };
    // SAFETY: the value was made in this call, by this environment.
    let read = || unsafe { ArrayBuffer::from_napi_value(env.raw(), probe) };
    let Ok(given) = read() else { return false };
    let place = place_of(&given);
    let Ok(moved) = transfer.call(given) else { return false };
    place_of(&moved) == place && read().is_ok_and(|left| left.is_empty())
}

/// Detaches an `ArrayBuffer` that V8 owns, so that its memory goes at once. For Node 20 alone.
#[napi]
pub fn discard(env: &Env, array_buffer: ArrayBuffer<'_>) -> bool {
    // SAFETY: the value was converted in this call, so it belongs to this environment; Node 20
    // knows no keys.
    unsafe { array_buffer::detach(env.raw(), array_buffer.raw()) }
}

/// Asks the other threads to give up idle bytes.
#[napi]
pub fn ask(end: &External<JsAttachment>, bytes: f64) {
    end.ask_others(to_size(bytes));
}

/// Tells the other threads to free idle bytes.
#[napi]
pub fn trim_others(end: &External<JsAttachment>, bytes: f64) {
    end.trim_others(to_size(bytes));
}

/// Whether nobody waits for a block of the pool.
#[napi]
pub fn nobody_waits(end: &External<JsAttachment>) -> bool {
    end.pool().nobody_waits()
}

/// Whether a block of a class fits under the ceiling at all.
#[napi]
pub fn can_ever_hold(end: &External<JsAttachment>, class: u32) -> Result<bool> {
    Ok(end.pool().can_ever_hold(size_class(class)?))
}

/// How many bytes the pool may hold beside what is set aside for good.
#[napi]
pub fn holdable_bytes(end: &External<JsAttachment>) -> f64 {
    to_number(end.pool().holdable_bytes() as u64)
}

/// Stands in line for a block of a class: the ticket.
#[napi]
pub fn wait(end: &External<JsAttachment>, class: u32) -> Result<f64> {
    Ok(to_number(end.wait(size_class(class)?)))
}

/// A ticket of this thread's that was granted and not claimed; `null` where there is none.
#[napi]
pub fn granted(end: &External<JsAttachment>) -> Option<f64> {
    end.granted().map(to_number)
}

/// What was granted for a ticket, as [`lend_fresh`] has it; `null` where nothing was. A number: the ceiling
/// can't hold such a block any more.
#[napi]
pub fn claim<'env>(
    env: &'env Env,
    end: &External<JsAttachment>,
    ticket: f64,
) -> Result<Option<Either<Unknown<'env>, f64>>> {
    lend_or_tell(env, end, end.claim(to_bytes(ticket)))
}

/// Waits no more.
#[napi]
pub fn cancel(end: &External<JsAttachment>, ticket: f64) {
    end.cancel(to_bytes(ticket));
}
