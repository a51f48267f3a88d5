//! Who may call what: rules of `kind: Authorization` at a sidecar's inbound listeners, in every protocol.
mod http;
mod live;
mod rpc;
mod tcp;

use raddle_testkit::{Admin, Config, PATIENCE, Running, free_addr, until_some};
use std::net::SocketAddr;
use std::path::PathBuf;

/// A sidecar before a server, its access log, and the rules it holds to.
struct Guarded {
    running: Running,
    listen: SocketAddr,
    server: SocketAddr,
    dir: tempfile::TempDir,
}

/// Rules by name and spec.
type Rules<'a> = &'a [(&'a str, &'a str)];

impl Guarded {
    fn start(server: SocketAddr, rules: Rules<'_>) -> Guarded {
        let dir = tempfile::tempdir().unwrap();
        let listen = free_addr();
        let config = config(free_addr(), listen, server, log(&dir), rules);
        Guarded { running: Running::start(&config), listen, server, dir }
    }

    /// Puts other rules in force.
    fn rules(&self, rules: Rules<'_>) {
        let config = config(self.admin().0, self.listen, self.server, log(&self.dir), rules);
        self.running.apply(&config);
    }

    fn admin(&self) -> Admin {
        self.running.admin
    }

    fn denied(&self, rule: &str) -> i64 {
        self.admin().metric("raddle_authorization_denied_total", &[&format!("rule=\"{rule}\"")])
    }

    fn observed(&self, rule: &str) -> i64 {
        self.admin().metric("raddle_authorization_observed_total", &[&format!("rule=\"{rule}\"")])
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

fn config(
    admin: SocketAddr,
    listen: SocketAddr,
    server: SocketAddr,
    log: PathBuf,
    rules: Rules<'_>,
) -> Config {
    let line = format!("accessLog: {{path: {}, format: json, sample: 0}}", log.display());
    let mut config = Config::new().workers(1).inbound(listen, server).sidecar(&line);
    config.admin = admin;
    rules.iter().fold(config, |c, (name, spec)| c.document("Authorization", name, &format!("{{{spec}}}")))
}
