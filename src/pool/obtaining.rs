//! Finds a block to lend: in the depot, or from the operating system under the ceiling.

use super::thread_counters::Column;
use super::waiters::Found;
use super::{IDLE_ALLOWANCE, LOOKS, Pool, Reason, Refusal};
use crate::memory::block::{Block, OutOfMemory};
use crate::memory::census::Owner;
use crate::memory::size_class::SizeClass;

impl Pool {
    /// Finds an idle block of `class`, or gets one from the operating system; for that it may free
    /// the depot's other blocks. The block counts as the depot's until it is lent.
    pub(super) fn find(&self, class: SizeClass) -> Result<Found, Refusal> {
        if let Some(block) = self.depot.take(class) {
            return Ok(Found { block, fresh: false });
        }
        let block = self.obtain(class)?;
        self.census.hand_over(&block, None, Some(Owner::Depot));
        Ok(Found { block, fresh: true })
    }

    /// Gets a block of `class` from the operating system, under the ceiling.
    pub(super) fn obtain(&self, class: SizeClass) -> Result<Block, Refusal> {
        let size = class.block_size();
        while !self.budget.reserve(size) {
            let shortage = self.budget.shortage(size);
            let has_swept = self.sweep_quarantine(LOOKS);
            if self.trim_depot(shortage as u64, usize::MAX) == 0 && !has_swept {
                return Err(Refusal::Exhausted(shortage));
            }
        }
        // Counted before the depot has a place for it, so that `shrink` does not take that place
        // meanwhile.
        self.counters.class(class).fresh.add();
        match self.allocate(class) {
            Ok(block) => Ok(block),
            Err(error) => {
                self.counters.class(class).fresh.take();
                self.budget.give_up(size);
                Err(error.into())
            }
        }
    }

    fn allocate(&self, class: SizeClass) -> Result<Block, OutOfMemory> {
        if !self.config.external {
            return Ok(Block::v8_backed(class));
        }
        self.depot.prepare(class, self.counters.existing(class))?;
        Block::obtain(class)
    }

    /// Frees idle blocks of the depot after a block of `class` was got from the operating system,
    /// those that were needed least first. Does nothing unless idle bytes exceed their proportion
    /// to what was in use lately. Returns how many idle bytes the thread must free itself.
    ///
    /// So the idle blocks of different sizes do not add up.
    pub(super) fn replace_idle(&self, class: SizeClass) -> usize {
        let mut surplus = self.surplus(class.block_size());
        let mut freed = 0;
        while surplus > 0
            && let Some(block) = self.depot.take_coldest()
        {
            let size = block.size();
            self.free(block, Some(Owner::Depot));
            freed += size;
            surplus = surplus.saturating_sub(size);
        }
        self.report_freed(Reason::Idle, freed as u64);
        surplus
    }

    /// Returns how many idle bytes to free after `got` bytes came from the operating system: at
    /// most twice as many, so that idle memory never slows down a lease.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole bytes")]
    fn surplus(&self, got: usize) -> usize {
        let held = self.budget.held().saturating_sub(self.quarantine.sealed_bytes());
        if held <= IDLE_ALLOWANCE || self.config.idle_timeout.is_none() {
            return 0;
        }
        let peaks = self.threads().all.iter().fold(0.0, |sum, thread| {
            // A thread updates its peak when it releases or needs a block.
            sum + thread.counters().read(Column::RecentPeakBytes)
        });
        let in_use = peaks as usize + got;
        held.saturating_sub(in_use + IDLE_ALLOWANCE.max(in_use / 2)).min(2 * got)
    }
}
