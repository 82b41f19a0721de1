//! Blocks that are released by their address.

use super::*;

#[test]
fn release_by_the_address_of_a_block() {
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
fn release_with_a_witness_ends_the_loan_at_once() {
    let pool = Pool::new(detaches());
    let lender = pool.attach();
    let (loan, store) = (lease(&lender, 4096), TestWitness::default());
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
fn release_after_the_end_of_the_lender() {
    let pool = Pool::new(detaches());
    let lender = pool.attach();
    let (loan, store) = (lease(&lender, 4096), TestWitness::default());
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
fn release_after_the_end_of_the_lender_without_a_witness() {
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
fn release_during_the_end_of_the_lender() {
    let pool = Pool::new(detaches());
    for round in 0..2000 {
        let lender = pool.attach();
        let (loan, store) = (lease(&lender, 4096), TestWitness::default());
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
