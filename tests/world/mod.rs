//! A pool, the threads and backing stores that have its blocks, and what must be true of them.
//!
//! One thread plays the runtime here, step by step. After each step:
//! - a block has one owner: the pool lends nothing that another has;
//! - its bytes are those that its holder wrote;
//! - for every class, `fresh == in use + idle + freed + quarantined`, and each of these is what the
//!   steps have made it;
//! - the pool holds what it got and has not freed, and never more than its ceiling;
//! - nobody waits while there is room, or for more than the ceiling can still hold.

mod store;

use cistern::pool::{
    Attachment, BlockState, Config, Fate as CoreFate, Lender, Loan, Pool, Pressure, Refusal,
    SegmentColumn, SizeClass, Stats, Ticket,
};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{Place, Store};

const THREADS: usize = 3;

/// At the edges of classes, in slabs and in mappings.
const SIZES: [usize; 12] = [1, 64, 65, 256, 257, 1000, 4096, 4097, 16_384, 20_000, 65_536, 90_000];

const CEILINGS: [usize; 5] = [4096, 20_000, 66_000, 300_000, usize::MAX];

const DEPOTS: [usize; 3] = [4096, 64 * 1024, 1 << 20];

const TIMEOUTS: [Option<Duration>; 4] =
    [None, Some(Duration::ZERO), Some(Duration::from_millis(10)), Some(Duration::MAX)];

/// The settings of the pool. Numbers are indices, taken modulo.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Setup {
    pub detach_on_release: bool,
    pub zero_on_release: bool,
    pub is_v8_backed: bool,
    pub ceiling: u8,
    pub depot: u8,
    pub timeout: u8,
}

/// Something that happens. Numbers are indices, taken modulo. Impossible steps are skipped.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Step {
    /// A magazine is filled; a `watched` backing store has a witness.
    Lend {
        thread: u8,
        size: u8,
        watched: bool,
    },
    /// A block is leased from its magazine.
    Lease {
        which: u8,
    },
    /// A leased block goes back to its magazine.
    Release {
        which: u8,
    },
    /// An `ArrayBuffer` is detached; a `held` block has another holder.
    Detach {
        which: u8,
        fate: Fate,
        held: bool,
    },
    /// A block is released by its address, in whichever thread.
    ReleaseRemotely {
        which: u8,
        held: bool,
    },
    /// The last holder of a backing store is gone.
    DropHolder {
        which: u8,
    },
    /// The core checks whether it is gone.
    Ask {
        which: u8,
    },
    /// The finalizer runs.
    Finalize {
        which: u8,
    },
    /// Node-API refuses to make an `ArrayBuffer`.
    Withdraw {
        which: u8,
    },
    /// A thread ends; the bits of `survivors` say which of its backing stores have another holder.
    End {
        thread: u8,
        survivors: u64,
        leaves_first: bool,
    },
    Wait {
        thread: u8,
        size: u8,
    },
    Claim {
        thread: u8,
        watched: bool,
    },
    Cancel {
        thread: u8,
    },
    Trim {
        bytes: u32,
    },
    TrimAll,
    Visit {
        milliseconds: u8,
        pressure: u8,
    },
    Close,
}

/// The fate of a block that is detached.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Fate {
    Store,
    Free,
    Discard,
    /// It can't be detached, and stays where it was.
    Refuse,
}

/// A thread that uses the pool.
struct User {
    attachment: Attachment,
    ticket: Option<(Ticket, SizeClass)>,
}

/// The pool and all that surrounds it.
pub struct World {
    pool: Arc<Pool>,
    threads: [Option<User>; THREADS],
    stores: Vec<Store>,
    last_mark: u8,
    now: Instant,
    leases: u64,
    released: u64,
    collected: u64,
}

impl World {
    pub fn new(setup: Setup) -> Self {
        let pick = |index: u8, count: usize| usize::from(index) % count;
        let config = Config {
            max_bytes: CEILINGS[pick(setup.ceiling, CEILINGS.len())],
            detach_on_release: setup.detach_on_release,
            zero_on_release: setup.zero_on_release,
            idle_timeout: TIMEOUTS[pick(setup.timeout, TIMEOUTS.len())],
            depot_bytes: DEPOTS[pick(setup.depot, DEPOTS.len())],
            external: !setup.is_v8_backed,
            // The steps decide when it looks.
            has_trimmer: false,
            ..Config::default()
        };
        Self {
            pool: Pool::new(config),
            threads: [const { None }; THREADS],
            stores: Vec::new(),
            last_mark: 0,
            now: Instant::now(),
            leases: 0,
            released: 0,
            collected: 0,
        }
    }

    /// Takes a step, and checks all invariants.
    pub fn step(&mut self, step: Step) {
        match step {
            Step::Lend { thread, size, watched } => self.lend(thread, class(size), watched),
            Step::Lease { which } => self.lease(which),
            Step::Release { which } => self.release(which),
            Step::Detach { which, fate, held } => self.detach(which, fate, held),
            Step::ReleaseRemotely { which, held } => self.release_remotely(which, held),
            Step::DropHolder { which } => {
                if let Some(store) = self.pick(which) {
                    self.stores[store].drop_holder();
                }
                // Nothing has swept the quarantine yet: the next step may.
                return;
            }
            Step::Ask { which } => self.ask(which),
            Step::Finalize { which } => {
                if let Some(store) = self.pick(which) {
                    self.finalize(store);
                }
            }
            Step::Withdraw { which } => self.withdraw(which),
            Step::End { thread, survivors, leaves_first } => {
                self.end(usize::from(thread) % THREADS, survivors, leaves_first);
            }
            Step::Wait { thread, size } => self.wait(thread, class(size)),
            Step::Claim { thread, watched } => self.claim(thread, watched),
            Step::Cancel { thread } => {
                let user = self.thread_of(thread);
                if let Some((ticket, _)) = user.ticket.take() {
                    user.attachment.cancel(ticket);
                }
            }
            Step::Trim { bytes } => self.trim(bytes.into()),
            Step::TrimAll => self.trim(u64::MAX),
            Step::Visit { milliseconds, pressure } => self.visit(milliseconds, pressure),
            Step::Close => {
                self.pool.close();
                self.threads.iter_mut().flatten().for_each(|user| user.ticket = None);
            }
        }
        self.check();
    }

    /// Drops all holders. The pool then gets all its memory back, except blocks without a witness.
    pub fn end_all(mut self) {
        for thread in 0..THREADS {
            self.end(thread, u64::MAX, thread % 2 == 0);
        }
        self.check();
        self.stores.iter_mut().for_each(Store::drop_holder);
        self.check();
        self.pool.close();
        self.check();
        let sealed = self.stores.iter().filter(|store| store.place == Place::Sealed);
        assert_eq!(self.pool.held_bytes(), sealed.map(Store::size).sum());
        let left = Arc::downgrade(&self.pool);
        self.stores.clear();
        drop(self.pool);
        assert!(left.upgrade().is_none(), "the pool is gone");
    }

    fn thread_of(&mut self, thread: u8) -> &mut User {
        let user = &mut self.threads[usize::from(thread) % THREADS];
        user.get_or_insert_with(|| User { attachment: self.pool.attach(), ticket: None })
    }

    fn pick(&self, which: u8) -> Option<usize> {
        (!self.stores.is_empty()).then(|| usize::from(which) % self.stores.len())
    }

    /// Picks one whose lender has its `ArrayBuffer`.
    fn pick_attached(&self, which: u8) -> Option<usize> {
        self.pick(which).filter(|store| self.stores[*store].is_attached())
    }

    fn lend(&mut self, thread: u8, class: SizeClass, watched: bool) {
        let attachment = &self.thread_of(thread).attachment;
        if let Some(loan) = attachment.lend_idle(class).expect("memory for the loan table") {
            return self.insert(thread, loan, watched, true);
        }
        match attachment.lend_fresh(class) {
            Ok(loan) => self.insert(thread, loan, watched, false),
            Err(Refusal::Exhausted(_)) => {
                let wanted = self.pool.held_bytes().saturating_add(class.block_size());
                let is_full = wanted > self.pool.config().max_bytes;
                assert!(is_full || !self.pool.nobody_waits(), "refused although there is room");
            }
            Err(Refusal::OutOfMemory(error)) => panic!("{error}"),
        }
    }

    fn insert(&mut self, thread: u8, loan: Loan, watched: bool, was_idle: bool) {
        let thread = usize::from(thread) % THREADS;
        let user = self.threads[thread].as_ref().expect("the lender");
        let store = Store::new(loan, thread, user.attachment.thread().clone(), watched);
        assert!(!self.stores.iter().any(|other| other.overlaps(&store)), "lent twice");
        let zeroes = self.pool.config().zero_on_release;
        // A block that was granted and not claimed is in the depot as it came.
        if was_idle && zeroes && self.pool.stats().wait_count == 0 {
            store.check_bytes(0);
        }
        self.stores.push(store);
        if zeroes {
            self.stores.last_mut().expect("just pushed").fill(0);
        } else {
            self.write(self.stores.len() - 1);
        }
    }

    /// The holder writes.
    fn write(&mut self, store: usize) {
        self.last_mark = self.last_mark.wrapping_add(1);
        self.stores[store].fill(self.last_mark);
    }

    /// JavaScript overwrites a block at its release, if the pool demands it.
    fn scrub(&mut self, store: usize) {
        if self.pool.config().zero_on_release {
            self.stores[store].fill(0);
        }
    }

    fn lease(&mut self, which: u8) {
        let Some(store) = self.pick_attached(which) else { return };
        if self.stores[store].state == BlockState::Idle {
            self.stores[store].lease();
            self.leases += 1;
            self.write(store);
        }
    }

    fn release(&mut self, which: u8) {
        let Some(store) = self.pick_attached(which) else { return };
        if self.stores[store].state == BlockState::Leased {
            self.released += 1;
            self.stores[store].count(SegmentColumn::Releases);
            self.scrub(store);
            self.stores[store].set_state(BlockState::Idle);
        }
    }

    fn detach(&mut self, which: u8, fate: Fate, held: bool) {
        let Some(index) = self.pick_attached(which) else { return };
        self.scrub(index);
        let store = &mut self.stores[index];
        let user = self.threads[store.lender].as_ref().expect("the lender lives");
        let (row, class, before) = (store.row, store.class, store.state);
        let (core_fate, is_refused) = match fate {
            Fate::Store => (CoreFate::Store, false),
            Fate::Free => (CoreFate::Free, false),
            Fate::Discard => (CoreFate::Discard, false),
            Fate::Refuse => (CoreFate::Discard, true),
        };
        assert_eq!(user.attachment.mark_detached(row, class, core_fate), before);
        if is_refused {
            return user.attachment.undo_detached(row, class, core_fate, before);
        }
        store.state = user.attachment.counters().state(row);
        if before == BlockState::Leased {
            self.released += 1;
            store.count(SegmentColumn::Releases);
        }
        if !held || store.is_v8_backed() {
            store.drop_holder();
        }
        let is_known_gone = store.is_known_gone();
        assert_eq!(self.pool.end_if_gone(store.key), is_known_gone);
        if is_known_gone {
            self.note_return(index);
        }
    }

    fn release_remotely(&mut self, which: u8, held: bool) {
        let Some(index) = self.pick(which) else { return };
        let store = &mut self.stores[index];
        let Some(address) = store.address() else { return };
        if store.is_gone {
            return;
        }
        let size = store.size();
        let expected = store.state_by_address();
        assert_eq!(self.pool.state_of(address, size), expected);
        assert_eq!(self.pool.state_of(address, size - 1), None);
        assert!(!self.pool.release_remotely(address + 1, size));
        let is_leased = expected.is_some_and(BlockState::is_leased);
        assert_eq!(self.pool.release_remotely(address, size), is_leased);
        if !is_leased {
            return;
        }
        self.released += 1;
        store.state = BlockState::ReleasedRemotely;
        assert!(!self.pool.release_remotely(address, size), "once");
        if !held {
            store.drop_holder();
        }
        let returns = store.place == Place::LoanTable && store.is_known_gone();
        self.pool.end_released_remotely(address);
        if returns {
            self.note_return(index);
        }
    }

    fn ask(&mut self, which: u8) {
        let Some(index) = self.pick(which) else { return };
        let store = &self.stores[index];
        // The core relies on this: a V8-backed one is detached before anyone asks.
        let ends = store.is_v8_backed() || store.is_known_gone();
        let ends = ends && store.place == Place::LoanTable;
        assert_eq!(self.pool.end_if_gone(store.key), ends);
        if ends {
            self.note_return(index);
        }
    }

    fn finalize(&mut self, store: usize) {
        let at = &mut self.stores[store];
        let Some(loan) = at.loan.take() else { return };
        at.drop_holder();
        loan.settle(Lender::Alive);
        if at.place == Place::LoanTable {
            self.note_return(store);
        }
    }

    fn withdraw(&mut self, which: u8) {
        let Some(store) = self.pick_attached(which) else { return };
        let at = &mut self.stores[store];
        if at.leases > 0 {
            return;
        }
        at.loan.as_ref().expect("its lender lives").withdraw();
        at.drop_holder();
        self.note_return(store);
    }

    fn end(&mut self, thread: usize, survivors: u64, leaves_first: bool) {
        let mut user = self.threads[thread].take();
        if leaves_first {
            user = None;
        }
        let mut bits = survivors;
        for index in 0..self.stores.len() {
            let store = &mut self.stores[index];
            if store.lender != thread {
                continue;
            }
            let Some(loan) = store.loan.take() else { continue };
            if store.place == Place::LoanTable {
                store.sync();
                if !(store.may_survive(self.pool.config()) && bits & 1 == 1) {
                    store.drop_holder();
                }
                bits = bits.rotate_right(1);
                match store.after_its_lender(self.pool.config()) {
                    Place::Returned => self.note_return(index),
                    place => store.place = place,
                }
            }
            loan.settle(Lender::Ending);
        }
        drop(user);
    }

    fn wait(&mut self, thread: u8, class: SizeClass) {
        let is_closed = self.pool.is_closed();
        let user = self.thread_of(thread);
        if user.ticket.is_none() {
            let ticket = user.attachment.wait(class);
            user.ticket = (!is_closed).then_some((ticket, class));
        }
    }

    fn claim(&mut self, thread: u8, watched: bool) {
        let user = self.thread_of(thread);
        let Some(ticket) = user.attachment.granted() else { return };
        let (waits, class) = user.ticket.take().expect("only waiters are granted blocks");
        assert_eq!(waits, ticket);
        let claimed = user.attachment.claim(ticket);
        assert_eq!(user.attachment.granted(), None);
        match claimed {
            Ok(loan) => self.insert(thread, loan.expect("it was granted"), watched, false),
            Err(Refusal::Exhausted(_)) => assert!(!self.pool.can_ever_hold(class)),
            Err(Refusal::OutOfMemory(error)) => panic!("{error}"),
        }
    }

    /// Claims the tickets that may hold a refusal: their blocks no longer fit, but may have been
    /// granted while they did.
    fn claim_refusals(&mut self) {
        for thread in 0..THREADS {
            let ticket = self.threads[thread].as_ref().and_then(|user| user.ticket);
            if ticket.is_some_and(|(_, class)| !self.pool.can_ever_hold(class)) {
                self.claim(u8::try_from(thread).expect("few"), false);
            }
        }
    }

    fn trim(&mut self, bytes: u64) {
        if self.pool.trim(bytes) < bytes {
            let stats = self.pool.stats();
            assert_eq!(self.depot_bytes(&stats), 0, "there was more to free");
        }
    }

    fn visit(&mut self, milliseconds: u8, pressure: u8) {
        self.now += Duration::from_millis(milliseconds.into());
        let pressure = match pressure % 8 {
            0 => Pressure::Critical,
            1 => Pressure::High,
            _ => Pressure::Calm,
        };
        let due = self.pool.visit(self.now, pressure);
        assert!(due.is_none_or(|due| due >= self.now));
        if pressure == Pressure::Critical {
            let stats = self.pool.stats();
            assert_eq!(self.depot_bytes(&stats), 0, "memory is short");
        }
    }

    /// Notes that the pool has the block back.
    fn note_return(&mut self, store: usize) {
        let store = &mut self.stores[store];
        store.place = Place::Returned;
        self.collected += u64::from(store.state == BlockState::Leased);
    }

    /// Returns the bytes that threads were granted and did not claim.
    fn granted_bytes(&self) -> usize {
        let granted = |user: &User| {
            let ticket = user.attachment.granted()?;
            let (waits, class) = user.ticket?;
            assert_eq!(waits, ticket, "only waiters are granted blocks");
            Some(class.block_size())
        };
        self.threads.iter().flatten().filter_map(granted).sum()
    }

    fn sum(&self, is_meant: impl Fn(&Store) -> bool) -> usize {
        self.stores.iter().filter(|store| is_meant(store)).map(Store::size).sum()
    }

    /// Returns the bytes that are idle in the depot, by the counters.
    fn depot_bytes(&mut self, stats: &Stats) -> usize {
        self.claim_refusals();
        let idle = bytes(stats.total.idle_bytes);
        self.sync();
        let lent = self.sum(|store| {
            let is_idle = !store.state.is_leased() && store.state != BlockState::Freeing;
            store.place == Place::LoanTable && is_idle
        });
        let granted = self.granted_bytes();
        assert!(idle >= lent + granted, "{idle} bytes idle, {lent} lent, {granted} granted");
        idle - lent - granted
    }

    /// Takes over what the pool did to the stores: `trim` marks them as freeing, and `stats` sweeps
    /// the quarantine.
    fn sync(&mut self) {
        for index in 0..self.stores.len() {
            let store = &mut self.stores[index];
            store.sync();
            if store.place == Place::Quarantine && store.is_gone {
                self.note_return(index);
            }
        }
        self.stores.retain(|store| store.place != Place::Returned || store.loan.is_some());
    }

    fn check(&mut self) {
        let stats = self.pool.stats();
        let in_depot = self.depot_bytes(&stats);
        assert!(in_depot <= self.pool.config().depot_bytes, "{in_depot} bytes in the depot");
        self.stores.iter().for_each(Store::check);
        for figures in stats.classes.iter().map(|(_, figures)| figures).chain([&stats.total]) {
            let live = figures.in_use_bytes + figures.idle_bytes + figures.quarantined_bytes;
            let sum = live + figures.freed_bytes;
            assert!((figures.fresh_bytes - sum).abs() < 0.5, "out of balance: {figures:?}");
            assert!(figures.idle_count >= 0.0 && figures.in_use_count >= 0.0, "{figures:?}");
        }
        let total = stats.total;
        let is_aside = |store: &Store| matches!(store.place, Place::Quarantine | Place::Sealed);
        let is_freeing = |store: &Store| store.state == BlockState::Freeing;
        let in_use = self.sum(|store| store.place == Place::LoanTable && store.state.is_leased());
        assert_eq!(bytes(total.in_use_bytes), in_use);
        let quarantined = self.sum(|store| is_aside(store) && !is_freeing(store));
        assert_eq!(bytes(total.quarantined_bytes), quarantined);
        assert_eq!(
            self.pool.quarantined(),
            self.stores.iter().filter(|s| is_aside(s)).count() as u64
        );
        let freeing = self.sum(|store| store.place != Place::Returned && is_freeing(store));
        let got = bytes(total.fresh_bytes) - bytes(total.freed_bytes);
        let held = self.pool.held_bytes();
        assert_eq!(held, got + freeing);
        assert!(held <= self.pool.config().max_bytes);
        assert_eq!(bytes(total.alloc_count) as u64, self.leases);
        assert_eq!(bytes(total.release_count) as u64, self.released);
        assert_eq!(bytes(total.collected_count) as u64, self.collected);
        self.check_queue(held - in_depot);
    }

    /// Checks that the first waiter waits for lack of room, with `needed` bytes in use.
    fn check_queue(&self, needed: usize) {
        let waits = |user: &&User| user.attachment.granted().is_none();
        let queue = self.threads.iter().flatten().filter(waits).filter_map(|user| user.ticket);
        let head = queue.min_by_key(|(ticket, _)| *ticket);
        assert_eq!(head.is_none(), self.pool.nobody_waits());
        if let Some((_, class)) = head {
            let is_full = needed + class.block_size() > self.pool.config().max_bytes;
            assert!(is_full, "someone waits for {class}, and there is room");
            assert!(self.pool.can_ever_hold(class), "someone waits for {class} in vain");
        }
    }
}

fn class(size: u8) -> SizeClass {
    SizeClass::fitting(SIZES[usize::from(size) % SIZES.len()]).expect("a class")
}

/// Converts a figure to a whole number.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "asserted")]
fn bytes(figure: f64) -> usize {
    assert!(figure >= 0.0 && figure.fract() == 0.0, "{figure}");
    figure as usize
}
