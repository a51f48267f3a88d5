//! The files of the story's sidecars, and its rules.
use std::net::SocketAddr;
use std::path::Path;

/// The service that order publishes and shop calls.
pub(super) const SERVICE: &str = "order.shop";
/// The rule, as the command line names it.
pub(super) const RULE: &str = "AdaptiveLimit/order";

/// The file of the sidecar beside order.
pub(super) fn order([listen, forward, admin, control]: [SocketAddr; 4]) -> String {
    let port = listen.port();
    format!(
        "apiVersion: raddle.io/v1
kind: Sidecar
metadata: {{name: order-1}}
spec:
  app: order
  workers: 1
  admin: {admin}
  controlPlane: {{addresses: [\"http://{control}\"]}}
  inbound:
  - {{listen: \"{listen}\", forward: \"{forward}\"}}
  publish:
    services:
    - {{name: \"{SERVICE}\", protocol: http, port: {port}}}
  drain: {{timeout: 2s}}
"
    )
}

/// The file of the sidecar beside shop.
pub(super) fn shop([listen, admin, control]: [SocketAddr; 3]) -> String {
    format!(
        "apiVersion: raddle.io/v1
kind: Sidecar
metadata: {{name: shop-1}}
spec:
  app: shop
  workers: 1
  admin: {admin}
  controlPlane: {{addresses: [\"http://{control}\"]}}
  outbound:
  - {{listen: \"{listen}\"}}
  drain: {{timeout: 2s}}
"
    )
}

/// How order is to be called: callers wait a second, and ask once.
pub(super) const POLICY: &str = "apiVersion: raddle.io/v1
kind: TrafficPolicy
metadata: {name: order}
spec:
  to: {app: order}
  timeouts: {connect: 1s, request: 2s}
";

/// Where an app is seen that no cgroup bounds: its process, and how many cores it has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process<'a> {
    pub(super) pid_file: &'a Path,
    pub(super) cores: f64,
}

/// The one rule. Off means that it only watches: `mode: observe`.
pub(super) fn rule(on: bool, process: Option<Process<'_>>) -> String {
    let mode = if on { "enforce" } else { "observe" };
    let seen = process.map_or_else(String::new, |p| {
        format!("  cores: {}\n  signal: {{pidFile: \"{}\"}}\n", p.cores, p.pid_file.display())
    });
    format!(
        "apiVersion: raddle.io/v1
kind: AdaptiveLimit
metadata: {{name: order}}
spec:
  scope: {{apps: [order]}}
  mode: {mode}
{seen}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use raddle_model::{LoadOptions, Source, load};

    #[test]
    fn every_file_the_story_writes_has_no_mistakes() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let files = [order([at(1), at(2), at(3), at(4)]), shop([at(1), at(2), at(4)])];
        let process = Process { pid_file: Path::new("/tmp/app.pid"), cores: 1.0 };
        let rules = [POLICY.to_owned(), rule(true, None), rule(false, Some(process))];
        let all = files.map(|text| (text, LoadOptions::default())).into_iter();
        for (text, options) in all.chain(rules.map(|text| (text, LoadOptions::rules_only()))) {
            let sources = [Source { name: "demo.yaml".into(), text }];
            load(&sources, options).unwrap_or_else(|r| panic!("{r}"));
        }
    }
}
