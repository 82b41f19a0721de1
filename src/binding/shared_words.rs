//! `ArrayBuffer`s over the words of the counters, which JavaScript writes and the core reads.

use super::array_buffer::refused;
use super::error::Code;
use crate::pool::WordMemory;
use napi::{Error, sys};
use std::ffi::c_void;
use std::ptr;

/// Makes an `ArrayBuffer` over `length` bytes of the counters' memory, and keeps that alive.
///
/// # Errors
///
/// [`Code::Refused`].
///
/// # Safety
///
/// The bytes at `address` live as long as `memory`, and JavaScript may write them.
pub unsafe fn share(
    env: sys::napi_env,
    memory: WordMemory,
    address: *const c_void,
    length: usize,
) -> Result<sys::napi_value, Error<Code>> {
    let hint = Box::into_raw(Box::new(memory));
    let mut value = ptr::null_mut();
    // SAFETY: the caller vouches for the bytes, and the finalizer's hint keeps them alive.
    let status = unsafe {
        sys::napi_create_external_arraybuffer(
            env,
            address.cast_mut(),
            length,
            Some(unshared),
            hint.cast(),
            &raw mut value,
        )
    };
    match status {
        sys::Status::napi_ok => Ok(value),
        // The hint stays out, because an `ArrayBuffer` may refer to it. At worst a few KiB of
        // counters leak.
        status => Err(refused("the counters' ArrayBuffer", status)),
    }
}

/// Finalizes an `ArrayBuffer` of [`share`].
///
/// # Safety
///
/// Node-API calls it once for each `ArrayBuffer`, with the hint it was created with.
unsafe extern "C" fn unshared(_env: sys::napi_env, _data: *mut c_void, hint: *mut c_void) {
    // SAFETY: `share` made `hint` from a box, and nobody else takes it back.
    drop(unsafe { Box::from_raw(hint.cast::<WordMemory>()) });
}

/// V8's memory that stays where it is until this is dropped.
pub struct Anchored {
    /// The environment that [`anchor`] was called with.
    env: sys::napi_env,
    reference: sys::napi_ref,
}

impl Drop for Anchored {
    fn drop(&mut self) {
        // SAFETY: the reference was made in this environment, and is deleted once. Its owner is
        // dropped in a finalizer of the environment, in its thread.
        unsafe { sys::napi_delete_reference(self.env, self.reference) };
    }
}

/// Makes an `ArrayBuffer` of `length` bytes that V8 owns, and keeps it alive. Returns the
/// `ArrayBuffer`, the address of its memory, and the anchor that keeps both.
///
/// # Errors
///
/// [`Code::Refused`].
pub fn anchor(
    env: sys::napi_env,
    length: usize,
) -> Result<(sys::napi_value, *mut c_void, Anchored), Error<Code>> {
    let (mut value, mut data, mut reference) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    // SAFETY: `env` is this thread's environment, in a call from JavaScript.
    let status =
        unsafe { sys::napi_create_arraybuffer(env, length, &raw mut data, &raw mut value) };
    if status != sys::Status::napi_ok {
        return Err(refused("an ArrayBuffer", status));
    }
    // SAFETY: as above, and the value was made there.
    let status = unsafe { sys::napi_create_reference(env, value, 1, &raw mut reference) };
    if status != sys::Status::napi_ok {
        return Err(refused("a reference", status));
    }
    Ok((value, data, Anchored { env, reference }))
}
