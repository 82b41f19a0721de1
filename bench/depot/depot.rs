//! Measures how long the core's calls take, in one thread and in two at once.
//!
//! `npm run bench` runs it; by itself: `cargo bench` in this folder.

use cistern::pool::{Attachment, Block, Config, DEPOT_BYTES, Depot, Lender, Pool, SizeClass};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const BLOCK_SIZE: usize = 64 * 1024;

/// Blocks in the depot beforehand, so that two threads never find it empty.
const STOCK: usize = 16;

fn class() -> SizeClass {
    SizeClass::fitting(BLOCK_SIZE).expect("a class")
}

fn stocked() -> Arc<Depot> {
    let depot = Arc::new(Depot::new(DEPOT_BYTES));
    depot.prepare(class(), STOCK).expect("memory");
    for _ in 0..STOCK {
        let block = Block::obtain(class()).expect("memory");
        depot.offer(block).expect("room");
    }
    depot
}

fn take_and_offer(depot: &Depot) {
    let block = depot.take(class()).expect("stock");
    depot.offer(black_box(block)).expect("room");
}

/// Runs `measured` while a second thread repeats `work`.
fn beside(work: impl Fn() + Send + 'static, measured: impl FnOnce()) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let rival = thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            work();
        }
    });
    measured();
    stop.store(true, Ordering::Relaxed);
    rival.join().expect("the rival ends well");
}

fn attach(pool: &Arc<Pool>) -> Attachment {
    let attachment = pool.attach();
    let loans: Vec<_> =
        (0..STOCK).map(|_| attachment.lend_fresh(class()).expect("memory")).collect();
    for loan in loans {
        loan.settle(Lender::Alive);
    }
    attachment
}

fn lend_and_settle(attachment: &Attachment) {
    let loan = attachment.lend_idle(class()).expect("memory").expect("stock");
    black_box(loan).settle(Lender::Alive);
}

fn depot(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("depot, take and offer");
    group.bench_function("one thread", |bencher| {
        let depot = stocked();
        bencher.iter(|| take_and_offer(&depot));
    });
    group.bench_function("two threads", |bencher| {
        let depot = stocked();
        let rivals = depot.clone();
        beside(move || take_and_offer(&rivals), || bencher.iter(|| take_and_offer(&depot)));
    });
    group.finish();
}

fn loan(criterion: &mut Criterion) {
    let config = Config { idle_timeout: None, ..Config::default() };
    let mut group = criterion.benchmark_group("loan, lend and settle");
    group.bench_function("one thread", |bencher| {
        let attachment = attach(&Pool::new(config.clone()));
        bencher.iter(|| lend_and_settle(&attachment));
    });
    group.bench_function("two threads", |bencher| {
        let pool = Pool::new(config.clone());
        let (here, there) = (attach(&pool), attach(&pool));
        beside(move || lend_and_settle(&there), || bencher.iter(|| lend_and_settle(&here)));
    });
    group.finish();
}

/// Measures what the depot saves: gets a block from the operating system, touches its first page,
/// and frees it.
fn fresh(criterion: &mut Criterion) {
    criterion.bench_function("fresh block, obtain, touch and free", |bencher| {
        bencher.iter(|| {
            let block = Block::obtain(class()).expect("memory");
            let address = block.address().expect("memory of its own");
            // SAFETY: the block is larger than a byte, and ours.
            unsafe { address.write_volatile(1) };
            drop(block);
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(2))
        .without_plots();
    targets = depot, loan, fresh
}
criterion_main!(benches);
