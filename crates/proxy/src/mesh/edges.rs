//! Who calls this app and how its inbound side is encrypted, as the control plane is told.
use super::thread::Parts;
use crate::links::CallerRow;
use crate::shared::Config;
use raddle_core::Time;
use raddle_model::LinkMode;
use raddle_telemetry::Direction;
use raddle_xds::proto::{Edge, Encryption};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

/// Callers in a report: those with the most requests.
const MOST: usize = 1000;

type Key = (Box<str>, Option<IpAddr>, bool);

/// The counts of the last report.
#[derive(Default)]
pub(crate) struct Tally(HashMap<Key, u64>);

impl Tally {
    /// What came since the last call. Callers without a connection that did nothing since are not repeated.
    pub(crate) fn since_last(&mut self, rows: &[CallerRow]) -> Vec<Edge> {
        let mut now = HashMap::with_capacity(rows.len());
        let mut edges = Vec::with_capacity(rows.len().min(MOST));
        for row in rows {
            let key = (row.app.clone(), row.ip, row.encrypted);
            let before = self.0.get(&key).copied();
            // A row that was begun anew counts from nothing.
            let requests = row.requests.checked_sub(before.unwrap_or(0)).unwrap_or(row.requests);
            now.insert(key, row.requests);
            if before.is_some() && requests == 0 && row.connections == 0 {
                continue;
            }
            edges.push(Edge {
                caller: row.app.to_string(),
                address: row.ip.map(|ip| ip.to_string()).unwrap_or_default(),
                encrypted: row.encrypted,
                requests,
                connections: row.connections,
                idle_s: u32::try_from(row.idle.as_secs()).unwrap_or(u32::MAX),
                id: row.id.as_deref().unwrap_or_default().to_owned(),
            });
        }
        self.0 = now;
        edges.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.caller.cmp(&b.caller)));
        edges.truncate(MOST);
        edges
    }
}

/// How the inbound side is encrypted, without the counts of connections.
pub(crate) fn encryption(parts: &Parts) -> Encryption {
    let config = parts.shared.config.load();
    let plan = config.snapshot.link();
    let links = parts.shared.links.load();
    let held = parts.link.holds_certificate.load(Ordering::Acquire);
    let ends = links.identity.as_ref().map_or(0, |i| u64::try_from(i.not_after()).unwrap_or(0));
    let asked = plan.settings.mode;
    let (effective, waits) = match asked {
        LinkMode::Disable => (LinkMode::Disable, String::new()),
        LinkMode::Strict => match gates(parts, &config) {
            (true, _) => (LinkMode::Strict, String::new()),
            (false, _) if !held => (LinkMode::Disable, no_certificate(parts, ends > 0)),
            (false, waits) => (LinkMode::Permissive, waits),
        },
        LinkMode::Permissive if !held => (LinkMode::Disable, no_certificate(parts, ends > 0)),
        LinkMode::Permissive => (LinkMode::Permissive, String::new()),
    };
    Encryption {
        rule: plan.rule.as_deref().unwrap_or_default().to_owned(),
        mode: asked.name().to_owned(),
        effective: effective.name().to_owned(),
        waits,
        certificate_ends: if held { ends } else { 0 },
        ..Encryption::default()
    }
}

/// Whether all inbound listeners that shall be strict are, and what the others wait for.
fn gates(parts: &Parts, config: &Config) -> (bool, String) {
    let plan = config.snapshot.link();
    let now = parts.shared.clock.now();
    let demanded = config.bindings.iter().filter(|b| {
        let port = b.listener.addr.port();
        b.listener.direction == Direction::Inbound && plan.settings.mode_of(port) == LinkMode::Strict
    });
    let waiting = demanded.filter(|b| b.listener.gate.state().strict().is_none());
    let mut sentences = waiting.map(|b| {
        let gate = &b.listener.gate;
        let seen = match (gate.open(), gate.seen(now)) {
            (0, Time::ZERO) => "none has been seen so far".to_owned(),
            (0, at) => format!("the last one was seen {} s ago", now.since(at).as_secs()),
            (1, _) => "1 plaintext connection is open".to_owned(),
            (n, _) => format!("{n} plaintext connections are open"),
        };
        let quiet = plan.settings.quiet;
        format!(
            "strict waits at {} until no plaintext caller was seen for {quiet:?}: {seen}",
            b.listener.addr
        )
    });
    match sentences.next() {
        None => (true, String::new()),
        Some(first) => (false, first),
    }
}

/// Why there is no certificate, as far as is known.
fn no_certificate(parts: &Parts, expired: bool) -> String {
    let what = if expired { "its certificate has expired" } else { "it holds no certificate" };
    let why = match &parts.agent {
        Some(agent) => agent.status().borrow().error.clone(),
        None if parts.shared.config.load().sidecar.identity.is_some() => {
            Some("spec.identity has brought none yet".to_owned())
        }
        None => Some(
            "its sidecar has nowhere to get one from: give it spec.identity, or a control plane over TLS and a token"
                .to_owned(),
        ),
    };
    why.map_or_else(|| format!("{what} yet"), |why| format!("{what}: {why}"))
}

/// Connections now: encrypted and in plaintext.
pub(crate) fn connections(rows: &[CallerRow]) -> (u32, u32) {
    let sum = |encrypted| rows.iter().filter(|r| r.encrypted == encrypted).map(|r| r.connections).sum();
    (sum(true), sum(false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn row(app: &str, encrypted: bool, requests: u64, connections: u32) -> CallerRow {
        let idle = Duration::from_secs(3);
        let ip = Some([10, 0, 0, 1].into());
        CallerRow { app: app.into(), id: None, ip, encrypted, requests, connections, idle }
    }

    #[test]
    fn requests_are_those_since_the_last_report() {
        let mut tally = Tally::default();
        let first = tally.since_last(&[row("order", false, 10, 1), row("risk", true, 4, 1)]);
        assert_eq!((first[0].caller.as_str(), first[0].requests), ("order", 10));
        assert_eq!((first[0].address.as_str(), first[0].idle_s), ("10.0.0.1", 3));
        let next = tally.since_last(&[row("order", false, 12, 1), row("risk", true, 9, 1)]);
        let counts: Vec<_> = next.iter().map(|e| (e.caller.as_str(), e.requests)).collect();
        assert_eq!(counts, [("risk", 5), ("order", 2)], "the busiest first");
    }

    #[test]
    fn who_is_gone_is_told_of_once() {
        let mut tally = Tally::default();
        assert_eq!(tally.since_last(&[row("order", false, 10, 1)]).len(), 1);
        assert_eq!(tally.since_last(&[row("order", false, 11, 0)])[0].requests, 1);
        assert!(tally.since_last(&[row("order", false, 11, 0)]).is_empty());
        assert_eq!(tally.since_last(&[row("order", false, 1, 1)])[0].requests, 1, "begun anew");
    }

    #[test]
    fn connections_are_summed_by_what_they_are() {
        let rows = [row("a", true, 1, 2), row("b", false, 1, 3), row("c", true, 1, 4)];
        assert_eq!(connections(&rows), (6, 3));
    }
}
