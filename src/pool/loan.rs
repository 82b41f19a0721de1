//! A block while a backing store of V8's has it.

use super::Pool;
use super::witness::Witness;
use crate::memory::block::Block;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a finalizer knows of the thread whose `ArrayBuffer` it finalizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lender {
    /// It goes on. The finalizer came because the last owner of the backing store is gone.
    Alive,
    /// It is ending, or there is no way to tell. Node calls every finalizer then, whoever else
    /// has the memory.
    Ending,
}

/// Names one loan: where the block is, and a number that no other loan has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoanKey {
    place: usize,
    number: u64,
}

impl LoanKey {
    /// A name for the next loan of `block`.
    pub(super) fn new(block: &Block) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Relaxed: only uniqueness counts.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Addresses are even, so a V8-backed block takes an odd number for a place.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "2^31 v8_backed blocks are never alive"
        )]
        let odd_place = (number as usize) << 1 | 1;
        Self { place: block.address().map_or(odd_place, |at| at.addr().get()), number }
    }

    /// The block's address; an odd number for a V8-backed block.
    pub fn place(self) -> usize {
        self.place
    }
}

/// A block lent to one backing store, as its finalizer sees it. The block itself stands in the
/// pool's table of loans.
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
///   alive by shared pointers. The finalizer knows, and so does a [`Witness`].
/// - So a loan ends by [`settle`](Self::settle), or by [`Pool::end_if_gone`] before that; what
///   comes second finds nothing to end.
pub struct Loan {
    pool: Arc<Pool>,
    key: LoanKey,
    address: Option<NonNull<u8>>,
    size: usize,
    row: u32,
}

// SAFETY: the address is a number to its holder; the memory belongs to the register's block.
unsafe impl Send for Loan {}

impl Loan {
    pub(super) fn new(pool: Arc<Pool>, key: LoanKey, block: &Block, row: u32) -> Self {
        Self { pool, key, address: block.address(), size: block.size(), row }
    }

    /// Where the block begins; `None` for a V8-backed block.
    pub fn address(&self) -> Option<NonNull<u8>> {
        self.address
    }

    /// The block's length, in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Where the thread's counters keeps this block's state.
    pub fn row(&self) -> u32 {
        self.row
    }

    /// Names the loan.
    pub fn key(&self) -> LoanKey {
        self.key
    }

    /// Lets a witness watch over the backing store.
    pub fn watch(&self, witness: Box<dyn Witness>) {
        self.pool.loans.watch(self.key, witness);
    }

    /// JavaScript has not got the block: the creation of its `ArrayBuffer` failed. It goes back to the
    /// depot. If there is a backing store all the same, nobody can reach it, and its finalizer will find
    /// no loan to end.
    pub fn withdraw(&self) {
        if let Some(record) = self.pool.loans.remove(self.key) {
            record.thread.counters().leave_row(record.row);
            self.pool.take_back(record.block);
        }
    }

    /// The finalizer came: the block goes to the depot, is freed, or goes into quarantine.
    ///
    /// Needs no environment and works on any thread.
    pub fn settle(self, lender: Lender) {
        self.pool.settle(self.key, lender);
    }
}
