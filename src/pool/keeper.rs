//! The one thread that looks after idle memory, for all pools of the process.
//!
//! It runs only while some pool has something idle, or set aside for a time, and ends with the
//! process: nothing waits for it.

use super::Pool;
use super::pressure::{Gauge, Pressure};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// The longest time between two looks: what the pressure is must not be old news.
pub const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// It needs little: it reads small files, and frees.
const STACK_BYTES: usize = 256 * 1024;

/// A pool that the keeper looks after.
struct Ward {
    pool: Weak<Pool>,
    /// Keeps the pool while blocks of dead threads may come back to it.
    held: Option<Arc<Pool>>,
}

#[derive(Default)]
struct Keeper {
    wards: Vec<Ward>,
    is_running: bool,
}

static KEEPER: Mutex<Keeper> = Mutex::new(Keeper { wards: Vec::new(), is_running: false });
static NEWS: Condvar = Condvar::new();

/// Looks after `pool` from now on, until it has nothing idle.
pub fn look_after(pool: &Arc<Pool>) {
    let mut keeper = keeper();
    keeper.add(Ward::new(pool));
    if keeper.is_running {
        NEWS.notify_one();
        return;
    }
    let thread = thread::Builder::new().name("cistern-keeper".into()).stack_size(STACK_BYTES);
    keeper.is_running = thread.spawn(run).is_ok();
    if !keeper.is_running {
        // Without a thread nothing is freed by time. The next who has something idle tries again.
        for ward in keeper.wards.drain(..) {
            if let Some(pool) = ward.pool.upgrade() {
                pool.is_kept.store(false, Ordering::SeqCst);
            }
        }
    }
}

impl Ward {
    fn new(pool: &Arc<Pool>) -> Self {
        let held = pool.quarantine.is_watching().then(|| pool.clone());
        Self { pool: Arc::downgrade(pool), held }
    }
}

impl Keeper {
    fn add(&mut self, ward: Ward) {
        match self.wards.iter_mut().find(|other| other.pool.ptr_eq(&ward.pool)) {
            Some(other) => other.held = ward.held.or(other.held.take()),
            None => self.wards.push(ward),
        }
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
        let wards = std::mem::take(&mut keeper().wards);
        let mut next_look = now + LONGEST_SLEEP;
        let mut kept = Vec::with_capacity(wards.len());
        // Not under the lock: a look frees memory, and the last reference to a pool may go here.
        for ward in wards {
            let Some(pool) = ward.pool.upgrade() else { continue };
            if let Some(due) = tend(&pool, now, pressure) {
                next_look = next_look.min(due);
                kept.push(Ward::new(&pool));
            }
        }
        let mut keeper = keeper();
        let has_news = !keeper.wards.is_empty();
        for ward in kept {
            keeper.add(ward);
        }
        if keeper.wards.is_empty() {
            keeper.is_running = false;
            return;
        }
        if !has_news {
            let sleep = next_look.saturating_duration_since(Instant::now());
            drop(NEWS.wait_timeout(keeper, sleep));
        }
    }
}

/// Looks at a pool. When the next look is due; `None` where it needs none.
fn tend(pool: &Arc<Pool>, now: Instant, pressure: Pressure) -> Option<Instant> {
    if let Some(due) = pool.tend(now, pressure) {
        return Some(due);
    }
    // From here on whoever has something idle says so again; what came idle before, shows.
    pool.is_kept.store(false, Ordering::SeqCst);
    if pool.needs_keeping() && !pool.is_kept.swap(true, Ordering::SeqCst) {
        return Some(now);
    }
    None
}

fn keeper() -> MutexGuard<'static, Keeper> {
    KEEPER.lock().unwrap_or_else(PoisonError::into_inner)
}
