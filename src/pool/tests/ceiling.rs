//! The ceiling.

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
fn refuses_a_block_that_does_not_fit() {
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
fn frees_idle_blocks_of_the_depot() {
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
fn counts_freeing_blocks_until_they_are_freed() {
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
fn counts_quarantined_blocks() {
    let pool = Pool::new(holds(8192));
    let attachment = pool.attach();
    lease(&attachment, 4096).settle(Lender::Ending);
    assert!(pool.can_ever_hold(class(4096)) && !pool.can_ever_hold(class(8192)));
    assert_eq!(shortage(&pool.attach(), 8192), 4096);
}

#[test]
fn rejects_waiters_whose_blocks_no_longer_fit() {
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
