//! Idle blocks that exceed their proportion to what was in use lately.

use super::*;

const MIB: usize = 1 << 20;

/// Makes a pool with `idle` MiB idle in the depot, in blocks of 1 MiB, and a thread that had `peak`
/// MiB leased recently.
fn pool_with_idle(idle: usize, peak: usize, config: Config) -> (Arc<Pool>, Attachment) {
    let pool = Pool::new(config);
    let attachment = pool.attach();
    let bytes = |mib: usize| u32::try_from(mib * MIB).expect("a small size");
    // The peak is high until all of it is there, so that nothing is freed before.
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
fn fresh_blocks_replace_idle_ones_beyond_proportion() {
    // The idle MiB, the recent peak, and the MiB that are freed for 2 fresh ones.
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
fn idle_blocks_stay_without_an_idle_timeout() {
    let (pool, attachment) = pool_with_idle(60, 0, detaches());
    attachment.lend_fresh(class(2 * MIB)).expect("memory").settle(Lender::Alive);
    assert_eq!(pool.depot_bytes(), 62 * MIB);
}

#[test]
fn a_thread_frees_the_surplus_beyond_the_depot() {
    let pool = Pool::new(decays());
    let attachment = pool.attach();
    let loans: Vec<_> = (0..20).map(|_| lend(&attachment, MIB)).collect();
    let last = attachment.lend_fresh(class(2 * MIB)).expect("memory");
    equal(attachment.counters().read(Column::SurplusBytes), u32::try_from(4 * MIB).expect("small"));
    for loan in loans.into_iter().chain([last]) {
        loan.settle(Lender::Alive);
    }
}
