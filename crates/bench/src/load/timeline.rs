//! What became of the requests, second by second, as lines of JSON: for runs during which something changes.
//!
//! Unlike the result it has no window: every request is in it, warm-up included.
use super::Failures;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

const SECOND: u64 = 1_000_000_000;
/// Steps of latency in an octave: figures are right to 4.5 %.
const STEPS: f64 = 16.0;

/// The file, and what its times count from; shared by the threads of a run.
#[derive(Debug)]
pub(super) struct Timeline {
    file: Mutex<File>,
    /// Milliseconds since 1970 at the start of the run.
    began: f64,
}

impl Timeline {
    /// Makes the file.
    pub(super) fn create(path: &Path, start: Instant) -> io::Result<Arc<Timeline>> {
        let file = File::create(path)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {e}", path.display())))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let began = now.saturating_sub(start.elapsed()).as_secs_f64() * 1e3;
        Ok(Arc::new(Timeline { file: Mutex::new(file), began }))
    }

    fn at(&self, nanos: u64) -> f64 {
        self.began + nanos as f64 / 1e6
    }

    fn write(&self, line: &serde_json::Value) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk must not end the load; the lines that are missing say enough.
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}

/// One thread's part of it.
#[derive(Debug)]
pub(super) struct Lines {
    timeline: Arc<Timeline>,
    /// The second being counted, since the start.
    second: u64,
    good: u64,
    bad: u64,
    /// Replies by latency: `floor(16 log2 µs)`.
    latency: BTreeMap<u16, u64>,
}

impl Lines {
    pub(super) fn new(timeline: Arc<Timeline>) -> Lines {
        Lines { timeline, second: 0, good: 0, bad: 0, latency: BTreeMap::new() }
    }

    /// A good reply to what was to be sent at `start`.
    pub(super) fn good(&mut self, start: u64, now: u64) {
        self.turn(now);
        self.good += 1;
        let micros = now.saturating_sub(start) as f64 / 1e3;
        let step = (STEPS * micros.max(1.0).log2()).floor();
        *self.latency.entry(step as u16).or_default() += 1;
    }

    /// A request that failed, at once on a line of its own. `whose`: connection of the thread, id on it.
    pub(super) fn bad(&mut self, start: u64, now: u64, whose: (usize, u32), how: &Failures) {
        self.turn(now);
        self.bad += 1;
        let kind = how.kinds().into_iter().next().map_or_else(String::new, |(kind, _)| kind);
        let (at, due) = (self.timeline.at(now), self.timeline.at(start));
        self.timeline.write(&json!({
            "failed": kind, "at": at, "due": due, "connection": whose.0, "id": whose.1,
        }));
    }

    /// Writes the second that is over.
    pub(super) fn turn(&mut self, now: u64) {
        let second = now / SECOND;
        if second != self.second {
            self.flush();
            self.second = second;
        }
    }

    /// Writes what was counted since.
    pub(super) fn flush(&mut self) {
        if self.good + self.bad > 0 {
            let latency: Vec<(u16, u64)> = std::mem::take(&mut self.latency).into_iter().collect();
            let at = self.timeline.at(self.second * SECOND);
            self.timeline.write(&json!({"at": at, "good": self.good, "bad": self.bad, "latency": latency}));
        }
        (self.good, self.bad) = (0, 0);
    }
}
