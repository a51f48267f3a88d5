//! The metrics reference, made from the list of metrics itself.
use crate::cell::Label;
use crate::cells::{
    AdaptiveCells, BreakerCells, Family, HostCells, LimitCells, LinkCells, LogCells, MeshCells, RuleCells,
    ServiceCells, WorkerCells,
};
use crate::labels::{AcceptError, ConnectError, DropCause, LinkFailure, Malformed, WriteError};
use crate::{process, registry};
use raddle_core::Reason;
use std::collections::BTreeSet;

/// Every metric in the order of the exposition; a family of several constant labels comes several times.
fn families() -> impl Iterator<Item = &'static Family> {
    [&registry::BUILD_INFO, &registry::WORKERS]
        .into_iter()
        .chain(&process::FAMILIES)
        .chain(WorkerCells::FAMILIES)
        .chain(LogCells::FAMILIES)
        .chain(MeshCells::FAMILIES)
        .chain(LinkCells::FAMILIES)
        .chain(AdaptiveCells::FAMILIES)
        .chain(ServiceCells::FAMILIES)
        .chain(HostCells::FAMILIES)
        .chain(RuleCells::FAMILIES)
        .chain(LimitCells::FAMILIES)
        .chain(BreakerCells::FAMILIES)
}

/// Labels that all series of a family of services or endpoints carry.
fn name_labels(family: &Family) -> &'static [&'static str] {
    if ServiceCells::FAMILIES.iter().any(|f| f.name == family.name) {
        &["direction", "service"]
    } else if HostCells::FAMILIES.iter().any(|f| f.name == family.name) {
        &["endpoint"]
    } else if [RuleCells::FAMILIES, LimitCells::FAMILIES, BreakerCells::FAMILIES]
        .iter()
        .any(|all| all.iter().any(|f| f.name == family.name))
    {
        &["rule"]
    } else {
        &[]
    }
}

/// The keys in a text like `side="caller",kind="x"`.
fn keys(constant: &'static str) -> impl Iterator<Item = &'static str> {
    constant.split(',').filter_map(|pair| pair.split_once('=')).map(|(key, _)| key)
}

/// `docs/reference/metrics.md`, whole.
pub fn metrics_markdown() -> String {
    let mut out = String::from(HEAD);
    let mut done = BTreeSet::new();
    for family in families() {
        if !done.insert(family.name) {
            continue;
        }
        let mut labels: Vec<&str> = name_labels(family).to_vec();
        for same in families().filter(|f| f.name == family.name) {
            for key in keys(same.constant).chain([same.label]) {
                if !key.is_empty() && !labels.contains(&key) {
                    labels.push(key);
                }
            }
        }
        let labels: Vec<_> = labels.iter().map(|l| format!("`{l}`")).collect();
        let (name, kind, unit, help) = (family.name, family.kind.name(), family.unit, family.help);
        out.push_str(&format!("| `{name}` | {kind} | {} | {unit} | {help} |\n", labels.join(", ")));
    }
    out.push_str(VALUES);
    out.push_str("| `direction` | `inbound` | To the app beside the sidecar. |\n");
    out.push_str("| | `outbound` | From the app beside the sidecar. |\n");
    out.push_str("| `side` | `caller` | Connections that were accepted. |\n");
    out.push_str("| | `upstream` | Connections the sidecar made, to endpoints or the local app. |\n");
    out.push_str("| `outcome` | `ok` | Served. |\n");
    out.push_str("| | `app_error` | Answered with the callee's own failure status. |\n");
    out.push_str("| | `rejected` | Answered by the sidecar, for the `reason`. |\n");
    out.push_str("| `service` | a name, or `other` | At most 200 bytes of it. |\n");
    out.push_str("| `endpoint` | `ip:port`, or `other` | Where requests are sent. |\n");
    out.push_str("| `rule` | a name, or `other` | At most 200 bytes of it. |\n");
    values(&mut out, "`kind` of accept errors", AcceptError::ALL, AcceptError::describe);
    values(&mut out, "`kind` of connect failures", ConnectError::ALL, ConnectError::describe);
    values(&mut out, "`cause` of links", LinkFailure::ALL, LinkFailure::describe);
    values(&mut out, "`kind` of write errors", WriteError::ALL, WriteError::describe);
    values(&mut out, "`cause` of dropped lines", DropCause::ALL, DropCause::describe);
    values(&mut out, "`reason` of malformed frames", Malformed::ALL, Malformed::describe);
    values(&mut out, "`reason` of requests", &Reason::ALL, Reason::describe);
    out
}

fn values<K: Label>(out: &mut String, label: &str, all: &[K], describe: fn(K) -> &'static str) {
    for (i, value) in all.iter().enumerate() {
        let label = if i == 0 { label } else { "" };
        out.push_str(&format!("| {label} | `{}` | {} |\n", value.name(), describe(*value)));
    }
}

const HEAD: &str = "# Metrics

<!-- Made from crates/telemetry/src/cells.rs: change it there, then run
     RADDLE_BLESS=1 cargo test -p raddle-telemetry --test reference -->

The sidecar serves these at `/metrics` of its admin port, in the Prometheus text format 0.0.4. Counters
start at 0 with the process. Each worker counts for itself; a scrape adds up.

The number of series is bounded: 2,000 pairs of direction and service, 5,000 endpoints, 1,000 rules of
authorization and 1,000 limits and breakers have series of their own, all others share the name `other`. A service, endpoint or rule that is no longer in use
may give its place to a new one once the bound is reached; its counts then go on in `other`. Rejections are shown for
the reasons that occurred.

`raddle_request_duration_seconds` has 15 finite bounds from 50 µs to 10 s. Inside, durations are kept in
252 buckets from 1 µs to 55 min, from which the quantiles of `/stats` are taken; both are exact to 6 %.

| name | type | labels | unit | meaning |
|---|---|---|---|---|
";

const VALUES: &str = "
## Label values

| label | value | meaning |
|---|---|---|
";
