//! What the pages show, gathered from cells, configuration and workers.
use super::{Context, Page};
use crate::admin::pages::parameters;
use crate::conn::{Phase, Role};
use crate::http::HttpConn;
use crate::shared::{Message, Shared};
use crate::worker::Worker;
use hyper::StatusCode;
use raddle_policy::Asked;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a worker has to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most connections listed.
const LIST_MOST: usize = 10_000;

/// Has every worker run `f` between two turns; those that do not answer in time are left out.
pub(crate) async fn ask<T: Send + 'static>(
    shared: &Shared,
    f: impl Fn(&mut Worker) -> T + Clone + Send + 'static,
) -> Vec<T> {
    let mut answers = Vec::new();
    for w in shared.workers() {
        let (tx, rx) = tokio::sync::oneshot::channel();
        let f = f.clone();
        w.tell(Message::Ask(Box::new(move |worker| {
            let _ = tx.send(f(worker));
        })));
        answers.push(rx);
    }
    let mut out = Vec::new();
    for rx in answers {
        if let Ok(Ok(v)) = tokio::time::timeout(PATIENCE, rx).await {
            out.push(v);
        }
    }
    out
}

/// Totals, state, configuration.
pub(crate) fn stats(c: &Context) -> Value {
    let config = c.shared.config.load();
    let totals = c.shared.registry.totals();
    let state = if c.shared.draining.load(Ordering::Acquire) {
        "draining"
    } else if c.shared.ready.load(Ordering::Acquire) {
        "ready"
    } else {
        "starting"
    };
    let listeners: Vec<Value> = config
        .bindings
        .iter()
        .map(|b| {
            json!({
                "direction": b.listener.direction.name(),
                "listen": b.listener.addr,
                "forward": b.local.as_ref().and_then(|s| s.endpoints.first()).map(|e| e.host.addr),
                "protocol": b.protocol.map_or("detect", raddle_core::Protocol::name),
                "service": b.default_service,
                "capture": b.capture.map(raddle_net::original::Mode::name),
            })
        })
        .collect();
    json!({
        "name": config.sidecar.metadata.name,
        "app": config.sidecar.app,
        "unit": config.sidecar.unit,
        "group": config.sidecar.group,
        "version": env!("CARGO_PKG_VERSION"),
        "state": state,
        "uptime_s": totals.uptime_ms as f64 / 1000.0,
        "pid": std::process::id(),
        "workers": c.shared.workers().len(),
        "listeners": listeners,
        "config": c.loader.status(),
        "controlPlane": control_plane(c),
        "totals": totals,
    })
}

/// What there is with the control plane; null without one.
pub(crate) fn control_plane(c: &Context) -> Value {
    let Some(link) = c.shared.mesh.get() else { return Value::Null };
    let view = link.view().clone();
    let s = &view.status;
    let seconds =
        |t: std::time::SystemTime| t.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let refused = s
        .refused
        .iter()
        .map(|r| json!({ "kind": r.kind.name(), "name": r.name, "version": r.version, "reason": r.reason }));
    let versions = s.versions.iter().map(|(kind, all)| (kind.name().to_owned(), json!(all)));
    let running = c.loader.running();
    json!({
        "connected": s.connected,
        "since": s.since.map(seconds),
        "protocol": s.mode,
        "lastError": s.last_error,
        "failures": s.failures,
        "streams": s.streams,
        "awaySince": link.away(),
        "cached": link.cached.load(Ordering::Acquire),
        "versions": versions.collect::<serde_json::Map<_, _>>(),
        "refused": refused.collect::<Vec<_>>(),
        "digest": raddle_xds::digest::digest(running.iter().map(|r| (&*r.rule, &*r.revision))),
        "running": running,
        "hidden": c.loader.hidden(),
        "services": view.names,
        "publication": view.publication,
        "certificate": view.certificate.map(|s| json!({
            "notAfter": s.not_after, "renewals": s.renewals, "failures": s.failures, "problem": s.detail(),
        })),
    })
}

/// The configuration in force. The kinds a sidecar reads today hold no secrets; ones that will are to be
/// redacted here.
pub(crate) fn config(c: &Context) -> Value {
    let config = c.shared.config.load();
    let services: Vec<Value> = config
        .snapshot
        .services()
        .map(|s| {
            json!({
                "name": s.name,
                "app": s.app,
                "protocol": s.protocol.map(raddle_core::Protocol::name),
                "policy": s.policy.name,
                "settings": s.policy.settings,
                "endpoints": s.endpoints.iter().map(|e| json!({
                    "address": e.host.addr, "weight": e.weight, "unit": e.unit, "group": e.group, "labels": *e.labels,
                })).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "status": c.loader.status(), "controlPlane": control_plane(c), "sidecar": *config.sidecar, "services": services })
}

/// What a worker knows of a host.
#[derive(Clone, Default)]
struct HostFacts {
    active: u64,
    connections: u64,
    connecting: u64,
    ewma_ms: Option<f64>,
    requests: u64,
    failures: u64,
    last_error: Option<String>,
    down_ms: Option<u64>,
    encrypted: u64,
    link_error: Option<String>,
}

/// Services, their endpoints and what the workers know of each.
pub(crate) async fn clusters(c: &Context) -> Value {
    let mut facts: HashMap<SocketAddr, HostFacts> = HashMap::new();
    for (addr, f) in ask(&c.shared, host_facts).await.into_iter().flatten() {
        let sum = facts.entry(addr).or_default();
        sum.active += f.active;
        sum.connections += f.connections;
        sum.connecting += f.connecting;
        sum.requests += f.requests;
        sum.failures += f.failures;
        sum.ewma_ms = match (sum.ewma_ms, f.ewma_ms) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        sum.last_error = sum.last_error.take().or(f.last_error);
        sum.down_ms = sum.down_ms.max(f.down_ms);
        sum.encrypted += f.encrypted;
        sum.link_error = sum.link_error.take().or(f.link_error);
    }
    let config = c.shared.config.load();
    let local = config.bindings.iter().filter_map(|b| b.local.as_ref());
    let all = local.chain(config.snapshot.services());
    let list = all.map(|s| {
        let endpoints: Vec<Value> = s
            .endpoints
            .iter()
            .map(|e| {
                let f = facts.get(&e.host.addr).cloned().unwrap_or_default();
                let state = if f.connections > 0 {
                    "connected"
                } else if f.down_ms.is_some() {
                    "down"
                } else if f.connecting > 0 {
                    "connecting"
                } else {
                    "idle"
                };
                json!({
                    "address": e.host.addr,
                    "group": e.group,
                    "unit": e.unit,
                    "weight": e.weight,
                    "labels": *e.labels,
                    "health": e.host.health(),
                    "state": state,
                    "active": f.active,
                    "ewma_ms": f.ewma_ms,
                    "connections": f.connections,
                    "requests": f.requests,
                    "failures": f.failures,
                    "last_error": f.last_error,
                    "retry_in_ms": f.down_ms,
                    "encryption": encryption(e, &f),
                })
            })
            .collect();
        json!({ "service": s.name, "app": s.app, "policy": s.policy.name, "endpoints": endpoints })
    });
    Value::Array(list.collect())
}

/// What connections to an endpoint are wanted to be, and are.
fn encryption(e: &raddle_policy::Endpoint, f: &HostFacts) -> Value {
    let wanted = e.host.transport();
    json!({
        "wanted": wanted.is_some(),
        "required": wanted.as_ref().is_some_and(|t| t.required),
        "whom": wanted.map(|t| crate::secure::whom(&t)),
        "connections": f.encrypted,
        "last_error": f.link_error,
    })
}

fn host_facts(w: &mut Worker) -> Vec<(SocketAddr, HostFacts)> {
    let now = w.now;
    w.hosts
        .iter()
        .map(|(_, h)| {
            let ready = h.conns.iter().filter(|p| p.ready).count() as u64;
            let requests = h.cells.requests.read();
            let tls = |k| w.conns.get(k).is_some_and(|c| c.tls.is_some());
            let facts = HostFacts {
                active: u64::from(h.active),
                connections: ready,
                connecting: h.conns.len() as u64 - ready,
                ewma_ms: (requests > 0).then(|| h.ewma.value(now) / 1e6),
                requests,
                failures: h.cells.failures.read(),
                last_error: h.last_error.clone(),
                down_ms: h.down_until.filter(|t| *t > now).map(|t| t.since(now).as_millis() as u64),
                encrypted: h.conns.iter().filter(|p| p.ready && tls(p.key)).count() as u64,
                link_error: h.link_error.clone(),
            };
            (h.host.addr, facts)
        })
        .collect()
}

/// Open connections.
pub(crate) async fn connections(c: &Context) -> Value {
    let lists = ask(&c.shared, worker_connections).await;
    Value::Array(lists.into_iter().flatten().take(LIST_MOST).collect())
}

fn worker_connections(w: &mut Worker) -> Vec<Value> {
    let now = w.now;
    let ms = |t| now.since(t).as_millis() as u64;
    let list = w.conns.iter().take(LIST_MOST).map(|(_, conn)| {
        let mut v = match &conn.role {
            Role::New(a) => json!({ "kind": "new", "peer": a.peer, "id": a.id, "age_ms": ms(a.since) }),
            Role::Caller(c) => json!({
                "kind": "caller",
                "protocol": c.lane.protocol().name(),
                "direction": c.direction.name(),
                "peer": c.accepted.peer,
                "id": c.accepted.id,
                "age_ms": ms(c.accepted.since),
                "in_flight": c.in_flight,
                "idle_ms": ms(c.active_at),
                "own_connections": c.private,
                "takes_goaway": c.takes_goaway,
                "told_to_go": c.told,
            }),
            Role::Endpoint(e) => json!({
                "kind": "endpoint",
                "protocol": e.lane.protocol().name(),
                "lane": e.lane.to_string(),
                "endpoint": w.hosts.get(e.host).map(|h| h.host.addr),
                "state": match e.phase {
                    Phase::Connecting => "connecting",
                    Phase::Ready => "ready",
                    Phase::Retiring => "retiring",
                },
                "age_ms": ms(e.since),
                "shared": e.owner == raddle_net::Key::NONE,
                "in_flight": e.pending.live(),
                "overdue_replies": e.pending.late(),
                "idle_ms": ms(e.used_at),
            }),
            Role::Http(h) => {
                http_role(h, w.hosts.get(h.host().unwrap_or(raddle_net::Key::NONE)).map(|h| h.host.addr), &ms)
            }
            Role::Relay(r) => json!({
                "kind": if r.accepted.is_some() { "relay caller" } else { "relay endpoint" },
                "protocol": "tcp",
                "direction": r.direction.name(),
                "peer": r.accepted.as_ref().and_then(|a| a.peer),
                "id": r.accepted.as_ref().map(|a| a.id),
                "endpoint": w.hosts.get(r.host).map(|h| h.host.addr),
                "age_ms": ms(r.since),
                "bytes": r.bytes,
            }),
        };
        v["worker"] = json!(w.id);
        v["encrypted"] = json!(conn.tls.is_some());
        v["identity"] = json!(conn.peer().map(|p| p.id.clone()));
        v["unsent_bytes"] = json!(conn.out.len());
        v["waits_because"] = json!(conn.paused.names());
        v["last_read_ms"] = json!(ms(conn.read_at));
        v
    });
    list.collect()
}

/// Where a request would go, and why.
pub(crate) fn explain(c: &Context, query: &str) -> Page {
    let mut asked = match asked(parameters(query)) {
        Ok(asked) => asked,
        Err(wrong) => return Page::text(StatusCode::BAD_REQUEST, wrong + "\n"),
    };
    let config = c.shared.config.load();
    match asked.resolve(&config.snapshot) {
        Some(s) => Page::json(&s.explain(&asked)),
        None => {
            let mut near: Vec<&str> = config.snapshot.services().map(|s| &*s.name).collect();
            near.sort_unstable();
            near.truncate(20);
            let mut p = Page::json(&json!({
                "service": asked.service,
                "outcome": { "flag": "NC", "meaning": raddle_core::Reason::NoCluster.describe() },
                "known": near,
            }));
            p.status = StatusCode::NOT_FOUND;
            p
        }
    }
}

/// A request that is only imagined, of a query's parameters.
///
/// # Errors
/// A sentence: what is wrong with them.
pub(super) fn asked(parameters: impl Iterator<Item = (String, String)>) -> Result<Asked, String> {
    let mut asked = Asked::default();
    for (k, v) in parameters {
        match k.as_str() {
            "service" => asked.service = v,
            "method" => asked.method = Some(v),
            "path" => asked.path = Some(v),
            "authority" => asked.authority = Some(v),
            _ => match k.split_once('.') {
                Some(("header", name)) => asked.headers.push((name.to_owned(), v)),
                Some(("query", name)) => asked.query.push((name.to_owned(), v)),
                _ => {
                    return Err(format!(
                        "unknown parameter {k}; give service, method, header.NAME, path, authority, query.NAME"
                    ));
                }
            },
        }
    }
    if asked.service.is_empty() && asked.authority.is_none() {
        return Err("give ?service=NAME or ?authority=HOST".into());
    }
    Ok(asked)
}

/// What a connection that carries HTTP is doing.
fn http_role(h: &HttpConn, endpoint: Option<SocketAddr>, ms: &dyn Fn(raddle_core::Time) -> u64) -> Value {
    let (protocol, in_flight, since) = match h {
        HttpConn::Down1(d) => ("http", usize::from(d.exchange.is_some()), d.accepted.since),
        HttpConn::Down2(d) => ("http2", d.exchanges.len(), d.accepted.since),
        HttpConn::Up1(u) => ("http", usize::from(u.exchange.is_some()), u.since),
        HttpConn::Up2(u) => ("http2", u.active as usize, u.since),
    };
    let mut v = json!({ "protocol": protocol, "in_flight": in_flight, "age_ms": ms(since) });
    if let Some(a) = h.accepted() {
        v["kind"] = json!("caller");
        v["peer"] = json!(a.peer);
        v["id"] = json!(a.id);
    }
    match h {
        HttpConn::Down1(d) => v["direction"] = json!(d.direction.name()),
        HttpConn::Down2(d) => v["direction"] = json!(d.direction.name()),
        HttpConn::Up1(_) | HttpConn::Up2(_) => {
            v["kind"] = json!("endpoint");
            v["endpoint"] = json!(endpoint);
            v["state"] = json!(match (h.connecting(), h.retiring()) {
                (true, _) => "connecting",
                (false, true) => "retiring",
                (false, false) => "ready",
            });
        }
    }
    v
}
