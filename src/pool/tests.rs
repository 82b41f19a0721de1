//! Every way by which a block changes hands.
//!
//! After each, and whatever happened:
//! - `fresh == in use + idle + freed + quarantined`, in blocks and in bytes;
//! - the census (these are debug builds) has seen each block go from its owner to the next.

use super::*;

const KEEPS: Config =
    Config { detach_on_release: false, zero_on_release: false, depot_bytes: DEPOT_BYTES };
const DETACHES: Config = Config { detach_on_release: true, ..KEEPS };

fn class(size: usize) -> SizeClass {
    SizeClass::fitting(size).expect("a class")
}

fn lend(attachment: &Attachment, size: usize) -> Loan {
    let class = class(size);
    attachment.lend_idle(class).unwrap_or_else(|| attachment.lend_fresh(class).expect("memory"))
}

/// A lease as JavaScript makes one: the state and the counters it would write.
fn lease(attachment: &Attachment, size: usize) -> Loan {
    let loan = lend(attachment, size);
    attachment.ledger().set_state(loan.seat(), SeatState::Leased);
    let asked = u32::try_from(size).expect("a small size");
    attachment.ledger().add_to_seat(loan.seat(), SeatWord::Leases, 1);
    attachment.ledger().add_to_seat(loan.seat(), SeatWord::AskedBytes, asked);
    loan
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
    stats
}

#[track_caller]
fn equal(actual: f64, expected: u32) {
    assert!((actual - f64::from(expected)).abs() < 0.5, "{actual} is not {expected}");
}

#[test]
fn idle_block_returns_to_the_depot() {
    let pool = Pool::new(DETACHES);
    let attachment = pool.attach();
    let loan = lend(&attachment, 4096);
    let address = loan.address();
    equal(balanced(&pool).total.idle_count, 1);
    loan.settle(Lender::Alive);
    equal(balanced(&pool).total.idle_count, 1);
    let again = attachment.lend_idle(class(4096)).expect("the block is in the depot");
    assert_eq!(again.address(), address);
    again.settle(Lender::Alive);
}

#[test]
fn first_lease_of_a_fresh_block_is_a_miss() {
    let pool = Pool::new(DETACHES);
    let attachment = pool.attach();
    lend(&attachment, 64).settle(Lender::Alive);
    equal(balanced(&pool).total.miss_count, 0);
    let fresh = lease(&attachment, 4096);
    for leases in 1..4 {
        let stats = balanced(&pool);
        equal(stats.total.miss_count, 1);
        equal(stats.total.hit_count, leases - 1);
        attachment.ledger().add_to_seat(fresh.seat(), SeatWord::Leases, 1);
    }
    fresh.settle(Lender::Alive);
    lease(&attachment, 4096).settle(Lender::Alive);
    let stats = balanced(&pool);
    equal(stats.total.miss_count, 1);
    equal(stats.total.hit_count, 4);
}

#[test]
fn dropped_lease_is_collected() {
    let pool = Pool::new(DETACHES);
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
    equal(attachment.ledger().read(Word::CollectedBytes), 1024);
}

#[test]
fn block_is_scrubbed_where_asked() {
    let states = [SeatState::Leased, SeatState::Detached];
    for (zero_on_release, state) in
        [true, false].map(|zero| states.map(|state| (zero, state))).concat()
    {
        let pool = Pool::new(Config { zero_on_release, ..DETACHES });
        let attachment = pool.attach();
        let loan = lease(&attachment, 64);
        // SAFETY: the block has 64 bytes, and nobody else uses it.
        unsafe { loan.address().write_bytes(7, 64) };
        attachment.ledger().set_state(loan.seat(), state);
        loan.settle(Lender::Alive);
        let again = attachment.lend_idle(class(64)).expect("the block");
        // SAFETY: as above.
        let byte = unsafe { again.address().read() };
        assert_eq!(byte, if zero_on_release { 0 } else { 7 });
        again.settle(Lender::Alive);
    }
}

/// What happens to a block whose lender ends: it may have another holder, or it can't.
#[test]
fn lender_ends() {
    use SeatState::{Detached, Idle, Leased};
    for (config, state, set_aside) in [
        (DETACHES, Leased, true),
        (DETACHES, Idle, false),
        (DETACHES, Detached, false),
        (KEEPS, Leased, true),
        (KEEPS, Idle, true),
        (KEEPS, Detached, false),
    ] {
        let pool = Pool::new(config);
        let attachment = pool.attach();
        let loan = lease(&attachment, 4096);
        attachment.ledger().set_state(loan.seat(), state);
        drop(attachment);
        loan.settle(Lender::Ending);
        let stats = balanced(&pool);
        equal(stats.total.in_use_count, 0);
        equal(stats.total.quarantined_bytes, if set_aside { 4096 } else { 0 });
        assert_eq!(pool.quarantined(), u64::from(set_aside), "{config:?} {state:?}");
        equal(stats.total.idle_count, u32::from(!set_aside));
    }
}

#[test]
fn withdrawn_loan_is_idle_again() {
    let pool = Pool::new(DETACHES);
    let attachment = pool.attach();
    attachment.lend_fresh(class(64)).expect("memory").withdraw();
    let stats = balanced(&pool);
    equal(stats.total.idle_count, 1);
    equal(stats.total.miss_count, 0);
    assert!(attachment.lend_idle(class(64)).is_some_and(|loan| {
        loan.withdraw();
        true
    }));
}

#[test]
fn doubted_loan_is_quarantined_whether_or_not_its_finalizer_comes() {
    let pool = Pool::new(DETACHES);
    let attachment = pool.attach();
    let loan = lend(&attachment, 4096);
    loan.doubt();
    equal(balanced(&pool).total.quarantined_bytes, 4096);
    loan.settle(Lender::Alive);
    let stats = balanced(&pool);
    equal(stats.total.quarantined_bytes, 4096);
    equal(stats.total.idle_count, 0);
    assert!(attachment.lend_idle(class(4096)).is_none(), "nobody has it again");
}

#[test]
fn condemned_block_is_freed_in_the_books_at_once() {
    for lender in [Lender::Alive, Lender::Ending] {
        let pool = Pool::new(KEEPS);
        let attachment = pool.attach();
        let loan = lend(&attachment, 65_536);
        attachment.condemn(loan.seat(), class(65_536));
        equal(balanced(&pool).total.freed_bytes, 65_536);
        loan.settle(lender);
        let stats = balanced(&pool);
        equal(stats.total.freed_bytes, 65_536);
        equal(stats.total.idle_count, 0);
    }
}

#[test]
fn full_depot_discards() {
    let pool = Pool::new(Config { depot_bytes: 4096, ..DETACHES });
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
    let pool = Pool::new(DETACHES);
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
    let pool = Pool::new(DETACHES);
    let attachment = pool.attach();
    let loans = [lend(&attachment, 4096), lend(&attachment, 4096), lend(&attachment, 4096)];
    for loan in &loans[..2] {
        attachment.ledger().set_state(loan.seat(), SeatState::Detached);
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
    let pool = Pool::new(DETACHES);
    let attachment = pool.attach();
    let (leased, idle) = (lease(&attachment, 4096), lend(&attachment, 64));
    idle.settle(Lender::Alive);
    pool.close();
    pool.close();
    assert!(pool.is_closed());
    equal(balanced(&pool).total.freed_bytes, 64);
    // SAFETY: a leased block stays valid after the close.
    unsafe { leased.address().write_bytes(1, leased.size()) };
    leased.settle(Lender::Alive);
    let stats = balanced(&pool);
    equal(stats.total.freed_bytes, 64 + 4096);
    equal(stats.total.discard_count, 1);
}

#[test]
fn counters_outlive_their_thread() {
    let pool = Pool::new(DETACHES);
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
    let pool = Pool::new(DETACHES);
    let peak = |attachment: &Attachment, bytes| attachment.ledger().write(Word::PeakBytes, bytes);
    for _ in 0..10 {
        let attachment = pool.attach();
        lease(&attachment, 64).settle(Lender::Alive);
        peak(&attachment, 64);
    }
    assert!(pool.threads().ledgers.is_empty());
    let stats = balanced(&pool);
    equal(stats.total.alloc_count, 10);
    equal(stats.peak_in_use_bytes, 64);
    let (one, other) = (pool.attach(), pool.attach());
    peak(&one, 100);
    peak(&other, 200);
    equal(pool.stats().peak_in_use_bytes, 300);
    drop(one);
    equal(pool.stats().peak_in_use_bytes, 300);
    assert_eq!(pool.threads().ledgers.len(), 1);
}

#[test]
fn threads_share_the_depot() {
    let pool = Pool::new(DETACHES);
    let rounds = 2_000;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let attachment = pool.attach();
                for round in 0..rounds {
                    let loan = lend(&attachment, 64 + round % 4096);
                    let mark = u8::try_from(round % 251).expect("below 251");
                    // SAFETY: the block is this thread's alone until it settles the loan.
                    unsafe { loan.address().write_bytes(mark, loan.size()) };
                    std::thread::yield_now();
                    // SAFETY: as above.
                    let first = unsafe { loan.address().read() };
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
        let pool = Pool::new(DETACHES);
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
