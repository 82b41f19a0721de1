//! What one thread's magazines tell the core without calling it.
//!
//! A store into native memory costs JavaScript 1 ns, a call into Rust a hundred. So each
//! thread counts its leases, and keeps each of its blocks' states, in memory that the core, the
//! other threads and the finalizer can read.
//!
//! ```text
//!   words:    stray │ peak │ unpooled … │ leases, releases, …     the whole thread's, then a row for each class
//!   segments: state, generation, sample │ state, …                a seat for each block
//! ```
//!
//! Counters are kept by class and not by block: to read them takes as long with a million blocks as with none.
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

pub use seats::{Left, SEATS_PER_SEGMENT, SeatState, SeatWord, WORDS_PER_SEAT};
pub use words::WordMemory;

use super::loan::LoanKey;
use super::size_class::SizeClass;
use super::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering};
use seats::{Leaving, Seats};
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
}

/// Words of the whole thread, before the first row.
pub const FIRST_ROW: usize = 8;

/// Where in a class's row each figure stands. JavaScript writes them, but for the last.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub enum RowWord {
    /// Leases, counted on from `Base`. Where this comes to 0, the lease is one whose call site is
    /// recorded: so that counting and looking are one.
    Leases = 0,
    /// Where counting began.
    Base = 1,
    /// Bytes asked for.
    AskedBytes = 2,
    /// Releases in this thread.
    Releases = 3,
    /// Leases for which a block had to be got from the operating system. The core writes it.
    Misses = 4,
}

/// Words for each class.
pub const WORDS_PER_ROW: usize = 5;

const WORDS: usize = FIRST_ROW + SizeClass::COUNT * WORDS_PER_ROW;

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

    /// The same for the words of the seats from `number * SEATS_PER_SEGMENT` on.
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
    /// [`SeatState::Idle`]; `fresh`: got from the operating system for it.
    ///
    /// # Panics
    ///
    /// At 2^32 seats, more than there can be blocks.
    pub fn take_seat(&self, class: SizeClass, fresh: bool, key: LoanKey) -> u32 {
        if fresh {
            self.count_miss(class, 1.0);
        }
        self.seats().take(class, fresh, key)
    }

    /// Frees the seat of a block that has left JavaScript, and tells what was on it. Allocates nothing:
    /// finalizers call this.
    ///
    /// # Panics
    ///
    /// When nobody has that seat.
    pub fn leave_seat(&self, seat: u32) -> Left {
        let Leaving { left, has_segment_gone, unused } = self.seats().leave(seat);
        if has_segment_gone {
            self.add(Word::SegmentsGone, 1.0);
        }
        if let Some(class) = unused {
            self.count_miss(class, -1.0);
        }
        left
    }

    /// Tells JavaScript, by two words, which block was lent last.
    pub fn show_seat(&self, seat: u32) {
        let name = {
            let seats = self.seats();
            seats.segment(seat as usize / SEATS_PER_SEGMENT).map_or(0, |(name, _)| name)
        };
        let words = self.lock_words();
        let store = |word: Word, value: u32| {
            words.all()[word as usize].store(f64::from(value).to_bits(), Ordering::Relaxed);
        };
        store(Word::LastSeat, seat);
        store(Word::LastSegment, name);
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

    /// Adds to `sums` what this thread has counted. Takes as long however many blocks there are.
    pub fn add_to(&self, sums: &mut Sums) {
        let words = self.lock_words();
        for (class, row) in words.all()[FIRST_ROW..].chunks(WORDS_PER_ROW).enumerate() {
            let read = |word: RowWord| f64::from_bits(row[word as usize].load(Ordering::Relaxed));
            let leases = read(RowWord::Leases) - read(RowWord::Base);
            if leases > 0.0 {
                sums.leases[class] += leases;
                sums.releases[class] += read(RowWord::Releases);
                sums.asked_bytes[class] += read(RowWord::AskedBytes);
                sums.misses[class] += read(RowWord::Misses).min(leases);
            }
        }
    }

    /// The bytes of the blocks that this thread has leased now.
    #[expect(clippy::cast_precision_loss, reason = "block sizes are far below 2^52")]
    pub fn leased_bytes(&self) -> f64 {
        let words = self.lock_words();
        let rows = words.all()[FIRST_ROW..].chunks(WORDS_PER_ROW);
        let bytes = SizeClass::all().zip(rows).map(|(class, row)| {
            let read = |word: RowWord| f64::from_bits(row[word as usize].load(Ordering::Relaxed));
            let count = read(RowWord::Leases) - read(RowWord::Base) - read(RowWord::Releases);
            count * class.block_size() as f64
        });
        let stray = f64::from_bits(words.all()[Word::StrayBytes as usize].load(Ordering::Relaxed));
        bytes.fold(-stray, |sum, bytes| sum + bytes).max(0.0)
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

    /// Counts a block that was got from the operating system for a lease, or takes one off that was never leased.
    fn count_miss(&self, class: SizeClass, count: f64) {
        let at = FIRST_ROW + class.index() * WORDS_PER_ROW + RowWord::Misses as usize;
        add_to(&self.lock_words().all()[at], count);
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

    /// Adds to a class's word, as JavaScript does.
    #[cfg(test)]
    pub fn add_to_row(&self, class: SizeClass, word: RowWord, amount: u32) {
        let at = FIRST_ROW + class.index() * WORDS_PER_ROW + word as usize;
        add_to(&self.lock_words().all()[at], f64::from(amount));
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
            ledger.add_to_row(class(size), RowWord::Leases, leases);
            ledger.add_to_row(class(size), RowWord::Releases, releases);
            ledger.add_to_row(class(size), RowWord::AskedBytes, 9);
        }
        let mut sums = Sums::default();
        ledger.add_to(&mut sums);
        let counted: Vec<_> = SizeClass::all()
            .map(|class| class.index())
            .filter(|index| sums.leases[*index] > 0.0)
            .map(|index| (sums.leases[index], sums.releases[index], sums.asked_bytes[index]))
            .collect();
        assert_eq!(counted, [(5.0, 3.0, 9.0), (2.0, 0.0, 9.0)]);
        assert!((ledger.leased_bytes() - f64::from(2 * 64 + 2 * 4096)).abs() < 0.5);
        ledger.add_stray(4096);
        assert!((ledger.leased_bytes() - f64::from(2 * 64 + 4096)).abs() < 0.5);
    }

    #[test]
    fn is_final_when_its_last_block_is_back() {
        let ledger = Ledger::new();
        let seat = ledger.take_seat(class(4096), true, LoanKey::default());
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
        let seats: Vec<_> = (0..=SEATS_PER_SEGMENT)
            .map(|_| ledger.take_seat(class(64), true, LoanKey::default()))
            .collect();
        let shown = |word| ledger.read(word);
        ledger.show_seat(seats[0]);
        let first = shown(Word::LastSegment);
        ledger.show_seat(seats[SEATS_PER_SEGMENT]);
        assert!((shown(Word::LastSeat) - f64::from(seats[SEATS_PER_SEGMENT])).abs() < 0.5);
        assert!((shown(Word::LastSegment) - first).abs() > 0.5, "another one");
        assert!(ledger.has_segment(1, 2) && !ledger.has_segment(1, 1));
        ledger.leave_seat(seats[SEATS_PER_SEGMENT]);
        assert!(!ledger.has_segment(1, 2));
        assert!((shown(Word::SegmentsGone) - 1.0).abs() < 0.5);
    }

    #[test]
    fn words_elsewhere() {
        let ledger = Ledger::new();
        let seat = ledger.take_seat(class(64), true, LoanKey::default());
        ledger.add_to_row(class(64), RowWord::Leases, 7);
        ledger.set_state(seat, SeatState::Leased);
        let elsewhere = Words::new(WORDS);
        let segment = Words::new(SEATS_PER_SEGMENT * WORDS_PER_SEAT);
        // SAFETY: both live until the words are recalled, below.
        unsafe { ledger.put_words(elsewhere.place().0) };
        // SAFETY: as above.
        unsafe { ledger.put_segment(0, segment.place().0) };
        let leases = || {
            let mut sums = Sums::default();
            ledger.add_to(&mut sums);
            sums.leases[0]
        };
        assert!((leases() - 7.0).abs() < f64::EPSILON, "they come along");
        elsewhere.all()[FIRST_ROW].store(9f64.to_bits(), Ordering::Relaxed);
        segment.all()[SeatWord::Sample as usize].store(3f64.to_bits(), Ordering::Relaxed);
        ledger.recall_words();
        elsewhere.all()[FIRST_ROW].store(0, Ordering::Relaxed);
        segment.all()[SeatWord::Sample as usize].store(0, Ordering::Relaxed);
        assert!((leases() - 9.0).abs() < f64::EPSILON, "and go back");
        let left = ledger.leave_seat(seat);
        assert_eq!(left, Left { state: SeatState::Leased, sample: 3.0 });
    }

    #[test]
    fn only_what_is_leased_is_surrendered() {
        let ledger = Ledger::new();
        let seat = ledger.take_seat(class(64), true, LoanKey::default());
        assert!(!ledger.surrender(seat));
        ledger.set_state(seat, SeatState::Leased);
        assert!(ledger.surrender(seat));
        assert!(!ledger.surrender(seat));
        assert_eq!(ledger.leave_seat(seat).state, SeatState::Surrendered);
    }
}
