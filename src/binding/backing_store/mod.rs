//! Uses V8's own view of a backing store: to learn when it is gone, and to move its memory.
//!
//! Node-API only reports when an `ArrayBuffer` goes, and only while its environment lives. It can't
//! report that the memory has no holder left in any thread. V8 knows: it shares a backing store by
//! `std::shared_ptr` among `ArrayBuffer`s, threads, messages and native code. A `std::weak_ptr` to
//! it is the witness. A new `ArrayBuffer` over the same pointer moves the memory there, as
//! `ArrayBuffer.prototype.transfer()` does, which Node 20 lacks.
//!
//! This relies on the following, and only where it finds all of it at run time:
//! - `v8::ArrayBuffer::GetBackingStore()` and `New()`, and `v8::Isolate::GetCurrent()`, which Node
//!   14 and later export;
//! - a `napi_value` is a `v8::Local` (Node's Node-API asserts it at compile time);
//! - the layout of libstdc++'s control block, which its ABI has kept since 2005. The mangled name
//!   of a function that takes a `shared_ptr` shows that V8 was built against libstdc++; libc++ has
//!   a namespace of its own.
//!
//! Elsewhere (macOS, Windows, Bun, Deno) the pool does without; on Deno the
//! [deleter](super::deleter) serves. `--cfg no_witness` makes Linux one of these, for the tests.

#[cfg_attr(all(target_os = "linux", not(no_witness)), path = "libstdcxx.rs")]
#[cfg_attr(not(all(target_os = "linux", not(no_witness))), path = "none.rs")]
mod known;

pub use known::{Held, witness};
