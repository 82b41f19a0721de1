//! What the core itself counts, per size class. What happens on each lease stands in the
//! threads' [counters](super::ThreadCounters).

use crate::memory::size_class::SizeClass;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// One class's counters: numbers of blocks, since the pool was made, except `loaned`, which is a
/// balance.
///
/// ```text
///   fresh == idle in the depot + loaned + freed + quarantined      (at rest)
/// ```
#[derive(Default)]
pub struct ClassCounters {
    /// Got from the operating system.
    pub fresh: Count,
    /// Given back to the operating system.
    pub freed: Count,
    /// Came back and were not kept; part of `freed`.
    pub discarded: Count,
    /// With a backing store now, leased or idle. [`PoolCounters::lend`] and [`PoolCounters::take_back`] move it.
    pub loaned: Count,
    /// Leases that ended in the garbage collector.
    pub collected: Count,
    /// Leases that ended by a release elsewhere: in another thread, or by an `ArrayBuffer` that the memory was
    /// moved to.
    pub remote: Count,
    /// Set aside: with another thread than the lender, which has ended, until the last holder is gone.
    pub quarantined: Count,
    /// Leases that ended because their block was set aside; part of `quarantined`.
    pub seized: Count,
}

/// All classes' counters, each made when its class is first used.
pub struct PoolCounters {
    classes: [OnceLock<Box<ClassCounters>>; SizeClass::COUNT],
    /// Bytes of the blocks that count as loaned.
    loaned_bytes: AtomicUsize,
    /// The most that these came to.
    most_loaned_bytes: AtomicUsize,
    /// The highest peak that was ever told, in bytes.
    reported_peak: AtomicUsize,
}

impl PoolCounters {
    /// Everything at zero.
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

    /// Counts a block as loaned no more.
    pub fn take_back(&self, class: SizeClass) {
        self.class(class).loaned.take();
        self.loaned_bytes.fetch_sub(class.block_size(), Ordering::Relaxed);
    }

    /// The most bytes that were loaned at one time. So many were never leased: what is leased is loaned.
    pub fn most_loaned_bytes(&self) -> usize {
        self.most_loaned_bytes.load(Ordering::Relaxed)
    }

    /// A peak to be told, in bytes: no lower than one that was told before.
    pub fn raise_peak(&self, bytes: usize) -> usize {
        self.reported_peak.fetch_max(bytes, Ordering::Relaxed).max(bytes)
    }

    /// The counters of one class.
    pub fn class(&self, class: SizeClass) -> &ClassCounters {
        self.classes[class.index()].get_or_init(Box::default)
    }

    /// The same, of a class that has been used.
    pub fn used(&self, class: SizeClass) -> Option<&ClassCounters> {
        self.classes[class.index()].get().map(|counters| &**counters)
    }

    /// How many blocks there are of a class.
    pub fn existing(&self, class: SizeClass) -> usize {
        self.used(class).map_or(0, |counters| {
            // Freed first: the difference is at most too large while blocks move.
            let freed = counters.freed.get();
            usize::try_from(counters.fresh.get().saturating_sub(freed)).unwrap_or(usize::MAX)
        })
    }

    /// How many bytes the counters take, beyond those of an unused pool.
    pub fn bytes(&self) -> usize {
        SizeClass::all().filter_map(|class| self.used(class)).count() * size_of::<ClassCounters>()
    }
}

/// A counter that any thread may move.
///
/// All its operations are relaxed: it is a figure to look at, and no memory is reached through
/// it. While blocks move, two counters can be out of step; at rest they are exact.
#[derive(Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub fn take(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
