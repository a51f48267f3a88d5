//! A sidecar's state for people.
use super::answer::{Cluster, Endpoint, Requests, Stats, text};
use crate::output::Paint;
use crate::table::Table;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The whole text; `since` is the look before this one and how long ago it was, for rates.
pub(super) fn human(
    stats: &Stats,
    clusters: &[Cluster],
    since: Option<(Duration, &Stats)>,
    paint: Paint,
) -> String {
    let mut out = head(stats, paint);
    out.push_str(&format!("\n{}\n", paint.bold("Requests")));
    let mut table =
        Table::new(&["", ">total", ">per s", ">ok", ">app error", ">in flight", "p50", "p99", "failed"]);
    let rows = [
        ("inbound", &stats.totals.inbound, since.map(|(t, s)| (t, &s.totals.inbound))),
        ("outbound", &stats.totals.outbound, since.map(|(t, s)| (t, &s.totals.outbound))),
    ];
    for (name, requests, before) in rows {
        let mut cells = vec![name.to_owned()];
        cells.extend(counts(requests, before, paint));
        table.row(cells);
    }
    for service in &stats.totals.services {
        let same =
            |s: &&super::answer::Service| s.service == service.service && s.direction == service.direction;
        let before =
            since.and_then(|(t, s)| Some((t, s.totals.services.iter().find(same).map(|s| &s.requests)?)));
        let arrow = if service.direction == "inbound" { "→ app" } else { "→" };
        let mut cells = vec![format!("  {arrow} {}", service.service)];
        cells.extend(counts(&service.requests, before, paint));
        table.row(cells);
    }
    out.push_str(&table.render(|head| paint.dim(head)));
    others(stats, paint, &mut out);
    for cluster in clusters {
        let policy = cluster.policy.as_ref().map_or(String::new(), |p| format!(", TrafficPolicy {p}"));
        out.push_str(&format!("\n{}, app {}{policy}\n", paint.bold(&cluster.service), cluster.app));
        out.push_str(&endpoints(&cluster.endpoints, paint));
    }
    out
}

fn head(stats: &Stats, paint: Paint) -> String {
    let state = match stats.state.as_str() {
        "ready" => paint.good("ready"),
        other => paint.warn(other),
    };
    let uptime = uptime(Duration::from_secs_f64(stats.uptime_s.clamp(0.0, 1e12)));
    let mut out = format!("{} (app {}): {state}, up {uptime}\n", paint.bold(&stats.name), stats.app);
    let workers = if stats.workers == 1 { "worker" } else { "workers" };
    out.push_str(&format!("  raddle {}, pid {}, {} {workers}\n", stats.version, stats.pid, stats.workers));
    let config = &stats.config;
    let mut line = format!("  configuration {}", config.generation);
    if !config.revision.is_empty() {
        line.push_str(&format!(", revision {}", config.revision));
    }
    if let Some(age) = age(config.loaded_at) {
        line.push_str(&format!(", loaded {age} ago"));
    }
    if !config.files.is_empty() {
        line.push_str(&format!(", from {}", config.files.join(", ")));
    }
    out.push_str(&format!("{line}\n"));
    if config.refused > 0 {
        let text = format!("  {} configurations refused; the one before stayed", config.refused);
        out.push_str(&format!("{}\n", paint.bad(text)));
    }
    for mistake in &config.mistakes {
        out.push_str(&format!("    {mistake}\n"));
    }
    for l in &stats.listeners {
        let to = match (&l.forward, &l.service) {
            (Some(forward), _) => format!(" → app at {forward}"),
            (None, Some(service)) => format!(" → {service}"),
            (None, None) => String::new(),
        };
        let protocol = match l.protocol.as_deref() {
            None | Some("detect") => "protocol detected",
            Some(name) => name,
        };
        out.push_str(&format!("  {:8} {}{to} ({protocol})\n", l.direction, l.listen));
    }
    out
}

fn counts(now: &Requests, before: Option<(Duration, &Requests)>, paint: Paint) -> Vec<String> {
    let per_second = before.map_or("-".to_owned(), |(time, before)| {
        let n = now.total.saturating_sub(before.total);
        format!("{:.0}", n as f64 / time.as_secs_f64().max(1e-3))
    });
    let ms = |ms: Option<f64>| ms.map_or("-".to_owned(), |ms| format!("{ms:.2} ms"));
    let failed = by_kind(&now.rejected);
    vec![
        now.total.to_string(),
        per_second,
        now.ok.to_string(),
        now.app_error.to_string(),
        now.in_flight.to_string(),
        ms(now.latency.p50_ms),
        ms(now.latency.p99_ms),
        if failed.is_empty() { "-".to_owned() } else { paint.bad(failed) },
    ]
}

/// What is worth a line only if it happened, and connections.
fn others(stats: &Stats, paint: Paint, out: &mut String) {
    let totals = &stats.totals;
    let c = &totals.connections;
    out.push_str(&format!(
        "\n{}\n  callers {} open, {} accepted; endpoints {} open, {} made, {} failed\n",
        paint.bold("Connections"),
        c.callers_active,
        c.accepted,
        c.upstream_active,
        c.upstream_opened,
        c.upstream_failed
    ));
    let one_ways = totals.inbound.one_way + totals.outbound.one_way;
    let notes = [
        (one_ways, "one-way requests"),
        (totals.retries, "retries"),
        (totals.late_replies, "replies after their request was over"),
        (totals.buffered_bytes.max(0) as u64, "bytes waiting in buffers"),
        (totals.paused_connections.max(0) as u64, "connections held back"),
    ];
    let notes: Vec<_> = notes.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if !notes.is_empty() {
        out.push_str(&format!("  {}\n", notes.join(", ")));
    }
    for (side, kinds) in [("callers", &totals.caller_malformed), ("endpoints", &totals.upstream_malformed)] {
        if !kinds.is_empty() {
            let line = format!("malformed frames of {side}: {}", by_kind(kinds));
            out.push_str(&format!("  {}\n", paint.bad(line)));
        }
    }
}

/// One line of limits, if they hold something now or held something.
pub(super) fn limits(stats: &Stats, told: &Value, admin: SocketAddr, paint: Paint) -> String {
    let holding: Vec<&Value> = told["sidecars"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|s| s["tier"].as_u64().unwrap_or(0) > 0 || s["since"].as_u64().unwrap_or(0) > 0)
        .collect();
    let would = holding.first().is_some_and(|s| text(&s["mode"]) == "observe");
    let mut held = BTreeMap::new();
    for requests in [&stats.totals.inbound, &stats.totals.outbound] {
        for flag in ["AL", "RL", "HL", "CL", "CB"] {
            *held.entry(flag.to_owned()).or_default() += requests.rejected.get(flag).unwrap_or(&0);
        }
    }
    held.retain(|_, n| *n > 0);
    let mut parts = Vec::new();
    if !holding.is_empty() {
        let what = if would {
            "adaptive limiting would hold requests now"
        } else {
            "adaptive limiting holds requests now"
        };
        parts.push(paint.warn(what));
    }
    if !held.is_empty() {
        parts.push(format!("refused since the start: {}", by_kind(&held)));
    }
    if parts.is_empty() {
        return String::new();
    }
    format!("\n{}\n  {}; why: raddle explain limit --admin {admin}\n", paint.bold("Limits"), parts.join("; "))
}

fn by_kind(kinds: &BTreeMap<String, u64>) -> String {
    kinds.iter().map(|(kind, n)| format!("{kind} {n}")).collect::<Vec<_>>().join(", ")
}

fn endpoints(endpoints: &[Endpoint], paint: Paint) -> String {
    let mut table = Table::new(&[
        "endpoint",
        "state",
        ">weight",
        "group",
        "unit",
        ">requests",
        ">share",
        ">failed",
        ">in flight",
        ">conns",
        ">peak ewma",
        "last error",
    ]);
    let all: u64 = endpoints.iter().map(|e| e.requests).sum();
    for e in endpoints {
        let share =
            if all == 0 { "-".into() } else { format!("{:.1} %", e.requests as f64 * 100.0 / all as f64) };
        let failed = if e.failures == 0 { "0".to_owned() } else { paint.bad(e.failures) };
        table.row([
            e.address.clone(),
            state(e, paint),
            e.weight.to_string(),
            e.group.clone(),
            e.unit.clone().unwrap_or_else(|| "-".into()),
            e.requests.to_string(),
            share,
            failed,
            e.active.to_string(),
            e.connections.to_string(),
            e.ewma_ms.map_or("-".into(), |ms| format!("{ms:.2} ms")),
            e.last_error.as_ref().map(text).unwrap_or_default(),
        ]);
    }
    if table.is_empty() { "  no endpoints\n".to_owned() } else { table.render(|head| paint.dim(head)) }
}

fn state(e: &Endpoint, paint: Paint) -> String {
    let text = match (e.health.as_str(), e.state.as_str()) {
        ("" | "unknown", state) => state.to_owned(),
        (health, "") => health.to_owned(),
        (health, state) => format!("{health}, {state}"),
    };
    let bad = e.health == "unhealthy" || ["down", "unreachable", "backoff"].contains(&e.state.as_str());
    if bad { paint.bad(text) } else { text }
}

/// How long ago this second since the Unix epoch was; 0 = not known.
fn age(second: u64) -> Option<String> {
    let then = UNIX_EPOCH + Duration::from_secs(second);
    // A clock that was set back makes it now.
    (second > 0).then(|| uptime(SystemTime::now().duration_since(then).unwrap_or_default()))
}

/// `3d 4h`, `2h 5m`, `5m 7s`, `8s`.
fn uptime(time: Duration) -> String {
    let s = time.as_secs();
    let (d, h, m) = (s / 86400, s / 3600 % 24, s / 60 % 60);
    match (d, h, m) {
        (0, 0, 0) => format!("{s}s"),
        (0, 0, _) => format!("{m}m {}s", s % 60),
        (0, ..) => format!("{h}h {m}m"),
        _ => format!("{d}d {h}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stats(ok: u64) -> Stats {
        serde_json::from_value(json!({
            "name": "shop-1", "app": "shop", "state": "ready", "uptime_s": 3725.4, "workers": 2,
            "config": {"generation": 3, "revision": "abc", "files": ["shop.yaml"]},
            "listeners": [{"direction": "outbound", "listen": "127.0.0.1:12221", "protocol": null}],
            "totals": {
                "outbound": {"total": ok + 3, "ok": ok, "rejected": {"UC": 3}, "latency": {"p50_ms": 2.5}},
                "services": [{"direction": "outbound", "service": "order:1.0", "total": ok, "ok": ok}],
                "a field of a later version": 1
            }
        }))
        .unwrap()
    }

    #[test]
    fn it_tells_state_configuration_failures_and_rates() {
        let clusters: Vec<Cluster> = serde_json::from_value(json!([{
            "service": "order:1.0", "app": "order", "policy": null,
            "endpoints": [{"address": "127.0.0.1:1", "health": "unhealthy", "weight": 100, "requests": 3,
                           "last_error": "connection refused"}]
        }]))
        .unwrap();
        let before = stats(100);
        let text = human(&stats(300), &clusters, Some((Duration::from_secs(2), &before)), Paint::none());
        for part in [
            "shop-1 (app shop): ready, up 1h 2m",
            "configuration 3, revision abc, from shop.yaml",
            "outbound 127.0.0.1:12221 (protocol detected)",
            "UC 3",
            "2.50 ms",
            "order:1.0",
            "unhealthy",
            "100.0 %",
            "connection refused",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        let outbound = text.lines().find(|l| l.starts_with("  outbound  ")).unwrap();
        assert_eq!(outbound.split_whitespace().nth(2), Some("100"), "{text}");
    }

    #[test]
    fn what_limits_hold_has_one_line_that_names_who_tells_more() {
        let admin: SocketAddr = ([127, 0, 0, 1], 15000).into();
        let line = |rejected: Value, told: Value| {
            let stats =
                serde_json::from_value(json!({"totals": {"inbound": {"rejected": rejected}}})).unwrap();
            limits(&stats, &told, admin, Paint::none())
        };
        assert_eq!(line(json!({"UC": 3}), Value::Null), "");
        assert_eq!(line(json!({}), json!({"sidecars": [{"tier": 0, "since": 0}]})), "");
        let text =
            line(json!({"RL": 3, "AL": 2, "UC": 1}), json!({"sidecars": [{"tier": 1, "mode": "enforce"}]}));
        assert_eq!(
            text,
            "\nLimits\n  adaptive limiting holds requests now; refused since the start: AL 2, RL 3; why: raddle explain \
             limit --admin 127.0.0.1:15000\n"
        );
        assert!(
            line(json!({}), json!({"sidecars": [{"since": 1, "mode": "observe"}]})).contains("would hold")
        );
    }

    #[test]
    fn an_answer_of_another_version_is_still_shown() {
        let text = human(&Stats::default(), &[Cluster::default()], None, Paint::none());
        assert!(text.contains("no endpoints"), "{text}");
    }
}
