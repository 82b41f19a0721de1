//! `ArrayBuffer`s without a slot of this thread: posted here, or made over memory that was moved.

use super::array_buffer;
use super::attachment::JsAttachment;
use napi::bindgen_prelude::{ArrayBuffer, External};
use napi::{Env, JsValue};
use napi_derive::napi;

/// The pool's knowledge of such an `ArrayBuffer`.
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub enum RemoteState {
    /// It has no memory of this pool.
    Unknown = -1,
    /// Its memory was released.
    Released = 0,
    /// It has a leased block.
    Leased = 1,
    /// It has V8's memory that the pool leased.
    LeasedUnpooled = 2,
}

impl RemoteState {
    /// Every state, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Unknown, Self::Released, Self::Leased, Self::LeasedUnpooled];
}

/// Returns what the pool knows about an `ArrayBuffer`: a [`RemoteState`].
#[napi]
pub fn state_of(attachment: &External<JsAttachment>, array_buffer: ArrayBuffer<'_>) -> i32 {
    let (address, size) = place_of(&array_buffer);
    let pool = attachment.pool();
    let state = match pool.state_of(address, size) {
        Some(state) if state.is_leased() => RemoteState::Leased,
        Some(_) => RemoteState::Released,
        None => match pool.unpooled().is_leased(address, size) {
            Some(true) => RemoteState::LeasedUnpooled,
            Some(false) => RemoteState::Released,
            None => RemoteState::Unknown,
        },
    };
    state as i32
}

/// Releases such an `ArrayBuffer`, by detaching it. Returns whether this pool had leased its
/// memory, and it could be detached.
#[napi]
pub fn release_remotely(
    env: &Env,
    attachment: &External<JsAttachment>,
    array_buffer: ArrayBuffer<'_>,
) -> bool {
    let (address, size) = place_of(&array_buffer);
    if size == 0 {
        return false;
    }
    let pool = attachment.pool();
    // Marked before it is detached: after that V8 may give the address to another thread.
    if pool.unpooled().release_at(address, size) {
        // SAFETY: as in `detach`.
        return unsafe { array_buffer::detach(env.raw(), array_buffer.raw()) };
    }
    if !pool.release_remotely(address, size) {
        return false;
    }
    // SAFETY: as in `detach`.
    if !unsafe { array_buffer::detach(env.raw(), array_buffer.raw()) } {
        return false;
    }
    pool.end_released_remotely(address);
    true
}

/// Returns where an `ArrayBuffer`'s memory is, and its length.
pub fn place_of(array_buffer: &ArrayBuffer<'_>) -> (usize, usize) {
    (array_buffer.as_ptr().addr(), array_buffer.len())
}
