//! Bodies on their way: from either side to the other, never further ahead than the receiver has room.
use super::convert;
use super::exchange::{Exchange, Up};
use super::sides::HttpConn;
use super::wake::Token;
use crate::conn::{Paused, Role};
use crate::worker::{READ_MOST, Worker};
use bytes::Bytes;
use raddle_core::Reason;
use raddle_net::Key;
use raddle_wire::http::h1::{Framing, write};
use raddle_wire::http::{Fields, Response};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Most of a body that is kept to be sent once more, by policy.
const KEEP_FOR_RETRY: usize = 64 << 10;
/// Most that is kept without one, for a connection that turns out to be dead.
const KEEP_FOR_MOVE: usize = 16 << 10;
/// Bytes a stream's queue may hold.
const QUEUE_MOST: usize = 128 << 10;
/// Bytes the queues of a caller's streams may hold together.
const QUEUES_MOST: usize = 1 << 20;
/// Bytes a stream's queue may hold however many there are.
const QUEUE_LEAST: usize = 8 << 10;

/// A piece of a body.
pub(crate) enum Data<'a> {
    /// In a read buffer.
    Slice(&'a [u8]),
    /// In memory of its own.
    Shared(Bytes),
}

impl Data<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Data::Slice(s) => s,
            Data::Shared(b) => b,
        }
    }

    fn into_shared(self) -> Bytes {
        match self {
            Data::Slice(s) => Bytes::copy_from_slice(s),
            Data::Shared(b) => b,
        }
    }
}

impl Exchange {
    fn keep_most(&self) -> usize {
        if self.tries_left.is_none_or(|n| n > 0) || self.mirror_to.is_some() {
            KEEP_FOR_RETRY
        } else {
            KEEP_FOR_MOVE
        }
    }

    /// Whether the caller was given all bytes of the body that the response's head promised.
    pub(crate) fn caller_has_body(&self) -> bool {
        let all = match self.down_framing {
            Some(Framing::Length(n)) => self.bytes_out == n,
            Some(Framing::None) => true,
            Some(Framing::Chunked | Framing::UntilClose) | None => false,
        };
        all && self.caller.as_ref().is_none_or(|c| c.out.queued() == 0)
    }
}

impl Worker {
    /// How much of an exchange's request body can be taken now.
    pub(crate) fn request_room(&self, key: Key) -> usize {
        let Some(x) = self.http.exchanges.get(key) else { return usize::MAX };
        match &x.up {
            _ if x.response_over => usize::MAX,
            Up::None | Up::Waiting(..) | Up::Delayed(_) => KEEP_FOR_MOVE.saturating_sub(x.kept.len()),
            Up::One(conn, _) => self.out_room(*conn),
            Up::Two(_, s) => QUEUE_MOST.saturating_sub(s.out.queued()),
        }
    }

    /// How much of an exchange's response body can be taken now.
    pub(crate) fn response_room(&self, key: Key) -> usize {
        let Some(x) = self.http.exchanges.get(key) else { return usize::MAX };
        match &x.caller {
            _ if x.mirror => usize::MAX,
            Some(s) => self.share_of(x.down).saturating_sub(s.out.queued()),
            None => self.out_room(x.down),
        }
    }

    /// What one stream of a caller may hold, so that all of them together stay within a bound.
    fn share_of(&self, down: Key) -> usize {
        match self.conns.get(down).map(|c| &c.role) {
            Some(Role::Http(HttpConn::Down2(d))) => {
                (QUEUES_MOST / d.exchanges.len().max(1)).clamp(QUEUE_LEAST, QUEUE_MOST)
            }
            _ => QUEUE_MOST,
        }
    }

    /// Most bytes that may be read from a connection now: no more than there is room for behind it.
    pub(crate) fn http_read_most(&self, key: Key) -> usize {
        match self.conns.get(key).map(|c| &c.role) {
            Some(Role::Http(HttpConn::Up1(u))) => match u.exchange {
                Some(x) => self.response_room(x).clamp(QUEUE_LEAST, READ_MOST),
                None => READ_MOST,
            },
            _ => READ_MOST,
        }
    }

    fn out_room(&self, conn: Key) -> usize {
        let soft = self.config.limits().buffer_soft as usize;
        self.conns.get(conn).map_or(usize::MAX, |c| soft.saturating_sub(c.out.len()))
    }

    /// A piece of a request's body has come.
    pub(crate) fn request_data(&mut self, key: Key, data: Data<'_>) {
        let now = self.now;
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        x.active_at = now;
        x.bytes_in += data.bytes().len() as u64;
        if x.response_over {
            return;
        }
        let sent_on = matches!(x.up, Up::One(..) | Up::Two(..));
        if x.kept_all {
            if !sent_on || x.kept.len() + data.bytes().len() <= x.keep_most() {
                if x.kept.capacity() == 0 {
                    x.kept = self.pool.take();
                }
                x.kept.extend_from_slice(data.bytes());
            } else {
                x.kept_all = false;
                self.pool.give(std::mem::take(&mut x.kept));
            }
        }
        match &mut x.up {
            Up::None | Up::Waiting(..) | Up::Delayed(_) => {}
            Up::One(conn, _) => {
                let (conn, framing) = (*conn, x.up_framing);
                self.put_body(conn, framing, data.bytes());
            }
            Up::Two(_, s) => {
                s.out.push(data.into_shared());
                self.flush_up_stream(key);
            }
        }
    }

    /// A request is whole.
    pub(crate) fn request_end(&mut self, key: Key, trailers: Option<Box<Fields>>) {
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        x.request_over = true;
        x.trailers = trailers;
        if x.mirror_to.is_some() {
            self.mirror(key);
        }
        self.end_request(key);
    }

    /// Tells the endpoint's side that the request is whole, if it is and it has not been told.
    pub(crate) fn end_request(&mut self, key: Key) {
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        if !x.request_over || x.request_sent {
            return;
        }
        match &mut x.up {
            Up::None | Up::Waiting(..) | Up::Delayed(_) => {}
            Up::One(conn, _) => {
                x.request_sent = true;
                let (conn, framing) = (*conn, x.up_framing);
                if framing == Framing::Chunked
                    && let Some(c) = self.conns.get_mut(conn)
                {
                    write::last_chunk(c.out.tail(&mut self.pool), x.trailers.as_deref());
                    self.mark_dirty(conn);
                }
            }
            Up::Two(_, s) => {
                x.request_sent = true;
                s.out.finish(x.trailers.as_deref().map(convert::trailers_to));
                self.flush_up_stream(key);
            }
        }
    }

    /// A piece of a response's body has come.
    pub(crate) fn response_data(&mut self, key: Key, data: Data<'_>) {
        let now = self.now;
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        x.active_at = now;
        x.bytes_out += data.bytes().len() as u64;
        if x.mirror {
            return;
        }
        match &mut x.caller {
            None => {
                let (down, framing) = (x.down, x.down_framing.unwrap_or_default());
                self.put_body(down, framing, data.bytes());
            }
            Some(s) => {
                s.out.push(data.into_shared());
                self.flush_caller_stream(key);
            }
        }
    }

    /// A response is whole.
    pub(crate) fn response_end(&mut self, key: Key, trailers: Option<&Fields>) {
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        if x.response_over {
            return;
        }
        x.response_over = true;
        if let Some(status) = trailers.and_then(|t| t.get("grpc-status")) {
            x.grpc_status = std::str::from_utf8(status).ok().and_then(|s| s.parse().ok());
        }
        if let Some(trailers) = trailers {
            self.exchange_costs(key, trailers);
        }
        self.release_endpoint(key);
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        if !x.mirror {
            match &mut x.caller {
                None => {
                    let down = x.down;
                    if x.down_framing == Some(Framing::Chunked)
                        && let Some(c) = self.conns.get_mut(down)
                    {
                        write::last_chunk(c.out.tail(&mut self.pool), trailers);
                        self.mark_dirty(down);
                    }
                }
                Some(s) => {
                    s.out.finish(trailers.map(convert::trailers_to));
                    self.flush_caller_stream(key);
                    // It is over when the stream's window has let all of it out.
                    if !self.caller_has_all(key) {
                        return;
                    }
                }
            }
        }
        self.finish_exchange(key, None);
    }

    /// Whether the response is whole and h2 has all of it for the caller.
    fn caller_has_all(&self, key: Key) -> bool {
        self.http
            .exchanges
            .get(key)
            .is_some_and(|x| x.response_over && x.caller.as_ref().is_some_and(|c| c.out.ended))
    }

    /// Writes a piece of a body to an HTTP/1.1 connection.
    fn put_body(&mut self, conn: Key, framing: Framing, data: &[u8]) {
        let Some(c) = self.conns.get_mut(conn) else { return };
        let out = c.out.tail(&mut self.pool);
        match framing {
            Framing::None => {}
            Framing::Chunked => write::chunk(out, data),
            Framing::Length(_) | Framing::UntilClose => out.extend_from_slice(data),
        }
        self.mark_dirty(conn);
    }

    fn flush_up_stream(&mut self, key: Key) {
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        let waker = x.waker.get_or_insert_with(|| self.http.ready.waker(Token::Exchange(key)));
        let Up::Two(_, s) = &mut x.up else { return };
        if s.out.flush(&mut Context::from_waker(waker)).is_err() {
            // The receiving half tells why: an answer before all was read, a reset, a lost connection.
            s.out.abandon();
            self.http.again.push(key);
        }
    }

    fn flush_caller_stream(&mut self, key: Key) {
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        let waker = x.waker.get_or_insert_with(|| self.http.ready.waker(Token::Exchange(key)));
        let Some(s) = &mut x.caller else { return };
        if s.out.flush(&mut Context::from_waker(waker)).is_err() {
            self.cancel(key, Reason::CallerGone);
        }
    }

    /// Does for an exchange whatever can be done now.
    pub(crate) fn advance(&mut self, key: Key) {
        let Some(x) = self.http.exchanges.get(key) else { return };
        match x.up {
            Up::None if !x.response_over => self.dispatch_exchange(key),
            Up::Delayed(until) if until <= self.now => self.after_delay(key),
            _ => {}
        }
        self.flush_up_stream(key);
        self.flush_caller_stream(key);
        self.pull_request(key);
        self.pull_response(key);
        self.unpause_sources(key);
        if self.caller_has_all(key) {
            self.finish_exchange(key, None);
        }
    }

    /// Takes what a caller's stream has.
    fn pull_request(&mut self, key: Key) {
        loop {
            let room = self.request_room(key);
            let Some(x) = self.http.exchanges.get_mut(key) else { return };
            let waker = x.waker.get_or_insert_with(|| self.http.ready.waker(Token::Exchange(key)));
            let mut cx = Context::from_waker(waker);
            let Some(c) = &mut x.caller else { return };
            let reset = match (&mut c.respond, &mut c.out.stream) {
                (Some(r), _) => r.poll_reset(&mut cx),
                (None, Some(s)) if !c.out.ended => s.poll_reset(&mut cx),
                _ => Poll::Pending,
            };
            if reset.is_ready() {
                return self.cancel(key, Reason::CallerGone);
            }
            let Some(body) = c.body.as_mut().filter(|_| !x.request_over && room > 0) else { return };
            match body.poll_data(&mut cx) {
                Poll::Ready(Some(Ok(data))) => {
                    // What is taken is bounded by the room there was; the window may open again.
                    let _ = body.flow_control().release_capacity(data.len());
                    let over = body.is_end_stream();
                    self.request_data(key, Data::Shared(data));
                    if over {
                        self.request_end(key, None);
                    }
                }
                Poll::Ready(Some(Err(_))) => return self.cancel(key, Reason::CallerGone),
                Poll::Ready(None) => match body.poll_trailers(&mut cx) {
                    Poll::Ready(Ok(map)) => {
                        let trailers = map.map(|m| {
                            let mut f = Box::<Fields>::default();
                            convert::fields_from(&m, &mut f);
                            f
                        });
                        self.request_end(key, trailers);
                    }
                    Poll::Ready(Err(_)) => return self.cancel(key, Reason::CallerGone),
                    Poll::Pending => return,
                },
                Poll::Pending => return,
            }
        }
    }

    /// Takes what a stream to an endpoint has: interim responses, the head, the body.
    fn pull_response(&mut self, key: Key) {
        enum Got {
            Interim(http::Response<()>),
            Head(Box<http::Response<h2::RecvStream>>),
            Failed(h2::Error),
        }
        loop {
            let Some(x) = self.http.exchanges.get_mut(key) else { return };
            let waker = x.waker.get_or_insert_with(|| self.http.ready.waker(Token::Exchange(key)));
            let mut cx = Context::from_waker(waker);
            let Up::Two(_, s) = &mut x.up else { return };
            let Some(response) = &mut s.response else { break };
            let got = match response.poll_informational(&mut cx) {
                Poll::Ready(Some(Ok(r))) => Got::Interim(r),
                Poll::Ready(Some(Err(e))) => Got::Failed(e),
                Poll::Ready(None) | Poll::Pending => match Pin::new(response).poll(&mut cx) {
                    Poll::Ready(Ok(r)) => Got::Head(Box::new(r)),
                    Poll::Ready(Err(e)) => Got::Failed(e),
                    Poll::Pending => return,
                },
            };
            match got {
                Got::Interim(r) => {
                    let mut head = Response::default();
                    convert::response_from(&r.into_parts().0, &mut head);
                    if !head.is_interim() {
                        self.drop_up(key);
                        return self.lost_for_good(key, Reason::EndpointProtocol, "HTTP/2 has no 101");
                    }
                    self.on_interim(key, &head);
                }
                Got::Failed(e) => return self.up_stream_failed(key, &e),
                Got::Head(r) => {
                    let (parts, body) = r.into_parts();
                    let mut head = Response::default();
                    convert::response_from(&parts, &mut head);
                    let framing = match (body.is_end_stream(), content_length(&head.fields)) {
                        (true, _) => Framing::None,
                        (false, Some(n)) => Framing::Length(n),
                        (false, None) => Framing::Chunked,
                    };
                    s.response = None;
                    let over = body.is_end_stream();
                    s.body = (!over).then_some(body);
                    self.on_response(key, head, framing);
                    if over {
                        return self.end_if_same(key);
                    }
                }
            }
        }
        self.pull_body(key);
    }

    /// The response had no body; ends it unless it was answered or is tried again.
    fn end_if_same(&mut self, key: Key) {
        let ended =
            self.http.exchanges.get(key).is_some_and(|x| x.down_framing.is_some() && !x.response_over);
        if ended {
            self.response_end(key, None);
        }
    }

    fn pull_body(&mut self, key: Key) {
        loop {
            if self.response_room(key) == 0 {
                return;
            }
            let Some(x) = self.http.exchanges.get_mut(key) else { return };
            let waker = x.waker.get_or_insert_with(|| self.http.ready.waker(Token::Exchange(key)));
            let mut cx = Context::from_waker(waker);
            let Up::Two(_, s) = &mut x.up else { return };
            let Some(body) = &mut s.body else { return };
            match body.poll_data(&mut cx) {
                Poll::Ready(Some(Ok(data))) => {
                    let _ = body.flow_control().release_capacity(data.len());
                    let over = body.is_end_stream();
                    self.response_data(key, Data::Shared(data));
                    if over {
                        return self.response_end(key, None);
                    }
                }
                Poll::Ready(Some(Err(e))) => return self.up_stream_failed(key, &e),
                Poll::Ready(None) => match body.poll_trailers(&mut cx) {
                    Poll::Ready(Ok(map)) => {
                        let trailers = map.map(|m| {
                            let mut f = Fields::default();
                            convert::fields_from(&m, &mut f);
                            f
                        });
                        return self.response_end(key, trailers.as_ref());
                    }
                    Poll::Ready(Err(e)) => return self.up_stream_failed(key, &e),
                    Poll::Pending => return,
                },
                Poll::Pending => return,
            }
        }
    }

    /// Lets HTTP/1.x connections be read again whose bytes have somewhere to go now.
    fn unpause_sources(&mut self, key: Key) {
        let Some(x) = self.http.exchanges.get(key) else { return };
        let down = x.caller.is_none().then_some(x.down);
        let up = if let Up::One(conn, _) = x.up { Some(conn) } else { None };
        if let Some(down) = down
            && self.request_room(key) > 0
        {
            self.unpause(down, Paused::SINK_FULL);
        }
        if let Some(up) = up
            && self.response_room(key) > 0
        {
            self.unpause(up, Paused::SINK_FULL);
        }
    }

    /// A connection's out-buffer has room again: whoever feeds it goes on.
    pub(crate) fn http_made_room(&mut self, key: Key) {
        let Some(conn) = self.conns.get(key) else { return };
        let Role::Http(h) = &conn.role else { return };
        match h {
            HttpConn::Down1(d) => {
                if let Some(x) = d.exchange
                    && self.response_held(x)
                {
                    self.http.again.push(x);
                }
            }
            HttpConn::Up1(u) => {
                if let Some(x) = u.exchange
                    && self.request_held(x)
                {
                    self.http.again.push(x);
                }
            }
            HttpConn::Down2(d) => d.pipe.made_room(conn.out.len(), &d.waker),
            HttpConn::Up2(u) => u.pipe.made_room(conn.out.len(), &u.waker),
        }
    }

    /// Whether more of a response's body could come if the caller had room.
    fn response_held(&self, key: Key) -> bool {
        self.http.exchanges.get(key).is_some_and(|x| match x.up {
            Up::One(conn, _) => self.conns.get(conn).is_some_and(|c| c.paused.any()),
            Up::Two(..) => true,
            Up::None | Up::Waiting(_) | Up::Delayed(_) => false,
        })
    }

    /// Whether more of a request's body could come if the endpoint had room.
    fn request_held(&self, key: Key) -> bool {
        self.http.exchanges.get(key).is_some_and(|x| {
            !x.request_over && (x.caller.is_some() || self.conns.get(x.down).is_some_and(|c| c.paused.any()))
        })
    }
}

pub(crate) fn content_length(f: &Fields) -> Option<u64> {
    std::str::from_utf8(f.get("content-length")?).ok()?.parse().ok()
}
