//! Threads that use a pool at the same time, in every order.
#![allow(clippy::float_cmp, clippy::cast_precision_loss, reason = "whole figures, below 2^52")]

use super::waker::PendingWake;
use super::*;
use crate::os::pressure::Pressure;
use loom::thread;
use std::sync::atomic::AtomicBool as Flag;

fn pool(max_bytes: usize) -> Arc<Pool> {
    let config = Config {
        max_bytes,
        idle_timeout: None,
        depot_bytes: 4096,
        has_trimmer: false,
        ..Config::default()
    };
    Pool::new(config)
}

fn class(size: usize) -> SizeClass {
    SizeClass::fitting(size).unwrap()
}

/// A witness that the test controls. It is no part of what is modelled.
#[derive(Clone, Default)]
struct TestWitness(Arc<Flag>);

impl TestWitness {
    fn is_gone_now(&self) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Witness for TestWitness {
    fn is_gone(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

/// Makes a lease, with its witness and its address.
fn lease(attachment: &Attachment, size: usize) -> (Loan, TestWitness, usize) {
    let loan = attachment.lend_fresh(class(size)).unwrap();
    attachment.counters().set_state(loan.row(), BlockState::Leased);
    attachment.counters().add_to_head(loan.row(), SegmentColumn::Leases, 1);
    let store = TestWitness::default();
    loan.watch(Box::new(store.clone()));
    let address = loan.address().unwrap().addr().get();
    (loan, store, address)
}

/// Releases the block of a lease, as JavaScript does.
fn release_to(attachment: &Attachment, loan: &Loan, state: BlockState) {
    attachment.counters().set_state(loan.row(), state);
    attachment.counters().add_to_head(loan.row(), SegmentColumn::Releases, 1);
}

/// Checks that the figures account for all bytes, and for the releases and collections of all
/// leases.
fn balanced(pool: &Pool, [releases, collections]: [u32; 2]) -> Figures {
    let total = pool.stats().total;
    let live = total.in_use_bytes + total.idle_bytes + total.quarantined_bytes;
    assert_eq!(total.fresh_bytes, live + total.freed_bytes);
    let ends = [total.release_count, total.collected_count];
    assert_eq!(ends, [releases, collections].map(f64::from));
    assert_eq!(pool.held_bytes() as f64, live);
    total
}

/// A posted Buffer is released while its lender ends: the pool knows it all the time, and releases
/// it once.
#[test]
fn release_against_the_end_of_the_lender() {
    loom::model(|| {
        let pool = pool(usize::MAX);
        let lender = pool.attach();
        let (loan, store, address) = lease(&lender, 64);
        let thread = thread::spawn(move || loan.settle(Lender::Ending));
        assert_eq!(pool.state_of(address, 64), Some(BlockState::Leased));
        assert!(pool.release_remotely(address, 64));
        assert!(!pool.release_remotely(address, 64), "once");
        store.is_gone_now();
        pool.end_released_remotely(address);
        thread.join().unwrap();
        let total = balanced(&pool, [1, 0]);
        assert_eq!((total.idle_bytes, pool.state_of(address, 64)), (64.0, None));
    });
}

/// The same while native code still has the memory: it stays in quarantine.
#[test]
fn release_of_what_is_held_against_the_end_of_the_lender() {
    loom::model(|| {
        let pool = pool(usize::MAX);
        let lender = pool.attach();
        let (loan, store, address) = lease(&lender, 64);
        let thread = thread::spawn(move || loan.settle(Lender::Ending));
        assert!(pool.release_remotely(address, 64));
        pool.end_released_remotely(address);
        thread.join().unwrap();
        assert_eq!(balanced(&pool, [1, 0]).quarantined_bytes, 64.0);
        store.is_gone_now();
        assert_eq!(balanced(&pool, [1, 0]).idle_bytes, 64.0);
    });
}

/// Two threads release the same Buffer, whose lender lives or has ended: one of them does.
#[test]
fn release_against_release() {
    for lender_lives in [true, false] {
        loom::model(move || {
            let pool = pool(usize::MAX);
            let lender = pool.attach();
            let (loan, store, address) = lease(&lender, 64);
            let loan = if lender_lives { Some(loan) } else { end(loan) };
            let other = pool.clone();
            let thread = thread::spawn(move || other.release_remotely(address, 64));
            let here = pool.release_remotely(address, 64);
            assert!(here ^ thread.join().unwrap());
            store.is_gone_now();
            pool.end_released_remotely(address);
            assert_eq!(balanced(&pool, [1, 0]).idle_bytes, 64.0);
            drop(loan);
        });
    }
}

fn end(loan: Loan) -> Option<Loan> {
    loan.settle(Lender::Ending);
    None
}

/// A released block that native code still has is freed while its lender ends: it goes into
/// quarantine, freed in the counters or not.
#[test]
fn trim_of_what_is_held_against_the_end_of_the_lender() {
    loom::model(|| {
        let pool = pool(usize::MAX);
        let lender = pool.attach();
        let (loan, store, _) = lease(&lender, 64);
        release_to(&lender, &loan, BlockState::Detached);
        let other = pool.clone();
        let trimmer = thread::spawn(move || other.trim(u64::MAX));
        loan.settle(Lender::Ending);
        let freed = trimmer.join().unwrap();
        assert_eq!((pool.held_bytes(), pool.quarantined()), (64, 1));
        store.is_gone_now();
        let total = balanced(&pool, [1, 0]);
        assert_eq!(
            (total.freed_bytes, total.idle_bytes),
            if freed > 0 { (64.0, 0.0) } else { (0.0, 64.0) }
        );
    });
}

/// A detached block comes back by its witness and by its finalizer, and is freed: it comes back
/// once.
#[test]
fn witness_against_finalizer_against_trim() {
    loom::model(|| {
        let pool = pool(usize::MAX);
        let lender = pool.attach();
        let (loan, store, _) = lease(&lender, 64);
        release_to(&lender, &loan, BlockState::Detached);
        let key = loan.key();
        store.is_gone_now();
        let other = pool.clone();
        let finalizer = thread::spawn(move || loan.settle(Lender::Alive));
        let trimmer = thread::spawn(move || other.trim(u64::MAX));
        pool.end_if_gone(key);
        finalizer.join().unwrap();
        let freed = trimmer.join().unwrap();
        let total = balanced(&pool, [1, 0]);
        assert_eq!(total.freed_bytes, freed as f64);
    });
}

/// A block leaves quarantine while another thread looks for room: its bytes are given back once,
/// and the ceiling holds.
#[test]
fn quarantine_against_the_ceiling() {
    loom::model(|| {
        let pool = pool(128);
        let lender = pool.attach();
        let (loan, store, _) = lease(&lender, 128);
        loan.settle(Lender::Ending);
        store.is_gone_now();
        let other = pool.clone();
        let thread = thread::spawn(move || other.trim(u64::MAX));
        let got = lender.lend_fresh(class(64));
        assert!(pool.held_bytes() <= 128);
        thread.join().unwrap();
        let got = got.or_else(|_| lender.lend_fresh(class(64))).unwrap_or_else(|_| panic!("room"));
        let total = balanced(&pool, [0, 1]);
        assert_eq!((total.freed_bytes, pool.held_bytes()), (128.0, 64));
        got.settle(Lender::Alive);
    });
}

/// A thread begins to wait while a block leaves quarantine: in no order does it wait in vain.
#[test]
fn quarantine_against_the_queue() {
    loom::model(|| {
        let pool = pool(128);
        let lender = pool.attach();
        let (loan, store, _) = lease(&lender, 128);
        loan.settle(Lender::Ending);
        store.is_gone_now();
        let other = pool.clone();
        let thread = thread::spawn(move || other.sweep_and_serve(LOOKS));
        let ticket = lender.wait(class(64));
        thread.join().unwrap();
        assert_eq!(lender.granted(), Some(ticket));
        assert!(pool.held_bytes() <= 128);
        lender.claim(ticket).unwrap().unwrap().settle(Lender::Alive);
        balanced(&pool, [0, 1]);
    });
}

/// A block comes back while the pool is closed: nothing stores it.
#[test]
fn close_against_a_block_that_comes_back() {
    loom::model(|| {
        let pool = pool(usize::MAX);
        let lender = pool.attach();
        let (loan, ..) = lease(&lender, 64);
        release_to(&lender, &loan, BlockState::Idle);
        let thread = thread::spawn(move || loan.settle(Lender::Alive));
        pool.close();
        thread.join().unwrap();
        assert_eq!(balanced(&pool, [1, 0]).freed_bytes, 64.0);
    });
}

/// A thread begins to wait while the pool is closed: nobody is left waiting.
#[test]
fn close_against_the_queue() {
    loom::model(|| {
        let pool = pool(64);
        let lender = pool.attach();
        let (loan, ..) = lease(&lender, 64);
        let other = pool.clone();
        let thread = thread::spawn(move || other.close());
        lender.wait(class(64));
        thread.join().unwrap();
        assert!(pool.nobody_waits());
        loan.settle(Lender::Alive);
        assert_eq!(pool.held_bytes(), 0);
    });
}

/// Memory runs short while a thread takes an idle block: it gets the block, or the block is freed.
#[test]
fn pressure_against_take() {
    loom::model(|| {
        let pool = pool(usize::MAX);
        let lender = pool.attach();
        lender.lend_fresh(class(64)).unwrap().settle(Lender::Alive);
        let other = pool.clone();
        let now = Instant::now();
        let thread = thread::spawn(move || other.visit(now, Pressure::Critical));
        let taken = lender.lend_idle(class(64)).unwrap();
        thread.join().unwrap();
        let total = balanced(&pool, [0, 0]);
        assert_eq!(total.freed_bytes, if taken.is_some() { 0.0 } else { 64.0 });
        if let Some(loan) = taken {
            loan.settle(Lender::Alive);
        }
    });
}

/// A waker whose thread looks when the model says so.
#[derive(Default)]
struct TestWaker {
    pending: PendingWake,
    calls: AtomicUsize,
}

impl Waker for Arc<TestWaker> {
    fn wake(&self) {
        if self.pending.start() {
            self.calls.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// A thread is asked for memory twice while it looks: it learns of the larger request.
#[test]
fn ask_against_look() {
    loom::model(|| {
        let thread = Arc::new(ThreadState::new());
        let waker = Arc::new(TestWaker::default());
        let look = |waker: &TestWaker, thread: &ThreadState| {
            if waker.calls.load(Ordering::SeqCst) == 0 {
                return 0;
            }
            waker.calls.fetch_sub(1, Ordering::SeqCst);
            waker.pending.end();
            thread.take_asked()
        };
        thread.listen(Box::new(waker.clone()));
        let other = thread.clone();
        let asking = thread::spawn(move || {
            other.ask(64);
            other.ask(128);
        });
        let mut seen = look(&waker, &thread);
        asking.join().unwrap();
        seen = seen.max(look(&waker, &thread)).max(look(&waker, &thread));
        assert_eq!(seen, 128);
        assert_eq!((waker.calls.load(Ordering::SeqCst), thread.take_asked()), (0, 0));
    });
}
