//! The addon: converts between Node-API and the core, and delegates. It decides nothing.
//!
//! JavaScript calls these functions only when a magazine runs empty or full, never on each lease.
//! `lib/` is their only caller. They still check their arguments, so that no value from JavaScript
//! reaches memory unchecked.
//!
//! Calls that belong to an attachment are functions that take it first, grouped here by subject.
//! They are not methods of a class: napi-rs looks up the identity of each receiver in a map, which
//! makes a call 2.5 times as slow. It also drops a class's instances through thread-local storage,
//! and some runtimes call finalizers in other threads.

mod array_buffer;
mod attachment;
mod backing_store;
mod constants;
mod counters;
mod deleter;
mod error;
mod external_memory;
mod garbage;
mod js_waker;
mod lending;
mod moving;
mod number;
mod process;
mod remote;
mod settings;
mod shared_words;
mod thread;
mod trimming;
mod unpooled;
mod waiting;
