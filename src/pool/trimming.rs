//! Frees a pool's idle memory: on request, by time, and under pressure.

use super::thread_state::Tick;
use super::{LOOKS, Pool, Reason, trimmer};
use crate::memory::census::Owner;
use crate::memory::size_class::SizeClass;
use crate::os::pressure::Pressure;
use crate::sync::{MutexGuard, Ordering};
use std::sync::PoisonError;
use std::time::Instant;

impl Pool {
    /// Frees idle blocks until `bytes` are freed or none is left within reach: those in the depot,
    /// the largest first, then those on their way to it, which are freed on arrival. Returns how
    /// many bytes were freed.
    pub fn trim(&self, bytes: u64) -> u64 {
        self.trim_some(bytes, usize::MAX)
    }

    /// Does the same with at most `blocks` blocks of the depot.
    pub fn trim_some(&self, bytes: u64, blocks: usize) -> u64 {
        self.sweep_and_serve(LOOKS);
        let mut freed = self.trim_depot(bytes, blocks);
        for thread in &self.threads().all {
            if freed >= bytes {
                break;
            }
            let count = |class| self.count_freeing(class);
            freed += thread.counters().free_detached(bytes - freed, count);
        }
        self.serve();
        self.shrink();
        freed
    }

    pub(super) fn trim_depot(&self, bytes: u64, mut blocks: usize) -> u64 {
        let mut freed = 0;
        for class in SizeClass::all().rev() {
            while freed < bytes && blocks > 0 {
                let Some(block) = self.depot.take(class) else { break };
                freed += block.size() as u64;
                blocks -= 1;
                self.free(block, Some(Owner::Depot));
            }
        }
        freed
    }

    /// Looks at the pool once, and frees what is due. Returns when the next look is due; `None` if
    /// nothing is left to do.
    pub fn visit(&self, now: Instant, pressure: Pressure) -> Option<Instant> {
        self.sweep_and_serve(usize::MAX);
        let (next_tick, is_due) = self.next_tick(now);
        match pressure {
            Pressure::Critical => {
                self.report_freed(Reason::Pressure, self.trim_depot(u64::MAX, usize::MAX));
                self.threads().all.iter().for_each(|thread| thread.free_all());
            }
            Pressure::High => self.tick(Reason::Pressure),
            Pressure::Calm if is_due && self.config.idle_timeout.is_none() => {
                self.tick_threads(Tick::Look);
            }
            Pressure::Calm if is_due => self.tick(Reason::Idle),
            Pressure::Calm => {}
        }
        if is_due || pressure != Pressure::Calm {
            self.shrink();
        }
        // A waiter that came while blocks were being freed found neither them nor room.
        self.serve();
        if !self.needs_trimming() {
            *self.lock_next_tick() = None;
            return None;
        }
        let longest = if self.quarantine.is_watching() {
            trimmer::LONGEST_SLEEP
        } else {
            trimmer::LONGEST_ABSENCE
        };
        Some(next_tick.min(now + longest))
    }

    /// Returns when the next interval ends, and whether one has just ended.
    fn next_tick(&self, now: Instant) -> (Instant, bool) {
        let mut next = self.lock_next_tick();
        let is_due = next.is_some_and(|tick| tick <= now);
        let tick = next.filter(|_| !is_due).unwrap_or(now + self.config.interval());
        *next = Some(tick);
        (tick, is_due)
    }

    /// Frees what was not needed since the last tick, here and in all threads.
    pub(super) fn tick(&self, reason: Reason) {
        let mut freed = 0;
        for class in SizeClass::all() {
            for _ in 0..self.depot.unused(class) {
                let Some(block) = self.depot.take(class) else { break };
                freed += block.size() as u64;
                self.free(block, Some(Owner::Depot));
            }
        }
        self.report_freed(reason, freed);
        self.tick_threads(match reason {
            Reason::Idle => Tick::Free,
            Reason::Pressure => Tick::FreeUnderPressure,
        });
    }

    fn tick_threads(&self, tick: Tick) {
        self.threads().all.iter().filter(|m| m.has_idle()).for_each(|m| m.tick(tick));
    }

    /// Adds to the bytes that a thread will [take](Self::take_unreported) and report to the user.
    pub(super) fn report_freed(&self, reason: Reason, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if bytes > 0 {
            self.unreported[reason as usize].fetch_add(bytes, Ordering::Relaxed);
            // One thread is enough to report them.
            if let Some(thread) = self.threads().all.first() {
                thread.wake();
            }
        }
    }

    /// Takes the number of bytes that the trimmer has freed since the last call.
    pub fn take_unreported(&self, reason: Reason) -> usize {
        self.unreported[reason as usize].swap(0, Ordering::Relaxed)
    }

    /// Returns whether the trimmer has anything to do: a block is idle, or may leave quarantine.
    pub(super) fn needs_trimming(&self) -> bool {
        self.depot.bytes() > 0
            || self.quarantine.is_watching()
            || self.threads().all.iter().any(|thread| thread.has_idle())
    }

    /// Returns whether the trimmer watches the pool: not if the system refused it a thread.
    pub(super) fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::SeqCst)
    }

    /// Makes the trimmer watch the pool, because something is idle.
    pub(super) fn be_watched(&self) {
        if !self.is_watched.load(Ordering::SeqCst)
            && !self.is_watched.swap(true, Ordering::SeqCst)
            && let Some(me) = self.me.upgrade()
        {
            trimmer::watch(&me);
        }
    }

    /// Makes the trimmer look for blocks that may leave quarantine.
    pub(super) fn watch_quarantine(&self) {
        // Even if it is watched, the trimmer must also hold the pool until the block is free.
        self.is_watched.store(true, Ordering::SeqCst);
        if self.config.has_trimmer
            && let Some(me) = self.me.upgrade()
        {
            trimmer::watch(&me);
        }
    }

    fn lock_next_tick(&self) -> MutexGuard<'_, Option<Instant>> {
        self.next_tick.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
