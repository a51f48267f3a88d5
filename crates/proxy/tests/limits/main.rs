//! What holds requests back, in every protocol: rates, concurrency, hotspots, pacing, breakers, adaptive limiting; and
//! that nothing they hold is lost however requests end.
mod adaptive;
mod breaker;
mod chaos;
mod explain;
mod http;
mod pacing;
mod quota;
mod rpc;
mod tcp;

use raddle_testkit::{Admin, Call, Config, PATIENCE, Running, free_addr, until_some};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// A sidecar with limits, before a server or behind a caller, and its access log.
struct Limited {
    running: Running,
    listen: SocketAddr,
    base: Config,
    dir: tempfile::TempDir,
}

/// Rules: kind, name, spec.
type Rules<'a> = &'a [(&'a str, &'a str, &'a str)];

impl Limited {
    /// Before a server, with one worker.
    fn inbound(server: SocketAddr, rules: Rules<'_>) -> Limited {
        Limited::inbound_by(1, server, rules)
    }

    fn inbound_by(workers: u16, server: SocketAddr, rules: Rules<'_>) -> Limited {
        let listen = free_addr();
        Limited::start(Config::new().workers(workers).inbound(listen, server), listen, rules)
    }

    /// Behind a caller of a service, with one worker.
    fn outbound(service: &str, endpoints: &[SocketAddr], rules: Rules<'_>) -> Limited {
        let listen = free_addr();
        let config = Config::new().workers(1).outbound(listen).service(service, endpoints);
        Limited::start(config, listen, rules)
    }

    fn start(config: Config, listen: SocketAddr, rules: Rules<'_>) -> Limited {
        let dir = tempfile::tempdir().unwrap();
        let line = format!("accessLog: {{path: {}, format: json, sample: 0}}", log(&dir).display());
        let base = config.sidecar(&line);
        let running = Running::start(&with(base.clone(), rules));
        Limited { running, listen, base, dir }
    }

    /// Puts other rules in force.
    fn rules(&self, rules: Rules<'_>) {
        self.running.apply(&with(self.base.clone(), rules));
    }

    fn admin(&self) -> Admin {
        self.running.admin
    }

    fn held(&self, rule: &str) -> i64 {
        self.admin().metric("raddle_limit_held_total", &[&format!("rule=\"{rule}\"")])
    }

    fn observed(&self, rule: &str) -> i64 {
        self.admin().metric("raddle_limit_observed_total", &[&format!("rule=\"{rule}\"")])
    }

    /// Waits until no request holds anything.
    fn settles(&self) {
        self.admin().until_metric("raddle_limit_requests_in_flight", &[], |n| n == 0);
        self.admin().until_metric("raddle_limit_requests_waiting", &[], |n| n == 0);
    }

    /// The access log's line that names this rule.
    #[track_caller]
    fn line(&self, rule: &str) -> serde_json::Value {
        until_some(PATIENCE, "a line of the access log", || {
            let all = std::fs::read_to_string(log(&self.dir)).ok()?;
            all.lines()
                .filter_map(|l| serde_json::from_str(l).ok())
                .find(|l: &serde_json::Value| l["rule"] == rule)
        })
    }
}

fn log(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("access.log")
}

fn with(base: Config, rules: Rules<'_>) -> Config {
    rules.iter().fold(base, |c, (kind, name, spec)| c.document(kind, name, &format!("{{{spec}}}")))
}

/// Bolt requests that a server keeps until the test has it answer.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Call>>>);

impl Kept {
    fn server(&self) -> raddle_testkit::BoltServer {
        let kept = self.clone();
        raddle_testkit::BoltServer::start(move |call| kept.0.lock().unwrap().push(call))
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    #[track_caller]
    fn until(&self, n: usize) {
        raddle_testkit::until(PATIENCE, &format!("{n} requests at the server"), || self.count() == n);
    }

    fn answer_all(&self) {
        self.0.lock().unwrap().drain(..).for_each(|c| assert!(c.echo()));
    }
}
