//! The rows of a thread's blocks.

use super::ClassTotals;
#[cfg(test)]
use super::columns::SegmentColumn;
use super::columns::{BlockState, Left, RowColumn, SEGMENT_SHIFT};
use super::segment::{Counts, Segment, split};
use super::words::Words;
use crate::memory::size_class::SizeClass;
use crate::pool::loan::LoanKey;
use crate::sync::{AtomicU64, Ordering};

/// Rows of a class's first segment: a page and a half with their records. Loom can only follow a
/// few.
const FEWEST_ROWS: usize = if cfg!(loom) { 2 } else { 64 };

/// Rows of its largest segments. Each has as many as all before it, so that a million rows take
/// about 130 segments.
const MOST_ROWS: usize = 8192;

/// The rows of one thread, in segments of one class each, which come and go.
///
/// A segment is dropped when it is empty and half of its class's other rows are free. (So a thread
/// whose use swings around the edge of a segment does not drop it each time.) The first one of a
/// class stays. A new segment can take over the number, under a new name, which tells JavaScript
/// not to write to the old one.
pub struct Rows {
    /// By number. Their words never move while JavaScript has a view of them.
    segments: Vec<Option<Segment>>,
    /// By class, each made on first use.
    classes: [Option<Box<ClassRows>>; SizeClass::COUNT],
    /// The name of the segment that was made last.
    last_name: u32,
    /// The number of rows that are taken.
    taken: usize,
    /// The number of their blocks that are [`BlockState::Detached`].
    detached: usize,
    /// True if no segment may be dropped, because V8 has their words.
    is_fixed: bool,
}

/// The rows of one class.
#[derive(Default)]
struct ClassRows {
    /// The number of rows, taken or not.
    count: usize,
    /// The number of them that are taken.
    taken: usize,
    /// The number of an empty segment that stays for a while.
    empty: Option<usize>,
    /// A bit for each segment of the thread, set if it is of this class and has a free row.
    open: Vec<u64>,
    /// The counts of segments that have gone.
    gone: Counts,
}

impl Rows {
    /// Takes a row for the block of `class` that goes to JavaScript on the loan `key`, in state
    /// [`BlockState::Idle`].
    ///
    /// # Panics
    ///
    /// If no number is left for another segment, at 500 million rows.
    pub fn take(&mut self, class: SizeClass, key: LoanKey) -> u32 {
        // Low segments fill first, so that high ones become empty.
        let rows = self.classes[class.index()].get_or_insert_default();
        let number = match rows.open.iter().position(|bits| *bits != 0) {
            Some(word) => word * 64 + rows.open[word].trailing_zeros() as usize,
            None => self.add_segment(class),
        };
        let segment = self.segments[number].as_mut().expect("an open segment");
        let index = segment.free.pop().expect("a free row");
        segment.keys[usize::from(index)] = key;
        if let Some(rows) = &mut self.classes[class.index()] {
            if segment.free.is_empty() {
                rows.open[number / 64] &= !(1 << (number % 64));
            }
            rows.taken += 1;
            rows.empty = rows.empty.filter(|empty| *empty != number);
        }
        self.taken += 1;
        u32::try_from(number << SEGMENT_SHIFT).expect("fewer than 2^16 segments") | u32::from(index)
    }

    fn add_segment(&mut self, class: SizeClass) -> usize {
        let rows = self.classes[class.index()].get_or_insert_default();
        let count = rows.count.clamp(FEWEST_ROWS, MOST_ROWS);
        self.last_name = self.last_name.checked_add(1).expect("fewer than 2^32 are ever made");
        let segment = Some(Segment::new(self.last_name, class, rows.count == 0, count));
        rows.count += count;
        let number = self.segments.iter().position(Option::is_none).unwrap_or(self.segments.len());
        match self.segments.get_mut(number) {
            Some(place) => *place = segment,
            None => self.segments.push(segment),
        }
        rows.open.resize(rows.open.len().max(number / 64 + 1), 0);
        rows.open[number / 64] |= 1 << (number % 64);
        number
    }

    /// Frees the row of a block that has left JavaScript. Returns its contents, and whether a
    /// segment went with it. Allocates nothing: finalizers call this.
    ///
    /// # Panics
    ///
    /// If no block has that row.
    pub fn leave(&mut self, row: u32) -> (Left, bool) {
        let (number, index) = split(row);
        let segment = self.segments[number].as_mut().expect("a block's row");
        let take =
            |word: RowColumn| segment.words_of(index)[word as usize].swap(0, Ordering::Relaxed);
        let state = BlockState::from_word(take(RowColumn::State));
        let sample = f64::from_bits(take(RowColumn::Sample));
        segment.free.push(u16::try_from(index).expect("below MOST_ROWS"));
        self.taken -= 1;
        self.detached -= usize::from(state == BlockState::Detached);
        let rows = self.classes[segment.class.index()].as_mut().expect("a block's class");
        rows.open[number / 64] |= 1 << (number % 64);
        rows.taken -= 1;
        let is_empty = segment.free.len() == segment.keys.len();
        // Of two empty ones, the earlier goes at once.
        let goes = if is_empty && !segment.is_first && !self.is_fixed {
            rows.empty.replace(number)
        } else {
            None
        };
        let class = segment.class;
        let has_gone = goes.is_some_and(|number| self.drop_segment(class, number));
        (Left { state, sample }, self.drop_empty(class) || has_gone)
    }

    /// Drops the empty segment of a class if half of its other rows are free. Returns whether it
    /// has.
    fn drop_empty(&mut self, class: SizeClass) -> bool {
        let Some(rows) = &mut self.classes[class.index()] else { return false };
        let Some(number) = rows.empty else { return false };
        let others = rows.count - self.segments[number].as_ref().map_or(0, |it| it.keys.len());
        if 2 * rows.taken > others {
            return false;
        }
        rows.empty = None;
        self.drop_segment(class, number)
    }

    fn drop_segment(&mut self, class: SizeClass, number: usize) -> bool {
        let Some(segment) = self.segments[number].take() else { return false };
        let Some(rows) = &mut self.classes[class.index()] else { return false };
        rows.gone.add(segment.counts());
        rows.count -= segment.keys.len();
        rows.open[number / 64] &= !(1 << (number % 64));
        true
    }

    /// Returns the name and the words of the segment of that number.
    pub fn segment(&self, number: usize) -> Option<(u32, &Words)> {
        let segment = self.segments.get(number)?.as_ref()?;
        Some((segment.name, &segment.words))
    }

    /// Moves the words of a segment elsewhere, as [`Words::put`] does. From now on no segment is
    /// dropped.
    pub fn put(&mut self, number: usize, at: *const AtomicU64) {
        self.is_fixed = true;
        if let Some(Some(segment)) = self.segments.get_mut(number) {
            segment.words.put(at);
        }
    }

    /// Moves all words back that were put elsewhere.
    pub fn take_back(&mut self) {
        self.segments.iter_mut().flatten().for_each(|segment| segment.words.take_back());
    }

    /// Returns the loan of the block that has `row`, or had it last; `None` if there is no such
    /// row.
    pub fn loan_on(&self, row: u32) -> Option<LoanKey> {
        let (number, index) = split(row);
        self.segments.get(number)?.as_ref()?.keys.get(index).copied()
    }

    /// Returns the state of the block on `row`.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    pub fn state(&self, row: u32) -> BlockState {
        let (number, index) = split(row);
        let segment = self.segments[number].as_ref().expect("a block's row");
        BlockState::from_word(segment.state_word(index).load(Ordering::Relaxed))
    }

    /// Sets the state of the block on `row`.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    pub fn set_state(&mut self, row: u32, state: BlockState) {
        let (number, index) = split(row);
        let segment = self.segments[number].as_ref().expect("a block's row");
        let word = segment.state_word(index);
        let before = BlockState::from_word(word.swap(state.to_word(), Ordering::Relaxed));
        self.detached += usize::from(state == BlockState::Detached);
        self.detached -= usize::from(before == BlockState::Detached);
    }

    /// Marks detached blocks to be freed when they come back, until `bytes` of them are marked or
    /// none is left; calls `count` for each. Returns how many bytes were marked.
    pub fn free_detached(&mut self, bytes: u64, mut count: impl FnMut(SizeClass)) -> u64 {
        let mut freeing = 0;
        for segment in self.segments.iter().flatten() {
            for index in 0..segment.keys.len() {
                if freeing >= bytes || self.detached == 0 {
                    return freeing;
                }
                // No exchange: a detached block's state changes under the counters' lock alone.
                let state = segment.state_word(index);
                if state.load(Ordering::Relaxed) == BlockState::Detached.to_word() {
                    state.store(BlockState::Freeing.to_word(), Ordering::Relaxed);
                    self.detached -= 1;
                    freeing += segment.class.block_size() as u64;
                    count(segment.class);
                }
            }
        }
        freeing
    }

    /// Adds this thread's counts to `class_totals`, in time proportional to the number of segments.
    pub fn add_to(&self, class_totals: &mut ClassTotals) {
        let mut add = |class: usize, counts: Counts| {
            class_totals.leases[class] += counts.leases;
            class_totals.releases[class] += counts.releases;
            class_totals.asked_bytes[class] += counts.asked_bytes;
            class_totals.misses[class] += counts.misses;
        };
        for (class, rows) in self.classes.iter().enumerate() {
            if let Some(rows) = rows {
                add(class, rows.gone);
            }
        }
        for segment in self.segments.iter().flatten() {
            add(segment.class.index(), segment.counts());
        }
    }

    /// Returns how many rows are taken.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Returns how many bytes the rows take.
    pub fn bytes(&self) -> usize {
        let open = |class: &ClassRows| class.open.capacity() * size_of::<u64>();
        let classes = self.classes.iter().flatten();
        classes.map(|class| size_of::<ClassRows>() + open(class)).sum::<usize>()
            + self.segments.capacity() * size_of::<Option<Segment>>()
            + self.segments.iter().flatten().map(Segment::bytes).sum::<usize>()
    }

    /// Adds to a row's word, as JavaScript does.
    #[cfg(test)]
    pub fn add(&self, row: u32, word: RowColumn, amount: u32) {
        let (number, index) = split(row);
        let segment = self.segments[number].as_ref().expect("a block's row");
        super::add_to(&segment.words_of(index)[word as usize], f64::from(amount));
    }

    /// Adds to a word at the head of a row's segment, as JavaScript does.
    #[cfg(test)]
    pub fn add_to_head(&self, row: u32, word: SegmentColumn, amount: u32) {
        let segment = self.segments[split(row).0].as_ref().expect("a block's row");
        super::add_to(&segment.words.all()[word as usize], f64::from(amount));
    }
}

impl Default for Rows {
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

    fn take(rows: &mut Rows, class: SizeClass) -> u32 {
        rows.take(class, LoanKey::default())
    }

    #[test]
    fn rows_are_used_again() {
        let mut rows = Rows::default();
        let (first, second) = (take(&mut rows, class(64)), take(&mut rows, class(64)));
        assert_ne!(first, second);
        rows.set_state(first, BlockState::Leased);
        assert_eq!(rows.leave(first).0.state, BlockState::Leased);
        assert_eq!(take(&mut rows, class(64)), first);
        assert_eq!(rows.leave(first).0.state, BlockState::Idle, "a new holder starts idle");
        let other = take(&mut rows, class(128));
        assert_ne!(split(other).0, split(second).0, "another class, another segment");
    }

    #[test]
    fn a_segment_goes_when_it_is_empty_and_the_others_are_half_empty() {
        let mut rows = Rows::default();
        let all: Vec<_> = (0..2 * FEWEST_ROWS).map(|_| take(&mut rows, class(64))).collect();
        let full = rows.bytes();
        let name = rows.segment(1).expect("the second segment").0;
        let (low, high) = all.split_at(FEWEST_ROWS);
        rows.add_to_head(high[0], SegmentColumn::Leases, 3);
        assert!(high.iter().all(|row| !rows.leave(*row).1), "the first one is full");
        for _ in 0..3 {
            let again = take(&mut rows, class(64));
            assert_eq!(rows.segment(1).map(|(other, _)| other), Some(name), "it is there again");
            rows.leave(again);
        }
        let goes: Vec<_> = low.iter().map(|row| rows.leave(*row).1).collect();
        assert_eq!(goes.iter().position(|goes| *goes), Some(FEWEST_ROWS / 2 - 1));
        assert_eq!(goes.iter().filter(|goes| **goes).count(), 1, "the first one stays");
        assert!(rows.segment(1).is_none() && rows.loan_on(high[0]).is_none());
        assert!(rows.bytes() < full - FEWEST_ROWS * 16);
        let mut class_totals = ClassTotals::default();
        rows.add_to(&mut class_totals);
        assert!((class_totals.leases[0] - 3.0).abs() < 0.5, "its figures stay");
        assert_eq!(rows.taken(), 0);
        let again: Vec<_> = (0..=FEWEST_ROWS).map(|_| take(&mut rows, class(64))).collect();
        assert_eq!(split(again[FEWEST_ROWS]), (1, 0));
        assert_ne!(rows.segment(1).expect("a new one").0, name, "which has another name");
    }

    #[test]
    fn many_rows_are_in_few_segments() {
        let mut rows = Rows::default();
        let all: Vec<_> = (0..200_000).map(|_| take(&mut rows, class(64))).collect();
        assert!(rows.segments.len() < 40, "{} segments", rows.segments.len());
        assert!(rows.bytes() < 8_000_000, "40 bytes a row");
        for row in all {
            rows.leave(row);
        }
        assert_eq!(rows.segments.iter().flatten().count(), 1);
    }

    #[test]
    fn segments_stay_where_they_are() {
        let mut rows = Rows::default();
        take(&mut rows, class(64));
        let place = |rows: &Rows, number| rows.segment(number).map(|(_, words)| words.place());
        let before = place(&rows, 0);
        for _ in 0..3 * FEWEST_ROWS {
            take(&mut rows, class(64));
        }
        assert_eq!(place(&rows, 0), before);
        assert!(rows.segment(2).is_some() && rows.segment(3).is_none());
        assert!(rows.loan_on(63).is_some() && rows.loan_on(64).is_none());
    }

    #[test]
    fn only_detached_blocks_are_marked_to_be_freed() {
        let mut rows = Rows::default();
        let all: Vec<_> = (0..4).map(|_| take(&mut rows, class(64))).collect();
        rows.set_state(all[1], BlockState::Detached);
        rows.set_state(all[3], BlockState::Detached);
        rows.set_state(all[2], BlockState::Leased);
        let mut counted = 0;
        assert_eq!(rows.free_detached(1, |_| counted += 1), 64);
        assert_eq!(rows.free_detached(u64::MAX, |_| counted += 1), 64);
        assert_eq!(rows.free_detached(u64::MAX, |_| counted += 1), 0);
        assert_eq!(counted, 2);
        assert_eq!(rows.leave(all[3]).0.state, BlockState::Freeing);
    }
}
