//! A caller's side: from the first bytes of a connection to whole requests, and its heartbeats.
use crate::conn::{Caller, Conn, Direction, Paused, Phase, Role, Stream};
use crate::frame::{Head, Malformed, What};
use crate::lane::Lane;
use crate::request::Sent;
use crate::worker::{STREAM_FROM, TICK, Worker};
use raddle_core::{Protocol, Reason};
use raddle_net::{BufPool, Key};
use raddle_wire::bolt::Variant;
use raddle_wire::sniff::{Sniff, begins_something, sniff};
use std::time::Duration;

/// A caller whose kernel took bytes this recently is reading.
const READS_IF_WITHIN: Duration = Duration::from_millis(200);

/// First byte of a TLS connection: a handshake record.
const TLS_RECORD: u8 = 0x16;

/// Header of heartbeats by which sidecars tell each other that they understand GOAWAY.
pub(crate) const CAPABILITIES: (&str, &str) = ("raddle-caps", "goaway");

impl Worker {
    /// The first bytes of a connection: what does it speak?
    pub(crate) fn detect(&mut self, key: Key, bytes: &mut [u8]) -> usize {
        let Some(conn) = self.conns.get(key) else { return 0 };
        let Role::New(a) = &conn.role else { return 0 };
        let declared = self.declared(a);
        let plain = conn.tls.is_none();
        // A declared protocol is what is spoken within TLS, too.
        if declared.is_some()
            && plain
            && bytes.first() == Some(&TLS_RECORD)
            && let Some(used) = self.begin_tls(key, bytes)
        {
            return used;
        }
        let protocol = match declared {
            Some(p) => p,
            None => match sniff(bytes) {
                Sniff::Bolt => Protocol::Bolt,
                Sniff::Dubbo => Protocol::Dubbo,
                Sniff::Http1 => Protocol::Http,
                Sniff::Http2 => Protocol::Http2,
                Sniff::Tls if plain => match self.begin_tls(key, bytes) {
                    Some(used) => return used,
                    None => Protocol::Tcp,
                },
                Sniff::NeedMore => return 0,
                _ => Protocol::Tcp,
            },
        };
        match protocol {
            Protocol::Bolt => {
                self.become_caller(key, Lane::Bolt(Variant::V1));
                self.feed_caller(key, bytes)
            }
            Protocol::Dubbo => {
                self.become_caller(key, Lane::Dubbo);
                self.feed_caller(key, bytes)
            }
            Protocol::Http => {
                self.become_down1(key);
                self.feed_http(key, bytes)
            }
            Protocol::Http2 | Protocol::Grpc => {
                self.become_down2(key);
                self.feed_http(key, bytes)
            }
            Protocol::Tcp => {
                self.become_relay(key, false);
                self.feed_relay(key, bytes)
            }
        }
    }

    pub(crate) fn become_caller(&mut self, key: Key, lane: Lane) {
        let now = self.now;
        let idle = self.config.limits().idle_timeout;
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Role::New(a) = &mut conn.role else { return };
        let direction = self.config.binding(a.listener).map_or(Direction::Outbound, |b| b.listener.direction);
        let accepted = (**a).clone();
        conn.role = Role::Caller(Box::new(Caller {
            accepted,
            direction,
            blocked: None,
            in_flight: 0,
            active_at: now,
            private: false,
            stream_from: None,
            deferred: Default::default(),
            deferred_bytes: 0,
            feeders: Vec::new(),
            // Dubbo has a notice that every client knows, or passes over.
            takes_goaway: lane == Lane::Dubbo,
            told: false,
            lane,
        }));
        self.shard.detected[lane.protocol()].inc();
        self.arm(key, now + idle);
        self.link_begins(key);
        if self.is_leaving(key) {
            // It was accepted just before; the others were told when that began.
            self.tell(key);
        }
    }

    /// Silence after accept: server-first protocols begin so, and get TCP.
    pub(crate) fn on_detect_timer(&mut self, key: Key) {
        let Some(conn) = self.conns.get(key) else { return };
        let Role::New(a) = &conn.role else { return };
        if conn.tls.as_ref().is_some_and(|t| t.handshaking()) {
            let due = a.since + self.config.limits().head_timeout;
            if due > self.now {
                return self.arm(key, due);
            }
            self.shard.tls_failed.inc();
            self.shard.link_in_failed.inc();
            return self.close(key, Reason::CallerProtocol);
        }
        if self.is_shaking(key) {
            let due = a.since + self.config.limits().head_timeout;
            return match due > self.now {
                true => self.arm(key, due),
                false => self.close(key, Reason::CallerProtocol),
            };
        }
        let due = a.since + self.config.limits().detect_timeout;
        if due > self.now {
            return self.arm(key, due);
        }
        if begins_something(&conn.stash) {
            // As TCP its rest would get past what that protocol is held to.
            let due = a.since + self.config.limits().head_timeout;
            if due > self.now {
                return self.arm(key, due);
            }
            self.shard.caller_malformed[raddle_telemetry::Malformed::SlowFrame].inc();
            return self.close(key, Reason::CallerProtocol);
        }
        // An idle RPC client is silent too: where the protocol is declared or TCP has nowhere to go, silence
        // decides nothing, and elsewhere the first bytes may still change it.
        let declared = self.declared(a);
        let relays = declared == Some(Protocol::Tcp)
            || self.config.binding(a.listener).is_none_or(|b| b.protocol.is_none());
        if relays && self.has_tcp_target(a) && (declared.is_some() || !self.is_strict(key)) {
            self.become_relay(key, conn.stash.is_empty() && declared.is_none());
            self.resume.push(key);
        } else {
            let idle = a.since + self.config.limits().idle_timeout;
            if idle <= self.now {
                return self.close(key, Reason::CallerGone);
            }
            self.arm(key, idle);
        }
    }

    /// Whole requests out of a caller's bytes. Returns how many bytes were used.
    pub(crate) fn feed_caller(&mut self, key: Key, bytes: &mut [u8]) -> usize {
        let limits = self.frame_limits();
        let mut at = 0;
        loop {
            let Some(conn) = self.conns.get(key) else { return bytes.len() };
            if conn.paused.any() && !conn.paused.has(Paused::ENDED) {
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
            let rest = &bytes[at..];
            if rest.is_empty() {
                return at;
            }
            let Role::Caller(c) = &conn.role else { return bytes.len() };
            let head = match Head::parse(c.lane, rest, limits) {
                Ok(Some(h)) => h,
                Ok(None) => return at,
                Err(e) => {
                    self.malformed(key, e, Reason::CallerProtocol);
                    return bytes.len();
                }
            };
            let len = head.frame_len();
            if len <= STREAM_FROM {
                if rest.len() < len {
                    return at;
                }
                let frame = &bytes[at..at + len];
                at += len;
                self.on_caller_frame(key, &head, frame);
                continue;
            }
            // Too large to be held: its head and enough to look into, the rest passes through.
            let enough = head.request_opening();
            if rest.len() < enough {
                return at;
            }
            let Some(conn) = self.conns.get_mut(key) else { return bytes.len() };
            if let Role::Caller(c) = &mut conn.role {
                c.private = true;
            }
            if head.what(&bytes[at..at + enough]) != What::Request {
                let stream = Stream { remaining: (len - enough) as u64, sink: None, crc_mask: 0 };
                conn.stream = Some(Box::new(stream));
                at += enough;
                continue;
            }
            match self.on_request(key, &head, &bytes[at..at + enough]) {
                Sent::Blocked => return at,
                Sent::Done => {
                    // Only if a connection went away under it; its caller was answered or is gone.
                    self.start_stream(key, None, len - enough, 0);
                }
                Sent::Stream { sink, crc_mask } => self.start_stream(key, sink, len - enough, crc_mask),
            }
            at += enough;
        }
    }

    fn start_stream(&mut self, key: Key, sink: Option<Key>, remaining: usize, crc_mask: u32) {
        let now = self.now;
        let timeout = self.config.limits().frame_timeout;
        if let Some(c) = self.conns.get_mut(key) {
            c.stream = Some(Box::new(Stream { remaining: remaining as u64, sink, crc_mask }));
            c.read_at = now;
            self.arm(key, now + timeout);
        }
    }

    /// One whole frame from a caller.
    fn on_caller_frame(&mut self, key: Key, head: &Head, frame: &[u8]) {
        match head.what(frame) {
            What::Request => {
                self.on_request(key, head, frame);
            }
            What::Ping => {
                let now = self.now;
                if let Some(conn) = self.conns.get_mut(key)
                    && let Role::Caller(c) = &mut conn.role
                {
                    c.lane = head.lane();
                    c.active_at = now;
                    c.takes_goaway |= head.announces_goaway(frame);
                }
                self.shard.heartbeats_answered.inc();
                self.deliver(key, |out| head.pong(frame, out));
                if self.is_leaving(key) {
                    self.tell(key);
                }
            }
            // Answers to nothing and commands nobody knows: the protocol has no way to refuse them.
            What::Reply | What::Pong | What::GoAway | What::Other => self.shard.unexpected_frames.inc(),
        }
    }

    /// Passes the bytes of a large frame on. Returns how many were used.
    pub(crate) fn pass_through(&mut self, from: Key, bytes: &mut [u8]) -> usize {
        let Some(conn) = self.conns.get_mut(from) else { return 0 };
        let own = match &conn.role {
            Role::Endpoint(e) => e.owner != Key::NONE,
            _ => true,
        };
        let Some(mut s) = conn.stream.take() else { return 0 };
        let n = (s.remaining.min(bytes.len() as u64)) as usize;
        let piece = &mut bytes[..n];
        let left = s.remaining - n as u64;
        if s.crc_mask != 0 && left < 4 {
            // Of the frame's last four bytes, those in this piece.
            let mask = s.crc_mask.to_be_bytes();
            for (i, b) in piece.iter_mut().enumerate() {
                let from_end = s.remaining - i as u64;
                if from_end <= 4 {
                    *b ^= mask[4 - from_end as usize];
                }
            }
        }
        s.remaining = left;
        let mut full = false;
        if let Some(sink) = s.sink {
            let soft = self.config.limits().buffer_soft as usize;
            let hard = self.hard_limit();
            match self.conns.get_mut(sink) {
                Some(c) => {
                    put_piece(c, &mut self.pool, from, piece);
                    self.mark_dirty(sink);
                    let waiting = self.conns.get(sink).map_or(0, waiting);
                    full = waiting > if own { soft } else { hard };
                }
                None => s.sink = None,
            }
        }
        let sink = s.sink;
        if left == 0 {
            self.stream_over(from, sink);
            // One that is retired goes when nothing is left for it to do.
            if matches!(self.conns.get(from).map(|c| &c.role), Some(Role::Endpoint(e)) if e.phase == Phase::Retiring)
            {
                self.mark_dirty(from);
            }
        } else if let Some(conn) = self.conns.get_mut(from) {
            conn.stream = Some(s);
        }
        if full && let Some(sink) = sink {
            self.hold_back(from, sink);
        }
        n
    }

    /// `from` is not read until `sink` has room.
    pub(crate) fn hold_back(&mut self, from: Key, sink: Key) {
        if let Some(c) = self.conns.get_mut(sink) {
            let feeders = match &mut c.role {
                Role::Caller(c) => &mut c.feeders,
                Role::Endpoint(e) => &mut e.feeders,
                _ => return,
            };
            if !feeders.contains(&from) {
                feeders.push(from);
            }
        }
        let now = self.now;
        self.pause(from, Paused::SINK_FULL);
        self.shard.held_back.inc();
        if let Some(c) = self.conns.get_mut(from)
            && let Role::Endpoint(e) = &mut c.role
            && e.owner == Key::NONE
        {
            // Others' replies may wait behind: not for long. One that stopped reading a while ago is found
            // at the next turn, so that many of them do not add up.
            e.stalled_since.get_or_insert(now);
            self.arm(from, now + TICK);
        }
    }

    /// The last byte of a large frame was passed on.
    fn stream_over(&mut self, from: Key, sink: Option<Key>) {
        let Some(sink) = sink else { return };
        let Some(c) = self.conns.get_mut(sink) else { return };
        match &mut c.role {
            Role::Endpoint(e) if e.stream_from == Some(from) => e.stream_from = None,
            Role::Caller(c) if c.stream_from == Some(from) => self.end_reply_stream(sink),
            Role::Caller(c) => {
                if let Some(d) = c.deferred.iter_mut().find(|d| d.from == Some(from)) {
                    d.from = None;
                }
            }
            _ => {}
        }
    }

    /// Lets out the replies that waited behind a large one.
    pub(crate) fn end_reply_stream(&mut self, caller: Key) {
        let Some(conn) = self.conns.get_mut(caller) else { return };
        let Role::Caller(c) = &mut conn.role else { return };
        c.stream_from = None;
        let tail = conn.out.tail(&mut self.pool);
        while let Some(d) = c.deferred.pop_front() {
            c.deferred_bytes -= d.bytes.len();
            tail.extend_from_slice(&d.bytes);
            if d.from.is_some() {
                // Another large one, half here: now it is its turn to pass through.
                c.stream_from = d.from;
                break;
            }
        }
        self.mark_dirty(caller);
    }

    /// Replies pile up at a caller that does not read them: hold its requests, give it connections of its
    /// own, and end it before it costs others.
    pub(crate) fn check_slow(&mut self, caller: Key) {
        let soft = self.config.limits().buffer_soft as usize;
        let Some(conn) = self.conns.get(caller) else { return };
        let Role::Caller(c) = &conn.role else { return };
        let waiting = conn.out.len() + c.deferred_bytes;
        if waiting <= soft {
            return;
        }
        // One that takes its replies, if slower than a burst of them comes, gets a longer rope: what can still
        // come is bounded by what it has asked for, and it asks for no more while it is held.
        let hard = self.hard_limit();
        let reads = self.now.since(conn.wrote_at) < READS_IF_WITHIN;
        if waiting > if reads { hard * 4 } else { hard } {
            tracing::info!(caller = ?c.accepted.peer, bytes = waiting, "a caller that does not read its replies is reset");
            let who = c.accepted.peer.map_or_else(String::new, |a| a.to_string());
            self.shared.warn("slow_caller", who, "it does not read its replies");
            self.reset_later(caller);
            return;
        }
        if !conn.paused.has(Paused::OUT_FULL) {
            let over = conn.out.written_offset() != 0 || waiting > soft * 4;
            if let Some(conn) = self.conns.get_mut(caller)
                && let Role::Caller(c) = &mut conn.role
                && over
            {
                c.private = true;
            }
            self.pause(caller, Paused::OUT_FULL);
        }
    }

    /// A caller's timer: idle time, drain.
    pub(crate) fn on_caller_timer(&mut self, key: Key) {
        let idle = self.config.limits().idle_timeout;
        let Some(conn) = self.conns.get(key) else { return };
        let Role::Caller(c) = &conn.role else { return };
        if conn.interest.write && self.now.since(conn.wrote_at) >= idle {
            // It has taken nothing of what is ready for it for as long as an idle one may stay.
            return self.reset_later(key);
        }
        let due = c.active_at.max(conn.read_at) + idle;
        if c.in_flight == 0 && due <= self.now && conn.out.is_empty() {
            self.shard.idle_closed.inc();
            return self.close(key, Reason::CallerGone);
        }
        self.arm(key, due.max(self.now + TICK * 100));
    }

    /// Bytes that are not the protocol: counted, logged, and the connection closed; nobody else notices.
    pub(crate) fn malformed(&mut self, key: Key, e: Malformed, side: Reason) {
        let cells = match side {
            Reason::EndpointProtocol => &self.shard.upstream_malformed,
            _ => &self.shard.caller_malformed,
        };
        cells[e.label()].inc();
        tracing::debug!(error = %e, "malformed frame");
        if let Some(c) = self.conns.get_mut(key) {
            // Answers to what came before it were earned.
            let _ = c.flush_out(&mut self.pool);
        }
        self.close(key, side);
    }
}

/// Puts a piece of a large frame where it belongs: a caller that is just getting another large reply keeps
/// it aside.
fn put_piece(sink: &mut Conn, pool: &mut BufPool, from: Key, piece: &[u8]) {
    if let Role::Caller(c) = &mut sink.role
        && c.stream_from != Some(from)
        && let Some(d) = c.deferred.iter_mut().find(|d| d.from == Some(from))
    {
        d.bytes.extend_from_slice(piece);
        c.deferred_bytes += piece.len();
        return;
    }
    sink.out.tail(pool).extend_from_slice(piece);
}

/// Bytes that wait for a peer.
fn waiting(conn: &Conn) -> usize {
    conn.out.len() + if let Role::Caller(c) = &conn.role { c.deferred_bytes } else { 0 }
}
