//! Memory of ours that no `ArrayBuffer` has, and that V8 counts all the same.

use napi::sys;

/// A number of bytes that V8 counts as external memory.
pub struct ExternalMemory {
    /// The environment whose V8 counts them.
    env: sys::napi_env,
    bytes: i64,
}

impl ExternalMemory {
    /// V8 does not learn of a smaller change.
    const STEP: i64 = 4096;

    /// Starts at zero bytes.
    pub fn new(env: sys::napi_env) -> Self {
        Self { env, bytes: 0 }
    }

    /// Makes V8 count `bytes` bytes from now on.
    pub fn set(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        if (bytes - self.bytes).abs() >= Self::STEP {
            self.adjust(bytes - self.bytes);
            self.bytes = bytes;
        }
    }

    fn adjust(&self, change: i64) {
        let mut all = 0;
        // SAFETY: the owner is used, and dropped, in the thread of its environment. The status does
        // not matter: V8 counts, or it doesn't.
        unsafe { sys::napi_adjust_external_memory(self.env, change, &raw mut all) };
    }
}

impl Drop for ExternalMemory {
    fn drop(&mut self) {
        self.adjust(-self.bytes);
    }
}
