//! Makes V8 collect garbage at once, for which Node-API has no call.
//!
//! V8 does the same when its embedder runs short of memory. Its functions for it are exported by
//! Node 14 and later.

use napi_derive::napi;

/// Makes V8 collect all the garbage of this thread, as `gc()` does. Returns whether it did: not if
/// V8's functions are missing.
#[napi]
pub fn collect_garbage() -> bool {
    known::collect_garbage()
}

#[cfg(target_os = "linux")]
mod known {
    use std::ffi::{CStr, c_void};
    use std::ptr::NonNull;
    use std::sync::LazyLock;

    /// `v8::Isolate::GetCurrent()`
    const GET_CURRENT: &CStr = c"_ZN2v87Isolate10GetCurrentEv";

    /// `v8::Isolate::LowMemoryNotification()`
    const LOW_MEMORY_NOTIFICATION: &CStr = c"_ZN2v87Isolate21LowMemoryNotificationEv";

    type GetCurrent = unsafe extern "C" fn() -> *mut c_void;
    type LowMemoryNotification = unsafe extern "C" fn(*mut c_void);

    static V8: LazyLock<Option<(GetCurrent, LowMemoryNotification)>> = LazyLock::new(|| {
        let (current, notify) = (find(GET_CURRENT)?, find(LOW_MEMORY_NOTIFICATION)?);
        // SAFETY: the name says what the function takes and returns.
        let current = unsafe { std::mem::transmute::<*mut c_void, GetCurrent>(current.as_ptr()) };
        // SAFETY: as above.
        let notify =
            unsafe { std::mem::transmute::<*mut c_void, LowMemoryNotification>(notify.as_ptr()) };
        Some((current, notify))
    });

    fn find(name: &CStr) -> Option<NonNull<c_void>> {
        // SAFETY: the name is a C string.
        NonNull::new(unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) })
    }

    pub fn collect_garbage() -> bool {
        let Some((current, notify)) = *V8 else { return false };
        // SAFETY: JavaScript calls this, so the thread has an isolate.
        let isolate = unsafe { current() };
        if isolate.is_null() {
            return false;
        }
        // SAFETY: it is this thread's isolate, and no handle is held across the call but V8's own.
        unsafe { notify(isolate) };
        true
    }
}

#[cfg(not(target_os = "linux"))]
mod known {
    pub fn collect_garbage() -> bool {
        false
    }
}
