//! Marks memory that nobody may touch for a memory checker, in builds for one; does nothing
//! elsewhere.
//!
//! Blocks are parts of mappings, and no checker knows by itself who owns these.
//! `scripts/checked.js` makes the builds.

pub use checker::{close, open};

#[cfg(checker = "asan")]
mod checker {
    use std::ffi::c_void;
    use std::ptr::NonNull;

    unsafe extern "C" {
        fn __asan_poison_memory_region(address: *const c_void, size: usize);
        fn __asan_unpoison_memory_region(address: *const c_void, size: usize);
    }

    /// Forbids any access.
    pub fn close(address: NonNull<u8>, size: usize) {
        // SAFETY: marks memory, and neither reads nor writes it.
        unsafe { __asan_poison_memory_region(address.as_ptr().cast(), size) };
    }

    /// Allows access.
    pub fn open(address: NonNull<u8>, size: usize) {
        // SAFETY: as above.
        unsafe { __asan_unpoison_memory_region(address.as_ptr().cast(), size) };
    }
}

/// Makes a client request, as `valgrind/memcheck.h` does. Outside of valgrind the instructions do
/// nothing.
#[cfg(checker = "memcheck")]
mod checker {
    use std::arch::asm;
    use std::ptr::NonNull;

    /// `VG_USERREQ__MAKE_MEM_NOACCESS`
    const CLOSE: usize = ((b'M' as usize) << 24) | ((b'C' as usize) << 16);

    /// `VG_USERREQ__MAKE_MEM_DEFINED`. Only its user knows which bytes of a block are defined.
    const OPEN: usize = CLOSE + 2;

    /// Forbids any access.
    pub fn close(address: NonNull<u8>, size: usize) {
        request(CLOSE, address, size);
    }

    /// Allows access.
    pub fn open(address: NonNull<u8>, size: usize) {
        request(OPEN, address, size);
    }

    fn request(what: usize, address: NonNull<u8>, size: usize) {
        let words = [what, address.addr().get(), size, 0, 0, 0];
        // SAFETY: `rdi` is rotated by 128 bits in all, and `rbx` exchanged with itself. Valgrind
        // reads the words, and answers in `rdx`.
        unsafe {
            asm!(
                "rol rdi, 3",
                "rol rdi, 13",
                "rol rdi, 61",
                "rol rdi, 51",
                "xchg rbx, rbx",
                in("rax") words.as_ptr(),
                inout("rdx") 0usize => _,
            );
        }
    }
}

#[cfg(not(any(checker = "asan", checker = "memcheck")))]
mod checker {
    use std::ptr::NonNull;

    #[inline]
    pub fn close(_address: NonNull<u8>, _size: usize) {}

    #[inline]
    pub fn open(_address: NonNull<u8>, _size: usize) {}
}
