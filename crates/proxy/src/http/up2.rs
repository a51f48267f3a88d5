//! An endpoint's HTTP/2 connection: many exchanges at a time.
use super::convert;
use super::exchange::{EndpointStream, Sender, Up};
use super::sides::{Client, HttpConn, Up2};
use crate::conn::Role;
use crate::worker::Worker;
use bytes::Bytes;
use raddle_core::Reason;
use raddle_net::Key;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Whether a stream could be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// It is, or the exchange was answered.
    Yes,
    /// The endpoint allows no more for now.
    Later,
    /// The connection takes none any more.
    Never,
}

impl Worker {
    pub(crate) fn up2(&mut self, key: Key) -> Option<&mut Up2> {
        match &mut self.conns.get_mut(key)?.role {
            Role::Http(HttpConn::Up2(u)) => Some(u),
            _ => None,
        }
    }

    /// Begins HTTP/2 on a connection that has just been made.
    pub(crate) fn start_up2(&mut self, key: Key) {
        let max_header = self.config.limits().max_header;
        let Some(u) = self.up2(key) else { return };
        let pipe = u.pipe.clone();
        let future = async move {
            h2::client::Builder::new()
                .initial_window_size(super::down2::STREAM_WINDOW)
                .initial_connection_window_size(super::down2::CONNECTION_WINDOW)
                .data_frame_budget(super::down2::SMALL_FRAMES)
                .max_header_list_size(max_header)
                .max_send_buffer_size(super::down2::STREAM_WINDOW as usize)
                .enable_push(false)
                .handshake::<_, Bytes>(pipe)
                .await
        };
        u.h2 = Client::Handshake(Box::pin(future));
        self.drive_up2(key);
    }

    /// Bytes from an endpoint. All of them are taken.
    pub(crate) fn feed_up2(&mut self, key: Key, bytes: &[u8]) -> usize {
        if let Some(u) = self.up2(key) {
            u.pipe.0.borrow_mut().push(bytes);
            self.drive_up2(key);
        }
        bytes.len()
    }

    /// Lets h2 work on the connection.
    pub(crate) fn drive_up2(&mut self, key: Key) {
        let behind = self.conns.get(key).map_or(0, |c| c.out.len());
        let Some(u) = self.up2(key) else { return };
        u.pipe.0.borrow_mut().behind = behind;
        let waker = u.waker.clone();
        let mut cx = Context::from_waker(&waker);
        let mut over = None;
        if let Client::Handshake(f) = &mut u.h2 {
            match f.as_mut().poll(&mut cx) {
                Poll::Ready(Ok((send, mut conn))) => {
                    u.send = Some(send);
                    u.pinger = conn.ping_pong();
                    u.h2 = Client::Open(Box::new(conn));
                }
                Poll::Ready(Err(e)) => over = Some(Err(e)),
                Poll::Pending => {}
            }
        }
        if let Client::Open(conn) = &mut u.h2
            && let Poll::Ready(r) = Pin::new(&mut **conn).poll(&mut cx)
        {
            over = Some(r);
        }
        // A GOAWAY shows here first: streams begun go on, new ones are refused.
        let refused = match u.send.as_mut().map(|s| s.poll_ready(&mut cx)) {
            Some(Poll::Ready(Err(e))) => Some(e.is_go_away() && e.is_remote()),
            _ => None,
        };
        let retiring = u.retiring;
        if refused == Some(true) && !retiring {
            self.shard.goaways_received.inc();
        }
        self.take_output(key);
        if let Some(result) = over {
            if let Err(e) = result {
                tracing::debug!(error = %e, "HTTP/2 connection to an endpoint is over");
            }
            return self.close(key, Reason::ConnectionLost);
        }
        if refused.is_some() && !retiring {
            self.retire_http(key);
        }
    }

    /// Begins a stream for an exchange.
    pub(crate) fn forward_two(&mut self, key: Key, conn: Key) -> Begun {
        let now = self.now;
        let endpoint = self.up2(conn).map(|u| u.host).and_then(|h| self.hosts.get(h)).map(|h| h.host.addr);
        let Some(x) = self.http.exchanges.get_mut(key) else { return Begun::Yes };
        if x.request.authority().is_empty()
            && let Some(addr) = endpoint
        {
            x.request.set_authority(addr.to_string().as_bytes());
        }
        if x.expects_continue {
            x.request.fields.push(b"expect", b"100-continue");
        }
        let head = convert::request_to(&x.request);
        if x.expects_continue {
            x.request.fields.remove("expect");
        }
        let Some(head) = head else {
            self.answer_http(key, Reason::CallerProtocol, Some(400), "HTTP/2 cannot say this request");
            return Begun::Yes;
        };
        let over = x.request_over && x.kept.is_empty() && x.trailers.is_none();
        let at = self.conns.get(conn).map_or(0, |c| c.out.tail_offset());
        let Some(u) = self.up2(conn) else { return Begun::Never };
        let waker = u.waker.clone();
        let Some(send) = &mut u.send else { return Begun::Never };
        match send.poll_ready(&mut Context::from_waker(&waker)) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Begun::Never,
            Poll::Pending => return Begun::Later,
        }
        let Ok((response, stream)) = send.send_request(head, over) else { return Begun::Never };
        u.active += 1;
        u.used_at = now;
        let reused = u.served;
        let quiet_for = u.quiet_for;
        waker.wake();
        self.arm(conn, now + quiet_for);
        let mut out = Sender::new(stream, over);
        let Some(x) = self.http.exchanges.get_mut(key) else { return Begun::Yes };
        out.push(Bytes::copy_from_slice(&x.kept));
        x.request_sent = over;
        x.up_framing = x.framing;
        x.reused = reused;
        x.unsent = false;
        x.up = Up::Two(conn, Box::new(EndpointStream { at, response: Some(response), body: None, out }));
        self.end_request(key);
        self.http.again.push(key);
        Begun::Yes
    }

    /// An exchange no longer needs its stream.
    pub(crate) fn free_up2(&mut self, conn: Key) {
        let now = self.now;
        let Some(u) = self.up2(conn) else { return };
        u.active = u.active.saturating_sub(1);
        u.served = true;
        u.used_at = now;
        let (host, done) = (u.host, u.retiring && u.active == 0);
        // What the stream's end has to say is still to be written.
        u.waker.wake_by_ref();
        if done {
            if let Some(u) = self.up2(conn) {
                // h2 says goodbye and ends the connection when nobody can begin a stream any more.
                u.send = None;
            }
            self.mark_dirty(conn);
        } else {
            self.offer_up2(host);
        }
    }

    /// A stream to an endpoint is over before its response is.
    pub(crate) fn up_stream_failed(&mut self, key: Key, e: &h2::Error) {
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        let Up::Two(conn, _) = std::mem::replace(&mut x.up, Up::None) else { return };
        let unsent = x.unsent;
        let refused = e.reason() == Some(h2::Reason::REFUSED_STREAM);
        let not_taken = e.is_remote() && (refused || e.is_go_away());
        self.settle_try(key, None, !not_taken);
        self.free_up2(conn);
        if not_taken {
            return self.not_taken(key);
        }
        if e.is_reset() && e.is_remote() {
            return self.reset_by_endpoint(key, e.reason().unwrap_or(h2::Reason::CANCEL));
        }
        if e.is_io() || e.is_go_away() {
            return self.lost_http(key, Reason::ConnectionLost, unsent, "the endpoint closed its connection");
        }
        self.shard.upstream_malformed[raddle_telemetry::Malformed::Other].inc();
        self.lost_for_good(key, Reason::EndpointProtocol, "the endpoint broke HTTP/2's rules");
    }
}
