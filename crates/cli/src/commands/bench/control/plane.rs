//! The control plane's process: started, watched, asked.
use crate::commands::ask;
use crate::exit::Failure;
use crate::http::client::{Client, Request};
use raddle_bench::cpu::MachineCpu;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// A control plane.
pub(super) struct Plane {
    pub(super) grpc: SocketAddr,
    pub(super) rest: SocketAddr,
    pid: Option<u32>,
    /// Ends with this process; its files go with it.
    own: Option<(Child, TempDir)>,
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// CPU, seconds.
    pub(super) cpu: f64,
    /// Resident memory now, and at most ever, MiB.
    pub(super) resident: f64,
    pub(super) peak: f64,
    /// CPU of this process, which plays the sidecars, seconds.
    pub(super) own: f64,
    /// CPU of the whole machine, what the host took included, seconds.
    pub(super) machine: f64,
}

impl Plane {
    pub(super) fn running(grpc: SocketAddr, rest: SocketAddr, pid: Option<u32>) -> Plane {
        Plane { grpc, rest, pid, own: None }
    }

    /// Starts one of this same program.
    pub(super) fn start(grace: Duration, streams: usize) -> Result<Plane, Failure> {
        let failed = |e: std::io::Error| Failure::new(format!("the control plane cannot be started: {e}"));
        let dir = tempfile::tempdir().map_err(failed)?;
        let mut child = Command::new(std::env::current_exe().map_err(failed)?)
            .arg("control")
            .args(["--grpc-listen", "127.0.0.1:0", "--rest-listen", "127.0.0.1:0", "--tls-listen", "off"])
            .args(["--log", "warn", "--exit-with-stdin", "--no-auth", "--max-streams", &streams.to_string()])
            .args(["--grace", &format!("{}ms", grace.as_millis())])
            .arg("--store")
            .arg(dir.path().join("control.db"))
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let pid = child.id();
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut line).map_err(failed)?;
        }
        let find = |what: &str| line.split_whitespace().find_map(|w| w.strip_prefix(what)?.parse().ok());
        match (find("grpc="), find("rest=")) {
            (Some(grpc), Some(rest)) => Ok(Plane { grpc, rest, pid: Some(pid), own: Some((child, dir)) }),
            _ => Err(Failure::new("the control plane did not start; what it said is above")),
        }
    }

    /// What it has used until now; zeros if its process is not known.
    pub(super) fn usage(&self) -> Usage {
        let own = usage(std::process::id()).unwrap_or_default().cpu;
        let MachineCpu { busy_s, stolen_s } = MachineCpu::now();
        Usage { own, machine: busy_s + stolen_s, ..self.pid.and_then(usage).unwrap_or_default() }
    }

    /// A metric's value, its labels as they are written.
    pub(super) fn metric(&self, name: &str) -> Result<f64, Failure> {
        let page = ask(self.rest, "/metrics")?;
        let value = page.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.ok_or_else(|| Failure::new(format!("{}: there is no metric {name}", self.rest)))
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.own {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Applies a rule that reaches every sidecar at once, with a mark by which this revision of it is known.
pub(super) fn apply_rule(rest: SocketAddr, mark: u32) -> Result<(), Failure> {
    let document = serde_json::json!({
        "apiVersion": "raddle.io/v1",
        "kind": "TrafficPolicy",
        "metadata": { "name": "bench", "labels": { "mark": mark.to_string() } },
        "spec": { "timeouts": { "request": format!("{mark}ms") } },
    });
    let body = Some(("application/yaml", document.to_string().into_bytes()));
    let request = Request { body, ..Request::new("POST", "/v1/apply") };
    let client = Client::new(&format!("http://{rest}"), None, None).map_err(Failure::usage)?;
    let answer = client.send(&request, Duration::from_secs(30));
    let answer = answer.map_err(|e| Failure::unreachable(format!("{rest} takes no rule: {e}")))?;
    if answer.status == 200 {
        return Ok(());
    }
    Err(Failure::new(format!("{rest} answered {} to a rule: {}", answer.status, answer.body.trim())))
}

fn usage(pid: u32) -> Option<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; after it come the fields from the third on.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let mib = |key: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(key))?;
        Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
    };
    let cpu = ticks / rustix::param::clock_ticks_per_second() as f64;
    Some(Usage { cpu, resident: mib("VmRSS:")?, peak: mib("VmHWM:")?, ..Usage::default() })
}

/// Lets this process, and those it starts, open so many files, if it may. How many it may open then.
pub(super) fn many_files(wanted: usize) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Some(wanted as u64);
    if limit.current.is_some() && limit.current < wanted {
        let current = limit.maximum.map_or(wanted, |most| wanted.map(|w| w.min(most)));
        // If it may not, connections will fail, and say so.
        let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum: limit.maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
