//! What one thread's magazines tell the core without calling it.
//!
//! A store into native memory costs JavaScript 1 to 2 ns, a call into Rust a hundred. So each
//! thread counts its leases, and keeps each of its blocks' states, in memory that the core, the
//! other threads and the finalizer can read.
//!
//! - JavaScript MUST write a word only where the table below says that it does.
//! - JavaScript MUST write a seat's state only while it holds the attached `ArrayBuffer` that the
//!   seat stands for: a detached one's seat may have a new holder.
//! - Nobody but the thread itself may write; the core adds only to words that are its own.

use super::size_class::SizeClass;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where in [`Ledger::words`] each figure stands. `lib/ledger.js` reads the same places from the
/// binding.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub enum Word {
    /// Block bytes of leases that ended without a release. The core writes it.
    CollectedBytes = 0,
    /// The most block bytes leased at one time. JavaScript writes it.
    PeakBytes = 1,
    /// Leases that V8 served, because no block is large enough or none was needed. JavaScript
    /// writes it.
    UnpooledCount = 2,
    /// Bytes asked for in them. JavaScript writes it.
    UnpooledBytes = 3,
    /// How many of them were released. JavaScript writes it.
    UnpooledReleases = 4,
}

/// Where among a class's words each figure stands. JavaScript writes them all.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub enum ClassWord {
    /// Leases.
    Leases = 0,
    /// Bytes asked for.
    AskedBytes = 1,
}

/// The first class's first word.
pub const CLASS_WORDS_AT: usize = 8;

/// Words for each class.
pub const WORDS_PER_CLASS: usize = 2;

/// Seats that are made at a time: one page of states.
pub const SEATS_PER_SEGMENT: usize = 4096;

/// What a block in JavaScript's hands is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SeatState {
    /// In a magazine.
    Idle = 0,
    /// With the user.
    Leased = 1,
    /// Detached by us: no `ArrayBuffer` has it any more, and its finalizer is on the way.
    Detached = 2,
    /// Detached by us to be freed: the books call it freed already.
    Condemned = 3,
}

impl SeatState {
    fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::Idle,
            2 => Self::Detached,
            3 => Self::Condemned,
            // The careful reading: a leased block may be anywhere.
            _ => Self::Leased,
        }
    }
}

/// One thread's counters and the states of the blocks that it has.
pub struct Ledger {
    /// `f64` bits, as JavaScript's `Float64Array` sees them: header, then each class's words.
    words: Box<[AtomicU64]>,
    seats: Mutex<Seats>,
    /// Set when the thread has left the pool; its blocks may come back later.
    retired: AtomicBool,
}

#[derive(Default)]
struct Seats {
    /// Never moved or shrunk: JavaScript and loans point into them.
    segments: Vec<Box<[AtomicU8]>>,
    /// The class of the block on each seat.
    classes: Vec<SizeClass>,
    free: Vec<u32>,
}

impl Ledger {
    /// A ledger with every figure at zero and no seat.
    pub fn new() -> Self {
        let words = CLASS_WORDS_AT + SizeClass::COUNT * WORDS_PER_CLASS;
        Self {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            seats: Mutex::default(),
            retired: AtomicBool::new(false),
        }
    }

    /// The memory that JavaScript sees as a `Float64Array`.
    pub fn words(&self) -> &[AtomicU64] {
        &self.words
    }

    /// The states of seats `index * SEATS_PER_SEGMENT` and on, which JavaScript sees as a
    /// `Uint8Array`: address and length in bytes. They stay where they are as long as the ledger.
    pub fn segment(&self, index: usize) -> Option<(*const AtomicU8, usize)> {
        self.seats().segments.get(index).map(|states| (states.as_ptr(), states.len()))
    }

    /// A seat for a block of `class` that goes to JavaScript, in state [`SeatState::Idle`].
    ///
    /// # Panics
    ///
    /// At 2^32 seats, more than there can be blocks.
    pub fn take_seat(&self, class: SizeClass) -> u32 {
        let mut seats = self.seats();
        let seat = seats.free.pop().unwrap_or_else(|| {
            let first = u32::try_from(seats.segments.len() * SEATS_PER_SEGMENT)
                .expect("fewer than 2^32 blocks fit into any memory");
            let end = first + u32::try_from(SEATS_PER_SEGMENT).expect("one page");
            seats.segments.push((0..SEATS_PER_SEGMENT).map(|_| AtomicU8::new(0)).collect());
            seats.classes.resize(end as usize, class);
            seats.free.extend((first + 1..end).rev());
            first
        });
        seats.classes[seat as usize] = class;
        seat
    }

    /// Frees the seat of a block that has left JavaScript, and tells what the block was doing.
    ///
    /// # Panics
    ///
    /// When there is no such seat.
    pub fn leave_seat(&self, seat: u32) -> SeatState {
        let mut seats = self.seats();
        seats.free.push(seat);
        // Relaxed: the finalizer runs in the thread that wrote the state, or after that thread
        // has ended.
        SeatState::from_byte(seats.state(seat).swap(SeatState::Idle as u8, Ordering::Relaxed))
    }

    /// Condemns blocks that are detached and on their way, until `bytes` of them are or none is
    /// left; tells `book` of each. Returns how many bytes were condemned.
    pub fn condemn_detached(&self, bytes: u64, mut book: impl FnMut(SizeClass)) -> u64 {
        let seats = self.seats();
        let mut condemned = 0;
        for (state, class) in seats.segments.iter().flatten().zip(&seats.classes) {
            if condemned >= bytes {
                break;
            }
            // Relaxed, and no exchange: a detached block's state changes under this lock alone.
            if state.load(Ordering::Relaxed) == SeatState::Detached as u8 {
                state.store(SeatState::Condemned as u8, Ordering::Relaxed);
                condemned += class.block_size() as u64;
                book(*class);
            }
        }
        condemned
    }

    /// Adds to `counts`, by class, how many blocks are leased now.
    ///
    /// A lease could be counted once more at its release, but a look at each seat saves that
    /// store in the fast path.
    pub fn count_leased(&self, counts: &mut [f64; SizeClass::COUNT]) {
        let seats = self.seats();
        for (state, class) in seats.segments.iter().flatten().zip(&seats.classes) {
            if state.load(Ordering::Relaxed) == SeatState::Leased as u8 {
                counts[class.index()] += 1.0;
            }
        }
    }

    /// Says what the block on `seat` is doing.
    ///
    /// # Panics
    ///
    /// When there is no such seat.
    pub fn set_state(&self, seat: u32, state: SeatState) {
        self.seats().state(seat).store(state as u8, Ordering::Relaxed);
    }

    /// Whether `seat` was ever handed out.
    pub fn has_seat(&self, seat: u32) -> bool {
        (seat as usize) < self.seats().segments.len() * SEATS_PER_SEGMENT
    }

    /// The thread has left the pool: it writes no word any more.
    pub fn retire(&self) {
        // Relaxed, here and in `is_final`: whoever asks a moment too early asks again.
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Whether no figure here will change again: the thread has left, and every block that it
    /// had has come back.
    pub fn is_final(&self) -> bool {
        let seats = self.seats();
        self.retired.load(Ordering::Relaxed)
            && seats.free.len() == seats.segments.len() * SEATS_PER_SEGMENT
    }

    /// One of the thread's figures.
    pub fn read(&self, word: Word) -> f64 {
        self.word(word as usize)
    }

    /// One of the thread's figures for one class.
    pub fn read_class(&self, class: SizeClass, word: ClassWord) -> f64 {
        self.word(CLASS_WORDS_AT + class.index() * WORDS_PER_CLASS + word as usize)
    }

    /// Adds to [`Word::CollectedBytes`].
    #[expect(clippy::cast_precision_loss, reason = "a block is below 2^52 bytes")]
    pub fn add_collected(&self, bytes: usize) {
        // Relaxed: a figure to look at; no memory is reached through it.
        let _ = self.words[Word::CollectedBytes as usize].fetch_update(
            Ordering::Relaxed,
            Ordering::Relaxed,
            |bits| Some((f64::from_bits(bits) + bytes as f64).to_bits()),
        );
    }

    fn word(&self, index: usize) -> f64 {
        f64::from_bits(self.words[index].load(Ordering::Relaxed))
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

impl Seats {
    fn state(&self, seat: u32) -> &AtomicU8 {
        let seat = seat as usize;
        &self.segments[seat / SEATS_PER_SEGMENT][seat % SEATS_PER_SEGMENT]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(size: usize) -> SizeClass {
        SizeClass::fitting(size).expect("a class")
    }

    #[test]
    fn seats_are_used_again() {
        let ledger = Ledger::new();
        let (first, second) = (ledger.take_seat(class(64)), ledger.take_seat(class(64)));
        assert_ne!(first, second);
        ledger.set_state(first, SeatState::Leased);
        assert_eq!(ledger.leave_seat(first), SeatState::Leased);
        assert_eq!(ledger.take_seat(class(128)), first);
        assert_eq!(ledger.leave_seat(first), SeatState::Idle, "a new holder starts idle");
    }

    #[test]
    fn leased_by_class() {
        let ledger = Ledger::new();
        for size in [64, 64, 4096] {
            ledger.set_state(ledger.take_seat(class(size)), SeatState::Leased);
        }
        ledger.set_state(ledger.take_seat(class(64)), SeatState::Detached);
        let mut counts = [0.0; SizeClass::COUNT];
        ledger.count_leased(&mut counts);
        let counted: Vec<_> = SizeClass::all()
            .map(|class| (class, counts[class.index()]))
            .filter(|(_, count)| *count > 0.0)
            .collect();
        assert_eq!(counted, [(class(64), 2.0), (class(4096), 1.0)]);
    }

    #[test]
    fn segments_stay_where_they_are() {
        let ledger = Ledger::new();
        ledger.take_seat(class(64));
        let before = ledger.segment(0);
        for _ in 0..3 * SEATS_PER_SEGMENT {
            ledger.take_seat(class(64));
        }
        assert_eq!(ledger.segment(0), before);
        assert!(ledger.segment(3).is_some() && ledger.segment(4).is_none());
        assert!(ledger.has_seat(3 * 4096) && !ledger.has_seat(4 * 4096));
    }

    #[test]
    fn an_unknown_state_is_read_as_leased() {
        assert_eq!(SeatState::from_byte(200), SeatState::Leased);
    }

    #[test]
    fn collected_bytes_add_up() {
        let ledger = Ledger::new();
        ledger.add_collected(64);
        ledger.add_collected(1 << 20);
        assert!((ledger.read(Word::CollectedBytes) - 1_048_640.0).abs() < f64::EPSILON);
    }
}
