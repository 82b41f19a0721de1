//! Compares the pool with the model of `tests/model.rs`, by sequences of steps that libFuzzer
//! evolves.
#![no_main]

#[path = "../../tests/world/mod.rs"]
mod world;

use libfuzzer_sys::fuzz_target;
use world::{Setup, Step, World};

fuzz_target!(|input: (Setup, Vec<Step>)| {
    let (setup, steps) = input;
    let mut world = World::new(setup);
    for step in steps {
        world.step(step);
    }
    world.end_all();
});
