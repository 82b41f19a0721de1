//! Idle memory, which the trimmer frees.

use super::*;

fn decays(milliseconds: u64) -> Config {
    let idle_timeout = Some(Duration::from_millis(milliseconds));
    Config { idle_timeout, has_trimmer: true, ..detaches() }
}

/// Takes the bytes that the trimmer has freed: under pressure if this machine is short of memory.
fn unreported(pool: &Pool) -> usize {
    pool.take_unreported(Reason::Idle) + pool.take_unreported(Reason::Pressure)
}

#[test]
fn is_freed_in_time() {
    let pool = Pool::new(decays(40));
    let attachment = pool.attach();
    let waker = Counting::on(&attachment);
    lend(&attachment, 65_536).settle(Lender::Alive);
    eventually("it is freed", || pool.held_bytes() == 0);
    eventually("it can be reported", || unreported(&pool) == 65_536);
    assert_eq!(unreported(&pool), 0);
    eventually("a thread is woken to report it", || waker.count() > 0);
    eventually("the trimmer has gone", || !pool.is_watched.load(Ordering::SeqCst));
    lend(&attachment, 65_536).settle(Lender::Alive);
    eventually("the trimmer runs again", || pool.held_bytes() == 0);
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
fn is_not_stored_with_a_timeout_of_zero() {
    let pool = Pool::new(decays(0));
    let attachment = pool.attach();
    lend(&attachment, 4096).settle(Lender::Alive);
    assert_eq!(pool.held_bytes(), 0);
    equal(balanced(&pool).total.discard_count, 1);
}

#[test]
fn of_threads_is_freed_by_them() {
    let pool = Pool::new(decays(20));
    let attachment = pool.attach();
    let waker = Counting::on(&attachment);
    attachment.set_idle(true);
    let ticks = [Tick::Free, Tick::FreeUnderPressure];
    eventually("the thread gets the tick", || ticks.contains(&attachment.thread().take_tick()));
    eventually("the thread is woken", || waker.count() > 0);
    attachment.set_idle(false);
    eventually("the trimmer has gone", || !pool.is_watched.load(Ordering::SeqCst));
}

#[test]
fn is_freed_at_once_under_pressure() {
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
    assert_eq!(pool.held_bytes(), 4 * 4096, "without pressure it stays for ever");
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
