//! What the registry counts.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the commit latency's buckets, in microseconds.
pub const LATENCY_BOUNDS_US: [u64; 10] =
    [250, 500, 1000, 2500, 5000, 10_000, 25_000, 100_000, 500_000, 2_500_000];

/// Counters since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Publication streams open now.
    pub streams: AtomicU64,
    /// Publications taken.
    pub taken: AtomicU64,
    /// Publications refused.
    pub refused: AtomicU64,
    /// Instances withdrawn by themselves.
    pub withdrawn: AtomicU64,
    /// Instances removed because their stream ended and did not come back.
    pub expired: AtomicU64,
    /// Commits.
    pub commits: AtomicU64,
    /// Commits that failed.
    pub failed: AtomicU64,
    /// Changes in them.
    pub operations: AtomicU64,
    /// Time of all commits, microseconds.
    pub commit_us: AtomicU64,
    /// Commits by their time: at most the bound of the same index; the last is for the rest.
    pub commit_buckets: [AtomicU64; LATENCY_BOUNDS_US.len() + 1],
    /// Directories told.
    pub directories: AtomicU64,
}

impl Counters {
    pub(super) fn commit(&self, operations: usize, took: Duration, failed: bool) {
        let us = took.as_micros() as u64;
        let bucket = LATENCY_BOUNDS_US.iter().position(|b| us <= *b).unwrap_or(LATENCY_BOUNDS_US.len());
        self.commits.fetch_add(1, Relaxed);
        self.failed.fetch_add(u64::from(failed), Relaxed);
        self.operations.fetch_add(operations as u64, Relaxed);
        self.commit_us.fetch_add(us, Relaxed);
        self.commit_buckets[bucket].fetch_add(1, Relaxed);
    }
}
