//! What holds requests back here, in the words of the control plane's `/v1/apps/{app}/limits`: so that one command
//! tells the same story of either.
use super::pages::parameters;
use super::views;
use super::{Context, Page};
use crate::limits::asked::{Imagined, explain as explain_imagined};
use crate::mesh::limits::limiting;
use hyper::StatusCode;
use raddle_model::Side;
use raddle_xds::proto::{LimitActivation, LimitCulprit};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// The story, with the last seconds, which only the sidecar knows.
pub(crate) fn explain(c: &Context) -> Page {
    let shared = &c.shared;
    let l = limiting(shared);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let config = shared.config.load();
    let counts = || -> Vec<Value> {
        l.counts.iter().map(|c| json!({"rule": c.rule, "held": c.held, "observed": c.observed})).collect()
    };
    let view = shared.limits.load_full().and_then(|limiting| limiting.view.load_full());
    let rules = |l: &raddle_policy::limit::Rules| -> Vec<String> {
        let adaptive = l.adaptive.iter().map(|r| format!("AdaptiveLimit/{}", r.metadata.name));
        let rates = l.rates.iter().map(|r| format!("RateLimit/{}", r.metadata.name));
        let breakers = l.breakers.iter().map(|r| format!("CircuitBreaker/{}", r.metadata.name));
        adaptive.chain(rates).chain(breakers).collect()
    };
    let rules: Vec<Value> = rules(config.snapshot.limits())
        .into_iter()
        .map(|rule| json!({"rule": rule, "revision": null, "candidate": null, "percent": null, "running": 1}))
        .collect();
    Page::json(&json!({
        "app": config.sidecar.app,
        "rules": rules,
        "holding": u32::from(l.tier > 0),
        "counts": counts(),
        "sidecars": [{
            "id": config.sidecar.metadata.name,
            "address": config.sidecar.address,
            "reported": u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            "rule": l.rule,
            "mode": l.mode,
            "tier": l.tier,
            "since": l.since_ms,
            "signal": l.signal,
            "sensing": l.sensing,
            "cpu": l.cpu,
            "threshold": l.threshold,
            "cores": l.cores,
            "memory": l.memory,
            "queue": l.queue_s,
            "culprits": l.culprits.iter().map(culprit).collect::<Vec<_>>(),
            "times": l.activations.iter().map(time).collect::<Vec<_>>(),
            "counts": counts(),
            "history": view.as_ref().map(|v| &v.history),
            "top": view.as_ref().map(|v| &v.top),
        }],
    }))
}

fn culprit(c: &LimitCulprit) -> Value {
    json!({"name": c.name, "offered": c.offered, "limit": c.limit, "baseline": c.baseline, "demand": c.demand,
           "costMs": c.cost_ms, "rise": c.rise, "dearer": c.dearer})
}

fn time(a: &LimitActivation) -> Value {
    json!({"number": a.number, "began": a.began_ms, "ended": a.ended_ms, "cause": a.cause, "end": a.end,
           "peakCpu": a.peak_cpu, "peakQueue": a.peak_queue_s, "refused": a.refused, "observed": a.observed,
           "culprits": a.culprits.iter().map(culprit).collect::<Vec<_>>()})
}

/// What each limit would say to a request that is only imagined. Nothing is counted.
pub(crate) fn explain_request(c: &Context, query: &str) -> Page {
    let (own, request): (Vec<_>, Vec<_>) =
        parameters(query).partition(|(name, _)| matches!(name.as_str(), "side" | "callerIp"));
    let bad = |why: String| Page::text(StatusCode::BAD_REQUEST, why + "\n");
    let mut asked = match views::asked(request.into_iter()) {
        Ok(asked) => asked,
        Err(wrong) => return bad(wrong),
    };
    let mut side = Side::Inbound;
    for (name, value) in own {
        match (name.as_str(), value.as_str(), value.parse()) {
            ("side", "inbound", _) => side = Side::Inbound,
            ("side", "outbound", _) => side = Side::Outbound,
            ("callerIp", _, Ok(ip)) => asked.caller_ip = Some(ip),
            _ => {
                return bad(format!(
                    "{name}: {value} is not known here; side: inbound or outbound, callerIp: an address"
                ));
            }
        }
    }
    Page::json(&explain_imagined(&c.shared, &Imagined::new(side, asked)))
}
