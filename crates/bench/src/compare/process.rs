//! Child processes that never outlive their owner, free ports, pinning, and waiting until one serves.
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What every part of a comparison needs: a scratch directory and the sign to stop.
#[derive(Clone, Debug)]
pub(crate) struct Bench {
    /// For configurations and logs.
    pub(crate) dir: PathBuf,
    /// Set by the user's Ctrl-C.
    pub(crate) stop: Arc<AtomicBool>,
    /// Where a single-worker proxy is pinned; `None` leaves it to the scheduler.
    pub(crate) proxy_cpu: Option<usize>,
}

impl Bench {
    /// An error if the user wants to stop.
    pub(crate) fn check_stop(&self) -> io::Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::new(ErrorKind::Interrupted, "stopped"));
        }
        Ok(())
    }

    /// Writes a file into the scratch directory.
    pub(crate) fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.dir.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// A child process: killed and reaped when dropped.
///
/// Where `setpriv` is installed the kernel kills it too if this process dies without a chance to.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program`; its output goes to a log in the scratch directory.
    pub(crate) fn spawn<S: AsRef<OsStr>>(
        bench: &Bench,
        name: &str,
        program: &OsStr,
        args: impl IntoIterator<Item = S>,
        cpu: Option<usize>,
    ) -> io::Result<Process> {
        let log = bench.dir.join(format!("{name}.log"));
        let out = File::create(&log)?;
        let mut command = match find("setpriv") {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL", "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(args).stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        command.current_dir(&bench.dir);
        let mut spawn = || command.spawn();
        let child = match cpu {
            Some(cpu) => pinned(cpu, spawn),
            None => spawn(),
        };
        let explain = |e: io::Error| io::Error::new(e.kind(), format!("cannot start {name}: {e}"));
        Ok(Process { name: name.to_owned(), child: child.map_err(explain)?, log })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `ready` says so; an error with the end of its log if it ends before, or takes too long.
    pub(crate) fn wait_until(
        &mut self,
        bench: &Bench,
        within: Duration,
        mut ready: impl FnMut() -> bool,
    ) -> io::Result<()> {
        let deadline = Instant::now() + within;
        while !ready() {
            bench.check_stop()?;
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let what =
                    ended.map_or_else(|| "is not ready in time".to_owned(), |s| format!("ended ({s})"));
                return Err(io::Error::other(format!("{} {what}:{}", self.name, self.log_end())));
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Waits until it has ended well; returns what it wrote.
    pub(crate) fn output(&mut self, bench: &Bench, within: Duration) -> io::Result<String> {
        let deadline = Instant::now() + within;
        loop {
            bench.check_stop()?;
            match self.child.try_wait()? {
                Some(status) if status.success() => return fs::read_to_string(&self.log),
                None if Instant::now() < deadline => std::thread::park_timeout(Duration::from_millis(5)),
                Some(status) => {
                    return Err(io::Error::other(format!(
                        "{} ended ({status}):{}",
                        self.name,
                        self.log_end()
                    )));
                }
                None => {
                    return Err(io::Error::other(format!("{} does not end:{}", self.name, self.log_end())));
                }
            }
        }
    }

    fn log_end(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let end = &lines[lines.len().saturating_sub(5)..];
        if end.is_empty() { " (it wrote nothing)".to_owned() } else { format!("\n{}", end.join("\n")) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs `f` with this thread pinned to one CPU: what it spawns stays there.
fn pinned<T>(cpu: usize, f: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let me: Option<Pid> = None;
    let before = sched_getaffinity(me)?;
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(me, &only)?;
    let result = f();
    sched_setaffinity(me, &before)?;
    result
}

/// CPUs this process may use.
pub(crate) fn cpus() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_default();
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

/// A program on the search path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(sbin).map(|dir| dir.join(program)).find(|p| p.is_file())
}

/// The first line with text in it that a command prints; `None` if it does not run.
pub(crate) fn first_line(program: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    text.lines().map(str::trim).find(|l| !l.is_empty()).map(str::to_owned)
}

/// A port that was free a moment ago on `ip`.
pub(crate) fn free_address(ip: IpAddr) -> io::Result<SocketAddr> {
    TcpListener::bind((ip, 0))?.local_addr()
}

/// Whether something accepts connections there.
pub(crate) fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

/// Whether `GET path` is answered with 200.
pub(crate) fn answers_ok(address: SocketAddr, path: &str) -> bool {
    let get = || -> io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(&head[9..] == b"200")
    };
    get().unwrap_or(false)
}

/// Lets this process and what it starts open as many files as the system allows; returns how many.
pub(crate) fn raise_open_files() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).ok();
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The command that starts an echo server, and its arguments before `--listen`.
pub(crate) fn split(command: &[OsString]) -> io::Result<(&OsStr, &[OsString])> {
    let (program, args) = command
        .split_first()
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "the echo server's command is empty"))?;
    Ok((program, args))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::peers::LOOPBACK;

    fn bench() -> (tempfile::TempDir, Bench) {
        let dir = tempfile::tempdir().unwrap();
        let bench = Bench { dir: dir.path().to_owned(), stop: Arc::default(), proxy_cpu: None };
        (dir, bench)
    }

    #[test]
    fn a_child_does_not_outlive_its_owner() {
        let (_dir, bench) = bench();
        let process = Process::spawn(&bench, "sleeper", OsStr::new("sleep"), ["60"], None).unwrap();
        let proc_dir = PathBuf::from(format!("/proc/{}", process.pid()));
        assert!(proc_dir.exists());
        drop(process);
        assert!(!proc_dir.exists());
    }

    #[test]
    fn a_child_that_ends_early_is_an_error_with_its_last_words() {
        let (_dir, bench) = bench();
        let script = ["-c", "echo port 1 is taken; exit 3"];
        let mut process =
            Process::spawn(&bench, "failing", OsStr::new("sh"), script, Some(cpus()[0])).unwrap();
        let error = process.wait_until(&bench, Duration::from_secs(10), || false).unwrap_err().to_string();
        assert!(error.contains("failing") && error.contains("port 1 is taken"), "{error}");
    }

    #[test]
    fn waiting_ends_when_the_user_stops_it() {
        let (_dir, bench) = bench();
        let mut process = Process::spawn(&bench, "sleeper", OsStr::new("sleep"), ["60"], None).unwrap();
        bench.stop.store(true, Ordering::Relaxed);
        let error = process.wait_until(&bench, Duration::from_mins(1), || false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
    }

    #[test]
    fn only_a_200_is_ready() {
        let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for (mut stream, status) in listener.incoming().flatten().zip(["503 No", "200 OK"]) {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    request.push(byte[0]);
                }
                stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).unwrap();
            }
        });
        assert!(!answers_ok(address, "/ready"));
        assert!(answers_ok(address, "/ready"));
    }
}
