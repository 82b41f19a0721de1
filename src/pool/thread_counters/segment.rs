//! One segment of a thread's rows.

use super::columns::{COLUMNS_PER_ROW, HEAD_COLUMNS, RowColumn, SEGMENT_SHIFT, SegmentColumn};
use super::words::Words;
use crate::memory::size_class::SizeClass;
use crate::pool::loan::LoanKey;
use crate::sync::{AtomicU64, Ordering};

/// The counts at the head of a segment.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    pub leases: f64,
    pub releases: f64,
    pub asked_bytes: f64,
    pub misses: f64,
}

impl Counts {
    pub fn add(&mut self, other: Self) {
        self.leases += other.leases;
        self.releases += other.releases;
        self.asked_bytes += other.asked_bytes;
        self.misses += other.misses;
    }
}

/// Rows for blocks of one class, with the words that JavaScript writes for them.
pub struct Segment {
    pub name: u32,
    pub class: SizeClass,
    pub is_first: bool,
    pub words: Words,
    /// The loan of the block that has each row, or had it last.
    pub keys: Vec<LoanKey>,
    /// The rows that no block has. Its capacity is the number of rows.
    pub free: Vec<u16>,
}

impl Segment {
    /// Makes a segment of `rows` free rows.
    pub fn new(name: u32, class: SizeClass, is_first: bool, rows: usize) -> Self {
        let last = u16::try_from(rows).expect("MOST_ROWS at most");
        Self {
            name,
            class,
            is_first,
            words: Words::new(HEAD_COLUMNS + rows * COLUMNS_PER_ROW),
            keys: vec![LoanKey::default(); rows],
            // The lowest is taken first, because it is at the end.
            free: (0..last).rev().collect(),
        }
    }

    /// Returns the words of one row.
    pub fn words_of(&self, index: usize) -> &[AtomicU64] {
        let first = HEAD_COLUMNS + index * COLUMNS_PER_ROW;
        &self.words.all()[first..first + COLUMNS_PER_ROW]
    }

    /// Returns the word with the state of one row.
    pub fn state_word(&self, index: usize) -> &AtomicU64 {
        &self.words_of(index)[RowColumn::State as usize]
    }

    fn head(&self, word: SegmentColumn) -> f64 {
        // Relaxed, here and wherever words are read or written: each is a figure of its own, and
        // leads to no memory. A finalizer decides by a state that it reads, but it runs in the
        // thread that wrote it, or after that thread has ended.
        f64::from_bits(self.words.all()[word as usize].load(Ordering::Relaxed))
    }

    /// Returns what JavaScript has counted here.
    pub fn counts(&self) -> Counts {
        let leases = self.head(SegmentColumn::Leases) - self.head(SegmentColumn::Base);
        Counts {
            leases,
            releases: self.head(SegmentColumn::Releases),
            asked_bytes: self.head(SegmentColumn::AskedBytes),
            // A block may have been lent, and never leased.
            misses: self.head(SegmentColumn::Misses).min(leases),
        }
    }

    /// Returns how many bytes the segment takes.
    pub fn bytes(&self) -> usize {
        self.words.place().1 + self.keys.len() * (size_of::<LoanKey>() + size_of::<u16>())
    }
}

/// Splits the number of a row into its segment's number, and its index there.
pub fn split(row: u32) -> (usize, usize) {
    ((row >> SEGMENT_SHIFT) as usize, (row & ((1 << SEGMENT_SHIFT) - 1)) as usize)
}
