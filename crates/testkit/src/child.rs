//! A sidecar in a process of its own: for memory, descriptors, CPU time and signals.
//!
//! The process is the test binary itself, started anew with [`ENTRY`] as the only test to run; a test file
//! that uses this has a test of that name which calls [`entry`].
use crate::config::Config;
use crate::sidecar::{Admin, ConfigFile};
use crate::wait::{PATIENCE, until};
use raddle_proxy::{Options, Sidecar};
use rustix::process::{Pid, Signal, kill_process};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// Name of the test that becomes the sidecar.
pub const ENTRY: &str = "sidecar_process";
const FILE: &str = "RADDLE_TEST_SIDECAR";

/// Becomes a sidecar if this process was started to be one.
pub fn entry() {
    if let Some(path) = std::env::var_os(FILE) {
        let level = std::env::var("RADDLE_TEST_LOG").unwrap_or_else(|_| "error".into());
        let options = Options { paths: vec![path.into()], log_level: level, ..Options::default() };
        std::process::exit(Sidecar::run(options));
    }
}

/// A running sidecar process; dropping it kills it.
pub struct Child {
    /// Its admin port.
    pub admin: Admin,
    /// Its configuration.
    pub file: ConfigFile,
    process: std::process::Child,
}

impl Child {
    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn start(config: &Config) -> Child {
        Child::start_limited(config, None)
    }

    /// Starts it with at most so many open files.
    #[track_caller]
    pub fn start_limited(config: &Config, files: Option<u32>) -> Child {
        let file = ConfigFile::new(config);
        let exe = std::env::current_exe().unwrap_or_else(|e| panic!("own path: {e}"));
        let mut c = match files {
            None => Command::new(&exe),
            Some(n) => {
                let mut c = Command::new("sh");
                c.arg("-c").arg(format!("ulimit -n {n}; exec \"$0\" \"$@\"")).arg(&exe);
                c
            }
        };
        c.args([ENTRY, "--exact", "--nocapture", "--test-threads=1"]);
        c.env(FILE, file.path()).stdin(Stdio::null()).stdout(Stdio::null());
        let process = c.spawn().unwrap_or_else(|e| panic!("sidecar process: {e}"));
        let mut child = Child { admin: Admin(config.admin), file, process };
        until(PATIENCE, "the sidecar process is ready", || {
            if let Ok(Some(status)) = child.process.try_wait() {
                panic!("the sidecar process ended: {status}\n{}", config.yaml());
            }
            child.admin.try_get("/ready").is_some_and(|(s, _)| s == 200)
        });
        child
    }

    fn pid(&self) -> Pid {
        // A child's pid is positive and fits.
        Pid::from_raw(self.process.id() as i32).expect("a pid is positive")
    }

    /// Sends it a signal; one that stops it has taken effect when this returns.
    #[track_caller]
    pub fn signal(&self, s: Signal) {
        if let Err(e) = kill_process(self.pid(), s) {
            panic!("signal {s:?}: {e}");
        }
        if s == Signal::STOP {
            until(PATIENCE, "every thread stands still", || self.stands_still());
        }
    }

    fn stands_still(&self) -> bool {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{}/task", self.process.id())) else { return false };
        tasks.flatten().all(|t| {
            let stat = std::fs::read_to_string(t.path().join("stat")).unwrap_or_default();
            // The state stands behind the name, which is in brackets.
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    }

    /// Its exit, if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self, most: Duration) -> ExitStatus {
        crate::until_some(most, "the sidecar process ends", || self.exited())
    }

    /// Resident memory in bytes.
    #[track_caller]
    pub fn rss(&self) -> u64 {
        let path = format!("/proc/{}/statm", self.process.id());
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        text.split(' ').nth(1).and_then(|p| p.parse::<u64>().ok()).unwrap_or(0) * 4096
    }

    /// CPU time used so far, all threads.
    #[track_caller]
    pub fn cpu(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.process.id());
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        // Behind the name in parentheses; fields 14 and 15 are user and system time in 10 ms.
        let fields: Vec<&str> = text.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks: u64 = [11, 12].iter().filter_map(|i| fields.get(*i)?.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// The largest resident memory while `f` runs, bytes.
    pub fn peak_rss_during<T: Send>(&self, f: impl FnOnce() -> T + Send) -> (T, u64) {
        std::thread::scope(|s| {
            let work = s.spawn(f);
            let mut peak = self.rss();
            while !work.is_finished() {
                peak = peak.max(self.rss());
                std::thread::sleep(Duration::from_millis(5));
            }
            match work.join() {
                Ok(v) => (v, peak),
                Err(e) => std::panic::resume_unwind(e),
            }
        })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
