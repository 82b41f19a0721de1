//! A snapshot of the counters.

use super::class_counters::ClassCounters;
use super::thread_counters::{ClassTotals, Column, ThreadCounters};
use super::unpooled::UnpooledTable;
use crate::memory::size_class::SizeClass;
use std::time::Duration;

/// The sums of the threads' counters.
///
/// The figures are JavaScript numbers: whole, and exact up to 2^53.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    unpooled_count: f64,
    unpooled_bytes: f64,
    unpooled_releases: f64,
    classes: ClassTotals,
}

impl Totals {
    /// Adds one thread's counts.
    pub fn add(&mut self, counters: &ThreadCounters) {
        self.unpooled_count += counters.read(Column::UnpooledCount);
        self.unpooled_bytes += counters.read(Column::UnpooledBytes);
        self.unpooled_releases += counters.read(Column::UnpooledReleases);
        counters.add_to(&mut self.classes);
    }

    /// Returns the block bytes of leases that their own threads have not ended.
    #[expect(clippy::cast_precision_loss, reason = "block sizes are far below 2^52")]
    pub fn leased_bytes(&self) -> f64 {
        let ClassTotals { leases, releases, .. } = &self.classes;
        let bytes = |class: SizeClass| {
            (leases[class.index()] - releases[class.index()]) * class.block_size() as f64
        };
        // This does not use `sum`, which returns -0 for an empty iterator.
        SizeClass::all().map(bytes).fold(0.0, |sum, bytes| sum + bytes)
    }
}

/// The name of a figure in JavaScript, and its value.
pub type FigureColumn = (&'static str, fn(&Figures) -> f64);

/// One class's figures, or the whole pool's.
///
/// At rest `fresh_bytes == in_use_bytes + idle_bytes + freed_bytes + quarantined_bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Blocks leased now.
    pub in_use_count: f64,
    /// Their bytes.
    pub in_use_bytes: f64,
    /// Blocks in the depot and in all magazines, or between the two.
    pub idle_count: f64,
    /// Their bytes.
    pub idle_bytes: f64,
    /// Leases.
    pub alloc_count: f64,
    /// Bytes requested.
    pub alloc_bytes: f64,
    /// Blocks that came from the operating system.
    pub fresh_count: f64,
    /// Their bytes.
    pub fresh_bytes: f64,
    /// Leases served from idle blocks.
    pub hit_count: f64,
    /// Leases for which a block had to come from the operating system.
    pub miss_count: f64,
    /// Releases.
    pub release_count: f64,
    /// Leases that ended in the garbage collector.
    pub collected_count: f64,
    /// Blocks that came back and were not stored.
    pub discard_count: f64,
    /// Bytes given back to the operating system.
    pub freed_bytes: f64,
    /// Bytes of ended threads that another may hold: in quarantine until the last holder is gone,
    /// and forever if there is no witness of that.
    pub quarantined_bytes: f64,
}

/// A snapshot of a pool.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// All classes together, unpooled leases included where they count.
    pub total: Figures,
    /// The most block bytes leased at one time. With several threads it is the lesser of two upper
    /// bounds: the sum of the peaks of threads attached at the same time, and the most bytes ever
    /// loaned.
    pub peak_in_use_bytes: f64,
    /// Leases that V8 served.
    pub unpooled_count: f64,
    /// The number of requests that have waited for a block.
    pub wait_count: u64,
    /// The number of requests that wait now.
    pub waiting_count: usize,
    /// The time that the oldest of them has waited.
    pub longest_wait: Duration,
    /// The pool's memory besides its blocks, in bytes.
    pub overhead_bytes: usize,
    /// Each class that has been used, the smallest first.
    pub classes: Vec<(SizeClass, Figures)>,
}

impl Stats {
    pub(super) fn new<'a>(
        totals: &Totals,
        peak_in_use_bytes: f64,
        in_depot: impl Fn(SizeClass) -> usize,
        counters: impl Fn(SizeClass) -> Option<&'a ClassCounters>,
    ) -> Self {
        let mut stats =
            Self { peak_in_use_bytes, unpooled_count: totals.unpooled_count, ..Self::default() };
        for class in SizeClass::all() {
            let Some(counters) = counters(class) else { continue };
            let figures = Figures::of_class(class, totals, in_depot(class), counters);
            if figures != Figures::default() {
                stats.total.add(&figures);
                stats.classes.push((class, figures));
            }
        }
        stats.total.alloc_count += totals.unpooled_count;
        stats.total.alloc_bytes += totals.unpooled_bytes;
        stats.total.release_count += totals.unpooled_releases;
        stats
    }

    /// Adds the unpooled leases that ended without a release in their own thread.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(super) fn count_unpooled_ends(&mut self, unpooled: &UnpooledTable) {
        self.total.release_count += unpooled.released() as f64;
        self.total.collected_count += unpooled.collected() as f64;
    }
}

impl Figures {
    /// Every figure in the order of [`to_row`](Self::to_row), by its name in JavaScript.
    pub const COLUMNS: [FigureColumn; 15] = [
        ("inUseCount", |figures| figures.in_use_count),
        ("inUseBytes", |figures| figures.in_use_bytes),
        ("idleCount", |figures| figures.idle_count),
        ("idleBytes", |figures| figures.idle_bytes),
        ("allocCount", |figures| figures.alloc_count),
        ("allocBytes", |figures| figures.alloc_bytes),
        ("freshCount", |figures| figures.fresh_count),
        ("freshBytes", |figures| figures.fresh_bytes),
        ("hitCount", |figures| figures.hit_count),
        ("missCount", |figures| figures.miss_count),
        ("releaseCount", |figures| figures.release_count),
        ("collectedCount", |figures| figures.collected_count),
        ("discardCount", |figures| figures.discard_count),
        ("freedBytes", |figures| figures.freed_bytes),
        ("quarantinedBytes", |figures| figures.quarantined_bytes),
    ];

    /// Returns all figures, in the order of [`COLUMNS`](Self::COLUMNS).
    pub fn to_row(self) -> [f64; Self::COLUMNS.len()] {
        Self::COLUMNS.map(|(_, read)| read(&self))
    }

    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    fn of_class(
        class: SizeClass,
        totals: &Totals,
        in_depot: usize,
        counters: &ClassCounters,
    ) -> Self {
        let size = class.block_size() as f64;
        let index = class.index();
        let (leases, releases) = (totals.classes.leases[index], totals.classes.releases[index]);
        let (remote, seized) = (counters.remote.get() as f64, counters.seized.get() as f64);
        let (fresh, freed) = (counters.fresh.get() as f64, counters.freed.get() as f64);
        let (misses, collected) = (totals.classes.misses[index], counters.collected.get() as f64);
        let in_use = leases - releases - remote - seized - collected;
        let idle = in_depot as f64 + counters.loaned.get() as f64 - in_use;
        Self {
            in_use_count: in_use,
            in_use_bytes: in_use * size,
            idle_count: idle,
            idle_bytes: idle * size,
            alloc_count: leases,
            alloc_bytes: totals.classes.asked_bytes[index],
            fresh_count: fresh,
            fresh_bytes: fresh * size,
            hit_count: leases - misses,
            miss_count: misses,
            release_count: releases + remote,
            collected_count: collected,
            discard_count: counters.discarded.get() as f64,
            freed_bytes: freed * size,
            quarantined_bytes: counters.quarantined.get() as f64 * size,
        }
    }

    fn live_bytes(&self) -> f64 {
        self.in_use_bytes + self.idle_bytes + self.quarantined_bytes
    }

    /// Returns whether the figures are in balance, and within the bytes held.
    #[expect(clippy::cast_precision_loss, reason = "no machine has 2^52 bytes")]
    pub(super) fn adds_up_to(&self, held: usize) -> bool {
        let got = self.fresh_bytes - self.freed_bytes;
        (got - self.live_bytes()).abs() < 0.5 && got <= held as f64 && self.idle_bytes >= 0.0
    }

    /// Takes blocks off that were counted twice while they moved: off the idle ones first, then off
    /// those in use.
    #[expect(clippy::cast_precision_loss, reason = "no machine has 2^52 bytes")]
    pub(super) fn fit_into(&mut self, held: usize) {
        let got = (self.fresh_bytes - self.freed_bytes).min(held as f64);
        self.freed_bytes = self.fresh_bytes - got;
        self.in_use_bytes = self.in_use_bytes.min(got);
        self.idle_bytes = (got - self.in_use_bytes - self.quarantined_bytes).max(0.0);
    }

    fn add(&mut self, other: &Self) {
        self.in_use_count += other.in_use_count;
        self.in_use_bytes += other.in_use_bytes;
        self.idle_count += other.idle_count;
        self.idle_bytes += other.idle_bytes;
        self.alloc_count += other.alloc_count;
        self.alloc_bytes += other.alloc_bytes;
        self.fresh_count += other.fresh_count;
        self.fresh_bytes += other.fresh_bytes;
        self.hit_count += other.hit_count;
        self.miss_count += other.miss_count;
        self.release_count += other.release_count;
        self.collected_count += other.collected_count;
        self.discard_count += other.discard_count;
        self.freed_bytes += other.freed_bytes;
        self.quarantined_bytes += other.quarantined_bytes;
    }
}
