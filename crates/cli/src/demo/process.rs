//! Child processes that never outlive the demo.
use crate::exit::Failure;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process of this very program, its output in a file.
///
/// Its standard input is a pipe that nobody writes to: the child ends when the pipe does, that is, with
/// this process, however that ends. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `raddle ARGS --exit-with-stdin`.
    pub(super) fn spawn<S: AsRef<OsStr>>(name: &str, dir: &Path, args: &[S]) -> Result<Process, Failure> {
        let failed = |e: std::io::Error| Failure::new(format!("{name} cannot be started: {e}"));
        let program = std::env::current_exe().map_err(failed)?;
        let log = dir.join(format!("{name}.out"));
        let out = File::options().create(true).append(true).open(&log).map_err(failed)?;
        let child = Command::new(program)
            .args(args)
            .arg("--exit-with-stdin")
            .stdin(Stdio::piped())
            .stdout(out.try_clone().map_err(failed)?)
            .stderr(out)
            // Its own group: the terminal's Ctrl-C is for the demo, which then stops its children in order.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        Ok(Process { name: name.to_owned(), child, log })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(super) fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal; one to a process that is gone is no failure.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            // Not reaped yet, so the id is still its own: the only error is that it has ended.
            let _ = kill_process(pid, signal);
        }
    }

    /// Kills it without a word, as the kernel does when memory is out.
    pub(super) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until `ready` says so, or it ends, or time is over.
    pub(super) fn wait_until(&mut self, time: Duration, ready: impl Fn() -> bool) -> Result<(), Failure> {
        let deadline = Instant::now() + time;
        while !ready() {
            if !self.alive() {
                return Err(Failure::new(format!("{} ended at once:\n{}", self.name, self.last_words())));
            }
            if Instant::now() > deadline {
                let (name, words) = (&self.name, self.last_words());
                return Err(Failure::new(format!("{name} is not ready after {time:?}:\n{words}")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// The last lines of its output.
    pub(super) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Asks all to end, waits a while, and kills who is left.
pub(super) fn stop_all(mut processes: Vec<Process>, patience: Duration) {
    for p in &processes {
        p.signal(Signal::TERM);
    }
    let deadline = Instant::now() + patience;
    while processes.iter_mut().any(Process::alive) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
}
