//! The counters that a thread's JavaScript writes without a call to the core.
//!
//! A store into native memory costs JavaScript 1 ns, a call into Rust a hundred. So each thread
//! writes its counts, and the states of its blocks, to memory that the core, other threads and
//! finalizers read.
//!
//! ```text
//!   words:    ended elsewhere │ peak │ unpooled …                           the whole thread's
//!   segments: leases, asked, releases … │ state, sample │ state …  of one class: a head and its rows
//! ```
//!
//! Each segment has one set of counters for all its blocks, so adding up takes time proportional to
//! the number of segments: about 130 for a million blocks. A lease writes to one segment only.
//!
//! The words are the core's own memory. Where the runtime allows JavaScript no view of that, the
//! binding puts them into V8's memory until it [takes them back](ThreadCounters::take_back_words).
//!
//! - JavaScript MUST write a word only where the enums in `columns.rs` say that it does.
//! - JavaScript MUST write a row's words only while it has that row's `ArrayBuffer`, attached: the
//!   row of a detached one may have a new holder.
//! - No other thread's JavaScript may write, and the core writes only its own columns.

mod columns;
mod rows;
mod segment;
mod words;

pub use columns::{
    BlockState, COLUMNS_PER_ROW, Column, HEAD_COLUMNS, Left, RowColumn, SEGMENT_SHIFT,
    SegmentColumn,
};
pub use words::WordMemory;

use super::loan::LoanKey;
use crate::memory::size_class::SizeClass;
use crate::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering};
use rows::Rows;
use std::sync::PoisonError;
use words::Words;

/// Columns of the whole thread.
const WORDS: usize = Column::ALL.len();

/// One thread's counters, and the rows of its blocks.
pub struct ThreadCounters {
    /// `f64` bits, as JavaScript's `Float64Array` sees them.
    words: Mutex<Words>,
    rows: Mutex<Rows>,
    /// Set when the thread has left the pool. Its blocks may come back later.
    retired: AtomicBool,
}

/// Sums of several threads' counts, by class.
#[derive(Clone, Debug)]
pub struct ClassTotals {
    /// Leases.
    pub leases: [f64; SizeClass::COUNT],
    /// Releases by the threads that had leased.
    pub releases: [f64; SizeClass::COUNT],
    /// Bytes requested in the leases.
    pub asked_bytes: [f64; SizeClass::COUNT],
    /// Leases for which a block had to come from the operating system.
    pub misses: [f64; SizeClass::COUNT],
}

impl Default for ClassTotals {
    fn default() -> Self {
        let zeros = [0.0; SizeClass::COUNT];
        Self { leases: zeros, releases: zeros, asked_bytes: zeros, misses: zeros }
    }
}

impl ThreadCounters {
    /// Makes counters with every figure at zero and no row.
    pub fn new() -> Self {
        Self {
            words: Mutex::new(Words::new(WORDS)),
            rows: Mutex::default(),
            retired: AtomicBool::new(false),
        }
    }

    /// Returns the address of the thread's words, their length in bytes, and their memory. They
    /// stay there as long as the memory lives, or until they are put elsewhere.
    pub fn words(&self) -> (*const AtomicU64, usize, WordMemory) {
        let words = self.lock_words();
        let (at, length) = words.place();
        (at, length, words.memory())
    }

    /// Returns the same for the words of a segment.
    pub fn segment(&self, number: usize) -> Option<(*const AtomicU64, usize, WordMemory)> {
        let rows = self.rows();
        let (_, words) = rows.segment(number)?;
        let (at, length) = words.place();
        Some((at, length, words.memory()))
    }

    /// Returns whether the segment of that number still has that name.
    pub fn has_segment(&self, number: usize, name: u32) -> bool {
        self.rows().segment(number).is_some_and(|(other, _)| other == name)
    }

    /// Moves the thread's words to `at`.
    ///
    /// # Safety
    ///
    /// The memory there is as long as [`words`](Self::words) says, and lives until
    /// [`take_back_words`](Self::take_back_words) has returned.
    pub unsafe fn put_words(&self, at: *const AtomicU64) {
        self.lock_words().put(at);
    }

    /// Does the same for a segment. From now on no segment is dropped.
    ///
    /// # Safety
    ///
    /// The same as for [`put_words`](Self::put_words).
    pub unsafe fn put_segment(&self, number: usize, at: *const AtomicU64) {
        self.rows().put(number, at);
    }

    /// Moves all words back that were put elsewhere. JavaScript writes none any more.
    pub fn take_back_words(&self) {
        self.lock_words().take_back();
        self.rows().take_back();
    }

    /// Takes a row for the block of `class` that goes to JavaScript on the loan `key`, in state
    /// [`BlockState::Idle`].
    ///
    /// # Panics
    ///
    /// At 500 million rows, which is more than there can be `ArrayBuffer`s.
    pub fn take_row(&self, class: SizeClass, key: LoanKey) -> u32 {
        self.rows().take(class, key)
    }

    /// Frees the row of a block that has left JavaScript, and returns its contents. Allocates
    /// nothing: finalizers call this.
    ///
    /// # Panics
    ///
    /// If no block has that row.
    pub fn leave_row(&self, row: u32) -> Left {
        let (left, has_segment_gone) = self.rows().leave(row);
        if has_segment_gone {
            self.add(Column::SegmentsGone, 1.0);
        }
        left
    }

    /// Shows JavaScript which block was lent last; `fresh`: it came from the operating system.
    pub fn show_row(&self, row: u32, fresh: bool) {
        let number = (row >> SEGMENT_SHIFT) as usize;
        let name = self.rows().segment(number).map_or(0, |(name, _)| name);
        let words = self.lock_words();
        let store = |word: Column, value: u32| {
            words.all()[word as usize].store(f64::from(value).to_bits(), Ordering::Relaxed);
        };
        store(Column::LastRow, row);
        store(Column::LastSegment, name);
        store(Column::LastIsFresh, fresh.into());
    }

    /// Shows JavaScript how many idle bytes it must free.
    #[expect(clippy::cast_precision_loss, reason = "no pool holds 2^52 bytes")]
    pub fn show_surplus(&self, bytes: usize) {
        let word = Column::SurplusBytes as usize;
        self.lock_words().all()[word].store((bytes as f64).to_bits(), Ordering::Relaxed);
    }

    /// Returns the loan of the block that has `row`, or had it last; `None` if there is no such
    /// row.
    pub fn loan_on(&self, row: u32) -> Option<LoanKey> {
        self.rows().loan_on(row)
    }

    /// Marks detached blocks to be freed when they come back, until `bytes` of them are marked or
    /// none is left; calls `count` for each. Returns how many bytes were marked.
    pub fn free_detached(&self, bytes: u64, count: impl FnMut(SizeClass)) -> u64 {
        self.rows().free_detached(bytes, count)
    }

    /// Adds this thread's counts to `class_totals`.
    pub fn add_to(&self, class_totals: &mut ClassTotals) {
        self.rows().add_to(class_totals);
    }

    /// Sets the state of the block on `row`.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    pub fn set_state(&self, row: u32, state: BlockState) {
        self.rows().set_state(row, state);
    }

    /// Marks the block on `row` as released remotely. Returns whether it was leased until now.
    pub fn release_remotely(&self, row: u32) -> bool {
        let mut rows = self.rows();
        let is_leased = rows.state(row).is_leased();
        if is_leased {
            rows.set_state(row, BlockState::ReleasedRemotely);
        }
        is_leased
    }

    /// Returns the state of the block on `row`.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    pub fn state(&self, row: u32) -> BlockState {
        self.rows().state(row)
    }

    /// Notes that the thread has left the pool, and writes no word any more.
    pub fn retire(&self) {
        // Relaxed, here and in `is_final`: a caller that asks a moment too early asks again.
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Returns whether no figure here will change again: the thread has left, and all its blocks
    /// have come back.
    pub fn is_final(&self) -> bool {
        self.retired.load(Ordering::Relaxed) && self.rows().taken() == 0
    }

    /// Returns how many bytes the counters take.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + WORDS * size_of::<u64>() + self.rows().bytes()
    }

    /// Reads one of the thread's columns.
    pub fn read(&self, word: Column) -> f64 {
        f64::from_bits(self.lock_words().all()[word as usize].load(Ordering::Relaxed))
    }

    /// Adds to [`Column::EndedElsewhereBytes`].
    #[expect(clippy::cast_precision_loss, reason = "a block is below 2^52 bytes")]
    pub fn add_ended_elsewhere(&self, bytes: usize) {
        self.add(Column::EndedElsewhereBytes, bytes as f64);
    }

    /// Adds to a column that only the core writes.
    fn add(&self, word: Column, amount: f64) {
        // No exchange: only the core writes it, under this lock.
        add_to(&self.lock_words().all()[word as usize], amount);
    }

    /// Writes one of the thread's columns, as JavaScript does.
    #[cfg(test)]
    pub fn write(&self, word: Column, value: u32) {
        self.lock_words().all()[word as usize].store(f64::from(value).to_bits(), Ordering::Relaxed);
    }

    /// Adds to a word at the head of a row's segment, as JavaScript does.
    #[cfg(test)]
    pub fn add_to_head(&self, row: u32, word: SegmentColumn, amount: u32) {
        self.rows().add_to_head(row, word, amount);
    }

    /// Adds to a row's word, as JavaScript does.
    #[cfg(test)]
    pub fn add_to_row(&self, row: u32, word: RowColumn, amount: u32) {
        self.rows().add(row, word, amount);
    }

    fn lock_words(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add_to(word: &AtomicU64, amount: f64) {
    let sum = f64::from_bits(word.load(Ordering::Relaxed)) + amount;
    word.store(sum.to_bits(), Ordering::Relaxed);
}

impl Default for ThreadCounters {
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
        let counters = ThreadCounters::new();
        for (size, leases, releases) in [(64, 5, 3), (4096, 2, 0)] {
            let row = counters.take_row(class(size), LoanKey::default());
            counters.add_to_head(row, SegmentColumn::Leases, leases);
            counters.add_to_head(row, SegmentColumn::Releases, releases);
            counters.add_to_head(row, SegmentColumn::AskedBytes, 9);
            counters.add_to_head(row, SegmentColumn::Misses, 1);
        }
        let mut class_totals = ClassTotals::default();
        counters.add_to(&mut class_totals);
        let counted: Vec<_> = SizeClass::all()
            .map(SizeClass::index)
            .filter(|index| class_totals.leases[*index] > 0.0)
            .map(|index| {
                (
                    class_totals.leases[index],
                    class_totals.releases[index],
                    class_totals.asked_bytes[index],
                )
            })
            .collect();
        assert_eq!(counted, [(5.0, 3.0, 9.0), (2.0, 0.0, 9.0)]);
    }

    #[test]
    fn is_final_when_its_last_block_is_back() {
        let counters = ThreadCounters::new();
        let row = counters.take_row(class(4096), LoanKey::default());
        assert!(!counters.is_final());
        counters.retire();
        assert!(!counters.is_final());
        counters.leave_row(row);
        assert!(counters.is_final());
    }

    #[test]
    fn ended_elsewhere_bytes_add_up() {
        let counters = ThreadCounters::new();
        counters.add_ended_elsewhere(64);
        counters.add_ended_elsewhere(1 << 20);
        assert!((counters.read(Column::EndedElsewhereBytes) - 1_048_640.0).abs() < f64::EPSILON);
    }

    #[test]
    fn the_last_row_is_shown_with_its_segment() {
        let counters = ThreadCounters::new();
        let [first, second] =
            [64, 128].map(|size| counters.take_row(class(size), LoanKey::default()));
        let shown = |word| counters.read(word);
        counters.show_row(first, true);
        let name = shown(Column::LastSegment);
        assert!((shown(Column::LastIsFresh) - 1.0).abs() < 0.5);
        counters.show_row(second, false);
        assert!((shown(Column::LastRow) - f64::from(second)).abs() < 0.5);
        assert!((shown(Column::LastSegment) - name).abs() > 0.5, "another one");
        assert!(shown(Column::LastIsFresh).abs() < 0.5);
        assert!(counters.has_segment(1, 2) && !counters.has_segment(1, 1));
    }

    #[test]
    fn words_elsewhere() {
        let counters = ThreadCounters::new();
        let row = counters.take_row(class(64), LoanKey::default());
        counters.write(Column::PeakBytes, 7);
        counters.set_state(row, BlockState::Leased);
        let elsewhere = Words::new(WORDS);
        let (_, length, _memory) = counters.segment(0).expect("the segment");
        let segment = Words::new(length / size_of::<u64>());
        // SAFETY: both live until the counters take the words back, below.
        unsafe { counters.put_words(elsewhere.place().0) };
        // SAFETY: as above.
        unsafe { counters.put_segment(0, segment.place().0) };
        let peak = || counters.read(Column::PeakBytes);
        assert!((peak() - 7.0).abs() < f64::EPSILON, "they come along");
        let sample = HEAD_COLUMNS + RowColumn::Sample as usize;
        elsewhere.all()[Column::PeakBytes as usize].store(9f64.to_bits(), Ordering::Relaxed);
        segment.all()[sample].store(3f64.to_bits(), Ordering::Relaxed);
        counters.take_back_words();
        elsewhere.all()[Column::PeakBytes as usize].store(0, Ordering::Relaxed);
        segment.all()[sample].store(0, Ordering::Relaxed);
        assert!((peak() - 9.0).abs() < f64::EPSILON, "and go back");
        let left = counters.leave_row(row);
        assert_eq!(left, Left { state: BlockState::Leased, sample: 3.0 });
    }

    #[test]
    fn only_what_is_leased_is_surrendered() {
        let counters = ThreadCounters::new();
        let row = counters.take_row(class(64), LoanKey::default());
        assert!(!counters.release_remotely(row));
        counters.set_state(row, BlockState::Leased);
        assert!(counters.release_remotely(row));
        assert!(!counters.release_remotely(row));
        assert_eq!(counters.leave_row(row).state, BlockState::ReleasedRemotely);
    }
}
