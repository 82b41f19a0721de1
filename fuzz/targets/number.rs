//! Any numbers from JavaScript, as sizes and as settings of a pool.
#![no_main]

#[allow(dead_code, reason = "it is the binding's")]
#[path = "../../src/binding/number.rs"]
mod number;

use cistern::pool::{Config, Lender, Pool, Pressure, SizeClass};
use libfuzzer_sys::fuzz_target;
use number::{to_bytes, to_number, to_size};
use std::time::{Duration, Instant};

/// From here on JavaScript's numbers are not exact.
const EXACT: u64 = 1 << 53;

fuzz_target!(|input: (f64, f64, u64, u32)| {
    let (max_bytes, idle_timeout, count, size) = input;
    assert_eq!(to_bytes(to_number(count)).min(EXACT), count.min(EXACT));
    if max_bytes >= 1.0 {
        assert!(to_number(to_bytes(max_bytes)) <= max_bytes);
    } else {
        assert_eq!(to_size(max_bytes), 0);
    }
    check_classes(size as usize);
    let pool = Pool::new(Config {
        max_bytes: to_size(max_bytes),
        // The binding converts it in this way.
        idle_timeout: Duration::try_from_secs_f64(idle_timeout / 1000.0).ok(),
        has_trimmer: false,
        ..Config::default()
    });
    let attachment = pool.attach();
    let class = SizeClass::fitting(size as usize % 4096 + 1).expect("a class");
    assert_eq!(pool.can_ever_hold(class), class.block_size() <= to_size(max_bytes));
    let loan = attachment.lend_fresh(class);
    assert_eq!(loan.is_ok(), pool.can_ever_hold(class));
    if let Ok(loan) = loan {
        loan.settle(Lender::Alive);
    }
    let now = Instant::now();
    let due = pool.visit(now, Pressure::Calm);
    assert!(due.is_none_or(|due| due >= now));
});

/// Checks that a size gets the tightest class.
fn check_classes(size: usize) {
    let Some(class) = SizeClass::fitting(size) else {
        return assert!(size == 0 || size > cistern::pool::MAX_BLOCK_SIZE);
    };
    assert!(class.block_size() >= size);
    let smaller = class.index().checked_sub(1).and_then(SizeClass::from_index);
    assert!(smaller.is_none_or(|smaller| smaller.block_size() < size));
}
