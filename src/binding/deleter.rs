//! Whether the runtime calls a finalizer as V8 deletes the backing store, which proves that nobody
//! has the memory any more.
//!
//! Node calls it for the `ArrayBuffer`: in its thread, a turn later, and in any case when the
//! environment ends, whoever has the memory then. Deno gives it to V8 as the backing store's
//! deleter, which V8 calls once, when the last `std::shared_ptr` to the backing store is gone, in
//! whichever thread that is, a sweeper's without any environment among them.

use crate::pool::Witness;
use napi::sys;
use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Whether the finalizer of one backing store has come.
#[derive(Clone)]
pub struct Deleter(Arc<AtomicBool>);

impl Deleter {
    /// For a backing store that is about to be made; `None` where a finalizer proves nothing.
    pub fn new(env: sys::napi_env) -> Option<Self> {
        static IS_DELETER: OnceLock<bool> = OnceLock::new();
        IS_DELETER.get_or_init(|| is_deno(env)).then(|| Self(Arc::default()))
    }

    /// The finalizer has come.
    pub fn deleted(&self) {
        // Release, for who sees it: whatever was done to the memory was before.
        self.0.store(true, Ordering::Release);
    }
}

impl Witness for Deleter {
    fn is_gone(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What the runtime says of itself, where JavaScript can't change it.
fn is_deno(env: sys::napi_env) -> bool {
    let mut version = ptr::null();
    // SAFETY: `env` is this thread's environment.
    let status = unsafe { sys::napi_get_node_version(env, &raw mut version) };
    if status != sys::Status::napi_ok {
        return false;
    }
    // SAFETY: what Node-API has pointed to lives as long as the process.
    let release = unsafe { (*version).release };
    // SAFETY: as above, and it ends with a zero.
    let release = unsafe { CStr::from_ptr(release) };
    release == c"Deno"
}
