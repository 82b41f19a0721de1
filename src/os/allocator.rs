//! The C library's allocator, which stores the memory that it gets back.

/// Has the allocator give the memory that nobody uses back to the operating system.
pub fn give_back() {
    // SAFETY: any thread may call it at any time.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0)
    };
}
