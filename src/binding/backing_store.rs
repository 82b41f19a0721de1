//! Who tells that a backing store of V8's is gone.
//!
//! Node-API says when an `ArrayBuffer` goes, and that only while its environment lives; it has no
//! word for "the memory has no holder in any thread any more". V8 knows: it shares a backing store
//! by `std::shared_ptr`, among `ArrayBuffer`s, threads, messages under way and native code. A
//! `std::weak_ptr` to it is the witness.
//!
//! What is relied on, and only where it is found at run time:
//! - `v8::ArrayBuffer::GetBackingStore()`, which is exported by Node 14 and all since;
//! - a `napi_value` is a `v8::Local` (Node's Node-API asserts it at compile time);
//! - the layout of libstdc++'s control block, which its ABI has kept since 2005. That V8 was
//!   built against libstdc++ shows in the mangled name of a function that takes a `shared_ptr`;
//!   libc++'s are in a namespace of their own.
//!
//! Elsewhere (macOS, Windows, Bun, Deno) there is no witness, and the pool does without.

use crate::pool::Witness;
use napi::sys;

#[cfg(target_os = "linux")]
pub use libstdcxx::witness;

/// No witness on this platform.
#[cfg(not(target_os = "linux"))]
pub unsafe fn witness(_array_buffer: sys::napi_value) -> Option<Box<dyn Witness>> {
    None
}

#[cfg(target_os = "linux")]
mod libstdcxx {
    use super::{Witness, sys};
    use std::ffi::{CStr, c_void};
    use std::mem::MaybeUninit;
    use std::ptr::NonNull;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicI32, Ordering};

    /// `v8::ArrayBuffer::GetBackingStore()`
    const GET_BACKING_STORE: &CStr = c"_ZN2v811ArrayBuffer15GetBackingStoreEv";

    /// `v8::ArrayBuffer::New(v8::Isolate*, std::shared_ptr<v8::BackingStore>)`, with libstdc++'s
    /// `shared_ptr`. Never called.
    const NEW_BY_LIBSTDCXX: &CStr =
        c"_ZN2v811ArrayBuffer3NewEPNS_7IsolateESt10shared_ptrINS_12BackingStoreEE";

    /// A `std::shared_ptr` as a function returns it: in memory that the caller has for it, because
    /// its class has a destructor. The room behind it has Rust do the same: beyond 16 bytes it
    /// returns a plain struct in that way, too.
    #[repr(C)]
    struct SharedPointer {
        object: *mut c_void,
        control: *mut ControlBlock,
        room: MaybeUninit<[usize; 2]>,
    }

    type GetBackingStore = unsafe extern "C" fn(sys::napi_value) -> SharedPointer;

    /// libstdc++'s `_Sp_counted_base`.
    #[repr(C)]
    struct ControlBlock {
        functions: *const Functions,
        /// How many own the object.
        uses: AtomicI32,
        /// How many watch it, and one for all that own it.
        weak_uses: AtomicI32,
    }

    /// Its virtual functions.
    #[repr(C)]
    struct Functions {
        destructors: [*const c_void; 2],
        /// Destroys the object.
        dispose: unsafe extern "C" fn(*mut ControlBlock),
        /// Frees the control block.
        destroy: unsafe extern "C" fn(*mut ControlBlock),
    }

    /// A `std::weak_ptr<v8::BackingStore>`.
    struct WeakPointer(NonNull<ControlBlock>);

    // SAFETY: a control block may be used by any thread; that is what its atomic counts are for.
    unsafe impl Send for WeakPointer {}

    impl WeakPointer {
        fn control(&self) -> &ControlBlock {
            // SAFETY: it lives as long as one watches it, and this does.
            unsafe { self.0.as_ref() }
        }
    }

    impl Witness for WeakPointer {
        fn is_gone(&self) -> bool {
            // Acquire, with the release by which the last owner gave up: what it did to the memory
            // was before.
            self.control().uses.load(Ordering::Acquire) == 0
        }
    }

    impl Drop for WeakPointer {
        fn drop(&mut self) {
            if self.control().weak_uses.fetch_sub(1, Ordering::AcqRel) == 1 {
                let functions = self.control().functions;
                // SAFETY: every control block has its class's functions.
                let destroy = unsafe { (*functions).destroy };
                // SAFETY: neither an owner nor another watcher is left.
                unsafe { destroy(self.0.as_ptr()) };
            }
        }
    }

    /// Gives up one share of a backing store, as `~shared_ptr` does.
    fn give_up(control: NonNull<ControlBlock>) {
        let watcher = WeakPointer(control);
        if watcher.control().uses.fetch_sub(1, Ordering::AcqRel) == 1 {
            let functions = watcher.control().functions;
            // SAFETY: every control block has its class's functions.
            let dispose = unsafe { (*functions).dispose };
            // SAFETY: the last owner is gone.
            unsafe { dispose(control.as_ptr()) };
        } else {
            // The watch of all owners together, which the others still need.
            std::mem::forget(watcher);
        }
    }

    /// The function, where it is there and returns libstdc++'s `shared_ptr`.
    static GET: LazyLock<Option<GetBackingStore>> = LazyLock::new(|| {
        find(NEW_BY_LIBSTDCXX)?;
        let function = find(GET_BACKING_STORE)?;
        // SAFETY: the name says what the function takes and returns; `this` is what a
        // `v8::Local` holds, which is what a `napi_value` is.
        Some(unsafe { std::mem::transmute::<*mut c_void, GetBackingStore>(function.as_ptr()) })
    });

    fn find(name: &CStr) -> Option<NonNull<c_void>> {
        // SAFETY: the name is a C string.
        NonNull::new(unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) })
    }

    /// A witness of the backing store of an `ArrayBuffer`; `None` where this runtime has none.
    ///
    /// # Safety
    ///
    /// `array_buffer` is an attached `ArrayBuffer` of the calling thread's environment, in an open
    /// handle scope.
    pub unsafe fn witness(array_buffer: sys::napi_value) -> Option<Box<dyn Witness>> {
        let get = (*GET)?;
        // SAFETY: the caller vouches for the value, and `GET` for the function.
        let SharedPointer { object, control, .. } = unsafe { get(array_buffer) };
        let control = NonNull::new(control)?;
        // SAFETY: the pointer that was returned owns the object, and so keeps the block.
        let block = unsafe { control.as_ref() };
        let (uses, weak_uses) =
            (block.uses.load(Ordering::Relaxed), block.weak_uses.load(Ordering::Relaxed));
        // The ArrayBuffer and the pointer own it, for as many all the owners count as one watcher.
        // Anything else is no such control block: hands off.
        if object.is_null() || uses != 2 || weak_uses != 1 {
            return None;
        }
        block.weak_uses.fetch_add(1, Ordering::Relaxed);
        give_up(control);
        Some(Box::new(WeakPointer(control)))
    }
}
