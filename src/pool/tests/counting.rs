//! The statistics.

use super::*;

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
fn freeing_block_counts_as_freed_at_once() {
    for lender in [Lender::Alive, Lender::Ending] {
        let pool = Pool::new(reuses());
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
fn counts_of_threads_that_have_left_stay() {
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
fn peaks_at_different_times_are_at_most_the_loaned_bytes() {
    let pool = Pool::new(holds(1024));
    let threads = [(); 3].map(|()| pool.attach());
    for thread in &threads {
        let loan = lease(thread, 1024);
        thread.counters().write(Column::PeakBytes, 1024);
        release_to(thread, &loan, BlockState::Detached);
        loan.settle(Lender::Alive);
        equal(balanced(&pool).peak_in_use_bytes, 1024);
    }
    // Blocks in the depot do not count either.
    equal(balanced(&pool).total.idle_bytes, 1024);
}

#[test]
fn waits_are_counted_with_the_age_of_the_oldest() {
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
fn peak_includes_leases_that_their_thread_has_not_noted() {
    let pool = Pool::new(detaches());
    let attachment = pool.attach();
    let loan = lease(&attachment, 64);
    equal(pool.stats().peak_in_use_bytes, 64);
    loan.settle(Lender::Alive);
    equal(balanced(&pool).peak_in_use_bytes, 64);
}

#[test]
fn leaks_are_reported_once_and_with_their_record() {
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
