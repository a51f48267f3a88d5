//! Captured connections: where they were going, and the service that stands for it.
//!
//! A service of the configuration with an endpoint there; else, where unknown destinations are allowed, a
//! service of that one address, made at first use and forgotten when it is not used and room is needed.
//! Inbound, the local app is where the connection was going.
//!
//! Nothing here ever leads to a listener of this sidecar: that would be a loop.
use crate::conn::{Accepted, Direction, Role};
use crate::shared::Binding;
use crate::worker::Worker;
use ahash::AHashMap;
use raddle_core::{Protocol, Time};
use raddle_net::{Key, original, socket};
use raddle_policy::Service;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Destinations a worker keeps; beyond, those not in use make room.
const MOST: usize = 1024;
/// As metrics and logs name the services of unknown destinations, all together.
const PASS_THROUGH: &str = "passthrough";

/// How a connection came to its listener.
pub(crate) enum Came {
    /// It was made to the listener.
    Directly,
    /// It was made to this address, and captured.
    Captured(SocketAddr),
    /// It is one of this sidecar's own.
    Round,
}

/// The destinations that a worker made services for.
#[derive(Default)]
pub(crate) struct Destinations {
    made: AHashMap<(Direction, SocketAddr), Made>,
}

struct Made {
    service: Key,
    used: Time,
}

impl Destinations {
    /// Whether a service was made for this address.
    pub(crate) fn has(&self, addr: SocketAddr) -> bool {
        let has = |direction| self.made.contains_key(&(direction, addr));
        !self.made.is_empty() && (has(Direction::Outbound) || has(Direction::Inbound))
    }

    /// Whether the local app is there, as captured connections to it say.
    pub(crate) fn is_local_app(&self, addr: SocketAddr) -> bool {
        !self.made.is_empty() && self.made.contains_key(&(Direction::Inbound, addr))
    }
}

impl Worker {
    /// How a connection came. Listeners that do not capture are not asked, which costs nothing.
    pub(crate) fn came_from(&self, fd: &OwnedFd, peer: Option<SocketAddr>, listener: u16) -> Came {
        let Some(b) = self.config.binding(listener) else { return Came::Directly };
        let Some(mode) = b.capture else { return Came::Directly };
        let Some(to) = original::destination(fd, mode, b.listener.addr) else { return Came::Directly };
        if peer.is_some_and(|p| self.shared.opened.has(p, to)) {
            return Came::Round;
        }
        self.shard.captured.inc();
        Came::Captured(to)
    }

    /// The protocol a connection is declared to speak: by the listener, by the port it was going to, or by
    /// the service there if that is TCP, where the server may speak first.
    pub(crate) fn declared(&self, a: &Accepted) -> Option<Protocol> {
        let b = self.config.binding(a.listener)?;
        b.declared(a.to).or_else(|| {
            let outbound = b.listener.direction == Direction::Outbound;
            let service = self.config.snapshot.service_at(a.to.filter(|_| outbound)?)?;
            service.protocol.filter(|p| *p == Protocol::Tcp)
        })
    }

    /// Starts to connect to an endpoint, such that the connection is known should it be captured.
    ///
    /// # Errors
    /// As [`socket::connect`].
    pub(crate) fn connect_out(&self, addr: SocketAddr, dead_peer: Duration) -> io::Result<OwnedFd> {
        if self.config.captures() {
            self.shared.opened.connect(addr, dead_peer)
        } else {
            socket::connect(addr, dead_peer)
        }
    }

    /// Whether [`Worker::destination_service`] would find one.
    pub(crate) fn has_destination(&self, b: &Binding, to: Option<SocketAddr>) -> bool {
        let Some(to) = to else { return false };
        let inbound = b.listener.direction == Direction::Inbound;
        (inbound || b.passes || self.config.snapshot.service_at(to).is_some()) && !self.config.is_own(to)
    }

    /// The service of the configuration that has an endpoint at this address.
    pub(crate) fn known_destination(&mut self, to: SocketAddr) -> Option<Key> {
        if self.config.is_own(to) {
            return None;
        }
        let name = self.config.snapshot.service_at(to)?.name.clone();
        self.service_named(name.as_bytes())
    }

    /// The service that stands for where a connection or request was going: one of the configuration, else
    /// one that passes through, if the listener allows it. None is for the caller to refuse with `NC`.
    pub(crate) fn destination_service(&mut self, listener: u16, to: SocketAddr) -> Option<Key> {
        let b = self.config.binding(listener)?;
        let (direction, passes) = (b.listener.direction, b.passes);
        if direction == Direction::Outbound
            && let Some(known) = self.known_destination(to)
        {
            return Some(known);
        }
        if direction == Direction::Outbound && !passes {
            return None;
        }
        let now = self.now;
        if let Some(made) = self.destinations.made.get_mut(&(direction, to))
            && self.services.get(made.service).is_some()
        {
            made.used = now;
            return Some(made.service);
        }
        if self.config.is_own(to) || to.port() == 0 || to.ip().is_unspecified() {
            return None;
        }
        if self.destinations.made.len() >= MOST && !self.forget_a_destination() {
            return None;
        }
        let app = self.config.sidecar.app.clone();
        let (name, app) = match direction {
            Direction::Inbound => (self.config.binding(listener)?.name.to_string(), app),
            Direction::Outbound => (PASS_THROUGH.to_owned(), String::new()),
        };
        let row = self.row(direction, name.as_bytes());
        let service = self.make_service(Service::single(&name, &app, to, None), row);
        self.shard.passed_through.inc();
        self.destinations.made.insert((direction, to), Made { service, used: now });
        Some(service)
    }

    /// The service a captured caller's request gets that names none, or an unknown one.
    pub(crate) fn captured_service(&mut self, caller: Key) -> Option<Key> {
        let accepted = match &self.conns.get(caller)?.role {
            Role::Caller(c) => &c.accepted,
            Role::Http(h) => h.accepted()?,
            _ => return None,
        };
        let (listener, to) = (accepted.listener, accepted.to?);
        self.destination_service(listener, to)
    }

    /// Makes room by the one that was not used for longest. False if all are in use.
    fn forget_a_destination(&mut self) -> bool {
        let unused = |made: &Made| {
            self.services.get(made.service).is_none_or(|s| {
                s.waiting.is_empty()
                    && s.hosts
                        .iter()
                        .all(|h| self.hosts.get(*h).is_none_or(|h| h.active == 0 && !h.is_awaited()))
            })
        };
        let oldest = self.destinations.made.iter().filter(|(_, m)| unused(m)).min_by_key(|(_, m)| m.used);
        let Some(key) = oldest.map(|(key, _)| *key) else { return false };
        self.forget_destination(key);
        self.prune_hosts();
        true
    }

    fn forget_destination(&mut self, key: (Direction, SocketAddr)) {
        if let Some(made) = self.destinations.made.remove(&key) {
            self.services.forget(made.service);
        }
    }

    /// After a reload: destinations that now have a service, or are not allowed any more, are forgotten.
    /// What is on its way goes on.
    pub(crate) fn review_destinations(&mut self) {
        let config = self.config.clone();
        let passes = config.bindings.iter().any(|b| b.passes);
        let inbound = config.bindings.iter().any(|b| b.capture.is_some() && b.local.is_none());
        let stays = |(direction, to): &(Direction, SocketAddr)| match direction {
            Direction::Outbound => passes && config.snapshot.service_at(*to).is_none() && !config.is_own(*to),
            Direction::Inbound => inbound && !config.is_own(*to),
        };
        let gone: Vec<_> = self.destinations.made.keys().filter(|k| !stays(k)).copied().collect();
        for key in gone {
            self.forget_destination(key);
        }
    }
}
