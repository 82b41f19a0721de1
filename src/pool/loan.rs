//! A block while a backing store of V8's has it.

use super::Pool;
use super::block::Block;
use super::ledger::{Ledger, SeatState};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a finalizer knows of the thread whose `ArrayBuffer` it finalizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lender {
    /// It goes on. The finalizer came because the last owner of the backing store is gone.
    Alive,
    /// It is ending, or there is no way to tell. Node calls every finalizer then, whoever else
    /// has the memory.
    Ending,
}

/// A block lent to one backing store.
///
/// ```text
///             lend                      settle, by the finalizer alone
///   depot ───────────▶ Loan ─────────────────────────────────────┬──▶ depot
///   (or fresh)          │                                        ├──▶ freed
///                       │ withdraw: no ArrayBuffer was made      └──▶ quarantine
///                       └────────────────────────────────────────────▶ depot
/// ```
///
/// - A loan MUST end in exactly one call of [`settle`](Self::settle) or
///   [`withdraw`](Self::withdraw).
/// - Its block MUST NOT go anywhere before: native code may keep the backing store alive
///   through shared pointers that only the finalizer knows to be gone.
pub struct Loan {
    block: Block,
    pool: Arc<Pool>,
    ledger: Arc<Ledger>,
    seat: u32,
    /// Set once it is unknown whether a backing store has the block: it is in quarantine's
    /// books, and whatever comes later must not move it.
    doubted: AtomicBool,
}

impl Loan {
    pub(super) fn new(block: Block, fresh: bool, pool: Arc<Pool>, ledger: Arc<Ledger>) -> Self {
        let seat = ledger.take_seat(block.class(), fresh);
        Self { block, pool, ledger, seat, doubted: AtomicBool::new(false) }
    }

    /// Where the block begins.
    pub fn address(&self) -> NonNull<u8> {
        self.block.address()
    }

    /// The block's length, in bytes.
    pub fn size(&self) -> usize {
        self.block.size()
    }

    /// Where the thread's ledger keeps this block's state.
    pub fn seat(&self) -> u32 {
        self.seat
    }

    /// No backing store was made, for certain. The block goes back to the depot.
    pub fn withdraw(self) {
        self.ledger.leave_seat(self.seat);
        self.pool.take_back(self.block);
    }

    /// It is unknown whether a backing store was made. The block stays where it is for ever and
    /// counts as quarantined, whether or not a finalizer comes for it.
    pub fn doubt(&self) {
        // Relaxed: the finalizer, if it ever comes, comes in this thread.
        self.doubted.store(true, Ordering::Relaxed);
        self.pool.book_quarantine(&self.block, SeatState::Idle);
    }

    /// The finalizer came: the block goes to the depot, is freed, or goes into quarantine.
    ///
    /// Needs no environment and works on any thread.
    pub fn settle(self, lender: Lender) {
        let Self { mut block, pool, ledger, seat, doubted, .. } = self;
        if doubted.into_inner() {
            // In quarantine's books already, and its seat with it.
            let _ = ManuallyDrop::new(block);
            return;
        }
        let state = ledger.leave_seat(seat);
        if state == SeatState::Leased {
            ledger.add_collected(block.size());
        }
        if lender == Lender::Ending && pool.may_live_on(state) {
            pool.set_aside(block, state);
            return;
        }
        // An idle block was scrubbed when it was released.
        let used = matches!(state, SeatState::Leased | SeatState::Detached);
        if used && pool.config.zero_on_release {
            block.scrub();
        }
        match state {
            SeatState::Idle | SeatState::Detached => pool.take_back(block),
            SeatState::Condemned => pool.free_condemned(block),
            SeatState::Leased => {
                pool.books.class(block.class()).collected.add();
                pool.take_back(block);
            }
        }
    }
}
