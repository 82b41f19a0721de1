//! A thread that uses a pool, as the other threads know it.

use super::thread_counters::{Left, ThreadCounters};
use super::waker::Waker;
use crate::sync::{AtomicBool, AtomicU8, AtomicUsize, Mutex, MutexGuard, Ordering};
use std::collections::VecDeque;
use std::sync::PoisonError;

/// The most reports in the queue. Further ones are dropped: they have the same call sites as those
/// before them.
const MOST_REPORTS: usize = 1 << 20;

/// A thread's counters, its waker, and the core's requests to it. JavaScript looks at them when it
/// is woken.
pub struct ThreadState {
    counters: ThreadCounters,
    /// `None` before the thread listens, and after it has left.
    waker: Mutex<Option<Box<dyn Waker>>>,
    /// Idle bytes that others ask the thread to give up.
    asked: AtomicUsize,
    /// Idle bytes that the thread must free, because someone called `trim`.
    trimmed: AtomicUsize,
    /// True if the thread must free all its idle blocks.
    must_free_all: AtomicBool,
    /// A [`Tick`] that is due.
    tick: AtomicU8,
    /// True if the thread has idle blocks.
    has_idle: AtomicBool,
    /// Sampled leases that ended without a release in the thread.
    reports: Mutex<VecDeque<Left>>,
}

/// A thread's task at the end of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Tick {
    /// Nothing: the interval goes on.
    None = 0,
    /// Report whether it has anything idle.
    Look = 1,
    /// Also free the blocks that it has not needed since the last tick.
    Free = 2,
    /// Also free these blocks, because memory runs short.
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
    /// Makes the state of a thread without blocks.
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

    /// Returns the thread's counters, and the rows of its blocks.
    pub fn counters(&self) -> &ThreadCounters {
        &self.counters
    }

    /// Returns how many bytes it takes.
    pub fn bytes(&self) -> usize {
        let reports = self.reports().capacity() * size_of::<Left>();
        size_of::<Self>() - size_of::<ThreadCounters>() + self.counters.bytes() + reports
    }

    /// Gives the thread a waker, and wakes it: the core may have asked something already.
    pub fn listen(&self, waker: Box<dyn Waker>) {
        *self.waker() = Some(waker);
        self.wake();
    }

    /// Takes the waker away, because the thread leaves.
    pub fn stop_listening(&self) {
        // Dropped outside of the lock: that may wait for a wake to end.
        let waker = self.waker().take();
        drop(waker);
    }

    /// Wakes the thread, to look at the core's requests.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker() {
            waker.wake();
        }
    }

    /// Asks the thread to give up `bytes` of its idle blocks.
    pub fn ask(&self, bytes: usize) {
        // Relaxed, here and below: the wake, or a later look, carries the request across.
        if self.asked.fetch_max(bytes, Ordering::Relaxed) < bytes {
            self.wake();
        }
    }

    /// Takes the number of bytes that the thread is asked to give up.
    pub fn take_asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }

    /// Tells the thread to free `bytes` of its idle blocks.
    pub fn trim(&self, bytes: usize) {
        self.trimmed.fetch_max(bytes, Ordering::Relaxed);
        self.wake();
    }

    /// Takes the number of bytes that the thread must free.
    pub fn take_trimmed(&self) -> usize {
        self.trimmed.swap(0, Ordering::Relaxed)
    }

    /// Tells the thread to free all its idle blocks.
    pub fn free_all(&self) {
        self.must_free_all.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Takes whether the thread must free all its idle blocks.
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

    /// Notes whether the thread has idle blocks.
    pub fn set_idle(&self, has_idle: bool) {
        self.has_idle.store(has_idle, Ordering::Relaxed);
    }

    /// Returns whether the thread has idle blocks, by its last report.
    pub fn has_idle(&self) -> bool {
        self.has_idle.load(Ordering::Relaxed)
    }

    /// Reports a sampled lease that ended in the garbage collector or in another thread.
    pub fn report(&self, left: Left) {
        {
            let mut reports = self.reports();
            // Finalizers call this: a refusal of memory must not abort the process.
            if reports.len() == MOST_REPORTS || reports.try_reserve(1).is_err() {
                return;
            }
            reports.push_back(left);
        }
        self.wake();
    }

    /// Takes the oldest report.
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
