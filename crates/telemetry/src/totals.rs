//! The same numbers as the metrics, as one value: for `/stats`, `raddle status` and the demo.
use crate::cell::{Counter, Gauge, Per, Snapshot};
use crate::cells::{HostCells, ServiceCells};
use crate::labels::{Direction, DropCause, Malformed, WriteError};
use crate::registry::{Registry, Shard};
use crate::table::Entry;
use raddle_core::Reason;
use serde::Serialize;
use std::collections::BTreeMap;

/// What a process did since it started, and has in hand now.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Totals {
    /// Whole milliseconds since the registry was made.
    pub uptime_ms: u64,
    /// Worker threads.
    pub workers: usize,
    /// The newest configuration generation that every worker runs.
    pub config_generation: i64,
    /// Connections.
    pub connections: Connections,
    /// Bytes read and written.
    pub bytes: Bytes,
    /// Requests of callers to the local app.
    pub inbound: Requests,
    /// Requests of the local app.
    pub outbound: Requests,
    /// Requests sent again after a failure.
    pub retries: u64,
    /// Replies that came after their request was over.
    pub late_replies: u64,
    /// Malformed frames of callers, by what was wrong; only what happened.
    pub caller_malformed: BTreeMap<&'static str, u64>,
    /// Malformed frames of endpoints, by what was wrong; only what happened.
    pub upstream_malformed: BTreeMap<&'static str, u64>,
    /// Bytes waiting in out-buffers.
    pub buffered_bytes: i64,
    /// Connections not read from because a buffer behind them is full.
    pub paused_connections: i64,
    /// The access log.
    pub access_log: AccessLogTotals,
    /// By service, in the order of direction and name.
    pub services: Vec<ServiceTotals>,
    /// By endpoint, in the order of address; `other` first.
    pub endpoints: Vec<EndpointTotals>,
}

/// Connections of both sides.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Connections {
    /// Accepted from callers.
    pub accepted: u64,
    /// Failed accepts.
    pub accept_errors: u64,
    /// Open connections of callers.
    pub callers_active: i64,
    /// Made to endpoints.
    pub upstream_opened: u64,
    /// That could not be made.
    pub upstream_failed: u64,
    /// Open connections to endpoints.
    pub upstream_active: i64,
    /// Taken out of use without cutting a request.
    pub upstream_retired: u64,
}

/// Bytes of both sides.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Bytes {
    /// Read from callers.
    pub caller_in: u64,
    /// Written to callers.
    pub caller_out: u64,
    /// Read from endpoints.
    pub upstream_in: u64,
    /// Written to endpoints.
    pub upstream_out: u64,
}

/// Requests and what became of them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Requests {
    /// All that are over, rejected ones included.
    pub total: u64,
    /// Served.
    pub ok: u64,
    /// Answered with the callee's own failure status.
    pub app_error: u64,
    /// Answered by the sidecar, by flag; only what happened.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Forwarded without a reply expected.
    pub one_way: u64,
    /// Waiting for their reply.
    pub in_flight: i64,
    /// Durations.
    pub latency: Latency,
}

/// Durations in milliseconds, within 6 %; none if nothing was recorded.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Latency {
    /// How many were recorded.
    pub count: u64,
    /// The mean.
    pub mean_ms: Option<f64>,
    /// The median.
    pub p50_ms: Option<f64>,
    /// 90 % are not over it.
    pub p90_ms: Option<f64>,
    /// 99 % are not over it.
    pub p99_ms: Option<f64>,
    /// 99.9 % are not over it.
    pub p999_ms: Option<f64>,
}

/// What became of a service's requests.
#[derive(Clone, Debug, Serialize)]
pub struct ServiceTotals {
    /// `inbound` or `outbound`.
    pub direction: &'static str,
    /// The service's name, or `other`.
    pub service: String,
    /// Its requests.
    #[serde(flatten)]
    pub requests: Requests,
}

/// What an endpoint was sent.
#[derive(Clone, Debug, Serialize)]
pub struct EndpointTotals {
    /// Its address, or `other`.
    pub endpoint: String,
    /// Sent, retries included.
    pub requests: u64,
    /// Not served.
    pub failures: u64,
    /// In its hands.
    pub in_flight: i64,
    /// Open connections.
    pub connections: i64,
}

/// What became of access-log lines.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AccessLogTotals {
    /// Given to the log.
    pub lines: u64,
    /// Lost, by cause; only what happened.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Failed writes, by kind; only what happened.
    pub write_errors: BTreeMap<&'static str, u64>,
}

impl From<&Snapshot> for Latency {
    fn from(s: &Snapshot) -> Latency {
        let ms = |ns: Option<u64>| ns.map(|ns| ns as f64 / 1e6);
        Latency {
            count: s.count(),
            mean_ms: ms(s.mean()),
            p50_ms: ms(s.quantile(0.5)),
            p90_ms: ms(s.quantile(0.9)),
            p99_ms: ms(s.quantile(0.99)),
            p999_ms: ms(s.quantile(0.999)),
        }
    }
}

/// Requests being added up, with the durations not yet condensed.
#[derive(Default)]
struct Adding {
    requests: Requests,
    latency: Snapshot,
}

impl Adding {
    fn add(&mut self, cells: &ServiceCells) {
        let r = &mut self.requests;
        r.ok += cells.ok.read();
        r.app_error += cells.app_error.read();
        r.one_way += cells.one_way.read();
        r.in_flight += cells.in_flight.read();
        add_per(&mut r.rejected, &cells.rejected, Reason::flag);
        self.latency.merge(&cells.latency.snapshot());
    }

    fn done(mut self) -> Requests {
        self.requests.latency = Latency::from(&self.latency);
        self.requests.total =
            self.requests.ok + self.requests.app_error + self.requests.rejected.values().sum::<u64>();
        self.requests
    }
}

fn add_per<K: crate::cell::Label, const N: usize>(
    to: &mut BTreeMap<&'static str, u64>,
    from: &Per<K, N>,
    name: fn(K) -> &'static str,
) {
    for (key, counter) in from.iter() {
        let value = counter.read();
        if value != 0 {
            *to.entry(name(key)).or_default() += value;
        }
    }
}

impl Registry {
    /// Everything added up over all workers.
    pub fn totals(&self) -> Totals {
        let sum = |of: fn(&Shard) -> &Counter| self.shards.iter().map(|s| of(s).read()).sum();
        let level = |of: fn(&Shard) -> &Gauge| self.shards.iter().map(|s| of(s).read()).sum();
        let mut totals = Totals {
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            workers: self.workers(),
            config_generation: self.shards.iter().map(|s| s.config_generation.read()).min().unwrap_or(0),
            connections: Connections {
                accepted: self.shards.iter().map(|s| s.accepted.total()).sum(),
                accept_errors: self.shards.iter().map(|s| s.accept_errors.total()).sum(),
                callers_active: level(|s| &s.callers_active),
                upstream_opened: sum(|s| &s.upstream_opened),
                upstream_failed: self.shards.iter().map(|s| s.upstream_failed.total()).sum(),
                upstream_active: level(|s| &s.upstream_active),
                upstream_retired: sum(|s| &s.upstream_retired),
            },
            bytes: Bytes {
                caller_in: sum(|s| &s.caller_bytes_in),
                caller_out: sum(|s| &s.caller_bytes_out),
                upstream_in: sum(|s| &s.upstream_bytes_in),
                upstream_out: sum(|s| &s.upstream_bytes_out),
            },
            retries: sum(|s| &s.retries),
            late_replies: sum(|s| &s.late_replies),
            buffered_bytes: level(|s| &s.buffered_bytes),
            paused_connections: level(|s| &s.paused_connections),
            ..Totals::default()
        };
        for shard in &self.shards {
            add_per(&mut totals.caller_malformed, &shard.caller_malformed, Malformed::name);
            add_per(&mut totals.upstream_malformed, &shard.upstream_malformed, Malformed::name);
        }
        for cells in self.log_cells() {
            totals.access_log.lines += cells.lines.read();
            add_per(&mut totals.access_log.dropped, &cells.dropped, DropCause::name);
            add_per(&mut totals.access_log.write_errors, &cells.write_errors, WriteError::name);
        }
        self.add_services(&mut totals);
        self.add_endpoints(&mut totals);
        totals
    }

    fn add_services(&self, totals: &mut Totals) {
        let mut entries = self.tables.services.entries();
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        let (mut inbound, mut outbound) = (Adding::default(), Adding::default());
        for (name, entry) in entries {
            let mut one = Adding::default();
            let all = match name.direction {
                Direction::Inbound => &mut inbound,
                Direction::Outbound => &mut outbound,
            };
            for cells in entry.resolved() {
                one.add(cells);
                all.add(cells);
            }
            let requests = one.done();
            let (direction, service) = (name.direction.name(), name.service.to_string());
            totals.services.push(ServiceTotals { direction, service, requests });
        }
        (totals.inbound, totals.outbound) = (inbound.done(), outbound.done());
    }

    fn add_endpoints(&self, totals: &mut Totals) {
        let mut entries = self.tables.hosts.entries();
        entries.sort_by_key(|(address, _)| *address);
        totals.endpoints = entries
            .iter()
            .map(|(address, entry)| {
                let name = address.map_or_else(|| crate::table::OTHER.to_owned(), |a| a.to_string());
                endpoint(name, entry)
            })
            .collect();
    }
}

fn endpoint(endpoint: String, entry: &Entry<HostCells>) -> EndpointTotals {
    let sum = |of: fn(&HostCells) -> u64| entry.resolved().map(of).sum();
    let level = |of: fn(&HostCells) -> i64| entry.resolved().map(of).sum();
    EndpointTotals {
        endpoint,
        requests: sum(|c| c.requests.read()),
        failures: sum(|c| c.failures.read()),
        in_flight: level(|c| c.active.read()),
        connections: level(|c| c.connections.read()),
    }
}
