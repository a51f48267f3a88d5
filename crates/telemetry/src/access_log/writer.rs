//! The thread that writes lines to the target, and copes with a target that fails.
use super::mailbox::{Bell, Lines};
use super::{Shared, Target};
use crate::cells::LogCells;
use crate::labels::{DropCause, WriteError};
use crate::{Event, Events, Severity};
use crossbeam_channel::Receiver;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// After each round the writer rests, so that workers at full speed need not wake it each turn.
const REST: Duration = Duration::from_millis(5);
/// How long a failed target is left alone: the first time, and at most.
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
const MAX_BACK_OFF: Duration = Duration::from_secs(10);
/// A buffer that grew over this is given back after use.
const KEEP: usize = 64 * 1024;

/// Writes lines; the only writer of its cells.
#[derive(Debug)]
pub(super) struct Writer {
    target: Target,
    file: Option<File>,
    cells: Arc<LogCells>,
    events: Events,
    trouble: Option<Trouble>,
    /// Whether the last write ended inside a line.
    torn: bool,
    reopens_seen: u64,
}

/// A target that failed and was not written to since.
#[derive(Debug)]
struct Trouble {
    back_off: Duration,
    retry_at: Instant,
    lost: u64,
}

impl Writer {
    pub(super) fn open(target: Target, cells: Arc<LogCells>, events: Events) -> io::Result<Writer> {
        let file = Some(open(&target)?);
        Ok(Writer { target, file, cells, events, trouble: None, torn: false, reopens_seen: 0 })
    }

    /// Writes until told to stop, then what is left.
    pub(super) fn run(mut self, shared: &Shared, rings: &Receiver<Bell>) {
        let mut lines = Lines::default();
        loop {
            // Loggers may outlive the log: a lost bell is no reason to stop, the flag is.
            let lost = rings.recv().is_err();
            let stop = lost || shared.stop.load(Relaxed);
            self.reopen_if_asked(shared.reopens.load(Relaxed));
            for mailbox in &shared.mailboxes {
                mailbox.take(&mut lines);
                if !lines.bytes.is_empty() {
                    self.write(&lines, Instant::now());
                }
                if lines.bytes.capacity() > KEEP {
                    lines = Lines::default();
                }
            }
            if stop {
                return;
            }
            std::thread::sleep(REST);
        }
    }

    fn reopen_if_asked(&mut self, reopens: u64) {
        if reopens != self.reopens_seen {
            self.reopens_seen = reopens;
            if let Target::File(_) = self.target {
                self.file = None;
                self.torn = false;
            }
        }
    }

    fn write(&mut self, lines: &Lines, now: Instant) {
        if self.trouble.as_ref().is_some_and(|trouble| now < trouble.retry_at) {
            self.lose(lines.count);
            return;
        }
        match self.try_write(&lines.bytes) {
            Ok(()) => self.recovered(),
            Err((written, kind, error)) => {
                let left = lines.bytes.get(written..).unwrap_or_default();
                let lost = left.iter().filter(|b| **b == b'\n').count() as u64;
                self.failed(kind, &error, now);
                self.lose(lost);
            }
        }
    }

    /// Writes all, or says how many bytes went out before what happened.
    fn try_write(&mut self, bytes: &[u8]) -> Result<(), (usize, WriteError, io::Error)> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => open(&self.target).map_err(|e| (0, open_kind(&e), e))?,
        };
        if self.torn {
            write_all(&mut file, b"\n").map_err(|(_, e)| (0, WriteError::of(&e), e))?;
            self.torn = false;
        }
        let result = write_all(&mut file, bytes);
        let written = result.as_ref().err().map_or(bytes.len(), |(n, _)| *n);
        self.cells.written_bytes.add(written as u64);
        if let Err((n, error)) = result {
            // The file is dropped: the next try opens it anew, in case it was replaced.
            self.torn = n > 0 && bytes[n - 1] != b'\n';
            return Err((n, WriteError::of(&error), error));
        }
        self.file = Some(file);
        Ok(())
    }

    fn lose(&mut self, lines: u64) {
        self.cells.dropped[DropCause::WriteError].add(lines);
        if let Some(trouble) = &mut self.trouble {
            trouble.lost += lines;
        }
    }

    fn failed(&mut self, kind: WriteError, error: &io::Error, now: Instant) {
        self.cells.write_errors[kind].inc();
        if self.trouble.is_none() {
            let text =
                format!("the access log cannot be written: {error}; its lines are dropped until it can");
            let event = Event::new("access_log_failed", Severity::Error, self.name(), text);
            self.events.record(event.with("kind", kind.name()));
        }
        let before = self.trouble.take();
        let back_off =
            before.as_ref().map_or(FIRST_BACK_OFF, |trouble| (trouble.back_off * 2).min(MAX_BACK_OFF));
        let lost = before.map_or(0, |trouble| trouble.lost);
        self.trouble = Some(Trouble { back_off, retry_at: now + back_off, lost });
    }

    fn recovered(&mut self) {
        if let Some(trouble) = self.trouble.take() {
            let text = format!("the access log is written again; {} lines were lost", trouble.lost);
            let event = Event::new("access_log_recovered", Severity::Info, self.name(), text);
            self.events.record(event.with("lost", trouble.lost));
        }
    }

    fn name(&self) -> String {
        match &self.target {
            Target::Stdout => "stdout".to_owned(),
            Target::File(path) => path.display().to_string(),
        }
    }
}

fn open(target: &Target) -> io::Result<File> {
    match target {
        // A descriptor of its own, past the standard library's line buffer.
        Target::Stdout => Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
        Target::File(path) => OpenOptions::new().append(true).create(true).mode(0o640).open(path),
    }
}

/// A full or failing device says so when opening, too; anything else is about the path.
fn open_kind(error: &io::Error) -> WriteError {
    match WriteError::of(error) {
        WriteError::Other => WriteError::Open,
        kind => kind,
    }
}

/// `Write::write_all` that tells how far it came.
fn write_all(file: &mut impl Write, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(n) => written += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err((written, e)),
        }
    }
    Ok(())
}
