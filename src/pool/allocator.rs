//! Counts the `ArrayBuffer`s that have gone, whose memory the C library's allocator still stores.
//!
//! Each `ArrayBuffer` costs a few hundred bytes there: Node's record, V8's, and ours. After a great
//! many have gone, and once no more of them go, the trimmer makes the allocator give their memory
//! back. A program that always uses new Buffers would need the memory again.

use super::trimmer;
use crate::os::allocator;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of `ArrayBuffer`s whose memory, about 50 MiB, is worth giving back.
const MANY: usize = 100_000;

/// The number that have gone since memory was last given back.
static GONE: AtomicUsize = AtomicUsize::new(0);

/// Counts an `ArrayBuffer` that has gone. Finalizers call this.
pub fn note_gone() {
    // Relaxed, here and below: an approximate figure.
    if GONE.fetch_add(1, Ordering::Relaxed) + 1 == MANY {
        trimmer::watch_allocator();
    }
}

/// Returns how many have gone.
pub fn gone() -> usize {
    GONE.load(Ordering::Relaxed)
}

/// Makes the allocator give their memory back.
pub fn give_back() {
    GONE.store(0, Ordering::Relaxed);
    allocator::give_back();
}
