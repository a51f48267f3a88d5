//! Calls of the time just past, counted by each worker for itself and added up by whoever decides.
use raddle_core::Time;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Parts of a window. The oldest is always whole, so that a window is between nine and ten of them.
const PARTS: usize = 10;

/// A worker's counts; in cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Window([Part; PARTS]);

#[derive(Debug, Default)]
struct Part {
    /// Of which time its counts are.
    epoch: AtomicU64,
    calls: AtomicU32,
    failed: AtomicU32,
    slow: AtomicU32,
}

/// Calls counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) calls: u32,
    pub(crate) failed: u32,
    pub(crate) slow: u32,
}

/// The part of time that `now` is in, for windows of this many nanoseconds. Never 0.
pub(super) fn epoch(now: Time, window_ns: u64) -> u64 {
    now.as_nanos() / (window_ns / PARTS as u64).max(1) + 1
}

impl Window {
    pub(super) fn add(&self, epoch: u64, failed: bool, slow: bool) {
        let part = &self.0[epoch as usize % PARTS];
        let was = part.epoch.load(Ordering::Relaxed);
        if was > epoch && was <= epoch + PARTS as u64 {
            // The clock went back: the counts there are newer. Far newer ones are of a rule with shorter parts.
            return;
        }
        if was != epoch {
            for count in [&part.calls, &part.failed, &part.slow] {
                count.store(0, Ordering::Relaxed);
            }
            part.epoch.store(epoch, Ordering::Release);
        }
        part.calls.fetch_add(1, Ordering::Relaxed);
        if failed {
            part.failed.fetch_add(1, Ordering::Relaxed);
        }
        if slow {
            part.slow.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Adds what it counted from `floor` on to `sum`.
    pub(super) fn read(&self, epoch: u64, floor: u64, sum: &mut Sum) {
        // A floor far ahead is of a rule with shorter parts, too.
        let floor = if floor > epoch + 1 { 0 } else { floor };
        let first = floor.max((epoch + 1).saturating_sub(PARTS as u64));
        for part in &self.0 {
            if (first..=epoch).contains(&part.epoch.load(Ordering::Acquire)) {
                sum.calls = sum.calls.saturating_add(part.calls.load(Ordering::Relaxed));
                sum.failed = sum.failed.saturating_add(part.failed.load(Ordering::Relaxed));
                sum.slow = sum.slow.saturating_add(part.slow.load(Ordering::Relaxed));
            }
        }
    }
}
