//! A backing store that has, or had, a block of the pool.

use cistern::pool::{
    BlockState, Config, Loan, LoanKey, SEGMENT_SHIFT, SegmentColumn, SizeClass, ThreadState,
    Witness,
};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Only blocks up to this size may lack a witness. Many of these stay in quarantine forever, and
/// leak their memory.
const LOSABLE: usize = 256;

/// The place at which the pool has the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Lent: in the loan table.
    LoanTable,
    Quarantine,
    /// In quarantine forever.
    Sealed,
    /// The pool has stored or freed it.
    Returned,
}

/// The memory as its holders see it.
pub struct Store {
    /// The thread that made it.
    pub lender: usize,
    thread: Arc<ThreadState>,
    /// `None` after the finalizer has run.
    pub loan: Option<Loan>,
    pub key: LoanKey,
    pub row: u32,
    pub class: SizeClass,
    pub state: BlockState,
    pub place: Place,
    /// True if nobody holds it any more.
    pub is_gone: bool,
    pub leases: u32,
    address: Option<NonNull<u8>>,
    witness: Option<TestWitness>,
    mark: u8,
}

/// A witness that the test controls.
#[derive(Clone, Default)]
struct TestWitness(Arc<AtomicBool>);

impl Witness for TestWitness {
    fn is_gone(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Store {
    pub fn new(loan: Loan, lender: usize, thread: Arc<ThreadState>, watched: bool) -> Self {
        let is_watched = loan.address().is_some() && (watched || loan.size() > LOSABLE);
        let witness = is_watched.then(TestWitness::default);
        if let Some(witness) = &witness {
            loan.watch(Box::new(witness.clone()));
        }
        Self {
            lender,
            thread,
            key: loan.key(),
            row: loan.row(),
            class: SizeClass::fitting(loan.size()).expect("a class"),
            state: BlockState::Idle,
            place: Place::LoanTable,
            is_gone: false,
            leases: 0,
            address: loan.address(),
            loan: Some(loan),
            witness,
            mark: 0,
        }
    }

    pub fn address(&self) -> Option<usize> {
        self.address.map(|address| address.addr().get())
    }

    pub fn is_v8_backed(&self) -> bool {
        self.address.is_none()
    }

    pub fn size(&self) -> usize {
        self.class.block_size()
    }

    /// Returns whether the lender's JavaScript has its `ArrayBuffer`.
    pub fn is_attached(&self) -> bool {
        self.place == Place::LoanTable
            && self.loan.is_some()
            && !self.is_gone
            && matches!(self.state, BlockState::Idle | BlockState::Leased)
    }

    /// Returns whether the pool can know that it is gone.
    pub fn is_known_gone(&self) -> bool {
        self.is_gone && (self.witness.is_some() || self.is_v8_backed())
    }

    /// Returns the state that the pool should report for this address.
    pub fn state_by_address(&self) -> Option<BlockState> {
        match self.place {
            Place::LoanTable => Some(self.state),
            Place::Quarantine | Place::Sealed => {
                self.state.is_leased().then_some(BlockState::Leased)
            }
            Place::Returned => None,
        }
    }

    /// Returns whether the pool must expect a holder besides the lender.
    pub fn may_survive(&self, config: &Config) -> bool {
        !self.is_v8_backed()
            && match self.state {
                BlockState::Leased | BlockState::Sampled => true,
                BlockState::Idle => !config.detach_on_release,
                // Native code.
                BlockState::Detached | BlockState::Freeing | BlockState::ReleasedRemotely => {
                    self.witness.is_some()
                }
            }
    }

    /// Returns where the block goes when its lender ends.
    pub fn after_its_lender(&self, config: &Config) -> Place {
        let is_detached = !self.state.is_leased() && self.state != BlockState::Idle;
        if !self.may_survive(config) || is_detached && self.is_gone {
            Place::Returned
        } else if self.witness.is_some() {
            Place::Quarantine
        } else {
            Place::Sealed
        }
    }

    pub fn set_state(&mut self, state: BlockState) {
        self.thread.counters().set_state(self.row, state);
        self.state = state;
    }

    /// Leases it, and counts that as JavaScript does.
    pub fn lease(&mut self) {
        self.set_state(BlockState::Leased);
        self.leases += 1;
        self.count(SegmentColumn::Leases);
    }

    /// Counts at the head of the segment, as JavaScript does.
    pub fn count(&self, word: SegmentColumn) {
        let segment = (self.row >> SEGMENT_SHIFT) as usize;
        let (words, _, _memory) =
            self.thread.counters().segment(segment).expect("the row's segment");
        // SAFETY: every segment has its head, and `_memory` keeps it alive.
        let word = unsafe { words.add(word as usize) };
        // SAFETY: as above.
        let word = unsafe { &*word };
        let sum = f64::from_bits(word.load(Ordering::Relaxed)) + 1.0;
        word.store(sum.to_bits(), Ordering::Relaxed);
    }

    /// Takes over the core's state: `trim` may have marked a detached block as freeing.
    pub fn sync(&mut self) {
        if self.place == Place::LoanTable && self.state == BlockState::Detached {
            self.state = self.thread.counters().state(self.row);
            assert!(matches!(self.state, BlockState::Detached | BlockState::Freeing));
        }
    }

    /// Drops the last holder.
    pub fn drop_holder(&mut self) {
        self.is_gone = true;
        if let Some(TestWitness(is_gone)) = &self.witness {
            is_gone.store(true, Ordering::SeqCst);
        }
    }

    /// Returns whether it shares memory with another, while it must have that for itself.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (Some(here), Some(there)) = (self.address(), other.address()) else { return false };
        let is_elsewhere = here + self.size() <= there || there + other.size() <= here;
        self.has_block() && !is_elsewhere
    }

    /// Returns whether nobody else may have the block. A store that is gone may leave quarantine at
    /// any time.
    fn has_block(&self) -> bool {
        match self.place {
            Place::LoanTable | Place::Sealed => true,
            Place::Quarantine => !self.is_gone,
            Place::Returned => false,
        }
    }

    /// Fills the block with a byte, as its holder.
    pub fn fill(&mut self, mark: u8) {
        self.mark = mark;
        if let Some(address) = self.address {
            // SAFETY: the block has that many bytes, and is ours.
            unsafe { address.write_bytes(mark, self.size()) };
        }
    }

    /// Checks that nobody else has written to it.
    pub fn check(&self) {
        if self.has_block() {
            self.check_bytes(self.mark);
        }
    }

    pub fn check_bytes(&self, expected: u8) {
        if let Some(address) = self.address {
            // SAFETY: the block has that many bytes, and is ours.
            let bytes = unsafe { std::slice::from_raw_parts(address.as_ptr(), self.size()) };
            assert!(bytes.iter().all(|byte| *byte == expected), "not what its holder wrote");
        }
    }
}
