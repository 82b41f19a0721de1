//! External `ArrayBuffer`s over the core's memory, and the finalizers that end their loans.
//!
//! - Each call that creates one MUST leave the block owned exactly once, whatever Node-API says.
//! - A finalizer MUST NOT rely on its environment: Node calls it when the environment is ending,
//!   and other runtimes may call it on a thread of their own.

use super::backing_store;
use super::deleter::Deleter;
use super::error::Code;
use crate::pool::{Lender, Loan, Witness, WordMemory, note_gone};
use napi::{Error, sys};
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

/// What the finalizer is given.
struct Return {
    loan: Loan,
    /// The thread that made the `ArrayBuffer`: only there is the environment ours to ask.
    thread: u64,
    /// Where the finalizer's coming proves that the backing store is gone.
    deleter: Option<Deleter>,
}

thread_local! {
    /// The return that this thread's finalizer saw last, to learn whether a creation that failed
    /// called it.
    static LAST_RETURN: Cell<*const c_void> = const { Cell::new(ptr::null()) };
    /// This thread's number; 0 until it is asked for. Without a destructor, so that a finalizer
    /// can ask at any stage of the thread's end.
    static THREAD: Cell<u64> = const { Cell::new(0) };
}

/// A number that no other thread of the process ever has.
fn thread_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    THREAD.with(|number| {
        if number.get() == 0 {
            // Relaxed: only uniqueness counts.
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

/// Whether the environment can run JavaScript: not when it is ending, nor while an exception is
/// pending. Calls none.
fn can_run_js(env: sys::napi_env) -> bool {
    let (mut undefined, mut coerced) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: `env` is this thread's environment and a handle scope is open, in a call from
    // JavaScript as in a finalizer.
    let status = unsafe { sys::napi_get_undefined(env, &raw mut undefined) };
    if status != sys::Status::napi_ok {
        return false;
    }
    // SAFETY: as above; `undefined` was made in the open scope.
    let status = unsafe { sys::napi_coerce_to_bool(env, undefined, &raw mut coerced) };
    status == sys::Status::napi_ok
}

/// Makes an external `ArrayBuffer` over a loan's block at `address`; its finalizer settles the loan.
///
/// # Errors
///
/// [`Code::NoExternal`] and [`Code::Refused`]. The block is back in the depot: nobody has seen an
/// `ArrayBuffer` of it, whether or not Node-API has made one.
pub fn lend(
    env: sys::napi_env,
    loan: Loan,
    address: NonNull<u8>,
) -> Result<sys::napi_value, Error<Code>> {
    // Asked beforehand: a creation that fails for this reason could not be told from one that
    // fails with the backing store already made.
    if !can_run_js(env) {
        loan.withdraw();
        return Err(Error::new(Code::Refused, "the environment cannot run JavaScript now"));
    }
    let size = loan.size();
    let deleter = Deleter::new(env);
    let hint =
        Box::into_raw(Box::new(Return { loan, thread: thread_number(), deleter: deleter.clone() }));
    LAST_RETURN.set(ptr::null());
    let mut value = ptr::null_mut();
    // SAFETY: the block is `size` bytes long and its loan's until the finalizer ends the loan.
    let status = unsafe {
        sys::napi_create_external_arraybuffer(
            env,
            address.as_ptr().cast(),
            size,
            Some(returned),
            hint.cast(),
            &raw mut value,
        )
    };
    match status {
        sys::Status::napi_ok => {
            let witness = match deleter {
                Some(deleter) => Some(Box::new(deleter) as Box<dyn Witness>),
                // SAFETY: the ArrayBuffer was made in this call, in this environment.
                None => unsafe { backing_store::witness(value) },
            };
            if let Some(witness) = witness {
                // SAFETY: nothing has collected the ArrayBuffer yet, so its finalizer has not run.
                let returned = unsafe { &*hint };
                returned.loan.watch(witness);
            }
            Ok(value)
        }
        sys::Status::napi_no_external_buffers_allowed => {
            // SAFETY: Node-API answers so before it looks at anything, so `hint` is still ours.
            let returned = unsafe { Box::from_raw(hint) };
            returned.loan.withdraw();
            Err(Error::new(
                Code::NoExternal,
                "this runtime allows no ArrayBuffer over memory that V8 did not allocate",
            ))
        }
        status => {
            if LAST_RETURN.get() != hint.cast_const().cast() {
                // SAFETY: the finalizer has not run in this call, so `hint` is alive. It may still
                // come, and takes it then; if it never does, a few bytes are lost.
                let unused = unsafe { &*hint };
                unused.loan.withdraw();
            }
            Err(refused(&format!("an ArrayBuffer of {size} bytes"), status))
        }
    }
}

/// The finalizer of [`lend`].
///
/// # Safety
///
/// Node-API calls it once for each `ArrayBuffer`, with the hint it was created with.
unsafe extern "C" fn returned(env: sys::napi_env, _data: *mut c_void, hint: *mut c_void) {
    LAST_RETURN.set(hint);
    // SAFETY: `lend` made `hint` from a box, and nobody else takes it back.
    let Return { loan, thread, deleter } = *unsafe { Box::from_raw(hint.cast::<Return>()) };
    let is_gone = match deleter {
        Some(deleter) => {
            deleter.deleted();
            true
        }
        None => !env.is_null() && thread == thread_number() && can_run_js(env),
    };
    loan.settle(if is_gone { Lender::Alive } else { Lender::Ending });
    note_gone();
}

/// Whether the runtime allows `ArrayBuffer`s over memory that V8 did not allocate. Some don't:
/// Electron, and whatever else has V8's memory cage.
pub fn allows_external(env: sys::napi_env) -> bool {
    external_byte(env).0 != sys::Status::napi_no_external_buffers_allowed
}

/// Makes an `ArrayBuffer` of one byte: as blocks are, over memory of ours, where the runtime allows that. `None` where
/// there is none to be had.
pub fn probe(env: sys::napi_env) -> Option<sys::napi_value> {
    let (mut status, mut value) = external_byte(env);
    if status == sys::Status::napi_no_external_buffers_allowed {
        let mut data = ptr::null_mut();
        // SAFETY: `env` is this thread's environment, in a call from JavaScript.
        status = unsafe { sys::napi_create_arraybuffer(env, 1, &raw mut data, &raw mut value) };
    }
    (status == sys::Status::napi_ok).then_some(value)
}

fn external_byte(env: sys::napi_env) -> (sys::napi_status, sys::napi_value) {
    let mut value = ptr::null_mut();
    let byte = Box::into_raw(Box::new(0u8));
    // SAFETY: the byte lives until the finalizer frees it.
    let status = unsafe {
        sys::napi_create_external_arraybuffer(
            env,
            byte.cast(),
            1,
            Some(free_byte),
            ptr::null_mut(),
            &raw mut value,
        )
    };
    (status, value)
}

/// The finalizer of [`external_byte`].
///
/// # Safety
///
/// Node-API calls it once, with the byte that the `ArrayBuffer` was created on.
unsafe extern "C" fn free_byte(_env: sys::napi_env, data: *mut c_void, _hint: *mut c_void) {
    // SAFETY: `external_byte` made it from a box, and nobody else takes it back.
    drop(unsafe { Box::from_raw(data.cast::<u8>()) });
}

/// Makes an `ArrayBuffer` over `length` bytes of the memory of a thread's counters, which it keeps alive.
///
/// # Errors
///
/// [`Code::Refused`].
///
/// # Safety
///
/// The bytes at `address` live as long as `memory`, and may be written by JavaScript.
pub unsafe fn share(
    env: sys::napi_env,
    memory: WordMemory,
    address: *const c_void,
    length: usize,
) -> Result<sys::napi_value, Error<Code>> {
    let hint = Box::into_raw(Box::new(memory));
    let mut value = ptr::null_mut();
    // SAFETY: the caller vouches for the bytes, and what the finalizer gets keeps them.
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
        // The memory is not taken back: an ArrayBuffer may have it. Nothing but a few KiB of
        // counters can be lost by it.
        status => Err(refused("the counters' ArrayBuffer", status)),
    }
}

/// The finalizer of [`share`].
///
/// # Safety
///
/// Node-API calls it once for each `ArrayBuffer`, with the hint it was created with.
unsafe extern "C" fn unshared(_env: sys::napi_env, _data: *mut c_void, hint: *mut c_void) {
    // SAFETY: `share` made `hint` from a box, and nobody else takes it back.
    drop(unsafe { Box::from_raw(hint.cast::<WordMemory>()) });
}

/// Memory of ours that V8 is told of, which is no `ArrayBuffer`'s.
pub struct ExternalMemory {
    /// The environment whose V8 is told.
    env: sys::napi_env,
    bytes: i64,
}

impl ExternalMemory {
    /// A change of fewer bytes is not told.
    const STEP: i64 = 4096;

    /// Nothing yet.
    pub fn new(env: sys::napi_env) -> Self {
        Self { env, bytes: 0 }
    }

    /// It is so many bytes now.
    pub fn set(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        if (bytes - self.bytes).abs() >= Self::STEP {
            self.adjust(bytes - self.bytes);
            self.bytes = bytes;
        }
    }

    fn adjust(&self, change: i64) {
        let mut all = 0;
        // SAFETY: the owner is used, and dropped, in the thread of its environment. V8's answer is not needed: it
        // counts, or it doesn't.
        unsafe { sys::napi_adjust_external_memory(self.env, change, &raw mut all) };
    }
}

impl Drop for ExternalMemory {
    fn drop(&mut self) {
        self.adjust(-self.bytes);
    }
}

/// Memory of V8's that stays where it is while this lives.
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

/// Makes an `ArrayBuffer` of `length` bytes that V8 owns, and keeps it alive: the `ArrayBuffer`, where
/// its memory is, and what keeps it.
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

fn refused(what: &str, status: sys::napi_status) -> Error<Code> {
    Error::new(Code::Refused, format!("Node-API refused {what} with status {status}"))
}

/// Detaches an `ArrayBuffer`: every view of it is zero-length at once, and its finalizer comes
/// in a later turn. Whether it could be detached.
///
/// # Safety
///
/// `env` is the calling thread's environment, and `array_buffer` a value of it that was never given
/// a detach key (`markAsUntransferable()` from Node 24 on): Node aborts on one.
pub unsafe fn detach(env: sys::napi_env, array_buffer: sys::napi_value) -> bool {
    // SAFETY: Node-API checks that the value is a detachable `ArrayBuffer`, but not for a key, of
    // which the caller knows that there is none.
    let status = unsafe { sys::napi_detach_arraybuffer(env, array_buffer) };
    status == sys::Status::napi_ok
}
