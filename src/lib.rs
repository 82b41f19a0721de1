//! `cistern`: a two-level pool of Buffers for Node.js.
//!
//! [`pool`] is the core: blocks, the depot, the counters. It knows nothing of Node-API. The binding
//! turns its loans into external `ArrayBuffer`s, and delegates. JavaScript does all that happens on
//! each lease, in `lib/`.

mod memory;
mod os;
pub mod pool;
mod sync;

// The binding has no tests of its own: without Node there is nothing to call it.
#[cfg(not(test))]
mod binding;
