//! Where blocks get their memory from, and give it back to.
//!
//! From [`MAPPED_FROM`] up a block is a mapping of its own, below it lies in a [slab]. Either way
//! freeing it lowers the resident set: an allocator may keep what it is given.

use super::size_class::SizeClass;
use super::slab;
use std::ptr::NonNull;

/// Blocks of this many bytes and more come straight from the operating system.
pub const MAPPED_FROM: usize = 64 * 1024;

/// Memory for a block of `class` with unspecified contents, or `None` where there is none to be had.
/// It begins on a cache line, and on a page from [`MAPPED_FROM`] up.
pub fn obtain(class: SizeClass) -> Option<NonNull<u8>> {
    if class.block_size() < MAPPED_FROM {
        return slab::obtain(class);
    }
    map::obtain(class.block_size())
}

/// Gives memory back.
///
/// # Safety
///
/// `address` came from [`obtain`] with the same class, and nothing uses the memory any more.
pub unsafe fn give_back(address: NonNull<u8>, class: SizeClass) {
    if class.block_size() < MAPPED_FROM {
        // SAFETY: passed on from the caller.
        unsafe { slab::give_back(address, class) };
    } else {
        // SAFETY: passed on from the caller.
        unsafe { map::give_back(address, class.block_size()) };
    }
}

#[cfg(unix)]
pub(super) mod map {
    use crate::pool::poison;
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

    /// A mapping that begins at a multiple of its size, a power of two.
    pub fn obtain_aligned(size: usize) -> Option<NonNull<u8>> {
        let wide = obtain(2 * size)?;
        let before = wide.addr().get().next_multiple_of(size) - wide.addr().get();
        // SAFETY: less than `size` bytes into a mapping of twice as many.
        let address = unsafe { wide.add(before) };
        // SAFETY: the end of the aligned part is within the mapping.
        let after = unsafe { address.add(size) };
        if before > 0 {
            // SAFETY: a part of the mapping that nobody has, in whole pages.
            unsafe { give_back(wide, before) };
        }
        if before < size {
            // SAFETY: as above.
            unsafe { give_back(after, size - before) };
        }
        Some(address)
    }

    /// Gives back what lies in whole pages of a mapping, and keeps the addresses.
    ///
    /// # Safety
    ///
    /// Nothing uses what lies there any more.
    pub unsafe fn forget(address: NonNull<u8>, size: usize) {
        // SAFETY: the caller owns it.
        unsafe { libc::madvise(address.as_ptr().cast(), size, libc::MADV_DONTNEED) };
    }

    /// # Safety
    ///
    /// `address` and `size` are a mapping from [`obtain`], or whole pages of one, and nothing uses
    /// them any more.
    pub unsafe fn give_back(address: NonNull<u8>, size: usize) {
        // Whoever is given these addresses next knows nothing of it.
        poison::open(address, size);
        // SAFETY: the caller owns the whole mapping.
        let result = unsafe { libc::munmap(address.as_ptr().cast(), size) };
        // Cutting a hole into a merged mapping may need one more entry in the kernel's map than
        // it allows. The pages can still be given back; the addresses stay taken.
        if result != 0 {
            // SAFETY: the mapping is still the caller's, and its contents are no longer needed.
            unsafe { forget(address, size) };
        }
    }
}

/// Elsewhere the allocator itself goes to the operating system for what is this large.
#[cfg(not(unix))]
pub(super) mod map {
    use super::NonNull;
    use std::alloc::Layout;

    pub fn obtain(size: usize) -> Option<NonNull<u8>> {
        // SAFETY: no size is zero, so the layout's is not.
        NonNull::new(unsafe { std::alloc::alloc(layout(size)) })
    }

    pub fn obtain_aligned(size: usize) -> Option<NonNull<u8>> {
        obtain(size)
    }

    /// The allocator can't.
    ///
    /// # Safety
    ///
    /// None needed.
    pub unsafe fn forget(_address: NonNull<u8>, _size: usize) {}

    /// # Safety
    ///
    /// `address` came from one of these functions with the same `size`, and nothing uses the memory
    /// any more.
    pub unsafe fn give_back(address: NonNull<u8>, size: usize) {
        // SAFETY: allocated with this layout.
        unsafe { std::alloc::dealloc(address.as_ptr(), layout(size)) };
    }

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 4096).expect("a power of two and a size of at most 1 GiB")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::GRANULE;

    #[test]
    fn alignment() {
        for class in SizeClass::all().filter(|class| class.block_size() <= 4 << 20) {
            let size = class.block_size();
            let address = obtain(class).expect("memory");
            let align = if size >= MAPPED_FROM { 4096 } else { GRANULE };
            assert_eq!(address.addr().get() % align, 0, "{class}");
            // SAFETY: the block has so many bytes.
            unsafe { address.write_bytes(1, size) };
            // SAFETY: obtained above with this class, used by nobody.
            unsafe { give_back(address, class) };
        }
    }

    #[test]
    fn aligned_mappings() {
        for size in [1 << 16, 1 << 20, 1 << 22] {
            let address = map::obtain_aligned(size).expect("memory");
            assert_eq!(address.addr().get() % size, 0);
            // SAFETY: the mapping has so many bytes.
            unsafe { address.write_bytes(1, size) };
            // SAFETY: obtained above with this size, used by nobody.
            unsafe { map::give_back(address, size) };
        }
    }

    #[test]
    fn refusal_is_none() {
        // More than the address space of any machine.
        assert_eq!(map::obtain(1 << 55), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn giving_back_lowers_the_resident_set() {
        fn resident_pages() -> usize {
            let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
            statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number")
        }
        let total = 64 << 20;
        for size in [64, 4096, 40_960, 65_536, total] {
            let class = SizeClass::fitting(size).expect("a class");
            let blocks: Vec<_> =
                (0..total / size).map(|_| obtain(class).expect("memory")).collect();
            for block in &blocks {
                // SAFETY: the block is `size` bytes long and ours.
                unsafe { block.write_bytes(1, size) };
            }
            let full = resident_pages();
            for block in blocks {
                // SAFETY: obtained above with this class, used by nobody.
                unsafe { give_back(block, class) };
            }
            assert!(full - resident_pages() > total / 4096 / 2, "blocks of {size}");
        }
    }
}
