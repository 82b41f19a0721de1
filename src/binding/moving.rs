//! Moves the memory of an `ArrayBuffer`, or detaches it, where JavaScript has no `transfer()`.

use super::array_buffer;
use super::attachment::unknown;
use super::backing_store::Held;
use super::remote::place_of;
use napi::bindgen_prelude::{ArrayBuffer, FromNapiValue, Function, Unknown};
use napi::{Env, JsValue};
use napi_derive::napi;

/// Returns whether [`move_memory`] works here.
#[napi]
pub fn can_move_memory() -> bool {
    Held::is_possible()
}

/// Moves an `ArrayBuffer`'s memory to a new one, as `transfer()` does. Only for Node 20.
///
/// Returns `null` if it can't be moved; then nothing has changed.
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

/// Returns whether a function moves the memory of an `ArrayBuffer` to a new one, as V8's own
/// `transfer()` does.
///
/// Other code can replace it by one that copies. Views of the old memory then live on, and the new
/// memory is no block.
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

/// Detaches an `ArrayBuffer` that V8 owns, so that V8 frees its memory at once. Only for Node 20.
#[napi]
pub fn discard(env: &Env, array_buffer: ArrayBuffer<'_>) -> bool {
    // SAFETY: the value was converted in this call, so it belongs to this environment; Node 20
    // knows no keys.
    unsafe { array_buffer::detach(env.raw(), array_buffer.raw()) }
}
