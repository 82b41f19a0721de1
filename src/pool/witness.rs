//! Knows whether memory has any holder left.

/// Knows whether the backing store that a block was lent to still exists, wherever JavaScript has
/// moved it.
pub trait Witness: Send {
    /// Returns whether the backing store is gone: nothing holds the memory, and nothing will.
    fn is_gone(&self) -> bool;
}
