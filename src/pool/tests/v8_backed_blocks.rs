//! Blocks whose memory V8 has.

use super::*;

fn v8_backed() -> Config {
    Config { external: false, ..detaches() }
}

#[test]
fn are_counted_and_never_stored() {
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
