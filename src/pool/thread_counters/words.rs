//! Words that JavaScript writes and the core reads.

use crate::sync::{AtomicU64, Ordering};
use std::sync::Arc;

/// A run of `f64` words, as JavaScript's `Float64Array` sees them.
pub struct Words {
    own: WordMemory,
    /// The words that JavaScript writes: in `own`, or in memory of V8's.
    at: *const AtomicU64,
    count: usize,
}

/// Memory for words. The counters, and each `ArrayBuffer` over it, keep it alive.
///
/// It has cache lines of its own: two threads' words never share one.
pub type WordMemory = Arc<[Line]>;

/// Two cache lines, because processors fetch them in pairs.
#[repr(align(128))]
#[expect(dead_code, reason = "it is used through its address")]
pub struct Line([AtomicU64; Line::WORDS]);

impl Line {
    const WORDS: usize = 16;
}

// SAFETY: the words are atomics, which any thread may use. The caller of `put` vouches for memory
// elsewhere.
unsafe impl Send for Words {}

impl Words {
    /// Makes `count` words, all zero.
    pub fn new(count: usize) -> Self {
        let line = |_| Line(std::array::from_fn(|_| AtomicU64::new(0)));
        let own: WordMemory = (0..count.div_ceil(Line::WORDS)).map(line).collect();
        Self { at: own.as_ptr().cast(), own, count }
    }

    /// Returns all words.
    pub fn all(&self) -> &[AtomicU64] {
        // SAFETY: `at` points to `count` words, in `own` or in memory that the caller of `put`
        // vouched for.
        unsafe { std::slice::from_raw_parts(self.at, self.count) }
    }

    /// Returns their address, and how many bytes they take.
    pub fn place(&self) -> (*const AtomicU64, usize) {
        (self.at, size_of_val(self.all()))
    }

    /// Returns the memory that the words were made with.
    pub fn memory(&self) -> WordMemory {
        self.own.clone()
    }

    /// Moves the words to `at`. The caller vouches that the memory there is as long.
    pub fn put(&mut self, at: *const AtomicU64) {
        // SAFETY: the caller vouches for memory for as many words.
        let new = unsafe { std::slice::from_raw_parts(at, self.count) };
        for (new, old) in new.iter().zip(self.all()) {
            new.store(old.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.at = at;
    }

    /// Moves the words back to their own memory.
    pub fn take_back(&mut self) {
        let own = self.own.as_ptr().cast();
        if self.at != own {
            self.put(own);
        }
    }
}
