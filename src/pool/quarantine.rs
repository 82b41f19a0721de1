//! Blocks that nobody may have again.

use super::block::Block;
use std::mem::ManuallyDrop;
use std::sync::{Mutex, PoisonError};

/// Owns the blocks that were with a thread when it ended and that another thread may still hold.
///
/// Such a block is never handed out and never freed, not even when the pool itself goes: its
/// bytes belong to whoever reads them.
#[derive(Default)]
pub struct Quarantine {
    blocks: Mutex<Vec<ManuallyDrop<Block>>>,
}

impl Quarantine {
    /// Sets a block aside for good.
    pub fn admit(&self, block: Block) {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.push(ManuallyDrop::new(block));
    }

    /// How many blocks are set aside.
    pub fn count(&self) -> usize {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
