//! Who waits for a block, in the order of arrival, across all threads.

use super::Refusal;
use super::block::Block;
use super::member::Member;
use super::size_class::SizeClass;
use super::sync::{AtomicUsize, Mutex, MutexGuard, Ordering, fence};
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

/// The line, and what its first ones were granted.
///
/// ```text
///   wait ──▶ [ line ] ── serve, the head alone ──▶ [ granted ] ── claim, by its thread ──▶ Loan
///                │                                     │
///                └──────────────── cancel ─────────────┘
/// ```
///
/// Only the head of the line is served: a large request is not starved by small ones behind it.
pub struct Waiters {
    queue: Mutex<Queue>,
    /// How many stand in line: for a look without the lock.
    length: AtomicUsize,
}

/// One place in line, for ever.
pub type Ticket = u32;

#[derive(Default)]
struct Queue {
    last_ticket: Ticket,
    line: VecDeque<Waiter>,
    granted: Vec<Grant>,
    /// Since the pool was made.
    count: u64,
}

struct Waiter {
    ticket: Ticket,
    class: SizeClass,
    member: Arc<Member>,
}

struct Grant {
    ticket: Ticket,
    member: Arc<Member>,
    outcome: Result<Found, Refusal>,
}

/// A block for someone in line.
pub struct Found {
    /// The block.
    pub block: Block,
    /// Whether it was got from the operating system.
    pub fresh: bool,
}

impl Waiters {
    /// An empty line.
    pub fn new() -> Self {
        Self { queue: Mutex::new(Queue::default()), length: AtomicUsize::new(0) }
    }

    /// Stands in line for a block of `class`.
    pub fn wait(&self, class: SizeClass, member: Arc<Member>) -> Ticket {
        let mut queue = self.queue();
        queue.count += 1;
        queue.last_ticket = queue.last_ticket.wrapping_add(1);
        let ticket = queue.last_ticket;
        queue.line.push_back(Waiter { ticket, class, member });
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
        let mut rung = Vec::new();
        let waiting = loop {
            let Some(class) = queue.line.front().map(|head| head.class) else { break None };
            let Some(outcome) = find(class) else { break Some(class) };
            if let Some(Waiter { ticket, member, .. }) = queue.line.pop_front() {
                rung.push(member.clone());
                queue.granted.push(Grant { ticket, member, outcome });
            }
        };
        self.note_length(&queue);
        drop(queue);
        ring(&rung);
        waiting
    }

    /// The ticket of a grant that `member` has not claimed yet.
    pub fn granted_to(&self, member: &Arc<Member>) -> Option<Ticket> {
        let queue = self.queue();
        let grant = queue.granted.iter().find(|grant| Arc::ptr_eq(&grant.member, member))?;
        Some(grant.ticket)
    }

    /// Takes what was granted for a ticket, or takes the ticket out of the line: whoever had it waits
    /// no more. `None` where it was not granted.
    pub fn take(&self, ticket: Ticket) -> Option<Result<Found, Refusal>> {
        let mut queue = self.queue();
        if let Some(index) = queue.granted.iter().position(|grant| grant.ticket == ticket) {
            return Some(queue.granted.remove(index).outcome);
        }
        queue.line.retain(|waiter| waiter.ticket != ticket);
        self.note_length(&queue);
        None
    }

    /// Takes all tickets of a thread, and returns the blocks that it was granted.
    pub fn dismiss(&self, member: &Arc<Member>) -> Vec<Block> {
        self.dismiss_where(|other| Arc::ptr_eq(member, other))
    }

    /// Takes everyone's tickets, and rings for them.
    pub fn dismiss_all(&self) -> Vec<Block> {
        let members: Vec<_> = {
            let queue = self.queue();
            queue.line.iter().map(|waiter| waiter.member.clone()).collect()
        };
        let blocks = self.dismiss_where(|_| true);
        ring(&members);
        blocks
    }

    fn dismiss_where(&self, is_meant: impl Fn(&Arc<Member>) -> bool) -> Vec<Block> {
        let mut queue = self.queue();
        queue.line.retain(|waiter| !is_meant(&waiter.member));
        self.note_length(&queue);
        let granted = queue.granted.extract_if(.., |grant| is_meant(&grant.member));
        granted.filter_map(|grant| grant.outcome.ok()).map(|found| found.block).collect()
    }

    /// Blocks that are granted and not yet claimed, by class.
    pub fn unclaimed(&self, mut each: impl FnMut(SizeClass)) {
        let queue = self.queue();
        queue.granted.iter().filter_map(|grant| grant.outcome.as_ref().ok()).for_each(|found| {
            each(found.block.class());
        });
    }

    /// How many waited, since the pool was made.
    pub fn count(&self) -> u64 {
        self.queue().count
    }

    fn note_length(&self, queue: &Queue) {
        self.length.store(queue.line.len(), Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ring(members: &[Arc<Member>]) {
    for member in members {
        member.ring();
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
            let member = Arc::new(Member::new());
            let ticket = shared.0.wait(class, member.clone());
            serve(&shared);
            giver.join().unwrap();
            assert_eq!(shared.0.granted_to(&member), Some(ticket));
            assert!(shared.0.take(ticket).is_some() && shared.0.take(ticket).is_none());
        });
    }
}
