//! How the core gets the attention of a thread's JavaScript.

use crate::sync::{AtomicBool, Ordering};

/// A way to have one thread look, soon, at what the core has for it. Rung from any thread.
pub trait Waker: Send + Sync {
    /// Rings. Several wakes may be answered at once; a thread that has ended answers none.
    fn wake(&self);
}

/// Has several wakes answered at once.
pub struct PendingWake {
    /// Whether a wake is under way.
    is_under_way: AtomicBool,
}

impl PendingWake {
    /// Of a waker that nobody has rung.
    pub fn new() -> Self {
        Self { is_under_way: AtomicBool::new(false) }
    }

    /// Whether the waker has to be rung: if not, it will be answered yet.
    pub fn start(&self) -> bool {
        // SeqCst, here and in `end`: each sees the other's last exchange, and what came before it.
        !self.is_under_way.swap(true, Ordering::SeqCst)
    }

    /// It is being answered. Before the thread looks: what comes from here on wakes again.
    pub fn end(&self) {
        // An exchange and not a store, which could become visible after the look.
        self.is_under_way.swap(false, Ordering::SeqCst);
    }
}

impl Default for PendingWake {
    fn default() -> Self {
        Self::new()
    }
}
