//! Giving memory back to the system.
//!
//! glibc keeps what was freed for the next allocation. After a reload or a burst that is tens of megabytes
//! in a process that should be small, so it is asked to let go.
#![allow(unsafe_code)]

/// Gives free heap memory back to the system. Takes up to some milliseconds, in which other threads may
/// wait to allocate: call it seldom. Does nothing where the allocator is not glibc's.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim is thread-safe (malloc_trim(3): MT-Safe), takes an integer by value, and touches
    // only memory that the allocator has marked free.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Resident memory of this process in bytes; 0 where `/proc` does not tell.
pub fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|s| s.split_whitespace().nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_was_freed_is_given_back() {
        // Small pieces: large ones are mapped and unmapped one by one and prove nothing.
        let pieces: Vec<Box<[u8; 512]>> = (0..100_000).map(|_| Box::new([1; 512])).collect();
        let full = resident();
        drop(pieces);
        give_back();
        assert!(full - resident() > 30 << 20, "{} of {full} bytes are still resident", resident());
    }
}
