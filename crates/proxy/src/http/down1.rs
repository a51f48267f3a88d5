//! A caller's HTTP/1.x connection: requests one after another.
use super::exchange::Exchange;
use super::flow::Data;
use super::sides::{Doing, Down1, HttpConn};
use crate::conn::{Accepted, Paused, Role};
use crate::limits::ticket::Ticket;
use crate::worker::Worker;
use raddle_core::{Protocol, Reason};
use raddle_net::Key;
use raddle_telemetry::{Direction, Malformed};
use raddle_wire::http::Response;
use raddle_wire::http::h1::write::{self, Connection};
use raddle_wire::http::h1::{self, Decoder, Framing, Parsed, Piece, ReadRequest};

/// Bytes of a body nobody wants that are read so that the connection can go on.
const DISCARD_MOST: u64 = 1 << 20;

impl Worker {
    pub(crate) fn http_limits(&self) -> h1::Limits {
        h1::Limits { max_head: self.config.limits().max_header as usize }
    }

    /// Makes an accepted connection one that speaks HTTP/1.x.
    pub(crate) fn become_down1(&mut self, key: Key) {
        let now = self.now;
        let idle = self.config.limits().idle_timeout;
        let Some((accepted, direction)) = self.take_accepted(key) else { return };
        let down =
            Down1 { accepted, direction, doing: Doing::Head, exchange: None, active_at: now, last: false };
        if let Some(c) = self.conns.get_mut(key) {
            c.role = Role::Http(HttpConn::Down1(Box::new(down)));
        }
        self.shard.detected[Protocol::Http].inc();
        self.link_begins(key);
        self.arm(key, now + idle);
    }

    /// What is known of a connection whose protocol was not known until now.
    pub(crate) fn take_accepted(&mut self, key: Key) -> Option<(Accepted, Direction)> {
        let conn = self.conns.get_mut(key)?;
        let Role::New(a) = &conn.role else { return None };
        let accepted = a.as_ref().clone();
        let direction =
            self.config.binding(accepted.listener).map_or(Direction::Outbound, |b| b.listener.direction);
        Some((accepted, direction))
    }

    fn down1(&mut self, key: Key) -> Option<&mut Down1> {
        match &mut self.conns.get_mut(key)?.role {
            Role::Http(HttpConn::Down1(d)) => Some(d),
            _ => None,
        }
    }

    /// Requests out of a caller's bytes. Returns how many bytes were used.
    pub(crate) fn feed_down1(&mut self, key: Key, bytes: &[u8]) -> usize {
        let limits = self.http_limits();
        let mut at = 0;
        loop {
            let Some(conn) = self.conns.get(key) else { return bytes.len() };
            if conn.paused.any() && !conn.paused.has(Paused::ENDED) {
                return at;
            }
            let Role::Http(HttpConn::Down1(d)) = &conn.role else { return at };
            let rest = &bytes[at..];
            match d.doing {
                Doing::Closing => return bytes.len(),
                Doing::Waiting => {
                    if rest.len() > limits.max_head {
                        // Pipelined requests wait in the kernel from here on.
                        self.pause(key, Paused::OUT_FULL);
                    }
                    return at;
                }
                Doing::Head => {
                    if rest.is_empty() {
                        return at;
                    }
                    let mut request = self.http.spare();
                    match h1::request(rest, &limits, &mut request) {
                        Ok(Parsed::Head(read)) => {
                            at += read.used;
                            self.begin_one(key, request, &read);
                        }
                        Ok(Parsed::Incomplete) => {
                            self.http.give(request);
                            return self.half_a_head(key, at, bytes.len());
                        }
                        Err(e) => {
                            self.http.give(request);
                            self.refuse_bytes(key, e);
                            return bytes.len();
                        }
                    }
                }
                Doing::Body(_) if rest.is_empty() && conn.paused.has(Paused::ENDED) => {
                    // The rest of it never comes.
                    self.close(key, Reason::CallerGone);
                    return bytes.len();
                }
                Doing::Body(decoder) => match self.feed_body(key, decoder, rest, limits) {
                    Some(used) => at += used,
                    None => return at,
                },
                Doing::Discarding { decoder, left } => match self.discard(key, decoder, left, rest, limits) {
                    Some(used) => at += used,
                    None => return at,
                },
            }
        }
    }

    /// The rest of a head is awaited, but not for long. Returns the bytes used.
    fn half_a_head(&mut self, key: Key, at: usize, all: usize) -> usize {
        let Some(c) = self.conns.get(key) else { return all };
        if c.paused.has(Paused::ENDED) {
            if let Some(d) = self.down1(key) {
                d.doing = Doing::Closing;
            }
            self.mark_dirty(key);
            return all;
        }
        let due = self.now + self.config.limits().head_timeout;
        self.arm(key, due);
        at
    }

    /// A piece of the body under way. Returns the bytes used; `None` if there is nothing to do with them now.
    fn feed_body(
        &mut self,
        key: Key,
        mut decoder: Decoder,
        rest: &[u8],
        limits: h1::Limits,
    ) -> Option<usize> {
        let x = self.down1(key)?.exchange?;
        if self.request_room(x) == 0 {
            self.pause(key, Paused::SINK_FULL);
            self.shard.held_back.inc();
            return None;
        }
        match decoder.next(rest, &limits) {
            Err(e) => {
                self.shard.caller_malformed[Malformed::BadBody].inc();
                tracing::debug!(error = %e, "malformed body");
                self.bad_body(key, x, e);
                Some(rest.len())
            }
            Ok((used, piece)) => {
                if let Some(d) = self.down1(key) {
                    d.doing = if decoder.is_over() { Doing::Waiting } else { Doing::Body(decoder) };
                }
                match piece {
                    Piece::Data(range) => {
                        self.request_data(x, Data::Slice(&rest[range]));
                        if decoder.is_over() {
                            self.request_end(x, None);
                        }
                    }
                    Piece::End(trailers) => self.request_end(x, trailers),
                    Piece::More if used == 0 => return None,
                    Piece::More => {}
                }
                Some(used)
            }
        }
    }

    /// A body that cannot be understood: nothing after it can be either.
    fn bad_body(&mut self, key: Key, x: Key, e: h1::Malformed) {
        if let Some(d) = self.down1(key) {
            d.last = true;
            d.doing = Doing::Closing;
        }
        let unanswered = self.http.exchanges.get(x).is_some_and(|x| x.down_framing.is_none());
        if unanswered {
            self.drop_up(x);
            self.answer_http(x, Reason::CallerProtocol, Some(e.status), e.what);
        } else {
            self.drop_up(x);
            self.cut(x, Reason::CallerProtocol);
        }
    }

    fn discard(
        &mut self,
        key: Key,
        mut decoder: Decoder,
        left: u64,
        rest: &[u8],
        limits: h1::Limits,
    ) -> Option<usize> {
        let (used, piece) = decoder.next(rest, &limits).unwrap_or((rest.len(), Piece::More));
        let left = left.saturating_sub(used as u64);
        let d = self.down1(key)?;
        if decoder.is_over() {
            d.doing = if d.last { Doing::Closing } else { Doing::Head };
            if d.last {
                self.mark_dirty(key);
            }
        } else if left == 0 {
            d.doing = Doing::Closing;
            self.mark_dirty(key);
        } else {
            d.doing = Doing::Discarding { decoder, left };
            if used == 0 && piece == Piece::More {
                return None;
            }
        }
        Some(used)
    }

    fn begin_one(&mut self, key: Key, mut request: raddle_wire::http::Request, read: &ReadRequest) {
        let now = self.now;
        let draining = self.is_leaving(key);
        let tls = self.conns.get(key).is_some_and(|c| c.tls.is_some());
        let Some(d) = self.down1(key) else { return };
        let decoder = Decoder::new(read.framing);
        d.doing = if decoder.is_over() { Doing::Waiting } else { Doing::Body(decoder) };
        d.active_at = now;
        d.last = !read.keep_alive || draining;
        let (direction, listener) = (d.direction, d.accepted.listener);
        request.https = tls || request.https;
        self.introduce(key, direction, listener, &mut request);
        let protocol = if request.is_grpc() { Protocol::Grpc } else { Protocol::Http };
        let mut x = Exchange::new(key, direction, listener, request, read.framing, protocol, now);
        x.expects_continue = read.expects_continue;
        x.upgrade = read.upgrade;
        x.old = read.old;
        x.request_over = decoder.is_over();
        let x = self.http.exchanges.insert(x);
        if let Some(d) = self.down1(key) {
            d.exchange = Some(x);
        }
        self.dispatch_exchange(x);
    }

    /// Bytes that are no request: said so, and the connection closed; nobody else notices.
    fn refuse_bytes(&mut self, key: Key, e: h1::Malformed) {
        self.shard.caller_malformed[Malformed::BadHeader].inc();
        tracing::debug!(error = %e, "malformed request");
        self.say_last(key, e.status, e.what);
    }

    /// Answers without an exchange and closes.
    pub(crate) fn say_last(&mut self, key: Key, status: u16, what: &str) {
        let Some(c) = self.conns.get_mut(key) else { return };
        let mut response = Response::new(status);
        let text = format!("{what}\n");
        response.fields.push(b"content-type", b"text/plain; charset=utf-8");
        response.fields.push(b"x-raddle-reason", Reason::CallerProtocol.flag().as_bytes());
        let framing = Framing::Length(text.len() as u64);
        let out = c.out.tail(&mut self.pool);
        write::response(out, &response, framing, Connection::Close);
        out.extend_from_slice(text.as_bytes());
        if let Some(d) = self.down1(key) {
            d.doing = Doing::Closing;
            d.last = true;
        }
        self.mark_dirty(key);
    }

    /// The exchange of a connection is over: the next one, or its end.
    pub(crate) fn next_on_down1(&mut self, key: Key) {
        let now = self.now;
        let Some(d) = self.down1(key) else { return };
        d.exchange = None;
        d.active_at = now;
        match d.doing {
            // What still comes of a body is read and dropped while it closes.
            _ if d.last => d.doing = Doing::Closing,
            Doing::Waiting => d.doing = Doing::Head,
            Doing::Body(decoder) => d.doing = Doing::Discarding { decoder, left: DISCARD_MOST },
            _ => {}
        }
        let closing = d.doing == Doing::Closing;
        self.unpause(key, Paused::SINK_FULL);
        self.unpause(key, Paused::OUT_FULL);
        let Some(c) = self.conns.get(key) else { return };
        if closing {
            self.mark_dirty(key);
        } else if !c.stash.is_empty() {
            self.resume.push(key);
        } else if c.paused.has(Paused::ENDED) {
            self.mark_dirty(key);
        }
    }

    /// Ends a caller's connection such that it sees that its response is not whole.
    pub(crate) fn cut_down1(&mut self, key: Key, framing: Framing) {
        if framing == Framing::UntilClose {
            // Its end would look like the body's.
            return self.reset_later(key);
        }
        if let Some(d) = self.down1(key) {
            d.exchange = None;
            d.doing = Doing::Closing;
            d.last = true;
        }
        self.mark_dirty(key);
    }

    /// The caller has ended its stream.
    pub(crate) fn on_down1_end(&mut self, key: Key) {
        let Some(d) = self.down1(key) else { return };
        let (doing, x) = (d.doing, d.exchange);
        let waits = |x: &Exchange| x.ticket.as_ref().is_some_and(Ticket::waits);
        let idle = x.and_then(|x| self.http.exchanges.get(x)).is_some_and(waits);
        match (doing, x) {
            // Nobody who ends its side while a limit has it wait is still there when its turn comes.
            (_, Some(x)) if idle || matches!(doing, Doing::Body(_)) => {
                self.cancel(x, Reason::CallerGone);
                self.close(key, Reason::CallerGone);
            }
            (_, Some(_)) => {
                // It may only have ended its sending side: what it asked for is still delivered.
                let more = self.conns.get(key).is_some_and(|c| !c.stash.is_empty());
                if let Some(d) = self.down1(key) {
                    d.last |= !more;
                }
                if let Some(c) = self.conns.get_mut(key) {
                    c.paused.set(Paused::ENDED);
                }
                self.set_interest(key);
            }
            _ => {
                // What it asked for before may still be in the stash.
                let more = self.conns.get(key).is_some_and(|c| !c.stash.is_empty());
                if let Some(c) = self.conns.get_mut(key) {
                    c.paused.set(Paused::ENDED);
                }
                if more {
                    self.resume.push(key);
                } else if let Some(d) = self.down1(key) {
                    d.doing = Doing::Closing;
                }
                self.set_interest(key);
                self.close_if_done(key);
            }
        }
    }
}
