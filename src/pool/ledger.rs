//! What one thread's magazines tell the core without calling it.
//!
//! A store into native memory costs JavaScript 1 ns, a call into Rust a hundred. So each
//! thread counts its leases, and keeps each of its blocks' states, in memory that the core, the
//! other threads and the finalizer can read.
//!
//! ```text
//!   words:    stray │ peak │ unpooled …                       the whole thread's
//!   segments: state, leases, asked, base, sample │ state, …    a seat for each block
//! ```
//!
//! The words are the core's own memory. Where the runtime allows JavaScript no view of that, they are
//! memory of V8's that the binding keeps alive, until it [recalls](Ledger::recall_words) them.
//!
//! - JavaScript MUST write a word only where the enums below say that it does.
//! - JavaScript MUST write a seat's words only while it holds the attached `ArrayBuffer` that the
//!   seat stands for: a detached one's seat may have a new holder.
//! - No other thread's JavaScript may write; the core writes only what is its own.

use super::loan::LoanKey;
use super::size_class::SizeClass;
use super::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering};
use std::sync::PoisonError;

/// Where in [`Ledger::words`] each figure stands. `lib/ledger.js` has the same numbers.
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
}

/// Where among a seat's words each figure stands. JavaScript writes them, except that the core
/// writes the state when it detaches the block.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub enum SeatWord {
    /// A [`SeatState`].
    State = 0,
    /// Leases of the block since it took the seat, counted on from `Base`. Where this comes to 0, the
    /// lease is one whose call site is recorded: so that counting and looking are one.
    Leases = 1,
    /// Bytes asked for in them.
    AskedBytes = 2,
    /// Where counting began.
    Base = 3,
    /// Which record of a call site belongs to the block, while its state is [`SeatState::Sampled`].
    Sample = 4,
}

/// Words of the whole thread.
const WORDS: usize = 6;

/// Words for each seat: one cache line.
pub const WORDS_PER_SEAT: usize = 8;

/// Seats that are made at a time: eight pages, or a few words for loom to keep in view.
pub const SEATS_PER_SEGMENT: usize = if cfg!(loom) { 2 } else { 512 };

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
    /// Released by another thread than its lender's, or by an `ArrayBuffer` that it was moved to.
    Surrendered = 4,
    /// With the user, and it is recorded where that took it.
    Sampled = 5,
}

impl SeatState {
    const ALL: [Self; 6] = [
        Self::Idle,
        Self::Leased,
        Self::Detached,
        Self::Condemned,
        Self::Surrendered,
        Self::Sampled,
    ];

    /// Whether the block is with the user.
    pub fn is_leased(self) -> bool {
        matches!(self, Self::Leased | Self::Sampled)
    }

    fn to_word(self) -> u64 {
        f64::from(self as u8).to_bits()
    }

    fn from_word(word: u64) -> Self {
        // The careful reading of what is none of them: a leased block may be anywhere.
        Self::ALL.into_iter().find(|state| state.to_word() == word).unwrap_or(Self::Leased)
    }
}

/// One thread's counters, and the blocks that it has.
pub struct Ledger {
    /// `f64` bits, as JavaScript's `Float64Array` sees them.
    words: Mutex<Words>,
    seats: Mutex<Seats>,
    /// Set when the thread has left the pool; its blocks may come back later.
    retired: AtomicBool,
}

#[derive(Default)]
struct Seats {
    /// The seats' words. Never moved or shrunk while JavaScript points into them.
    segments: Vec<Words>,
    holders: Vec<Holder>,
    free: Vec<u32>,
    /// What was counted on seats that their blocks have left.
    left: Sums,
}

/// The block that has a seat, or had it last.
#[derive(Clone, Copy)]
struct Holder {
    class: SizeClass,
    /// Whether it was got from the operating system for this seat: its first lease is a miss.
    fresh: bool,
    /// Names the block's loan.
    key: LoanKey,
}

/// What was on a seat when its block left it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Left {
    /// What the block was doing.
    pub state: SeatState,
    /// Which record of a call site belongs to it, if it was [`SeatState::Sampled`].
    pub sample: f64,
}

/// Words that JavaScript writes and the core reads.
struct Words {
    /// Cache lines of their own: two threads' ledgers never share one.
    own: Box<[Line]>,
    /// Where JavaScript writes: in `own`, or in memory of V8's.
    at: *const AtomicU64,
    count: usize,
}

#[repr(align(128))]
#[expect(dead_code, reason = "it is used through its address")]
struct Line([AtomicU64; Line::WORDS]);

impl Line {
    const WORDS: usize = 16;
}

// SAFETY: the words are atomics, which any thread may use. Whoever puts them elsewhere vouches for
// that memory.
unsafe impl Send for Words {}

impl Words {
    fn new(count: usize) -> Self {
        let line = |_| Line(std::array::from_fn(|_| AtomicU64::new(0)));
        let own: Box<[Line]> = (0..count.div_ceil(Line::WORDS)).map(line).collect();
        Self { at: own.as_ptr().cast(), own, count }
    }

    fn all(&self) -> &[AtomicU64] {
        // SAFETY: `at` points to `count` words, in `own` or where `put` was told of.
        unsafe { std::slice::from_raw_parts(self.at, self.count) }
    }

    /// Has the words from now on at `at`, as they are.
    fn put(&mut self, at: *const AtomicU64) {
        // SAFETY: `put` is told of memory for as many words.
        let new = unsafe { std::slice::from_raw_parts(at, self.count) };
        for (new, old) in new.iter().zip(self.all()) {
            new.store(old.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.at = at;
    }

    /// Has the words in memory of its own again, as they are.
    fn recall(&mut self) {
        let own = self.own.as_ptr().cast();
        if self.at != own {
            self.put(own);
        }
    }
}

/// Figures added up, by class.
#[derive(Clone, Debug)]
pub struct Sums {
    /// Blocks leased now.
    pub leased: [f64; SizeClass::COUNT],
    /// Leases.
    pub leases: [f64; SizeClass::COUNT],
    /// Bytes asked for in them.
    pub asked_bytes: [f64; SizeClass::COUNT],
    /// Leases for which a block had to be got from the operating system.
    pub misses: [f64; SizeClass::COUNT],
}

impl Sums {
    /// Adds the leases of one block, and the bytes asked for in them.
    fn add_leases(&mut self, holder: Holder, leases: f64, asked_bytes: f64) {
        let class = holder.class.index();
        self.leases[class] += leases;
        self.asked_bytes[class] += asked_bytes;
        if holder.fresh && leases > 0.0 {
            self.misses[class] += 1.0;
        }
    }

    /// Adds other sums to these.
    pub fn add(&mut self, other: &Self) {
        for class in 0..SizeClass::COUNT {
            self.leased[class] += other.leased[class];
            self.leases[class] += other.leases[class];
            self.asked_bytes[class] += other.asked_bytes[class];
            self.misses[class] += other.misses[class];
        }
    }
}

impl Default for Sums {
    fn default() -> Self {
        let zeros = [0.0; SizeClass::COUNT];
        Self { leased: zeros, leases: zeros, asked_bytes: zeros, misses: zeros }
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
    /// They stay there as long as the ledger, or until they are put elsewhere.
    pub fn words(&self) -> (*const AtomicU64, usize) {
        let words = self.lock_words();
        (words.at, size_of_val(words.all()))
    }

    /// The same for the words of the seats from `index * SEATS_PER_SEGMENT` on.
    pub fn segment(&self, index: usize) -> Option<(*const AtomicU64, usize)> {
        self.seats().segments.get(index).map(|words| (words.at, size_of_val(words.all())))
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

    /// The same for a segment.
    ///
    /// # Safety
    ///
    /// As [`put_words`](Self::put_words).
    pub unsafe fn put_segment(&self, index: usize, at: *const AtomicU64) {
        if let Some(segment) = self.seats().segments.get_mut(index) {
            segment.put(at);
        }
    }

    /// Takes back all words that were put elsewhere: JavaScript writes none any more.
    pub fn recall_words(&self) {
        self.lock_words().recall();
        self.seats().segments.iter_mut().for_each(Words::recall);
    }

    /// A seat for the block of `class` that goes to JavaScript on the loan `key`, in state
    /// [`SeatState::Idle`]; `fresh`: got from the operating system for it.
    ///
    /// # Panics
    ///
    /// At 2^32 seats, more than there can be blocks.
    pub fn take_seat(&self, class: SizeClass, fresh: bool, key: LoanKey) -> u32 {
        let holder = Holder { class, fresh, key };
        let mut seats = self.seats();
        let seat = seats.free.pop().unwrap_or_else(|| {
            let first = u32::try_from(seats.segments.len() * SEATS_PER_SEGMENT)
                .expect("fewer than 2^32 blocks fit into any memory");
            let end = first + u32::try_from(SEATS_PER_SEGMENT).expect("a small number");
            seats.segments.push(Words::new(SEATS_PER_SEGMENT * WORDS_PER_SEAT));
            seats.holders.resize(end as usize, holder);
            // For all of them, so that `leave_seat`, which finalizers call, allocates nothing.
            let missing = end as usize - seats.free.len();
            seats.free.reserve(missing);
            seats.free.extend((first + 1..end).rev());
            first
        });
        seats.holders[seat as usize] = holder;
        seat
    }

    /// Frees the seat of a block that has left JavaScript, and tells what was on it.
    ///
    /// # Panics
    ///
    /// When there is no such seat.
    pub fn leave_seat(&self, seat: u32) -> Left {
        let mut seats = self.seats();
        let state = seats.state(seat);
        let holder = seats.holders[seat as usize];
        let words = seats.words(seat);
        // Relaxed, here and wherever words are read or written: each is a figure of its own, and
        // no memory is reached through it. The finalizer, which reads a state to decide by it,
        // runs in the thread that wrote it, or after that thread has ended.
        let take = |word: SeatWord| f64::from_bits(words[word as usize].swap(0, Ordering::Relaxed));
        take(SeatWord::State);
        let leases = take(SeatWord::Leases) - take(SeatWord::Base);
        let (asked, sample) = (take(SeatWord::AskedBytes), take(SeatWord::Sample));
        seats.left.add_leases(holder, leases, asked);
        seats.free.push(seat);
        Left { state, sample }
    }

    /// The loan of the block that has `seat`, or had it last; `None` where there is no such seat.
    pub fn loan_on(&self, seat: u32) -> Option<LoanKey> {
        self.seats().holders.get(seat as usize).map(|holder| holder.key)
    }

    /// Condemns blocks that are detached and on their way, until `bytes` of them are or none is
    /// left; tells `book` of each. Returns how many bytes were condemned.
    pub fn condemn_detached(&self, bytes: u64, mut book: impl FnMut(SizeClass)) -> u64 {
        let seats = self.seats();
        let mut condemned = 0;
        for (words, Holder { class, .. }) in seats.all() {
            if condemned >= bytes {
                break;
            }
            // No exchange: a detached block's state changes under this lock alone.
            let state = &words[SeatWord::State as usize];
            if state.load(Ordering::Relaxed) == SeatState::Detached.to_word() {
                state.store(SeatState::Condemned.to_word(), Ordering::Relaxed);
                condemned += class.block_size() as u64;
                book(class);
            }
        }
        condemned
    }

    /// Adds to `sums` what was ever counted on any seat.
    ///
    /// Releases are not counted: they are the leases that ended and were not collected, and a
    /// look at each seat here saves a store in the fast path.
    pub fn add_to(&self, sums: &mut Sums) {
        let seats = self.seats();
        sums.add(&seats.left);
        for (words, holder) in seats.all() {
            let read = |word: SeatWord| words[word as usize].load(Ordering::Relaxed);
            if SeatState::from_word(read(SeatWord::State)).is_leased() {
                sums.leased[holder.class.index()] += 1.0;
            }
            let [leases, base, asked] = [SeatWord::Leases, SeatWord::Base, SeatWord::AskedBytes]
                .map(read)
                .map(f64::from_bits);
            sums.add_leases(holder, leases - base, asked);
        }
    }

    /// Says what the block on `seat` is doing.
    ///
    /// # Panics
    ///
    /// When there is no such seat.
    pub fn set_state(&self, seat: u32, state: SeatState) {
        let seats = self.seats();
        seats.words(seat)[SeatWord::State as usize].store(state.to_word(), Ordering::Relaxed);
    }

    /// Marks the block on `seat` as released by another thread. Whether it was leased until now.
    pub fn surrender(&self, seat: u32) -> bool {
        let seats = self.seats();
        let is_leased = seats.state(seat).is_leased();
        if is_leased {
            let state = &seats.words(seat)[SeatWord::State as usize];
            state.store(SeatState::Surrendered.to_word(), Ordering::Relaxed);
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
        let seats = self.seats();
        self.retired.load(Ordering::Relaxed)
            && seats.free.len() == seats.segments.len() * SEATS_PER_SEGMENT
    }

    /// One of the thread's figures.
    pub fn read(&self, word: Word) -> f64 {
        f64::from_bits(self.lock_words().all()[word as usize].load(Ordering::Relaxed))
    }

    /// Sets one of the thread's figures.
    pub fn write(&self, word: Word, value: u32) {
        self.lock_words().all()[word as usize].store(f64::from(value).to_bits(), Ordering::Relaxed);
    }

    /// Adds to [`Word::StrayBytes`].
    #[expect(clippy::cast_precision_loss, reason = "a block is below 2^52 bytes")]
    pub fn add_stray(&self, bytes: usize) {
        let words = self.lock_words();
        let word = &words.all()[Word::StrayBytes as usize];
        // No exchange: only the core writes it, under this lock.
        let sum = f64::from_bits(word.load(Ordering::Relaxed)) + bytes as f64;
        word.store(sum.to_bits(), Ordering::Relaxed);
    }

    /// Adds to a seat's word, as JavaScript does.
    #[cfg(test)]
    pub fn add_to_seat(&self, seat: u32, word: SeatWord, amount: u32) {
        let seats = self.seats();
        let word = &seats.words(seat)[word as usize];
        let sum = f64::from_bits(word.load(Ordering::Relaxed)) + f64::from(amount);
        word.store(sum.to_bits(), Ordering::Relaxed);
    }

    fn lock_words(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn words(&self, seat: u32) -> &[AtomicU64] {
        let seat = seat as usize;
        let first = seat % SEATS_PER_SEGMENT * WORDS_PER_SEAT;
        &self.segments[seat / SEATS_PER_SEGMENT].all()[first..first + WORDS_PER_SEAT]
    }

    fn state(&self, seat: u32) -> SeatState {
        let word = self.words(seat)[SeatWord::State as usize].load(Ordering::Relaxed);
        SeatState::from_word(word)
    }

    /// Every seat's words and holder.
    fn all(&self) -> impl Iterator<Item = (&[AtomicU64], Holder)> {
        let words = self.segments.iter().flat_map(|segment| segment.all().chunks(WORDS_PER_SEAT));
        words.zip(self.holders.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(size: usize) -> SizeClass {
        SizeClass::fitting(size).expect("a class")
    }

    fn take(ledger: &Ledger, class: SizeClass) -> u32 {
        ledger.take_seat(class, true, LoanKey::default())
    }

    #[test]
    fn seats_are_used_again() {
        let ledger = Ledger::new();
        let (first, second) = (take(&ledger, class(64)), take(&ledger, class(64)));
        assert_ne!(first, second);
        ledger.set_state(first, SeatState::Leased);
        assert_eq!(ledger.leave_seat(first).state, SeatState::Leased);
        assert_eq!(take(&ledger, class(128)), first);
        assert_eq!(ledger.leave_seat(first).state, SeatState::Idle, "a new holder starts idle");
    }

    #[test]
    fn leased_by_class() {
        let ledger = Ledger::new();
        for size in [64, 64, 4096] {
            ledger.set_state(take(&ledger, class(size)), SeatState::Leased);
        }
        ledger.set_state(take(&ledger, class(64)), SeatState::Detached);
        let mut sums = Sums::default();
        ledger.add_to(&mut sums);
        let counted: Vec<_> = SizeClass::all()
            .map(|class| (class, sums.leased[class.index()]))
            .filter(|(_, count)| *count > 0.0)
            .collect();
        assert_eq!(counted, [(class(64), 2.0), (class(4096), 1.0)]);
    }

    #[test]
    fn figures_stay_when_their_block_leaves() {
        let ledger = Ledger::new();
        let seat = take(&ledger, class(4096));
        ledger.add_to_seat(seat, SeatWord::Leases, 3);
        ledger.add_to_seat(seat, SeatWord::AskedBytes, 9000);
        for _ in 0..2 {
            let mut sums = Sums::default();
            ledger.add_to(&mut sums);
            let index = class(4096).index();
            assert_eq!((sums.leases[index], sums.asked_bytes[index]), (3.0, 9000.0));
            if ledger.is_final() {
                break;
            }
            ledger.retire();
            ledger.leave_seat(seat);
            assert!(ledger.is_final());
        }
    }

    #[test]
    fn segments_stay_where_they_are() {
        let ledger = Ledger::new();
        take(&ledger, class(64));
        let before = ledger.segment(0);
        for _ in 0..3 * SEATS_PER_SEGMENT {
            take(&ledger, class(64));
        }
        assert_eq!(ledger.segment(0), before);
        assert!(ledger.segment(3).is_some() && ledger.segment(4).is_none());
        assert!(ledger.loan_on(4 * 512 - 1).is_some() && ledger.loan_on(4 * 512).is_none());
    }

    #[test]
    fn an_unknown_state_is_read_as_leased() {
        assert_eq!(SeatState::from_word(f64::to_bits(200.0)), SeatState::Leased);
        assert_eq!(SeatState::from_word(7), SeatState::Leased);
        assert_eq!(SeatState::from_word(0), SeatState::Idle);
    }

    #[test]
    fn stray_bytes_add_up() {
        let ledger = Ledger::new();
        ledger.add_stray(64);
        ledger.add_stray(1 << 20);
        assert!((ledger.read(Word::StrayBytes) - 1_048_640.0).abs() < f64::EPSILON);
    }

    #[test]
    fn words_elsewhere() {
        let ledger = Ledger::new();
        let seat = take(&ledger, class(64));
        ledger.write(Word::PeakBytes, 7);
        ledger.set_state(seat, SeatState::Leased);
        let elsewhere = Words::new(WORDS);
        let segment = Words::new(SEATS_PER_SEGMENT * WORDS_PER_SEAT);
        // SAFETY: both live until the words are recalled, below.
        unsafe { ledger.put_words(elsewhere.at) };
        // SAFETY: as above.
        unsafe { ledger.put_segment(0, segment.at) };
        assert!((ledger.read(Word::PeakBytes) - 7.0).abs() < f64::EPSILON, "they come along");
        elsewhere.all()[Word::PeakBytes as usize].store(9f64.to_bits(), Ordering::Relaxed);
        segment.all()[SeatWord::Leases as usize].store(3f64.to_bits(), Ordering::Relaxed);
        ledger.recall_words();
        elsewhere.all()[Word::PeakBytes as usize].store(0, Ordering::Relaxed);
        segment.all()[SeatWord::Leases as usize].store(0, Ordering::Relaxed);
        assert!((ledger.read(Word::PeakBytes) - 9.0).abs() < f64::EPSILON, "and go back");
        let left = ledger.leave_seat(seat);
        assert_eq!(left, Left { state: SeatState::Leased, sample: 0.0 });
    }

    #[test]
    fn only_what_is_leased_is_surrendered() {
        let ledger = Ledger::new();
        let seat = take(&ledger, class(64));
        assert!(!ledger.surrender(seat));
        ledger.set_state(seat, SeatState::Leased);
        assert!(ledger.surrender(seat));
        assert!(!ledger.surrender(seat));
        assert_eq!(ledger.leave_seat(seat).state, SeatState::Surrendered);
    }
}
