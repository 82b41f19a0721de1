//! The columns of the counters, and the states of a block: numbers that JavaScript has as well.
//!
//! `lib/cache/thread-counters.js` has them as constants; `__test__/cache/constants.test.js`
//! compares.

/// The columns of the whole thread, in [`ThreadCounters::words`](super::ThreadCounters::words).
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub enum Column {
    /// Block bytes of leases that ended without a release in this thread: collected, or released
    /// where they had been posted to. The core writes it.
    EndedElsewhereBytes = 0,
    /// The most block bytes leased at one time. JavaScript writes it.
    PeakBytes = 1,
    /// Leases that V8 served, because no block is large enough or none was needed. JavaScript
    /// writes it.
    UnpooledCount = 2,
    /// Bytes requested in them. JavaScript writes it.
    UnpooledBytes = 3,
    /// The number of them that were released. JavaScript writes it.
    UnpooledReleases = 4,
    /// The row of the block that was lent last. The core writes it.
    LastRow = 5,
    /// The name of the segment with that row. The core writes it.
    LastSegment = 6,
    /// The number of segments that have gone. The core writes it.
    SegmentsGone = 7,
    /// 1 if the block that was lent last came from the operating system, else 0. The core writes
    /// it.
    LastIsFresh = 8,
    /// The most block bytes leased at one time in this interval and the one before. JavaScript
    /// writes it.
    RecentPeakBytes = 9,
    /// Idle bytes that this thread must free because of the block that was lent last. The core
    /// writes it.
    SurplusBytes = 10,
}

impl Column {
    /// Every column, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::EndedElsewhereBytes,
        Self::PeakBytes,
        Self::UnpooledCount,
        Self::UnpooledBytes,
        Self::UnpooledReleases,
        Self::LastRow,
        Self::LastSegment,
        Self::SegmentsGone,
        Self::LastIsFresh,
        Self::RecentPeakBytes,
        Self::SurplusBytes,
    ];
}

/// The columns at the head of a segment: counts of the blocks that have, or had, rows in it.
/// JavaScript writes them.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub enum SegmentColumn {
    /// Leases, counted up from `Base`. The lease at which the count reaches 0 is sampled, so one
    /// comparison decides that.
    Leases = 0,
    /// The number at which counting began.
    Base = 1,
    /// Bytes requested.
    AskedBytes = 2,
    /// Releases in this thread.
    Releases = 3,
    /// Leases for which a block had to come from the operating system.
    Misses = 4,
}

impl SegmentColumn {
    /// Every column, in the order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::Leases, Self::Base, Self::AskedBytes, Self::Releases, Self::Misses];
}

/// Columns at the head of a segment, before its rows: at least those of [`SegmentColumn`]. Even, so
/// that no row lies on two cache lines.
pub const HEAD_COLUMNS: usize = 6;

const _: () = assert!(SegmentColumn::ALL.len() <= HEAD_COLUMNS);

/// The columns of one row. JavaScript writes them, except that the core writes the state when the
/// block is detached.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub enum RowColumn {
    /// A [`BlockState`].
    State = 0,
    /// The number of the record of its call site, while its state is [`BlockState::Sampled`].
    Sample = 1,
}

impl RowColumn {
    /// Every column, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::State, Self::Sample];
}

/// Columns of each row.
pub const COLUMNS_PER_ROW: usize = 2;

/// By how many bits the number of a row holds its segment's number shifted.
pub const SEGMENT_SHIFT: u32 = 16;

/// The state of a block that JavaScript has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BlockState {
    /// In a magazine.
    Idle = 0,
    /// The user has it.
    Leased = 1,
    /// Detached by us: no `ArrayBuffer` has it any more, and its finalizer will run.
    Detached = 2,
    /// Detached by us to be freed: the counters already call it freed.
    Freeing = 3,
    /// Released by another thread than its lender, or by an `ArrayBuffer` that it was moved to.
    ReleasedRemotely = 4,
    /// The user has it, and its call site is recorded.
    Sampled = 5,
}

impl BlockState {
    /// Every state, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Idle,
        Self::Leased,
        Self::Detached,
        Self::Freeing,
        Self::ReleasedRemotely,
        Self::Sampled,
    ];

    /// Returns whether the user has the block.
    pub fn is_leased(self) -> bool {
        matches!(self, Self::Leased | Self::Sampled)
    }

    pub(super) fn to_word(self) -> u64 {
        f64::from(self as u8).to_bits()
    }

    pub(super) fn from_word(word: u64) -> Self {
        // An unknown word is read as the state that demands the most care: a leased block may be
        // anywhere.
        Self::ALL.into_iter().find(|state| state.to_word() == word).unwrap_or(Self::Leased)
    }
}

/// The contents of a row when its block left it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Left {
    /// The block's state.
    pub state: BlockState,
    /// The number of the record of its call site, if it was [`BlockState::Sampled`].
    pub sample: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_word_is_read_as_leased() {
        assert_eq!(BlockState::from_word(f64::to_bits(200.0)), BlockState::Leased);
        assert_eq!(BlockState::from_word(7), BlockState::Leased);
        assert_eq!(BlockState::from_word(0), BlockState::Idle);
    }

    #[test]
    fn numbers_are_places_in_the_list_of_all() {
        for (number, column) in Column::ALL.into_iter().enumerate() {
            assert_eq!(column as usize, number);
        }
        for (number, column) in SegmentColumn::ALL.into_iter().enumerate() {
            assert_eq!(column as usize, number);
        }
        for (number, column) in RowColumn::ALL.into_iter().enumerate() {
            assert_eq!(column as usize, number);
        }
        for (number, state) in BlockState::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, number);
        }
    }
}
