//! One thread's end of a pool.

use super::block::{Block, OutOfMemory};
use super::census::Owner;
use super::ledger::{Ledger, SeatState};
use super::loan::{Loan, LoanKey};
use super::loans::Record;
use super::member::Member;
use super::size_class::SizeClass;
use super::waiters::{Found, Ticket};
use super::{Pool, Refusal};
use std::sync::Arc;

/// One thread's end of a pool. Dropping it keeps what the thread has counted.
pub struct Attachment {
    pub(super) pool: Arc<Pool>,
    pub(super) member: Arc<Member>,
}

impl Attachment {
    /// The pool this is an end of.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// This thread, as the others know it.
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// This thread's counters and states.
    pub fn ledger(&self) -> &Ledger {
        self.member.ledger()
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
        self.ledger().show_surplus(self.pool.replace_idle(class));
        // What gave way may have been more than it took, and someone may have come to stand in line.
        self.pool.serve();
        Ok(loan?)
    }

    /// Asks the other threads to give up `bytes` of what they have idle.
    pub fn ask_others(&self, bytes: usize) {
        self.others(|member| member.ask(bytes));
    }

    /// Tells the other threads to free `bytes` of what they have idle.
    pub fn trim_others(&self, bytes: usize) {
        self.others(|member| member.trim(bytes));
    }

    fn others(&self, each: impl Fn(&Member)) {
        let threads = self.pool.threads();
        let others = threads.members.iter().filter(|member| !Arc::ptr_eq(member, &self.member));
        others.for_each(|member| each(member));
    }

    /// Waits in line for a block of `class`: the bell rings when it is [granted](Self::granted).
    pub fn wait(&self, class: SizeClass) -> Ticket {
        let ticket = self.pool.waiters.wait(class, self.member.clone());
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
        self.pool.waiters.granted_to(&self.member)
    }

    /// The loan of what was granted; `None` where it was not.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: the operating system refused what the ceiling would have allowed, or so much has been
    /// set aside since that the ceiling can't hold such a block any more.
    pub fn claim(&self, ticket: Ticket) -> Result<Option<Loan>, Refusal> {
        match self.pool.waiters.take(&self.member, ticket) {
            Some(outcome) => {
                let Found { block, fresh } = outcome?;
                Ok(Some(self.lend(block, fresh)?))
            }
            None => Ok(None),
        }
    }

    /// Waits no more. What was granted goes to the next in line.
    pub fn cancel(&self, ticket: Ticket) {
        if let Some(Ok(found)) = self.pool.waiters.take(&self.member, ticket) {
            self.pool.keep(found.block);
        }
        // The head may have been the one that left.
        self.pool.serve();
    }

    fn lend(&self, block: Block, fresh: bool) -> Result<Loan, OutOfMemory> {
        let class = block.class();
        let key = LoanKey::new(&block);
        let seat = self.ledger().take_seat(class, key);
        self.ledger().show_seat(seat, fresh);
        let loan = Loan::new(self.pool.clone(), key, &block, seat);
        self.pool.census.hand_over(&block, Some(Owner::Depot), Some(Owner::BackingStore));
        let record = Record { block, member: self.member.clone(), seat, key, witness: None };
        match self.pool.loans.enter(record) {
            Ok(()) => {
                self.pool.books.lend(class);
                Ok(loan)
            }
            Err(Record { block, .. }) => {
                self.ledger().leave_seat(seat);
                let bytes = block.size();
                self.pool.census.hand_over(&block, Some(Owner::BackingStore), Some(Owner::Depot));
                self.pool.keep(block);
                self.pool.serve();
                Err(OutOfMemory { bytes })
            }
        }
    }

    /// The `ArrayBuffer` of the block of `class` on `seat` was detached to be freed. The books
    /// say so at once; the memory follows when the backing store is gone.
    pub fn condemn(&self, seat: u32, class: SizeClass) {
        self.ledger().set_state(seat, SeatState::Condemned);
        self.pool.book_condemned(class);
    }

    /// The same, of a block that was released and is not wanted.
    pub fn discard(&self, seat: u32, class: SizeClass) {
        self.pool.books.class(class).discarded.add();
        self.condemn(seat, class);
    }

    /// The `ArrayBuffer` could not be detached: all is as it was `before`.
    pub fn spare(
        &self,
        seat: u32,
        class: SizeClass,
        before: SeatState,
        was_condemned: bool,
        was_discarded: bool,
    ) {
        self.ledger().set_state(seat, before);
        let books = &self.pool.books;
        if was_condemned {
            books.lend(class);
            books.class(class).freed.take();
        }
        if was_discarded {
            books.class(class).discarded.take();
        }
    }

    /// This thread's part of what the pool costs besides its blocks, in bytes.
    pub fn overhead_bytes(&self) -> usize {
        self.pool.overhead_bytes() / self.pool.threads().members.len().max(1)
    }

    /// Notes whether this thread has something idle, for the keeper to look after. Whether it does.
    pub fn set_idle(&self, has_idle: bool) -> bool {
        self.member.set_idle(has_idle);
        if has_idle {
            self.pool.be_kept();
        }
        self.pool.is_kept()
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.member.stop_listening();
        self.ledger().retire();
        for block in self.pool.waiters.dismiss(&self.member) {
            self.pool.keep(block);
        }
        self.pool.serve();
        self.pool.threads().sweep();
    }
}
