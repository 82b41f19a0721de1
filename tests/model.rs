//! Compares the pool with a model, by random sequences of all that can happen to a block. `fuzz/`
//! uses the same model.
#![cfg(not(loom))]

mod world;

use proptest::prelude::*;
use world::{Fate, Setup, Step, World};

fn setup() -> impl Strategy<Value = Setup> {
    let v8_backed = prop_oneof![7 => Just(false), 1 => Just(true)];
    (any::<(bool, bool, u8, u8, u8)>(), v8_backed).prop_map(|(choices, is_v8_backed)| {
        let (detach_on_release, zero_on_release, ceiling, depot, timeout) = choices;
        Setup { detach_on_release, zero_on_release, is_v8_backed, ceiling, depot, timeout }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let fate = prop_oneof![
        4 => Just(Fate::Store),
        2 => Just(Fate::Free),
        1 => Just(Fate::Discard),
        1 => Just(Fate::Refuse),
    ];
    let one = any::<u8>;
    let held = || prop_oneof![2 => Just(false), 1 => Just(true)];
    prop_oneof![
        30 => (one(), one(), any::<bool>())
            .prop_map(|(thread, size, watched)| Step::Lend { thread, size, watched }),
        15 => one().prop_map(|which| Step::Lease { which }),
        5 => one().prop_map(|which| Step::Release { which }),
        10 => (one(), fate, held())
            .prop_map(|(which, fate, held)| Step::Detach { which, fate, held }),
        5 => (one(), held()).prop_map(|(which, held)| Step::ReleaseRemotely { which, held }),
        5 => one().prop_map(|which| Step::DropHolder { which }),
        3 => one().prop_map(|which| Step::Ask { which }),
        15 => one().prop_map(|which| Step::Finalize { which }),
        3 => one().prop_map(|which| Step::Withdraw { which }),
        3 => (one(), any::<u64>(), any::<bool>()).prop_map(|(thread, survivors, leaves_first)| {
            Step::End { thread, survivors, leaves_first }
        }),
        5 => (one(), one()).prop_map(|(thread, size)| Step::Wait { thread, size }),
        5 => (one(), any::<bool>()).prop_map(|(thread, watched)| Step::Claim { thread, watched }),
        1 => one().prop_map(|thread| Step::Cancel { thread }),
        3 => (0u32..100_000).prop_map(|bytes| Step::Trim { bytes }),
        1 => Just(Step::TrimAll),
        3 => (one(), one())
            .prop_map(|(milliseconds, pressure)| Step::Visit { milliseconds, pressure }),
        1 => Just(Step::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_sequences(setup in setup(), steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new(setup);
        for step in steps {
            world.step(step);
        }
        world.end_all();
    }
}
