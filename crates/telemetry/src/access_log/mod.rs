//! The access log: a line for each failed request, and for a share of the others.
//!
//! Workers format lines into buffers of their own ([`AccessLogger`]) and hand them over once a turn; one
//! thread writes them. Nothing here makes a worker wait: what the target cannot take is dropped and
//! counted.
//!
//! Start with [`Entry`], whose documentation has the line formats.
mod entry;
mod logger;
mod mailbox;
mod writer;

pub use entry::Entry;
pub use logger::AccessLogger;

use crate::registry::{Registry, Shard};
use crate::{Events, Format};
use crossbeam_channel::{Receiver, Sender, bounded};
use mailbox::{Bell, Mailbox};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// Appended to a file, which is made if it is not there (mode 0640).
    File(PathBuf),
}

/// How the access log is written.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where lines go.
    pub target: Target,
    /// How they look.
    pub format: Format,
    /// The share of successful requests that get a line, 0 to 1. Failed ones always do.
    pub sample: f64,
}

/// A running access log.
///
/// Dropping it lets its loggers go on: the thread ends after the last of them, so that a log can be
/// replaced while workers still write to it. To end it for good, [`stop`](AccessLog::stop) it.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    bell: Sender<Bell>,
    stopped: Receiver<()>,
    format: Format,
}

/// What the log, its loggers and its writer thread have in common.
#[derive(Debug)]
struct Shared {
    mailboxes: Vec<Mailbox>,
    /// The share of successes as a step in 2^-32.
    step: AtomicU64,
    /// Counts requests to reopen the target.
    reopens: AtomicU64,
    stop: AtomicBool,
}

impl AccessLog {
    /// Opens the target and starts the writer thread.
    ///
    /// Later failures of the target are counted in the registry's metrics and become an event each time
    /// they begin and end.
    ///
    /// # Errors
    /// If the target cannot be opened or the thread cannot be started.
    pub fn start(options: Options, registry: &Registry, events: Events) -> io::Result<AccessLog> {
        let (bell, rings) = bounded(1);
        let (stopping, stopped) = bounded(0);
        let shared = Arc::new(Shared {
            mailboxes: (0..registry.workers()).map(|_| Mailbox::default()).collect(),
            step: AtomicU64::new(step_of(options.sample)),
            reopens: AtomicU64::new(0),
            stop: false.into(),
        });
        let cells = registry.log_writer();
        let writer = writer::Writer::open(options.target, cells, events)?;
        let for_thread = Arc::clone(&shared);
        std::thread::Builder::new().name("access-log".into()).spawn(move || {
            writer.run(&for_thread, &rings);
            drop(stopping);
        })?;
        Ok(AccessLog { shared, bell, stopped, format: options.format })
    }

    /// The logger of one worker. There must be no other for the same worker.
    pub fn logger(&self, shard: &Shard) -> AccessLogger {
        AccessLogger::new(Arc::clone(&self.shared), self.bell.clone(), shard, self.format)
    }

    /// Changes the share of successful requests that get a line.
    pub fn set_sample(&self, share: f64) {
        self.shared.step.store(step_of(share), Relaxed);
    }

    /// Has the file opened anew before the next line, after it was moved away (log rotation).
    pub fn reopen(&self) {
        self.shared.reopens.fetch_add(1, Relaxed);
        self.ring();
    }

    /// Writes what the loggers handed over and stops; false if the target did not take it in time.
    ///
    /// Lines that loggers hand over later are dropped and counted.
    pub fn stop(self, patience: Duration) -> bool {
        self.shared.stop.store(true, Relaxed);
        self.ring();
        // The writer drops its end when it is done.
        self.stopped.recv_timeout(patience) == Err(crossbeam_channel::RecvTimeoutError::Disconnected)
    }

    fn ring(&self) {
        // A full bell is one that will be heard.
        let _ = self.bell.try_send(Bell);
    }
}

/// A share as a step in 2^-32, rounded down; what is no share is taken for the nearest one, not-a-number for none.
fn step_of(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * (1u64 << 32) as f64) as u64
}
