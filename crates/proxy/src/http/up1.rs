//! An endpoint's HTTP/1.1 connection: one exchange at a time.
use super::exchange::Up;
use super::flow::Data;
use super::sides::{HttpConn, Up1};
use crate::conn::{Paused, Role};
use crate::worker::Worker;
use raddle_core::{Reason, Time};
use raddle_net::Key;
use raddle_telemetry::Malformed;
use raddle_wire::http::Response;
use raddle_wire::http::h1::write::{self, Connection};
use raddle_wire::http::h1::{self, Decoder, Framing, Parsed, Piece};
use std::time::Duration;

/// An idle connection is closed after this long where the endpoint does not say its own time: before it
/// closes by itself, most likely.
pub(crate) const IDLE: Duration = Duration::from_secs(15);
/// This much before the time an endpoint says it will close an idle connection, it is not used any more.
const BEFORE_ITS_TIME: Duration = Duration::from_secs(1);

impl Worker {
    fn up1(&mut self, key: Key) -> Option<&mut Up1> {
        match &mut self.conns.get_mut(key)?.role {
            Role::Http(HttpConn::Up1(u)) => Some(u),
            _ => None,
        }
    }

    /// Writes an exchange's head, and of its body what is there, to a connection.
    pub(crate) fn forward_one(&mut self, key: Key, conn: Key) {
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        let Some(c) = self.conns.get_mut(conn) else { return };
        let Role::Http(HttpConn::Up1(u)) = &mut c.role else { return };
        u.exchange = Some(key);
        u.body = None;
        u.keep = false;
        x.reused = u.served > 0;
        u.served += 1;
        x.up = Up::One(conn, c.out.tail_offset());
        x.up_framing = match x.framing {
            // All of it is here: its length can be said.
            Framing::Chunked if x.request_over && x.trailers.is_none() && x.kept_all => {
                Framing::Length(x.kept.len() as u64)
            }
            f => f,
        };
        let connection = if x.upgrade { Connection::Upgrade } else { Connection::Stays };
        let out = c.out.tail(&mut self.pool);
        if x.expects_continue {
            x.request.fields.push(b"Expect", b"100-continue");
        }
        write::request(out, &x.request, x.up_framing, connection);
        if x.expects_continue {
            x.request.fields.remove("expect");
        }
        match x.up_framing {
            Framing::Chunked => write::chunk(out, &x.kept),
            _ => out.extend_from_slice(&x.kept),
        }
        self.mark_dirty(conn);
        self.end_request(key);
    }

    /// Responses out of an endpoint's bytes. Returns how many bytes were used.
    pub(crate) fn feed_up1(&mut self, key: Key, bytes: &[u8]) -> usize {
        let limits = self.http_limits();
        let mut at = 0;
        loop {
            let Some(conn) = self.conns.get(key) else { return bytes.len() };
            if conn.paused.any() && !conn.paused.has(Paused::ENDED) {
                return at;
            }
            let Role::Http(HttpConn::Up1(u)) = &conn.role else { return at };
            let rest = &bytes[at..];
            if rest.is_empty() {
                return at;
            }
            let Some(x) = u.exchange else {
                // Bytes nobody asked for: what comes next on it could be taken for a response.
                self.shard.unexpected_replies.inc();
                self.close(key, Reason::EndpointProtocol);
                return bytes.len();
            };
            let step = match u.body {
                None => self.feed_up1_head(key, x, rest, limits),
                Some(decoder) => self.feed_up1_body(key, x, decoder, rest, limits),
            };
            match step {
                Some(used) => at += used,
                None => return at,
            }
        }
    }

    fn feed_up1_head(&mut self, key: Key, x: Key, rest: &[u8], limits: h1::Limits) -> Option<usize> {
        let mut response = Response::default();
        let method = self.http.exchanges.get(x)?.request.method();
        match h1::response(rest, &limits, method, &mut response) {
            Ok(Parsed::Incomplete) => None,
            Ok(Parsed::Head(read)) => {
                let used = Some(read.used);
                if response.is_interim() {
                    self.on_interim(x, &response);
                    return used;
                }
                if response.status == 101 {
                    return self.switch_protocols(x, key, &response, read.used);
                }
                let hint = keep_alive_hint(&response);
                let u = self.up1(key)?;
                u.keep = read.keep_alive;
                // Bytes behind a response are nobody's, and must not become the next one's.
                u.keep &= !(Decoder::new(read.framing).is_over() && rest.len() > read.used);
                if let Some(hint) = hint {
                    u.idle_timeout = hint;
                }
                let decoder = Decoder::new(read.framing);
                u.body = Some(decoder);
                self.on_response(x, response, read.framing);
                if decoder.is_over() && self.carries(key, x) {
                    self.response_end(x, None);
                }
                used
            }
            Err(e) => {
                self.shard.upstream_malformed[Malformed::BadHeader].inc();
                tracing::debug!(error = %e, "malformed response");
                self.endpoint_garbled(key, x, e.what);
                Some(rest.len())
            }
        }
    }

    fn feed_up1_body(
        &mut self,
        key: Key,
        x: Key,
        mut decoder: Decoder,
        rest: &[u8],
        limits: h1::Limits,
    ) -> Option<usize> {
        if self.response_room(x) == 0 {
            self.pause(key, Paused::SINK_FULL);
            self.shard.held_back.inc();
            return None;
        }
        match decoder.next(rest, &limits) {
            Err(e) => {
                self.shard.upstream_malformed[Malformed::BadBody].inc();
                self.endpoint_garbled(key, x, e.what);
                Some(rest.len())
            }
            Ok((used, piece)) => {
                if let Some(u) = self.up1(key) {
                    u.body = Some(decoder);
                    u.keep &= !(decoder.is_over() && used < rest.len());
                }
                match piece {
                    Piece::Data(range) => {
                        self.response_data(x, Data::Slice(&rest[range]));
                        if decoder.is_over() && self.carries(key, x) {
                            self.response_end(x, None);
                        }
                    }
                    Piece::End(trailers) => self.response_end(x, trailers.as_deref()),
                    Piece::More if used == 0 => return None,
                    Piece::More => {}
                }
                Some(used)
            }
        }
    }

    /// Whether a connection still carries an exchange.
    fn carries(&mut self, conn: Key, x: Key) -> bool {
        self.up1(conn).is_some_and(|u| u.exchange == Some(x))
    }

    fn endpoint_garbled(&mut self, conn: Key, x: Key, what: &'static str) {
        if let Some(u) = self.up1(conn) {
            u.exchange = None;
        }
        if let Some(x) = self.http.exchanges.get_mut(x) {
            x.up = Up::None;
        }
        self.close(conn, Reason::EndpointProtocol);
        self.lost_for_good(x, Reason::EndpointProtocol, what);
    }

    /// The endpoint has ended its stream.
    pub(crate) fn on_up1_end(&mut self, key: Key) {
        let Some(u) = self.up1(key) else { return };
        if let (Some(x), Some(body)) = (u.exchange, u.body)
            && body.ends_with_connection()
        {
            u.keep = false;
            return self.response_end(x, None);
        }
        self.close(key, Reason::ConnectionLost);
    }

    /// An exchange no longer needs its connection.
    pub(crate) fn free_up1(&mut self, key: Key, clean: bool) {
        let now = self.now;
        let Some(u) = self.up1(key) else { return };
        u.exchange = None;
        u.body = None;
        u.since = now;
        let (host, keep, idle) = (u.host, clean && u.keep && !u.retiring, u.idle_timeout);
        let unread = self.conns.get(key).is_none_or(|c| !c.stash.is_empty());
        if !keep || unread {
            return self.close(key, Reason::ConnectionLost);
        }
        self.unpause(key, Paused::SINK_FULL);
        self.arm(key, now + idle);
        self.offer_up1(host, key);
    }
}

/// How long an endpoint says it keeps an idle connection (`Keep-Alive: timeout=5`, as Node and Tomcat
/// send it), less a margin. Zero = it is not to be used again.
fn keep_alive_hint(r: &Response) -> Option<Duration> {
    let value = std::str::from_utf8(r.fields.get("keep-alive")?).ok()?;
    let seconds = value.split(',').find_map(|p| p.trim().strip_prefix("timeout="))?.parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds.min(3600)).saturating_sub(BEFORE_ITS_TIME))
}

/// Time until which a connection may stay idle.
pub(crate) fn idle_until(u: &Up1) -> Time {
    u.since + u.idle_timeout
}
