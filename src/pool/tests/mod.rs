//! Every way in which a block changes its owner.
//!
//! After each, and whatever happened:
//! - `fresh == in use + idle + freed + quarantined`, in blocks and in bytes;
//! - the pool holds no more than its ceiling;
//! - the census (these are debug builds) has seen each block go from its owner to the next.

mod ceiling;
mod counting;
mod idle_memory;
mod proportion;
mod remote;
mod trimming;
mod v8_backed_blocks;
mod waiting;
mod witnesses;

use super::*;
use crate::os::pressure::Pressure;
use std::ptr::NonNull;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::thread;
use std::time::Duration;

/// The longest wait for what must happen: no machine is so slow, or so loaded.
const DEADLINE: Duration = Duration::from_secs(60);

/// Detaches at release, and frees nothing by time. The trimmer stays away, because it looks at this
/// machine's memory, too.
fn detaches() -> Config {
    Config { idle_timeout: None, has_trimmer: false, ..Config::default() }
}

fn reuses() -> Config {
    Config { detach_on_release: false, ..detaches() }
}

/// Returns the settings of a pool with room for `max_bytes`.
fn holds(max_bytes: usize) -> Config {
    Config { max_bytes, ..detaches() }
}

fn class(size: usize) -> SizeClass {
    SizeClass::fitting(size).expect("a class")
}

fn idle(attachment: &Attachment, class: SizeClass) -> Option<Loan> {
    attachment.lend_idle(class).expect("memory for the loan table")
}

fn at(loan: &Loan) -> NonNull<u8> {
    loan.address().expect("memory of our own")
}

fn lend(attachment: &Attachment, size: usize) -> Loan {
    let class = class(size);
    idle(attachment, class).unwrap_or_else(|| attachment.lend_fresh(class).expect("memory"))
}

/// Leases a block as JavaScript does: writes the state and the counters.
fn lease(attachment: &Attachment, size: usize) -> Loan {
    let loan = lend(attachment, size);
    attachment.counters().set_state(loan.row(), BlockState::Leased);
    let asked = u32::try_from(size).expect("a small size");
    attachment.counters().add_to_head(loan.row(), SegmentColumn::Leases, 1);
    attachment.counters().add_to_head(loan.row(), SegmentColumn::AskedBytes, asked);
    if attachment.counters().read(Column::LastIsFresh) > 0.5 {
        attachment.counters().add_to_head(loan.row(), SegmentColumn::Misses, 1);
    }
    loan
}

/// Releases a block as JavaScript does, and leaves it in `state`.
fn release_to(attachment: &Attachment, loan: &Loan, state: BlockState) {
    attachment.counters().set_state(loan.row(), state);
    attachment.counters().add_to_head(loan.row(), SegmentColumn::Releases, 1);
}

#[track_caller]
fn balanced(pool: &Pool) -> Stats {
    let stats = pool.stats();
    for figures in stats.classes.iter().map(|(_, figures)| figures).chain([&stats.total]) {
        let sum = figures.in_use_bytes
            + figures.idle_bytes
            + figures.freed_bytes
            + figures.quarantined_bytes;
        assert!((figures.fresh_bytes - sum).abs() < 0.5, "out of balance: {figures:?}");
        assert!(figures.idle_count >= 0.0 && figures.in_use_count >= 0.0, "{figures:?}");
    }
    assert!(pool.held_bytes() <= pool.config().max_bytes);
    stats
}

#[track_caller]
fn equal(actual: f64, expected: u32) {
    assert!((actual - f64::from(expected)).abs() < 0.5, "{actual} is not {expected}");
}

#[test]
fn idle_block_returns_to_the_depot() {
    let pool = Pool::new(detaches());
    let attachment = pool.attach();
    let loan = lend(&attachment, 4096);
    let address = loan.address();
    equal(balanced(&pool).total.idle_count, 1);
    loan.settle(Lender::Alive);
    equal(balanced(&pool).total.idle_count, 1);
    let again = idle(&attachment, class(4096)).expect("the block is in the depot");
    assert_eq!(again.address(), address);
    again.settle(Lender::Alive);
}

#[test]
fn block_is_scrubbed_if_configured() {
    let states = [BlockState::Leased, BlockState::Detached];
    for (zero_on_release, state) in
        [true, false].map(|zero| states.map(|state| (zero, state))).concat()
    {
        let pool = Pool::new(Config { zero_on_release, ..detaches() });
        let attachment = pool.attach();
        let loan = lease(&attachment, 64);
        // SAFETY: the block has 64 bytes, and nobody else uses it.
        unsafe { at(&loan).write_bytes(7, 64) };
        if !state.is_leased() {
            release_to(&attachment, &loan, state);
        }
        loan.settle(Lender::Alive);
        let again = idle(&attachment, class(64)).expect("the block");
        // SAFETY: as above.
        let byte = unsafe { at(&again).read() };
        assert_eq!(byte, if zero_on_release { 0 } else { 7 });
        again.settle(Lender::Alive);
    }
}

/// The end of a block's lender, with or without another possible holder.
#[test]
fn lender_ends() {
    use BlockState::{Detached, Idle, Leased, ReleasedRemotely, Sampled};
    for (config, state, set_aside) in [
        (detaches(), Leased, true),
        (detaches(), Sampled, true),
        (detaches(), ReleasedRemotely, false),
        (detaches(), Idle, false),
        (detaches(), Detached, false),
        (reuses(), Leased, true),
        (reuses(), Idle, true),
        (reuses(), Detached, false),
    ] {
        let pool = Pool::new(config);
        let attachment = pool.attach();
        let loan = lease(&attachment, 4096);
        if !state.is_leased() {
            release_to(&attachment, &loan, state);
        }
        drop(attachment);
        loan.settle(Lender::Ending);
        let stats = balanced(&pool);
        equal(stats.total.in_use_count, 0);
        equal(stats.total.quarantined_bytes, if set_aside { 4096 } else { 0 });
        assert_eq!(pool.quarantined(), u64::from(set_aside), "{state:?}");
        equal(stats.total.idle_count, u32::from(!set_aside));
    }
}

#[test]
fn withdrawn_loan_is_idle_again() {
    let pool = Pool::new(detaches());
    let attachment = pool.attach();
    attachment.lend_fresh(class(64)).expect("memory").withdraw();
    let stats = balanced(&pool);
    equal(stats.total.idle_count, 1);
    equal(stats.total.miss_count, 0);
    assert!(idle(&attachment, class(64)).is_some_and(|loan| {
        loan.withdraw();
        true
    }));
}

#[test]
fn finalizer_of_a_withdrawn_loan_does_nothing() {
    let pool = Pool::new(detaches());
    let attachment = pool.attach();
    let loan = lend(&attachment, 4096);
    loan.withdraw();
    let again = idle(&attachment, class(4096)).expect("the block");
    loan.settle(Lender::Alive);
    equal(balanced(&pool).total.idle_count, 1);
    assert!(idle(&attachment, class(4096)).is_none(), "it is lent");
    again.settle(Lender::Alive);
}

#[test]
fn nobody_waits_at_a_closed_pool() {
    let pool = Pool::new(holds(4096));
    let attachment = pool.attach();
    let loan = lease(&attachment, 4096);
    pool.close();
    let ticket = attachment.wait(class(4096));
    assert!(pool.nobody_waits());
    loan.settle(Lender::Alive);
    assert!(attachment.granted().is_none());
    assert!(attachment.claim(ticket).expect("memory").is_none());
    assert_eq!(pool.held_bytes(), 0);
}

#[test]
fn threads_share_the_depot() {
    let pool = Pool::new(detaches());
    let rounds = 2_000;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let attachment = pool.attach();
                for round in 0..rounds {
                    let loan = lend(&attachment, 64 + round % 4096);
                    let mark = u8::try_from(round % 251).expect("below 251");
                    // SAFETY: the block is this thread's alone until it settles the loan.
                    unsafe { at(&loan).write_bytes(mark, loan.size()) };
                    std::thread::yield_now();
                    // SAFETY: as above.
                    let first = unsafe { at(&loan).read() };
                    assert_eq!(first, mark, "another owner wrote into the block");
                    loan.settle(Lender::Alive);
                }
            });
        }
        for _ in 0..20 {
            pool.trim(1 << 20);
            std::thread::yield_now();
        }
    });
    let stats = balanced(&pool);
    equal(stats.total.in_use_count, 0);
}

/// A witness that the test controls.
#[derive(Clone, Default)]
struct TestWitness(Arc<AtomicBool>);

impl TestWitness {
    fn is_gone_now(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Witness for TestWitness {
    fn is_gone(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// A waker that counts.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicU32>);

impl Counting {
    fn count(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    fn on(attachment: &Attachment) -> Self {
        let waker = Self::default();
        attachment.thread().listen(Box::new(waker.clone()));
        assert_eq!(waker.count(), 1, "something may have been asked already");
        waker.0.store(0, Ordering::SeqCst);
        waker
    }
}

impl Waker for Counting {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[track_caller]
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "after a minute it does not hold: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
