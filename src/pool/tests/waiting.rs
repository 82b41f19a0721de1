//! The queue of waiters.

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
    assert!(idle(&other, class(4096)).is_none(), "and no lease overtakes it");
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
