//! What one thread's magazines tell the core without calling it.
//!
//! A store into native memory costs JavaScript 1 ns, a call into Rust a hundred. So each
//! thread counts its leases, and keeps each of its blocks' states, in memory that the core, the
//! other threads and the finalizer can read.
//!
//! ```text
//!   words:    stray │ peak │ unpooled …                           the whole thread's
//!   segments: leases, asked, releases … │ state, sample │ state …  of one class: a head, and a seat for each block
//! ```
//!
//! Counters are kept by segment and not by block: to add them up takes as long as there are segments, of which a
//! million blocks have about a hundred. What a lease writes lies in one segment.
//!
//! The words are the core's own memory. Where the runtime allows JavaScript no view of that, they are
//! memory of V8's that the binding keeps alive, until it [recalls](Ledger::recall_words) them.
//!
//! - JavaScript MUST write a word only where the enums below say that it does.
//! - JavaScript MUST write a seat's words only while it holds the attached `ArrayBuffer` that the
//!   seat stands for: a detached one's seat may have a new holder.
//! - No other thread's JavaScript may write; the core writes only what is its own.

mod seats;
mod words;

pub use seats::{HEAD_WORDS, HeadWord, Left, SEGMENT_SHIFT, SeatState, SeatWord, WORDS_PER_SEAT};
pub use words::WordMemory;

use super::loan::LoanKey;
use super::size_class::SizeClass;
use super::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering};
use seats::Seats;
use std::sync::PoisonError;
use words::Words;

/// Where in [`Ledger::words`] each figure of the whole thread stands. `lib/ledger.js` has the same numbers.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub enum Word {
    /// Block bytes of leases that ended other than by a release in this thread: collected, or
    /// released where they had been posted to. The core writes it.
    StrayBytes = 0,
    /// The most block bytes leased at one time. JavaScript writes it.
    PeakBytes = 1,
    /// Leases that V8 served, because no block is large enough or none was needed. JavaScript
    /// writes it.
    UnpooledCount = 2,
    /// Bytes asked for in them. JavaScript writes it.
    UnpooledBytes = 3,
    /// How many of them were released. JavaScript writes it.
    UnpooledReleases = 4,
    /// The seat of the block that was lent last. The core writes it.
    LastSeat = 5,
    /// The name of the segment with that seat. The core writes it.
    LastSegment = 6,
    /// How many segments have gone. The core writes it.
    SegmentsGone = 7,
    /// Whether the block that was lent last was got from the operating system for that: 1 or 0. The core writes it.
    LastIsFresh = 8,
    /// The most block bytes leased at one time in this interval and the one before. JavaScript writes it.
    RecentPeakBytes = 9,
    /// Idle bytes that this thread is to free, because of the block that was lent last. The core writes it.
    SurplusBytes = 10,
}

/// Words of the whole thread.
const WORDS: usize = 11;

/// One thread's counters, and the blocks that it has.
pub struct Ledger {
    /// `f64` bits, as JavaScript's `Float64Array` sees them.
    words: Mutex<Words>,
    seats: Mutex<Seats>,
    /// Set when the thread has left the pool; its blocks may come back later.
    retired: AtomicBool,
}

/// Figures added up, by class.
#[derive(Clone, Debug)]
pub struct Sums {
    /// Leases.
    pub leases: [f64; SizeClass::COUNT],
    /// Releases by the threads that had leased.
    pub releases: [f64; SizeClass::COUNT],
    /// Bytes asked for in the leases.
    pub asked_bytes: [f64; SizeClass::COUNT],
    /// Leases for which a block had to be got from the operating system.
    pub misses: [f64; SizeClass::COUNT],
}

impl Default for Sums {
    fn default() -> Self {
        let zeros = [0.0; SizeClass::COUNT];
        Self { leases: zeros, releases: zeros, asked_bytes: zeros, misses: zeros }
    }
}

impl Ledger {
    /// A ledger with every figure at zero and no seat.
    pub fn new() -> Self {
        Self {
            words: Mutex::new(Words::new(WORDS)),
            seats: Mutex::default(),
            retired: AtomicBool::new(false),
        }
    }

    /// Where the thread's words are, for JavaScript's `Float64Array`, and their length in bytes.
    /// They stay there as long as the memory, or until they are put elsewhere.
    pub fn words(&self) -> (*const AtomicU64, usize, WordMemory) {
        let words = self.lock_words();
        let (at, length) = words.place();
        (at, length, words.memory())
    }

    /// The same for the words of a segment.
    pub fn segment(&self, number: usize) -> Option<(*const AtomicU64, usize, WordMemory)> {
        let seats = self.seats();
        let (_, words) = seats.segment(number)?;
        let (at, length) = words.place();
        Some((at, length, words.memory()))
    }

    /// Whether the segment of that number is still the one of that name.
    pub fn has_segment(&self, number: usize, name: u32) -> bool {
        self.seats().segment(number).is_some_and(|(other, _)| other == name)
    }

    /// Has the thread's words at `at` from now on.
    ///
    /// # Safety
    ///
    /// The memory there is as long as [`words`](Self::words) says, and lives until
    /// [`recall_words`](Self::recall_words) has returned.
    pub unsafe fn put_words(&self, at: *const AtomicU64) {
        self.lock_words().put(at);
    }

    /// The same for a segment. From now on segments stay for good.
    ///
    /// # Safety
    ///
    /// As [`put_words`](Self::put_words).
    pub unsafe fn put_segment(&self, number: usize, at: *const AtomicU64) {
        self.seats().put(number, at);
    }

    /// Takes back all words that were put elsewhere: JavaScript writes none any more.
    pub fn recall_words(&self) {
        self.lock_words().recall();
        self.seats().recall();
    }

    /// A seat for the block of `class` that goes to JavaScript on the loan `key`, in state
    /// [`SeatState::Idle`].
    ///
    /// # Panics
    ///
    /// At 500 million seats, more than there can be `ArrayBuffer`s.
    pub fn take_seat(&self, class: SizeClass, key: LoanKey) -> u32 {
        self.seats().take(class, key)
    }

    /// Frees the seat of a block that has left JavaScript, and tells what was on it. Allocates nothing:
    /// finalizers call this.
    ///
    /// # Panics
    ///
    /// When nobody has that seat.
    pub fn leave_seat(&self, seat: u32) -> Left {
        let (left, has_segment_gone) = self.seats().leave(seat);
        if has_segment_gone {
            self.add(Word::SegmentsGone, 1.0);
        }
        left
    }

    /// Tells JavaScript which block was lent last; `fresh`: got from the operating system for that.
    pub fn show_seat(&self, seat: u32, fresh: bool) {
        let number = (seat >> SEGMENT_SHIFT) as usize;
        let name = self.seats().segment(number).map_or(0, |(name, _)| name);
        let words = self.lock_words();
        let store = |word: Word, value: u32| {
            words.all()[word as usize].store(f64::from(value).to_bits(), Ordering::Relaxed);
        };
        store(Word::LastSeat, seat);
        store(Word::LastSegment, name);
        store(Word::LastIsFresh, fresh.into());
    }

    /// Tells JavaScript how many idle bytes it is to free.
    #[expect(clippy::cast_precision_loss, reason = "no pool holds 2^52 bytes")]
    pub fn show_surplus(&self, bytes: usize) {
        let word = Word::SurplusBytes as usize;
        self.lock_words().all()[word].store((bytes as f64).to_bits(), Ordering::Relaxed);
    }

    /// The loan of the block that has `seat`, or had it last; `None` where there is no such seat.
    pub fn loan_on(&self, seat: u32) -> Option<LoanKey> {
        self.seats().loan_on(seat)
    }

    /// Condemns blocks that are detached and on their way, until `bytes` of them are or none is
    /// left; tells `book` of each. Returns how many bytes were condemned.
    pub fn condemn_detached(&self, bytes: u64, book: impl FnMut(SizeClass)) -> u64 {
        self.seats().condemn_detached(bytes, book)
    }

    /// Adds to `sums` what this thread has counted.
    pub fn add_to(&self, sums: &mut Sums) {
        self.seats().add_to(sums);
    }

    /// Says what the block on `seat` is doing.
    ///
    /// # Panics
    ///
    /// When there is no such seat.
    pub fn set_state(&self, seat: u32, state: SeatState) {
        self.seats().set_state(seat, state);
    }

    /// Marks the block on `seat` as released by another thread. Whether it was leased until now.
    pub fn surrender(&self, seat: u32) -> bool {
        let mut seats = self.seats();
        let is_leased = seats.state(seat).is_leased();
        if is_leased {
            seats.set_state(seat, SeatState::Surrendered);
        }
        is_leased
    }

    /// What the block on `seat` is doing.
    ///
    /// # Panics
    ///
    /// When there is no such seat.
    pub fn state(&self, seat: u32) -> SeatState {
        self.seats().state(seat)
    }

    /// The thread has left the pool: it writes no word any more.
    pub fn retire(&self) {
        // Relaxed, here and in `is_final`: whoever asks a moment too early asks again.
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Whether no figure here will change again: the thread has left, and every block that it
    /// had has come back.
    pub fn is_final(&self) -> bool {
        self.retired.load(Ordering::Relaxed) && self.seats().taken() == 0
    }

    /// How many bytes the ledger takes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + WORDS * size_of::<u64>() + self.seats().bytes()
    }

    /// One of the thread's figures.
    pub fn read(&self, word: Word) -> f64 {
        f64::from_bits(self.lock_words().all()[word as usize].load(Ordering::Relaxed))
    }

    /// Adds to [`Word::StrayBytes`].
    #[expect(clippy::cast_precision_loss, reason = "a block is below 2^52 bytes")]
    pub fn add_stray(&self, bytes: usize) {
        self.add(Word::StrayBytes, bytes as f64);
    }

    /// Adds to a word that the core alone writes.
    fn add(&self, word: Word, amount: f64) {
        // No exchange: only the core writes it, under this lock.
        add_to(&self.lock_words().all()[word as usize], amount);
    }

    /// Sets one of the thread's figures, as JavaScript does.
    #[cfg(test)]
    pub fn write(&self, word: Word, value: u32) {
        self.lock_words().all()[word as usize].store(f64::from(value).to_bits(), Ordering::Relaxed);
    }

    /// Adds to a word at the head of a seat's segment, as JavaScript does.
    #[cfg(test)]
    pub fn add_to_head(&self, seat: u32, word: HeadWord, amount: u32) {
        self.seats().add_to_head(seat, word, amount);
    }

    /// Adds to a seat's word, as JavaScript does.
    #[cfg(test)]
    pub fn add_to_seat(&self, seat: u32, word: SeatWord, amount: u32) {
        self.seats().add(seat, word, amount);
    }

    fn lock_words(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add_to(word: &AtomicU64, amount: f64) {
    let sum = f64::from_bits(word.load(Ordering::Relaxed)) + amount;
    word.store(sum.to_bits(), Ordering::Relaxed);
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(size: usize) -> SizeClass {
        SizeClass::fitting(size).expect("a class")
    }

    #[test]
    fn sums_by_class() {
        let ledger = Ledger::new();
        for (size, leases, releases) in [(64, 5, 3), (4096, 2, 0)] {
            let seat = ledger.take_seat(class(size), LoanKey::default());
            ledger.add_to_head(seat, HeadWord::Leases, leases);
            ledger.add_to_head(seat, HeadWord::Releases, releases);
            ledger.add_to_head(seat, HeadWord::AskedBytes, 9);
            ledger.add_to_head(seat, HeadWord::Misses, 1);
        }
        let mut sums = Sums::default();
        ledger.add_to(&mut sums);
        let counted: Vec<_> = SizeClass::all()
            .map(SizeClass::index)
            .filter(|index| sums.leases[*index] > 0.0)
            .map(|index| (sums.leases[index], sums.releases[index], sums.asked_bytes[index]))
            .collect();
        assert_eq!(counted, [(5.0, 3.0, 9.0), (2.0, 0.0, 9.0)]);
    }

    #[test]
    fn is_final_when_its_last_block_is_back() {
        let ledger = Ledger::new();
        let seat = ledger.take_seat(class(4096), LoanKey::default());
        assert!(!ledger.is_final());
        ledger.retire();
        assert!(!ledger.is_final());
        ledger.leave_seat(seat);
        assert!(ledger.is_final());
    }

    #[test]
    fn stray_bytes_add_up() {
        let ledger = Ledger::new();
        ledger.add_stray(64);
        ledger.add_stray(1 << 20);
        assert!((ledger.read(Word::StrayBytes) - 1_048_640.0).abs() < f64::EPSILON);
    }

    #[test]
    fn the_last_seat_is_shown_with_its_segment() {
        let ledger = Ledger::new();
        let [first, second] =
            [64, 128].map(|size| ledger.take_seat(class(size), LoanKey::default()));
        let shown = |word| ledger.read(word);
        ledger.show_seat(first, true);
        let name = shown(Word::LastSegment);
        assert!((shown(Word::LastIsFresh) - 1.0).abs() < 0.5);
        ledger.show_seat(second, false);
        assert!((shown(Word::LastSeat) - f64::from(second)).abs() < 0.5);
        assert!((shown(Word::LastSegment) - name).abs() > 0.5, "another one");
        assert!(shown(Word::LastIsFresh).abs() < 0.5);
        assert!(ledger.has_segment(1, 2) && !ledger.has_segment(1, 1));
    }

    #[test]
    fn words_elsewhere() {
        let ledger = Ledger::new();
        let seat = ledger.take_seat(class(64), LoanKey::default());
        ledger.write(Word::PeakBytes, 7);
        ledger.set_state(seat, SeatState::Leased);
        let elsewhere = Words::new(WORDS);
        let (_, length, _memory) = ledger.segment(0).expect("the segment");
        let segment = Words::new(length / size_of::<u64>());
        // SAFETY: both live until the words are recalled, below.
        unsafe { ledger.put_words(elsewhere.place().0) };
        // SAFETY: as above.
        unsafe { ledger.put_segment(0, segment.place().0) };
        let peak = || ledger.read(Word::PeakBytes);
        assert!((peak() - 7.0).abs() < f64::EPSILON, "they come along");
        let sample = HEAD_WORDS + SeatWord::Sample as usize;
        elsewhere.all()[Word::PeakBytes as usize].store(9f64.to_bits(), Ordering::Relaxed);
        segment.all()[sample].store(3f64.to_bits(), Ordering::Relaxed);
        ledger.recall_words();
        elsewhere.all()[Word::PeakBytes as usize].store(0, Ordering::Relaxed);
        segment.all()[sample].store(0, Ordering::Relaxed);
        assert!((peak() - 9.0).abs() < f64::EPSILON, "and go back");
        let left = ledger.leave_seat(seat);
        assert_eq!(left, Left { state: SeatState::Leased, sample: 3.0 });
    }

    #[test]
    fn only_what_is_leased_is_surrendered() {
        let ledger = Ledger::new();
        let seat = ledger.take_seat(class(64), LoanKey::default());
        assert!(!ledger.surrender(seat));
        ledger.set_state(seat, SeatState::Leased);
        assert!(ledger.surrender(seat));
        assert!(!ledger.surrender(seat));
        assert_eq!(ledger.leave_seat(seat).state, SeatState::Surrendered);
    }
}
