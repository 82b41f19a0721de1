//! Blocks of memory: how large they are, where they come from, where idle ones wait, and how much there may be.
//!
//! Nothing here knows a thread of JavaScript.

pub mod block;
pub mod budget;
pub mod census;
pub mod depot;
pub mod size_class;
pub mod slab;
pub mod supply;
