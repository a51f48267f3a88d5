//! TLS on a connection: between its socket and everything else, which sees plaintext only.
//!
//! The out-buffer stays plaintext; it is sealed when it is flushed, once a turn, so that what gathered in it
//! shares records.
use crate::conn::{Accepted, Conn, Direction, Role};
use crate::links::Peer;
use crate::worker::{READ_MOST, Worker};
use raddle_core::{Protocol, Reason};
use raddle_identity::{Leaf, TlsError, TlsSession};
use raddle_net::{BufPool, Flushed, Key, OutBuf};
use raddle_telemetry::Malformed;
use rustls::HandshakeKind;
use std::io;
use std::sync::Arc;

/// Sealed bytes beyond which no more are sealed until the socket takes some.
const SEALED_MOST: usize = 256 << 10;
/// Bytes read from a socket at once.
const CIPHER: usize = 64 << 10;

/// TLS of one connection.
pub struct Tls {
    pub(crate) session: TlsSession,
    /// Sealed bytes for the socket.
    pub(crate) sealed: OutBuf,
    /// Who is at the other end, once its certificate was verified.
    pub(crate) peer: Option<Arc<Peer>>,
    /// The handshake ended, and what follows from it was done.
    pub(crate) settled: bool,
    /// To an endpoint: the caller's part.
    pub(crate) link: Option<crate::secure::Link>,
}

impl Tls {
    /// Whether the handshake is still going on.
    pub(crate) fn handshaking(&self) -> bool {
        self.session.handshaking()
    }

    /// Whether what is to be said has to wait: for the end of the handshake, and at the caller's end for the other end's
    /// consent.
    fn holds(&self) -> bool {
        self.session.handshaking() || self.link.as_ref().is_some_and(|l| l.holds)
    }
}

impl Conn {
    /// Who is at the other end, as its certificate says; `None` in plaintext, or while the handshake goes on.
    pub fn peer(&self) -> Option<&Arc<Peer>> {
        self.tls.as_ref()?.peer.as_ref()
    }

    /// Whether bytes wait for the socket.
    pub fn wants_write(&self) -> bool {
        match &self.tls {
            None => !self.out.is_empty(),
            Some(t) => !t.sealed.is_empty() || (!self.out.is_empty() && !t.holds()),
        }
    }

    /// Writes as much as the socket takes, sealed if the connection is TLS.
    ///
    /// # Errors
    /// What `send` says; the connection is unusable then.
    pub fn flush_out(&mut self, pool: &mut BufPool) -> io::Result<Flushed> {
        let Some(tls) = &mut self.tls else { return self.out.flush(&self.fd, pool) };
        loop {
            if !self.out.is_empty() && !tls.holds() && tls.sealed.len() < SEALED_MOST {
                let session = &mut tls.session;
                let into = tls.sealed.tail(pool);
                self.out
                    .take(SEALED_MOST, pool, |plain| session.seal(plain, into).map_err(io::Error::other))?;
            }
            match tls.sealed.flush(&self.fd, pool)? {
                Flushed::Partly => return Ok(Flushed::Partly),
                Flushed::All if self.out.is_empty() || tls.holds() => return Ok(Flushed::All),
                Flushed::All => {}
            }
        }
    }

    /// Says that nothing more will be sent, in TLS's words.
    pub fn end_tls(&mut self, pool: &mut BufPool) {
        if let Some(tls) = &mut self.tls {
            // Fails if the handshake is not over: then there is nothing to end.
            let _ = tls.session.close_notify(tls.sealed.tail(pool));
            let _ = tls.sealed.flush(&self.fd, pool);
        }
    }
}

impl Worker {
    /// What a connection's TLS is taken with: the listener's own certificate, else the one the mesh knows us by.
    pub(crate) fn server_tls(&self, a: &Accepted) -> Option<Arc<rustls::ServerConfig>> {
        let binding = self.config.binding(a.listener)?;
        let port = a.to.map_or(binding.listener.addr.port(), |to| to.port());
        if binding.app_tls.contains(&port) {
            return None;
        }
        match binding.listener.direction {
            _ if binding.tls.is_some() => binding.tls.clone(),
            Direction::Inbound => self.links.server().cloned(),
            Direction::Outbound => None,
        }
    }

    /// The first byte says TLS and there is a certificate. Returns the bytes used: all of them.
    pub(crate) fn begin_tls(&mut self, key: Key, bytes: &mut [u8]) -> Option<usize> {
        let Role::New(a) = &self.conns.get(key)?.role else { return None };
        let config = self.server_tls(a)?;
        if !self.may_shake(key) {
            return Some(0);
        }
        let session = TlsSession::server(config).ok()?;
        let conn = self.conns.get_mut(key)?;
        let tls = Tls { session, sealed: OutBuf::default(), peer: None, settled: false, link: None };
        conn.tls = Some(Box::new(tls));
        self.shard.tls_accepted.inc();
        self.open_records(key, bytes);
        Some(bytes.len())
    }

    /// Does what follows from the end of a handshake, once.
    fn settle_handshake(&mut self, key: Key) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Some(tls) = &mut conn.tls else { return };
        if tls.settled || tls.session.handshaking() {
            return;
        }
        tls.settled = true;
        let resumed = tls.session.state().handshake_kind() == Some(HandshakeKind::Resumed);
        let leaf = tls.session.state().peer_certificates().and_then(|c| Leaf::read(c.first()?));
        tls.peer = leaf.as_ref().map(|leaf| Arc::new(Peer::of(leaf)));
        if tls.peer.is_some() {
            match resumed {
                true => self.shard.link_in_resumed.inc(),
                false => self.shard.link_in_full.inc(),
            }
        }
        if resumed && !self.may_resume(key) {
            self.shard.link_in_failed.inc();
            self.shard.tls_failed.inc();
            return self.close(key, Reason::CallerProtocol);
        }
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Role::New(a) = &mut conn.role else { return };
        let took = now.since(a.since);
        self.shard.link_handshake_time.record(took.as_nanos() as u64);
        // What it speaks is waited for from here on.
        a.since = now;
        let declared = a.clone();
        match self.declared(&declared) {
            // Its server may speak first.
            Some(Protocol::Tcp) => self.become_relay(key, false),
            _ => {
                let at = now + self.config.limits().detect_timeout;
                self.arm(key, at);
            }
        }
    }

    /// Reads from a connection that is TLS.
    pub(crate) fn read_tls(&mut self, key: Key) {
        let mut cipher = std::mem::take(&mut self.cipher);
        if cipher.len() < CIPHER {
            cipher.resize(CIPHER, 0);
        }
        let now = self.now;
        let shaking = self.conns.get(key).and_then(|c| c.tls.as_ref()).is_some_and(|t| t.handshaking());
        if shaking && !self.may_shake(key) {
            self.cipher = cipher;
            return;
        }
        if let Some(conn) = self.conns.get_mut(key) {
            match raddle_net::socket::recv(&conn.fd, &mut cipher) {
                Ok(0) => self.on_end(key),
                Ok(n) => {
                    conn.read_at = now;
                    match conn.is_endpoint() {
                        true => self.shard.upstream_bytes_in.add(n as u64),
                        false => self.shard.caller_bytes_in.add(n as u64),
                    }
                    self.open_records(key, &mut cipher[..n]);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.broken(key),
            }
        }
        self.cipher = cipher;
    }

    /// Opens records and hands on what they hold.
    fn open_records(&mut self, key: Key, mut cipher: &mut [u8]) {
        loop {
            let Some(tls) = self.conns.get_mut(key).and_then(|c| c.tls.as_mut()) else { return };
            let was = tls.session.handshaking();
            if was && self.hand_over(key, cipher) {
                return;
            }
            let Some(conn) = self.conns.get_mut(key) else { return };
            let Some(tls) = &mut conn.tls else { return };
            let held = conn.stash.len();
            let mut plain = if held > 0 { std::mem::take(&mut conn.stash) } else { self.pool.take() };
            let result = tls.session.feed(cipher, &mut plain, READ_MOST);
            tls.session.take_handshake_output(tls.sealed.tail(&mut self.pool));
            let used = *result.as_ref().unwrap_or(&cipher.len());
            let goes_on = self.opened(key, was, held, &mut plain, &result.map(|_| ()));
            self.pool.give(plain);
            cipher = &mut cipher[used..];
            if !goes_on || cipher.is_empty() {
                return;
            }
        }
    }

    /// What follows from records that were opened: `plain` is what they hold, behind `held` bytes from before; `was` says
    /// that the handshake was going on. Returns whether the connection goes on.
    pub(crate) fn opened(
        &mut self,
        key: Key,
        was: bool,
        held: usize,
        plain: &mut Vec<u8>,
        result: &Result<(), TlsError>,
    ) -> bool {
        let Some(conn) = self.conns.get_mut(key) else { return false };
        let Some(tls) = &mut conn.tls else { return false };
        let shaking = tls.link.is_some() && conn.role.connecting();
        let (closed, failed) = (tls.session.peer_closed(), result.is_err());
        self.mark_dirty(key);
        if shaking && !self.on_shaken(key, was && plain.len() == held, result.as_ref().err()) {
            return false;
        }
        if !failed {
            self.settle_handshake(key);
        }
        if plain.len() > held {
            let fresh = held == 0;
            self.feed(key, plain, fresh);
        } else if let Some(conn) = self.conns.get_mut(key)
            && held > 0
        {
            conn.stash = std::mem::take(plain);
        }
        if let Err(e) = result {
            self.tls_broke(key, e);
            return false;
        }
        if closed {
            if let Some(c) = self.conns.get_mut(key)
                && c.paused.any()
                && !c.stash.is_empty()
            {
                c.ends = true;
                return false;
            }
            self.on_end(key);
            return false;
        }
        true
    }

    /// The other end broke TLS, or could not be agreed with.
    fn tls_broke(&mut self, key: Key, e: &TlsError) {
        tracing::debug!(error = %e, "TLS failed");
        let endpoint = self.conns.get(key).is_some_and(crate::conn::Conn::is_link);
        if endpoint {
            self.shard.upstream_malformed[Malformed::Other].inc();
        } else {
            self.shard.caller_malformed[Malformed::Other].inc();
            self.shard.tls_failed.inc();
            self.shard.link_in_failed.inc();
            self.tell_refused(key, e);
        }
        if let Some(c) = self.conns.get_mut(key) {
            // The alert it is owed.
            let _ = c.flush_out(&mut self.pool);
        }
        if endpoint {
            self.link_broke(key, e);
        }
        self.close(key, if endpoint { Reason::ConnectionLost } else { Reason::CallerProtocol });
    }
}
