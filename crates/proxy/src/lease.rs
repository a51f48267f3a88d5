//! Which connection to a host takes a request, and whether one does.
use crate::conn::{Conn, Role};
use crate::hosts::HostState;
use crate::lane::Lane;
use crate::worker::Worker;
use raddle_core::Time;
use raddle_net::{Key, Slab};
use raddle_policy::{Readiness, Standing};
use std::time::Duration;

/// What asking for a connection to a host came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// This one takes the request.
    Ready(Key),
    /// One is being made; wait.
    Soon,
    /// Every connection is full and its endpoint does not read.
    Full,
    /// None can be made now.
    Failed,
}

/// How ready a host is for a request in `lane` on behalf of `owner`.
pub(crate) fn readiness(
    host: &HostState,
    conns: &Slab<Conn>,
    lane: Lane,
    owner: Key,
    now: Time,
) -> Readiness {
    let mut connecting = false;
    let resting = host.down_until.is_some_and(|t| t > now);
    if resting {
        return Readiness::Down;
    }
    if host.on_trial && host.trying {
        // Not before one that is ready, but before one that is down: it may turn out to be back.
        return Readiness::Connecting;
    }
    for p in &host.conns {
        if p.lane != lane || p.owner != owner || !host.usable(p.key, conns) {
            continue;
        }
        if !p.ready {
            connecting = true;
        } else if conns.get(p.key).is_some_and(|c| !c.paused.any()) {
            return Readiness::Ready;
        }
    }
    if connecting { Readiness::Connecting } else { Readiness::Idle }
}

/// What a pool has for a request.
#[derive(Default)]
struct Found {
    /// The connection with the least before it; one that is what is wanted before one that is not.
    best: Option<(Standing, usize, Key)>,
    /// Connections of the kind that would be made now.
    count: u16,
    /// One of those is being made.
    coming: bool,
    /// One is being made that may carry requests.
    hope: bool,
}

impl Worker {
    /// Looks through the connections of `lane` and `owner`.
    fn find(&self, h: &HostState, lane: Lane, owner: Key) -> Found {
        let wanted = h.wanted();
        let aim = h.link.aim(wanted, self.now);
        let mut found = Found::default();
        for p in h.conns.iter().filter(|p| p.lane == lane && p.owner == owner) {
            let Some(c) = self.conns.get(p.key) else { continue };
            let Role::Endpoint(e) = &c.role else { continue };
            if e.stream_from.is_some() {
                // Nothing may be put in the middle of a large frame.
                continue;
            }
            let standing = h.link.standing(c.transport, wanted);
            found.count += u16::from(c.transport == aim);
            if !p.ready {
                found.coming |= c.transport == aim;
                found.hope |= standing != Standing::Wrong;
                continue;
            }
            if c.paused.any() || !e.pending.has_room() || standing == Standing::Wrong {
                continue;
            }
            // Bytes first: they are what a request waits behind. Then requests in flight.
            let load = c.out.len() * 4 + e.pending.live() as usize;
            if found.best.is_none_or(|(s, b, _)| (standing, load) < (s, b)) {
                found.best = Some((standing, load, p.key));
            }
        }
        found
    }

    /// A connection to a host for a request to `service` in `lane`; starts one where none is.
    pub(crate) fn lease(&mut self, service: Key, host: Key, lane: Lane, owner: Key) -> Lease {
        let soft = self.config.limits().buffer_soft as usize;
        let now = self.now;
        let Some(s) = self.services.get(service) else { return Lease::Failed };
        let pool = &s.service.policy.settings.pool;
        let Some(h) = self.hosts.get(host) else { return Lease::Failed };
        let Found { best, count, coming, hope } = self.find(h, lane, owner);
        let most = if owner == Key::NONE { pool.max_connections.max(1) } else { 1 };
        let want = if owner == Key::NONE { pool.connections.max(1) } else { 1 };
        let down = h.down_until.is_some_and(|t| t > now);
        let Some((standing, _, key)) = best else {
            if coming {
                return Lease::Soon;
            }
            if down || count >= most {
                return if down { Lease::Failed } else { Lease::Full };
            }
            let opened = self.open_for(service, host, lane, owner);
            return if opened || hope { Lease::Soon } else { Lease::Failed };
        };
        let Some(c) = self.conns.get(key) else { return Lease::Failed };
        let queued = c.out.len();
        // A queue builds, or fewer connections than wanted, or none that is what is wanted: one more in the background.
        let short = count < want || queued > soft || standing != Standing::Current && count == 0;
        if !coming && !down && count < most && short {
            self.open_for(service, host, lane, owner);
        }
        let Some(c) = self.conns.get(key) else { return Lease::Failed };
        // Far behind and not moving, or too far: better an answer now than a queue without an end.
        let moves = now.since(c.wrote_at) <= Duration::from_millis(200);
        if queued > self.hard_limit() || queued > soft * 4 && !moves {
            return Lease::Full;
        }
        Lease::Ready(key)
    }
}
