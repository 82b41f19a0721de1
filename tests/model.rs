//! The pool against a model, by random sequences of everything that can happen to a block.
//!
//! Invariants, checked after each step:
//! - a block that is lent is lent once: its address is nobody else's;
//! - its bytes are those that its holder wrote;
//! - for every class, `fresh == in use + idle + freed + quarantined`;
//! - the depot never holds more than its bound.
#![cfg(not(loom))]

use cistern::pool::{Attachment, Config, Lender, Loan, Pool, SeatState, SizeClass};
use proptest::prelude::*;
use std::collections::HashSet;

const DEPOT_BYTES: usize = 64 * 1024;

#[derive(Clone, Debug)]
enum Step {
    Lend { size: usize },
    Settle { which: usize, state: SeatState, lender: Lender },
    Condemn { which: usize },
    Withdraw { which: usize },
    Trim { bytes: u64 },
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let state =
        prop_oneof![Just(SeatState::Idle), Just(SeatState::Leased), Just(SeatState::Detached)];
    let lender = prop_oneof![9 => Just(Lender::Alive), 1 => Just(Lender::Ending)];
    prop_oneof![
        40 => (1usize..20_000).prop_map(|size| Step::Lend { size }),
        30 => (any::<usize>(), state, lender)
            .prop_map(|(which, state, lender)| Step::Settle { which, state, lender }),
        5 => any::<usize>().prop_map(|which| Step::Condemn { which }),
        5 => any::<usize>().prop_map(|which| Step::Withdraw { which }),
        5 => (0u64..100_000).prop_map(|bytes| Step::Trim { bytes }),
        1 => Just(Step::Close),
    ]
}

struct Held {
    loan: Loan,
    mark: u8,
}

fn lend(attachment: &Attachment, size: usize) -> Loan {
    let class = SizeClass::fitting(size).expect("a class");
    let idle = attachment.lend_idle(class).expect("memory for the register");
    idle.unwrap_or_else(|| attachment.lend_fresh(class).expect("memory"))
}

fn check_bytes(held: &Held) {
    let (address, size) = (held.loan.address().expect("memory"), held.loan.size());
    // SAFETY: the block is `size` bytes long, filled, and ours until the loan ends.
    let bytes = unsafe { std::slice::from_raw_parts(address.as_ptr(), size) };
    assert!(bytes.iter().all(|byte| *byte == held.mark), "another owner wrote into the block");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_sequences(
        detach_on_release: bool,
        zero_on_release: bool,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let config = Config {
            detach_on_release,
            zero_on_release,
            depot_bytes: DEPOT_BYTES,
            idle_timeout: None,
            ..Config::default()
        };
        let pool = Pool::new(config);
        let attachment = pool.attach();
        let mut held: Vec<Held> = Vec::new();
        let mut marks = (1u8..=255).cycle();
        let mut quarantined = HashSet::new();
        for step in steps {
            match step {
                Step::Lend { size } => {
                    let loan = lend(&attachment, size);
                    prop_assert!(loan.size() >= size);
                    let address = loan.address().expect("memory");
                    prop_assert!(held.iter().all(|other| other.loan.address() != Some(address)));
                    prop_assert!(!quarantined.contains(&address));
                    let mark = marks.next().expect("an endless cycle");
                    // SAFETY: the block is `size` bytes long, and ours.
                    unsafe { address.write_bytes(mark, loan.size()) };
                    held.push(Held { loan, mark });
                }
                Step::Settle { which, state, lender } if !held.is_empty() => {
                    let held = held.swap_remove(which % held.len());
                    check_bytes(&held);
                    attachment.ledger().set_state(held.loan.seat(), state);
                    let address = held.loan.address().expect("memory");
                    let before = pool.quarantined();
                    held.loan.settle(lender);
                    if pool.quarantined() > before {
                        quarantined.insert(address);
                    }
                }
                Step::Condemn { which } if !held.is_empty() => {
                    let held = held.swap_remove(which % held.len());
                    check_bytes(&held);
                    let class = SizeClass::fitting(held.loan.size()).expect("a class");
                    attachment.condemn(held.loan.seat(), class);
                    held.loan.settle(Lender::Alive);
                }
                Step::Withdraw { which } if !held.is_empty() => {
                    let held = held.swap_remove(which % held.len());
                    check_bytes(&held);
                    held.loan.withdraw();
                }
                Step::Trim { bytes } => {
                    pool.trim(bytes);
                }
                Step::Close => pool.close(),
                _ => {}
            }
            let total = pool.stats().total;
            let sum = total.in_use_bytes + total.idle_bytes + total.freed_bytes + total.quarantined_bytes;
            prop_assert!((total.fresh_bytes - sum).abs() < 0.5, "{total:?}");
            let lent: usize = held.iter().map(|held| held.loan.size()).sum();
            #[expect(clippy::cast_precision_loss, reason = "small sums")]
            let in_depot = total.idle_bytes + total.in_use_bytes - lent as f64;
            #[expect(clippy::cast_precision_loss, reason = "a small bound")]
            let bound = DEPOT_BYTES as f64;
            prop_assert!((0.0..=bound).contains(&in_depot), "{in_depot} bytes in the depot");
        }
        held.iter().for_each(check_bytes);
        for held in held {
            held.loan.settle(Lender::Alive);
        }
    }
}
