//! A backing store that has, or had, a block of the pool's.

use cistern::pool::{
    Config, HeadWord, Loan, LoanKey, Member, SEGMENT_SHIFT, SeatState, SizeClass, Witness,
};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Blocks up to this size may be without a witness, and so be set aside for good: many are, and their
/// memory is lost.
const LOSABLE: usize = 256;

/// Where the pool has the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Lent: in the register.
    Register,
    Quarantine,
    /// In quarantine for good.
    Sealed,
    /// The pool has it back, or gave it back.
    Home,
}

/// The memory as its holders see it.
pub struct Store {
    /// The thread that made it.
    pub lender: usize,
    member: Arc<Member>,
    /// `None` once the finalizer came.
    pub loan: Option<Loan>,
    pub key: LoanKey,
    pub seat: u32,
    pub class: SizeClass,
    pub state: SeatState,
    pub place: Place,
    /// Nobody holds it any more.
    pub is_gone: bool,
    pub leases: u32,
    address: Option<NonNull<u8>>,
    witness: Option<Told>,
    mark: u8,
}

/// A witness that says what it is told.
#[derive(Clone, Default)]
struct Told(Arc<AtomicBool>);

impl Witness for Told {
    fn is_gone(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Store {
    pub fn new(loan: Loan, lender: usize, member: Arc<Member>, watched: bool) -> Self {
        let is_watched = loan.address().is_some() && (watched || loan.size() > LOSABLE);
        let witness = is_watched.then(Told::default);
        if let Some(witness) = &witness {
            loan.watch(Box::new(witness.clone()));
        }
        Self {
            lender,
            member,
            key: loan.key(),
            seat: loan.seat(),
            class: SizeClass::fitting(loan.size()).expect("a class"),
            state: SeatState::Idle,
            place: Place::Register,
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

    pub fn is_hollow(&self) -> bool {
        self.address.is_none()
    }

    pub fn size(&self) -> usize {
        self.class.block_size()
    }

    /// Whether the lender's JavaScript has its `ArrayBuffer`.
    pub fn is_attached(&self) -> bool {
        self.place == Place::Register
            && self.loan.is_some()
            && !self.is_gone
            && matches!(self.state, SeatState::Idle | SeatState::Leased)
    }

    /// Whether the pool can know that it is gone.
    pub fn is_known_gone(&self) -> bool {
        self.is_gone && (self.witness.is_some() || self.is_hollow())
    }

    /// What the pool should say of the block at this address.
    pub fn state_by_address(&self) -> Option<SeatState> {
        match self.place {
            Place::Register => Some(self.state),
            Place::Quarantine | Place::Sealed => {
                self.state.is_leased().then_some(SeatState::Leased)
            }
            Place::Home => None,
        }
    }

    /// Whether it may have a holder besides the lender, of whom the pool should know.
    pub fn may_survive(&self, config: &Config) -> bool {
        !self.is_hollow()
            && match self.state {
                SeatState::Leased | SeatState::Sampled => true,
                SeatState::Idle => !config.detach_on_release,
                // Native code.
                SeatState::Detached | SeatState::Condemned | SeatState::Surrendered => {
                    self.witness.is_some()
                }
            }
    }

    /// Where the block goes when its lender ends.
    pub fn after_its_lender(&self, config: &Config) -> Place {
        let is_detached = !self.state.is_leased() && self.state != SeatState::Idle;
        if !self.may_survive(config) || is_detached && self.is_gone {
            Place::Home
        } else if self.witness.is_some() {
            Place::Quarantine
        } else {
            Place::Sealed
        }
    }

    pub fn set_state(&mut self, state: SeatState) {
        self.member.ledger().set_state(self.seat, state);
        self.state = state;
    }

    /// The lender leases it, and counts that as JavaScript does.
    pub fn lease(&mut self) {
        self.set_state(SeatState::Leased);
        self.leases += 1;
        self.count(HeadWord::Leases);
    }

    /// Counts at the head of the segment, as JavaScript does.
    pub fn count(&self, word: HeadWord) {
        let segment = (self.seat >> SEGMENT_SHIFT) as usize;
        let (words, _, _memory) =
            self.member.ledger().segment(segment).expect("the seat's segment");
        // SAFETY: every segment has its head, and the memory is held.
        let word = unsafe { words.add(word as usize) };
        // SAFETY: as above.
        let word = unsafe { &*word };
        let sum = f64::from_bits(word.load(Ordering::Relaxed)) + 1.0;
        word.store(sum.to_bits(), Ordering::Relaxed);
    }

    /// A trim may have condemned what was detached.
    pub fn sync(&mut self) {
        if self.place == Place::Register && self.state == SeatState::Detached {
            self.state = self.member.ledger().state(self.seat);
            assert!(matches!(self.state, SeatState::Detached | SeatState::Condemned));
        }
    }

    /// The last holder is gone.
    pub fn let_go(&mut self) {
        self.is_gone = true;
        if let Some(Told(is_gone)) = &self.witness {
            is_gone.store(true, Ordering::SeqCst);
        }
    }

    /// Whether it and another have memory in common that neither may lose.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (Some(here), Some(there)) = (self.address(), other.address()) else { return false };
        let is_elsewhere = here + self.size() <= there || there + other.size() <= here;
        self.has_block() && !is_elsewhere
    }

    /// Whether nobody else may have the block. One that is gone may come out of quarantine at any time.
    fn has_block(&self) -> bool {
        match self.place {
            Place::Register | Place::Sealed => true,
            Place::Quarantine => !self.is_gone,
            Place::Home => false,
        }
    }

    /// The holder writes the same byte all over it.
    pub fn fill(&mut self, mark: u8) {
        self.mark = mark;
        if let Some(address) = self.address {
            // SAFETY: the block has so many bytes, and is ours.
            unsafe { address.write_bytes(mark, self.size()) };
        }
    }

    /// Nobody else has written into it.
    pub fn check(&self) {
        if self.has_block() {
            self.check_bytes(self.mark);
        }
    }

    pub fn check_bytes(&self, expected: u8) {
        if let Some(address) = self.address {
            // SAFETY: the block has so many bytes, and is ours.
            let bytes = unsafe { std::slice::from_raw_parts(address.as_ptr(), self.size()) };
            assert!(bytes.iter().all(|byte| *byte == expected), "not what its holder wrote");
        }
    }
}
