//! Ends loans, and sends their blocks on.

use super::Pool;
use super::loan::{Lender, LoanKey};
use super::loan_table::Record;
use super::quarantine::Orphan;
use super::thread_counters::{BlockState, Left};
use super::thread_state::ThreadState;
use crate::memory::block::Block;
use crate::memory::census::Owner;

impl Pool {
    /// Ends the loan of a block whose backing store is gone, before its finalizer runs. Returns
    /// whether it has: not if the backing store may still exist, or if the loan has ended before.
    pub fn end_if_gone(&self, key: LoanKey) -> bool {
        let is_gone = |record: &Record| match &record.witness {
            // After a detach V8 frees its own memory, or takes care of it if it lives on.
            _ if record.block.is_v8_backed() => true,
            Some(witness) => witness.is_gone(),
            None => false,
        };
        let Some(record) = self.loans.remove_if(key, is_gone) else { return false };
        let left = record.thread.counters().leave_row(record.row);
        self.end(record, left);
        true
    }

    /// Ends a loan whose finalizer runs, if nothing has ended it before.
    pub(super) fn settle(&self, key: LoanKey, lender: Lender) {
        // Both happen in one step: another thread with the memory always finds the block, in the
        // loan table or in quarantine.
        let leave = |record: Record| {
            let left = record.thread.counters().leave_row(record.row);
            if lender == Lender::Ending && self.may_have_a_holder(&record, left.state) {
                self.set_aside(record, left.state);
                return None;
            }
            Some((record, left))
        };
        match self.loans.remove_into(key, leave) {
            None => {}
            Some(Some((record, left))) => self.end(record, left),
            Some(None) => {
                self.watch_quarantine();
                // Rejects the waiters whose requests the ceiling can no longer satisfy.
                self.serve();
            }
        }
    }

    /// Returns whether another thread may have the block of a loan that was in `state` when its
    /// lender ended.
    fn may_have_a_holder(&self, record: &Record, state: BlockState) -> bool {
        // Native code of another thread may still hold a detached one.
        let is_held = || record.witness.as_ref().is_some_and(|witness| !witness.is_gone());
        !record.block.is_v8_backed()
            && match state {
                BlockState::Detached | BlockState::Freeing | BlockState::ReleasedRemotely => {
                    is_held()
                }
                _ => self.may_live_on(state),
            }
    }

    /// Returns whether a block in `state` may have another holder when its lending thread ends.
    ///
    /// JavaScript can move a backing store to another `ArrayBuffer`, and so to another thread,
    /// without the pool's knowledge: by `transfer()`, and by byte streams even where there is none.
    /// So any block that foreign code can still reach may outlive its thread: a leased one, and in
    /// a pool that does not detach an idle one too, through stale views. A detached backing store
    /// has no holder at all.
    fn may_live_on(&self, state: BlockState) -> bool {
        match state {
            BlockState::Leased | BlockState::Sampled => true,
            BlockState::Idle => !self.config.detach_on_release,
            BlockState::Detached | BlockState::Freeing | BlockState::ReleasedRemotely => false,
        }
    }

    /// Ends a loan that was removed from the table, and whose backing store is gone.
    fn end(&self, record: Record, left: Left) {
        let Record { mut block, thread, .. } = record;
        let state = left.state;
        count_ended_elsewhere(&thread, &block, state);
        // An idle block was scrubbed at its release.
        if self.config.zero_on_release && state != BlockState::Idle && state != BlockState::Freeing
        {
            block.scrub();
        }
        match state {
            BlockState::Idle | BlockState::Detached => self.take_back(block),
            BlockState::ReleasedRemotely => {
                self.take_back(block);
                if left.sample > 0.0 {
                    thread.report(left);
                }
            }
            BlockState::Freeing => self.finish_freeing(block),
            BlockState::Leased | BlockState::Sampled => {
                self.counters.class(block.class()).collected.add();
                self.take_back(block);
                if state == BlockState::Sampled {
                    thread.report(left);
                }
            }
        }
    }

    /// Stores a block that has come back from its backing store.
    pub(super) fn take_back(&self, block: Block) {
        self.counters.take_back(block.class());
        self.census.hand_over(&block, Some(Owner::BackingStore), Some(Owner::Depot));
        self.store(block);
        self.serve();
    }

    /// Puts the block of a lender that has ended into quarantine, with its last state.
    fn set_aside(&self, record: Record, state: BlockState) {
        let Record { block, thread, witness, .. } = record;
        count_ended_elsewhere(&thread, &block, state);
        self.count_quarantined(&block, state);
        self.quarantine.admit(Orphan { block, state, witness });
    }

    fn count_quarantined(&self, block: &Block, state: BlockState) {
        self.census.hand_over(block, Some(Owner::BackingStore), Some(Owner::Quarantine));
        if state == BlockState::Freeing {
            // The counters already call it freed.
            return;
        }
        self.counters.take_back(block.class());
        let counters = self.counters.class(block.class());
        counters.quarantined.add();
        if state.is_leased() {
            counters.seized.add();
        }
    }

    /// Takes the blocks out of quarantine whose last holder is gone; looks at no more than `looks`.
    /// Returns whether there were any: then waiters may be [served](Self::serve).
    pub(super) fn sweep_quarantine(&self, looks: usize) -> bool {
        let mut looks = looks.min(self.quarantine.watching());
        let mut has_swept = false;
        while let Some(orphan) = self.quarantine.take_gone(&mut looks) {
            has_swept = true;
            self.take_in(orphan);
        }
        has_swept
    }

    pub(super) fn sweep_and_serve(&self, looks: usize) {
        if self.sweep_quarantine(looks) {
            self.serve();
        }
    }

    /// Stores or frees a block out of quarantine, which has no holder any more.
    pub(super) fn take_in(&self, Orphan { mut block, state, .. }: Orphan) {
        if state == BlockState::Freeing {
            self.census.hand_over(&block, Some(Owner::Quarantine), None);
            self.give_back(block);
            return;
        }
        let counters = self.counters.class(block.class());
        counters.quarantined.take();
        if state.is_leased() {
            counters.seized.take();
            counters.collected.add();
        }
        if self.config.zero_on_release {
            block.scrub();
        }
        self.census.hand_over(&block, Some(Owner::Quarantine), Some(Owner::Depot));
        self.store(block);
    }
}

/// Counts a block that its lender had leased, and that ended without a release in that thread.
fn count_ended_elsewhere(thread: &ThreadState, block: &Block, state: BlockState) {
    if state.is_leased() || state == BlockState::ReleasedRemotely {
        thread.counters().add_ended_elsewhere(block.size());
    }
}
