//! The pages, by path.
use super::views;
use super::{Context, Page};
use hyper::{Method, StatusCode};
use std::sync::atomic::Ordering;

const INDEX: &str = "\
raddle sidecar

GET  /ready        200 when it takes requests, 503 while starting or draining
GET  /healthz      200 while the process is alive and its workers answer
GET  /metrics      Prometheus text format
GET  /stats        totals, state and configuration as JSON
GET  /config       the configuration in force
GET  /mesh         the control plane: connection, versions, what was refused, services on demand, what is published
GET  /encryption   who the sidecar is, whether plaintext is taken, and from whom it comes
GET  /limits       what holds requests back now, and why; ?format=text for people
GET  /clusters     services, endpoints and what is known of each
GET  /connections  open connections and what they wait for
GET  /events       recent events; ?since=SEQ
GET  /explain      ?service=S[&method=M][&header.NAME=VALUE]: where a request would go and why;
                   HTTP: [&path=/P][&authority=HOST][&query.NAME=VALUE], of which the host can name the service
GET  /explain/authorization
                   ?callerApp=A&service=S[&callerUnit=U][&callerId=ID][&source=IP][&method=M][&path=/P][&authority=HOST]
                   [&header.NAME=VALUE]: whether such a request passes, and what each rule makes of it
GET  /limits/explain
                   what holds requests back now and held of late, and why; `raddle explain limit` reads it.
                   ?service=S[&method=M][&header.NAME=VALUE][&side=outbound][&callerIp=IP] and so on as in /explain:
                   which limits such a request would meet, in order, and what each would say
GET  /log-level    the log level;  POST sets it (body: info, debug, info,raddle_proxy=debug)
POST /reload       read the configuration again
";

/// The page of a path.
pub(crate) async fn page(c: &Context, method: &Method, path: &str, query: &str, body: &str) -> Page {
    let get = matches!(*method, Method::GET | Method::HEAD);
    match (path, get) {
        ("/", true) => Page::text(StatusCode::OK, INDEX),
        ("/ready", true) => ready(c),
        ("/healthz", true) => healthz(c).await,
        ("/metrics", true) => {
            let mut p = Page::text(StatusCode::OK, c.shared.registry.render());
            p.kind = "text/plain; version=0.0.4; charset=utf-8";
            p
        }
        ("/stats", true) => Page::json(&views::stats(c)),
        ("/config", true) => Page::json(&views::config(c)),
        ("/mesh", true) => Page::json(&views::control_plane(c)),
        ("/encryption", true) => Page::json(&super::encryption::view(c).await),
        ("/limits", true) => limits(c, query),
        ("/clusters", true) => Page::json(&views::clusters(c).await),
        ("/connections", true) => Page::json(&views::connections(c).await),
        ("/events", true) => {
            let since = parameter(query, "since").and_then(|s| s.parse().ok()).unwrap_or(0);
            Page::json(&c.shared.events.list(since))
        }
        ("/explain", true) => views::explain(c, query),
        ("/explain/authorization", true) => super::authorization::explain(c, query),
        ("/limits/explain", true) if query.is_empty() => super::limits::explain(c),
        ("/limits/explain", true) => super::limits::explain_request(c, query),
        ("/log-level", true) => Page::text(StatusCode::OK, level(c) + "\n"),
        ("/log-level", false) => set_level(c, body),
        ("/reload", false) => reload(c),
        (
            "/"
            | "/ready"
            | "/healthz"
            | "/metrics"
            | "/stats"
            | "/config"
            | "/mesh"
            | "/encryption"
            | "/limits"
            | "/clusters"
            | "/connections"
            | "/events"
            | "/explain"
            | "/explain/authorization"
            | "/limits/explain"
            | "/reload",
            _,
        ) => Page::text(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not for {path}; see /\n")),
        _ => Page::text(StatusCode::NOT_FOUND, format!("no page {path}; see /\n")),
    }
}

fn limits(c: &Context, query: &str) -> Page {
    let page = crate::limits::page::Page::of(&c.shared);
    match parameter(query, "format").as_deref() {
        Some("text") => Page::text(StatusCode::OK, page.text()),
        _ => Page::json(&page),
    }
}

fn ready(c: &Context) -> Page {
    let s = &c.shared;
    if s.draining.load(Ordering::Acquire) {
        return Page::text(StatusCode::SERVICE_UNAVAILABLE, "draining\n");
    }
    if !s.ready.load(Ordering::Acquire) {
        return Page::text(StatusCode::SERVICE_UNAVAILABLE, "starting\n");
    }
    // It serves with what it has; people should know nonetheless.
    let certificate = s.mesh.get().and_then(|link| link.view().certificate.as_ref()?.detail());
    let details = certificate.into_iter().chain(super::encryption::details(s));
    Page::text(StatusCode::OK, details.fold("ready\n".to_owned(), |text, c| text + &c + "\n"))
}

async fn healthz(c: &Context) -> Page {
    let answered = views::ask(&c.shared, |_| ()).await.len();
    let all = c.shared.workers().len();
    if answered == all {
        Page::text(StatusCode::OK, "ok\n")
    } else {
        let text = format!("{answered} of {all} workers answer\n");
        Page::text(StatusCode::SERVICE_UNAVAILABLE, text)
    }
}

fn level(c: &Context) -> String {
    c.loader.log.as_ref().map_or_else(|| "unknown".into(), raddle_telemetry::LogHandle::level)
}

fn set_level(c: &Context, body: &str) -> Page {
    let Some(log) = &c.loader.log else {
        return Page::text(StatusCode::CONFLICT, "this process has no log of its own\n");
    };
    match log.set_level(body.trim()) {
        Ok(()) => Page::text(StatusCode::OK, level(c) + "\n"),
        Err(e) => Page::text(StatusCode::BAD_REQUEST, format!("{e}\n")),
    }
}

fn reload(c: &Context) -> Page {
    let before = c.loader.status();
    c.loader.reload();
    let after = c.loader.status();
    if after.refused > before.refused {
        let mut p = Page::json(&after);
        p.status = StatusCode::BAD_REQUEST;
        return p;
    }
    Page::json(&after)
}

/// The first value of a query parameter, decoded.
pub(crate) fn parameter(query: &str, name: &str) -> Option<String> {
    parameters(query).find(|(k, _)| k == name).map(|(_, v)| v)
}

/// The parameters of a query, decoded.
pub(crate) fn parameters(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query.split('&').filter(|p| !p.is_empty()).map(|p| {
        let (k, v) = p.split_once('=').unwrap_or((p, ""));
        (decode(k), decode(v))
    })
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = |j: usize| bytes.get(j).and_then(|b| (*b as char).to_digit(16));
        match (bytes[i], hex(i + 1), hex(i + 2)) {
            (b'%', Some(h), Some(l)) => {
                out.push((h * 16 + l) as u8);
                i += 3;
            }
            (b'+', ..) => {
                out.push(b' ');
                i += 1;
            }
            (b, ..) => {
                out.push(b);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_garbage_is_kept() {
        let all: Vec<_> = parameters("service=a%3A1.0&header.x=1+2&odd=%zz&%").collect();
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(
            all,
            [pair("service", "a:1.0"), pair("header.x", "1 2"), pair("odd", "%zz"), pair("%", "")]
        );
    }
}
