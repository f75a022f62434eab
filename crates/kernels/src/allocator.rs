//! Freed memory stays with the process, since every step needs as much again.
//!
//! The outputs of a step are tens of megabytes each. By default the C library asks the system for each of them and
//! gives it back after use; the system clears every page again, which costs a fifth of the time of a prompt.

/// Let the allocator keep what was freed. Affects the whole process; where the C library is another one than glibc,
/// nothing happens.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGEST: libc::c_int = 1 << 30;
        // SAFETY: the call has no precondition but a known parameter; a refused value changes nothing.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST);
            libc::mallopt(libc::M_TRIM_THRESHOLD, LARGEST);
        }
    }
}
