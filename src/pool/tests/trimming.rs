//! Blocks that are freed: by `trim`, by `close`, and for lack of room in the depot.

use super::*;

#[test]
fn trim_frees_the_largest_first_and_no_more_than_needed() {
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
fn closed_pool_stores_nothing() {
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
