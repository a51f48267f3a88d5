//! What the sidecar answers itself over HTTP, and how the end of an exchange is counted and logged.
use super::exchange::Exchange;
use super::flow::Data;
use super::limiting::Hint;
use crate::authorize::Denial;
use crate::conn::Role;
use crate::record::NOBODY;
use crate::worker::Worker;
use http::{HeaderMap, HeaderValue};
use raddle_core::protocol::grpc_status_of_http;
use raddle_core::{Protocol, Reason};
use raddle_net::Key;
use raddle_telemetry::TraceParent;
use raddle_telemetry::access_log::Entry;
use raddle_wire::http::h1::Framing;
use raddle_wire::http::{Request, Response, grpc};
use std::net::SocketAddr;

/// How an exchange ended.
pub(crate) struct End {
    pub reason: Option<Reason>,
    pub endpoint: Option<SocketAddr>,
}

impl Worker {
    /// Answers an exchange that will get no response; one whose response has begun is cut.
    pub(crate) fn answer_http(&mut self, key: Key, reason: Reason, status: Option<u16>, what: &str) {
        self.answer_http_with(key, reason, status, what, None);
    }

    /// The same, with a field that says when to come again.
    pub(super) fn answer_http_with(
        &mut self,
        key: Key,
        reason: Reason,
        status: Option<u16>,
        what: &str,
        hint: Option<Hint>,
    ) {
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        if x.down_framing.is_some() {
            return self.cut(key, reason);
        }
        let rule = x.plan.rule.clone();
        let mut text = reason.describe().to_owned();
        if !what.is_empty() {
            text = format!("{text}: {what}");
        }
        if let Some(r) = &rule {
            text = format!("{text} (rule {r})");
        }
        let mut response = Response::new(status.unwrap_or_else(|| reason.http_status()));
        response.fields.push(b"x-raddle-reason", reason.flag().as_bytes());
        if let Some(r) = &rule {
            response.fields.push(b"x-raddle-rule", r.as_bytes());
        }
        if let Some((name, number)) = hint {
            response.fields.push(name, number.to_string().as_bytes());
        }
        if x.protocol == Protocol::Grpc {
            let code = match (reason, x.abort, status) {
                (Reason::Injected, Some(abort), _) => abort.grpc(),
                (_, _, Some(s)) => grpc_status_of_http(s),
                (_, _, None) => reason.grpc_status(),
            };
            response.status = 200;
            response.fields.push(b"content-type", b"application/grpc");
            response.fields.push(b"grpc-status", code.to_string().as_bytes());
            let mut message = Vec::new();
            grpc::encode_message(&format!("raddle: {text} [{}]", reason.flag()), &mut message);
            response.fields.push(b"grpc-message", &message);
            return self.respond_locally(key, &response, b"", Some(reason));
        }
        response.fields.push(b"content-type", b"text/plain; charset=utf-8");
        self.respond_locally(
            key,
            &response,
            format!("raddle: {text} [{}]\n", reason.flag()).as_bytes(),
            Some(reason),
        );
    }

    /// Answers an exchange that authorization refuses.
    pub(crate) fn deny_http(&mut self, key: Key, denial: Denial) {
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        x.plan.rule = denial.told;
        x.plan.logged = Some(denial.rule);
        self.answer_http(key, Reason::Denied, None, denial.detail);
    }

    /// Sends a whole response of the sidecar's own, and ends the exchange.
    pub(crate) fn respond_locally(
        &mut self,
        key: Key,
        response: &Response,
        body: &[u8],
        reason: Option<Reason>,
    ) {
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        x.status = response.status;
        let grpc = response.fields.get("grpc-status");
        x.grpc_status = grpc.and_then(|s| std::str::from_utf8(s).ok()).and_then(|s| s.parse().ok());
        let grpc = grpc.is_some();
        let framing = if grpc { Framing::None } else { Framing::Length(body.len() as u64) };
        let bodiless = response.is_bodiless() || x.request.method() == b"HEAD";
        self.send_head(key, response, framing);
        if !bodiless && !body.is_empty() {
            match self.http.exchanges.get_mut(key).map(|x| (&mut x.caller, &mut x.bytes_out)) {
                Some((Some(c), bytes_out)) => {
                    *bytes_out += body.len() as u64;
                    c.out.push(bytes::Bytes::copy_from_slice(body));
                }
                Some((None, _)) => self.response_data(key, Data::Slice(body)),
                None => return,
            }
        }
        if let Some(c) = self.http.exchanges.get_mut(key).and_then(|x| x.caller.as_mut()) {
            c.out.finish_now();
        }
        self.finish_exchange(key, reason);
    }

    /// Counts and logs the end of an exchange.
    pub(crate) fn record_http(&mut self, x: &Exchange, end: &End) {
        let cells = self.services.cells(x.row);
        let app_failed = x.status >= 500 || x.grpc_status.is_some_and(|s| s != 0);
        match end.reason {
            Some(reason) => cells.rejected[reason].inc(),
            None if app_failed => cells.app_error.inc(),
            None => cells.ok.inc(),
        }
        let latency = self.now.since(x.start);
        if end.endpoint.is_some() {
            cells.latency.record(latency.as_nanos() as u64);
        }
        let failed = end.reason.is_some() || app_failed;
        if !self.log.as_mut().is_some_and(|l| l.wants(failed || x.plan.logged.is_some())) {
            return;
        }
        let method = method_text(x.protocol, &x.request);
        let (caller, connection) = match self.conns.get(x.down).map(|c| &c.role) {
            Some(Role::Http(h)) => h.accepted().map_or((None, 0), |a| (a.peer, a.id)),
            _ => (None, 0),
        };
        let binding = self.config.binding(x.listener);
        let entry = Entry {
            time: self.shared.wall_zero_ns + x.start.as_nanos(),
            direction: x.direction,
            protocol: x.protocol,
            listener: binding.map_or("-", |b| &b.name),
            caller: caller.unwrap_or(NOBODY),
            connection,
            request_id: 0,
            service: self.services.row_name(x.row),
            method: Some(&method),
            endpoint: end.endpoint,
            ok: !failed,
            status: x.grpc_status.filter(|_| x.protocol == Protocol::Grpc).unwrap_or(x.status),
            flag: end.reason.or(x.said),
            rule: x.plan.logged.as_deref().or(x.plan.rule.as_deref()),
            duration_ns: latency.as_nanos() as u64,
            request_bytes: x.bytes_in,
            response_bytes: x.bytes_out,
            retries: u32::from(x.tried),
            traceparent: x.request.fields.get("traceparent").and_then(TraceParent::parse),
        };
        if let Some(log) = &mut self.log {
            log.write(&entry);
        }
    }
}

/// What the log calls the method: gRPC's own, else method and path. Queries may hold secrets and stay out.
fn method_text(protocol: Protocol, r: &Request) -> String {
    if protocol == Protocol::Grpc
        && let Some((_, method)) = grpc::split_path(r.path())
    {
        return String::from_utf8_lossy(method).into_owned();
    }
    let path = if r.is_connect() { r.authority() } else { r.path() };
    format!("{} {}", String::from_utf8_lossy(r.method()), String::from_utf8_lossy(path))
}

/// Trailers of a gRPC response that ends before its time.
pub(crate) fn grpc_trailers(reason: Reason) -> HeaderMap {
    let mut map = HeaderMap::new();
    map.insert("grpc-status", HeaderValue::from(u16::from(reason.grpc_status())));
    map.insert("x-raddle-reason", HeaderValue::from_static(reason.flag()));
    let mut message = Vec::new();
    grpc::encode_message(&format!("raddle: {} [{}]", reason.describe(), reason.flag()), &mut message);
    if let Ok(v) = HeaderValue::from_bytes(&message) {
        map.insert("grpc-message", v);
    }
    map
}
