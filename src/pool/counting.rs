//! The pool's statistics, and its overhead.

use super::stats::Stats;
use super::thread_counters::Column;
use super::{LOOKS, Pool};
use crate::memory::size_class::SizeClass;

impl Pool {
    /// Returns a snapshot of the counters. It is exact only while no block moves.
    ///
    /// Blocks that move while they are counted can be counted twice, or not at all. So this counts
    /// again while the sums do not match and something still moves.
    #[expect(clippy::cast_precision_loss, reason = "no machine has 2^52 bytes")]
    pub fn stats(&self) -> Stats {
        self.sweep_and_serve(LOOKS);
        let mut stats = self.count_until_balanced();
        // The threads are read one after the other, so their sum may be a block too much.
        let in_use = to_whole(stats.total.in_use_bytes).min(self.budget.limit());
        let peak = self.counters.raise_peak(in_use.max(to_whole(stats.peak_in_use_bytes)));
        stats.peak_in_use_bytes = peak as f64;
        stats
    }

    fn count_until_balanced(&self) -> Stats {
        const ATTEMPTS: usize = 8;
        let mut stats = self.count();
        for _ in 0..ATTEMPTS {
            if stats.total.adds_up_to(self.budget.held()) {
                return stats;
            }
            let again = self.count();
            if again.total == stats.total {
                // Nothing moves, so another count would give the same.
                return again;
            }
            stats = again;
        }
        stats.total.fit_into(self.budget.held());
        stats
    }

    #[expect(clippy::cast_precision_loss, reason = "no machine has 2^52 bytes")]
    fn count(&self) -> Stats {
        self.unpooled.sweep(LOOKS);
        let (totals, peak_bytes) = {
            let mut threads = self.threads();
            threads.sweep();
            let mut totals = threads.retired.as_deref().cloned().unwrap_or_default();
            let mut peaks = 0.0;
            for thread in &threads.all {
                let counters = thread.counters();
                let others = totals.leased_bytes();
                totals.add(counters);
                // A thread updates its peak at a release, or when it calls this. Another thread may
                // call this earlier.
                let leased =
                    totals.leased_bytes() - others - counters.read(Column::EndedElsewhereBytes);
                peaks += leased.max(counters.read(Column::PeakBytes));
            }
            threads.peak_bytes = threads.peak_bytes.max(peaks);
            // Both are upper bounds, and so is the ceiling: a thread may count a block before
            // another has counted it off.
            let loaned = self.counters.most_loaned_bytes().min(self.budget.limit());
            (totals, threads.peak_bytes.min(loaned as f64))
        };
        let unclaimed = self.waiters.unclaimed();
        let in_depot = |class: SizeClass| self.depot.len(class) + unclaimed[class.index()];
        let mut stats =
            Stats::new(&totals, peak_bytes, in_depot, |class| self.counters.used(class));
        stats.count_unpooled_ends(&self.unpooled);
        stats.wait_count = self.waiters.count();
        (stats.waiting_count, stats.longest_wait) = self.waiters.now_waiting();
        stats.overhead_bytes = self.overhead_bytes();
        stats
    }

    /// Returns what the pool costs besides its blocks, in bytes: the core's records of them, and
    /// the places for them. It leaves out the memory that JavaScript and V8 use for an
    /// `ArrayBuffer`.
    pub fn overhead_bytes(&self) -> usize {
        let all: usize = {
            let threads = self.threads();
            threads.all.iter().map(|thread| thread.bytes()).sum()
        };
        size_of::<Self>()
            + self.counters.bytes()
            + self.depot.bin_bytes()
            + self.loans.bytes()
            + self.quarantine.bytes()
            + self.unpooled.bytes()
            + self.waiters.bytes()
            + all
    }

    /// Shrinks the overhead to what the blocks that still exist need.
    pub fn shrink(&self) {
        for class in SizeClass::all() {
            if self.counters.used(class).is_some() {
                self.depot.shrink(class, self.counters.existing(class));
            }
        }
        self.loans.shrink();
        self.quarantine.shrink();
        self.unpooled.sweep(LOOKS);
        self.unpooled.shrink();
    }
}

/// Rounds a number of bytes down; a negative one becomes 0.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
fn to_whole(bytes: f64) -> usize {
    bytes as usize
}
