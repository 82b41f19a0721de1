//! The C library's allocator, which stores the memory that it gets back.

/// Makes the allocator give unused memory back to the operating system.
pub fn give_back() {
    // SAFETY: any thread may call it at any time.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0)
    };
}
