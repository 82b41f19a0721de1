//! Who can tell when memory has no holder any more.

/// Knows whether the backing store that a block was lent to still exists, wherever JavaScript has
/// moved it.
pub trait Witness: Send {
    /// Whether the backing store is gone, for good: nothing holds the memory, and nothing will.
    fn is_gone(&self) -> bool;
}
