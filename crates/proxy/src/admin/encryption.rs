//! Link encryption as this sidecar sees it.
use super::Context;
use crate::holding::{Held, now_s};
use crate::shared::{Binding, Shared};
use raddle_policy::link::{Effective, Why};
use raddle_telemetry::Direction;
use serde_json::{Value, json};
use std::sync::Arc;

/// Who the sidecar is, what holds on its inbound listeners, and who calls.
pub(crate) async fn view(c: &Context) -> Value {
    let shared = &c.shared;
    let links = shared.links.load_full();
    let config = shared.config.load_full();
    let plan = config.snapshot.link();
    let listeners: Vec<Value> = inbound(&config.bindings).map(|b| listener(shared, b)).collect();
    let callers: Vec<Value> = shared
        .callers()
        .await
        .into_iter()
        .map(|r| {
            json!({
                "app": r.app, "id": r.id, "ip": r.ip, "encrypted": r.encrypted, "requests": r.requests,
                "connections": r.connections, "idle_s": r.idle.as_secs_f64(),
            })
        })
        .collect();
    json!({
        "identity": links.identity.as_ref().map(|i| json!({
            "id": i.id().to_string(), "serial": i.leaf().serial.to_string(), "notAfter": i.not_after(),
            "trustDomain": i.trust().trust_domain(), "roots": i.trust().roots().len(),
        })),
        "certificate": Held::of(links.identity.as_deref(), now_s()).name(),
        "generation": links.generation,
        "rule": plan.rule,
        "settings": plan.settings,
        "listeners": listeners,
        "callers": callers,
    })
}

fn inbound(all: &[Binding]) -> impl Iterator<Item = &Binding> {
    all.iter().filter(|b| b.listener.direction == Direction::Inbound)
}

fn listener(shared: &Shared, b: &Binding) -> Value {
    let now = shared.clock.now();
    let gate = &b.listener.gate;
    let state = gate.state();
    let (since, waits) = match state {
        Effective::Open => (None, None),
        Effective::Waiting { since, why: Why::Callers } => (Some(since), Some("plaintext callers")),
        Effective::Waiting { since, why: Why::NoCertificate } => (Some(since), Some("a certificate")),
        Effective::Strict { since } => (Some(since), None),
    };
    let seen = gate.seen(now);
    let config = shared.config.load();
    json!({
        "listen": b.listener.addr,
        "mode": config.snapshot.link().settings.mode_of(b.listener.addr.port()),
        "state": state.name(),
        "since_s": since.map(|t| now.since(t).as_secs_f64()),
        "waitsFor": waits,
        "plaintextConnections": gate.open(),
        "plaintextSeen_s": (seen > raddle_core::Time::ZERO).then(|| now.since(seen).as_secs_f64()),
    })
}

/// What people should know although the sidecar serves.
pub(crate) fn details(shared: &Arc<Shared>) -> Vec<String> {
    let config = shared.config.load();
    let unserved = inbound(&config.bindings)
        .filter(|b| matches!(b.listener.gate.state(), Effective::Waiting { why: Why::NoCertificate, .. }));
    let rule = config.snapshot.link().rule.as_deref().unwrap_or_default();
    let mut all: Vec<String> = unserved
        .map(|b| {
            let at = b.listener.addr;
            format!("LinkEncryption/{rule} asks for strict at {at}, and there is no valid certificate: plaintext goes on")
        })
        .collect();
    if config.sidecar.identity.is_some() {
        match Held::of(shared.links.load().identity.as_deref(), now_s()) {
            Held::Expiring => all.push("the certificate of spec.identity expires soon".into()),
            Held::Expired => all.push("the certificate of spec.identity has expired: peers refuse it".into()),
            Held::None => all.push("there is no certificate of spec.identity yet".into()),
            Held::Valid => {}
        }
    }
    all
}
