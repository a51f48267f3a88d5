//! Connections to endpoints that speak HTTP: which one takes an exchange, and who waits.
use super::exchange::Up;
use super::pipe::Pipe;
use super::sides::{Client, HttpConn, Up1, Up2};
use super::wake::Token;
use crate::conn::{Conn, Role};
use crate::hosts::{HostState, Pooled};
use crate::lane::Lane;
use crate::worker::Worker;
use raddle_core::{Reason, Time};
use raddle_net::{Interest, Key, Slab, socket};
use raddle_policy::{Policy, Readiness, Standing};
use std::sync::Arc;

/// What asking for a connection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpLease {
    /// This one takes the exchange.
    Ready(Key),
    /// Wait: one is being made, or one will be free.
    Soon,
    /// None can be made now.
    Failed,
}

/// How ready a host is for an exchange in a lane.
pub(crate) fn http_readiness(host: &HostState, conns: &Slab<Conn>, lane: Lane, now: Time) -> Readiness {
    if host.down_until.is_some_and(|t| t > now) {
        return Readiness::Down;
    }
    if host.on_trial && host.trying {
        return Readiness::Connecting;
    }
    if lane == Lane::Http1 && host.idle1.iter().any(|k| host.usable(*k, conns)) {
        return Readiness::Ready;
    }
    let mut found = Readiness::Idle;
    for p in host.conns.iter().filter(|p| p.lane == lane && host.usable(p.key, conns)) {
        if p.ready {
            // HTTP/1.1: it can be connected to, and another connection is a matter of a moment.
            let takes = match conns.get(p.key).map(|c| &c.role) {
                Some(Role::Http(HttpConn::Up2(u))) => !u.retiring,
                Some(Role::Http(HttpConn::Up1(_))) => true,
                _ => false,
            };
            if takes {
                return Readiness::Ready;
            }
        }
        found = Readiness::Connecting;
    }
    found
}

impl Worker {
    /// A connection for an exchange to a host; starts one where it pays.
    ///
    /// For a request that may run `once` only it is looked first whether the endpoint has ended an idle connection: that it
    /// has may be known to the kernel and not to us, and then the request would be lost.
    pub(crate) fn lease_http(&mut self, service: Key, host: Key, lane: Lane, once: bool) -> HttpLease {
        let now = self.now;
        let Some(s) = self.services.get(service) else { return HttpLease::Failed };
        let policy = s.service.policy.clone();
        let free = match lane {
            Lane::Http1 => self.live_up1_of(host, once),
            _ => self.least_used_up2(host),
        };
        let Some(h) = self.hosts.get(host) else { return HttpLease::Failed };
        let down = h.down_until.is_some_and(|t| t > now);
        let aim = h.link.aim(h.wanted(), now);
        let (count, connecting) = h.made(&self.conns, lane, aim);
        if let Some((standing, key)) = free {
            // What is wanted is established first, while what there is goes on.
            if standing != Standing::Current && count == 0 && !down {
                self.open_http(host, lane, &policy);
            }
            return HttpLease::Ready(key);
        }
        if down {
            return HttpLease::Failed;
        }
        let pool = &policy.settings.pool;
        let most = match lane {
            Lane::Http1 => usize::from(pool.http1_connections.max(1)),
            _ => usize::from(pool.max_connections.max(1)),
        };
        let waiting = h.http_waiting.len();
        // HTTP/2: one that is being made will carry all who wait.
        let enough = if lane == Lane::Http1 { connecting > waiting } else { connecting > 0 };
        if enough || count >= most || self.open_http(host, lane, &policy) {
            return HttpLease::Soon;
        }
        HttpLease::Failed
    }

    fn live_up1_of(&mut self, host: Key, look: bool) -> Option<(Standing, Key)> {
        loop {
            let found = self.free_up1_of(host)?;
            if !look || self.conns.get(found.1).is_some_and(|c| !socket::has_ended(&c.fd)) {
                return Some(found);
            }
            self.close(found.1, Reason::ConnectionLost);
        }
    }

    /// Takes an HTTP/1.1 connection without an exchange, the last used first; one that is what is wanted before one
    /// that is not.
    fn free_up1_of(&mut self, host: Key) -> Option<(Standing, Key)> {
        let now = self.now;
        let h = self.hosts.get_mut(host)?;
        let wanted = h.wanted();
        let mut found = None;
        for at in (0..h.idle1.len()).rev() {
            let Some(c) = self.conns.get(h.idle1[at]) else { continue };
            let Role::Http(HttpConn::Up1(u)) = &c.role else { continue };
            if u.exchange.is_some() || u.retiring || super::up1::idle_until(u) <= now {
                continue;
            }
            let standing = h.link.standing(c.transport, wanted);
            if standing != Standing::Wrong && found.is_none_or(|(best, _)| standing < best) {
                found = Some((standing, at));
            }
            if standing == Standing::Current {
                break;
            }
        }
        let (standing, at) = found?;
        Some((standing, h.idle1.remove(at)))
    }

    fn least_used_up2(&self, host: Key) -> Option<(Standing, Key)> {
        let h = self.hosts.get(host)?;
        let wanted = h.wanted();
        let usable = h.conns.iter().filter(|p| p.lane == Lane::Http2 && p.ready).filter_map(|p| {
            let c = self.conns.get(p.key)?;
            let Role::Http(HttpConn::Up2(u)) = &c.role else { return None };
            let peers = match &u.h2 {
                Client::Open(c) => u32::try_from(c.max_concurrent_send_streams()).unwrap_or(u32::MAX),
                Client::Handshake(_) | Client::Away => return None,
            };
            let standing = h.link.standing(c.transport, wanted);
            let room = u.send.is_some() && !u.retiring && u.active < u.most.min(peers);
            (room && standing != Standing::Wrong).then_some((standing, u.active, p.key))
        });
        usable.min_by_key(|(standing, active, _)| (*standing, *active)).map(|(s, _, key)| (s, key))
    }

    /// Starts to connect to a host. False if it failed at once.
    pub(crate) fn open_http(&mut self, host: Key, lane: Lane, policy: &Arc<Policy>) -> bool {
        match self.dial(host) {
            Some(transport) => self.open_http_as(host, lane, policy, transport),
            None => false,
        }
    }

    /// The same as what is said: a transport's id, or plaintext.
    pub(crate) fn open_http_as(
        &mut self,
        host: Key,
        lane: Lane,
        policy: &Arc<Policy>,
        transport: u64,
    ) -> bool {
        let now = self.now;
        let Some(h) = self.hosts.get_mut(host) else { return false };
        let addr = h.host.addr;
        h.policy = Some(policy.clone());
        h.lane = lane;
        let settings = &policy.settings;
        let fd = match self.connect_out(addr, settings.timeouts.dead_peer) {
            Ok(fd) => fd,
            Err(e) => {
                self.connect_failed(host, &e);
                return false;
            }
        };
        let connect_timeout = settings.timeouts.connect;
        let conn = match lane {
            Lane::Http1 => HttpConn::Up1(Box::new(Up1 {
                host,
                connecting: true,
                since: now,
                connect_timeout,
                idle_timeout: settings.pool.idle_timeout.unwrap_or(super::up1::IDLE),
                exchange: None,
                body: None,
                keep: false,
                served: 0,
                retiring: false,
            })),
            _ => HttpConn::Up2(Box::new(Up2 {
                host,
                connecting: true,
                since: now,
                connect_timeout,
                idle_timeout: settings.pool.idle_timeout,
                pipe: Pipe::default(),
                h2: Client::Away,
                send: None,
                waker: self.http.ready.waker(Token::Conn(Key::NONE)),
                served: false,
                active: 0,
                most: settings.pool.max_streams.max(1),
                used_at: now,
                retiring: false,
                pinger: None,
                pinged: None,
                quiet_for: settings.timeouts.dead_peer,
            })),
        };
        let Some(key) = self.add_conn(fd, Interest::WRITE, Role::Http(conn)) else { return false };
        if let Some(c) = self.conns.get_mut(key) {
            c.transport = transport;
        }
        let waker = self.http.ready.waker(Token::Conn(key));
        if let Some(u) = self.up2(key) {
            u.waker = waker;
        }
        self.arm(key, now + connect_timeout);
        if let Some(h) = self.hosts.get_mut(host) {
            h.conns.push(Pooled { key, lane, owner: Key::NONE, ready: false });
        }
        self.shard.upstream_opened.inc();
        true
    }

    /// A connection can carry exchanges.
    pub(crate) fn http_established(&mut self, key: Key) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Role::Http(h) = &mut conn.role else { return };
        let Some(host) = h.host() else { return };
        let two = match h {
            HttpConn::Up1(u) => {
                u.connecting = false;
                u.since = now;
                false
            }
            HttpConn::Up2(u) => {
                u.connecting = false;
                true
            }
            _ => return,
        };
        self.shard.upstream_active.inc();
        self.host_established(host, key);
        self.set_interest(key);
        if two {
            self.start_up2(key);
            self.settle_switch(key);
            self.offer_up2(host);
        } else {
            self.arm(key, now + super::up1::IDLE);
            self.settle_switch(key);
            // It may have come too late and be gone; closing it has seen to those who wait.
            if self.conns.get(key).is_some() {
                self.offer_up1(host, key);
            }
        }
        self.release_waiting(host);
    }

    pub(crate) fn drop_http_connecting(&mut self, key: Key, error: &std::io::Error) {
        let Some(conn) = self.conns.remove(key) else { return };
        self.shared.opened.closed(&conn.fd);
        let Role::Http(h) = conn.role else { return };
        let Some(host) = h.host() else { return };
        self.shared.opened.closed(&conn.fd);
        self.unpool(host, key);
        self.connect_failed(host, error);
        self.release_http_waiting(host);
    }

    /// A free HTTP/1.1 connection: whoever waits first gets it.
    pub(crate) fn offer_up1(&mut self, host: Key, conn: Key) {
        while let Some(x) = self.next_waiting(host, Lane::Http1) {
            if self.send_on(x, conn, Lane::Http1) {
                return;
            }
        }
        if let Some(h) = self.hosts.get_mut(host) {
            h.idle1.push(conn);
        }
    }

    /// HTTP/2 streams are to be had: those who wait begin.
    pub(crate) fn offer_up2(&mut self, host: Key) {
        while self.hosts.get(host).is_some_and(|h| !h.http_waiting.is_empty()) {
            let Some((_, conn)) = self.least_used_up2(host) else { return };
            let Some(x) = self.next_waiting(host, Lane::Http2) else { return };
            self.send_on(x, conn, Lane::Http2);
        }
    }

    fn next_waiting(&mut self, host: Key, lane: Lane) -> Option<Key> {
        let exchanges = &self.http.exchanges;
        let waiting = &mut self.hosts.get_mut(host)?.http_waiting;
        let lane_of = |k: &Key| match exchanges.get(*k)?.up {
            Up::Waiting(lane) => Some(lane),
            _ => None,
        };
        // Nearly always the first one; those that were cancelled meanwhile go.
        while waiting.front().is_some_and(|k| lane_of(k).is_none()) {
            waiting.pop_front();
        }
        let at = waiting.iter().position(|k| lane_of(k) == Some(lane))?;
        waiting.remove(at)
    }

    /// A connection is no more: those who wait for one of its lane get another, or go elsewhere.
    pub(crate) fn serve_waiting(&mut self, host: Key, lane: Lane) {
        let now = self.now;
        let exchanges = &self.http.exchanges;
        let Some(h) = self.hosts.get(host) else { return };
        let waits =
            |k: &&Key| exchanges.get(**k).is_some_and(|x| matches!(x.up, Up::Waiting(l) if l == lane));
        let waiting = h.http_waiting.iter().filter(waits).count();
        if waiting == 0 {
            return;
        }
        let (count, connecting) = h.made(&self.conns, lane, h.link.aim(h.wanted(), now));
        let Some(policy) = h.policy.clone() else { return self.release_http_waiting(host) };
        if h.down_until.is_some_and(|t| t > now) {
            return self.release_http_waiting(host);
        }
        let pool = &policy.settings.pool;
        let short = match lane {
            Lane::Http1 => connecting < waiting && count < usize::from(pool.http1_connections.max(1)),
            _ => connecting == 0 && count < usize::from(pool.max_connections.max(1)),
        };
        if short {
            self.open_http(host, lane, &policy);
        }
    }

    /// The host cannot be had: those who waited for it go elsewhere or are told.
    pub(crate) fn release_http_waiting(&mut self, host: Key) {
        let Some(h) = self.hosts.get_mut(host) else { return };
        for k in std::mem::take(&mut h.http_waiting) {
            if let Some(x) = self.http.exchanges.get_mut(k)
                && matches!(x.up, Up::Waiting(..))
            {
                x.up = Up::None;
                x.avoid = Some(x.plan.endpoint);
                x.moves += 1;
                self.http.again.push(k);
            }
        }
    }

    /// Takes an endpoint's connection out of use without cutting an exchange.
    pub(crate) fn retire_http(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Role::Http(h) = &mut conn.role else { return };
        if h.connecting() {
            return self.drop_http_connecting(key, &std::io::Error::other("endpoint removed"));
        }
        let lane = if matches!(h, HttpConn::Up1(_)) { Lane::Http1 } else { Lane::Http2 };
        let (host, idle) = match h {
            HttpConn::Up1(u) => {
                u.retiring = true;
                (u.host, u.exchange.is_none())
            }
            HttpConn::Up2(u) => {
                u.retiring = true;
                if u.active == 0 {
                    u.send = None;
                }
                (u.host, u.active == 0)
            }
            HttpConn::Down1(_) | HttpConn::Down2(_) => return,
        };
        self.shard.upstream_retired.inc();
        self.unpool(host, key);
        if let Some(h) = self.hosts.get_mut(host) {
            h.idle1.retain(|k| *k != key);
            h.cells.connections.set(h.conns.iter().filter(|p| p.ready).count() as i64);
        }
        if idle {
            self.close(key, Reason::ConnectionLost);
        } else {
            self.serve_waiting(host, lane);
        }
    }
}
