//! How the core gets the attention of a thread's JavaScript.

/// A way to have one thread look, soon, at what the core has for it. Rung from any thread.
pub trait Bell: Send + Sync {
    /// Rings. Several rings may be answered at once; a thread that has ended answers none.
    fn ring(&self);
}
