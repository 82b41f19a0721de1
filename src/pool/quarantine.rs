//! Blocks that nobody may have again.

use super::block::Block;
use super::books::Count;
use std::mem;

/// Owns the blocks that were with a thread when it ended and that another thread may still hold.
///
/// Such a block is never handed out and never freed, not even when the pool itself goes: its
/// bytes belong to whoever reads them.
#[derive(Default)]
pub struct Quarantine {
    blocks: Count,
}

impl Quarantine {
    /// Sets a block aside for good. Allocates nothing: it is called while threads end.
    pub fn admit(&self, block: Block) {
        self.blocks.add();
        mem::forget(block);
    }

    /// How many blocks are set aside.
    pub fn count(&self) -> u64 {
        self.blocks.get()
    }
}
