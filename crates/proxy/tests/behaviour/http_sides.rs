//! What the HTTP tests have in common: a sidecar between a caller and endpoints of either version.
use raddle_testkit::{Config, Running, free_addr};
use std::net::SocketAddr;

/// The host every test asks for.
pub(crate) const HOST: &str = "shop";

/// A sidecar with an outbound listener, and what else `config` says.
pub(crate) fn started(config: impl FnOnce(Config) -> Config) -> (Running, SocketAddr) {
    let listen = free_addr();
    // One worker: which connection is used again can be told.
    (Running::start(&config(Config::new().workers(1).outbound(listen))), listen)
}

/// A sidecar in front of endpoints that speak HTTP/1.1.
pub(crate) fn h1_to(endpoints: &[SocketAddr]) -> (Running, SocketAddr) {
    started(|c| service(c, HOST, "http", endpoints))
}

/// A sidecar in front of endpoints that speak HTTP/2.
pub(crate) fn h2_to(endpoints: &[SocketAddr]) -> (Running, SocketAddr) {
    started(|c| service(c, HOST, "http2", endpoints))
}

/// With a service whose endpoints speak `protocol`.
pub(crate) fn service(c: Config, name: &str, protocol: &str, endpoints: &[SocketAddr]) -> Config {
    let list: Vec<String> = endpoints.iter().map(|a| format!("{{address: \"{a}\"}}")).collect();
    let spec = format!("{{app: callee, protocol: {protocol}, endpoints: [{}]}}", list.join(", "));
    c.document("Service", name, &spec)
}

/// A GET's bytes.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
}

/// A POST's bytes, with a length.
pub(crate) fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Every gauge of what is under way is back to nothing.
#[track_caller]
pub(crate) fn nothing_is_left(sidecar: &Running) {
    sidecar.admin.until_metric("raddle_requests_in_flight", &[], |n| n == 0);
    sidecar.admin.until_metric("raddle_endpoint_requests_in_flight", &[], |n| n == 0);
    assert_eq!(sidecar.admin.metric("raddle_panics_total", &[]), 0);
}
