//! TLS on connections to endpoints: from TCP's handshake to a connection that carries requests, and what happens where
//! TLS cannot be had.
//!
//! Every connection to an endpoint comes by here, in plaintext or not: [`Worker::dial`] says what it is to be,
//! [`Worker::on_dialled`] goes on when TCP's handshake has ended, [`Worker::established`] hands it to its role. What
//! replaces what is in [`turning`](crate::turning).
use crate::conn::{Conn, Role};
use crate::hosts::HostState;
use crate::http::HttpConn;
use crate::lane::Lane;
use crate::links::Peer;
use crate::tls::Tls;
use crate::worker::{TICK, Worker};
use raddle_core::Time;
use raddle_identity::{Leaf, TlsError, TlsSession, Validity, verify_chain};
use raddle_net::{Key, OutBuf, socket};
use raddle_policy::Transport;
use raddle_policy::link::PLAINTEXT;
use raddle_telemetry::LinkFailure;
use raddle_wire::bolt::Variant;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, Error, HandshakeKind, ProtocolVersion};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// A handshake may take this long.
pub(crate) const HANDSHAKE_MOST: Duration = Duration::from_secs(15);
/// Requests that have no connection at all get a plaintext one meanwhile, if that is allowed, after this long.
const HURRY: Duration = Duration::from_secs(1);
/// In TLS 1.3 a client is done before the server has looked at its certificate. So that a refusal finds no request on
/// the connection, it takes none before the server has said something (a ticket, mostly), or for this long at least...
const ACCEPTED_LEAST: Duration = Duration::from_millis(10);
/// ...and at most; in between for as long as the handshake took, three times.
const ACCEPTED_MOST: Duration = Duration::from_secs(1);

/// The caller's part of a TLS connection to an endpoint.
pub(crate) struct Link {
    begun: Time,
    /// The handshake has to be over by then.
    due: Time,
    /// It is over; if the other end does not object until then, it has taken us.
    accepted_at: Option<Time>,
    /// It carries nothing yet.
    pub(crate) holds: bool,
    /// Those who wait were given another connection meanwhile.
    hurried: bool,
    /// Replacement of the identity it was begun with.
    generation: u64,
    /// Until when the other end's certificate is valid, seconds since 1970.
    pub(crate) not_after: i64,
    /// Since when the other end is no longer trusted.
    pub(crate) distrusted: Option<Time>,
}

/// What went wrong, by kind.
fn cause_of(e: &TlsError) -> LinkFailure {
    let TlsError::Tls(e) = e else { return LinkFailure::Other };
    match e {
        Error::AlertReceived(_) => LinkFailure::Refused,
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => LinkFailure::NotTls,
        Error::InvalidCertificate(c) => match c {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => LinkFailure::Expired,
            CertificateError::ApplicationVerificationFailure => LinkFailure::WrongPeer,
            _ => LinkFailure::Untrusted,
        },
        _ => LinkFailure::Other,
    }
}

/// Whom a transport leads to, for people.
pub(crate) fn whom(to: &Transport) -> String {
    match (&*to.ids, &to.unit) {
        ([], None) => format!("app {}", to.app),
        ([], Some(unit)) => format!("app {} in unit {unit}", to.app),
        (ids, _) => ids.iter().map(|i| &**i).collect::<Vec<_>>().join(" or "),
    }
}

/// The host a connection to an endpoint leads to.
fn host_of(conn: &Conn) -> Option<Key> {
    match &conn.role {
        Role::Endpoint(e) => Some(e.host),
        Role::Relay(r) if r.accepted.is_none() => Some(r.host),
        Role::Http(h) => h.host(),
        _ => None,
    }
}

/// What a connection to an endpoint is to carry.
fn lane_of(role: &Role) -> Lane {
    match role {
        Role::Endpoint(e) => e.lane,
        Role::Http(HttpConn::Up1(_)) => Lane::Http1,
        Role::Http(_) => Lane::Http2,
        // Bytes of no known protocol: as for Bolt, no name of one is offered.
        _ => Lane::Bolt(Variant::V1),
    }
}

impl Conn {
    /// Where it leads, if it is the sidecar's own connection to an endpoint.
    pub(crate) fn endpoint_host(&self) -> Option<Key> {
        host_of(self)
    }
}

impl Worker {
    /// Seconds since 1970.
    pub(crate) fn wall_seconds(&self) -> i64 {
        ((self.shared.wall_zero_ns + self.now.as_nanos()) / 1_000_000_000) as i64
    }

    /// What a new connection to a host is to be: a transport's id, or plaintext. `None`: none can be made, which is
    /// noted.
    pub(crate) fn dial(&mut self, host: Key) -> Option<u64> {
        let now = self.now;
        let inward = !self.leads_out(host);
        let h = self.hosts.get_mut(host)?;
        h.inward = inward;
        let aim = h.link.aim(h.wanted(), now);
        if aim == PLAINTEXT || self.links.identity.is_some() {
            return Some(aim);
        }
        let Some(to) = h.host.transport() else { return Some(PLAINTEXT) };
        let error =
            self.note_link_failure(host, &to, LinkFailure::NoIdentity, "this sidecar has no certificate");
        if to.required {
            self.connect_failed(host, &error);
            self.hosts.turning.schedule(host, now);
            return None;
        }
        Some(PLAINTEXT)
    }

    /// TCP's handshake has ended.
    pub(crate) fn on_dialled(&mut self, key: Key) {
        let Some(conn) = self.conns.get(key) else { return };
        if let Err(error) = socket::take_error(&conn.fd) {
            return self.dial_failed(key, &error);
        }
        if conn.transport == PLAINTEXT {
            return self.established(key);
        }
        self.begin_link(key);
    }

    fn dial_failed(&mut self, key: Key, error: &io::Error) {
        match self.conns.get(key).map(|c| &c.role) {
            Some(Role::Endpoint(_)) => self.drop_connecting(key, error),
            Some(Role::Relay(_)) => self.relay_connect_failed(key, error),
            Some(Role::Http(_)) => self.drop_http_connecting(key, error),
            _ => {}
        }
    }

    /// The connection takes what its role has for it.
    pub(crate) fn established(&mut self, key: Key) {
        if let Some(link) = self.link_mut(key) {
            link.holds = false;
        }
        match self.conns.get(key).map(|c| &c.role) {
            Some(Role::Endpoint(_)) => self.endpoint_established(key),
            Some(Role::Relay(_)) => self.relay_established(key),
            Some(Role::Http(_)) => self.http_established(key),
            _ => {}
        }
    }

    /// Says hello.
    fn begin_link(&mut self, key: Key) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Some(host) = host_of(conn) else { return };
        let Some(h) = self.hosts.get(host) else { return };
        let addr = h.host.addr;
        let Some(to) = h.host.transport() else {
            // Not wanted any more.
            conn.transport = PLAINTEXT;
            return self.established(key);
        };
        conn.transport = to.id;
        let Some(config) = self.links.client(&to, lane_of(&conn.role)) else {
            return self.link_lost(key, LinkFailure::NoIdentity, "this sidecar has no certificate");
        };
        let session = match TlsSession::client(config, ServerName::IpAddress(addr.ip().into())) {
            Ok(s) => s,
            Err(e) => return self.link_lost(key, LinkFailure::Other, &e.to_string()),
        };
        let link = Link {
            begun: now,
            due: now + HANDSHAKE_MOST,
            accepted_at: None,
            holds: true,
            hurried: false,
            generation: self.links.generation,
            not_after: i64::MAX,
            distrusted: None,
        };
        let mut tls = Tls { session, sealed: OutBuf::default(), peer: None, settled: true, link: Some(link) };
        tls.session.take_handshake_output(tls.sealed.tail(&mut self.pool));
        conn.tls = Some(Box::new(tls));
        self.mark_dirty(key);
        self.set_interest(key);
        self.arm(key, now + HURRY);
    }

    /// A connection whose handshake is under way was fed; `began` = it was before, and no data came with its end.
    /// Returns whether the connection is still there.
    pub(crate) fn on_shaken(&mut self, key: Key, began: bool, error: Option<&TlsError>) -> bool {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(key) else { return false };
        let Some(tls) = &mut conn.tls else { return false };
        let closed = tls.session.peer_closed();
        if let Some(e) = error {
            // The alert it is owed.
            let _ = conn.flush_out(&mut self.pool);
            self.link_lost(key, cause_of(e), &e.to_string());
            return false;
        }
        if closed {
            self.link_cut(key);
            return false;
        }
        if tls.session.handshaking() {
            return true;
        }
        let Some(link) = &tls.link else { return true };
        if link.accepted_at.is_none() {
            let took = now.since(link.begun);
            if !self.judge(key) {
                return false;
            }
            if began && self.is_tls13(key) {
                let at = now + (took * 3).clamp(ACCEPTED_LEAST, ACCEPTED_MOST);
                if let Some(link) = self.link_mut(key) {
                    link.accepted_at = Some(at);
                }
                self.arm(key, at);
                return true;
            }
        }
        self.established(key);
        self.conns.get(key).is_some()
    }

    fn link_mut(&mut self, key: Key) -> Option<&mut Link> {
        self.conns.get_mut(key)?.tls.as_mut()?.link.as_mut()
    }

    fn is_tls13(&self, key: Key) -> bool {
        let tls = self.conns.get(key).and_then(|c| c.tls.as_ref());
        tls.is_some_and(|t| t.session.state().protocol_version() == Some(ProtocolVersion::TLSv1_3))
    }

    /// The handshake is over: notes who is there. A resumed one says nothing of the certificate, and roots may have
    /// changed since the handshake began. Returns whether the connection may be used.
    fn judge(&mut self, key: Key) -> bool {
        let now = self.wall_seconds();
        let Some(tls) = self.conns.get_mut(key).and_then(|c| c.tls.as_mut()) else { return false };
        let Some(link) = &mut tls.link else { return false };
        let state = tls.session.state();
        let chain = state.peer_certificates().unwrap_or_default();
        let resumed = state.handshake_kind() == Some(HandshakeKind::Resumed);
        let moved = link.generation != self.links.generation;
        let verdict = match &self.links.identity {
            Some(own) if resumed || moved => verify_chain(chain, own.trust(), now),
            _ => Ok(()),
        };
        if let Some(leaf) = chain.first() {
            link.not_after = Validity::of(leaf).map_or(i64::MAX, |v| v.not_after);
            tls.peer = Leaf::read(leaf).map(|l| Arc::new(Peer::of(&l)));
        }
        match verdict {
            Ok(()) => {
                if resumed { &self.shard.link_resumed } else { &self.shard.link_full }.inc();
                true
            }
            Err(e) => {
                let e = TlsError::Tls(e);
                self.link_lost(key, cause_of(&e), &e.to_string());
                false
            }
        }
    }

    /// A connection's timer while its TLS handshake is under way.
    pub(crate) fn on_link_timer(&mut self, key: Key) {
        let now = self.now;
        let Some(conn) = self.conns.get(key) else { return };
        let Some(host) = host_of(conn) else { return };
        let Some(link) = conn.tls.as_ref().and_then(|t| t.link.as_ref()) else { return };
        let (due, accepted, hurry) = (link.due, link.accepted_at, link.begun + HURRY);
        if accepted.is_some_and(|at| at <= now) {
            return self.established(key);
        }
        if due <= now {
            return self.link_lost(key, LinkFailure::Timeout, "the handshake was not over in time");
        }
        if hurry <= now {
            self.hurry(key, host);
        }
        // Requests whose time is over while they wait for it.
        let overdue = self.release_overdue(host).max(now + TICK);
        let mut next = due.min(overdue).min(accepted.unwrap_or(Time::MAX));
        if hurry > now {
            next = next.min(hurry);
        }
        self.arm(key, next);
    }

    /// The handshake takes long: those who have no other connection to wait for get one in plaintext, where allowed.
    fn hurry(&mut self, key: Key, host: Key) {
        let Some(conn) = self.conns.get(key) else { return };
        let lane = lane_of(&conn.role);
        let owner = match &conn.role {
            Role::Endpoint(e) => e.owner,
            Role::Http(_) => Key::NONE,
            _ => return,
        };
        if conn.tls.as_ref().and_then(|t| t.link.as_ref()).is_none_or(|l| l.hurried) {
            return;
        }
        let Some(h) = self.hosts.get(host) else { return };
        let allowed = h.host.transport().is_none_or(|t| !t.required);
        let others = h.conns.iter().any(|p| {
            p.key != key
                && p.lane == lane
                && p.owner == owner
                && self.conns.get(p.key).is_some_and(|c| c.transport == PLAINTEXT)
        });
        let Some(policy) = h.policy.clone().filter(|_| allowed && !others && h.is_awaited()) else { return };
        if let Some(link) = self.link_mut(key) {
            link.hurried = true;
        }
        self.shard.link_fallbacks[LinkFailure::Timeout].inc();
        self.open_as(host, lane, owner, &policy, PLAINTEXT);
    }

    /// The other end closed in the middle of the handshake, or the socket broke.
    pub(crate) fn link_cut(&mut self, key: Key) {
        self.link_lost(key, LinkFailure::Refused, "the other end closed the connection during the handshake");
    }

    /// The handshake failed.
    fn link_lost(&mut self, key: Key, cause: LinkFailure, why: &str) {
        let Some(conn) = self.conns.get(key) else { return };
        let Some(host) = host_of(conn) else { return };
        let (transport, lane) = (conn.transport, lane_of(&conn.role));
        let relay = match &conn.role {
            Role::Relay(r) => Some(r.endpoint),
            _ => None,
        };
        self.shard.link_failed.inc();
        let wanted = self.hosts.get(host).and_then(|h| h.host.transport()).filter(|t| t.id == transport);
        let error = wanted.as_ref().map(|to| self.note_link_failure(host, to, cause, why));
        let refused = error.filter(|_| wanted.is_some_and(|t| t.required));
        if let Some(endpoint) = relay {
            if let Some(error) = &refused {
                self.connect_failed(host, error);
            }
            return self.relay_again(key, refused.map(|_| endpoint));
        }
        if let Some(conn) = self.conns.remove(key) {
            self.shared.opened.closed(&conn.fd);
        }
        self.unpool(host, key);
        match refused {
            Some(error) => {
                self.connect_failed(host, &error);
                self.retire_barred(host);
            }
            None => {
                self.release_waiting(host);
                if matches!(lane, Lane::Http1 | Lane::Http2) {
                    self.serve_waiting(host, lane);
                }
            }
        }
    }

    /// TLS to a host could not be had: counts, remembers why, says so once, and sees to the next attempt. Returns the
    /// reason as a sentence.
    fn note_link_failure(&mut self, host: Key, to: &Transport, cause: LinkFailure, why: &str) -> io::Error {
        let now = self.now;
        self.shard.link_failures[cause].inc();
        let Some(h) = self.hosts.get_mut(host) else { return io::Error::other(why.to_owned()) };
        let addr = h.host.addr;
        let text = format!("no encrypted connection to {addr}, which is to be {}: {why}", whom(to));
        let next = h.link.failed(to.id, to.required, now, &mut self.rng);
        h.link_error = Some(text.clone());
        tracing::debug!(endpoint = %addr, cause = cause.name(), why, "TLS to an endpoint failed");
        if !to.required {
            self.shard.link_fallbacks[cause].inc();
            self.hosts.turning.schedule(host, next);
        }
        if self.links.tell_once(addr, cause) {
            let then = if to.required { "requests to it fail" } else { "requests go on in plaintext" };
            self.shared.warn("link_not_encrypted", addr.to_string(), format!("{text}; {then}"));
        }
        io::Error::other(text)
    }

    /// TLS broke after a connection was taken into use. An alert then is mostly a refusal that came late: the next
    /// attempt is not made at once.
    pub(crate) fn link_broke(&mut self, key: Key, error: &TlsError) {
        let Some(conn) = self.conns.get(key) else { return };
        let Some(host) = host_of(conn) else { return };
        let transport = conn.transport;
        let cause = cause_of(error);
        let wanted = self.hosts.get(host).and_then(|h| h.host.transport()).filter(|t| t.id == transport);
        if let Some(to) = wanted.filter(|_| cause == LinkFailure::Refused) {
            self.note_link_failure(host, &to, cause, &error.to_string());
        }
    }

    /// Plaintext was ruled out: connections that are no more to carry requests.
    pub(crate) fn retire_barred(&mut self, host: Key) {
        let Some(h) = self.hosts.get(host) else { return };
        let barred = |k: &Key| !h.usable(*k, &self.conns);
        let keys: Vec<Key> = h.conns.iter().filter(|p| p.ready).map(|p| p.key).filter(barred).collect();
        for k in keys {
            self.retire(k, "it is not encrypted and has to be");
        }
    }

    /// Why none of a service's endpoints can be connected to, for who asked.
    pub(crate) fn why_unconnected(&self, service: Key) -> String {
        let hosts = self.services.get(service).map_or(&[][..], |s| &s.hosts);
        let of = |k: &Key| {
            self.hosts.get(*k).filter(|h: &&HostState| h.link.fails(h.wanted()))?.link_error.clone()
        };
        hosts.iter().find_map(of).unwrap_or_else(|| "every endpoint refuses connections".to_owned())
    }
}
