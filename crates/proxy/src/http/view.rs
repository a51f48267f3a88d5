//! What the balancer reads of a worker's hosts, for HTTP.
use super::pool::http_readiness;
use crate::conn::Conn;
use crate::hosts::Hosts;
use crate::lane::Lane;
use crate::limits::state::Broken;
use raddle_core::Time;
use raddle_net::{Key, Slab};
use raddle_policy::{Load, Readiness};
use std::net::SocketAddr;

/// What the balancer reads of a worker's hosts.
pub(super) struct HttpView<'a> {
    pub(super) hosts: &'a Hosts,
    pub(super) conns: &'a Slab<Conn>,
    pub(super) map: &'a [Key],
    pub(super) lane: Lane,
    pub(super) now: Time,
    pub(super) breakers: Option<Broken<'a>>,
}

impl HttpView<'_> {
    /// An endpoint whose breaker keeps the request away from it.
    pub(super) fn broken(&self, i: u32) -> Option<SocketAddr> {
        let breakers = self.breakers.as_ref()?;
        let h = self.map.get(i as usize).and_then(|k| self.hosts.get(*k))?;
        breakers.open(h.host.addr).then_some(h.host.addr)
    }
}

impl Load for HttpView<'_> {
    fn ready(&self, i: u32) -> Readiness {
        if self.broken(i).is_some() {
            return Readiness::Down;
        }
        match self.map.get(i as usize).and_then(|k| self.hosts.get(*k)) {
            Some(h) => http_readiness(h, self.conns, self.lane, self.now),
            None => Readiness::Down,
        }
    }

    fn active(&self, i: u32) -> u32 {
        self.map.get(i as usize).and_then(|k| self.hosts.get(*k)).map_or(0, |h| h.active)
    }

    fn ewma_ns(&self, i: u32) -> f64 {
        self.map
            .get(i as usize)
            .and_then(|k| self.hosts.get(*k))
            .map_or(0.0, |h| h.ewma.expected(h.active == 0, self.now))
    }
}
