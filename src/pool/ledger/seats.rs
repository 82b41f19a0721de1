//! What each block in JavaScript's hands is doing.

use super::super::loan::LoanKey;
use super::super::size_class::SizeClass;
use super::super::sync::{AtomicU64, Ordering};
use super::Sums;
use super::words::Words;

/// Where at the head of a segment each figure stands, of the blocks that have, or had, seats in it. JavaScript
/// writes them.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub enum HeadWord {
    /// Leases, counted on from `Base`. Where this comes to 0, the lease is one whose call site is
    /// recorded: so that counting and looking are one.
    Leases = 0,
    /// Where counting began.
    Base = 1,
    /// Bytes asked for.
    AskedBytes = 2,
    /// Releases in this thread.
    Releases = 3,
    /// Leases for which a block had to be got from the operating system.
    Misses = 4,
}

/// Words at the head of a segment, before those of its seats.
pub const HEAD_WORDS: usize = 6;

/// Where among a seat's words each figure stands. JavaScript writes them, except that the core
/// writes the state when it detaches the block.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub enum SeatWord {
    /// A [`SeatState`].
    State = 0,
    /// Which record of a call site belongs to the block, while its state is [`SeatState::Sampled`].
    Sample = 1,
}

/// Words for each seat.
pub const WORDS_PER_SEAT: usize = 2;

/// Seats of a class's first segment: a page and a half with all that belongs to them. A few for loom to keep in view.
const FEWEST_SEATS: usize = if cfg!(loom) { 2 } else { 64 };

/// Seats of its largest ones. Each segment has as many as all before it, so that a million are in a hundred and a few.
const MOST_SEATS: usize = 8192;

/// How far the number of a segment is shifted in the number of a seat.
pub const SEGMENT_SHIFT: u32 = 16;

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

/// What was on a seat when its block left it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Left {
    /// What the block was doing.
    pub state: SeatState,
    /// Which record of a call site belongs to it, if it was [`SeatState::Sampled`].
    pub sample: f64,
}

/// The seats of one thread, in segments of one class each, which come and go.
///
/// A segment goes when its last block has left and half of the others' seats of its class are free, but for the first of
/// the class. (So a thread that goes to and fro over a segment's edge keeps it.) Its number can then be another's: that
/// has another name, by which JavaScript tells that it must not write to the old one.
pub struct Seats {
    /// By number. Their words are never moved while JavaScript points into them.
    segments: Vec<Option<Segment>>,
    /// By class, made when it is first used.
    classes: [Option<Box<ClassSeats>>; SizeClass::COUNT],
    /// The name of the segment that was made last.
    last_name: u32,
    /// How many seats are taken.
    taken: usize,
    /// How many of their blocks are [`SeatState::Detached`].
    detached: usize,
    /// Whether segments stay for good: where V8 has their words.
    is_fixed: bool,
}

/// One class's part.
#[derive(Default)]
struct ClassSeats {
    /// How many seats there are, taken or not.
    count: usize,
    /// How many of them are taken.
    taken: usize,
    /// The number of a segment that is empty, and stays for a while.
    empty: Option<usize>,
    /// A bit for each segment of the thread: whether it is of this class and has a free seat.
    open: Vec<u64>,
    /// What was counted in segments that have gone.
    gone: Counts,
}

/// What the head of a segment counts.
#[derive(Clone, Copy, Default)]
struct Counts {
    leases: f64,
    releases: f64,
    asked_bytes: f64,
    misses: f64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.leases += other.leases;
        self.releases += other.releases;
        self.asked_bytes += other.asked_bytes;
        self.misses += other.misses;
    }
}

struct Segment {
    name: u32,
    class: SizeClass,
    is_first: bool,
    words: Words,
    /// Names the loan of the block that has each seat, or had it last.
    keys: Vec<LoanKey>,
    /// The seats that no block has; as much room as there are seats.
    free: Vec<u16>,
}

/// Where a seat is: its segment, and which seat of that.
fn split(seat: u32) -> (usize, usize) {
    ((seat >> SEGMENT_SHIFT) as usize, (seat & ((1 << SEGMENT_SHIFT) - 1)) as usize)
}

impl Segment {
    fn new(name: u32, class: SizeClass, is_first: bool, seats: usize) -> Self {
        let last = u16::try_from(seats).expect("MOST_SEATS at most");
        Self {
            name,
            class,
            is_first,
            words: Words::new(HEAD_WORDS + seats * WORDS_PER_SEAT),
            keys: vec![LoanKey::default(); seats],
            // The lowest is taken first, because it lies at the end.
            free: (0..last).rev().collect(),
        }
    }

    fn words_of(&self, index: usize) -> &[AtomicU64] {
        let first = HEAD_WORDS + index * WORDS_PER_SEAT;
        &self.words.all()[first..first + WORDS_PER_SEAT]
    }

    fn state_word(&self, index: usize) -> &AtomicU64 {
        &self.words_of(index)[SeatWord::State as usize]
    }

    fn head(&self, word: HeadWord) -> f64 {
        // Relaxed, here and wherever words are read or written: each is a figure of its own, and
        // no memory is reached through it. The finalizer, which reads a state to decide by it,
        // runs in the thread that wrote it, or after that thread has ended.
        f64::from_bits(self.words.all()[word as usize].load(Ordering::Relaxed))
    }

    fn counts(&self) -> Counts {
        let leases = self.head(HeadWord::Leases) - self.head(HeadWord::Base);
        Counts {
            leases,
            releases: self.head(HeadWord::Releases),
            asked_bytes: self.head(HeadWord::AskedBytes),
            // A block may have been got, and never leased.
            misses: self.head(HeadWord::Misses).min(leases),
        }
    }

    fn bytes(&self) -> usize {
        self.words.place().1 + self.keys.len() * (size_of::<LoanKey>() + size_of::<u16>())
    }
}

impl Seats {
    /// A seat for the block of `class` that goes to JavaScript on the loan `key`, in state
    /// [`SeatState::Idle`].
    ///
    /// # Panics
    ///
    /// Where there are more segments than numbers for them: 500 million seats.
    pub fn take(&mut self, class: SizeClass, key: LoanKey) -> u32 {
        // Low segments fill first, so that high ones empty.
        let seats = self.classes[class.index()].get_or_insert_default();
        let number = match seats.open.iter().position(|bits| *bits != 0) {
            Some(word) => word * 64 + seats.open[word].trailing_zeros() as usize,
            None => self.add_segment(class),
        };
        let segment = self.segments[number].as_mut().expect("an open segment");
        let index = segment.free.pop().expect("a free seat");
        segment.keys[usize::from(index)] = key;
        if let Some(seats) = &mut self.classes[class.index()] {
            if segment.free.is_empty() {
                seats.open[number / 64] &= !(1 << (number % 64));
            }
            seats.taken += 1;
            seats.empty = seats.empty.filter(|empty| *empty != number);
        }
        self.taken += 1;
        u32::try_from(number << SEGMENT_SHIFT).expect("fewer than 2^16 segments") | u32::from(index)
    }

    fn add_segment(&mut self, class: SizeClass) -> usize {
        let seats = self.classes[class.index()].get_or_insert_default();
        let count = seats.count.clamp(FEWEST_SEATS, MOST_SEATS);
        self.last_name = self.last_name.checked_add(1).expect("fewer than 2^32 are ever made");
        let segment = Some(Segment::new(self.last_name, class, seats.count == 0, count));
        seats.count += count;
        let number = self.segments.iter().position(Option::is_none).unwrap_or(self.segments.len());
        match self.segments.get_mut(number) {
            Some(place) => *place = segment,
            None => self.segments.push(segment),
        }
        seats.open.resize(seats.open.len().max(number / 64 + 1), 0);
        seats.open[number / 64] |= 1 << (number % 64);
        number
    }

    /// Frees the seat of a block that has left JavaScript, and tells what was on it, and whether the segment
    /// went with it. Allocates nothing: finalizers call this.
    ///
    /// # Panics
    ///
    /// When nobody has that seat.
    pub fn leave(&mut self, seat: u32) -> (Left, bool) {
        let (number, index) = split(seat);
        let segment = self.segments[number].as_mut().expect("a block's seat");
        let take =
            |word: SeatWord| segment.words_of(index)[word as usize].swap(0, Ordering::Relaxed);
        let state = SeatState::from_word(take(SeatWord::State));
        let sample = f64::from_bits(take(SeatWord::Sample));
        segment.free.push(u16::try_from(index).expect("below MOST_SEATS"));
        self.taken -= 1;
        self.detached -= usize::from(state == SeatState::Detached);
        let seats = self.classes[segment.class.index()].as_mut().expect("a block's class");
        seats.open[number / 64] |= 1 << (number % 64);
        seats.taken -= 1;
        let is_empty = segment.free.len() == segment.keys.len();
        // Of two, the one before goes at once.
        let goes = if is_empty && !segment.is_first && !self.is_fixed {
            seats.empty.replace(number)
        } else {
            None
        };
        let class = segment.class;
        let has_gone = goes.is_some_and(|number| self.drop_segment(class, number));
        (Left { state, sample }, self.drop_empty(class) || has_gone)
    }

    /// Lets go of the empty segment of a class, where half of the others' seats are free. Whether it has.
    fn drop_empty(&mut self, class: SizeClass) -> bool {
        let Some(seats) = &mut self.classes[class.index()] else { return false };
        let Some(number) = seats.empty else { return false };
        let others = seats.count - self.segments[number].as_ref().map_or(0, |it| it.keys.len());
        if 2 * seats.taken > others {
            return false;
        }
        seats.empty = None;
        self.drop_segment(class, number)
    }

    fn drop_segment(&mut self, class: SizeClass, number: usize) -> bool {
        let Some(segment) = self.segments[number].take() else { return false };
        let Some(seats) = &mut self.classes[class.index()] else { return false };
        seats.gone.add(segment.counts());
        seats.count -= segment.keys.len();
        seats.open[number / 64] &= !(1 << (number % 64));
        true
    }

    /// The segment with a seat: its name, and its words.
    pub fn segment(&self, number: usize) -> Option<(u32, &Words)> {
        let segment = self.segments.get(number)?.as_ref()?;
        Some((segment.name, &segment.words))
    }

    /// Has the words of a segment elsewhere, as [`Words::put`]. From now on segments stay for good.
    pub fn put(&mut self, number: usize, at: *const AtomicU64) {
        self.is_fixed = true;
        if let Some(Some(segment)) = self.segments.get_mut(number) {
            segment.words.put(at);
        }
    }

    /// Takes back all words that were put elsewhere.
    pub fn recall(&mut self) {
        self.segments.iter_mut().flatten().for_each(|segment| segment.words.recall());
    }

    /// The loan of the block that has `seat`, or had it last; `None` where there is no such seat.
    pub fn loan_on(&self, seat: u32) -> Option<LoanKey> {
        let (number, index) = split(seat);
        self.segments.get(number)?.as_ref()?.keys.get(index).copied()
    }

    /// What the block on `seat` is doing.
    ///
    /// # Panics
    ///
    /// When there is no such seat.
    pub fn state(&self, seat: u32) -> SeatState {
        let (number, index) = split(seat);
        let segment = self.segments[number].as_ref().expect("a block's seat");
        SeatState::from_word(segment.state_word(index).load(Ordering::Relaxed))
    }

    /// Says what the block on `seat` is doing.
    ///
    /// # Panics
    ///
    /// When there is no such seat.
    pub fn set_state(&mut self, seat: u32, state: SeatState) {
        let (number, index) = split(seat);
        let segment = self.segments[number].as_ref().expect("a block's seat");
        let word = segment.state_word(index);
        let before = SeatState::from_word(word.swap(state.to_word(), Ordering::Relaxed));
        self.detached += usize::from(state == SeatState::Detached);
        self.detached -= usize::from(before == SeatState::Detached);
    }

    /// Condemns blocks that are detached and on their way, until `bytes` of them are or none is
    /// left; tells `book` of each. Returns how many bytes were condemned.
    pub fn condemn_detached(&mut self, bytes: u64, mut book: impl FnMut(SizeClass)) -> u64 {
        let mut condemned = 0;
        for segment in self.segments.iter().flatten() {
            for index in 0..segment.keys.len() {
                if condemned >= bytes || self.detached == 0 {
                    return condemned;
                }
                // No exchange: a detached block's state changes under the ledger's lock alone.
                let state = segment.state_word(index);
                if state.load(Ordering::Relaxed) == SeatState::Detached.to_word() {
                    state.store(SeatState::Condemned.to_word(), Ordering::Relaxed);
                    self.detached -= 1;
                    condemned += segment.class.block_size() as u64;
                    book(segment.class);
                }
            }
        }
        condemned
    }

    /// Adds to `sums` what this thread has counted. Takes as long as there are segments.
    pub fn add_to(&self, sums: &mut Sums) {
        let mut add = |class: usize, counts: Counts| {
            sums.leases[class] += counts.leases;
            sums.releases[class] += counts.releases;
            sums.asked_bytes[class] += counts.asked_bytes;
            sums.misses[class] += counts.misses;
        };
        for (class, seats) in self.classes.iter().enumerate() {
            if let Some(seats) = seats {
                add(class, seats.gone);
            }
        }
        for segment in self.segments.iter().flatten() {
            add(segment.class.index(), segment.counts());
        }
    }

    /// How many seats are taken.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// How many bytes the seats take.
    pub fn bytes(&self) -> usize {
        let open = |class: &ClassSeats| class.open.capacity() * size_of::<u64>();
        let classes = self.classes.iter().flatten();
        classes.map(|class| size_of::<ClassSeats>() + open(class)).sum::<usize>()
            + self.segments.capacity() * size_of::<Option<Segment>>()
            + self.segments.iter().flatten().map(Segment::bytes).sum::<usize>()
    }

    /// Adds to a seat's word, as JavaScript does.
    #[cfg(test)]
    pub fn add(&self, seat: u32, word: SeatWord, amount: u32) {
        let (number, index) = split(seat);
        let segment = self.segments[number].as_ref().expect("a block's seat");
        super::add_to(&segment.words_of(index)[word as usize], f64::from(amount));
    }

    /// Adds to a word at the head of a seat's segment, as JavaScript does.
    #[cfg(test)]
    pub fn add_to_head(&self, seat: u32, word: HeadWord, amount: u32) {
        let segment = self.segments[split(seat).0].as_ref().expect("a block's seat");
        super::add_to(&segment.words.all()[word as usize], f64::from(amount));
    }
}

impl Default for Seats {
    fn default() -> Self {
        Self {
            segments: Vec::new(),
            classes: [const { None }; SizeClass::COUNT],
            last_name: 0,
            taken: 0,
            detached: 0,
            is_fixed: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(size: usize) -> SizeClass {
        SizeClass::fitting(size).expect("a class")
    }

    fn take(seats: &mut Seats, class: SizeClass) -> u32 {
        seats.take(class, LoanKey::default())
    }

    #[test]
    fn seats_are_used_again() {
        let mut seats = Seats::default();
        let (first, second) = (take(&mut seats, class(64)), take(&mut seats, class(64)));
        assert_ne!(first, second);
        seats.set_state(first, SeatState::Leased);
        assert_eq!(seats.leave(first).0.state, SeatState::Leased);
        assert_eq!(take(&mut seats, class(64)), first);
        assert_eq!(seats.leave(first).0.state, SeatState::Idle, "a new holder starts idle");
        let other = take(&mut seats, class(128));
        assert_ne!(split(other).0, split(second).0, "another class, another segment");
    }

    #[test]
    fn a_segment_goes_when_it_is_empty_and_the_others_half_so() {
        let mut seats = Seats::default();
        let all: Vec<_> = (0..2 * FEWEST_SEATS).map(|_| take(&mut seats, class(64))).collect();
        let full = seats.bytes();
        let name = seats.segment(1).expect("the second segment").0;
        let (low, high) = all.split_at(FEWEST_SEATS);
        seats.add_to_head(high[0], HeadWord::Leases, 3);
        assert!(high.iter().all(|seat| !seats.leave(*seat).1), "the first one is full");
        for _ in 0..3 {
            let again = take(&mut seats, class(64));
            assert_eq!(seats.segment(1).map(|(other, _)| other), Some(name), "it is there again");
            seats.leave(again);
        }
        let goes: Vec<_> = low.iter().map(|seat| seats.leave(*seat).1).collect();
        assert_eq!(goes.iter().position(|goes| *goes), Some(FEWEST_SEATS / 2 - 1));
        assert_eq!(goes.iter().filter(|goes| **goes).count(), 1, "the first one stays");
        assert!(seats.segment(1).is_none() && seats.loan_on(high[0]).is_none());
        assert!(seats.bytes() < full - FEWEST_SEATS * 16);
        let mut sums = Sums::default();
        seats.add_to(&mut sums);
        assert!((sums.leases[0] - 3.0).abs() < 0.5, "its figures stay");
        assert_eq!(seats.taken(), 0);
        let again: Vec<_> = (0..=FEWEST_SEATS).map(|_| take(&mut seats, class(64))).collect();
        assert_eq!(split(again[FEWEST_SEATS]), (1, 0));
        assert_ne!(seats.segment(1).expect("a new one").0, name, "which has another name");
    }

    #[test]
    fn many_seats_are_in_few_segments() {
        let mut seats = Seats::default();
        let all: Vec<_> = (0..200_000).map(|_| take(&mut seats, class(64))).collect();
        assert!(seats.segments.len() < 40, "{} segments", seats.segments.len());
        assert!(seats.bytes() < 8_000_000, "40 bytes a seat");
        for seat in all {
            seats.leave(seat);
        }
        assert_eq!(seats.segments.iter().flatten().count(), 1);
    }

    #[test]
    fn segments_stay_where_they_are() {
        let mut seats = Seats::default();
        take(&mut seats, class(64));
        let place = |seats: &Seats, number| seats.segment(number).map(|(_, words)| words.place());
        let before = place(&seats, 0);
        for _ in 0..3 * FEWEST_SEATS {
            take(&mut seats, class(64));
        }
        assert_eq!(place(&seats, 0), before);
        assert!(seats.segment(2).is_some() && seats.segment(3).is_none());
        assert!(seats.loan_on(63).is_some() && seats.loan_on(64).is_none());
    }

    #[test]
    fn only_what_is_detached_is_condemned() {
        let mut seats = Seats::default();
        let all: Vec<_> = (0..4).map(|_| take(&mut seats, class(64))).collect();
        seats.set_state(all[1], SeatState::Detached);
        seats.set_state(all[3], SeatState::Detached);
        seats.set_state(all[2], SeatState::Leased);
        let mut booked = 0;
        assert_eq!(seats.condemn_detached(1, |_| booked += 1), 64);
        assert_eq!(seats.condemn_detached(u64::MAX, |_| booked += 1), 64);
        assert_eq!(seats.condemn_detached(u64::MAX, |_| booked += 1), 0);
        assert_eq!(booked, 2);
        assert_eq!(seats.leave(all[3]).0.state, SeatState::Condemned);
    }

    #[test]
    fn an_unknown_state_is_read_as_leased() {
        assert_eq!(SeatState::from_word(f64::to_bits(200.0)), SeatState::Leased);
        assert_eq!(SeatState::from_word(7), SeatState::Leased);
        assert_eq!(SeatState::from_word(0), SeatState::Idle);
    }
}
