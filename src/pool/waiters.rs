//! Who waits for a block, in the order of arrival, across all threads.

use super::Refusal;
use super::thread_state::ThreadState;
use crate::memory::block::Block;
use crate::memory::size_class::SizeClass;
use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering, fence};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// The line, and what its first ones were granted.
///
/// ```text
///   wait ──▶ [ line ] ── serve, the head alone ──▶ [ granted ] ── claim, by its thread ──▶ Loan
///                │                                     │
///                └──────────────── cancel ─────────────┘
/// ```
///
/// Only the head of the line is served: a large request is not starved by small ones behind it.
/// Each step costs at most the logarithm of how many wait.
pub struct Waiters {
    queue: Mutex<Queue>,
    /// How many stand in line: for a look without the lock.
    length: AtomicUsize,
}

/// One place in line, for ever. From 1 up.
pub type Ticket = u64;

/// Tells a thread from others that live.
type ThreadKey = usize;

struct Queue {
    last_ticket: Ticket,
    /// In the order of arrival, since tickets only grow.
    line: BTreeMap<Ticket, Waiter>,
    granted: BTreeMap<(ThreadKey, Ticket), Grant>,
    /// When each ticket came that is in line, or granted and not claimed. The oldest ticket is the first.
    since: BTreeMap<Ticket, Instant>,
    /// Blocks among what was granted, by class.
    unclaimed: [usize; SizeClass::COUNT],
    /// Since the pool was made.
    count: u64,
}

struct Waiter {
    class: SizeClass,
    thread: Arc<ThreadState>,
}

struct Grant {
    /// Keeps its address from being another thread's.
    _thread: Arc<ThreadState>,
    outcome: Result<Found, Refusal>,
}

/// A block for someone in line.
pub struct Found {
    /// The block.
    pub block: Block,
    /// Whether it was got from the operating system.
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

    /// The oldest grant of a thread.
    fn first_grant(&self, id: ThreadKey) -> Option<(ThreadKey, Ticket)> {
        self.granted.range((id, 0)..=(id, Ticket::MAX)).next().map(|(key, _)| *key)
    }
}

impl Waiters {
    /// An empty line.
    pub fn new() -> Self {
        let queue = Queue {
            last_ticket: 0,
            line: BTreeMap::new(),
            granted: BTreeMap::new(),
            since: BTreeMap::new(),
            unclaimed: [0; SizeClass::COUNT],
            count: 0,
        };
        Self { queue: Mutex::new(queue), length: AtomicUsize::new(0) }
    }

    /// Stands in line for a block of `class`.
    pub fn wait(&self, class: SizeClass, thread: Arc<ThreadState>) -> Ticket {
        let mut queue = self.queue();
        queue.count += 1;
        queue.last_ticket += 1;
        let ticket = queue.last_ticket;
        queue.line.insert(ticket, Waiter { class, thread });
        queue.since.insert(ticket, Instant::now());
        self.note_length(&queue);
        ticket
    }

    /// Whether nobody stands in line.
    ///
    /// Whoever has just made memory free, and reads `true`, may go: who comes later sees the memory.
    pub fn is_empty(&self) -> bool {
        // With the fence in `note_length`: either this sees the one in line, or the one in line,
        // who looks for memory after it, sees what was freed before this.
        fence(Ordering::SeqCst);
        self.length.load(Ordering::Relaxed) == 0
    }

    /// Serves the line from its head on, as long as `find` has a block, or says why there will be none;
    /// it has `None` where the head must go on waiting. Rings for those who were served. Returns the
    /// class that the head waits for.
    pub fn serve(
        &self,
        mut find: impl FnMut(SizeClass) -> Option<Result<Found, Refusal>>,
    ) -> Option<SizeClass> {
        let mut queue = self.queue();
        let mut rung: Vec<Arc<ThreadState>> = Vec::new();
        let waiting = loop {
            let Some(head) = queue.line.first_entry() else { break None };
            let class = head.get().class;
            let Some(outcome) = find(class) else { break Some(class) };
            let (ticket, Waiter { thread, .. }) = head.remove_entry();
            if !rung.last().is_some_and(|last| Arc::ptr_eq(last, &thread)) {
                rung.push(thread.clone());
            }
            queue.grant(ticket, thread, outcome);
        };
        self.note_length(&queue);
        drop(queue);
        wake(&rung);
        waiting
    }

    /// The ticket of the oldest grant that `thread` has not claimed yet.
    pub fn granted_to(&self, thread: &Arc<ThreadState>) -> Option<Ticket> {
        self.queue().first_grant(id_of(thread)).map(|(_, ticket)| ticket)
    }

    /// Takes what was granted for a ticket of `thread`'s, or takes the ticket out of the line. `None`
    /// where nothing was granted.
    pub fn take(
        &self,
        thread: &Arc<ThreadState>,
        ticket: Ticket,
    ) -> Option<Result<Found, Refusal>> {
        let mut queue = self.queue();
        if let Some(outcome) = queue.take_grant((id_of(thread), ticket)) {
            return Some(outcome);
        }
        if queue.line.get(&ticket).is_some_and(|waiter| Arc::ptr_eq(&waiter.thread, thread)) {
            queue.line.remove(&ticket);
            queue.since.remove(&ticket);
            self.note_length(&queue);
        }
        None
    }

    /// Takes all tickets of a thread, and returns the blocks that it was granted.
    pub fn dismiss(&self, thread: &Arc<ThreadState>) -> Vec<Block> {
        let mut queue = self.queue();
        let Queue { line, since, .. } = &mut *queue;
        line.retain(|ticket, waiter| {
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

    /// Takes everyone's tickets, and wakes for them.
    pub fn dismiss_all(&self) -> Vec<Block> {
        let mut queue = self.queue();
        let line = std::mem::take(&mut queue.line);
        let granted = std::mem::take(&mut queue.granted);
        queue.since.clear();
        queue.unclaimed = [0; SizeClass::COUNT];
        self.note_length(&queue);
        drop(queue);
        for Waiter { thread, .. } in line.values() {
            thread.wake();
        }
        granted
            .into_values()
            .filter_map(|grant| grant.outcome.ok())
            .map(|found| found.block)
            .collect()
    }

    /// How many blocks of each class are granted and not yet claimed.
    pub fn unclaimed(&self) -> [usize; SizeClass::COUNT] {
        self.queue().unclaimed
    }

    /// How many waited, since the pool was made.
    pub fn count(&self) -> u64 {
        self.queue().count
    }

    /// How many wait now, those included that have not claimed their grant, and for how long the oldest has.
    pub fn now_waiting(&self) -> (usize, Duration) {
        let queue = self.queue();
        let oldest = queue.since.first_key_value().map(|(_, since)| since.elapsed());
        (queue.since.len(), oldest.unwrap_or_default())
    }

    /// About how many bytes those take who wait, or have not claimed what they were granted.
    pub fn bytes(&self) -> usize {
        let queue = self.queue();
        queue.since.len() * size_of::<(Ticket, Instant)>()
            + queue.line.len() * size_of::<(Ticket, Waiter)>()
            + queue.granted.len() * size_of::<((ThreadKey, Ticket), Grant)>()
    }

    fn note_length(&self, queue: &Queue) {
        self.length.store(queue.line.len(), Ordering::Relaxed);
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

    /// One thread stands in line and looks for memory, another makes some free and looks for someone
    /// in line: in no order do both look in vain.
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
