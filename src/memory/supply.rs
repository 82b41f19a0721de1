//! Gets memory for blocks, and gives it back.
//!
//! From [`MAPPED_FROM`] up a block has [pages] of its own; a smaller one is part of a [slab].
//! Either way, freeing it lowers the resident set, which an allocator does not promise.

use super::size_class::SizeClass;
use super::slab;
use crate::os::pages;
use std::ptr::NonNull;

/// The size in bytes from which blocks come straight from the operating system.
pub const MAPPED_FROM: usize = 64 * 1024;

/// Gets memory for a block of `class` with unspecified contents; `None` if the operating system
/// refuses. It begins on a cache line, and on a page from [`MAPPED_FROM`] up.
pub fn obtain(class: SizeClass) -> Option<NonNull<u8>> {
    if class.block_size() < MAPPED_FROM {
        return slab::obtain(class);
    }
    pages::obtain(class.block_size())
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
        unsafe { pages::give_back(address, class.block_size()) };
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
            // SAFETY: the block has that many bytes.
            unsafe { address.write_bytes(1, size) };
            // SAFETY: obtained above with this class, used by nobody.
            unsafe { give_back(address, class) };
        }
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
