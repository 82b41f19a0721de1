//! The addon: converts between Node-API and the core, and delegates. Nothing is decided here.
//!
//! On the way of a lease JavaScript calls these functions only where a magazine runs empty or full.
//! `lib/` is their one caller; they check what they are given all the same, so that no value from
//! JavaScript reaches memory unchecked.

mod array_buffer;
mod attachment;
mod backing_store;
mod deleter;
mod error;
mod garbage;
mod js_waker;
mod lending;
mod number;
mod settings;
mod stats;
