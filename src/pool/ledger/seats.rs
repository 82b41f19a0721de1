//! What each block in JavaScript's hands is doing.

use super::super::loan::LoanKey;
use super::super::size_class::SizeClass;
use super::super::sync::{AtomicU64, Ordering};
use super::words::Words;

/// Where among a seat's words each figure stands. JavaScript writes them, except that the core
/// writes the state when it detaches the block.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub enum SeatWord {
    /// A [`SeatState`].
    State = 0,
    /// Leases of the block since it took the seat: tells a lease from a later one.
    Generation = 1,
    /// Which record of a call site belongs to the block, while its state is [`SeatState::Sampled`].
    Sample = 2,
}

/// Words for each seat.
pub const WORDS_PER_SEAT: usize = 3;

/// Seats that are made at a time: three pages, or a few words for loom to keep in view.
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

/// What was on a seat when its block left it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Left {
    /// What the block was doing.
    pub state: SeatState,
    /// Which record of a call site belongs to it, if it was [`SeatState::Sampled`].
    pub sample: f64,
}

/// The seats of one thread, in segments that come and go.
///
/// A segment goes when its last block has left, but for the first one. Its number can then be another's:
/// that has another name, by which JavaScript tells that it must not write to the old one.
#[derive(Default)]
pub struct Seats {
    /// By number. Their words are never moved while JavaScript points into them.
    segments: Vec<Option<Segment>>,
    /// The name of the segment that was made last.
    last_name: u32,
    /// A bit for each segment: whether it has a free seat.
    open: Vec<u64>,
    /// How many seats are taken.
    taken: usize,
    /// How many of their blocks are [`SeatState::Detached`].
    detached: usize,
    /// Whether segments stay for good: where V8 has their words.
    is_fixed: bool,
}

struct Segment {
    name: u32,
    words: Words,
    holders: Vec<Holder>,
    /// The seats that no block has; as much room as there are seats.
    free: Vec<u16>,
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

/// How a block left its seat.
pub struct Leaving {
    pub left: Left,
    /// Whether the segment went with it.
    pub has_segment_gone: bool,
    /// Its class, if it was got from the operating system for this seat and was never leased.
    pub unused: Option<SizeClass>,
}

/// Where a seat is.
fn split(seat: u32) -> (usize, usize) {
    (seat as usize / SEATS_PER_SEGMENT, seat as usize % SEATS_PER_SEGMENT)
}

impl Segment {
    const BYTES: usize = SEATS_PER_SEGMENT
        * (WORDS_PER_SEAT * size_of::<u64>() + size_of::<Holder>() + size_of::<u16>());

    fn new(name: u32, holder: Holder) -> Self {
        let seats = u16::try_from(SEATS_PER_SEGMENT).expect("a small number");
        Self {
            name,
            words: Words::new(SEATS_PER_SEGMENT * WORDS_PER_SEAT),
            holders: vec![holder; SEATS_PER_SEGMENT],
            // The lowest is taken first, because it lies at the end.
            free: (0..seats).rev().collect(),
        }
    }

    fn words_of(&self, index: usize) -> &[AtomicU64] {
        let first = index * WORDS_PER_SEAT;
        &self.words.all()[first..first + WORDS_PER_SEAT]
    }

    fn state(&self, index: usize) -> SeatState {
        // Relaxed, here and wherever words are read or written: each is a figure of its own, and
        // no memory is reached through it. The finalizer, which reads a state to decide by it,
        // runs in the thread that wrote it, or after that thread has ended.
        SeatState::from_word(self.words_of(index)[SeatWord::State as usize].load(Ordering::Relaxed))
    }
}

impl Seats {
    /// A seat for the block of `class` that goes to JavaScript on the loan `key`, in state
    /// [`SeatState::Idle`].
    ///
    /// # Panics
    ///
    /// At 2^32 seats, more than there can be blocks.
    pub fn take(&mut self, class: SizeClass, fresh: bool, key: LoanKey) -> u32 {
        let holder = Holder { class, fresh, key };
        // Low segments fill first, so that high ones empty.
        let open = self.open.iter().position(|bits| *bits != 0);
        let number = match open {
            Some(word) => word * 64 + self.open[word].trailing_zeros() as usize,
            None => self.add_segment(holder),
        };
        let segment = self.segments[number].as_mut().expect("an open segment");
        let index = usize::from(segment.free.pop().expect("a free seat"));
        segment.holders[index] = holder;
        if segment.free.is_empty() {
            self.open[number / 64] &= !(1 << (number % 64));
        }
        self.taken += 1;
        u32::try_from(number * SEATS_PER_SEGMENT + index).expect("below 2^32 seats")
    }

    fn add_segment(&mut self, holder: Holder) -> usize {
        self.last_name =
            self.last_name.checked_add(1).expect("fewer than 2^32 segments are ever made");
        let segment = Some(Segment::new(self.last_name, holder));
        let number = self.segments.iter().position(Option::is_none).unwrap_or(self.segments.len());
        match self.segments.get_mut(number) {
            Some(place) => *place = segment,
            None => self.segments.push(segment),
        }
        self.open.resize(self.segments.len().div_ceil(64), 0);
        self.open[number / 64] |= 1 << (number % 64);
        number
    }

    /// Frees the seat of a block that has left JavaScript, and tells what was on it. Allocates nothing:
    /// finalizers call this.
    ///
    /// # Panics
    ///
    /// When nobody has that seat.
    pub fn leave(&mut self, seat: u32) -> Leaving {
        let (number, index) = split(seat);
        let segment = self.segments[number].as_mut().expect("a block's seat");
        let take = |word: SeatWord| {
            let word = &segment.words_of(index)[word as usize];
            word.swap(0, Ordering::Relaxed)
        };
        let state = SeatState::from_word(take(SeatWord::State));
        let is_unused = f64::from_bits(take(SeatWord::Generation)) < 1.0;
        let sample = f64::from_bits(take(SeatWord::Sample));
        let Holder { class, fresh, .. } = segment.holders[index];
        segment.free.push(u16::try_from(index).expect("a small number"));
        let is_empty = segment.free.len() == SEATS_PER_SEGMENT;
        self.taken -= 1;
        self.detached -= usize::from(state == SeatState::Detached);
        let goes = is_empty && number > 0 && !self.is_fixed;
        if goes {
            self.segments[number] = None;
            self.open[number / 64] &= !(1 << (number % 64));
        } else {
            self.open[number / 64] |= 1 << (number % 64);
        }
        let unused = (fresh && is_unused).then_some(class);
        Leaving { left: Left { state, sample }, has_segment_gone: goes, unused }
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
        Some(self.segments.get(number)?.as_ref()?.holders[index].key)
    }

    /// What the block on `seat` is doing.
    ///
    /// # Panics
    ///
    /// When there is no such seat.
    pub fn state(&self, seat: u32) -> SeatState {
        let (number, index) = split(seat);
        self.segments[number].as_ref().expect("a block's seat").state(index)
    }

    /// Says what the block on `seat` is doing.
    ///
    /// # Panics
    ///
    /// When there is no such seat.
    pub fn set_state(&mut self, seat: u32, state: SeatState) {
        let (number, index) = split(seat);
        let segment = self.segments[number].as_ref().expect("a block's seat");
        let word = &segment.words_of(index)[SeatWord::State as usize];
        let before = SeatState::from_word(word.swap(state.to_word(), Ordering::Relaxed));
        self.detached += usize::from(state == SeatState::Detached);
        self.detached -= usize::from(before == SeatState::Detached);
    }

    /// Condemns blocks that are detached and on their way, until `bytes` of them are or none is
    /// left; tells `book` of each. Returns how many bytes were condemned.
    pub fn condemn_detached(&mut self, bytes: u64, mut book: impl FnMut(SizeClass)) -> u64 {
        let mut condemned = 0;
        for segment in self.segments.iter().flatten() {
            for (index, Holder { class, .. }) in segment.holders.iter().enumerate() {
                if condemned >= bytes || self.detached == 0 {
                    return condemned;
                }
                // No exchange: a detached block's state changes under the ledger's lock alone.
                let state = &segment.words_of(index)[SeatWord::State as usize];
                if state.load(Ordering::Relaxed) == SeatState::Detached.to_word() {
                    state.store(SeatState::Condemned.to_word(), Ordering::Relaxed);
                    self.detached -= 1;
                    condemned += class.block_size() as u64;
                    book(*class);
                }
            }
        }
        condemned
    }

    /// How many seats are taken.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// How many bytes the seats take.
    pub fn bytes(&self) -> usize {
        let segments = self.segments.iter().flatten().count() * Segment::BYTES;
        segments + self.segments.capacity() * size_of::<Option<Segment>>()
    }

    /// Adds to a seat's word, as JavaScript does.
    #[cfg(test)]
    pub fn add(&self, seat: u32, word: SeatWord, amount: u32) {
        let (number, index) = split(seat);
        let segment = self.segments[number].as_ref().expect("a block's seat");
        super::add_to(&segment.words_of(index)[word as usize], f64::from(amount));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(size: usize) -> SizeClass {
        SizeClass::fitting(size).expect("a class")
    }

    fn take(seats: &mut Seats, class: SizeClass) -> u32 {
        seats.take(class, true, LoanKey::default())
    }

    #[test]
    fn seats_are_used_again() {
        let mut seats = Seats::default();
        let (first, second) = (take(&mut seats, class(64)), take(&mut seats, class(64)));
        assert_ne!(first, second);
        seats.set_state(first, SeatState::Leased);
        assert_eq!(seats.leave(first).left.state, SeatState::Leased);
        assert_eq!(take(&mut seats, class(128)), first);
        assert_eq!(seats.leave(first).left.state, SeatState::Idle, "a new holder starts idle");
    }

    #[test]
    fn a_segment_goes_with_its_last_block() {
        let mut seats = Seats::default();
        let all: Vec<_> = (0..2 * SEATS_PER_SEGMENT).map(|_| take(&mut seats, class(64))).collect();
        let full = seats.bytes();
        let name = seats.segment(1).expect("the second segment").0;
        let (low, high) = all.split_at(SEATS_PER_SEGMENT);
        let goes: Vec<_> = high.iter().map(|seat| seats.leave(*seat).has_segment_gone).collect();
        assert_eq!(
            goes.iter().position(|goes| *goes),
            Some(SEATS_PER_SEGMENT - 1),
            "with the last"
        );
        assert!(seats.segment(1).is_none() && seats.loan_on(high[0]).is_none());
        assert!(seats.bytes() < full - SEATS_PER_SEGMENT * 16);
        let again = take(&mut seats, class(64));
        assert_eq!(again as usize, SEATS_PER_SEGMENT);
        assert_ne!(seats.segment(1).expect("a new one").0, name, "which has another name");
        seats.leave(again);
        assert!(low.iter().all(|seat| !seats.leave(*seat).has_segment_gone), "the first one stays");
        assert_eq!(seats.taken(), 0);
    }

    #[test]
    fn segments_stay_where_they_are() {
        let mut seats = Seats::default();
        take(&mut seats, class(64));
        let place = |seats: &Seats, number| seats.segment(number).map(|(_, words)| words.place());
        let before = place(&seats, 0);
        for _ in 0..3 * SEATS_PER_SEGMENT {
            take(&mut seats, class(64));
        }
        assert_eq!(place(&seats, 0), before);
        assert!(seats.segment(3).is_some() && seats.segment(4).is_none());
        assert!(seats.loan_on(4 * 512 - 1).is_some() && seats.loan_on(4 * 512).is_none());
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
        assert_eq!(seats.leave(all[3]).left.state, SeatState::Condemned);
    }

    #[test]
    fn an_unknown_state_is_read_as_leased() {
        assert_eq!(SeatState::from_word(f64::to_bits(200.0)), SeatState::Leased);
        assert_eq!(SeatState::from_word(7), SeatState::Leased);
        assert_eq!(SeatState::from_word(0), SeatState::Idle);
    }
}
