//! How connections end: at once, when they are done, by reset; and what that means for others.
use crate::conn::{Conn, Paused, Phase, Role};
use crate::worker::Worker;
use raddle_core::Reason;
use raddle_net::{Key, socket};

impl Worker {
    /// Ends a connection. What was in flight on it is moved, retried or answered with `why`.
    pub(crate) fn close(&mut self, key: Key, why: Reason) {
        let Some(conn) = self.conns.remove(key) else { return };
        let Conn { fd, mut out, stash, stream, role, row, tls, .. } = conn;
        self.link_ends(row, tls.is_some(), &role);
        let opened = match &role {
            Role::Endpoint(_) => true,
            Role::Relay(r) => r.accepted.is_none(),
            Role::Http(h) => h.accepted().is_none(),
            Role::New(_) | Role::Caller(_) => false,
        };
        if opened {
            self.shared.opened.closed(&fd);
        }
        self.pool.give(stash);
        match role {
            Role::New(_) => {
                self.count_caller_gone();
                self.forget_parked(key);
            }
            Role::Caller(c) => {
                self.count_caller_gone();
                self.forget_parked(key);
                if c.in_flight > 0 {
                    self.forget_delayed(key);
                }
                for f in c.feeders {
                    self.unpause(f, Paused::SINK_FULL);
                }
                if let Some(sink) = stream.and_then(|s| s.sink) {
                    // Half a request is on it; nothing can follow.
                    self.close(sink, Reason::CallerGone);
                }
                if c.private {
                    self.retire_private(key);
                }
            }
            Role::Endpoint(mut e) => {
                self.unpool(e.host, key);
                if e.phase != Phase::Connecting {
                    self.shard.upstream_active.dec();
                }
                if e.pending.live() > 0 {
                    self.shard.upstream_lost.inc();
                }
                if let Some(h) = self.hosts.get(e.host) {
                    h.cells.connections.set(h.conns.iter().filter(|p| p.ready).count() as i64);
                }
                for f in std::mem::take(&mut e.feeders) {
                    self.unpause(f, Paused::SINK_FULL);
                }
                if let Some(sink) = stream.and_then(|s| s.sink) {
                    // Half a reply is out; the caller cannot make sense of what would follow.
                    self.doomed.push(sink);
                }
                if let Some(from) = e.stream_from
                    && let Some(c) = self.conns.get_mut(from)
                    && let Some(s) = &mut c.stream
                {
                    s.sink = None;
                }
                self.fail_in_flight(*e, &out, why);
            }
            Role::Relay(r) => self.relay_closed(key, &r, why),
            Role::Http(h) => self.http_closed(key, h, &out, why),
        }
        out.clear(&mut self.pool);
        drop(fd);
    }

    /// Ends a connection when nothing is left for it to do.
    pub(crate) fn close_if_done(&mut self, key: Key) {
        let Some(conn) = self.conns.get(key) else { return };
        if conn.wants_write() {
            return;
        }
        match &conn.role {
            Role::Caller(c) => {
                let idle = c.in_flight == 0 && c.deferred.is_empty() && c.stream_from.is_none();
                if idle && conn.paused.has(Paused::ENDED) {
                    self.close(key, Reason::CallerGone);
                }
            }
            Role::Endpoint(e) => {
                if e.phase == Phase::Retiring && conn.is_idle_endpoint() {
                    self.close(key, Reason::ConnectionLost);
                }
            }
            Role::Relay(_) => self.relay_done(key),
            Role::Http(_) => self.http_close_if_done(key),
            Role::New(_) => {}
        }
    }

    /// Has a connection reset when the turn settles.
    pub(crate) fn reset_later(&mut self, key: Key) {
        if !self.doomed.contains(&key) {
            self.doomed.push(key);
        }
    }

    /// Ends a connection such that its peer sees an error, not an orderly end in the middle of a frame.
    pub(crate) fn reset(&mut self, key: Key) {
        if let Some(c) = self.conns.get(key) {
            socket::reset_on_close(&c.fd);
            self.shard.slow_callers_closed.inc();
            self.close(key, Reason::SlowCaller);
        }
    }
}
