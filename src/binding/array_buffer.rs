//! External `ArrayBuffer`s over the core's memory, and the finalizers that end their loans.
//!
//! - Each call that creates one MUST leave the block with exactly one owner, whatever Node-API
//!   answers.
//! - A finalizer MUST NOT rely on its environment: Node calls it when the environment is ending,
//!   and other runtimes may call it in a thread of their own.

use super::backing_store;
use super::deleter::Deleter;
use super::error::Code;
use crate::pool::{Lender, Loan, Witness, note_gone};
use napi::{Error, sys};
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

/// The finalizer's hint.
struct Return {
    loan: Loan,
    /// The thread that made the `ArrayBuffer`: only there may we use the environment.
    thread: u64,
    /// Present where the finalizer's call proves that the backing store is gone.
    deleter: Option<Deleter>,
}

thread_local! {
    /// The hint of this thread's last finalizer: tells whether a failed creation called it.
    static LAST_RETURN: Cell<*const c_void> = const { Cell::new(ptr::null()) };
    /// This thread's number; 0 before its first use. It has no destructor, so that a finalizer can
    /// read it at any stage of the thread's end.
    static THREAD: Cell<u64> = const { Cell::new(0) };
}

/// Returns a number that no other thread of the process ever has.
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

/// Returns whether the environment can run JavaScript: not when it is ending, nor while an
/// exception is pending. Runs none itself.
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

/// Makes an external `ArrayBuffer` over a loan's block at `address`. Its finalizer settles the
/// loan.
///
/// # Errors
///
/// [`Code::NoExternal`] and [`Code::Refused`]. The block is then back in the depot: nobody has seen
/// an `ArrayBuffer` of it, whether or not Node-API has made one.
pub fn lend(
    env: sys::napi_env,
    loan: Loan,
    address: NonNull<u8>,
) -> Result<sys::napi_value, Error<Code>> {
    // Checked in advance: otherwise this failure looks like one that happens after the backing
    // store was made.
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
            // SAFETY: Node-API returns this status before it uses its arguments, so `hint` is still
            // ours.
            let returned = unsafe { Box::from_raw(hint) };
            returned.loan.withdraw();
            Err(Error::new(
                Code::NoExternal,
                "this runtime allows no ArrayBuffer over memory that V8 did not allocate",
            ))
        }
        status => {
            if LAST_RETURN.get() != hint.cast_const().cast() {
                // SAFETY: the finalizer has not run in this call, so `hint` is alive. The finalizer
                // may still run, and then takes `hint`; if it never runs, a few bytes leak.
                let unused = unsafe { &*hint };
                unused.loan.withdraw();
            }
            Err(refused(&format!("an ArrayBuffer of {size} bytes"), status))
        }
    }
}

/// Finalizes an `ArrayBuffer` of [`lend`].
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

/// Returns whether the runtime allows `ArrayBuffer`s over memory that V8 did not allocate. Electron
/// and others with V8's memory cage do not.
pub fn allows_external(env: sys::napi_env) -> bool {
    external_byte(env).0 != sys::Status::napi_no_external_buffers_allowed
}

/// Makes an `ArrayBuffer` of one byte, over memory of ours where the runtime allows that, as for
/// blocks. Returns `None` if Node-API refuses.
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

/// Finalizes the `ArrayBuffer` of [`external_byte`].
///
/// # Safety
///
/// Node-API calls it once, with the byte that the `ArrayBuffer` was created on.
unsafe extern "C" fn free_byte(_env: sys::napi_env, data: *mut c_void, _hint: *mut c_void) {
    // SAFETY: `external_byte` made it from a box, and nobody else takes it back.
    drop(unsafe { Box::from_raw(data.cast::<u8>()) });
}

/// Reports what Node-API refused.
pub fn refused(what: &str, status: sys::napi_status) -> Error<Code> {
    Error::new(Code::Refused, format!("Node-API refused {what} with status {status}"))
}

/// Detaches an `ArrayBuffer`: every view of it is zero-length at once, and its finalizer runs in a
/// later event-loop turn. Returns whether it could be detached.
///
/// # Safety
///
/// `env` is the calling thread's environment, and `array_buffer` a value of it without a detach
/// key, which `markAsUntransferable()` sets from Node 24 on. Node aborts if there is a key.
pub unsafe fn detach(env: sys::napi_env, array_buffer: sys::napi_value) -> bool {
    // SAFETY: Node-API checks that the value is a detachable `ArrayBuffer`, but not that it has no
    // key, for which the caller vouches.
    let status = unsafe { sys::napi_detach_arraybuffer(env, array_buffer) };
    status == sys::Status::napi_ok
}
