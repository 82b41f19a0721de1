//! One thread's end of a pool.

use super::loan::{Loan, LoanKey};
use super::loan_table::Record;
use super::thread_counters::{BlockState, ThreadCounters};
use super::thread_state::ThreadState;
use super::waiters::{Found, Ticket};
use super::{Pool, Refusal};
use crate::memory::block::{Block, OutOfMemory};
use crate::memory::census::Owner;
use crate::memory::size_class::SizeClass;
use std::sync::Arc;

/// One thread's end of a pool. Dropping it keeps what the thread has counted.
pub struct Attachment {
    pub(super) pool: Arc<Pool>,
    pub(super) thread: Arc<ThreadState>,
}

impl Attachment {
    /// The pool this is an end of.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// This thread, as the others know it.
    pub fn thread(&self) -> &Arc<ThreadState> {
        &self.thread
    }

    /// This thread's counters and states.
    pub fn counters(&self) -> &ThreadCounters {
        self.thread.counters()
    }

    /// An idle block of `class` from the depot, as a loan; `None` where the depot has none, or others
    /// wait for memory.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`], with nothing changed.
    pub fn lend_idle(&self, class: SizeClass) -> Result<Option<Loan>, OutOfMemory> {
        if !self.pool.waiters.is_empty() {
            return Ok(None);
        }
        let Some(block) = self.pool.depot.take(class) else { return Ok(None) };
        self.lend(block, false).map(Some)
    }

    /// A block of `class` got from the operating system, as a loan.
    ///
    /// # Errors
    ///
    /// [`Refusal`], with nothing changed but that idle blocks have given way. Those who wait come
    /// first: while someone does, the pool counts as exhausted.
    pub fn lend_fresh(&self, class: SizeClass) -> Result<Loan, Refusal> {
        if !self.pool.waiters.is_empty() {
            return Err(Refusal::Exhausted(class.block_size()));
        }
        let block = self.pool.obtain(class).inspect_err(|_| self.pool.serve())?;
        self.pool.census.hand_over(&block, None, Some(Owner::Depot));
        let loan = self.lend(block, true);
        self.counters().show_surplus(self.pool.replace_idle(class));
        // What gave way may have been more than it took, and someone may have come to stand in line.
        self.pool.serve();
        Ok(loan?)
    }

    /// Asks the other threads to give up `bytes` of what they have idle.
    pub fn ask_others(&self, bytes: usize) {
        self.others(|thread| thread.ask(bytes));
    }

    /// Tells the other threads to free `bytes` of what they have idle.
    pub fn trim_others(&self, bytes: usize) {
        self.others(|thread| thread.trim(bytes));
    }

    fn others(&self, each: impl Fn(&ThreadState)) {
        let threads = self.pool.threads();
        let others = threads.all.iter().filter(|thread| !Arc::ptr_eq(thread, &self.thread));
        others.for_each(|thread| each(thread));
    }

    /// Waits in line for a block of `class`: the waker is called when it is [granted](Self::granted).
    pub fn wait(&self, class: SizeClass) -> Ticket {
        let ticket = self.pool.waiters.wait(class, self.thread.clone());
        if self.pool.is_closed() {
            // Closed since the caller looked: either this takes the ticket out, or `close` does.
            self.cancel(ticket);
        } else {
            self.pool.serve();
        }
        ticket
    }

    /// A ticket that was granted and not claimed.
    pub fn granted(&self) -> Option<Ticket> {
        self.pool.waiters.granted_to(&self.thread)
    }

    /// The loan of what was granted; `None` where it was not.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: the operating system refused what the ceiling would have allowed, or so much has been
    /// set aside since that the ceiling can't hold such a block any more.
    pub fn claim(&self, ticket: Ticket) -> Result<Option<Loan>, Refusal> {
        match self.pool.waiters.take(&self.thread, ticket) {
            Some(outcome) => {
                let Found { block, fresh } = outcome?;
                Ok(Some(self.lend(block, fresh)?))
            }
            None => Ok(None),
        }
    }

    /// Waits no more. What was granted goes to the next in line.
    pub fn cancel(&self, ticket: Ticket) {
        if let Some(Ok(found)) = self.pool.waiters.take(&self.thread, ticket) {
            self.pool.store(found.block);
        }
        // The head may have been the one that left.
        self.pool.serve();
    }

    fn lend(&self, block: Block, fresh: bool) -> Result<Loan, OutOfMemory> {
        let class = block.class();
        let key = LoanKey::new(&block);
        let row = self.counters().take_row(class, key);
        self.counters().show_row(row, fresh);
        let loan = Loan::new(self.pool.clone(), key, &block, row);
        self.pool.census.hand_over(&block, Some(Owner::Depot), Some(Owner::BackingStore));
        let record = Record { block, thread: self.thread.clone(), row, key, witness: None };
        match self.pool.loans.insert(record) {
            Ok(()) => {
                self.pool.counters.lend(class);
                Ok(loan)
            }
            Err(Record { block, .. }) => {
                self.counters().leave_row(row);
                let bytes = block.size();
                self.pool.census.hand_over(&block, Some(Owner::BackingStore), Some(Owner::Depot));
                self.pool.store(block);
                self.pool.serve();
                Err(OutOfMemory { bytes })
            }
        }
    }

    /// The `ArrayBuffer` of the block of `class` on `row` was detached to be freed. The counters
    /// say so at once; the memory follows when the backing store is gone.
    pub fn mark_freeing(&self, row: u32, class: SizeClass) {
        self.counters().set_state(row, BlockState::Freeing);
        self.pool.count_freeing(class);
    }

    /// The same, of a block that was released and is not wanted.
    pub fn discard(&self, row: u32, class: SizeClass) {
        self.pool.counters.class(class).discarded.add();
        self.mark_freeing(row, class);
    }

    /// The `ArrayBuffer` could not be detached: all is as it was `before`.
    pub fn spare(
        &self,
        row: u32,
        class: SizeClass,
        before: BlockState,
        was_freeing: bool,
        was_discarded: bool,
    ) {
        self.counters().set_state(row, before);
        let counters = &self.pool.counters;
        if was_freeing {
            counters.lend(class);
            counters.class(class).freed.take();
        }
        if was_discarded {
            counters.class(class).discarded.take();
        }
    }

    /// This thread's part of what the pool costs besides its blocks, in bytes.
    pub fn overhead_bytes(&self) -> usize {
        self.pool.overhead_bytes() / self.pool.threads().all.len().max(1)
    }

    /// Notes whether this thread has something idle, for the trimmer to look after. Whether it does.
    pub fn set_idle(&self, has_idle: bool) -> bool {
        self.thread.set_idle(has_idle);
        if has_idle {
            self.pool.be_watched();
        }
        self.pool.is_watched()
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.thread.stop_listening();
        self.counters().retire();
        for block in self.pool.waiters.dismiss(&self.thread) {
            self.pool.store(block);
        }
        self.pool.serve();
        self.pool.threads().sweep();
    }
}
