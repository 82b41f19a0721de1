//! A block that a backing store of V8 has.

use super::Pool;
use super::witness::Witness;
use crate::memory::block::Block;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The state of the thread whose `ArrayBuffer` a finalizer finalizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lender {
    /// The thread lives on. The finalizer runs because the last owner of the backing store is gone.
    Alive,
    /// The thread is ending, or may be. Node then calls every finalizer, even while another thread
    /// has the memory.
    Ending,
}

/// Identifies one loan: by the block's address, and a number that no other loan has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoanKey {
    place: usize,
    number: u64,
}

impl LoanKey {
    /// Makes the key of the next loan of `block`.
    pub(super) fn new(block: &Block) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Relaxed: only uniqueness counts.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Addresses are even, so a V8-backed block gets an odd number for a place.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "2^31 V8-backed blocks are never alive"
        )]
        let odd_place = (number as usize) << 1 | 1;
        Self { place: block.address().map_or(odd_place, |at| at.addr().get()), number }
    }

    /// Returns the block's address; an odd number for a V8-backed block.
    pub fn place(self) -> usize {
        self.place
    }
}

/// A block lent to one backing store, as its finalizer sees it. The block itself is in the pool's
/// loan table.
///
/// ```text
///             lend                      settle: the backing store is gone
///   depot ───────────▶ Loan ─────────────────────────────────────┬──▶ depot
///   (or fresh)          │                                        ├──▶ freed
///                       │ withdraw: no ArrayBuffer was made      └──▶ quarantine
///                       └────────────────────────────────────────────▶ depot
/// ```
///
/// - The block MUST NOT go anywhere before the backing store is gone: native code may keep that
///   alive by shared pointers. The finalizer proves that it is gone, and so does a [`Witness`].
/// - So a loan ends by [`settle`](Self::settle), or by [`Pool::end_if_gone`] before that. The
///   second call does nothing.
pub struct Loan {
    pool: Arc<Pool>,
    key: LoanKey,
    address: Option<NonNull<u8>>,
    size: usize,
    row: u32,
}

// SAFETY: the address is a mere number here; the block in the loan table owns the memory.
unsafe impl Send for Loan {}

impl Loan {
    pub(super) fn new(pool: Arc<Pool>, key: LoanKey, block: &Block, row: u32) -> Self {
        Self { pool, key, address: block.address(), size: block.size(), row }
    }

    /// Returns where the block begins; `None` for a V8-backed block.
    pub fn address(&self) -> Option<NonNull<u8>> {
        self.address
    }

    /// Returns the block's length, in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Returns the row with this block's state in the thread's counters.
    pub fn row(&self) -> u32 {
        self.row
    }

    /// Returns the loan's key.
    pub fn key(&self) -> LoanKey {
        self.key
    }

    /// Gives the loan a witness of its backing store.
    pub fn watch(&self, witness: Box<dyn Witness>) {
        self.pool.loans.watch(self.key, witness);
    }

    /// Ends the loan because no `ArrayBuffer` could be made: the block goes back to the depot. If
    /// there is a backing store all the same, nobody can reach it, and its finalizer will do
    /// nothing.
    pub fn withdraw(&self) {
        if let Some(record) = self.pool.loans.remove(self.key) {
            record.thread.counters().leave_row(record.row);
            self.pool.take_back(record.block);
        }
    }

    /// Ends the loan because its finalizer runs: the block goes to the depot, is freed, or goes
    /// into quarantine. Needs no environment, and works in any thread.
    pub fn settle(self, lender: Lender) {
        self.pool.settle(self.key, lender);
    }
}
