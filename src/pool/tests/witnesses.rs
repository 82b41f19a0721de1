//! Loans whose backing store has a witness.

use super::*;

#[test]
fn a_loan_ends_before_its_finalizer_runs() {
    let pool = Pool::new(detaches());
    let attachment = pool.attach();
    let (loan, store) = (lease(&attachment, 4096), TestWitness::default());
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
fn without_a_witness_only_the_finalizer_ends_a_loan() {
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
        let (loan, store) = (lease(&attachment, 4096), TestWitness::default());
        let address = at(&loan);
        // SAFETY: the block has that many bytes, and is this test's.
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
fn quarantine_of_a_freeing_block_lasts_until_the_last_holder_is_gone() {
    let pool = Pool::new(holds(4096));
    let attachment = pool.attach();
    let (loan, store) = (lease(&attachment, 4096), TestWitness::default());
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
fn the_trimmer_holds_the_pool_while_a_block_is_in_quarantine() {
    let pool = Pool::new(Config { has_trimmer: true, ..detaches() });
    let attachment = pool.attach();
    let (loan, store) = (lease(&attachment, 65_536), TestWitness::default());
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
