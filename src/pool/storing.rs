//! Puts idle blocks into the depot, or gives them back to the operating system.

use super::Pool;
use crate::memory::block::Block;
use crate::memory::census::Owner;
use crate::memory::size_class::SizeClass;

impl Pool {
    /// Stores an idle block in the depot, or frees it if the depot is full or the pool closed.
    pub(super) fn store(&self, block: Block) {
        let class = block.class();
        let rejected = if self.is_closed() || block.is_v8_backed() {
            Some(block)
        } else {
            self.depot.offer(block).err()
        };
        if let Some(block) = rejected {
            self.counters.class(class).discarded.add();
            self.free(block, Some(Owner::Depot));
        } else if self.is_closed() {
            self.trim_depot(u64::MAX, usize::MAX);
        } else {
            self.be_watched();
        }
    }

    /// Gives a block back to the operating system.
    pub(super) fn free(&self, block: Block, owner: Option<Owner>) {
        self.census.hand_over(&block, owner, None);
        self.counters.class(block.class()).freed.add();
        self.give_back(block);
    }

    /// Counts a block as freed before its finalizer has freed it.
    pub(super) fn count_freeing(&self, class: SizeClass) {
        self.counters.take_back(class);
        self.counters.class(class).freed.add();
    }

    /// Frees a block that the counters already call freed.
    pub(super) fn finish_freeing(&self, block: Block) {
        self.census.hand_over(&block, Some(Owner::BackingStore), None);
        self.give_back(block);
        self.serve();
    }

    /// Gives back a block's memory, then its share of the budget.
    pub(super) fn give_back(&self, block: Block) {
        let size = block.size();
        drop(block);
        self.budget.give_up(size);
    }
}
