//! Blocks that another thread, or another `ArrayBuffer`, has than the one they were lent to.

use super::Pool;
use super::loan_table::Record;
use super::thread_counters::BlockState;

impl Pool {
    /// Returns the state of the block of `size` bytes at `address`, whichever thread lent it;
    /// `None` if none is lent there.
    pub fn state_of(&self, address: usize, size: usize) -> Option<BlockState> {
        let look = |record: &Record| {
            (record.block.size() == size).then(|| record.thread.counters().state(record.row))
        };
        if let Some(state) = self.loans.look(address, look) {
            return state;
        }
        self.quarantine.has(address, size).then_some(BlockState::Leased)
    }

    /// Marks the block at `address` as released remotely. Returns whether it was leased until now.
    /// The caller must then detach its `ArrayBuffer`, and [end](Self::end_released_remotely) the
    /// loan.
    pub fn release_remotely(&self, address: usize, size: usize) -> bool {
        let look = |record: &Record| {
            let is_leased = record.block.size() == size
                && record.thread.counters().release_remotely(record.row);
            if is_leased {
                self.counters.class(record.block.class()).remote.add();
            }
            is_leased
        };
        self.loans
            .look(address, look)
            .unwrap_or_else(|| self.release_orphan_remotely(address, size))
    }

    /// Does the same for a block in quarantine, which counts as released from now on.
    fn release_orphan_remotely(&self, address: usize, size: usize) -> bool {
        let class = self.quarantine.release_remotely(address, size);
        if let Some(class) = class {
            let counters = self.counters.class(class);
            counters.seized.take();
            counters.remote.add();
        }
        class.is_some()
    }

    /// Ends the loan of the block at `address`, whose `ArrayBuffer` was detached.
    pub fn end_released_remotely(&self, address: usize) {
        match self.loans.look(address, |record| record.key) {
            // Without a witness the loan ends when the finalizer runs.
            Some(key) => {
                self.end_if_gone(key);
            }
            None => {
                if let Some(orphan) = self.quarantine.take_gone_at(address) {
                    self.take_in(orphan);
                    self.serve();
                }
            }
        }
    }
}
