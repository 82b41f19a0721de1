//! The C library's allocator, which keeps what it is given back.
//!
//! Each `ArrayBuffer` costs a few hundred bytes of it: Node's record, V8's, and ours. Where a great many have gone, the
//! trimmer has the allocator give their memory back to the operating system, once no more of them go: not while a
//! program goes through Buffers all the time, and needs it again.

use super::trimmer;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many `ArrayBuffer`s' memory is worth giving back: some 50 MiB.
const MANY: usize = 100_000;

/// Those that have gone since memory was given back last.
static GONE: AtomicUsize = AtomicUsize::new(0);

/// An `ArrayBuffer` has gone. Finalizers call this.
pub fn note_gone() {
    // Relaxed, here and below: a figure to go by.
    if GONE.fetch_add(1, Ordering::Relaxed) + 1 == MANY {
        trimmer::watch_allocator();
    }
}

/// How many have gone.
pub fn gone() -> usize {
    GONE.load(Ordering::Relaxed)
}

/// Gives memory back that nobody uses.
pub fn give_back() {
    GONE.store(0, Ordering::Relaxed);
    system::give_back();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod system {
    pub fn give_back() {
        // SAFETY: any thread may call it at any time.
        unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod system {
    pub fn give_back() {}
}
