//! Pages of the operating system: `mmap`, or `VirtualAlloc`.
//!
//! All sizes are whole pages. An untouched page takes no memory, and reads as zeros.

pub use system::{forget, give_back, obtain, obtain_aligned};

#[cfg(unix)]
mod system {
    use crate::os::poison;
    use std::ptr::{self, NonNull};

    /// Gets `size` bytes; `None` if the operating system refuses.
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

    /// Gets `size` bytes, aligned to `size`, a power of two.
    pub fn obtain_aligned(size: usize) -> Option<NonNull<u8>> {
        let wide = obtain(2 * size)?;
        let before = wide.addr().get().next_multiple_of(size) - wide.addr().get();
        // SAFETY: less than `size` bytes into a mapping of twice as many.
        let address = unsafe { wide.add(before) };
        // SAFETY: the end of the aligned part is within the mapping.
        let after = unsafe { address.add(size) };
        if before > 0 {
            // SAFETY: a part of the mapping that nobody uses, in whole pages.
            unsafe { give_back(wide, before) };
        }
        if before < size {
            // SAFETY: as above.
            unsafe { give_back(after, size - before) };
        }
        Some(address)
    }

    /// Gives back the contents of some pages, and keeps their addresses.
    ///
    /// # Safety
    ///
    /// The caller owns the pages, and nothing uses their contents any more.
    pub unsafe fn forget(address: NonNull<u8>, size: usize) {
        // SAFETY: the caller owns it.
        unsafe { libc::madvise(address.as_ptr().cast(), size, libc::MADV_DONTNEED) };
    }

    /// Gives back all that one of these functions returned.
    ///
    /// # Safety
    ///
    /// `address` and `size` belong to one call of these functions, and nothing uses the memory any
    /// more.
    pub unsafe fn give_back(address: NonNull<u8>, size: usize) {
        // The next owner of these addresses does not know the checker's marks.
        poison::open(address, size);
        // SAFETY: the caller owns the whole mapping.
        let result = unsafe { libc::munmap(address.as_ptr().cast(), size) };
        // A hole in a merged mapping may need one more entry in the kernel's map than it allows.
        // The pages can still be given back; the addresses stay taken.
        if result != 0 {
            // SAFETY: the mapping is still the caller's, and its contents are no longer needed.
            unsafe { forget(address, size) };
        }
    }
}

/// The same functions with the same meaning.
#[cfg(windows)]
mod system {
    use std::ptr::{self, NonNull};
    use windows_sys::Win32::System::Memory::{
        MEM_COMMIT, MEM_RELEASE, MEM_RESERVE, MEM_RESET, PAGE_NOACCESS, PAGE_READWRITE,
        VIRTUAL_ALLOCATION_TYPE, VirtualAlloc, VirtualFree, VirtualUnlock,
    };

    /// The most attempts to get addresses that were free a moment ago.
    const ATTEMPTS: usize = 64;

    pub fn obtain(size: usize) -> Option<NonNull<u8>> {
        allocate(ptr::null(), size, MEM_RESERVE | MEM_COMMIT)
    }

    /// Finds free addresses, gives them up, and takes the aligned part, because Windows can't give
    /// back a part of a reservation. Tries again if another thread was faster.
    pub fn obtain_aligned(size: usize) -> Option<NonNull<u8>> {
        for _ in 0..ATTEMPTS {
            let wide = allocate(ptr::null(), 2 * size, MEM_RESERVE)?;
            let aligned = wide.addr().get().next_multiple_of(size);
            // SAFETY: reserved just now, and never used.
            unsafe { give_back(wide, 2 * size) };
            let aligned = ptr::without_provenance(aligned);
            if let Some(address) = allocate(aligned, size, MEM_RESERVE | MEM_COMMIT) {
                return Some(address);
            }
        }
        None
    }

    fn allocate(
        at: *const core::ffi::c_void,
        size: usize,
        kind: VIRTUAL_ALLOCATION_TYPE,
    ) -> Option<NonNull<u8>> {
        let access = if kind & MEM_COMMIT == 0 { PAGE_NOACCESS } else { PAGE_READWRITE };
        // SAFETY: new pages alias nothing; addresses that are taken are refused.
        NonNull::new(unsafe { VirtualAlloc(at, size, kind, access) }.cast())
    }

    /// # Safety
    ///
    /// The same as on the other systems.
    pub unsafe fn forget(address: NonNull<u8>, size: usize) {
        let address = address.as_ptr().cast();
        // SAFETY: the caller owns the pages, and nothing uses their contents.
        unsafe { VirtualAlloc(address, size, MEM_RESET, PAGE_READWRITE) };
        // The contents need not go to the paging file any more. Pages that are unlocked without
        // having been locked leave the working set. SAFETY: as above.
        unsafe { VirtualUnlock(address, size) };
    }

    /// # Safety
    ///
    /// The same as on the other systems.
    pub unsafe fn give_back(address: NonNull<u8>, _size: usize) {
        // SAFETY: the caller owns the whole reservation, which begins there.
        let result = unsafe { VirtualFree(address.as_ptr().cast(), 0, MEM_RELEASE) };
        debug_assert_ne!(result, 0, "the reservation begins at {address:p}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned() {
        for size in [1 << 16, 1 << 20, 1 << 22] {
            let address = obtain_aligned(size).expect("memory");
            assert_eq!(address.addr().get() % size, 0);
            // SAFETY: that many bytes were obtained.
            unsafe { address.write_bytes(1, size) };
            // SAFETY: obtained above with this size, used by nobody.
            unsafe { give_back(address, size) };
        }
    }

    #[test]
    fn forgotten_pages_can_be_used_again() {
        let size = 1 << 20;
        let address = obtain(size).expect("memory");
        for value in 1..4 {
            // SAFETY: that many bytes were obtained.
            unsafe { address.write_bytes(value, size) };
            // SAFETY: within them.
            let last = unsafe { address.add(size - 1) };
            // SAFETY: written above.
            assert_eq!(unsafe { last.read() }, value);
            // SAFETY: they are ours, and are written before they are read again.
            unsafe { forget(address, size) };
        }
        // SAFETY: obtained above with this size, used by nobody.
        unsafe { give_back(address, size) };
    }

    #[test]
    fn refusal_is_none() {
        // This is more than the address space of any machine.
        assert_eq!(obtain(1 << 55), None);
    }
}
