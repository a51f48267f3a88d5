//! A worker's end of the access log.
use super::entry::{Entry, Stamp};
use super::mailbox::{Bell, Lines};
use super::{Format, Shared};
use crate::cells::LogCells;
use crate::labels::DropCause;
use crate::registry::Shard;
use crossbeam_channel::Sender;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The most bytes a worker holds, and the most its mailbox holds.
pub(super) const CAPACITY: usize = 256 * 1024;
/// Handed over before the turn's end when a buffer is this long.
const EARLY: usize = 32 * 1024;
/// No line is longer, unless made of characters that are all escaped.
const LONGEST_LINE: usize = 4 * 1024;

/// Writes one worker's lines. Not shared: each worker has its own.
#[derive(Debug)]
pub struct AccessLogger {
    shared: Arc<Shared>,
    bell: Sender<Bell>,
    worker: usize,
    cells: Arc<LogCells>,
    format: Format,
    lines: Lines,
    stamp: Stamp,
    /// Runs from 0 to 2^32 by the sampling step; passing 2^32 gives a line. So of any n successes a
    /// share of exactly n × sample, give or take one, is logged.
    phase: u64,
}

impl AccessLogger {
    pub(super) fn new(
        shared: Arc<Shared>,
        bell: Sender<Bell>,
        shard: &Shard,
        format: Format,
    ) -> AccessLogger {
        let (cells, worker) = (Arc::clone(&shard.log), shard.worker());
        let (lines, stamp) = (Lines::default(), Stamp::default());
        // The phase starts at its end, so that the first success of all is logged.
        AccessLogger { shared, bell, worker, cells, format, lines, stamp, phase: (1 << 32) - 1 }
    }

    /// Writes the request's line, if it failed or sampling chooses it.
    #[inline]
    pub fn record(&mut self, entry: &Entry<'_>) {
        if self.wants(entry.failed()) {
            self.write(entry);
        }
    }

    /// Whether the next request gets a line; counts it. For callers to whom making an [`Entry`] is work:
    /// ask once a request, then [`write`](Self::write).
    #[inline]
    pub fn wants(&mut self, failed: bool) -> bool {
        if failed {
            return true;
        }
        self.phase += self.shared.step.load(Relaxed);
        let chosen = self.phase >> 32 != 0;
        self.phase &= (1 << 32) - 1;
        if !chosen {
            self.cells.sampled_out.inc();
        }
        chosen
    }

    /// Writes the request's line, whatever sampling says.
    pub fn write(&mut self, entry: &Entry<'_>) {
        self.cells.lines.inc();
        if self.lines.bytes.capacity() == 0 {
            // At once, so that buffers do not grow line by line each time they change hands.
            self.lines.bytes.reserve(EARLY + LONGEST_LINE);
        }
        let before = self.lines.bytes.len();
        entry.write(self.format, &mut self.stamp, &mut self.lines.bytes);
        if self.lines.bytes.len() > CAPACITY {
            self.lines.bytes.truncate(before);
            self.cells.dropped[DropCause::Backlog].inc();
            return;
        }
        self.lines.count += 1;
        if self.lines.bytes.len() >= EARLY {
            self.flush();
        }
    }

    /// Hands the lines over; to be called at the end of each turn.
    ///
    /// What the writer cannot take now stays for the next call, up to 256 KiB; then new lines are
    /// dropped and counted. Never waits.
    #[inline]
    pub fn flush(&mut self) {
        if !self.lines.bytes.is_empty() {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        if self.shared.stop.load(Relaxed) {
            self.cells.dropped[DropCause::Stopped].add(self.lines.count);
            self.lines.clear();
        } else if self.shared.mailboxes[self.worker].post(&mut self.lines) {
            // A full bell is one that will be heard.
            let _ = self.bell.try_send(Bell);
        }
    }

    /// How many bytes wait to be handed over.
    pub fn pending_bytes(&self) -> usize {
        self.lines.bytes.len()
    }
}

impl Drop for AccessLogger {
    fn drop(&mut self) {
        self.flush();
    }
}
