//! Blocks of memory: their sizes, their origin, the store of idle ones, and the bound on all of
//! them.
//!
//! Nothing here knows a thread of JavaScript.

pub mod block;
pub mod budget;
pub mod census;
pub mod depot;
pub mod size_class;
pub mod slab;
pub mod supply;
