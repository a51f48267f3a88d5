//! The sidecars (and foreign xDS clients) that are connected: what each runs, refuses and lacks.
use super::http::shape::{Page, answers};
use super::http::{Call, ParamKind, Problem, Reply, Route};
use super::page::{after, page};
use crate::keys::NODES;
use crate::reports::{Differs, drift};
use raddle_xds::server::StreamInfo;
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/sidecars", "listSidecars")
            .says("The sidecars that are connected: what each runs, refuses and lacks.")
            .query("app", ParamKind::Text, "Only this app's.")
            .query(
                "drift",
                ParamKind::Flag,
                "Only those that do not run what they should, or only those that do.",
            )
            .paged()
            .answers::<Page<SidecarAnswer>>(200, "By id.")
            .on(list),
        Route::get("/v1/sidecars/{id}", "getSidecar")
            .says("A sidecar: what it runs, what it should run, what it refuses and lacks.")
            .answers::<SidecarAnswer>(200, "The sidecar.")
            .on(one),
    ]
}

answers! {
    /// A sidecar, or another xDS client.
    pub struct SidecarAnswer {
        /// Instance id.
        pub id: String,
        /// Its app.
        pub app: String,
        /// Its unit; empty = none.
        pub unit: String,
        /// Its group.
        pub group: String,
        /// Its version; empty = none.
        pub version: String,
        /// Where it is, as it says itself.
        pub address: String,
        /// `raddle`, `envoy`, `grpc` or `other`.
        pub software: String,
        /// SPIFFE id of its certificate; null = it came without.
        pub identity: Option<String>,
        /// `sotw` or `delta`; empty = another replica has its stream.
        pub variant: String,
        /// The replica it is connected to.
        pub replica: String,
        /// Connected since, milliseconds since the Unix epoch; 0 = not known here.
        pub since: u64,
        /// What it said last that it runs, milliseconds since the Unix epoch; 0 = it has not yet.
        pub reported: u64,
        /// Rules it runs, by its own word.
        pub running: Vec<RunningAnswer>,
        /// Digest over them, as it reported it.
        pub digest: String,
        /// It does not run what it should.
        pub drift: bool,
        /// Where it differs from what it should run.
        pub differs: Vec<DriftAnswer>,
        /// Resources it refuses, by name.
        pub refused: Vec<RefusedAnswer>,
        /// Services it asked for that nobody publishes.
        pub missing: Vec<String>,
        /// What it subscribed to, by kind of resource.
        pub subscriptions: Vec<SubscriptionAnswer>,
    }

    /// A rule a sidecar runs.
    pub struct RunningAnswer {
        /// `KIND/NAME`.
        pub rule: String,
        /// Hash of the revision.
        pub revision: String,
    }

    /// A rule of which a sidecar runs another revision than it should.
    pub struct DriftAnswer {
        /// `KIND/NAME`.
        pub rule: String,
        /// What it runs; null = nothing.
        pub running: Option<String>,
        /// What it should run; null = nothing.
        pub wanted: Option<String>,
    }

    /// A resource a sidecar refuses.
    pub struct RefusedAnswer {
        /// `rule`, `cluster`, `endpoints`, `listener`, `routes` or `secret`.
        pub kind: String,
        /// Its name.
        pub name: String,
        /// The version it refuses.
        pub version: String,
        /// Why, in its words.
        pub reason: String,
    }

    /// What a client subscribed to of one kind.
    pub struct SubscriptionAnswer {
        /// Kind of resource.
        pub kind: String,
        /// It wants whatever there is.
        pub wildcard: bool,
        /// How many it named.
        pub names: u64,
        /// How many it was sent.
        pub resources: u64,
        /// It has acknowledged all that was sent.
        pub current: bool,
    }
}

async fn list(call: Call) -> Result<Reply, Problem> {
    let (after, app) = (after(&call), call.query.text("app").map(str::to_owned));
    let drift = call.query.text("drift").map(|d| d == "true");
    let all = all(&call).await?;
    let found = all
        .into_iter()
        .filter(|(id, _)| *id > after)
        .filter(|(_, s)| app.as_ref().is_none_or(|app| s.app == *app))
        .filter(|(_, s)| drift.is_none_or(|d| s.drift == d));
    Reply::json(&page(&call, found))
}

async fn one(call: Call) -> Result<Reply, Problem> {
    Reply::json(&find(&call, call.param("id")).await?)
}

/// The sidecar of an id.
///
/// # Errors
/// 404, or the store does not answer.
pub(super) async fn find(call: &Call, id: &str) -> Result<SidecarAnswer, Problem> {
    let none = || Problem::not_found(format!("no sidecar called {id} is connected"));
    all(call).await?.remove(id).ok_or_else(none)
}

/// All of them by id: those with a stream here, and those that any replica has a report of.
pub(super) async fn all(call: &Call) -> Result<BTreeMap<String, SidecarAnswer>, Problem> {
    let parts = &call.state.parts;
    let streams = parts.plane.as_ref().map(|p| p.xds.streams()).unwrap_or_default();
    let mut found: BTreeMap<String, SidecarAnswer> = BTreeMap::new();
    for stream in streams {
        let known = found.get(&stream.node).is_some_and(|other| other.since > stream.since_ms);
        if !known {
            found.insert(stream.node.clone(), of_stream(stream, &parts.replica));
        }
    }
    if let Some(plane) = &parts.plane {
        for status in plane.reports.nodes() {
            let Ok(report) = serde_json::to_value(&*status) else { continue };
            let sidecar = found.entry(status.node.id.clone()).or_default();
            sidecar.id.clone_from(&status.node.id);
            add_report(sidecar, &report);
            sidecar.differs = drift(&plane.discovery, &status).into_iter().map(differs).collect();
            sidecar.drift = !sidecar.differs.is_empty();
        }
        return Ok(found);
    }
    for entry in parts.store.list(NODES).await?.entries {
        let Some(id) = entry.key.strip_prefix(NODES) else { continue };
        let Ok(report) = serde_json::from_slice::<Value>(&entry.value) else { continue };
        let sidecar = found.entry(id.to_owned()).or_default();
        id.clone_into(&mut sidecar.id);
        add_report(sidecar, &report);
    }
    Ok(found)
}

fn differs(differs: Differs) -> DriftAnswer {
    let text = |hash: std::sync::Arc<str>| hash.to_string();
    DriftAnswer {
        rule: differs.rule.to_string(),
        running: differs.running.map(text),
        wanted: differs.wanted.map(text),
    }
}

fn of_stream(s: StreamInfo, replica: &str) -> SidecarAnswer {
    let mut refused = Vec::new();
    let mut subscriptions = Vec::new();
    for kind in s.kinds {
        subscriptions.push(SubscriptionAnswer {
            kind: kind.kind.into(),
            wildcard: kind.wildcard,
            names: kind.names as u64,
            resources: kind.resources as u64,
            current: kind.sent == kind.acked,
        });
        refused.extend(kind.nacked.into_iter().map(|n| RefusedAnswer {
            kind: kind.kind.into(),
            name: n.name,
            version: n.version,
            reason: n.reason,
        }));
    }
    SidecarAnswer {
        id: s.node,
        app: s.app,
        unit: s.unit,
        address: s.address,
        software: s.software.into(),
        identity: s.identity,
        variant: s.variant.into(),
        replica: replica.into(),
        since: s.since_ms,
        refused,
        subscriptions,
        ..SidecarAnswer::default()
    }
}

/// What a report in the store adds.
fn add_report(sidecar: &mut SidecarAnswer, report: &Value) {
    let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
    let node = &report["node"];
    for (field, name) in [
        (&mut sidecar.app, "app"),
        (&mut sidecar.unit, "unit"),
        (&mut sidecar.group, "group"),
        (&mut sidecar.version, "version"),
        (&mut sidecar.address, "address"),
    ] {
        let said = text(&node[name]);
        if !said.is_empty() {
            *field = said;
        }
    }
    if sidecar.software.is_empty() {
        sidecar.software = "raddle".into();
    }
    if sidecar.replica.is_empty() {
        sidecar.replica = text(&report["replica"]);
    }
    sidecar.digest = text(&report["digest"]);
    if sidecar.since == 0 {
        sidecar.since = report["connectedSince"].as_u64().unwrap_or(0);
    }
    sidecar.reported = report["at"].as_u64().unwrap_or(0);
    for r in report["refused"].as_array().into_iter().flatten() {
        let kind =
            raddle_xds::types::Kind::of(&text(&r["typeUrl"])).map_or("", raddle_xds::types::Kind::name);
        let (name, version, reason) = (text(&r["name"]), text(&r["version"]), text(&r["reason"]));
        if !sidecar.refused.iter().any(|known| known.name == name && known.kind == kind) {
            sidecar.refused.push(RefusedAnswer { kind: kind.into(), name, version, reason });
        }
    }
    sidecar.missing = report["missing"].as_array().into_iter().flatten().map(&text).collect();
    let running = report["running"].as_array().into_iter().flatten();
    sidecar.running =
        running.map(|r| RunningAnswer { rule: text(&r["rule"]), revision: text(&r["revision"]) }).collect();
}
