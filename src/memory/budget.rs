//! The ceiling on the memory that a pool holds.

use crate::sync::{AtomicUsize, Ordering};

/// The bytes that a pool holds (in the depot, on loan and in quarantine), and the most that it may
/// hold.
///
/// The pool reserves bytes before it gets their memory, and gives them up after it has given that
/// back. So it never holds more than the limit, whatever other threads do.
pub struct Budget {
    /// Never above `limit`.
    held: AtomicUsize,
    /// Never changes.
    limit: usize,
}

impl Budget {
    /// Makes a budget of `limit` bytes, all of them free.
    pub fn new(limit: usize) -> Self {
        Self { held: AtomicUsize::new(0), limit }
    }

    /// Returns the most bytes that may be held.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Returns how many bytes are held now.
    pub fn held(&self) -> usize {
        // Relaxed, here and below: the count is a budget of its own, and leads to no memory.
        self.held.load(Ordering::Relaxed)
    }

    /// Reserves `bytes`. Returns whether they were free; if not, nothing has changed.
    pub fn reserve(&self, bytes: usize) -> bool {
        self.held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                held.checked_add(bytes).filter(|sum| *sum <= self.limit)
            })
            .is_ok()
    }

    /// Gives up what was [reserved](Self::reserve).
    pub fn give_up(&self, bytes: usize) {
        let held = self.held.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(held >= bytes, "gave up {bytes} of {held} bytes");
    }

    /// Returns how many bytes must be given up before `bytes` can be reserved.
    pub fn shortage(&self, bytes: usize) -> usize {
        self.held().saturating_add(bytes).saturating_sub(self.limit)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn to_the_byte() {
        let budget = Budget::new(1000);
        assert!(budget.reserve(600));
        assert!(!budget.reserve(401));
        assert_eq!((budget.held(), budget.shortage(401)), (600, 1));
        assert!(budget.reserve(400));
        assert_eq!(budget.shortage(0), 0);
        budget.give_up(600);
        assert_eq!((budget.held(), budget.limit()), (400, 1000));
    }

    #[test]
    fn no_overflow() {
        let budget = Budget::new(usize::MAX);
        assert!(budget.reserve(usize::MAX));
        assert!(!budget.reserve(1));
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::thread;
    use std::sync::Arc;

    /// Two threads reserve, and one of them gives up: the limit is never passed, and a refusal has
    /// a reason.
    #[test]
    fn never_above_the_limit() {
        loom::model(|| {
            let budget = Arc::new(Budget::new(100));
            let other = budget.clone();
            let thread = thread::spawn(move || {
                let got = other.reserve(60);
                assert!(other.held() <= 100);
                if got {
                    other.give_up(60);
                }
                got
            });
            let here = budget.reserve(60);
            assert!(budget.held() <= 100);
            let there = thread.join().unwrap();
            assert!(here || there, "one of them was first");
            assert_eq!(budget.held(), if here { 60 } else { 0 });
        });
    }
}
