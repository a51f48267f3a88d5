//! What the demo's sidecars say of themselves, and ports for them.
use crate::commands::status::answer::{Cluster, Stats};
use crate::exit::Failure;
use crate::http;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

/// What a sidecar says of itself, if it does.
pub(super) fn stats(admin: SocketAddr) -> Option<Stats> {
    ask(admin, "/stats")
}

fn ask<T: serde::de::DeserializeOwned>(admin: SocketAddr, path: &str) -> Option<T> {
    let answer = http::get(admin, path, Duration::from_millis(500)).ok()?;
    serde_json::from_str(&answer.body).ok().filter(|_| answer.status == 200)
}

/// Endpoints of order as all these sidecars see them, by their own words.
pub(super) fn clusters(admins: &[SocketAddr]) -> Vec<Cluster> {
    admins.iter().filter_map(|a| ask::<Vec<Cluster>>(*a, "/clusters")).flatten().collect()
}

/// Requests sent to each address by all these sidecars.
pub(super) fn requests_by_address(admins: &[SocketAddr]) -> HashMap<String, u64> {
    let mut sum = HashMap::new();
    for endpoint in clusters(admins).into_iter().flat_map(|c| c.endpoints) {
        *sum.entry(endpoint.address).or_default() += endpoint.requests;
    }
    sum
}

/// Addresses nobody listens on, below the ports that the kernel gives to outgoing connections: one that is
/// free for a moment, while an instance is down, must not be taken by a connection.
pub(super) fn free_ports(n: usize) -> Result<Vec<SocketAddr>, Failure> {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    let start = std::process::id().wrapping_mul(97) % COUNT;
    let mut held = Vec::new();
    for i in 0..COUNT {
        let port = FIRST + (start + i) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port as u16));
        if let Ok(listener) = TcpListener::bind(address) {
            held.push((address, listener));
        }
        if held.len() == n {
            return Ok(held.into_iter().map(|(address, _)| address).collect());
        }
    }
    Err(Failure::new(format!("no {n} free ports between {FIRST} and {}", FIRST + COUNT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_differ() {
        let ports = free_ports(16).unwrap();
        let bound: Vec<_> = ports.iter().map(|p| TcpListener::bind(p).unwrap()).collect();
        assert_eq!(bound.len(), 16);
    }
}
