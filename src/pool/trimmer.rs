//! The one thread that looks after idle memory, for all pools of the process.
//!
//! It runs only while some pool has something idle, or set aside for a time, and ends with the
//! process: nothing waits for it.

use super::{Pool, allocator};
use crate::os::pressure::{Gauge, Pressure};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// The longest time between two looks at the pressure, and at a pool that has something in quarantine: neither must
/// be old news.
pub const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// The longest time between two looks at any pool: one that its users have dropped costs memory until then.
pub const LONGEST_ABSENCE: Duration = Duration::from_secs(5);

/// For how long no `ArrayBuffer` must have gone before the allocator gives back what they took.
const QUIET: Duration = Duration::from_secs(1);

/// The shortest time between two looks: many pools with a time of their own each are looked at together.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);

/// It needs little: it reads small files, and frees.
const STACK_BYTES: usize = 256 * 1024;

/// A pool that the trimmer looks after.
struct WatchedPool {
    pool: Weak<Pool>,
    /// Keeps the pool while blocks of dead threads may come back to it.
    held: Option<Arc<Pool>>,
    /// When the next look is due; `None` while one is under way.
    due: Option<Instant>,
}

/// Tells a pool from others that are looked after.
type PoolId = usize;

#[derive(Default)]
struct Trimmer {
    watched: HashMap<PoolId, WatchedPool>,
    /// When looks are due, the first one first.
    schedule: BTreeSet<(Instant, PoolId)>,
    /// When the allocator may have something to give back, and how many `ArrayBuffer`s had gone then.
    allocator: Option<(Instant, usize)>,
    is_running: bool,
}

static TRIMMER: Mutex<Option<Trimmer>> = Mutex::new(None);
static NEWS: Condvar = Condvar::new();

/// Looks after `pool` from now on, until it has nothing idle.
pub fn watch(pool: &Arc<Pool>) {
    let mut lock = lock();
    let trimmer = lock.get_or_insert_default();
    let is_news = trimmer.add(pool);
    if trimmer.run(is_news) {
        return;
    }
    // Without a thread nothing is freed by time. The next who has something idle tries again.
    trimmer.schedule.clear();
    let watched = std::mem::take(&mut trimmer.watched);
    drop(lock);
    for pool in watched.values().filter_map(|watched| watched.pool.upgrade()) {
        pool.is_watched.store(false, Ordering::SeqCst);
    }
}

/// Has the allocator give back what it keeps, when the time comes.
pub fn watch_allocator() {
    let mut lock = lock();
    let trimmer = lock.get_or_insert_default();
    trimmer.allocator = Some((Instant::now() + QUIET, allocator::gone()));
    if !trimmer.run(true) {
        trimmer.allocator = None;
    }
}

impl Trimmer {
    /// Has the trimmer's thread run, or look at once for news. Whether there is one.
    fn run(&mut self, is_news: bool) -> bool {
        if !self.is_running {
            let thread = thread::Builder::new().name("cistern-trimmer".into());
            self.is_running = thread.stack_size(STACK_BYTES).spawn(run).is_ok();
        } else if is_news {
            NEWS.notify_one();
        }
        self.is_running
    }

    /// Whether the allocator is to give back now. While `ArrayBuffer`s go, the time is put off.
    fn is_allocator_due(&mut self, now: Instant) -> bool {
        let Some((due, before)) = self.allocator else { return false };
        if now < due {
            return false;
        }
        let gone = allocator::gone();
        self.allocator = (gone != before).then_some((now + QUIET, gone));
        self.allocator.is_none()
    }

    /// Looks after a pool, soon. Whether the trimmer has to be told.
    fn add(&mut self, pool: &Arc<Pool>) -> bool {
        let id = Arc::as_ptr(pool).addr();
        // The address is another pool's only after the watched has gone, which holds it.
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

    /// The pools to look at now: those that are due, or all. Those whose users have dropped them go.
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

    /// A look is over: the next one is at `due`, or there is nothing left to do. Returns what must be dropped
    /// outside of the lock: the last reference to a pool may be.
    fn put_back(&mut self, id: PoolId, pool: &Pool, due: Option<Instant>) -> Option<Arc<Pool>> {
        let is_watching = pool.quarantine.is_watching();
        let watched = self.watched.get_mut(&id)?;
        let held = if is_watching { None } else { watched.held.take() };
        match due {
            // Unless somebody had news meanwhile, which is due before.
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
        // Not under the lock: a look frees memory, and the last reference to a pool may go here.
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

/// Looks at a pool. When the next look is due; `None` where it needs none.
fn visit(pool: &Arc<Pool>, now: Instant, pressure: Pressure) -> Option<Instant> {
    if let Some(due) = pool.visit(now, pressure) {
        return Some(due);
    }
    // From here on whoever has something idle says so again; what came idle before, shows.
    pool.is_watched.store(false, Ordering::SeqCst);
    if pool.needs_trimming() && !pool.is_watched.swap(true, Ordering::SeqCst) {
        return Some(now);
    }
    None
}

fn lock() -> MutexGuard<'static, Option<Trimmer>> {
    TRIMMER.lock().unwrap_or_else(PoisonError::into_inner)
}
