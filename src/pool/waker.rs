//! Wakes a thread, so that its JavaScript looks at the core's requests.

use crate::sync::{AtomicBool, Ordering};

/// Wakes one thread, to look at the core's requests. Any thread may call it.
pub trait Waker: Send + Sync {
    /// Wakes the thread. It may look once for several wakes; a thread that has ended does not look.
    fn wake(&self);
}

/// Merges several wakes into one.
pub struct PendingWake {
    /// True if a wake is under way.
    is_under_way: AtomicBool,
}

impl PendingWake {
    /// Starts without a wake.
    pub fn new() -> Self {
        Self { is_under_way: AtomicBool::new(false) }
    }

    /// Notes a wake. Returns whether the waker must be called: if not, an earlier call is still to
    /// come.
    pub fn start(&self) -> bool {
        // SeqCst, here and in `end`: each sees the other's last exchange, and what came before it.
        !self.is_under_way.swap(true, Ordering::SeqCst)
    }

    /// Notes that the thread looks next: any wake from here on calls the waker again.
    pub fn end(&self) {
        // An exchange, because a store could become visible after the look.
        self.is_under_way.swap(false, Ordering::SeqCst);
    }
}

impl Default for PendingWake {
    fn default() -> Self {
        Self::new()
    }
}
