//! Every way by which a block changes hands.
//!
//! After each, and whatever happened:
//! - `fresh == in use + idle + freed + quarantined`, in blocks and in bytes;
//! - the pool holds no more than its ceiling;
//! - the census (these are debug builds) has seen each block go from its owner to the next.

use super::*;
use crate::os::pressure::Pressure;
use std::ptr::NonNull;

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::thread;
use std::time::Duration;

/// For how long what must come is waited for: no machine is so slow, or so loaded.
const PATIENCE: Duration = Duration::from_secs(60);

/// A pool that detaches at release, and frees nothing by time. The trimmer stays away from it: that
/// looks at this machine's memory, too.
fn detaches() -> Config {
    Config { idle_timeout: None, has_trimmer: false, ..Config::default() }
}

fn keeps() -> Config {
    Config { detach_on_release: false, ..detaches() }
}

/// With room for so many bytes.
fn holds(max_bytes: usize) -> Config {
    Config { max_bytes, ..detaches() }
}

fn class(size: usize) -> SizeClass {
    SizeClass::fitting(size).expect("a class")
}

fn idle(attachment: &Attachment, class: SizeClass) -> Option<Loan> {
    attachment.lend_idle(class).expect("memory for the register")
}

fn at(loan: &Loan) -> NonNull<u8> {
    loan.address().expect("memory of our own")
}

fn lend(attachment: &Attachment, size: usize) -> Loan {
    let class = class(size);
    idle(attachment, class).unwrap_or_else(|| attachment.lend_fresh(class).expect("memory"))
}

/// A lease as JavaScript makes one: the state and the counters it would write.
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

/// Its release, as JavaScript makes one, which leaves the block in `state`.
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

const MIB: usize = 1 << 20;

/// A pool with so many MiB idle in the depot, in blocks of 1 MiB, and a thread that had so many
/// leased lately.
fn pool_with_idle(idle: usize, peak: usize, config: Config) -> (Arc<Pool>, Attachment) {
    let pool = Pool::new(config);
    let attachment = pool.attach();
    let bytes = |mib: usize| u32::try_from(mib * MIB).expect("a small size");
    // So that nothing gives way before all is there.
    attachment.counters().write(Column::RecentPeakBytes, bytes(1024));
    let loans: Vec<_> = (0..idle).map(|_| lend(&attachment, MIB)).collect();
    for loan in loans {
        loan.settle(Lender::Alive);
    }
    attachment.counters().write(Column::RecentPeakBytes, bytes(peak));
    (pool, attachment)
}

fn decays() -> Config {
    Config { idle_timeout: Some(Duration::from_secs(10)), ..detaches() }
}

#[test]
fn idle_blocks_give_way_to_fresh_ones_beyond_proportion() {
    // What is idle and got; the recent peak; how much goes, of twice what is got at most.
    let cases = [(16, 0, 0), (17, 0, 1), (19, 0, 3), (20, 0, 4), (60, 0, 4)];
    for (idle, peak, freed) in cases.into_iter().chain([(60, 38, 2), (60, 39, 1), (60, 40, 0)]) {
        let (pool, attachment) = pool_with_idle(idle, peak, decays());
        let loan = attachment.lend_fresh(class(2 * MIB)).expect("memory");
        assert_eq!(pool.depot_bytes(), (idle - freed) * MIB, "{idle} idle, a peak of {peak}");
        balanced(&pool);
        loan.settle(Lender::Alive);
    }
}

#[test]
fn idle_blocks_stay_where_nothing_goes_by_time() {
    let (pool, attachment) = pool_with_idle(60, 0, detaches());
    attachment.lend_fresh(class(2 * MIB)).expect("memory").settle(Lender::Alive);
    assert_eq!(pool.depot_bytes(), 62 * MIB);
}

#[test]
fn a_thread_frees_what_the_depot_has_not() {
    let pool = Pool::new(decays());
    let attachment = pool.attach();
    let loans: Vec<_> = (0..20).map(|_| lend(&attachment, MIB)).collect();
    let last = attachment.lend_fresh(class(2 * MIB)).expect("memory");
    equal(attachment.counters().read(Column::SurplusBytes), u32::try_from(4 * MIB).expect("small"));
    for loan in loans.into_iter().chain([last]) {
        loan.settle(Lender::Alive);
    }
}

#[test]
fn first_lease_of_a_fresh_block_is_a_miss() {
    let pool = Pool::new(detaches());
    let attachment = pool.attach();
    lend(&attachment, 64).settle(Lender::Alive);
    equal(balanced(&pool).total.miss_count, 0);
    let fresh = lease(&attachment, 4096);
    for leases in 1..4 {
        let stats = balanced(&pool);
        equal(stats.total.miss_count, 1);
        equal(stats.total.hit_count, leases - 1);
        attachment.counters().add_to_head(fresh.row(), SegmentColumn::Releases, 1);
        attachment.counters().add_to_head(fresh.row(), SegmentColumn::Leases, 1);
    }
    fresh.settle(Lender::Alive);
    lease(&attachment, 4096).settle(Lender::Alive);
    let stats = balanced(&pool);
    equal(stats.total.miss_count, 1);
    equal(stats.total.hit_count, 4);
}

#[test]
fn dropped_lease_is_collected() {
    let pool = Pool::new(detaches());
    let attachment = pool.attach();
    let loan = lease(&attachment, 1000);
    let stats = balanced(&pool);
    equal(stats.total.in_use_count, 1);
    equal(stats.total.in_use_bytes, 1024);
    equal(stats.total.alloc_bytes, 1000);
    loan.settle(Lender::Alive);
    let stats = balanced(&pool);
    equal(stats.total.in_use_count, 0);
    equal(stats.total.collected_count, 1);
    equal(stats.total.release_count, 0);
    equal(attachment.counters().read(Column::EndedElsewhereBytes), 1024);
}

#[test]
fn block_is_scrubbed_where_asked() {
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

/// What happens to a block whose lender ends: it may have another holder, or it can't.
#[test]
fn lender_ends() {
    use BlockState::{Detached, Idle, Leased, ReleasedRemotely, Sampled};
    for (config, state, set_aside) in [
        (detaches(), Leased, true),
        (detaches(), Sampled, true),
        (detaches(), ReleasedRemotely, false),
        (detaches(), Idle, false),
        (detaches(), Detached, false),
        (keeps(), Leased, true),
        (keeps(), Idle, true),
        (keeps(), Detached, false),
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
fn finalizer_of_a_withdrawn_loan_finds_nothing_to_end() {
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
fn who_comes_to_wait_at_a_closed_pool_waits_for_nothing() {
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
fn condemned_block_is_freed_in_the_books_at_once() {
    for lender in [Lender::Alive, Lender::Ending] {
        let pool = Pool::new(keeps());
        let attachment = pool.attach();
        let loan = lend(&attachment, 65_536);
        attachment.mark_detached(loan.row(), class(65_536), Fate::Free);
        equal(balanced(&pool).total.freed_bytes, 65_536);
        loan.settle(lender);
        let stats = balanced(&pool);
        equal(stats.total.freed_bytes, 65_536);
        equal(stats.total.idle_count, 0);
    }
}

#[test]
fn full_depot_discards() {
    let pool = Pool::new(Config { depot_bytes: 4096, ..detaches() });
    let attachment = pool.attach();
    let loans = [lend(&attachment, 4096), lend(&attachment, 4096)];
    for loan in loans {
        loan.settle(Lender::Alive);
    }
    let stats = balanced(&pool);
    equal(stats.total.idle_count, 1);
    equal(stats.total.discard_count, 1);
    equal(stats.total.freed_bytes, 4096);
}

#[test]
fn trim_frees_the_largest_first_and_no_more_than_it_must() {
    let pool = Pool::new(detaches());
    let attachment = pool.attach();
    let loans = [64, 4096, 65_536].map(|size| lend(&attachment, size));
    for loan in loans {
        loan.settle(Lender::Alive);
    }
    assert_eq!(pool.trim(0), 0);
    assert_eq!(pool.trim(60_000), 65_536);
    assert_eq!(pool.trim(u64::MAX), 4160);
    assert_eq!(pool.trim(u64::MAX), 0);
    equal(balanced(&pool).total.freed_bytes, 69_696);
}

#[test]
fn trim_reaches_blocks_on_their_way() {
    let pool = Pool::new(detaches());
    let attachment = pool.attach();
    let loans = [lend(&attachment, 4096), lend(&attachment, 4096), lend(&attachment, 4096)];
    for loan in &loans[..2] {
        attachment.counters().set_state(loan.row(), BlockState::Detached);
    }
    assert_eq!(pool.trim(1), 4096);
    assert_eq!(pool.trim(u64::MAX), 4096, "the third is not detached");
    equal(balanced(&pool).total.freed_bytes, 8192);
    for loan in loans {
        loan.settle(Lender::Alive);
    }
    let stats = balanced(&pool);
    equal(stats.total.freed_bytes, 8192);
    equal(stats.total.idle_count, 1);
}

#[test]
fn closed_pool_keeps_nothing() {
    let pool = Pool::new(detaches());
    let attachment = pool.attach();
    let (leased, unused) = (lease(&attachment, 4096), lend(&attachment, 64));
    unused.settle(Lender::Alive);
    pool.close();
    pool.close();
    assert!(pool.is_closed());
    equal(balanced(&pool).total.freed_bytes, 64);
    // SAFETY: a leased block stays valid after the close.
    unsafe { at(&leased).write_bytes(1, leased.size()) };
    leased.settle(Lender::Alive);
    let stats = balanced(&pool);
    equal(stats.total.freed_bytes, 64 + 4096);
    equal(stats.total.discard_count, 1);
}

#[test]
fn counters_outlive_their_thread() {
    let pool = Pool::new(detaches());
    let loan = std::thread::scope(|scope| {
        let thread = scope.spawn(|| lease(&pool.attach(), 64));
        thread.join().expect("the thread ends well")
    });
    loan.settle(Lender::Ending);
    let stats = balanced(&pool);
    equal(stats.total.alloc_count, 1);
    equal(stats.total.quarantined_bytes, 64);
}

#[test]
fn threads_that_have_left_are_forgotten_but_for_their_figures() {
    let pool = Pool::new(detaches());
    let peak =
        |attachment: &Attachment, bytes| attachment.counters().write(Column::PeakBytes, bytes);
    for _ in 0..10 {
        let attachment = pool.attach();
        lease(&attachment, 64).settle(Lender::Alive);
        peak(&attachment, 64);
    }
    assert!(pool.threads().all.is_empty());
    let stats = balanced(&pool);
    equal(stats.total.alloc_count, 10);
    equal(stats.peak_in_use_bytes, 64);
    let (one, other) = (pool.attach(), pool.attach());
    let loans = [lend(&one, 128), lend(&other, 256)];
    peak(&one, 100);
    peak(&other, 200);
    equal(pool.stats().peak_in_use_bytes, 300);
    for loan in loans {
        loan.settle(Lender::Alive);
    }
    drop(one);
    equal(pool.stats().peak_in_use_bytes, 300);
    assert_eq!(pool.threads().all.len(), 1);
}

#[test]
fn peaks_at_different_times_are_no_more_than_was_ever_loaned() {
    let pool = Pool::new(holds(1024));
    let threads = [(); 3].map(|()| pool.attach());
    for thread in &threads {
        let loan = lease(thread, 1024);
        thread.counters().write(Column::PeakBytes, 1024);
        release_to(thread, &loan, BlockState::Detached);
        loan.settle(Lender::Alive);
        equal(balanced(&pool).peak_in_use_bytes, 1024);
    }
    // Nor are blocks in it that lie in the depot.
    equal(balanced(&pool).total.idle_bytes, 1024);
}

#[test]
fn waits_are_told_with_the_age_of_the_oldest() {
    let pool = Pool::new(holds(4096));
    let (one, other) = (pool.attach(), pool.attach());
    let waiting = || {
        let stats = pool.stats();
        (stats.waiting_count, stats.longest_wait)
    };
    assert_eq!(waiting(), (0, Duration::ZERO));
    let loan = lease(&one, 4096);
    let first = one.wait(class(64));
    let pause = Duration::from_millis(5);
    thread::sleep(pause);
    let start = Instant::now();
    let _second = other.wait(class(64));
    let (count, longest) = waiting();
    assert!(count == 2 && longest >= pause, "{count} wait, {longest:?}");
    one.cancel(first);
    let (count, longest) = waiting();
    assert!(count == 1 && longest <= start.elapsed(), "{count} wait, {longest:?}");
    release_to(&one, &loan, BlockState::Detached);
    loan.settle(Lender::Alive);
    assert!(other.granted().is_some());
    assert_eq!(waiting().0, 1, "granted, and not claimed");
    drop(other);
    assert_eq!(waiting(), (0, Duration::ZERO));
    let _third = one.wait(class(8192));
    pool.close();
    assert_eq!(waiting(), (0, Duration::ZERO));
}

#[test]
fn what_is_leased_is_in_the_peak_before_its_thread_knows() {
    let pool = Pool::new(detaches());
    let attachment = pool.attach();
    let loan = lease(&attachment, 64);
    equal(pool.stats().peak_in_use_bytes, 64);
    loan.settle(Lender::Alive);
    equal(balanced(&pool).peak_in_use_bytes, 64);
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

#[test]
fn close_against_a_block_that_comes_back() {
    for _ in 0..200 {
        let pool = Pool::new(detaches());
        let attachment = pool.attach();
        let loan = lend(&attachment, 64);
        std::thread::scope(|scope| {
            scope.spawn(|| loan.settle(Lender::Alive));
            scope.spawn(|| pool.close());
        });
        let stats = balanced(&pool);
        equal(stats.total.idle_count, 0);
        equal(stats.total.freed_bytes, 64);
    }
}

/// A witness that says what it is told.
#[derive(Clone, Default)]
struct Told(Arc<AtomicBool>);

impl Told {
    fn is_gone_now(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Witness for Told {
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
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "after a minute it does not hold: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

mod with_a_witness {
    use super::*;

    #[test]
    fn a_loan_ends_before_its_finalizer_comes() {
        let pool = Pool::new(detaches());
        let attachment = pool.attach();
        let (loan, store) = (lease(&attachment, 4096), Told::default());
        loan.watch(Box::new(store.clone()));
        release_to(&attachment, &loan, BlockState::Detached);
        assert!(!pool.end_if_gone(loan.key()), "native code holds it yet");
        store.is_gone_now();
        assert!(pool.end_if_gone(loan.key()));
        assert!(!pool.end_if_gone(loan.key()), "once");
        let again = idle(&attachment, class(4096)).expect("the block is in the depot");
        assert_eq!(again.address(), loan.address());
        loan.settle(Lender::Alive);
        equal(balanced(&pool).total.idle_count, 1);
        assert!(idle(&attachment, class(4096)).is_none(), "the finalizer did not bring it twice");
        again.settle(Lender::Alive);
    }

    #[test]
    fn without_one_only_the_finalizer_ends_it() {
        let pool = Pool::new(detaches());
        let attachment = pool.attach();
        let loan = lease(&attachment, 4096);
        release_to(&attachment, &loan, BlockState::Detached);
        assert!(!pool.end_if_gone(loan.key()));
        loan.settle(Lender::Alive);
        equal(balanced(&pool).total.idle_count, 1);
    }

    #[test]
    fn quarantine_lasts_until_the_last_holder_is_gone() {
        for zero_on_release in [false, true] {
            let pool = Pool::new(Config { zero_on_release, ..detaches() });
            let attachment = pool.attach();
            let (loan, store) = (lease(&attachment, 4096), Told::default());
            let address = at(&loan);
            // SAFETY: the block has so many bytes, and is this test's.
            unsafe { address.write_bytes(7, 4096) };
            loan.watch(Box::new(store.clone()));
            drop(attachment);
            loan.settle(Lender::Ending);
            let stats = balanced(&pool);
            equal(stats.total.quarantined_bytes, 4096);
            equal(stats.total.release_count, 0);
            store.is_gone_now();
            let stats = balanced(&pool);
            equal(stats.total.quarantined_bytes, 0);
            equal(stats.total.idle_count, 1);
            equal(stats.total.collected_count, 1);
            let again = idle(&pool.attach(), class(4096)).expect("the block");
            // SAFETY: as above.
            let byte = unsafe { at(&again).read() };
            assert_eq!(byte, if zero_on_release { 0 } else { 7 });
            again.settle(Lender::Alive);
        }
    }

    /// Native code of another thread works on a block that its lender has released, when that is
    /// trimmed and then ends.
    #[test]
    fn nor_does_it_end_before_for_a_condemned_block() {
        let pool = Pool::new(holds(4096));
        let attachment = pool.attach();
        let (loan, store) = (lease(&attachment, 4096), Told::default());
        loan.watch(Box::new(store.clone()));
        release_to(&attachment, &loan, BlockState::Detached);
        assert!(!pool.end_if_gone(loan.key()));
        assert_eq!(pool.trim(u64::MAX), 4096);
        drop(attachment);
        loan.settle(Lender::Ending);
        assert_eq!((pool.held_bytes(), pool.quarantined()), (4096, 1));
        equal(balanced(&pool).total.freed_bytes, 4096);
        assert!(pool.attach().lend_fresh(class(64)).is_err());
        store.is_gone_now();
        equal(balanced(&pool).total.freed_bytes, 4096);
        assert_eq!((pool.held_bytes(), pool.quarantined()), (0, 0));
    }

    #[test]
    fn the_keeper_keeps_the_pool_until_then() {
        let pool = Pool::new(Config { has_trimmer: true, ..detaches() });
        let attachment = pool.attach();
        let (loan, store) = (lease(&attachment, 65_536), Told::default());
        loan.watch(Box::new(store.clone()));
        drop(attachment);
        loan.settle(Lender::Ending);
        let left = Arc::downgrade(&pool);
        drop(pool);
        thread::sleep(Duration::from_millis(50));
        assert!(left.upgrade().is_some());
        store.is_gone_now();
        eventually("the pool is gone", || left.upgrade().is_none());
    }
}

mod released_elsewhere {
    use super::*;

    #[test]
    fn by_the_address_of_its_block() {
        let pool = Pool::new(detaches());
        let (lender, receiver) = (pool.attach(), pool.attach());
        let loan = lease(&lender, 4096);
        let address = at(&loan).addr().get();
        assert_eq!(pool.state_of(address, 4096), Some(BlockState::Leased));
        for (address, size) in [(address + 64, 4096), (address, 4095), (64, 4096)] {
            assert_eq!(pool.state_of(address, size), None);
            assert!(!pool.release_remotely(address, size));
        }
        assert!(pool.release_remotely(address, 4096));
        assert!(!pool.release_remotely(address, 4096), "once");
        assert_eq!(pool.state_of(address, 4096), Some(BlockState::ReleasedRemotely));
        pool.end_released_remotely(address);
        assert!(idle(&receiver, class(4096)).is_none(), "without a witness the finalizer ends it");
        loan.settle(Lender::Alive);
        let stats = balanced(&pool);
        equal(stats.total.release_count, 1);
        equal(stats.total.collected_count, 0);
        equal(lender.counters().read(Column::EndedElsewhereBytes), 4096);
        assert_eq!(pool.state_of(address, 4096), None);
    }

    #[test]
    fn with_a_witness_at_once() {
        let pool = Pool::new(detaches());
        let lender = pool.attach();
        let (loan, store) = (lease(&lender, 4096), Told::default());
        loan.watch(Box::new(store.clone()));
        let address = at(&loan).addr().get();
        assert!(pool.release_remotely(address, 4096));
        store.is_gone_now();
        pool.end_released_remotely(address);
        equal(balanced(&pool).total.idle_count, 1);
        loan.settle(Lender::Alive);
        equal(balanced(&pool).total.idle_count, 1);
    }

    #[test]
    fn when_the_lender_has_died() {
        let pool = Pool::new(detaches());
        let lender = pool.attach();
        let (loan, store) = (lease(&lender, 4096), Told::default());
        loan.watch(Box::new(store.clone()));
        let address = at(&loan).addr().get();
        drop(lender);
        loan.settle(Lender::Ending);
        assert_eq!(pool.state_of(address, 4096), Some(BlockState::Leased));
        assert!(pool.release_remotely(address, 4096));
        equal(balanced(&pool).total.release_count, 1);
        store.is_gone_now();
        pool.end_released_remotely(address);
        equal(balanced(&pool).total.quarantined_bytes, 0);
        equal(balanced(&pool).total.release_count, 1);
        equal(balanced(&pool).total.collected_count, 0);
        assert_eq!(pool.state_of(address, 4096), None);
    }

    #[test]
    fn when_the_lender_has_died_without_a_witness() {
        let pool = Pool::new(detaches());
        let lender = pool.attach();
        let loan = lease(&lender, 4096);
        let address = at(&loan).addr().get();
        drop(lender);
        loan.settle(Lender::Ending);
        assert_eq!(pool.state_of(address, 4096), Some(BlockState::Leased));
        for (address, size) in [(address + 64, 4096), (address, 4095)] {
            assert_eq!(pool.state_of(address, size), None);
            assert!(!pool.release_remotely(address, size));
        }
        assert!(pool.release_remotely(address, 4096));
        assert!(!pool.release_remotely(address, 4096), "once");
        assert_eq!(pool.state_of(address, 4096), None);
        pool.end_released_remotely(address);
        let stats = balanced(&pool);
        equal(stats.total.release_count, 1);
        equal(stats.total.quarantined_bytes, 4096);
        assert_eq!(pool.quarantined(), 1, "native code may still hold it");
    }

    #[test]
    fn while_the_lender_dies() {
        let pool = Pool::new(detaches());
        for round in 0..2000 {
            let lender = pool.attach();
            let (loan, store) = (lease(&lender, 4096), Told::default());
            loan.watch(Box::new(store.clone()));
            let address = at(&loan).addr().get();
            drop(lender);
            let (start, is_settled) = (Barrier::new(2), AtomicBool::new(false));
            thread::scope(|scope| {
                scope.spawn(|| {
                    start.wait();
                    loan.settle(Lender::Ending);
                    is_settled.store(true, Ordering::SeqCst);
                });
                start.wait();
                while round % 2 == 0 && !is_settled.load(Ordering::SeqCst) {
                    assert_eq!(pool.state_of(address, 4096), Some(BlockState::Leased));
                }
                assert!(pool.release_remotely(address, 4096));
                assert!(!pool.release_remotely(address, 4096), "once");
            });
            store.is_gone_now();
            pool.end_released_remotely(address);
        }
        equal(balanced(&pool).total.idle_count, 1);
        equal(balanced(&pool).total.release_count, 2000);
    }
}

mod ceiling {
    use super::*;

    #[track_caller]
    fn shortage(attachment: &Attachment, size: usize) -> usize {
        match attachment.lend_fresh(class(size)) {
            Err(Refusal::Exhausted(shortage)) => shortage,
            Err(refusal) => panic!("{refusal:?}"),
            Ok(_) => panic!("there is room"),
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let pool = Pool::new(holds(10_000));
        let attachment = pool.attach();
        let first = lease(&attachment, 8192);
        assert_eq!(shortage(&attachment, 4096), 8192 + 4096 - 10_000);
        let second = lease(&attachment, 1792);
        assert_eq!(pool.held_bytes(), 8192 + 1792);
        assert!(shortage(&attachment, 64) > 0);
        for loan in [first, second] {
            loan.settle(Lender::Alive);
        }
        assert_eq!(pool.held_bytes(), 8192 + 1792, "idle memory counts, too");
        pool.trim(u64::MAX);
        assert_eq!(pool.held_bytes(), 0);
    }

    #[test]
    fn idle_blocks_of_the_depot_give_way() {
        let pool = Pool::new(holds(16_384));
        let attachment = pool.attach();
        let loans = [4096, 4096, 8192].map(|size| lend(&attachment, size));
        for loan in loans {
            loan.settle(Lender::Alive);
        }
        let loan = attachment.lend_fresh(class(5120)).expect("the 8192 give way");
        assert_eq!(pool.held_bytes(), 4096 + 4096 + 5120);
        equal(balanced(&pool).total.freed_bytes, 8192);
        loan.settle(Lender::Alive);
    }

    #[test]
    fn counts_condemned_blocks_until_they_are_freed() {
        let pool = Pool::new(holds(4096));
        let attachment = pool.attach();
        let loan = lend(&attachment, 4096);
        attachment.mark_detached(loan.row(), class(4096), Fate::Free);
        equal(balanced(&pool).total.freed_bytes, 4096);
        assert_eq!(shortage(&attachment, 4096), 4096);
        loan.settle(Lender::Alive);
        lend(&attachment, 4096).settle(Lender::Alive);
    }

    #[test]
    fn counts_what_is_set_aside() {
        let pool = Pool::new(holds(8192));
        let attachment = pool.attach();
        lease(&attachment, 4096).settle(Lender::Ending);
        assert!(pool.can_ever_hold(class(4096)) && !pool.can_ever_hold(class(8192)));
        assert_eq!(shortage(&pool.attach(), 8192), 4096);
    }

    #[test]
    fn refuses_who_waits_for_what_no_longer_fits() {
        let pool = Pool::new(holds(8192));
        let (ending, staying) = (pool.attach(), pool.attach());
        let loan = lease(&ending, 4096);
        let tickets = [8192, 4096].map(|size| staying.wait(class(size)));
        assert_eq!(staying.granted(), None);
        loan.settle(Lender::Ending);
        assert_eq!(staying.claim(tickets[0]).err(), Some(Refusal::Exhausted(4096)));
        let loan = staying.claim(tickets[1]).unwrap().expect("the next in line is served");
        loan.settle(Lender::Alive);
        balanced(&pool);
    }

    #[test]
    fn is_never_passed() {
        let limit = 40 * 4096;
        let pool = Pool::new(holds(limit));
        thread::scope(|scope| {
            for seed in 0..4 {
                let pool = &pool;
                scope.spawn(move || {
                    let attachment = pool.attach();
                    let mut loans = Vec::new();
                    for round in 0..5_000_usize {
                        let class = class(64 << ((round * 7 + seed) % 10));
                        let loan = idle(&attachment, class);
                        loans.extend(loan.or_else(|| attachment.lend_fresh(class).ok()));
                        assert!(pool.held_bytes() <= limit);
                        if loans.len() > 3 + round % 20 {
                            loans.swap_remove(round % loans.len()).settle(Lender::Alive);
                        }
                    }
                    for loan in loans {
                        loan.settle(Lender::Alive);
                    }
                });
            }
        });
        balanced(&pool);
        pool.trim(u64::MAX);
        assert_eq!(pool.held_bytes(), 0);
    }
}

mod waiting {
    use super::*;

    #[test]
    fn is_served_in_the_order_of_arrival() {
        let pool = Pool::new(holds(8192));
        let (one, other) = (pool.attach(), pool.attach());
        let (waker_of_one, waker_of_other) = (Counting::on(&one), Counting::on(&other));
        let (first, second) = (lease(&one, 4096), lease(&one, 4096));
        let large = one.wait(class(8192));
        let small = other.wait(class(64));
        assert!(!pool.nobody_waits());
        let asked = (waker_of_one.count(), waker_of_other.count());
        first.settle(Lender::Alive);
        assert_eq!((one.granted(), other.granted()), (None, None), "the small one stays behind");
        assert!(idle(&other, class(4096)).is_none(), "and nobody jumps the queue");
        assert!(other.lend_fresh(class(64)).is_err());
        second.settle(Lender::Alive);
        assert_eq!((one.granted(), other.granted()), (Some(large), None));
        assert!(waker_of_one.count() > asked.0);
        let loan = one.claim(large).expect("memory").expect("the grant");
        assert_eq!((loan.size(), one.granted()), (8192, None));
        loan.settle(Lender::Alive);
        assert_eq!(other.granted(), Some(small));
        assert!(waker_of_other.count() > asked.1);
        equal(balanced(&pool).total.idle_count, 1);
        other.claim(small).expect("memory").expect("the grant").settle(Lender::Alive);
        assert!(pool.nobody_waits());
        let stats = balanced(&pool);
        assert_eq!(stats.wait_count, 2);
    }

    #[test]
    fn ends_when_it_is_cancelled() {
        let pool = Pool::new(holds(4096));
        let attachment = pool.attach();
        let loan = lease(&attachment, 4096);
        let [head, next, last] = [4096, 64, 64].map(|size| attachment.wait(class(size)));
        attachment.cancel(next);
        loan.settle(Lender::Alive);
        assert_eq!(attachment.granted(), Some(head));
        attachment.cancel(head);
        assert_eq!(attachment.granted(), Some(last), "what was granted goes to the next");
        assert!(attachment.claim(head).expect("memory").is_none());
        assert!(attachment.claim(next).expect("memory").is_none());
        attachment.cancel(last);
        balanced(&pool);
        assert!(pool.nobody_waits());
    }

    #[test]
    fn ends_with_its_thread() {
        let pool = Pool::new(holds(4096));
        let (leaving, staying) = (pool.attach(), pool.attach());
        let loan = lease(&staying, 4096);
        let _granted_to_nobody = leaving.wait(class(4096));
        let _never_served = leaving.wait(class(64));
        let ticket = staying.wait(class(2048));
        loan.settle(Lender::Alive);
        assert!(leaving.granted().is_some());
        drop(leaving);
        assert_eq!(staying.granted(), Some(ticket));
        staying.claim(ticket).expect("memory").expect("the grant").settle(Lender::Alive);
        balanced(&pool);
    }

    #[test]
    fn ends_with_the_pool() {
        let pool = Pool::new(holds(4096));
        let attachment = pool.attach();
        let waker = Counting::on(&attachment);
        let loan = lease(&attachment, 4096);
        let ticket = attachment.wait(class(4096));
        pool.close();
        assert!(waker.count() > 0 && pool.nobody_waits());
        assert!(attachment.claim(ticket).expect("memory").is_none());
        loan.settle(Lender::Alive);
        equal(balanced(&pool).total.freed_bytes, 4096);
    }

    #[test]
    fn asks_all_threads_for_what_is_short() {
        let pool = Pool::new(holds(8192));
        let (hoarder, waiter) = (pool.attach(), pool.attach());
        let waker = Counting::on(&hoarder);
        let idle = [lend(&hoarder, 4096), lend(&hoarder, 4096)];
        waiter.wait(class(5120));
        assert_eq!(waker.count(), 1);
        assert!(hoarder.thread().take_asked() >= 5120);
        assert_eq!(hoarder.thread().take_asked(), 0);
        for loan in idle {
            loan.settle(Lender::Alive);
        }
        assert!(waiter.granted().is_some());
        drop(waiter);
        balanced(&pool);
    }

    #[test]
    fn no_grant_is_lost_between_threads() {
        for _ in 0..300 {
            let pool = Pool::new(holds(4096));
            let (lender, waiter) = (pool.attach(), pool.attach());
            let loan = lease(&lender, 4096);
            thread::scope(|scope| {
                scope.spawn(|| loan.settle(Lender::Alive));
                scope.spawn(|| {
                    let ticket = waiter.wait(class(4096));
                    eventually("the block is granted", || waiter.granted() == Some(ticket));
                    waiter.claim(ticket).expect("memory").expect("it").settle(Lender::Alive);
                });
            });
            balanced(&pool);
        }
    }
}

mod idle_memory {
    use super::*;

    fn decays(milliseconds: u64) -> Config {
        let idle_timeout = Some(Duration::from_millis(milliseconds));
        Config { idle_timeout, has_trimmer: true, ..detaches() }
    }

    /// What the trimmer has freed: under pressure, where this machine is short of memory.
    fn untold(pool: &Pool) -> usize {
        pool.take_unreported(Reason::Idle) + pool.take_unreported(Reason::Pressure)
    }

    #[test]
    fn is_freed_in_time() {
        let pool = Pool::new(decays(40));
        let attachment = pool.attach();
        let waker = Counting::on(&attachment);
        lend(&attachment, 65_536).settle(Lender::Alive);
        eventually("it is freed", || pool.held_bytes() == 0);
        eventually("it can be told", || untold(&pool) == 65_536);
        assert_eq!(untold(&pool), 0);
        eventually("someone is to tell it", || waker.count() > 0);
        eventually("the trimmer has gone", || !pool.is_watched.load(Ordering::SeqCst));
        lend(&attachment, 65_536).settle(Lender::Alive);
        eventually("it comes again", || pool.held_bytes() == 0);
    }

    #[test]
    fn stays_while_it_is_needed() {
        let pool = Pool::new(detaches());
        let attachment = pool.attach();
        let hold = |count| (0..count).map(|_| lend(&attachment, 64)).collect::<Vec<_>>();
        let give_back = |loans: Vec<Loan>| {
            for loan in loans {
                loan.settle(Lender::Alive);
            }
        };
        give_back(hold(10));
        for held in [10 * 64, 4 * 64, 4 * 64] {
            pool.tick(Reason::Idle);
            assert_eq!(pool.held_bytes(), held);
            give_back(hold(4));
        }
        pool.tick(Reason::Idle);
        pool.tick(Reason::Idle);
        assert_eq!(pool.held_bytes(), 0);
    }

    #[test]
    fn is_not_kept_at_all_where_nothing_may_be() {
        let pool = Pool::new(decays(0));
        let attachment = pool.attach();
        lend(&attachment, 4096).settle(Lender::Alive);
        assert_eq!(pool.held_bytes(), 0);
        equal(balanced(&pool).total.discard_count, 1);
    }

    #[test]
    fn of_threads_is_theirs_to_free() {
        let pool = Pool::new(decays(20));
        let attachment = pool.attach();
        let waker = Counting::on(&attachment);
        attachment.set_idle(true);
        let ticks = [Tick::Free, Tick::FreeUnderPressure];
        eventually("the thread is told", || ticks.contains(&attachment.thread().take_tick()));
        eventually("it is rung for", || waker.count() > 0);
        attachment.set_idle(false);
        eventually("the trimmer has gone", || !pool.is_watched.load(Ordering::SeqCst));
    }

    #[test]
    fn goes_at_once_under_pressure() {
        let pool = Pool::new(detaches());
        let attachment = pool.attach();
        let fill = || {
            let loans: Vec<_> = (0..4).map(|_| lend(&attachment, 4096)).collect();
            for loan in loans {
                loan.settle(Lender::Alive);
            }
        };
        fill();
        let now = Instant::now();
        pool.visit(now, Pressure::Calm);
        pool.visit(now, Pressure::Calm);
        assert_eq!(pool.held_bytes(), 4 * 4096, "without pressure it may stay for ever");
        pool.visit(now, Pressure::High);
        assert_eq!(pool.held_bytes(), 4 * 4096, "all of it was needed just now");
        pool.visit(now, Pressure::High);
        assert_eq!(pool.held_bytes(), 0, "and is not any more");
        fill();
        pool.visit(now, Pressure::Critical);
        assert_eq!(pool.held_bytes(), 0);
        assert!(attachment.thread().take_free_all() && !attachment.thread().take_free_all());
        assert_eq!(pool.take_unreported(Reason::Pressure), 8 * 4096);
    }
}

mod v8_backed_blocks {
    use super::*;

    fn v8_backed() -> Config {
        Config { external: false, ..detaches() }
    }

    #[test]
    fn are_counted_and_never_kept() {
        let pool = Pool::new(Config { max_bytes: 8192, ..v8_backed() });
        let attachment = pool.attach();
        let (first, second) = (lease(&attachment, 4096), lease(&attachment, 4096));
        assert_eq!((first.address(), pool.held_bytes()), (None, 8192));
        assert_ne!(first.key(), second.key());
        assert!(attachment.lend_fresh(class(64)).is_err());
        let stats = balanced(&pool);
        equal(stats.total.in_use_count, 2);
        release_to(&attachment, &first, BlockState::Detached);
        assert!(pool.end_if_gone(first.key()));
        first.settle(Lender::Alive);
        second.settle(Lender::Ending);
        let stats = balanced(&pool);
        equal(stats.total.freed_bytes, 8192);
        equal(stats.total.collected_count, 1);
        equal(stats.total.quarantined_bytes, 0);
        assert_eq!(pool.held_bytes(), 0);
    }

    #[test]
    fn are_granted_like_any() {
        let pool = Pool::new(Config { max_bytes: 4096, ..v8_backed() });
        let attachment = pool.attach();
        let loan = lease(&attachment, 4096);
        let ticket = attachment.wait(class(4096));
        loan.settle(Lender::Alive);
        assert_eq!(attachment.granted(), Some(ticket));
        attachment.claim(ticket).expect("memory").expect("the grant").settle(Lender::Alive);
        balanced(&pool);
    }
}

#[test]
fn leaks_are_told_once_and_with_their_record() {
    let pool = Pool::new(detaches());
    let attachment = pool.attach();
    let waker = Counting::on(&attachment);
    lease(&attachment, 64).settle(Lender::Alive);
    assert_eq!(attachment.thread().next_report(), None, "its call site is not known");
    let sampled = || {
        let loan = lease(&attachment, 64);
        attachment.counters().set_state(loan.row(), BlockState::Sampled);
        attachment.counters().add_to_row(loan.row(), RowColumn::Sample, 5);
        loan
    };
    sampled().settle(Lender::Alive);
    let leak = attachment.thread().next_report().expect("the leak");
    assert_eq!(leak, Left { state: BlockState::Sampled, sample: 5.0 });
    assert_eq!(attachment.thread().next_report(), None);
    assert_eq!(waker.count(), 1);
    assert_eq!((pool.note_leak_site("here"), pool.note_leak_site("here")), (1, 0));
    for _ in 0..1000 {
        sampled().settle(Lender::Alive);
    }
    let released_remotely = sampled();
    assert!(pool.release_remotely(at(&released_remotely).addr().get(), 64));
    released_remotely.settle(Lender::Alive);
    let told = std::iter::from_fn(|| attachment.thread().next_report()).count();
    assert_eq!(told, 1001);
}
