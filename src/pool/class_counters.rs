//! The counters of the core itself, by size class. The threads' own
//! [counters](super::ThreadCounters) have what happens on each lease.

use crate::memory::size_class::SizeClass;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// One class's counters: numbers of blocks since the pool was made. `loaned`, `quarantined` and
/// `seized` are balances.
///
/// ```text
///   fresh == idle in the depot + loaned + freed + quarantined      (at rest)
/// ```
#[derive(Default)]
pub struct ClassCounters {
    /// Blocks that came from the operating system.
    pub fresh: Count,
    /// Blocks given back to the operating system.
    pub freed: Count,
    /// Blocks that came back and were not stored; part of `freed`.
    pub discarded: Count,
    /// Blocks that a backing store has now, leased or idle. [`PoolCounters::lend`] and
    /// [`PoolCounters::take_back`] change it.
    pub loaned: Count,
    /// Leases that ended in the garbage collector.
    pub collected: Count,
    /// Leases that ended by a remote release: in another thread, or by an `ArrayBuffer` that the
    /// memory was moved to.
    pub remote: Count,
    /// Blocks in quarantine: their lender has ended, and another thread may hold them.
    pub quarantined: Count,
    /// Leases that ended because their block went into quarantine; part of `quarantined`.
    pub seized: Count,
}

/// All classes' counters, each made on first use.
pub struct PoolCounters {
    classes: [OnceLock<Box<ClassCounters>>; SizeClass::COUNT],
    /// Bytes of the blocks that count as loaned.
    loaned_bytes: AtomicUsize,
    /// The most that these ever were.
    most_loaned_bytes: AtomicUsize,
    /// The highest peak that was ever reported, in bytes.
    reported_peak: AtomicUsize,
}

impl PoolCounters {
    /// Makes counters at zero.
    pub fn new() -> Self {
        Self {
            classes: [const { OnceLock::new() }; SizeClass::COUNT],
            loaned_bytes: AtomicUsize::new(0),
            most_loaned_bytes: AtomicUsize::new(0),
            reported_peak: AtomicUsize::new(0),
        }
    }

    /// Counts a block as loaned.
    pub fn lend(&self, class: SizeClass) {
        self.class(class).loaned.add();
        let size = class.block_size();
        let loaned = self.loaned_bytes.fetch_add(size, Ordering::Relaxed) + size;
        self.most_loaned_bytes.fetch_max(loaned, Ordering::Relaxed);
    }

    /// Counts a block as no longer loaned.
    pub fn take_back(&self, class: SizeClass) {
        self.class(class).loaned.take();
        self.loaned_bytes.fetch_sub(class.block_size(), Ordering::Relaxed);
    }

    /// Returns the most bytes that were loaned at one time: an upper bound of those leased.
    pub fn most_loaned_bytes(&self) -> usize {
        self.most_loaned_bytes.load(Ordering::Relaxed)
    }

    /// Returns the peak to report, in bytes: never lower than an earlier one.
    pub fn raise_peak(&self, bytes: usize) -> usize {
        self.reported_peak.fetch_max(bytes, Ordering::Relaxed).max(bytes)
    }

    /// Returns the counters of one class.
    pub fn class(&self, class: SizeClass) -> &ClassCounters {
        self.classes[class.index()].get_or_init(Box::default)
    }

    /// Returns the same if the class has been used.
    pub fn used(&self, class: SizeClass) -> Option<&ClassCounters> {
        self.classes[class.index()].get().map(|counters| &**counters)
    }

    /// Returns how many blocks of a class exist.
    pub fn existing(&self, class: SizeClass) -> usize {
        self.used(class).map_or(0, |counters| {
            // `freed` first: while blocks move, the difference can only be too large.
            let freed = counters.freed.get();
            usize::try_from(counters.fresh.get().saturating_sub(freed)).unwrap_or(usize::MAX)
        })
    }

    /// Returns how many bytes the counters take, beyond those of an unused pool.
    pub fn bytes(&self) -> usize {
        SizeClass::all().filter_map(|class| self.used(class)).count() * size_of::<ClassCounters>()
    }
}

/// A counter that any thread may change.
///
/// All its operations are relaxed: it is a mere figure, and leads to no memory. While blocks move,
/// two counters can be out of step; at rest they are exact.
#[derive(Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds one.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one off.
    pub fn take(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns the count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
