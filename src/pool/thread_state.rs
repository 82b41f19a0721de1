//! A thread that uses a pool, as the other threads know it.

use super::thread_counters::{Left, ThreadCounters};
use super::waker::Waker;
use crate::sync::{AtomicBool, AtomicU8, AtomicUsize, Mutex, MutexGuard, Ordering};
use std::collections::VecDeque;
use std::sync::PoisonError;

/// The most reports that wait to be told. Beyond, a sampled leak goes untold: the ones before it have
/// the same call sites.
const UNTOLD: usize = 1 << 20;

/// A thread's counters, its waker, and what the core asks of it. JavaScript looks when the waker is called.
pub struct ThreadState {
    counters: ThreadCounters,
    /// `None` before the thread listens, and after it has left.
    waker: Mutex<Option<Box<dyn Waker>>>,
    /// Idle bytes that the thread shall give up, for others to use.
    asked: AtomicUsize,
    /// Idle bytes that the thread shall free, because someone called for it.
    trimmed: AtomicUsize,
    /// Whether the thread shall free all that it has idle.
    must_free_all: AtomicBool,
    /// A [`Tick`] that is due.
    tick: AtomicU8,
    /// Whether the thread has something idle.
    has_idle: AtomicBool,
    reports: Mutex<VecDeque<Left>>,
}

/// What a thread must do at the end of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Tick {
    /// Nothing: the interval goes on.
    None = 0,
    /// Report whether it has anything idle.
    Look = 1,
    /// Also free the blocks that it has not needed since the last tick.
    Free = 2,
    /// The same, because memory runs short.
    FreeUnderPressure = 3,
}

impl Tick {
    /// Every tick, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::None, Self::Look, Self::Free, Self::FreeUnderPressure];

    fn from_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::None)
    }
}

impl ThreadState {
    /// A thread with nothing in hand.
    pub fn new() -> Self {
        Self {
            counters: ThreadCounters::new(),
            waker: Mutex::default(),
            asked: AtomicUsize::new(0),
            trimmed: AtomicUsize::new(0),
            must_free_all: AtomicBool::new(false),
            tick: AtomicU8::new(Tick::None as u8),
            has_idle: AtomicBool::new(false),
            reports: Mutex::default(),
        }
    }

    /// The thread's counters, and the blocks that it has.
    pub fn counters(&self) -> &ThreadCounters {
        &self.counters
    }

    /// How many bytes it takes.
    pub fn bytes(&self) -> usize {
        let reports = self.reports().capacity() * size_of::<Left>();
        size_of::<Self>() - size_of::<ThreadCounters>() + self.counters.bytes() + reports
    }

    /// Gives the thread a waker, and wakes it: something may have been asked already.
    pub fn listen(&self, waker: Box<dyn Waker>) {
        *self.waker() = Some(waker);
        self.wake();
    }

    /// Takes the waker away: the thread leaves.
    pub fn stop_listening(&self) {
        // Dropped outside of the lock: a waker may be waiting for a wake to end.
        let waker = self.waker().take();
        drop(waker);
    }

    /// Has the thread look at what there is for it.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker() {
            waker.wake();
        }
    }

    /// Asks the thread to give up `bytes` of what it has idle.
    pub fn ask(&self, bytes: usize) {
        // Relaxed, here and below: the waker, or a later look, brings what is asked across.
        if self.asked.fetch_max(bytes, Ordering::Relaxed) < bytes {
            self.wake();
        }
    }

    /// How many bytes the thread is asked to give up; asked once.
    pub fn take_asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }

    /// Tells the thread to free `bytes` of what it has idle.
    pub fn trim(&self, bytes: usize) {
        self.trimmed.fetch_max(bytes, Ordering::Relaxed);
        self.wake();
    }

    /// How many bytes the thread shall free; told once.
    pub fn take_trimmed(&self) -> usize {
        self.trimmed.swap(0, Ordering::Relaxed)
    }

    /// Tells the thread to free all that it has idle.
    pub fn free_all(&self) {
        self.must_free_all.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Whether the thread shall free all that it has idle; told once.
    pub fn take_free_all(&self) -> bool {
        self.must_free_all.swap(false, Ordering::Relaxed)
    }

    /// Tells the thread that another interval is over.
    pub fn tick(&self, tick: Tick) {
        self.tick.fetch_max(tick as u8, Ordering::Relaxed);
        self.wake();
    }

    /// Takes what the thread must do because an interval is over.
    pub fn take_tick(&self) -> Tick {
        Tick::from_number(self.tick.swap(Tick::None as u8, Ordering::Relaxed))
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
        self.wake();
    }

    /// The oldest of these that has not been told.
    pub fn next_report(&self) -> Option<Left> {
        self.reports().pop_front()
    }

    fn waker(&self) -> MutexGuard<'_, Option<Box<dyn Waker>>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reports(&self) -> MutexGuard<'_, VecDeque<Left>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ThreadState {
    fn default() -> Self {
        Self::new()
    }
}
