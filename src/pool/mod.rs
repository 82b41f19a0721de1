//! The core: blocks of memory, who has them, and the counters. It never names Node-API.
//!
//! # Who owns a block
//!
//! Every block has exactly one owner at any time:
//!
//! ```text
//!                       ┌──────────────── lend ───────────────┐
//!   operating ──fresh──▶│                                     ▼
//!    system             │   DEPOT                      ONE BACKING STORE
//!       ▲               └──▲──▲────────────── settle ─────────┤  (a Loan)
//!       │                  │  │                               │ the lender has ended
//!       └── freed ◀── full, trimmed, closed                   ▼
//!                          └───── last holder gone ────── QUARANTINE
//! ```
//!
//! - [`Block`] can't be copied, so the compiler keeps the rule within Rust.
//! - [`Loan`] carries the rule over to JavaScript: a loan whose backing store was made ends
//!   when that is gone: its finalizer says so, or a [`Witness`] before that.
//! - The table of loans holds a block on behalf of the backing store that has it.
//! - [`Budget`] bounds all of it: bytes are reserved before memory is got.
//! - `Census` asserts the rule at every change of hands in debug builds.
//!
//! At rest, for every class,
//! `fresh == depot + loaned + freed + quarantined` (in blocks), and `loaned` is what JavaScript
//! has: leased, idle in a magazine, or detached and waiting for its finalizer.

mod allocator;
mod attachment;
mod class_counters;
mod config;
mod handle;
mod leak_sites;
mod loan;
mod loan_table;
mod quarantine;
mod stats;
mod thread_counters;
mod thread_state;
mod trimmer;
mod trimming;
mod unpooled;
mod waiters;
mod waker;
mod witness;

pub use crate::memory::block::{Block, OutOfMemory};
pub use crate::memory::budget::Budget;
pub use crate::memory::depot::{DEPOT_BYTES, Depot};
pub use crate::memory::size_class::{GRANULE, MAX_BLOCK_SIZE, SizeClass};
pub use crate::os::memory_limit::memory_limit;
pub use crate::os::pressure::Pressure;
pub use allocator::note_gone;
pub use attachment::Attachment;
pub use config::Config;
pub use handle::{Handle, NoPool};
pub use loan::{Lender, Loan, LoanKey};
pub use stats::{Figures, Stats, Totals};
pub use thread_counters::{
    BlockState, COLUMNS_PER_ROW, ClassTotals, Column, HEAD_COLUMNS, Left, RowColumn, SEGMENT_SHIFT,
    SegmentColumn, ThreadCounters, WordMemory,
};
pub use thread_state::{ThreadState, Tick};
pub use unpooled::{UnpooledKey, UnpooledTable};
pub use waiters::Ticket;
pub use waker::{PendingWake, Waker};
pub use witness::Witness;

use crate::memory::census::{Census, Owner};
use crate::sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard, Ordering};
use class_counters::PoolCounters;
use handle::OwnHandle;
use leak_sites::LeakSites;
use loan_table::{LoanTable, Record};
use quarantine::{Orphan, Quarantine};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Instant;
use waiters::{Found, Waiters};

/// How many blocks of dead threads are looked at in a call that someone waits for: about 10 µs' worth. The trimmer
/// looks at all of them.
const LOOKS: usize = 1024;

/// So much may be idle however little was in use lately, in bytes: a block or two of each size that a program takes in
/// turn.
pub const IDLE_ALLOWANCE: usize = 16 << 20;

/// One pool of the process: the depot, the loans, the quarantine and the counters, for all its threads.
pub struct Pool {
    config: Config,
    budget: Budget,
    depot: Depot,
    loans: LoanTable,
    quarantine: Quarantine,
    counters: PoolCounters,
    unpooled: UnpooledTable,
    waiters: Waiters,
    threads: Mutex<Threads>,
    closed: AtomicBool,
    census: Census,
    handle: OwnHandle,
    /// Whether the trimmer looks after this pool.
    is_watched: AtomicBool,
    /// When the next interval ends; `None` while none runs.
    next_tick: Mutex<Option<Instant>>,
    /// Bytes that the trimmer freed, by [`Reason`], and nobody was told of.
    untold: [AtomicUsize; Reason::COUNT],
    leak_sites: LeakSites,
    me: Weak<Pool>,
}

/// Why the trimmer frees idle memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Reason {
    /// Nobody needed it for a while.
    Idle = 0,
    /// The machine, or the container, runs short of memory.
    Pressure = 1,
}

impl Reason {
    /// How many reasons there are.
    pub const COUNT: usize = 2;

    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [Self::Idle, Self::Pressure];
}

/// The threads that use the pool.
#[derive(Default)]
struct Threads {
    all: Vec<Arc<ThreadState>>,
    /// What the threads counted that have left, and whose blocks are all back.
    retired: Option<Box<Totals>>,
    /// The most that the peaks of threads attached at one time came to, in bytes.
    peak_bytes: f64,
}

impl Threads {
    /// Keeps the figures of threads that won't change again, and not the threads.
    fn sweep(&mut self) {
        let Self { all, retired, peak_bytes } = self;
        let peaks = all.iter().map(|thread| thread.counters().read(Column::PeakBytes));
        // Not by `sum`, which has it that nothing adds up to -0.
        *peak_bytes = peak_bytes.max(peaks.fold(0.0, |sum, peak| sum + peak));
        all.retain(|thread| {
            let is_final = thread.counters().is_final();
            if is_final {
                retired.get_or_insert_default().add(thread.counters());
            }
            !is_final
        });
    }
}

/// Why there is no block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The ceiling: this many bytes must be given up first. All of the depot's are.
    Exhausted(usize),
    /// The operating system has none.
    OutOfMemory(OutOfMemory),
}

impl From<OutOfMemory> for Refusal {
    fn from(error: OutOfMemory) -> Self {
        Self::OutOfMemory(error)
    }
}

impl Pool {
    /// An empty pool.
    pub fn new(config: Config) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            budget: Budget::new(config.max_bytes),
            depot: Depot::new(if config.keeps_nothing_idle() {
                0
            } else {
                config.depot_bytes.min(config.max_bytes)
            }),
            loans: LoanTable::new(),
            quarantine: Quarantine::default(),
            counters: PoolCounters::new(),
            unpooled: UnpooledTable::new(),
            waiters: Waiters::new(),
            threads: Mutex::default(),
            closed: AtomicBool::new(false),
            census: Census::default(),
            handle: OwnHandle::default(),
            is_watched: AtomicBool::new(!config.has_trimmer),
            next_tick: Mutex::default(),
            untold: Default::default(),
            leak_sites: LeakSites::default(),
            me: me.clone(),
            config,
        })
    }

    /// Lets the calling thread use the pool.
    pub fn attach(self: &Arc<Self>) -> Attachment {
        let thread = Arc::new(ThreadState::new());
        let mut threads = self.threads();
        threads.sweep();
        threads.all.push(thread.clone());
        Attachment { pool: self.clone(), thread }
    }

    /// What the pool was told when it was made.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Names the pool for other threads of the process.
    pub fn handle(self: &Arc<Self>) -> Handle {
        self.handle.get(self)
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Ends leasing. Idle blocks are freed, those of other threads when they look; leased ones when
    /// they come back. Nobody waits any more.
    pub fn close(&self) {
        // SeqCst, with `keep`: either this drain sees the block that is coming back, or the thread
        // that brings it sees the pool closed.
        self.closed.store(true, Ordering::SeqCst);
        for block in self.waiters.dismiss_all() {
            self.free(block, Some(Owner::Depot));
        }
        self.trim(u64::MAX);
        for thread in &self.threads().all {
            thread.free_all();
        }
    }

    /// Frees idle blocks until `bytes` are freed or none is left that can be reached: those in the
    /// depot, the largest first, then those on their way to it, which are freed on arrival.
    /// Returns how many bytes were freed.
    pub fn trim(&self, bytes: u64) -> u64 {
        self.trim_some(bytes, usize::MAX)
    }

    /// The same, with at most so many blocks of the depot's.
    pub fn trim_some(&self, bytes: u64, blocks: usize) -> u64 {
        self.sweep_and_serve(LOOKS);
        let mut freed = self.trim_depot(bytes, blocks);
        for thread in &self.threads().all {
            if freed >= bytes {
                break;
            }
            let book = |class| self.count_freeing(class);
            freed += thread.counters().free_detached(bytes - freed, book);
        }
        self.serve();
        self.shrink();
        freed
    }

    fn trim_depot(&self, bytes: u64, mut blocks: usize) -> u64 {
        let mut freed = 0;
        for class in SizeClass::all().rev() {
            while freed < bytes && blocks > 0 {
                let Some(block) = self.depot.take(class) else { break };
                freed += block.size() as u64;
                blocks -= 1;
                self.free(block, Some(Owner::Depot));
            }
        }
        freed
    }

    /// How many bytes are idle in the depot.
    pub fn depot_bytes(&self) -> usize {
        self.depot.bytes()
    }

    /// Asks the threads to give up `bytes` of what they have idle.
    fn ask(&self, bytes: usize) {
        self.threads().all.iter().for_each(|thread| thread.ask(bytes));
    }

    /// The counters as they stand. Exact only while no block moves.
    ///
    /// Blocks that move while they are counted can be counted twice, or not at all. So what does not
    /// add up is counted again, as long as something moves.
    #[expect(clippy::cast_precision_loss, reason = "no machine has 2^52 bytes")]
    pub fn stats(&self) -> Stats {
        self.sweep_and_serve(LOOKS);
        let mut stats = self.count_until_balanced();
        // In use is a sum of what threads say one after the other, and may be a block too much.
        let in_use = to_whole(stats.total.in_use_bytes).min(self.budget.limit());
        let peak = self.counters.tell_peak(in_use.max(to_whole(stats.peak_in_use_bytes)));
        stats.peak_in_use_bytes = peak as f64;
        stats
    }

    fn count_until_balanced(&self) -> Stats {
        const ATTEMPTS: usize = 8;
        let mut stats = self.count();
        for _ in 0..ATTEMPTS {
            if stats.total.adds_up_to(self.budget.held()) {
                return stats;
            }
            let again = self.count();
            if again.total == stats.total {
                // Nothing moves: this is how it is.
                return again;
            }
            stats = again;
        }
        stats.total.fit_into(self.budget.held());
        stats
    }

    #[expect(clippy::cast_precision_loss, reason = "no machine has 2^52 bytes")]
    fn count(&self) -> Stats {
        self.unpooled.sweep(LOOKS);
        let (totals, peak_bytes) = {
            let mut threads = self.threads();
            threads.sweep();
            let mut totals = threads.retired.as_deref().cloned().unwrap_or_default();
            let mut peaks = 0.0;
            for thread in &threads.all {
                let counters = thread.counters();
                let others = totals.leased_bytes();
                totals.add(counters);
                // It learns of its peak at a release, or when it asks; another may ask before that.
                let leased =
                    totals.leased_bytes() - others - counters.read(Column::EndedElsewhereBytes);
                peaks += leased.max(counters.read(Column::PeakBytes));
            }
            threads.peak_bytes = threads.peak_bytes.max(peaks);
            // Each is a bound, and so is the ceiling: another thread may count a block before this one has
            // counted it off.
            let loaned = self.counters.most_loaned_bytes().min(self.budget.limit());
            (totals, threads.peak_bytes.min(loaned as f64))
        };
        let unclaimed = self.waiters.unclaimed();
        let in_depot = |class: SizeClass| self.depot.len(class) + unclaimed[class.index()];
        let mut stats =
            Stats::new(&totals, peak_bytes, in_depot, |class| self.counters.used(class));
        stats.count_unpooled_ends(&self.unpooled);
        stats.wait_count = self.waiters.count();
        (stats.waiting_count, stats.longest_wait) = self.waiters.now_waiting();
        stats.overhead_bytes = self.overhead_bytes();
        stats
    }

    /// What the pool costs besides its blocks, in bytes: what is kept here of each, and the places for them. What
    /// JavaScript and V8 keep of an `ArrayBuffer` is not among it.
    pub fn overhead_bytes(&self) -> usize {
        let all: usize = {
            let threads = self.threads();
            threads.all.iter().map(|thread| thread.bytes()).sum()
        };
        size_of::<Self>()
            + self.counters.bytes()
            + self.depot.bin_bytes()
            + self.loans.bytes()
            + self.quarantine.bytes()
            + self.unpooled.bytes()
            + self.waiters.bytes()
            + all
    }

    /// Gives back what the pool costs besides its blocks, where they have gone.
    pub fn shrink(&self) {
        for class in SizeClass::all() {
            if self.counters.used(class).is_some() {
                self.depot.shrink(class, self.counters.existing(class));
            }
        }
        self.loans.shrink();
        self.quarantine.shrink();
        self.unpooled.sweep(LOOKS);
        self.unpooled.shrink();
    }

    /// How many bytes the pool holds. Never above its ceiling.
    pub fn held_bytes(&self) -> usize {
        self.budget.held()
    }

    /// Whether a block of `class` fits under the ceiling at all, with everything else given back.
    pub fn can_ever_hold(&self, class: SizeClass) -> bool {
        class.block_size() <= self.holdable_bytes()
    }

    /// How many bytes there may be under the ceiling beside what is set aside for good.
    pub fn holdable_bytes(&self) -> usize {
        self.budget.limit().saturating_sub(self.quarantine.sealed_bytes())
    }

    /// Whether nobody waits for a block.
    pub fn nobody_waits(&self) -> bool {
        self.waiters.is_empty()
    }

    /// How many blocks are set aside, because another thread may still hold them.
    pub fn quarantined(&self) -> u64 {
        self.quarantine.count()
    }

    /// The leases that V8 serves.
    pub fn unpooled(&self) -> &UnpooledTable {
        &self.unpooled
    }

    /// What the trimmer has freed since this was asked last, in bytes.
    pub fn take_untold(&self, reason: Reason) -> usize {
        self.untold[reason as usize].swap(0, Ordering::Relaxed)
    }

    /// Notes the call site of a leak. Returns which one of those to be told it is; 0 where it is none of these.
    pub fn note_leak_site(&self, site: &str) -> u32 {
        self.leak_sites.note(site)
    }

    /// Ends the loan of a block whose backing store is gone, before its finalizer comes. Whether it
    /// was, and nobody had ended the loan.
    pub fn end_if_gone(&self, key: LoanKey) -> bool {
        let is_gone = |record: &Record| match &record.witness {
            // What V8 owns is gone when it is detached, or lives on under V8's care.
            _ if record.block.is_v8_backed() => true,
            Some(witness) => witness.is_gone(),
            None => false,
        };
        let Some(record) = self.loans.remove_if(key, is_gone) else { return false };
        let left = record.thread.counters().leave_row(record.row);
        self.end(record, left);
        true
    }

    /// What the block at `address`, of `size` bytes, is doing, whichever thread lent it; `None` where
    /// none is lent there.
    pub fn state_of(&self, address: usize, size: usize) -> Option<BlockState> {
        let look = |record: &Record| {
            (record.block.size() == size).then(|| record.thread.counters().state(record.row))
        };
        if let Some(state) = self.loans.look(address, look) {
            return state;
        }
        self.quarantine.has(address, size).then_some(BlockState::Leased)
    }

    /// The block at `address` is being released where it was moved to. Whether it was leased until
    /// now. Its `ArrayBuffer` must be detached next, and the loan [ended](Self::end_released_remotely).
    pub fn release_remotely(&self, address: usize, size: usize) -> bool {
        let look = |record: &Record| {
            let is_leased = record.block.size() == size
                && record.thread.counters().release_remotely(record.row);
            if is_leased {
                self.counters.class(record.block.class()).remote.add();
            }
            is_leased
        };
        self.loans
            .look(address, look)
            .unwrap_or_else(|| self.release_orphan_remotely(address, size))
    }

    /// The same in quarantine, where it counts as released from now on.
    fn release_orphan_remotely(&self, address: usize, size: usize) -> bool {
        let class = self.quarantine.release_remotely(address, size);
        if let Some(class) = class {
            let counters = self.counters.class(class);
            counters.seized.take();
            counters.remote.add();
        }
        class.is_some()
    }

    /// The `ArrayBuffer` over the block at `address` was detached.
    pub fn end_released_remotely(&self, address: usize) {
        match self.loans.look(address, |record| record.key) {
            // Where nobody can tell that the backing store is gone, the finalizer will.
            Some(key) => {
                self.end_if_gone(key);
            }
            None => {
                if let Some(orphan) = self.quarantine.take_gone_at(address) {
                    self.take_in(orphan);
                    self.serve();
                }
            }
        }
    }

    /// Ends a loan whose finalizer came, if nothing has ended it before.
    fn settle(&self, key: LoanKey, lender: Lender) {
        // In one step, so that who has the memory now, in another thread, can always be told that it is
        // the pool's: it stands in the register, or lies in quarantine.
        let leave = |record: Record| {
            let left = record.thread.counters().leave_row(record.row);
            if lender == Lender::Ending && self.may_have_a_holder(&record, left.state) {
                self.set_aside(record, left.state);
                return None;
            }
            Some((record, left))
        };
        match self.loans.remove_into(key, leave) {
            None => {}
            Some(Some((record, left))) => self.end(record, left),
            Some(None) => {
                self.watch_quarantine();
                // Who waits for more than the ceiling can hold from now on is told so.
                self.serve();
            }
        }
    }

    /// Whether another thread may have the block of a loan that its lender's end leaves in `state`.
    fn may_have_a_holder(&self, record: &Record, state: BlockState) -> bool {
        // Native code of another thread may still hold a detached one.
        let is_held = || record.witness.as_ref().is_some_and(|witness| !witness.is_gone());
        !record.block.is_v8_backed()
            && match state {
                BlockState::Detached | BlockState::Freeing | BlockState::ReleasedRemotely => {
                    is_held()
                }
                _ => self.may_live_on(state),
            }
    }

    /// Ends a loan that was struck out, and whose backing store is gone.
    fn end(&self, record: Record, left: Left) {
        let Record { mut block, thread, .. } = record;
        let state = left.state;
        count_ended_elsewhere(&thread, &block, state);
        // An idle block was scrubbed when it was released.
        if self.config.zero_on_release && state != BlockState::Idle && state != BlockState::Freeing
        {
            block.scrub();
        }
        match state {
            BlockState::Idle | BlockState::Detached => self.take_back(block),
            BlockState::ReleasedRemotely => {
                self.take_back(block);
                if left.sample > 0.0 {
                    thread.report(left);
                }
            }
            BlockState::Freeing => self.finish_freeing(block),
            BlockState::Leased | BlockState::Sampled => {
                self.counters.class(block.class()).collected.add();
                self.take_back(block);
                if state == BlockState::Sampled {
                    thread.report(left);
                }
            }
        }
    }

    /// Whether a block in `state` may have another holder when its lending thread ends.
    ///
    /// JavaScript can move a backing store to another `ArrayBuffer`, and so to another thread,
    /// without the pool's knowledge: by `transfer()`, and even where there is none by byte streams.
    /// So every block may that any code but ours ever saw and may still see: a leased one, and
    /// without detaching an idle one too, because stale views lead to it. A detached backing store
    /// has no holder at all.
    fn may_live_on(&self, state: BlockState) -> bool {
        match state {
            BlockState::Leased | BlockState::Sampled => true,
            BlockState::Idle => !self.config.detach_on_release,
            BlockState::Detached | BlockState::Freeing | BlockState::ReleasedRemotely => false,
        }
    }

    /// Takes back blocks of dead threads whose last holder is gone, and looks at no more than `looks` for that.
    /// Whether there were any: then those who wait may be [served](Self::serve).
    fn sweep_quarantine(&self, looks: usize) -> bool {
        let mut looks = looks.min(self.quarantine.watching());
        let mut has_swept = false;
        while let Some(orphan) = self.quarantine.take_gone(&mut looks) {
            has_swept = true;
            self.take_in(orphan);
        }
        has_swept
    }

    /// A block of a dead thread has no holder any more.
    fn take_in(&self, Orphan { mut block, state, .. }: Orphan) {
        if state == BlockState::Freeing {
            self.census.hand_over(&block, Some(Owner::Quarantine), None);
            self.let_go(block);
            return;
        }
        let counters = self.counters.class(block.class());
        counters.quarantined.take();
        if state.is_leased() {
            counters.seized.take();
            counters.collected.add();
        }
        if self.config.zero_on_release {
            block.scrub();
        }
        self.census.hand_over(&block, Some(Owner::Quarantine), Some(Owner::Depot));
        self.store(block);
    }

    fn sweep_and_serve(&self, looks: usize) {
        if self.sweep_quarantine(looks) {
            self.serve();
        }
    }

    /// A block has come back from its backing store.
    fn take_back(&self, block: Block) {
        self.counters.take_back(block.class());
        self.census.hand_over(&block, Some(Owner::BackingStore), Some(Owner::Depot));
        self.store(block);
        self.serve();
    }

    /// Keeps an idle block for the next who needs it: in the depot if there is room, else it goes to
    /// the operating system.
    fn store(&self, block: Block) {
        let class = block.class();
        let unkept = if self.is_closed() || block.is_v8_backed() {
            Some(block)
        } else {
            self.depot.offer(block).err()
        };
        if let Some(block) = unkept {
            self.counters.class(class).discarded.add();
            self.free(block, Some(Owner::Depot));
        } else if self.is_closed() {
            self.trim_depot(u64::MAX, usize::MAX);
        } else {
            self.be_watched();
        }
    }

    /// Whether the trimmer looks after the pool: not where there is no thread to be had for it.
    fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::SeqCst)
    }

    /// Has the trimmer look after the pool, because something is idle.
    fn be_watched(&self) {
        if !self.is_watched.load(Ordering::SeqCst)
            && !self.is_watched.swap(true, Ordering::SeqCst)
            && let Some(me) = self.me.upgrade()
        {
            trimmer::watch(&me);
        }
    }

    /// Serves those who wait, in their order, as far as there is memory.
    fn serve(&self) {
        if self.waiters.is_empty() {
            return;
        }
        let waiting = self.waiters.serve(|class| match self.find(class) {
            Err(Refusal::Exhausted(_)) if self.can_ever_hold(class) => None,
            outcome => Some(outcome),
        });
        if let Some(class) = waiting {
            self.ask(self.budget.shortage(class.block_size()).max(class.block_size()));
        }
    }

    /// An idle block of `class`, or one from the operating system; the depot's other blocks give way
    /// to it. It counts as the depot's until it is lent.
    fn find(&self, class: SizeClass) -> Result<Found, Refusal> {
        if let Some(block) = self.depot.take(class) {
            return Ok(Found { block, fresh: false });
        }
        let block = self.obtain(class)?;
        self.census.hand_over(&block, None, Some(Owner::Depot));
        Ok(Found { block, fresh: true })
    }

    /// A block of `class` from the operating system, under the ceiling.
    fn obtain(&self, class: SizeClass) -> Result<Block, Refusal> {
        let size = class.block_size();
        while !self.budget.reserve(size) {
            let shortage = self.budget.shortage(size);
            let has_swept = self.sweep_quarantine(LOOKS);
            if self.trim_depot(shortage as u64, usize::MAX) == 0 && !has_swept {
                return Err(Refusal::Exhausted(shortage));
            }
        }
        // Before there is a place for it, which must not be given back meanwhile.
        self.counters.class(class).fresh.add();
        match self.got(class) {
            Ok(block) => Ok(block),
            Err(error) => {
                self.counters.class(class).fresh.take();
                self.budget.give_up(size);
                Err(error.into())
            }
        }
    }

    /// A block of `class` was got from the operating system. Where more is idle than is in proportion to what was in use
    /// lately, frees idle blocks of the depot, those that were needed least first. Returns how many bytes the thread
    /// must free of its own.
    ///
    /// So idle blocks of other sizes give way to those that are needed, and don't add up.
    fn replace_idle(&self, class: SizeClass) -> usize {
        let mut surplus = self.surplus(class.block_size());
        let mut freed = 0;
        while surplus > 0
            && let Some(block) = self.depot.take_coldest()
        {
            let size = block.size();
            self.free(block, Some(Owner::Depot));
            freed += size;
            surplus = surplus.saturating_sub(size);
        }
        self.tell(Reason::Idle, freed as u64);
        surplus
    }

    /// How many idle bytes are to give way to `got` bytes: at most twice as many, so that a lease takes no longer
    /// however much is idle.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole bytes")]
    fn surplus(&self, got: usize) -> usize {
        let held = self.budget.held().saturating_sub(self.quarantine.sealed_bytes());
        if held <= IDLE_ALLOWANCE || self.config.idle_timeout.is_none() {
            return 0;
        }
        let peaks = self.threads().all.iter().fold(0.0, |sum, thread| {
            // A thread learns of its peak at a release, or when it needs a block.
            sum + thread.counters().read(Column::RecentPeakBytes)
        });
        let in_use = peaks as usize + got;
        held.saturating_sub(in_use + IDLE_ALLOWANCE.max(in_use / 2)).min(2 * got)
    }

    fn got(&self, class: SizeClass) -> Result<Block, OutOfMemory> {
        if !self.config.external {
            return Ok(Block::v8_backed(class));
        }
        self.depot.prepare(class, self.counters.existing(class))?;
        Block::obtain(class)
    }

    /// Gives a block back to the operating system.
    fn free(&self, block: Block, owner: Option<Owner>) {
        self.census.hand_over(&block, owner, None);
        self.counters.class(block.class()).freed.add();
        self.let_go(block);
    }

    /// Counts a block as freed before its finalizer has freed it.
    fn count_freeing(&self, class: SizeClass) {
        self.counters.take_back(class);
        self.counters.class(class).freed.add();
    }

    /// Frees a block whose freeing is in the counters already.
    fn finish_freeing(&self, block: Block) {
        self.census.hand_over(&block, Some(Owner::BackingStore), None);
        self.let_go(block);
        self.serve();
    }

    fn let_go(&self, block: Block) {
        let size = block.size();
        drop(block);
        self.budget.give_up(size);
    }

    /// A block's lender has ended: into quarantine, by its last word on it.
    fn set_aside(&self, record: Record, state: BlockState) {
        let Record { block, thread, witness, .. } = record;
        count_ended_elsewhere(&thread, &block, state);
        self.book_quarantine(&block, state);
        self.quarantine.admit(Orphan { block, state, witness });
    }

    /// Has the trimmer look for what comes out of quarantine.
    fn watch_quarantine(&self) {
        // Kept or not: the trimmer keeps the pool alive, too, until the block is free.
        self.is_watched.store(true, Ordering::SeqCst);
        if self.config.has_trimmer
            && let Some(me) = self.me.upgrade()
        {
            trimmer::watch(&me);
        }
    }

    fn book_quarantine(&self, block: &Block, state: BlockState) {
        self.census.hand_over(block, Some(Owner::BackingStore), Some(Owner::Quarantine));
        if state == BlockState::Freeing {
            // In the counters it is freed.
            return;
        }
        self.counters.take_back(block.class());
        let counters = self.counters.class(block.class());
        counters.quarantined.add();
        if state.is_leased() {
            counters.seized.add();
        }
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number of bytes of the counters; 0 for one below.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
fn to_whole(bytes: f64) -> usize {
    bytes as usize
}

/// Notes a block that its lender had leased and has not released itself.
fn count_ended_elsewhere(thread: &ThreadState, block: &Block, state: BlockState) {
    if state.is_leased() || state == BlockState::ReleasedRemotely {
        thread.counters().add_ended_elsewhere(block.size());
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Through `trim` and not by dropping the depot, so that the census sees it.
        self.trim_depot(u64::MAX, usize::MAX);
    }
}

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;
