//! A thread that uses a pool, as the other threads know it.

use super::bell::Bell;
use super::ledger::{Ledger, Left};
use super::sync::{AtomicBool, AtomicU8, AtomicUsize, Mutex, MutexGuard, Ordering};
use std::collections::VecDeque;
use std::sync::PoisonError;

/// The most reports that wait to be told. Beyond, a sampled leak goes untold: the ones before it have
/// the same call sites.
const UNTOLD: usize = 1 << 20;

/// A thread's ledger, its bell, and what the core asks of it. JavaScript looks when the bell rings.
pub struct Member {
    ledger: Ledger,
    /// `None` before the thread listens, and after it has left.
    bell: Mutex<Option<Box<dyn Bell>>>,
    /// Idle bytes that the thread shall give up, for others to use.
    asked: AtomicUsize,
    /// Idle bytes that the thread shall free, because someone called for it.
    trimmed: AtomicUsize,
    /// Whether the thread shall free all that it has idle.
    is_squeezed: AtomicBool,
    /// A [`Tick`] that is due.
    tick: AtomicU8,
    /// Whether the thread has something idle.
    has_idle: AtomicBool,
    reports: Mutex<VecDeque<Left>>,
}

/// What a thread shall do at the end of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Tick {
    /// The interval goes on.
    None = 0,
    /// Say whether it has anything idle.
    Look = 1,
    /// Free what it did not need since the last tick, too.
    Free = 2,
    /// The same, because memory runs short.
    FreeUnderPressure = 3,
}

impl Member {
    /// A thread with nothing in hand.
    pub fn new() -> Self {
        Self {
            ledger: Ledger::new(),
            bell: Mutex::default(),
            asked: AtomicUsize::new(0),
            trimmed: AtomicUsize::new(0),
            is_squeezed: AtomicBool::new(false),
            tick: AtomicU8::new(Tick::None as u8),
            has_idle: AtomicBool::new(false),
            reports: Mutex::default(),
        }
    }

    /// The thread's counters, and the blocks that it has.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// How many bytes it takes.
    pub fn bytes(&self) -> usize {
        let reports = self.reports().capacity() * size_of::<Left>();
        size_of::<Self>() - size_of::<Ledger>() + self.ledger.bytes() + reports
    }

    /// Gives the thread a bell, and rings it: something may have been asked already.
    pub fn listen(&self, bell: Box<dyn Bell>) {
        *self.bell() = Some(bell);
        self.ring();
    }

    /// Takes the bell away: the thread leaves.
    pub fn stop_listening(&self) {
        // Dropped outside of the lock: a bell may be waiting for a ring to end.
        let bell = self.bell().take();
        drop(bell);
    }

    /// Has the thread look at what there is for it.
    pub fn ring(&self) {
        if let Some(bell) = &*self.bell() {
            bell.ring();
        }
    }

    /// Asks the thread to give up `bytes` of what it has idle.
    pub fn ask(&self, bytes: usize) {
        // Relaxed, here and below: the bell, or a later look, brings what is asked across.
        if self.asked.fetch_max(bytes, Ordering::Relaxed) < bytes {
            self.ring();
        }
    }

    /// How many bytes the thread is asked to give up; asked once.
    pub fn take_asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }

    /// Tells the thread to free `bytes` of what it has idle.
    pub fn trim(&self, bytes: usize) {
        self.trimmed.fetch_max(bytes, Ordering::Relaxed);
        self.ring();
    }

    /// How many bytes the thread shall free; told once.
    pub fn take_trimmed(&self) -> usize {
        self.trimmed.swap(0, Ordering::Relaxed)
    }

    /// Tells the thread to free all that it has idle.
    pub fn squeeze(&self) {
        self.is_squeezed.store(true, Ordering::Relaxed);
        self.ring();
    }

    /// Whether the thread shall free all that it has idle; told once.
    pub fn take_squeezed(&self) -> bool {
        self.is_squeezed.swap(false, Ordering::Relaxed)
    }

    /// Tells the thread that another interval is over.
    pub fn tick(&self, tick: Tick) {
        self.tick.fetch_max(tick as u8, Ordering::Relaxed);
        self.ring();
    }

    /// What to do because another interval is over, as a [`Tick`]'s number; told once.
    pub fn take_tick(&self) -> u8 {
        self.tick.swap(Tick::None as u8, Ordering::Relaxed)
    }

    /// Notes whether the thread has something idle.
    pub fn set_idle(&self, has_idle: bool) {
        self.has_idle.store(has_idle, Ordering::Relaxed);
    }

    /// Whether the thread has something idle, by its own last word.
    pub fn has_idle(&self) -> bool {
        self.has_idle.load(Ordering::Relaxed)
    }

    /// A lease whose call site may be known ended in the garbage collector, or in another thread.
    pub fn report(&self, left: Left) {
        {
            let mut reports = self.reports();
            // Finalizers call this: memory that is refused must not abort the process.
            if reports.len() == UNTOLD || reports.try_reserve(1).is_err() {
                return;
            }
            reports.push_back(left);
        }
        self.ring();
    }

    /// The oldest of these that has not been told.
    pub fn next_report(&self) -> Option<Left> {
        self.reports().pop_front()
    }

    fn bell(&self) -> MutexGuard<'_, Option<Box<dyn Bell>>> {
        self.bell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reports(&self) -> MutexGuard<'_, VecDeque<Left>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Member {
    fn default() -> Self {
        Self::new()
    }
}
