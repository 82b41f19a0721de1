//! The queue of waiters for a block, in the order of arrival, across all threads.

use super::Refusal;
use super::thread_state::ThreadState;
use crate::memory::block::Block;
use crate::memory::size_class::SizeClass;
use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering, fence};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// The queue of waiters, and the grants that its first ones got.
///
/// ```text
///   wait ──▶ [ queue ] ── serve, the first alone ──▶ [ granted ] ── claim, by its thread ──▶ Loan
///                │                                       │
///                └───────────────── cancel ──────────────┘
/// ```
///
/// Only the first waiter is served, so that small requests do not starve a large one before them.
/// Each step costs at most the logarithm of the number of waiters.
pub struct Waiters {
    queue: Mutex<Queue>,
    /// The length of the queue, to be read without the lock.
    length: AtomicUsize,
}

/// Identifies a waiter, from 1 up. No ticket is used twice.
pub type Ticket = u64;

/// Distinguishes a thread from others that live.
type ThreadKey = usize;

struct Queue {
    last_ticket: Ticket,
    /// In the order of arrival, since tickets only grow.
    waiting: BTreeMap<Ticket, Waiter>,
    granted: BTreeMap<(ThreadKey, Ticket), Grant>,
    /// The arrival of each ticket that waits, or is granted and not claimed. The oldest is the
    /// first.
    since: BTreeMap<Ticket, Instant>,
    /// The blocks that were granted and not claimed, by class.
    unclaimed: [usize; SizeClass::COUNT],
    /// The number of waiters since the pool was made.
    count: u64,
}

struct Waiter {
    class: SizeClass,
    thread: Arc<ThreadState>,
}

struct Grant {
    /// Keeps another thread from getting its address.
    _thread: Arc<ThreadState>,
    outcome: Result<Found, Refusal>,
}

/// A block for a waiter.
pub struct Found {
    /// The block.
    pub block: Block,
    /// True if it came from the operating system.
    pub fresh: bool,
}

fn id_of(thread: &Arc<ThreadState>) -> ThreadKey {
    Arc::as_ptr(thread).addr()
}

impl Queue {
    fn grant(&mut self, ticket: Ticket, thread: Arc<ThreadState>, outcome: Result<Found, Refusal>) {
        if let Ok(found) = &outcome {
            self.unclaimed[found.block.class().index()] += 1;
        }
        self.granted.insert((id_of(&thread), ticket), Grant { _thread: thread, outcome });
    }

    fn take_grant(&mut self, key: (ThreadKey, Ticket)) -> Option<Result<Found, Refusal>> {
        let outcome = self.granted.remove(&key)?.outcome;
        self.since.remove(&key.1);
        if let Ok(found) = &outcome {
            self.unclaimed[found.block.class().index()] -= 1;
        }
        Some(outcome)
    }

    /// Returns the oldest grant of a thread.
    fn first_grant(&self, id: ThreadKey) -> Option<(ThreadKey, Ticket)> {
        self.granted.range((id, 0)..=(id, Ticket::MAX)).next().map(|(key, _)| *key)
    }
}

impl Waiters {
    /// Makes an empty queue.
    pub fn new() -> Self {
        let queue = Queue {
            last_ticket: 0,
            waiting: BTreeMap::new(),
            granted: BTreeMap::new(),
            since: BTreeMap::new(),
            unclaimed: [0; SizeClass::COUNT],
            count: 0,
        };
        Self { queue: Mutex::new(queue), length: AtomicUsize::new(0) }
    }

    /// Adds a waiter for a block of `class`.
    pub fn wait(&self, class: SizeClass, thread: Arc<ThreadState>) -> Ticket {
        let mut queue = self.queue();
        queue.count += 1;
        queue.last_ticket += 1;
        let ticket = queue.last_ticket;
        queue.waiting.insert(ticket, Waiter { class, thread });
        queue.since.insert(ticket, Instant::now());
        self.note_length(&queue);
        ticket
    }

    /// Returns whether the queue is empty.
    ///
    /// A thread that has just freed memory and reads `true` need do no more: any later waiter sees
    /// the memory.
    pub fn is_empty(&self) -> bool {
        // With the fence in `note_length`: either this sees the waiter, or the waiter, which looks
        // for memory afterwards, sees what was freed before this.
        fence(Ordering::SeqCst);
        self.length.load(Ordering::Relaxed) == 0
    }

    /// Serves the queue from its first waiter on, while `find` returns a block or a reason why
    /// there will be none. `None` means that the waiter must go on waiting. Wakes the threads that
    /// were served, and returns the class that the first remaining waiter wants.
    pub fn serve(
        &self,
        mut find: impl FnMut(SizeClass) -> Option<Result<Found, Refusal>>,
    ) -> Option<SizeClass> {
        let mut queue = self.queue();
        let mut served: Vec<Arc<ThreadState>> = Vec::new();
        let waiting = loop {
            let Some(first) = queue.waiting.first_entry() else { break None };
            let class = first.get().class;
            let Some(outcome) = find(class) else { break Some(class) };
            let (ticket, Waiter { thread, .. }) = first.remove_entry();
            if !served.last().is_some_and(|last| Arc::ptr_eq(last, &thread)) {
                served.push(thread.clone());
            }
            queue.grant(ticket, thread, outcome);
        };
        self.note_length(&queue);
        drop(queue);
        wake(&served);
        waiting
    }

    /// Returns the ticket of the oldest grant that `thread` has not claimed.
    pub fn granted_to(&self, thread: &Arc<ThreadState>) -> Option<Ticket> {
        self.queue().first_grant(id_of(thread)).map(|(_, ticket)| ticket)
    }

    /// Takes the grant of a ticket of `thread`; without a grant, removes the ticket from the queue
    /// and returns `None`.
    pub fn take(
        &self,
        thread: &Arc<ThreadState>,
        ticket: Ticket,
    ) -> Option<Result<Found, Refusal>> {
        let mut queue = self.queue();
        if let Some(outcome) = queue.take_grant((id_of(thread), ticket)) {
            return Some(outcome);
        }
        if queue.waiting.get(&ticket).is_some_and(|waiter| Arc::ptr_eq(&waiter.thread, thread)) {
            queue.waiting.remove(&ticket);
            queue.since.remove(&ticket);
            self.note_length(&queue);
        }
        None
    }

    /// Removes all tickets of a thread, and returns the blocks that it was granted.
    pub fn dismiss(&self, thread: &Arc<ThreadState>) -> Vec<Block> {
        let mut queue = self.queue();
        let Queue { waiting, since, .. } = &mut *queue;
        waiting.retain(|ticket, waiter| {
            let stays = !Arc::ptr_eq(&waiter.thread, thread);
            if !stays {
                since.remove(ticket);
            }
            stays
        });
        self.note_length(&queue);
        let mut blocks = Vec::new();
        while let Some(key) = queue.first_grant(id_of(thread)) {
            let outcome = queue.take_grant(key).and_then(Result::ok);
            blocks.extend(outcome.map(|found| found.block));
        }
        blocks
    }

    /// Removes all tickets, wakes their threads, and returns the blocks that were granted.
    pub fn dismiss_all(&self) -> Vec<Block> {
        let mut queue = self.queue();
        let waiting = std::mem::take(&mut queue.waiting);
        let granted = std::mem::take(&mut queue.granted);
        queue.since.clear();
        queue.unclaimed = [0; SizeClass::COUNT];
        self.note_length(&queue);
        drop(queue);
        for Waiter { thread, .. } in waiting.values() {
            thread.wake();
        }
        granted
            .into_values()
            .filter_map(|grant| grant.outcome.ok())
            .map(|found| found.block)
            .collect()
    }

    /// Returns how many blocks of each class are granted and not claimed.
    pub fn unclaimed(&self) -> [usize; SizeClass::COUNT] {
        self.queue().unclaimed
    }

    /// Returns how many have waited since the pool was made.
    pub fn count(&self) -> u64 {
        self.queue().count
    }

    /// Returns how many wait now, and for how long the oldest has. A grant that is not claimed
    /// counts.
    pub fn now_waiting(&self) -> (usize, Duration) {
        let queue = self.queue();
        let oldest = queue.since.first_key_value().map(|(_, since)| since.elapsed());
        (queue.since.len(), oldest.unwrap_or_default())
    }

    /// Returns about how many bytes the waiters and the grants take.
    pub fn bytes(&self) -> usize {
        let queue = self.queue();
        queue.since.len() * size_of::<(Ticket, Instant)>()
            + queue.waiting.len() * size_of::<(Ticket, Waiter)>()
            + queue.granted.len() * size_of::<((ThreadKey, Ticket), Grant)>()
    }

    fn note_length(&self, queue: &Queue) {
        self.length.store(queue.waiting.len(), Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(all: &[Arc<ThreadState>]) {
    for thread in all {
        thread.wake();
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::thread;

    /// One thread waits and looks for memory, another frees some and looks for waiters: in no order
    /// do both look in vain.
    #[test]
    fn no_grant_is_lost() {
        loom::model(|| {
            let class = SizeClass::fitting(64).unwrap();
            let shared = Arc::new((Waiters::new(), AtomicUsize::new(0)));
            let serve = |shared: &(Waiters, AtomicUsize)| {
                let (waiters, free) = shared;
                if waiters.is_empty() {
                    return;
                }
                waiters.serve(|class| {
                    let taken = free.compare_exchange(1, 0, Ordering::Relaxed, Ordering::Relaxed);
                    let found = |block| Found { block, fresh: true };
                    taken.ok().map(|_| Ok(Block::obtain(class).map(found)?))
                });
            };
            let other = shared.clone();
            let giver = thread::spawn(move || {
                other.1.store(1, Ordering::Relaxed);
                serve(&other);
            });
            let thread = Arc::new(ThreadState::new());
            let ticket = shared.0.wait(class, thread.clone());
            serve(&shared);
            giver.join().unwrap();
            assert_eq!(shared.0.granted_to(&thread), Some(ticket));
            assert!(shared.0.take(&thread, ticket).is_some());
            assert!(shared.0.take(&thread, ticket).is_none());
        });
    }
}
