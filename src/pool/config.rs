//! What a pool is told when it is made, and never again.

/// A pool's settings.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Whether release detaches every view of the block, so that an idle `ArrayBuffer` is known
    /// to nobody but its magazine.
    pub detach_on_release: bool,
    /// Whether a block is overwritten with zeros before anyone else can have it.
    pub zero_on_release: bool,
    /// The most that the depot keeps idle, in bytes.
    pub depot_bytes: usize,
}
