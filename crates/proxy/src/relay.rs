//! TCP: bytes both ways between a caller and an endpoint, with back-pressure and half-close.
use crate::conn::{Accepted, Direction, Paused, Relay, Role};
use crate::links::Peer;
use crate::shared::Binding;
use crate::worker::Worker;
use raddle_core::{Reason, Time};
use raddle_net::{Interest, Key, socket};
use raddle_policy::{Attributes, Decision, Load, Readiness, pick};
use raddle_telemetry::access_log::Entry;
use raddle_wire::sniff::{Sniff, sniff};
use std::net::IpAddr;

/// Endpoints tried before a caller is turned away.
const TRIES: u8 = 3;

/// What routing can know of a connection.
pub(crate) struct TcpAttributes<'a> {
    pub service: &'a [u8],
    pub ip: Option<IpAddr>,
    /// Whom its certificate names.
    pub peer: Option<&'a Peer>,
}

impl Attributes for TcpAttributes<'_> {
    fn service(&self) -> &[u8] {
        self.service
    }
    fn method(&self) -> Option<&[u8]> {
        None
    }
    fn header(&self, _: &str) -> Option<&[u8]> {
        None
    }
    fn caller_app(&self) -> Option<&[u8]> {
        self.peer.map(|p| p.app.as_bytes())
    }
    fn caller_ip(&self) -> Option<IpAddr> {
        self.ip
    }
    fn load_test(&self) -> bool {
        false
    }
}

/// Every endpoint is as good as connected: each TCP connection gets its own.
struct TcpView<'a> {
    hosts: &'a crate::hosts::Hosts,
    map: &'a [Key],
    now: Time,
}

impl Load for TcpView<'_> {
    fn ready(&self, i: u32) -> Readiness {
        match self.map.get(i as usize).and_then(|k| self.hosts.get(*k)) {
            Some(h) if h.down_until.is_some_and(|t| t > self.now) => Readiness::Down,
            Some(_) => Readiness::Ready,
            None => Readiness::Down,
        }
    }
    fn active(&self, i: u32) -> u32 {
        self.map.get(i as usize).and_then(|k| self.hosts.get(*k)).map_or(0, |h| h.active)
    }
    fn ewma_ns(&self, i: u32) -> f64 {
        f64::from(self.active(i))
    }
}

impl Worker {
    /// Whether it is known where bytes without a protocol go.
    pub(crate) fn has_tcp_target(&self, a: &Accepted) -> bool {
        let named = |b: &Binding| b.local.is_some() || b.default_service.is_some();
        self.config.binding(a.listener).is_some_and(|b| named(b) || self.has_destination(b, a.to))
    }

    /// The service of bytes that name none: where they were going says most, then the listener.
    fn tcp_service(&mut self, a: &Accepted) -> Option<(Key, Direction)> {
        let b = self.config.binding(a.listener)?;
        let direction = b.listener.direction;
        let key = match direction {
            Direction::Inbound => {
                self.service_behind(a.listener).or_else(|| self.destination_service(a.listener, a.to?))
            }
            Direction::Outbound => {
                let default = b.default_service.clone();
                a.to.and_then(|to| self.known_destination(to))
                    .or_else(|| self.service_named(default?.as_bytes()))
                    .or_else(|| self.destination_service(a.listener, a.to?))
            }
        }?;
        Some((key, direction))
    }

    /// Makes an accepted connection one side of a relay and starts the other.
    pub(crate) fn become_relay(&mut self, key: Key, undecided: bool) {
        let Some(conn) = self.conns.get(key) else { return };
        let Role::New(a) = &conn.role else { return };
        let accepted = (**a).clone();
        if self.resets_plain(key) {
            return;
        }
        let Some((service, direction)) = self.tcp_service(&accepted) else {
            if self.relay_on_demand(key, &accepted, undecided) {
                return;
            }
            return self.refuse_relay(key, &accepted);
        };
        let row = self.services.get(service).map_or(0, |s| s.row);
        let relay = Relay {
            accepted: Some(accepted),
            ticket: None,
            peer: Key::NONE,
            host: Key::NONE,
            service,
            cells: row,
            connecting: false,
            endpoint: 0,
            tried: 0,
            ended: false,
            shut: false,
            undecided,
            unasked: undecided,
            bytes: 0,
            direction,
            since: self.now,
            answer: false,
            plain: true,
            rule: None,
        };
        if let Some(c) = self.conns.get_mut(key) {
            c.role = Role::Relay(Box::new(relay));
        }
        self.services.cells(row).in_flight.inc();
        self.shard.detected[raddle_core::Protocol::Tcp].inc();
        if self.refuses_relay(key) || (!undecided && self.limits_relay(key)) {
            return;
        }
        self.connect_relay(key, None);
    }

    /// Bytes that no service is known for.
    fn refuse_relay(&mut self, key: Key, a: &Accepted) {
        let direction = self.config.binding(a.listener).map_or(Direction::Outbound, |b| b.listener.direction);
        let row = self.row(direction, b"unknown");
        self.services.cells(row).rejected[Reason::NoCluster].inc();
        tracing::debug!(
            caller = ?a.peer,
            to = ?a.to,
            "bytes of no known protocol, and neither their destination nor the listener names a service for them"
        );
        if a.to.is_some()
            && let Some(c) = self.conns.get(key)
        {
            // As the application would see it of a server that is not there.
            socket::reset_on_close(&c.fd);
        }
        self.close(key, Reason::NoCluster);
    }

    /// Starts the endpoint's side.
    pub(crate) fn connect_relay(&mut self, caller: Key, avoid: Option<u32>) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(caller) else { return };
        let Role::Relay(r) = &mut conn.role else { return };
        r.tried += 1;
        let (service, row, direction, tried) = (r.service, r.cells, r.direction, r.tried);
        let unasked = r.unasked;
        let ip = r.accepted.as_ref().and_then(|a| a.peer).map(|a| a.ip());
        let Some(s) = self.services.get_mut(service) else {
            return self.relay_refused(caller, Reason::NoCluster);
        };
        let crate::services::ServiceState { service: svc, hosts, route, balance, .. } = s;
        let attributes = TcpAttributes { service: svc.name.as_bytes(), ip, peer: None };
        let picked = match svc.route(&attributes, route, &mut self.rng) {
            Decision::Send { subset, .. } => {
                let view = TcpView { hosts: &self.hosts, map: hosts, now };
                let hash = svc.hash_key(&attributes);
                let state = balance.entry(subset.id).or_default();
                pick(subset, svc, state, &view, hash, now, &mut self.rng, avoid).ok_or(Reason::NoHealthy)
            }
            // TCP has no words for a rule's own answer.
            Decision::Answer { .. } => Err(Reason::NoRoute),
            Decision::Reject { reason, .. } => Err(reason),
        };
        let picked = match picked {
            Ok(p) => p,
            Err(reason) => return self.relay_refused(caller, reason),
        };
        let Some(&host) = hosts.get(picked.index as usize) else { return };
        let timeouts = svc.policy.settings.timeouts.clone();
        let made = self.dial(host).and_then(|transport| {
            let addr = self.hosts.get(host)?.host.addr;
            match self.connect_out(addr, timeouts.dead_peer) {
                Ok(fd) => Some((transport, fd)),
                Err(e) => {
                    self.connect_failed(host, &e);
                    None
                }
            }
        });
        let Some((transport, fd)) = made else {
            if tried < TRIES {
                return self.connect_relay(caller, Some(picked.index));
            }
            return self.relay_refused(caller, Reason::ConnectFailure);
        };
        let relay = Relay {
            ticket: None,
            accepted: None,
            peer: caller,
            host,
            service,
            cells: row,
            connecting: true,
            endpoint: picked.index,
            tried,
            ended: false,
            shut: false,
            undecided: false,
            unasked,
            bytes: 0,
            direction,
            since: now,
            answer: false,
            plain: true,
            rule: None,
        };
        let Some(other) = self.add_conn(fd, Interest::WRITE, Role::Relay(Box::new(relay))) else {
            return self.relay_refused(caller, Reason::ConnectFailure);
        };
        if let Some(h) = self.hosts.get_mut(host) {
            h.active += 1;
        }
        if let Some(c) = self.conns.get_mut(other) {
            c.transport = transport;
        }
        self.shard.upstream_opened.inc();
        self.arm(other, now + timeouts.connect);
        if let Some(c) = self.conns.get_mut(caller)
            && let Role::Relay(r) = &mut c.role
        {
            r.peer = other;
            r.host = host;
            r.endpoint = picked.index;
        }
    }

    fn relay_refused(&mut self, caller: Key, reason: Reason) {
        let asked = matches!(self.conns.get(caller).map(|c| &c.role), Some(Role::Relay(r)) if r.answer);
        if asked {
            self.refuse_connect(caller, reason);
        } else if let Some(c) = self.conns.get(caller) {
            socket::reset_on_close(&c.fd);
        }
        self.close(caller, reason);
    }

    /// The endpoint's side can carry bytes.
    pub(crate) fn relay_established(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Role::Relay(r) = &mut conn.role else { return };
        r.connecting = false;
        self.shard.upstream_active.inc();
        let (host, caller) = (r.host, r.peer);
        self.agree_connect(caller);
        if let Some(h) = self.hosts.get_mut(host) {
            h.backoff.succeeded();
            h.down_until = None;
        }
        self.set_interest(key);
        self.flush(key);
    }

    pub(crate) fn relay_connect_failed(&mut self, key: Key, error: &std::io::Error) {
        let Some(Role::Relay(r)) = self.conns.get(key).map(|c| &c.role) else { return };
        let (host, endpoint) = (r.host, r.endpoint);
        self.connect_failed(host, error);
        self.relay_again(key, Some(endpoint));
    }

    /// The endpoint's side could not be made: another one, or the same in another way if `avoid` names none.
    pub(crate) fn relay_again(&mut self, key: Key, avoid: Option<u32>) {
        let Some(mut conn) = self.conns.remove(key) else { return };
        self.shared.opened.closed(&conn.fd);
        let Role::Relay(r) = conn.role else { return };
        if let Some(h) = self.hosts.get_mut(r.host) {
            h.active = h.active.saturating_sub(1);
        }
        if r.tried >= TRIES && avoid.is_some() {
            return self.relay_refused(r.peer, Reason::ConnectFailure);
        }
        if avoid.is_none()
            && let Some(Role::Relay(p)) = self.conns.get_mut(r.peer).map(|c| &mut c.role)
        {
            p.tried = p.tried.saturating_sub(1);
        }
        // Not a byte has left: what the caller said so far goes to the next endpoint.
        let said = conn.out.kept_from(0).map(<[u8]>::to_vec).unwrap_or_default();
        conn.out.clear(&mut self.pool);
        self.connect_relay(r.peer, avoid);
        let other = match self.conns.get(r.peer).map(|c| &c.role) {
            Some(Role::Relay(p)) => p.peer,
            _ => return,
        };
        if let Some(c) = self.conns.get_mut(other) {
            c.out.tail(&mut self.pool).extend_from_slice(&said);
        }
    }

    /// Passes bytes on.
    pub(crate) fn feed_relay(&mut self, key: Key, bytes: &mut [u8]) -> usize {
        if self.decide_late(key, bytes) {
            return self.detect(key, bytes);
        }
        if self.limits_relay_late(key) {
            return bytes.len();
        }
        let soft = self.config.limits().buffer_soft as usize;
        let Some(conn) = self.conns.get_mut(key) else { return bytes.len() };
        let Role::Relay(r) = &mut conn.role else { return bytes.len() };
        r.bytes += bytes.len() as u64;
        let peer = r.peer;
        let Some(to) = self.conns.get_mut(peer) else { return bytes.len() };
        let mut rest = &*bytes;
        if to.out.is_empty() && to.tls.is_none() && !to.connecting() {
            // The common case copies nothing; an error shows again at the next write or read.
            if let Ok(n) = socket::send(&to.fd, rest) {
                to.out.note_written(n);
                rest = &rest[n..];
            }
        }
        if !rest.is_empty() {
            to.out.tail(&mut self.pool).extend_from_slice(rest);
            let full = to.out.len() > soft;
            self.mark_dirty(peer);
            if full {
                self.pause(key, Paused::SINK_FULL);
                self.shard.held_back.inc();
            }
        }
        bytes.len()
    }

    /// A relay that began in silence turns out to be RPC: only if nothing has passed yet.
    fn decide_late(&mut self, key: Key, bytes: &[u8]) -> bool {
        let Some(conn) = self.conns.get_mut(key) else { return false };
        let Role::Relay(r) = &mut conn.role else { return false };
        if !r.undecided {
            return false;
        }
        r.undecided = false;
        let (peer, row) = (r.peer, r.cells);
        let spoken = matches!(self.conns.get(peer).map(|c| &c.role), Some(Role::Relay(p)) if p.bytes > 0);
        // Half a method is no TCP either: who cuts it in two must not get past what HTTP is held to.
        if spoken || sniff(bytes) == Sniff::Unknown {
            return false;
        }
        let Some(conn) = self.conns.get_mut(key) else { return false };
        let Role::Relay(r) = &mut conn.role else { return false };
        let Some(accepted) = r.accepted.take() else { return false };
        let again = crate::conn::Accepted { since: self.now, ..accepted };
        conn.role = Role::New(Box::new(again));
        self.services.cells(row).in_flight.dec();
        self.drop_silent_side(peer);
        let due = self.now + self.config.limits().detect_timeout;
        self.arm(key, due);
        true
    }

    fn drop_silent_side(&mut self, key: Key) {
        let Some(conn) = self.conns.remove(key) else { return };
        self.shared.opened.closed(&conn.fd);
        if let Role::Relay(r) = conn.role
            && let Some(h) = self.hosts.get_mut(r.host)
        {
            if !r.connecting {
                self.shard.upstream_active.dec();
            }
            h.active = h.active.saturating_sub(1);
        }
    }

    /// One side ended its stream.
    pub(crate) fn on_relay_end(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.paused.set(Paused::ENDED);
        let Role::Relay(r) = &mut conn.role else { return };
        r.ended = true;
        r.undecided = false;
        let peer = r.peer;
        self.set_interest(key);
        self.relay_done(peer);
    }

    /// Both directions of a side are over while it is not read from.
    pub(crate) fn on_relay_hangup(&mut self, key: Key) {
        let Some(conn) = self.conns.get(key) else { return };
        if socket::take_error(&conn.fd).is_err() {
            return self.broken(key);
        }
        if conn.paused.has(Paused::ENDED) {
            // All of it was read; the other side is still being written to, and epoll would not stop telling.
            let _ = self.poller.remove(&conn.fd);
        } else {
            // Its last bytes wait in the kernel, whose buffer bounds them.
            self.read(key);
        }
    }

    /// Passes an end of stream on once the bytes before it are out; ends the relay after both.
    pub(crate) fn relay_done(&mut self, key: Key) {
        let Some(conn) = self.conns.get(key) else { return };
        let Role::Relay(r) = &conn.role else { return };
        let peer = r.peer;
        let peer_ended = match self.conns.get(peer).map(|c| &c.role) {
            Some(Role::Relay(p)) => p.ended,
            _ => true,
        };
        if !peer_ended || conn.wants_write() || conn.connecting() {
            return;
        }
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Role::Relay(r) = &mut conn.role else { return };
        let (ended, shut) = (r.ended, std::mem::replace(&mut r.shut, true));
        if !shut {
            conn.end_tls(&mut self.pool);
            socket::shutdown_write(&conn.fd);
        }
        let both = ended && matches!(self.conns.get(peer).map(|c| &c.role), Some(Role::Relay(p)) if p.shut);
        if both {
            self.close(key, Reason::CallerGone);
        }
    }

    /// One side is gone: so is the other, after what is left for it was written.
    pub(crate) fn relay_closed(&mut self, _key: Key, r: &Relay, why: Reason) {
        if let Some(a) = &r.accepted {
            self.count_caller_gone();
            let cells = self.services.cells(r.cells);
            cells.in_flight.dec();
            cells.latency.record(self.now.since(r.since).as_nanos() as u64);
            let flag = match why {
                Reason::CallerGone | Reason::ConnectionLost => None,
                other => Some(other),
            };
            match flag {
                Some(reason) => cells.rejected[reason].inc(),
                None => cells.ok.inc(),
            }
            self.log_relay(r, a, flag);
        } else {
            let lost = why == Reason::ConnectFailure;
            if !r.connecting {
                self.shard.upstream_active.dec();
            }
            self.host_done(r.host, None, lost);
        }
        if let Some(p) = self.conns.get_mut(r.peer)
            && let Role::Relay(other) = &mut p.role
        {
            other.peer = Key::NONE;
            let peer = r.peer;
            let _ = p.flush_out(&mut self.pool);
            self.close(peer, why);
        }
    }

    fn log_relay(&mut self, r: &Relay, a: &crate::conn::Accepted, flag: Option<Reason>) {
        if !self.log.as_mut().is_some_and(|l| l.wants(flag.is_some() || r.rule.is_some())) {
            return;
        }
        let binding = self.config.binding(a.listener);
        let back = match self.conns.get(r.peer).map(|c| &c.role) {
            Some(Role::Relay(p)) => p.bytes,
            _ => 0,
        };
        let entry = Entry {
            time: self.shared.wall_zero_ns + r.since.as_nanos(),
            direction: r.direction,
            protocol: raddle_core::Protocol::Tcp,
            listener: binding.map_or("-", |b| &b.name),
            caller: a.peer.unwrap_or(crate::record::NOBODY),
            connection: a.id,
            request_id: 0,
            service: self.services.row_name(r.cells),
            method: None,
            endpoint: self.hosts.get(r.host).map(|h| h.host.addr),
            ok: flag.is_none(),
            status: 0,
            flag,
            rule: r.rule.as_deref(),
            duration_ns: self.now.since(r.since).as_nanos() as u64,
            request_bytes: r.bytes,
            response_bytes: back,
            retries: u32::from(r.tried.saturating_sub(1)),
            traceparent: None,
        };
        if let Some(log) = &mut self.log {
            log.write(&entry);
        }
    }

    /// A relay's timer: its connect attempt took too long.
    pub(crate) fn on_relay_timer(&mut self, key: Key) {
        if self.conns.get(key).is_some_and(crate::conn::Conn::connecting) {
            let error = std::io::Error::new(std::io::ErrorKind::TimedOut, "connect timed out");
            self.relay_connect_failed(key, &error);
        }
    }
}
