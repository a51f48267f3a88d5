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
        let file = open(&target).map_err(|error| {
            let text = format!("the access log {} cannot be opened: {error}", name(&target));
            io::Error::new(error.kind(), text)
        })?;
        let file = Some(file);
        Ok(Writer { target, file, cells, events, trouble: None, torn: false, reopens_seen: 0 })
    }

    /// Writes until told to stop, or until the log and all its loggers are gone; then what is left.
    pub(super) fn run(mut self, shared: &Shared, rings: &Receiver<Bell>) {
        let mut lines = Lines::default();
        loop {
            let alone = rings.recv().is_err();
            let stop = alone || shared.stop.load(Relaxed);
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
                let lost = left.split_inclusive(|b| *b == b'\n').count() as u64;
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
            let event = Event::new("access_log_failed", Severity::Error, name(&self.target), text);
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
            let event = Event::new("access_log_recovered", Severity::Info, name(&self.target), text);
            self.events.record(event.with("lost", trouble.lost));
        }
    }
}

fn name(target: &Target) -> String {
    match target {
        Target::Stdout => "stdout".to_owned(),
        Target::File(path) => path.display().to_string(),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then has no space left.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = self.0.min(bytes.len()).min(3);
            self.0 -= n;
            if n == 0 { Err(io::Error::from_raw_os_error(28)) } else { Ok(n) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_device_that_fills_up_tells_how_much_it_took() {
        assert!(write_all(&mut Full(10), b"0123456789").is_ok());
        let (written, error) = write_all(&mut Full(7), b"0123456789").expect_err("full");
        assert_eq!((written, WriteError::of(&error)), (7, WriteError::Enospc));
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next_and_only_unwritten_lines_are_lost() {
        let dir = tempfile::tempdir().expect("made");
        let path = dir.path().join("log");
        let cells = Arc::<LogCells>::default();
        let mut writer =
            Writer::open(Target::File(path.clone()), Arc::clone(&cells), Events::default()).expect("opened");
        writer.torn = true;
        writer.write(&Lines { bytes: b"next\n".to_vec(), count: 1 }, Instant::now());
        assert_eq!(std::fs::read(&path).expect("read"), b"\nnext\n");
        assert_eq!(cells.dropped.total(), 0);
    }

    #[test]
    fn a_failing_target_is_left_alone_longer_each_time_and_every_line_is_counted() {
        let cells = Arc::<LogCells>::default();
        let target = Target::File("/dev/full".into());
        let events = Events::default();
        let mut writer = Writer::open(target, Arc::clone(&cells), events.clone()).expect("opened");
        let lines = Lines { bytes: b"one\ntwo\n".to_vec(), count: 2 };
        let start = Instant::now();
        let mut tries = Vec::new();
        for ms in 0..2000 {
            let before = cells.write_errors.total();
            writer.write(&lines, start + Duration::from_millis(ms));
            if cells.write_errors.total() > before {
                tries.push(ms);
            }
        }
        assert_eq!(tries, [0, 100, 300, 700, 1500]);
        assert_eq!(cells.write_errors[WriteError::Enospc].read(), 5);
        assert_eq!(cells.dropped[DropCause::WriteError].read(), 4000);
        assert_eq!(cells.written_bytes.read(), 0);
        assert_eq!(events.list(0).len(), 1);
    }
}
