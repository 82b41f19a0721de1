//! What V8 knows of a backing store, and Node-API does not say: when it is gone, and how to move
//! it.
//!
//! Node-API says when an `ArrayBuffer` goes, and that only while its environment lives; it has no
//! word for "the memory has no holder in any thread any more". V8 knows: it shares a backing store
//! by `std::shared_ptr`, among `ArrayBuffer`s, threads, messages under way and native code. A
//! `std::weak_ptr` to it is the witness. The same pointer, given to a new `ArrayBuffer`, moves the
//! memory there: `ArrayBuffer.prototype.transfer()` for Node 20, which has none.
//!
//! What is relied on, and only where it is found at run time:
//! - `v8::ArrayBuffer::GetBackingStore()` and `New()`, and `v8::Isolate::GetCurrent()`, which are
//!   exported by Node 14 and all since;
//! - a `napi_value` is a `v8::Local` (Node's Node-API asserts it at compile time);
//! - the layout of libstdc++'s control block, which its ABI has kept since 2005. That V8 was
//!   built against libstdc++ shows in the mangled name of a function that takes a `shared_ptr`;
//!   libc++'s are in a namespace of their own.
//!
//! Elsewhere (macOS, Windows, Bun, Deno) there is none of it, and the pool does without; on Deno
//! the [deleter](super::deleter) serves. `--cfg no_witness` makes Linux one of them, for the tests.

#[cfg_attr(all(target_os = "linux", not(no_witness)), path = "libstdcxx.rs")]
#[cfg_attr(not(all(target_os = "linux", not(no_witness))), path = "none.rs")]
mod known;

pub use known::{Held, witness};
