//! The core: blocks of memory, their owners, and the counters. It knows nothing of Node-API.
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
//! - [`Block`] can't be copied, so the compiler enforces the rule within Rust.
//! - [`Loan`] carries the rule over to JavaScript: it ends when its backing store is gone. The
//!   finalizer reports that, or a [`Witness`] before it.
//! - The loan table owns a block on behalf of its backing store.
//! - [`Budget`] bounds all blocks: bytes are reserved before memory is got.
//! - `Census` asserts the rule at every change of owner in debug builds.
//!
//! At rest, for every class, `fresh == depot + loaned + freed + quarantined` (in blocks).
//! JavaScript has the `loaned` ones: leased, idle in a magazine, or detached and waiting for their
//! finalizer.
//!
//! # Where to look
//!
//! `impl Pool` is spread over files, by what changes together:
//!
//! | file | subject |
//! |---|---|
//! | `threads.rs` | the threads that use the pool |
//! | `obtaining.rs` | where a block to lend comes from |
//! | `settling.rs` | how a loan ends, and what becomes of its block |
//! | `remote.rs` | blocks that another thread has than their lender |
//! | `storing.rs` | to the depot, or back to the operating system |
//! | `waiting.rs` | the waiters, and the ceiling |
//! | `trimming.rs` | frees idle memory, by call, by time and under pressure |
//! | `counting.rs` | statistics and overhead |

mod allocator;
mod attachment;
mod class_counters;
mod config;
mod counting;
mod handle;
mod leak_sites;
mod loan;
mod loan_table;
mod obtaining;
mod quarantine;
mod remote;
mod settling;
mod stats;
mod storing;
mod thread_counters;
mod thread_state;
mod threads;
mod trimmer;
mod trimming;
mod unpooled;
mod waiters;
mod waiting;
mod waker;
mod witness;

pub use crate::memory::block::{Block, OutOfMemory};
pub use crate::memory::budget::Budget;
pub use crate::memory::depot::{DEPOT_BYTES, Depot};
pub use crate::memory::size_class::{GRANULE, MAX_BLOCK_SIZE, SizeClass};
pub use crate::os::memory_limit::memory_limit;
pub use crate::os::pressure::Pressure;
pub use crate::os::process::first_node_options;
pub use allocator::note_gone;
pub use attachment::{Attachment, Fate};
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
use crate::sync::{AtomicBool, AtomicUsize, Mutex, Ordering};
use class_counters::PoolCounters;
use handle::OwnHandle;
use leak_sites::LeakSites;
use loan_table::LoanTable;
use quarantine::Quarantine;
use std::sync::{Arc, Weak};
use std::time::Instant;
use threads::Threads;
use waiters::Waiters;

/// The most quarantined blocks that a user's call looks at: about 10 µs' worth. The trimmer looks
/// at all of them.
const LOOKS: usize = 1024;

/// The bytes that may be idle, however little was in use recently: a block or two of each size that
/// a program uses in turn.
pub const IDLE_ALLOWANCE: usize = 16 << 20;

/// One pool of the process: the depot, the loans, the quarantine and the counters of all its
/// threads.
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
    /// True if the trimmer watches this pool.
    is_watched: AtomicBool,
    /// When the next interval ends; `None` while none runs.
    next_tick: Mutex<Option<Instant>>,
    /// Bytes that the trimmer freed, and that no thread has reported yet, by [`Reason`].
    unreported: [AtomicUsize; Reason::COUNT],
    leak_sites: LeakSites,
    me: Weak<Pool>,
}

/// The reason why the trimmer frees idle memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Reason {
    /// Nobody needed it for a while.
    Idle = 0,
    /// The machine or the container runs short of memory.
    Pressure = 1,
}

impl Reason {
    /// The number of reasons.
    pub const COUNT: usize = 2;

    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [Self::Idle, Self::Pressure];
}

/// The reason why there is no block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The pool is at its ceiling, and must first give up this many bytes. The depot has none left.
    Exhausted(usize),
    /// The operating system has no memory.
    OutOfMemory(OutOfMemory),
}

impl From<OutOfMemory> for Refusal {
    fn from(error: OutOfMemory) -> Self {
        Self::OutOfMemory(error)
    }
}

impl Pool {
    /// Makes an empty pool.
    pub fn new(config: Config) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            budget: Budget::new(config.max_bytes),
            depot: Depot::new(if config.stores_nothing() {
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
            unreported: Default::default(),
            leak_sites: LeakSites::default(),
            me: me.clone(),
            config,
        })
    }

    /// Returns the settings that the pool was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the pool's handle, by which other threads of the process find it.
    pub fn handle(self: &Arc<Self>) -> Handle {
        self.handle.get(self)
    }

    /// Ends leasing, and dismisses all waiters. Frees idle blocks: other threads free theirs when
    /// they look, and leased blocks follow when they come back.
    pub fn close(&self) {
        // SeqCst, with `store`: either this drain sees a block that comes back, or the thread that
        // brings it sees the pool closed.
        self.closed.store(true, Ordering::SeqCst);
        for block in self.waiters.dismiss_all() {
            self.free(block, Some(Owner::Depot));
        }
        self.trim(u64::MAX);
        for thread in &self.threads().all {
            thread.free_all();
        }
    }

    /// Returns whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Returns how many bytes the pool holds: never more than its ceiling.
    pub fn held_bytes(&self) -> usize {
        self.budget.held()
    }

    /// Returns how many bytes are idle in the depot.
    pub fn depot_bytes(&self) -> usize {
        self.depot.bytes()
    }

    /// Returns how many blocks are in quarantine, because another thread may still hold them.
    pub fn quarantined(&self) -> u64 {
        self.quarantine.count()
    }

    /// Returns the leases that V8 serves.
    pub fn unpooled(&self) -> &UnpooledTable {
        &self.unpooled
    }

    /// Notes the call site of a leak. Returns its number if a warning must follow, else 0.
    pub fn note_leak_site(&self, site: &str) -> u32 {
        self.leak_sites.note(site)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Takes each block out instead of dropping the depot, so that the census sees it.
        self.trim_depot(u64::MAX, usize::MAX);
    }
}

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;
