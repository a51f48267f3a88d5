//! The configuration files of the demo's sidecars.
use std::fmt::Write as _;
use std::net::SocketAddr;

/// The service that order publishes and shop calls.
pub(super) const SERVICE: &str = "com.shop.OrderService:1.0";
/// Share of the requests that the canary rule sends to its group, percent.
pub(super) const CANARY_PERCENT: u32 = 10;

/// Name of the policy that every edition of the reload storm changes, as the command line names it.
pub(super) const POLICY: &str = "TrafficPolicy/order";
/// Name of the rule that shifts weights.
pub(super) const WEIGHTS: &str = "Route/order-weights";
/// Name of the rule that does harm.
pub(super) const HARMFUL: &str = "Route/order-hasty";
/// Name of the rule that sends a share to the canary.
pub(super) const CANARY: &str = "Route/order-canary";

/// The file of a sidecar beside an instance of order: it publishes the service there.
pub(super) fn order(name: &str, group: &str, [listen, forward, admin, control]: [SocketAddr; 4]) -> String {
    let port = listen.port();
    format!(
        "apiVersion: raddle.io/v1
kind: Sidecar
metadata: {{name: {name}}}
spec:
  app: order
  group: {group}
  labels: {{instance: {name}}}
  workers: 1
  admin: {admin}
  controlPlane: {{addresses: [\"http://{control}\"]}}
  inbound:
  - {{listen: \"{listen}\", forward: \"{forward}\"}}
  publish:
    services:
    - {{name: \"{SERVICE}\", protocol: bolt, port: {port}}}
  drain: {{timeout: 2s}}
"
    )
}

/// The file of a sidecar beside an instance of shop. It names no service: what shop calls is asked for when it is
/// called.
pub(super) fn shop(name: &str, listen: SocketAddr, admin: SocketAddr, control: SocketAddr) -> String {
    format!(
        "apiVersion: raddle.io/v1
kind: Sidecar
metadata: {{name: {name}}}
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

/// How order is to be called. `edition` makes a policy that says the same differ.
pub(super) fn policy(edition: u32) -> String {
    format!(
        "apiVersion: raddle.io/v1
kind: TrafficPolicy
metadata: {{name: order, labels: {{edition: \"{edition}\"}}}}
spec:
  to: {{app: order}}
  balancer: roundRobin
  timeouts: {{connect: 500ms, request: 3s}}
  retry: {{attempts: 2, on: [connectFailure, overloaded]}}
  healthCheck: {{kind: bolt, interval: 500ms, timeout: 300ms, unhealthyAfter: 2, healthyAfter: 1}}
"
    )
}

/// A rule by which order-1, order-2, ... get these shares.
pub(super) fn weights(shares: &[u32]) -> String {
    let mut text = format!(
        "apiVersion: raddle.io/v1
kind: Route
metadata: {{name: order-weights}}
spec:
  to: {{services: [\"{SERVICE}\"]}}
  rules:
  - name: weights
    ifEmpty: next
    send:
"
    );
    for (n, weight) in shares.iter().enumerate() {
        // Writing to a String does not fail.
        let _ = writeln!(text, "    - {{labels: {{instance: order-{}}}, weight: {weight}}}", n + 1);
    }
    text
}

/// A rule that sends a share to the canary.
pub(super) fn canary() -> String {
    format!(
        "apiVersion: raddle.io/v1
kind: Route
metadata: {{name: order-canary}}
spec:
  to: {{services: [\"{SERVICE}\"]}}
  rules:
  - {{name: canary, percent: {CANARY_PERCENT}, send: {{group: canary}}, ifEmpty: next}}
"
    )
}

/// A rule that is well formed and does harm: nothing answers in that time. It goes to half of the sidecars first, and
/// its guard takes it back.
pub(super) fn harmful() -> String {
    format!(
        "apiVersion: raddle.io/v1
kind: Route
metadata: {{name: order-hasty}}
spec:
  to: {{services: [\"{SERVICE}\"]}}
  rules:
  - {{name: hasty, timeout: 1ms}}
  rollout:
    stages: [{{percent: 50, hold: 1m}}, {{percent: 100}}]
    guard: {{errorRate: 0.05}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use raddle_model::{LoadOptions, Source, load};

    #[test]
    fn every_file_the_demo_writes_has_neither_mistakes_nor_warnings() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let files =
            [order("order-1", "default", [at(1), at(2), at(3), at(4)]), shop("shop-1", at(1), at(2), at(4))];
        let rules = [policy(1), weights(&[80, 10, 10]), canary(), harmful()];
        let all = files.map(|text| (text, LoadOptions::default())).into_iter();
        for (text, options) in all.chain(rules.map(|text| (text, LoadOptions::rules_only()))) {
            let sources = [Source { name: "demo.yaml".into(), text }];
            let (_, warnings) = load(&sources, options).unwrap_or_else(|r| panic!("{r}"));
            // Who publishes order is the registry's to know, not a file's.
            let odd: Vec<_> = warnings.iter().filter(|w| !w.remedy.contains("declared later")).collect();
            assert!(odd.is_empty(), "{odd:?}");
        }
    }
}
