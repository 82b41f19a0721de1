//! Where blocks get their memory from, and give it back to.
//!
//! Small blocks come from the process's allocator. From [`MAPPED_FROM`] up a block is a mapping
//! of its own, so that freeing it lowers the resident set at once: an allocator may keep what it
//! is given.

use super::size_class::GRANULE;
use std::alloc::Layout;
use std::ptr::NonNull;

/// Blocks of this many bytes and more come straight from the operating system.
pub const MAPPED_FROM: usize = 64 * 1024;

/// Blocks of this many bytes and more begin on a page. Pages are larger on some machines; there
/// only mapped blocks are page-aligned.
pub const PAGE: usize = 4096;

/// `size` bytes of memory with unspecified contents, or `None` where there is none to be had.
/// 64-byte aligned, and [`PAGE`]-aligned from a page up.
pub fn obtain(size: usize) -> Option<NonNull<u8>> {
    debug_assert!(size > 0, "no block is empty");
    if size >= MAPPED_FROM {
        return map::obtain(size);
    }
    // SAFETY: every block size is above zero, so the layout is too.
    NonNull::new(unsafe { std::alloc::alloc(layout(size)) })
}

/// Gives memory back.
///
/// # Safety
///
/// `address` came from [`obtain`] with the same `size`, and nothing uses the memory any more.
pub unsafe fn give_back(address: NonNull<u8>, size: usize) {
    if size >= MAPPED_FROM {
        // SAFETY: passed on from the caller.
        unsafe { map::give_back(address, size) };
    } else {
        // SAFETY: `obtain` allocated a block of this size with this layout.
        unsafe { std::alloc::dealloc(address.as_ptr(), layout(size)) };
    }
}

/// Has the allocator give back to the operating system what it has free. It keeps freed memory for
/// itself otherwise, whatever lies above it on its heap.
pub fn give_back_free() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it works on the allocator's own free memory, and any thread may call it.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn layout(size: usize) -> Layout {
    let align = if size >= PAGE { PAGE } else { GRANULE };
    Layout::from_size_align(size, align).expect("a power of two and a size of at most 1 GiB")
}

#[cfg(unix)]
mod map {
    use std::ptr::{self, NonNull};

    pub fn obtain(size: usize) -> Option<NonNull<u8>> {
        // SAFETY: a new private anonymous mapping aliases nothing.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED { None } else { NonNull::new(address.cast()) }
    }

    /// # Safety
    ///
    /// `address` came from [`obtain`] with the same `size`, and nothing uses the mapping any
    /// more.
    pub unsafe fn give_back(address: NonNull<u8>, size: usize) {
        // SAFETY: the caller owns the whole mapping.
        let result = unsafe { libc::munmap(address.as_ptr().cast(), size) };
        // Cutting a hole into a merged mapping may need one more entry in the kernel's map than
        // it allows. The pages can still be given back; the addresses stay taken.
        if result != 0 {
            // SAFETY: the mapping is still the caller's, and its contents are no longer needed.
            unsafe { libc::madvise(address.as_ptr().cast(), size, libc::MADV_DONTNEED) };
        }
    }
}

/// Elsewhere the allocator itself goes to the operating system for blocks of this size.
#[cfg(not(unix))]
mod map {
    use super::{NonNull, layout};

    pub fn obtain(size: usize) -> Option<NonNull<u8>> {
        // SAFETY: every block size is above zero, so the layout is too.
        NonNull::new(unsafe { std::alloc::alloc(layout(size)) })
    }

    /// # Safety
    ///
    /// As [`super::give_back`].
    pub unsafe fn give_back(address: NonNull<u8>, size: usize) {
        // SAFETY: `obtain` allocated it with this layout.
        unsafe { std::alloc::dealloc(address.as_ptr(), layout(size)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::SizeClass;

    #[test]
    fn alignment() {
        for class in SizeClass::all().filter(|class| class.block_size() <= 4 << 20) {
            let size = class.block_size();
            let address = obtain(size).expect("memory");
            let align = if size >= PAGE { PAGE } else { GRANULE };
            assert_eq!(address.addr().get() % align, 0, "{class}");
            // SAFETY: obtained above with this size, used by nobody.
            unsafe { give_back(address, size) };
        }
    }

    #[test]
    fn refusal_is_none() {
        // More than the address space of any machine.
        assert_eq!(obtain(1 << 55), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn giving_back_lowers_the_resident_set() {
        fn resident_pages() -> usize {
            let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
            statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number")
        }
        let size = 64 << 20;
        let address = obtain(size).expect("memory");
        // SAFETY: the block is `size` bytes long and ours.
        unsafe { address.write_bytes(1, size) };
        let full = resident_pages();
        // SAFETY: obtained above with this size, used by nobody.
        unsafe { give_back(address, size) };
        assert!(full - resident_pages() > size / PAGE / 2);
    }
}
