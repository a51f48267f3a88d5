//! The demo's control plane, and the commands an operator would give it.
use super::config;
use super::process::Process;
use crate::exit::Failure;
use crate::http;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const START: Duration = Duration::from_secs(20);
/// Longest wait until a rule is in force everywhere.
const SPREAD: Duration = Duration::from_secs(10);

/// One replica, with an embedded store.
pub(super) struct Control {
    /// Where sidecars join.
    pub(super) grpc: SocketAddr,
    rest: SocketAddr,
    /// Sidecars join by TLS, and everybody shows tokens.
    secured: bool,
    dir: PathBuf,
    /// `None` while it is dead.
    running: Option<Process>,
}

/// What the API says of a sidecar, as far as the demo looks at it.
#[derive(Debug, Deserialize)]
struct Sidecar {
    app: String,
    running: Vec<Running>,
}

#[derive(Debug, Deserialize)]
struct Running {
    rule: String,
    revision: String,
}

#[derive(Debug, Deserialize)]
struct Page {
    items: Vec<Sidecar>,
}

impl Control {
    /// Starts it and waits until it answers.
    pub(super) fn start(dir: &Path, grpc: SocketAddr, rest: SocketAddr) -> Result<Control, Failure> {
        let mut control = Control { grpc, rest, secured: false, dir: dir.to_owned(), running: None };
        control.spawn()?;
        Ok(control)
    }

    /// The same, with TLS and tokens.
    pub(super) fn start_secured(dir: &Path, grpc: SocketAddr, rest: SocketAddr) -> Result<Control, Failure> {
        let mut control = Control { grpc, rest, secured: true, dir: dir.to_owned(), running: None };
        control.spawn()?;
        Ok(control)
    }

    /// Starts it on the store it had.
    pub(super) fn spawn(&mut self) -> Result<(), Failure> {
        let (grpc, rest) = (self.grpc.to_string(), self.rest.to_string());
        let store = self.dir.join("control.db").display().to_string();
        let mut args = vec!["control", "--store", &store, "--rest-listen", &rest];
        match self.secured {
            true => args.extend(["--grpc-listen", "off", "--tls-listen", &grpc]),
            false => args.extend(["--no-auth", "--grpc-listen", &grpc, "--tls-listen", "off"]),
        }
        let mut process = Process::spawn("control", &self.dir, &args)?;
        let rest = self.rest;
        process.wait_until(START, || {
            http::get(rest, "/readyz", Duration::from_millis(500)).is_ok_and(|a| a.status == 200)
        })?;
        self.running = Some(process);
        Ok(())
    }

    /// Ends it without a word.
    pub(super) fn kill(&mut self) {
        if let Some(process) = self.running.take() {
            process.kill();
        }
    }

    /// Whether it was not killed.
    pub(super) fn runs(&self) -> bool {
        self.running.is_some()
    }

    /// The process, to be stopped in order.
    pub(super) fn take(&mut self) -> Option<Process> {
        self.running.take()
    }

    /// `raddle apply -f FILE`.
    pub(super) fn apply(&self, text: &str) -> Result<(), Failure> {
        let file = self.dir.join("rule.yaml");
        super::mesh::write(&file, text)?;
        self.command(&["apply", "-f", &file.display().to_string()])
    }

    /// `raddle delete RULE`.
    pub(super) fn delete(&self, rule: &str) -> Result<(), Failure> {
        self.command(&["delete", rule])
    }

    fn command(&self, args: &[&str]) -> Result<(), Failure> {
        self.ask(args).map(drop)
    }

    /// What `raddle ARGS` prints.
    pub(super) fn ask(&self, args: &[&str]) -> Result<String, Failure> {
        self.run(args).map(|(out, _)| out)
    }

    /// The same, with its warnings.
    pub(super) fn ask_all(&self, args: &[&str]) -> Result<String, Failure> {
        self.run(args).map(|(out, warnings)| out + &warnings)
    }

    fn run(&self, args: &[&str]) -> Result<(String, String), Failure> {
        let failed = |e: std::io::Error| Failure::new(format!("raddle {}: {e}", args.join(" ")));
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.args(args).env("RADDLE_SERVER", format!("http://{}", self.rest));
        command.env_remove("RADDLE_TOKEN").env_remove("RADDLE_TOKEN_FILE").env("NO_COLOR", "1");
        if self.secured {
            command.env("RADDLE_TOKEN_FILE", self.dir.join("control.admin-token"));
        }
        let done = command.stdin(Stdio::null()).output().map_err(failed)?;
        if done.status.success() {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            return Ok((text(&done.stdout), text(&done.stderr)));
        }
        let words = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        Err(Failure::new(format!("raddle {} ended with {}:\n{words}", args.join(" "), done.status)))
    }

    /// How many of shop's sidecars run a rule, and in how many revisions; `None` = the API does not answer.
    fn spread(&self, rule: &str) -> Option<(usize, usize)> {
        let answer = http::get(self.rest, "/v1/sidecars?limit=100", Duration::from_millis(500)).ok()?;
        let page: Page = serde_json::from_str(&answer.body).ok()?;
        let of_shop = page.items.into_iter().filter(|s| s.app == "shop");
        let revisions: Vec<String> =
            of_shop.flat_map(|s| s.running).filter(|r| r.rule == rule).map(|r| r.revision).collect();
        let mut distinct = revisions.clone();
        distinct.sort();
        distinct.dedup();
        Some((revisions.len(), distinct.len()))
    }

    /// Waits until so many of shop's sidecars run the rule, all in one revision.
    pub(super) fn wait_for(&self, rule: &str, sidecars: usize) -> Result<(), Failure> {
        let deadline = Instant::now() + SPREAD;
        loop {
            let spread = self.spread(rule);
            if spread.is_some_and(|(n, revisions)| n == sidecars && revisions <= 1) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let (n, revisions) = spread.unwrap_or_default();
                return Err(Failure::new(format!(
                    "{rule}: after {SPREAD:?} {n} of shop's sidecars run it, in {revisions} revisions, not {sidecars}"
                )));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until `rule` has reached at least one sidecar and then none any more: it was rolled back. How many had it
    /// at most, and after how long it was gone.
    pub(super) fn wait_for_rollback(&self, rule: &str) -> Result<(usize, Duration), Failure> {
        let start = Instant::now();
        let mut most = 0;
        let mut promoted = false;
        while start.elapsed() < 2 * SPREAD {
            if let Some((n, _)) = self.spread(rule) {
                if most > 0 && n == 0 {
                    return Ok((most, start.elapsed()));
                }
                most = most.max(n);
            }
            if most == 0 && !promoted && start.elapsed() > Duration::from_secs(4) {
                // Half of two may be none: which ones go first is chance, though always the same chance.
                promoted = true;
                self.command(&["rollout", "promote", rule])?;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(Failure::new(format!("{} was not rolled back after {:?}", config::HARMFUL, start.elapsed())))
    }
}
