//! The one thread that frees idle memory, for all pools of the process.
//!
//! It runs only while some pool has idle or quarantined blocks. It ends with the process, and
//! nothing waits for it.

use super::{Pool, allocator};
use crate::os::pressure::{Gauge, Pressure};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// The longest time between two looks at the pressure, and at a pool with blocks in quarantine.
pub const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// The longest time between two looks at any pool: a dropped one costs memory until then.
pub const LONGEST_ABSENCE: Duration = Duration::from_secs(5);

/// The allocator gives memory back after no `ArrayBuffer` has gone for so long.
const QUIET: Duration = Duration::from_secs(1);

/// The shortest time between two looks, so that one look serves many pools.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);

/// The thread needs little: it reads small files, and frees.
const STACK_BYTES: usize = 256 * 1024;

/// A pool that the trimmer watches.
struct WatchedPool {
    pool: Weak<Pool>,
    /// Keeps the pool alive while blocks may leave its quarantine.
    held: Option<Arc<Pool>>,
    /// When the next look is due; `None` while one is under way.
    due: Option<Instant>,
}

/// Distinguishes a pool from others that are watched.
type PoolId = usize;

#[derive(Default)]
struct Trimmer {
    watched: HashMap<PoolId, WatchedPool>,
    /// When looks are due, the earliest first.
    schedule: BTreeSet<(Instant, PoolId)>,
    /// When the allocator may have memory to give back, and how many `ArrayBuffer`s had gone by
    /// then.
    allocator: Option<(Instant, usize)>,
    is_running: bool,
}

static TRIMMER: Mutex<Option<Trimmer>> = Mutex::new(None);
static NEWS: Condvar = Condvar::new();

/// Watches `pool` from now on, until it has nothing idle.
pub fn watch(pool: &Arc<Pool>) {
    let mut lock = lock();
    let trimmer = lock.get_or_insert_default();
    let is_news = trimmer.add(pool);
    if trimmer.run(is_news) {
        return;
    }
    // Without a thread no memory is freed by time. The next pool with idle blocks tries again.
    trimmer.schedule.clear();
    let watched = std::mem::take(&mut trimmer.watched);
    drop(lock);
    for pool in watched.values().filter_map(|watched| watched.pool.upgrade()) {
        pool.is_watched.store(false, Ordering::SeqCst);
    }
}

/// Makes the allocator give memory back, when the time comes.
pub fn watch_allocator() {
    let mut lock = lock();
    let trimmer = lock.get_or_insert_default();
    trimmer.allocator = Some((Instant::now() + QUIET, allocator::gone()));
    if !trimmer.run(true) {
        trimmer.allocator = None;
    }
}

impl Trimmer {
    /// Starts the trimmer's thread, or makes it look at once for news. Returns whether it runs.
    fn run(&mut self, is_news: bool) -> bool {
        if !self.is_running {
            let thread = thread::Builder::new().name("cistern-trimmer".into());
            self.is_running = thread.stack_size(STACK_BYTES).spawn(run).is_ok();
        } else if is_news {
            NEWS.notify_one();
        }
        self.is_running
    }

    /// Returns whether the allocator must give memory back now. The time is put off while
    /// `ArrayBuffer`s go.
    fn is_allocator_due(&mut self, now: Instant) -> bool {
        let Some((due, before)) = self.allocator else { return false };
        if now < due {
            return false;
        }
        let gone = allocator::gone();
        self.allocator = (gone != before).then_some((now + QUIET, gone));
        self.allocator.is_none()
    }

    /// Adds a pool to be looked at soon. Returns whether the thread must be woken.
    fn add(&mut self, pool: &Arc<Pool>) -> bool {
        let id = Arc::as_ptr(pool).addr();
        // No other pool can get the address while the entry exists: its `Weak` holds it.
        let watched = self.watched.entry(id).or_insert_with(|| WatchedPool {
            pool: Arc::downgrade(pool),
            held: None,
            due: None,
        });
        if watched.held.is_none() && pool.quarantine.is_watching() {
            watched.held = Some(pool.clone());
        }
        let soon = Instant::now();
        if watched.due.is_some_and(|due| due <= soon + LONGEST_SLEEP) {
            return false;
        }
        self.set_due(id, soon);
        true
    }

    fn set_due(&mut self, id: PoolId, due: Instant) {
        if let Some(watched) = self.watched.get_mut(&id) {
            if let Some(before) = watched.due.replace(due) {
                self.schedule.remove(&(before, id));
            }
            self.schedule.insert((due, id));
        }
    }

    /// Takes the pools to look at now: those that are due, or all. Removes those that were dropped.
    fn take_due(&mut self, now: Instant, all: bool) -> Vec<(PoolId, Arc<Pool>)> {
        let mut pools = Vec::new();
        while let Some((due, id)) = self.schedule.first().copied() {
            if due > now && !all {
                break;
            }
            self.schedule.remove(&(due, id));
            let Some(watched) = self.watched.get_mut(&id) else { continue };
            watched.due = None;
            match watched.pool.upgrade() {
                Some(pool) => pools.push((id, pool)),
                None => {
                    self.watched.remove(&id);
                }
            }
        }
        pools
    }

    /// Schedules the next look after one is over; `None`: there is nothing left to do. Returns a
    /// pool to drop outside of the lock, because it may be the last reference.
    fn put_back(&mut self, id: PoolId, pool: &Pool, due: Option<Instant>) -> Option<Arc<Pool>> {
        let is_watching = pool.quarantine.is_watching();
        let watched = self.watched.get_mut(&id)?;
        let held = if is_watching { None } else { watched.held.take() };
        match due {
            // News may have come meanwhile, and is due earlier.
            Some(due) if watched.due.is_none() => self.set_due(id, due),
            None if watched.due.is_none() => {
                self.watched.remove(&id);
            }
            _ => {}
        }
        held
    }
}

fn run() {
    let gauge = Gauge::new();
    let mut next_reading = Instant::now();
    loop {
        let now = Instant::now();
        let pressure = if now >= next_reading {
            next_reading = now + LONGEST_SLEEP;
            gauge.read()
        } else {
            Pressure::Calm
        };
        let due = match &mut *lock() {
            Some(trimmer) => trimmer.take_due(now, pressure != Pressure::Calm),
            None => Vec::new(),
        };
        // Looks without the lock: a look frees memory, and may drop the last reference to a pool.
        for (id, pool) in due {
            let next = visit(&pool, now, pressure);
            let held = lock().as_mut().and_then(|trimmer| trimmer.put_back(id, &pool, next));
            drop(held);
        }
        let is_allocator_due =
            lock().as_mut().is_some_and(|trimmer| trimmer.is_allocator_due(Instant::now()));
        if is_allocator_due {
            allocator::give_back();
        }
        let mut lock = lock();
        let Some(trimmer) = &mut *lock else { return };
        let next_pool = trimmer.schedule.first().map(|(due, _)| *due);
        let next_allocator = trimmer.allocator.map(|(due, _)| due);
        let Some(first) = next_pool.into_iter().chain(next_allocator).min() else {
            trimmer.is_running = false;
            return;
        };
        let now = Instant::now();
        let next = first.min(next_reading).saturating_duration_since(now);
        drop(NEWS.wait_timeout(lock, next.max(SHORTEST_SLEEP)));
    }
}

/// Looks at a pool. Returns when the next look is due; `None` if it needs none.
fn visit(pool: &Arc<Pool>, now: Instant, pressure: Pressure) -> Option<Instant> {
    if let Some(due) = pool.visit(now, pressure) {
        return Some(due);
    }
    // From here on a pool with new idle blocks asks to be watched again. The check below sees
    // blocks that became idle earlier.
    pool.is_watched.store(false, Ordering::SeqCst);
    if pool.needs_trimming() && !pool.is_watched.swap(true, Ordering::SeqCst) {
        return Some(now);
    }
    None
}

fn lock() -> MutexGuard<'static, Option<Trimmer>> {
    TRIMMER.lock().unwrap_or_else(PoisonError::into_inner)
}
