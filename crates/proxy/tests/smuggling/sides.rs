//! A sidecar with a server behind it.
use raddle_testkit::{Config, Running, free_addr};
use std::net::SocketAddr;

/// An inbound sidecar in front of an app that speaks `http` or `http2`.
pub(crate) fn sidecar(forward: SocketAddr, app: &str) -> (SocketAddr, Running) {
    let listen = free_addr();
    // Declared: what no HTTP begins with would be TCP otherwise, and no case for these tests.
    let line = format!(
        "inbound: [{{listen: \"{listen}\", forward: \"{forward}\", protocol: http, appProtocol: {app}}}]"
    );
    let running = Running::start(&Config::new().workers(1).sidecar(&line));
    (listen, running)
}

/// The same for callers that speak HTTP/2.
pub(crate) fn sidecar2(forward: SocketAddr, app: &str) -> (SocketAddr, Running) {
    let listen = free_addr();
    let line = format!("inbound: [{{listen: \"{listen}\", forward: \"{forward}\", appProtocol: {app}}}]");
    let running = Running::start(&Config::new().workers(1).sidecar(&line));
    (listen, running)
}
