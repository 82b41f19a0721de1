//! One thread's attachment to a pool.

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

/// The fate of a block whose `ArrayBuffer` is detached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Fate {
    /// The depot stores it: a flushed block, or a released one where nothing can move memory.
    Store = 0,
    /// It is freed.
    Free = 1,
    /// It is freed, and counted as discarded: the pool must not store it.
    Discard = 2,
}

impl Fate {
    /// Every fate, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Store, Self::Free, Self::Discard];

    /// Returns the fate with a number; an unknown number means [`Self::Discard`].
    pub fn from_number(number: u32) -> Self {
        Self::ALL.get(number as usize).copied().unwrap_or(Self::Discard)
    }
}

/// One thread's attachment to a pool. The pool keeps the thread's counts when it is dropped.
pub struct Attachment {
    pub(super) pool: Arc<Pool>,
    pub(super) thread: Arc<ThreadState>,
}

impl Attachment {
    /// Returns the pool.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Returns this thread, as the others know it.
    pub fn thread(&self) -> &Arc<ThreadState> {
        &self.thread
    }

    /// Returns this thread's counters, and the states of its blocks.
    pub fn counters(&self) -> &ThreadCounters {
        self.thread.counters()
    }

    /// Lends an idle block of `class` from the depot; `None` if the depot has none, or if someone
    /// waits for memory.
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

    /// Lends a block of `class` from the operating system.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; idle blocks may have been freed by then. Waiters come first: while someone
    /// waits, the pool counts as exhausted.
    pub fn lend_fresh(&self, class: SizeClass) -> Result<Loan, Refusal> {
        if !self.pool.waiters.is_empty() {
            return Err(Refusal::Exhausted(class.block_size()));
        }
        let block = self.pool.obtain(class).inspect_err(|_| self.pool.serve())?;
        self.pool.census.hand_over(&block, None, Some(Owner::Depot));
        let loan = self.lend(block, true);
        self.counters().show_surplus(self.pool.replace_idle(class));
        // More may have been freed than this block took, and someone may have begun to wait.
        self.pool.serve();
        Ok(loan?)
    }

    /// Asks the other threads to give up `bytes` of their idle blocks.
    pub fn ask_others(&self, bytes: usize) {
        self.others(|thread| thread.ask(bytes));
    }

    /// Tells the other threads to free `bytes` of their idle blocks.
    pub fn trim_others(&self, bytes: usize) {
        self.others(|thread| thread.trim(bytes));
    }

    fn others(&self, each: impl Fn(&ThreadState)) {
        let threads = self.pool.threads();
        let others = threads.all.iter().filter(|thread| !Arc::ptr_eq(thread, &self.thread));
        others.for_each(|thread| each(thread));
    }

    /// Joins the queue of waiters for a block of `class`. The thread is woken when the ticket is
    /// [granted](Self::granted).
    pub fn wait(&self, class: SizeClass) -> Ticket {
        let ticket = self.pool.waiters.wait(class, self.thread.clone());
        if self.pool.is_closed() {
            // The pool was closed after the caller looked: either this removes the ticket, or
            // `close` does.
            self.cancel(ticket);
        } else {
            self.pool.serve();
        }
        ticket
    }

    /// Returns a ticket that was granted and not claimed.
    pub fn granted(&self) -> Option<Ticket> {
        self.pool.waiters.granted_to(&self.thread)
    }

    /// Claims the loan that a ticket was granted; `None` if it was not granted.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: the operating system refused memory, or so much has gone into quarantine since
    /// that the ceiling can't hold such a block any more.
    pub fn claim(&self, ticket: Ticket) -> Result<Option<Loan>, Refusal> {
        match self.pool.waiters.take(&self.thread, ticket) {
            Some(outcome) => {
                let Found { block, fresh } = outcome?;
                Ok(Some(self.lend(block, fresh)?))
            }
            None => Ok(None),
        }
    }

    /// Leaves the queue of waiters. A block that was granted goes to the next waiter.
    pub fn cancel(&self, ticket: Ticket) {
        if let Some(Ok(found)) = self.pool.waiters.take(&self.thread, ticket) {
            self.pool.store(found.block);
        }
        // The first waiter may have been the one that left.
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

    /// Marks the block of `class` on `row` as detached, to meet its `fate`, and returns its state
    /// before. The caller detaches the `ArrayBuffer` next; the block follows when the backing store
    /// is gone.
    pub fn mark_detached(&self, row: u32, class: SizeClass, fate: Fate) -> BlockState {
        let counters = self.counters();
        let before = counters.state(row);
        if fate == Fate::Store {
            counters.set_state(row, BlockState::Detached);
            return before;
        }
        if fate == Fate::Discard {
            self.pool.counters.class(class).discarded.add();
        }
        counters.set_state(row, BlockState::Freeing);
        self.pool.count_freeing(class);
        before
    }

    /// Undoes [`mark_detached`](Self::mark_detached), because the `ArrayBuffer` can't be detached.
    pub fn undo_detached(&self, row: u32, class: SizeClass, fate: Fate, before: BlockState) {
        self.counters().set_state(row, before);
        let counters = &self.pool.counters;
        if fate != Fate::Store {
            counters.lend(class);
            counters.class(class).freed.take();
        }
        if fate == Fate::Discard {
            counters.class(class).discarded.take();
        }
    }

    /// Returns this thread's part of the pool's overhead, in bytes.
    pub fn overhead_bytes(&self) -> usize {
        self.pool.overhead_bytes() / self.pool.threads().all.len().max(1)
    }

    /// Notes whether this thread has idle blocks. Returns whether the trimmer watches them.
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
