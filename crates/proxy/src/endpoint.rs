//! An endpoint's side: connections that are made, used, kept alive, retired and lost.
use crate::answer::ReplyTo;
use crate::conn::{Conn, Deferred, Phase, Role, Stream};
use crate::frame::{self, Head, What};
use crate::lane::Lane;
use crate::pending::Claimed;
use crate::worker::{STREAM_FROM, TICK, Worker};
use raddle_core::{Reason, Time};
use raddle_net::Key;
use raddle_policy::heartbeat::Action;
use std::time::Duration;

/// A connection that was retired is closed at the latest after this long, or when the time of the last request in flight
/// on it is over.
const RETIRE_MOST: Duration = Duration::from_secs(600);
/// How long a slow caller may hold up a connection on which others wait.
const STALL_MOST: Duration = Duration::from_secs(1);
/// The same for one that takes nothing at all, since it last took something.
const STALL_QUIET: Duration = Duration::from_millis(200);
/// With this many replies overdue on one connection, it is given up in favour of a fresh one.
const LATE_MOST: u32 = 10_000;

impl Worker {
    /// A connection can carry requests.
    pub(crate) fn endpoint_established(&mut self, key: Key) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Role::Endpoint(e) = &mut conn.role else { return };
        let host = e.host;
        e.phase = Phase::Ready;
        e.since = now;
        let lane = e.lane;
        let next = e.heartbeat.next_wake();
        conn.wrote_at = now;
        self.shard.upstream_active.inc();
        self.host_established(host, key);
        self.set_interest(key);
        self.arm(key, next);
        // Tells a sidecar at the other end what the connection speaks, and in Bolt that GOAWAY is understood; a
        // plain server just answers.
        if self.leads_out(host) {
            self.send_heartbeat(key, lane);
        }
        self.settle_switch(key);
        self.release_waiting(host);
    }

    /// Whether a host is another app's, not the local app behind an inbound listener.
    pub(crate) fn leads_out(&self, host: Key) -> bool {
        let Some(h) = self.hosts.get(host) else { return false };
        let addr = h.host.addr;
        !self.config.sidecar.inbound.iter().any(|l| l.forward == Some(addr))
            && !self.destinations.is_local_app(addr)
    }

    pub(crate) fn drop_connecting(&mut self, key: Key, error: &std::io::Error) {
        let Some(conn) = self.conns.remove(key) else { return };
        self.shared.opened.closed(&conn.fd);
        let Role::Endpoint(e) = conn.role else { return };
        self.unpool(e.host, key);
        self.connect_failed(e.host, error);
    }

    fn send_heartbeat(&mut self, key: Key, lane: Lane) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        frame::ping(conn.out.tail(&mut self.pool), lane);
        self.shard.heartbeats_sent.inc();
        self.mark_dirty(key);
    }

    /// Whole replies out of an endpoint's bytes. Returns how many bytes were used.
    pub(crate) fn feed_endpoint(&mut self, key: Key, bytes: &mut [u8]) -> usize {
        let used = self.feed_replies(key, bytes);
        let now = self.now;
        if let Some(conn) = self.conns.get_mut(key)
            && let Role::Endpoint(e) = &mut conn.role
        {
            e.heartbeat.heard(now, e.pending.live() > 0);
        }
        used
    }

    fn feed_replies(&mut self, key: Key, bytes: &mut [u8]) -> usize {
        let limits = self.frame_limits();
        let mut at = 0;
        loop {
            let Some(conn) = self.conns.get(key) else { return bytes.len() };
            if conn.paused.any() {
                return at;
            }
            if conn.stream.is_some() {
                let used = self.pass_through(key, &mut bytes[at..]);
                at += used;
                if used == 0 {
                    return at;
                }
                continue;
            }
            let rest = &mut bytes[at..];
            if rest.is_empty() {
                return at;
            }
            let Role::Endpoint(e) = &conn.role else { return bytes.len() };
            let head = match Head::parse(e.lane, rest, limits) {
                Ok(Some(h)) => h,
                Ok(None) => return at,
                Err(e) => {
                    self.malformed(key, e, Reason::EndpointProtocol);
                    return bytes.len();
                }
            };
            let len = head.frame_len();
            let large = len > STREAM_FROM;
            let enough = if large { head.reply_opening() } else { len };
            if rest.len() < enough {
                return at;
            }
            self.on_endpoint_frame(key, &head, &mut rest[..enough], large);
            at += enough;
        }
    }

    /// A frame from an endpoint, or the beginning of a large one.
    fn on_endpoint_frame(&mut self, key: Key, head: &Head, frame: &mut [u8], large: bool) {
        let mut sink = None;
        let mut crc_mask = 0;
        match head.what(frame) {
            What::Reply => {
                if let Some(to) = self.claim(key, head, frame) {
                    let (caller, id) = (to.caller, to.asker.id);
                    if !large && self.say_again(key, &to, head, frame) {
                        return;
                    }
                    if large {
                        crc_mask = self.begin_reply_stream(key, caller, id, head, frame);
                        sink = Some(caller);
                    } else {
                        self.deliver(caller, |out| {
                            let at = out.len();
                            out.extend_from_slice(frame);
                            head.write_id(&mut out[at..], id);
                        });
                    }
                }
            }
            What::Pong => {
                let now = self.now;
                if let Some(conn) = self.conns.get_mut(key)
                    && let Role::Endpoint(e) = &mut conn.role
                {
                    e.heartbeat.heard(now, e.pending.live() > 0);
                }
            }
            What::Ping => {
                if let Some(conn) = self.conns.get_mut(key)
                    && !matches!(&conn.role, Role::Endpoint(e) if e.stream_from.is_some())
                {
                    head.pong(frame, conn.out.tail(&mut self.pool));
                    self.shard.heartbeats_answered.inc();
                    self.mark_dirty(key);
                }
            }
            What::GoAway => {
                self.shard.goaways_received.inc();
                self.retire(key, "the endpoint sent GOAWAY");
            }
            What::Request | What::Other => self.shard.unexpected_frames.inc(),
        }
        if large && let Some(conn) = self.conns.get_mut(key) {
            let remaining = (head.frame_len() - frame.len()) as u64;
            conn.stream = Some(Box::new(Stream { remaining, sink, crc_mask }));
            let at = self.now + self.config.limits().frame_timeout;
            self.arm(key, at);
        }
    }

    pub(crate) fn host_of(&self, key: Key) -> Key {
        match self.conns.get(key).map(|c| &c.role) {
            Some(Role::Endpoint(e)) => e.host,
            _ => Key::NONE,
        }
    }

    /// Finds out whose reply this is.
    fn claim(&mut self, key: Key, head: &Head, frame: &[u8]) -> Option<ReplyTo> {
        let conn = self.conns.get_mut(key)?;
        let Role::Endpoint(e) = &mut conn.role else { return None };
        let host = e.host;
        match e.pending.claim_wide(head.id()) {
            Claimed::Live(r) => {
                let over = e.phase == Phase::Retiring && e.pending.live() == 0;
                let to = self.on_reply(host, r, head, frame);
                if over {
                    // Closed after this turn's flush.
                    self.mark_dirty(key);
                }
                to
            }
            Claimed::Late => {
                self.shard.late_replies.inc();
                None
            }
            Claimed::Unknown => {
                self.shard.unexpected_replies.inc();
                None
            }
        }
    }

    /// The head of a large reply goes out; what else is for the caller waits until it has passed.
    fn begin_reply_stream(&mut self, from: Key, caller: Key, id: u64, head: &Head, frame: &mut [u8]) -> u32 {
        let mask = head.write_id_ahead(frame, id);
        let Some(conn) = self.conns.get_mut(caller) else { return mask };
        let Role::Caller(c) = &mut conn.role else { return mask };
        c.private = true;
        if let Some(other) = c.stream_from
            && other != from
        {
            // Two large replies for one caller at once: the second waits in memory, within the caller's
            // bound, because waiting in the socket would hold up others.
            c.deferred_bytes += frame.len();
            c.deferred.push_back(Deferred { bytes: frame.to_vec(), from: Some(from) });
            return mask;
        }
        c.stream_from = Some(from);
        conn.out.tail(&mut self.pool).extend_from_slice(frame);
        self.mark_dirty(caller);
        mask
    }

    /// An endpoint connection's timer.
    pub(crate) fn on_endpoint_timer(&mut self, key: Key) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(key) else { return };
        let (quiet_out, unread, in_reply) = (conn.out.is_empty(), conn.paused.any(), conn.stream.is_some());
        let Role::Endpoint(e) = &mut conn.role else { return };
        if e.phase == Phase::Connecting {
            let (host, gives_up) = (e.host, e.since + e.connect_timeout);
            if now < gives_up {
                let next = self.release_overdue(host).max(now + TICK);
                return self.arm(key, gives_up.min(next));
            }
            let error = std::io::Error::from(std::io::ErrorKind::TimedOut);
            return self.drop_connecting(key, &error);
        }
        let mut next = Time::MAX;

        // Requests whose time is over.
        let (host, lane) = (e.host, e.lane);
        let mut expired = Vec::new();
        if e.pending.min_deadline().is_some_and(|t| t <= now) {
            e.pending.expire(now, |r| expired.push(r));
        }
        if let Some(t) = e.pending.min_deadline() {
            next = next.min(t.max(now + TICK));
        }

        // Heartbeats, unless requests show that it lives.
        let live = e.pending.live();
        let silent = e.phase == Phase::Retiring;
        if unread || e.stream_from.is_some() {
            // A peer that is not read from is silent for no fault of its own. In the middle of a frame a
            // heartbeat would garble it; the kernel tells if the bytes are not taken.
            e.heartbeat.heard(now, live > 0);
        }
        if live == 0 {
            e.heartbeat.nothing_in_flight();
        }
        let action = if silent { Action::None } else { e.heartbeat.on_tick(now) };
        if !silent {
            next = next.min(e.heartbeat.next_wake().max(now + TICK));
        }

        // Ends: idle, retired, too many overdue replies.
        let idle = live == 0 && e.stream_from.is_none() && !in_reply;
        let retire_over = silent && idle && (now >= e.retire_by || quiet_out);
        let idle_over = e.idle_timeout.is_some_and(|d| idle && now.since(e.used_at) >= d);
        if let Some(d) = e.idle_timeout {
            next = next.min((e.used_at + d).max(now + TICK * 10));
        }
        if silent {
            next = next.min(e.retire_by.max(now + TICK * 10));
        }
        let overdue = e.pending.late() > LATE_MOST;
        if live == 0 {
            e.pending.shrink();
        }
        let stalled = e.stalled_since.filter(|_| live > 0);
        if e.stalled_since.is_some() {
            next = next.min(now + TICK * 10);
        }

        for r in expired {
            self.on_timeout(host, r);
        }
        if let Some(since) = stalled {
            self.reset_staller(key, since);
        }
        match action {
            Action::None => {}
            Action::Send => self.send_heartbeat(key, lane),
            Action::Dead => {
                self.shard.heartbeats_missed.inc();
                let addr = self.hosts.get(host).map(|h| h.host.addr.to_string()).unwrap_or_default();
                self.shared.warn("dead_peer", addr, "it answers neither requests nor heartbeats");
                return self.close(key, Reason::ConnectionLost);
            }
        }
        if retire_over {
            return self.close(key, Reason::ConnectionLost);
        }
        if idle_over {
            self.shard.idle_closed.inc();
            return self.close(key, Reason::ConnectionLost);
        }
        if overdue {
            self.retire(key, "too many overdue replies");
        }
        if next < Time::MAX {
            self.arm(key, next);
        }
    }

    /// Ends the slow caller that holds up a connection on which others wait.
    fn reset_staller(&mut self, endpoint: Key, since: Time) {
        // Not `stream.sink`: the piece that was too much may have been a frame's last.
        let holds = |c: &Conn| matches!(&c.role, Role::Caller(c) if c.feeders.contains(&endpoint));
        let Some(sink) = self.conns.iter().find(|(_, c)| holds(c)).map(|(k, _)| k) else { return };
        let quiet = self.conns.get(sink).is_some_and(|c| self.now.since(c.wrote_at) >= STALL_QUIET);
        if !quiet && self.now.since(since) < STALL_MOST {
            return;
        }
        tracing::info!("a caller that reads too slowly for others to wait is reset");
        self.shared.warn("slow_caller", "stall", "it held up replies of other callers");
        self.reset_later(sink);
    }

    /// Takes a connection out of use without cutting a request: no new ones, those in flight finish.
    pub(crate) fn retire(&mut self, key: Key, why: &str) {
        let now = self.now;
        if let Some(Role::Http(_)) = self.conns.get(key).map(|c| &c.role) {
            return self.retire_http(key);
        }
        let Some(conn) = self.conns.get_mut(key) else { return };
        let connecting = conn.connecting();
        let idle = conn.is_idle_endpoint() && conn.out.is_empty();
        let Role::Endpoint(e) = &mut conn.role else { return };
        if e.phase == Phase::Retiring {
            return;
        }
        let host = e.host;
        if connecting {
            let error = std::io::Error::other(why.to_owned());
            return self.drop_connecting(key, &error);
        }
        e.phase = Phase::Retiring;
        e.since = now;
        e.retire_by = now + RETIRE_MOST;
        self.shard.upstream_retired.inc();
        self.unpool(host, key);
        tracing::debug!(why, idle, "connection retired");
        if idle {
            self.close(key, Reason::ConnectionLost);
        } else {
            self.arm(key, now + RETIRE_MOST);
        }
    }
}
