//! A caller's HTTP/2 connection.
use super::convert;
use super::exchange::{CallerStream, Exchange, Sender};
use super::flow::content_length;
use super::pipe::Pipe;
use super::sides::{Down2, HttpConn, Server};
use super::wake::Token;
use crate::conn::{Paused, Role};
use crate::worker::{READ_MOST, Worker};
use bytes::Bytes;
use h2::server::SendResponse;
use raddle_core::{Protocol, Reason};
use raddle_net::Key;
use raddle_telemetry::Malformed;
use raddle_wire::http::h1::Framing;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A stream's window.
pub(crate) const STREAM_WINDOW: u32 = 256 << 10;
/// A connection's window: what its streams together may have under way.
pub(crate) const CONNECTION_WINDOW: u32 = 1 << 20;
/// Memory that h2 may use for small DATA frames it holds, about 256 bytes each: streams of small messages come in
/// bursts.
pub(crate) const SMALL_FRAMES: usize = 4 << 20;
/// Streams a caller resets before they are looked at; more is an attack.
const RESETS_MOST: usize = 100;

impl Worker {
    /// Makes an accepted connection one that speaks HTTP/2.
    pub(crate) fn become_down2(&mut self, key: Key) {
        let now = self.now;
        let (idle, max_header, max_streams, head) = {
            let l = self.config.limits();
            (l.idle_timeout, l.max_header, l.max_streams, l.head_timeout)
        };
        let Some((accepted, direction)) = self.take_accepted(key) else { return };
        let pipe = Pipe::default();
        let handshake = h2::server::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .data_frame_budget(SMALL_FRAMES)
            .max_header_list_size(max_header)
            .max_concurrent_streams(max_streams)
            .max_concurrent_reset_streams(RESETS_MOST)
            .max_pending_accept_reset_streams(RESETS_MOST)
            .max_send_buffer_size(STREAM_WINDOW as usize)
            .handshake(pipe.clone());
        let down = Down2 {
            accepted,
            direction,
            pipe,
            h2: Server::Handshake(handshake),
            waker: self.http.ready.waker(Token::Conn(key)),
            exchanges: Vec::new(),
            active_at: now,
            told: false,
        };
        if let Some(c) = self.conns.get_mut(key) {
            c.role = Role::Http(HttpConn::Down2(Box::new(down)));
        }
        self.shard.detected[Protocol::Http2].inc();
        self.link_begins(key);
        self.arm(key, now + idle.min(head));
    }

    pub(crate) fn down2(&mut self, key: Key) -> Option<&mut Down2> {
        match &mut self.conns.get_mut(key)?.role {
            Role::Http(HttpConn::Down2(d)) => Some(d),
            _ => None,
        }
    }

    /// Bytes from a caller. All of them are taken.
    pub(crate) fn feed_down2(&mut self, key: Key, bytes: &[u8]) -> usize {
        if let Some(d) = self.down2(key) {
            d.pipe.0.borrow_mut().push(bytes);
            self.drive_down2(key);
        }
        bytes.len()
    }

    /// The caller has ended its stream.
    pub(crate) fn on_down2_end(&mut self, key: Key) {
        if let Some(d) = self.down2(key) {
            d.pipe.0.borrow_mut().ended = true;
            self.drive_down2(key);
        }
        self.close(key, Reason::CallerGone);
    }

    /// Lets h2 work: requests come out, and frames to be written.
    pub(crate) fn drive_down2(&mut self, key: Key) {
        let behind = self.conns.get(key).map_or(0, |c| c.out.len());
        let Some(d) = self.down2(key) else { return };
        d.pipe.0.borrow_mut().behind = behind;
        let waker = d.waker.clone();
        let mut cx = Context::from_waker(&waker);
        let mut h2 = std::mem::replace(&mut d.h2, Server::Away);
        if let Server::Handshake(mut handshake) = h2 {
            h2 = match Pin::new(&mut handshake).poll(&mut cx) {
                Poll::Ready(Ok(conn)) => Server::Open(conn),
                Poll::Ready(Err(e)) => return self.down2_over(key, Some(&e)),
                Poll::Pending => Server::Handshake(handshake),
            };
        }
        let mut over = None;
        if let Server::Open(conn) = &mut h2 {
            loop {
                match conn.poll_accept(&mut cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => self.begin_two(key, request, respond),
                    Poll::Ready(Some(Err(e))) => {
                        over = Some(Some(e));
                        break;
                    }
                    Poll::Ready(None) => {
                        over = Some(None);
                        break;
                    }
                    Poll::Pending => break,
                }
            }
        }
        if let Some(d) = self.down2(key) {
            d.h2 = h2;
        }
        match over {
            Some(e) => self.down2_over(key, e.as_ref()),
            None => self.take_output(key),
        }
        if self.is_leaving(key) {
            self.tell_down2(key);
        }
    }

    /// The connection is over: what is written goes out, then it closes.
    fn down2_over(&mut self, key: Key, error: Option<&h2::Error>) {
        if let Some(e) = error
            && !e.is_io()
            && e.reason() != Some(h2::Reason::NO_ERROR)
        {
            self.shard.caller_malformed[Malformed::Other].inc();
            tracing::debug!(error = %e, "HTTP/2 connection error");
        }
        self.take_output(key);
        let Some(d) = self.down2(key) else { return };
        d.h2 = Server::Away;
        for x in std::mem::take(&mut d.exchanges) {
            self.cancel(x, Reason::CallerGone);
        }
        if let Some(c) = self.conns.get_mut(key) {
            c.paused.set(Paused::ENDED);
        }
        self.set_interest(key);
        self.mark_dirty(key);
    }

    /// Moves what h2 has written to the out-buffer.
    pub(crate) fn take_output(&mut self, key: Key) {
        let Some(c) = self.conns.get_mut(key) else { return };
        let (pipe, waker) = match &c.role {
            Role::Http(HttpConn::Down2(d)) => (d.pipe.clone(), d.waker.clone()),
            Role::Http(HttpConn::Up2(u)) => (u.pipe.clone(), u.waker.clone()),
            _ => return,
        };
        let mut b = pipe.0.borrow_mut();
        let wrote = !b.output.is_empty();
        if wrote {
            let out = c.out.tail(&mut self.pool);
            if out.is_empty() {
                std::mem::swap(out, &mut b.output);
            } else {
                out.extend_from_slice(&b.output);
                b.output.clear();
            }
            if b.output.capacity() > 0 {
                self.pool.give(std::mem::take(&mut b.output));
            }
        }
        b.behind = c.out.len();
        let stuck = b.stuck();
        // While it cannot write it does not read; the kernel holds what comes.
        let full = b.unread() > READ_MOST;
        drop(b);
        if stuck && wrote {
            // There is room in the pipe again, if none in the socket: only made_room wakes it then.
            let soft = self.config.limits().buffer_soft as usize;
            if self.conns.get(key).is_some_and(|c| c.out.len() < soft / 2) {
                waker.wake_by_ref();
            }
        }
        if full {
            self.pause(key, Paused::SINK_FULL);
        } else {
            self.unpause(key, Paused::SINK_FULL);
        }
        if wrote {
            self.mark_dirty(key);
        }
    }

    fn begin_two(
        &mut self,
        key: Key,
        request: http::Request<h2::RecvStream>,
        mut respond: SendResponse<Bytes>,
    ) {
        let now = self.now;
        let (parts, body) = request.into_parts();
        let mut head = self.http.spare();
        if let Err(what) = convert::request_from(&parts, &mut head) {
            self.shard.caller_malformed[Malformed::BadHeader].inc();
            tracing::debug!(error = what, "malformed request");
            self.http.give(head);
            return respond.send_reset(h2::Reason::PROTOCOL_ERROR);
        }
        let tls = self.conns.get(key).is_some_and(|c| c.tls.is_some());
        let Some(d) = self.down2(key) else { return };
        d.active_at = now;
        let (direction, listener) = (d.direction, d.accepted.listener);
        head.https |= tls;
        self.introduce(key, direction, listener, &mut head);
        let protocol = if head.is_grpc() { Protocol::Grpc } else { Protocol::Http2 };
        let over = body.is_end_stream();
        let framing = match (over, content_length(&head.fields)) {
            (true, _) => Framing::None,
            (false, Some(n)) => Framing::Length(n),
            (false, None) => Framing::Chunked,
        };
        let mut x = Exchange::new(key, direction, listener, head, framing, protocol, now);
        x.expects_continue = x.request.fields.remove("expect");
        x.request_over = over;
        x.caller = Some(Box::new(CallerStream {
            respond: Some(respond),
            body: (!over).then_some(body),
            out: Sender::default(),
        }));
        let x = self.http.exchanges.insert(x);
        if let Some(d) = self.down2(key) {
            d.exchanges.push(x);
        }
        self.dispatch_exchange(x);
        self.advance(x);
    }

    /// An exchange of the connection is over.
    pub(crate) fn next_on_down2(&mut self, key: Key, x: Key) {
        let now = self.now;
        if let Some(d) = self.down2(key) {
            d.active_at = now;
            if let Some(at) = d.exchanges.iter().position(|k| *k == x) {
                d.exchanges.swap_remove(at);
            }
        }
    }

    /// Tells the caller to send no more requests here; those under way finish.
    pub(crate) fn tell_down2(&mut self, key: Key) {
        let now = self.now;
        let Some(d) = self.down2(key) else { return };
        if d.told {
            return;
        }
        d.active_at = now;
        if let Server::Open(conn) = &mut d.h2 {
            d.told = true;
            conn.graceful_shutdown();
            self.shard.goaways_sent.inc();
            self.drive_down2(key);
        }
    }
}
