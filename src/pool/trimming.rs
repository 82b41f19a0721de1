//! What the trimmer does with a pool: it frees what nobody needs, by time and under pressure.

use super::thread_state::Tick;
use super::{Pool, Reason, trimmer};
use crate::memory::census::Owner;
use crate::memory::size_class::SizeClass;
use crate::os::pressure::Pressure;
use crate::sync::{MutexGuard, Ordering};
use std::sync::PoisonError;
use std::time::Instant;

impl Pool {
    /// Whether something is idle, or may come out of quarantine: whether there is anything to do.
    pub(super) fn needs_trimming(&self) -> bool {
        self.depot.bytes() > 0
            || self.quarantine.is_watching()
            || self.threads().all.iter().any(|thread| thread.has_idle())
    }

    /// One look at the pool. When the next is due; `None` where there is nothing left to do.
    pub fn visit(&self, now: Instant, pressure: Pressure) -> Option<Instant> {
        self.sweep_and_serve(usize::MAX);
        let (next_tick, is_due) = self.next_tick(now);
        match pressure {
            Pressure::Critical => {
                self.tell(Reason::Pressure, self.trim_depot(u64::MAX, usize::MAX));
                self.threads().all.iter().for_each(|thread| thread.free_all());
            }
            Pressure::High => self.tick(Reason::Pressure),
            Pressure::Calm if is_due && self.config.idle_timeout.is_none() => {
                self.tell_to(Tick::Look);
            }
            Pressure::Calm if is_due => self.tick(Reason::Idle),
            Pressure::Calm => {}
        }
        if is_due || pressure != Pressure::Calm {
            self.shrink();
        }
        // Whoever came to stand in line while blocks were being freed found neither them nor room.
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

    /// When the next interval ends, and whether one has just ended.
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
        self.tell(reason, freed);
        self.tell_to(match reason {
            Reason::Idle => Tick::Free,
            Reason::Pressure => Tick::FreeUnderPressure,
        });
    }

    fn tell_to(&self, tick: Tick) {
        self.threads().all.iter().filter(|m| m.has_idle()).for_each(|m| m.tick(tick));
    }

    pub(super) fn tell(&self, reason: Reason, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if bytes > 0 {
            self.untold[reason as usize].fetch_add(bytes, Ordering::Relaxed);
            // One thread is enough to tell it.
            if let Some(thread) = self.threads().all.first() {
                thread.wake();
            }
        }
    }

    fn lock_next_tick(&self) -> MutexGuard<'_, Option<Instant>> {
        self.next_tick.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
