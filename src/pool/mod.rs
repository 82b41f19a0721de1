//! The core: blocks of memory, who has them, and the books. It never names Node-API.
//!
//! # Who owns a block
//!
//! Every block has exactly one owner at any time:
//!
//! ```text
//!                       ┌──────────────── lend ───────────────┐
//!   operating ──fresh──▶│                                     ▼
//!    system             │   DEPOT                      ONE BACKING STORE
//!       ▲               └─────▲────────────── settle ─────────┤  (a Loan)
//!       │                     │                               │
//!       └── freed ◀── full, trimmed, closed                   ▼
//!                                                         QUARANTINE
//! ```
//!
//! - [`Block`] can't be copied, so the compiler keeps the rule within Rust.
//! - [`Loan`] carries the rule over to JavaScript: only the finalizer ends a loan whose backing
//!   store was made.
//! - `Census` asserts the rule at every change of hands in debug builds.
//!
//! At rest, for every class,
//! `fresh == depot + loaned + freed + quarantined` (in blocks), and `loaned` is what JavaScript
//! has: leased, idle in a magazine, or detached and waiting for its finalizer.

mod block;
mod books;
mod census;
mod config;
mod depot;
mod ledger;
mod loan;
mod memory;
mod quarantine;
mod size_class;
mod stats;
mod sync;

pub use block::{Block, OutOfMemory};
pub use config::Config;
pub use depot::{DEPOT_BYTES, Depot};
pub use ledger::{Ledger, SEATS_PER_SEGMENT, SeatState, SeatWord, Sums, WORDS_PER_SEAT, Word};
pub use loan::{Lender, Loan};
pub use size_class::{GRANULE, MAX_BLOCK_SIZE, SizeClass};
pub use stats::{Figures, Stats, Tally};

use books::Books;
use census::{Census, Owner};
use quarantine::Quarantine;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One pool of the process: the depot, the quarantine and the books, for all its threads.
pub struct Pool {
    config: Config,
    depot: Depot,
    quarantine: Quarantine,
    books: Books,
    threads: Mutex<Threads>,
    closed: AtomicBool,
    census: Census,
}

/// The ledgers of the threads that use the pool.
#[derive(Default)]
struct Threads {
    ledgers: Vec<Arc<Ledger>>,
    /// What the threads counted that have left, and whose blocks are all back.
    retired: Tally,
    /// The most that the peaks of threads attached at one time came to, in bytes.
    peak_bytes: f64,
}

impl Threads {
    /// Keeps the figures of ledgers that won't change again, and not the ledgers.
    fn sweep(&mut self) {
        let Self { ledgers, retired, peak_bytes } = self;
        let peaks = ledgers.iter().map(|ledger| ledger.read(Word::PeakBytes));
        *peak_bytes = peak_bytes.max(peaks.sum());
        ledgers.retain(|ledger| {
            let is_final = ledger.is_final();
            if is_final {
                retired.add(ledger);
            }
            !is_final
        });
    }
}

/// One thread's end of a pool. Dropping it keeps what the thread has counted.
pub struct Attachment {
    pool: Arc<Pool>,
    ledger: Arc<Ledger>,
}

impl Pool {
    /// An empty pool.
    pub fn new(config: Config) -> Arc<Self> {
        Arc::new(Self {
            config,
            depot: Depot::new(config.depot_bytes),
            quarantine: Quarantine::default(),
            books: Books::new(),
            threads: Mutex::default(),
            closed: AtomicBool::new(false),
            census: Census::default(),
        })
    }

    /// Lets the calling thread use the pool.
    pub fn attach(self: &Arc<Self>) -> Attachment {
        let ledger = Arc::new(Ledger::new());
        let mut threads = self.threads();
        threads.sweep();
        threads.ledgers.push(ledger.clone());
        Attachment { pool: self.clone(), ledger }
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Ends leasing. Idle blocks are freed now, leased ones when they come back.
    pub fn close(&self) {
        // SeqCst, with `take_back`: either this drain sees the block that is coming back, or
        // the thread that brings it sees the pool closed.
        self.closed.store(true, Ordering::SeqCst);
        self.trim(u64::MAX);
    }

    /// Frees idle blocks until `bytes` are freed or none is left that can be reached: those in the
    /// depot, the largest first, then those on their way to it, which are freed on arrival.
    /// Returns how many bytes were freed.
    pub fn trim(&self, bytes: u64) -> u64 {
        let mut freed = 0;
        for class in SizeClass::all().rev() {
            while freed < bytes {
                let Some(block) = self.depot.take(class) else { break };
                freed += block.size() as u64;
                self.free(block, Some(Owner::Depot));
            }
        }
        for ledger in &self.threads().ledgers {
            if freed >= bytes {
                break;
            }
            freed += ledger.condemn_detached(bytes - freed, |class| self.book_condemned(class));
        }
        freed
    }

    /// The books as they stand. Exact only while no block moves.
    pub fn stats(&self) -> Stats {
        let (tally, peak_bytes) = {
            let mut threads = self.threads();
            threads.sweep();
            let mut tally = threads.retired.clone();
            for ledger in &threads.ledgers {
                tally.add(ledger);
            }
            (tally, threads.peak_bytes)
        };
        Stats::new(&tally, peak_bytes, &self.depot, |class| self.books.class(class))
    }

    /// How many blocks are set aside for good.
    pub fn quarantined(&self) -> u64 {
        self.quarantine.count()
    }

    /// Whether a block in `state` may have another holder when its lending thread ends.
    ///
    /// JavaScript can move a backing store to another `ArrayBuffer`, and so to another thread,
    /// without the pool's knowledge: by `transfer()`, and even where there is none by byte streams.
    /// So every block may that any code but ours ever saw and may still see: a leased one, and
    /// without detaching an idle one too, because stale views lead to it. A detached backing store
    /// has no holder at all.
    fn may_live_on(&self, state: SeatState) -> bool {
        match state {
            SeatState::Leased => true,
            SeatState::Idle => !self.config.detach_on_release,
            SeatState::Detached | SeatState::Condemned => false,
        }
    }

    /// A block has come back: into the depot if there is room, else to the operating system.
    fn take_back(&self, block: Block) {
        let books = self.books.class(block.class());
        books.loaned.take();
        if self.is_closed() {
            books.discarded.add();
            self.free(block, Some(Owner::BackingStore));
            return;
        }
        self.census.hand_over(&block, Some(Owner::BackingStore), Some(Owner::Depot));
        if let Err(block) = self.depot.offer(block) {
            books.discarded.add();
            self.free(block, Some(Owner::Depot));
        } else if self.is_closed() {
            self.trim(u64::MAX);
        }
    }

    /// Gives a block back to the operating system.
    fn free(&self, block: Block, owner: Option<Owner>) {
        self.census.hand_over(&block, owner, None);
        self.books.class(block.class()).freed.add();
        drop(block);
    }

    /// Books a block as freed that will be when its finalizer comes.
    fn book_condemned(&self, class: SizeClass) {
        let books = self.books.class(class);
        books.loaned.take();
        books.freed.add();
    }

    /// Frees a block whose freeing is in the books already.
    fn free_condemned(&self, block: Block) {
        self.census.hand_over(&block, Some(Owner::BackingStore), None);
        drop(block);
    }

    /// Puts a block into quarantine, by its lender's last word on it.
    fn set_aside(&self, block: Block, state: SeatState) {
        self.book_quarantine(&block, state);
        self.quarantine.admit(block);
    }

    fn book_quarantine(&self, block: &Block, state: SeatState) {
        self.census.hand_over(block, Some(Owner::BackingStore), Some(Owner::Quarantine));
        let books = self.books.class(block.class());
        books.loaned.take();
        books.quarantined.add();
        if state == SeatState::Leased {
            books.seized.add();
        }
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Through `trim` and not by dropping the depot, so that the census sees it.
        self.trim(u64::MAX);
    }
}

impl Attachment {
    /// The pool this is an end of.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// This thread's counters and states.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// An idle block of `class` from the depot, as a loan; `None` where the depot has none.
    pub fn lend_idle(&self, class: SizeClass) -> Option<Loan> {
        let block = self.pool.depot.take(class)?;
        Some(self.lend(block, Some(Owner::Depot)))
    }

    /// A block of `class` got from the operating system, as a loan.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`], with nothing changed.
    pub fn lend_fresh(&self, class: SizeClass) -> Result<Loan, OutOfMemory> {
        self.pool.depot.prepare(class)?;
        let block = Block::obtain(class)?;
        self.pool.books.class(class).fresh.add();
        Ok(self.lend(block, None))
    }

    fn lend(&self, block: Block, from: Option<Owner>) -> Loan {
        self.pool.census.hand_over(&block, from, Some(Owner::BackingStore));
        self.pool.books.class(block.class()).loaned.add();
        Loan::new(block, from.is_none(), self.pool.clone(), self.ledger.clone())
    }

    /// The `ArrayBuffer` of the block of `class` on `seat` was detached to be freed. The books
    /// say so at once; the memory follows when the finalizer comes.
    pub fn condemn(&self, seat: u32, class: SizeClass) {
        self.ledger.set_state(seat, SeatState::Condemned);
        self.pool.book_condemned(class);
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.ledger.retire();
        self.pool.threads().sweep();
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
