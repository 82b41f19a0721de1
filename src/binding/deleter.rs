//! Finds out whether the runtime calls finalizers as deleters of the backing store. Such a call
//! proves that nobody has the memory any more.
//!
//! Node finalizes the `ArrayBuffer`: in its thread, an event-loop turn later, and in any case when
//! the environment ends, even if another thread has the memory. Deno passes the finalizer to V8 as
//! the backing store's deleter. V8 calls that once, when the last `std::shared_ptr` to the backing
//! store is gone, in any thread: even in a sweeper's, without an environment.

use crate::pool::Witness;
use napi::sys;
use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Notes whether the finalizer of one backing store has run.
#[derive(Clone)]
pub struct Deleter(Arc<AtomicBool>);

impl Deleter {
    /// Makes one for a new backing store; `None` where a finalizer proves nothing.
    pub fn new(env: sys::napi_env) -> Option<Self> {
        static IS_DELETER: OnceLock<bool> = OnceLock::new();
        IS_DELETER.get_or_init(|| is_deno(env)).then(|| Self(Arc::default()))
    }

    /// Notes that the finalizer has run.
    pub fn deleted(&self) {
        // Release: a thread that sees it also sees all that was done to the memory before.
        self.0.store(true, Ordering::Release);
    }
}

impl Witness for Deleter {
    fn is_gone(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Returns whether the runtime is Deno, by an answer that JavaScript can't change.
fn is_deno(env: sys::napi_env) -> bool {
    let mut version = ptr::null();
    // SAFETY: `env` is this thread's environment.
    let status = unsafe { sys::napi_get_node_version(env, &raw mut version) };
    if status != sys::Status::napi_ok {
        return false;
    }
    // SAFETY: the memory that Node-API points to lives as long as the process.
    let release = unsafe { (*version).release };
    // SAFETY: as above, and it ends with a zero.
    let release = unsafe { CStr::from_ptr(release) };
    release == c"Deno"
}
