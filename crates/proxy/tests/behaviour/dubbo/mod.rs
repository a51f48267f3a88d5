//! What is promised for Bolt holds for Dubbo: the same way, other frames.
mod answers;
mod forward;
mod large;
mod life;
mod loss;

use raddle_testkit::{Config, DubboCall, DubboServer, Running, free_addr};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

const SERVICE: &str = "com.test.Echo:1.0";

fn started(config: impl FnOnce(Config) -> Config) -> (Running, SocketAddr) {
    let listen = free_addr();
    (Running::start(&config(Config::new().outbound(listen))), listen)
}

fn outbound(server: SocketAddr) -> (Running, SocketAddr) {
    started(|c| c.service(SERVICE, &[server]))
}

/// Caller → outbound sidecar → inbound sidecar → server.
fn two_hops(server: SocketAddr) -> (Running, Running, SocketAddr) {
    let middle = free_addr();
    let inbound = Running::start(&Config::new().inbound(middle, server));
    let (outbound, listen) = outbound(middle);
    (inbound, outbound, listen)
}

type Held = Arc<Mutex<Vec<DubboCall>>>;

/// A server that keeps every call.
fn holding() -> (DubboServer, Held) {
    holding_at(free_addr())
}

fn holding_at(addr: SocketAddr) -> (DubboServer, Held) {
    let held = Held::default();
    let h = held.clone();
    (DubboServer::at(addr, move |c| h.lock().unwrap().push(c)), held)
}
