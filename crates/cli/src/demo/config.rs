//! The configuration files of the demo's sidecars.
use std::fmt::Write as _;
use std::net::SocketAddr;

/// The service that order publishes and shop calls.
pub(super) const SERVICE: &str = "com.shop.OrderService:1.0";
/// Share of the requests that the canary rule sends to its group, percent.
pub(super) const CANARY_PERCENT: u32 = 10;

/// An instance of order, as shop's sidecars are to see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Endpoint<'a> {
    pub(super) address: SocketAddr,
    pub(super) group: &'a str,
    pub(super) weight: u32,
}

/// The file of a sidecar beside an instance of order.
pub(super) fn order(
    name: &str,
    group: &str,
    listen: SocketAddr,
    forward: SocketAddr,
    admin: SocketAddr,
) -> String {
    format!(
        "apiVersion: raddle.io/v1
kind: Sidecar
metadata: {{name: {name}}}
spec:
  app: order
  group: {group}
  workers: 1
  admin: {admin}
  inbound:
  - {{listen: \"{listen}\", forward: \"{forward}\"}}
  drain: {{timeout: 2s}}
"
    )
}

/// The file of a sidecar beside an instance of shop. `edition` makes a file that says the same differ.
pub(super) fn shop(
    name: &str,
    listen: SocketAddr,
    admin: SocketAddr,
    endpoints: &[Endpoint<'_>],
    canary: bool,
    edition: u32,
) -> String {
    let mut text = format!(
        "# edition {edition}
apiVersion: raddle.io/v1
kind: Sidecar
metadata: {{name: {name}, labels: {{edition: \"{edition}\"}}}}
spec:
  app: shop
  workers: 1
  admin: {admin}
  outbound:
  - {{listen: \"{listen}\"}}
  drain: {{timeout: 2s}}
---
apiVersion: raddle.io/v1
kind: Service
metadata: {{name: \"{SERVICE}\"}}
spec:
  app: order
  protocol: bolt
  endpoints:
"
    );
    for e in endpoints {
        // Writing to a String does not fail.
        let _ =
            writeln!(text, "  - {{address: \"{}\", group: {}, weight: {}}}", e.address, e.group, e.weight);
    }
    text.push_str(
        "---
apiVersion: raddle.io/v1
kind: TrafficPolicy
metadata: {name: order}
spec:
  to: {app: order}
  balancer: roundRobin
  timeouts: {connect: 500ms, request: 3s}
  retry: {attempts: 2, on: [connectFailure, overloaded]}
  healthCheck: {kind: bolt, interval: 500ms, timeout: 300ms, unhealthyAfter: 2, healthyAfter: 1}
",
    );
    if canary {
        let _ = write!(
            text,
            "---
apiVersion: raddle.io/v1
kind: Route
metadata: {{name: order-canary}}
spec:
  to: {{services: [\"{SERVICE}\"]}}
  rules:
  - {{name: canary, percent: {CANARY_PERCENT}, send: {{group: canary}}, ifEmpty: next}}
"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use raddle_model::{LoadOptions, Source, load};

    #[test]
    fn every_file_the_demo_writes_has_neither_mistakes_nor_warnings() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let endpoints = [
            Endpoint { address: at(3), group: "default", weight: 80 },
            Endpoint { address: at(4), group: "canary", weight: 100 },
        ];
        let files = [
            order("order-1", "default", at(1), at(2), at(5)),
            shop("shop-1", at(1), at(2), &endpoints, false, 1),
            shop("shop-1", at(1), at(2), &endpoints, true, 2),
        ];
        for text in files {
            let sources = [Source { name: "demo.yaml".into(), text }];
            let (_, warnings) = load(&sources, LoadOptions::default()).unwrap_or_else(|r| panic!("{r}"));
            assert_eq!(warnings, []);
        }
    }
}
