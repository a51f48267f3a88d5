//! Connections that stop being HTTP: upgrades (WebSocket), CONNECT, and how HTTP connections close.
use super::exchange::Up;
use super::pipe::Pipe;
use super::sides::HttpConn;
use crate::conn::{Direction, Paused, Relay, Role};
use crate::lane::Lane;
use crate::limits::ticket::Ticket;
use crate::worker::Worker;
use raddle_core::Reason;
use raddle_net::{Key, OutBuf};
use raddle_wire::http::h1::Framing;
use raddle_wire::http::h1::write::{self, Connection};
use raddle_wire::http::{Request, Response};
use std::net::SocketAddr;

impl Worker {
    /// The endpoint agreed to change the protocol: from here on both connections are bytes.
    ///
    /// Returns how many bytes were used, like a parser: the rest is the new protocol's.
    pub(crate) fn switch_protocols(
        &mut self,
        key: Key,
        up: Key,
        head: &Response,
        used: usize,
    ) -> Option<usize> {
        let x = self.http.exchanges.get_mut(key)?;
        if !x.upgrade || !x.request_over || x.mirror {
            self.shard.upstream_malformed[raddle_telemetry::Malformed::BadHeader].inc();
            self.drop_up(key);
            self.lost_for_good(
                key,
                Reason::EndpointProtocol,
                "it changes the protocol without being asked to",
            );
            return Some(used);
        }
        x.status = 101;
        x.down_framing = Some(Framing::None);
        let (down, service, row, host, direction) = (x.down, x.service, x.row, x.host, x.direction);
        let endpoint = x.plan.endpoint;
        x.up = Up::None;
        // The relay's own accounts begin where the exchange's end.
        let permit = x.permit.take();
        // What bounds connections at once holds as long as the bytes do.
        let ticket = x.ticket.take();
        x.counted = false;
        self.limited_tunnels(ticket.as_ref());
        if let (Some(s), Some(p)) = (self.services.get_mut(service), permit) {
            s.permits.release(p);
        }
        let now = self.now;
        let c = self.conns.get_mut(down)?;
        write::response(c.out.tail(&mut self.pool), head, Framing::None, Connection::Upgrade);
        let Role::Http(HttpConn::Down1(d)) = &mut c.role else { return Some(used) };
        d.exchange = None;
        let accepted = d.accepted.clone();
        let side = |accepted, peer, ticket| Relay {
            accepted,
            ticket,
            peer,
            host,
            service,
            cells: row,
            connecting: false,
            endpoint,
            tried: 1,
            ended: false,
            shut: false,
            undecided: false,
            unasked: false,
            bytes: 0,
            direction,
            since: now,
            answer: false,
            plain: false,
            rule: None,
        };
        c.role = Role::Relay(Box::new(side(Some(accepted), up, ticket)));
        self.unpool(host, up);
        if let Some(c) = self.conns.get_mut(up) {
            c.role = Role::Relay(Box::new(side(None, down, None)));
        }
        self.mark_dirty(down);
        self.finish_exchange(key, None);
        for k in [down, up] {
            self.unpause(k, Paused::OUT_FULL);
            self.unpause(k, Paused::SINK_FULL);
            self.set_interest(k);
            self.resume.push(k);
        }
        Some(used)
    }

    /// CONNECT: the caller's connection becomes a relay to the service, which is answered when it is there.
    pub(crate) fn begin_connect(&mut self, key: Key) {
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        let (down, service, ticket) = (x.down, x.service, x.ticket.clone());
        if x.caller.is_some() {
            return self.answer_http(key, Reason::NoRoute, Some(501), "CONNECT is served over HTTP/1.1 only");
        }
        // It is sent from here on, as far as limits are concerned.
        let _ = self.limited_goes(ticket.as_ref(), None);
        if let Some(x) = self.http.exchanges.remove(key) {
            self.http.give(x.request);
        }
        self.unpause(down, Paused::OUT_FULL);
        self.relay_for_connect(down, service, ticket);
    }

    /// A destination that a forward-proxy request names by address, where unknown ones are allowed.
    pub(crate) fn destination_named(&mut self, key: Key, request: &Request) -> Option<Key> {
        let x = self.http.exchanges.get(key)?;
        if !(request.absolute || request.is_connect()) || x.direction != Direction::Outbound {
            return None;
        }
        let listener = x.listener;
        let text = std::str::from_utf8(request.authority()).ok()?;
        let addr: SocketAddr = match text.parse() {
            Ok(a) => a,
            Err(_) => SocketAddr::new(text.trim_matches(['[', ']']).parse().ok()?, 80),
        };
        self.destination_service(listener, addr)
    }

    /// An HTTP connection is gone: what was under way on it is moved, retried, answered or ended.
    pub(crate) fn http_closed(&mut self, key: Key, role: HttpConn, out: &OutBuf, why: Reason) {
        match role {
            HttpConn::Down1(d) => {
                self.count_caller_gone();
                if let Some(x) = d.exchange {
                    self.cancel(x, why);
                }
            }
            HttpConn::Down2(mut d) => {
                self.count_caller_gone();
                for x in std::mem::take(&mut d.exchanges) {
                    self.cancel(x, why);
                }
            }
            HttpConn::Up1(u) => {
                self.up_closed(u.host, key, Lane::Http1, u.connecting, u.exchange.is_some());
                let Some(x) = u.exchange else { return };
                let Some(e) = self.http.exchanges.get_mut(x) else { return };
                let Up::One(_, at) = std::mem::replace(&mut e.up, Up::None) else { return };
                let unsent = out.written_offset() <= at;
                self.lost_http(x, why, unsent, "the endpoint closed its connection");
            }
            HttpConn::Up2(u) => {
                for k in self.http.exchanges.keys() {
                    if let Some(x) = self.http.exchanges.get_mut(k)
                        && let Up::Two(conn, s) = &x.up
                        && *conn == key
                    {
                        // The kernel took nothing that was written after the stream began.
                        x.unsent = out.written_offset() <= s.at;
                    }
                }
                self.up_closed(u.host, key, Lane::Http2, u.connecting, u.active > 0);
                // Streams learn it from h2 when it goes.
                let Pipe(pipe) = u.pipe.clone();
                pipe.borrow_mut().ended = true;
                drop(u);
            }
        }
    }

    fn up_closed(&mut self, host: Key, key: Key, lane: Lane, connecting: bool, busy: bool) {
        self.unpool(host, key);
        if !connecting {
            self.shard.upstream_active.dec();
        }
        if busy {
            self.shard.upstream_lost.inc();
        }
        if let Some(h) = self.hosts.get_mut(host) {
            h.idle1.retain(|k| *k != key);
            h.cells.connections.set(h.conns.iter().filter(|p| p.ready).count() as i64);
        }
        self.serve_waiting(host, lane);
    }

    /// Ends an HTTP connection when nothing is left for it to do.
    pub(crate) fn http_close_if_done(&mut self, key: Key) {
        let Some(conn) = self.conns.get(key) else { return };
        let Role::Http(h) = &conn.role else { return };
        let ended = conn.paused.has(Paused::ENDED);
        match h {
            HttpConn::Down1(d) => {
                if d.exchange.is_some() {
                    return;
                }
                if d.doing == super::sides::Doing::Closing || ended && conn.stash.is_empty() {
                    self.close_gently(key, ended);
                }
            }
            HttpConn::Down2(d) => {
                let over = matches!(d.h2, super::sides::Server::Away) && ended;
                if over {
                    self.close_gently(key, false);
                }
            }
            HttpConn::Up2(u) => {
                if u.retiring && u.active == 0 {
                    self.close(key, Reason::ConnectionLost);
                }
            }
            HttpConn::Up1(_) => {}
        }
    }

    /// Ends our side and lets the peer read what it was sent: a close with unread bytes would reset the
    /// connection under it.
    fn close_gently(&mut self, key: Key, peer_ended: bool) {
        let Some(c) = self.conns.get_mut(key) else { return };
        if peer_ended || c.lingers {
            if peer_ended {
                // Said even to one that has ended its side: it may wait to know that nothing is missing.
                c.end_tls(&mut self.pool);
                self.close(key, Reason::CallerGone);
            }
            return;
        }
        c.lingers = true;
        c.paused.clear(Paused::ENDED);
        c.end_tls(&mut self.pool);
        raddle_net::socket::shutdown_write(&c.fd);
        self.pool.give(std::mem::take(&mut c.stash));
        self.unpause(key, Paused::SINK_FULL);
        self.unpause(key, Paused::OUT_FULL);
        self.set_interest(key);
        let at = self.now + self.config.limits().head_timeout;
        self.arm(key, at);
    }
}

impl Worker {
    /// Makes a caller's connection one side of a relay to a service, as it asked by CONNECT.
    fn relay_for_connect(&mut self, down: Key, service: Key, ticket: Option<Ticket>) {
        let now = self.now;
        let row = self.services.get(service).map_or(0, |s| s.row);
        let Some(c) = self.conns.get_mut(down) else { return };
        let Role::Http(HttpConn::Down1(d)) = &mut c.role else { return };
        d.exchange = None;
        let relay = Relay {
            accepted: Some(d.accepted.clone()),
            ticket,
            peer: Key::NONE,
            host: Key::NONE,
            service,
            cells: row,
            connecting: false,
            endpoint: 0,
            tried: 0,
            ended: false,
            shut: false,
            undecided: false,
            unasked: false,
            bytes: 0,
            direction: d.direction,
            since: now,
            answer: true,
            plain: false,
            rule: None,
        };
        c.role = Role::Relay(Box::new(relay));
        self.services.cells(row).in_flight.inc();
        self.resume.push(down);
        self.connect_relay(down, None);
    }

    /// The endpoint a CONNECT asked for is there.
    pub(crate) fn agree_connect(&mut self, caller: Key) {
        let Some(c) = self.conns.get_mut(caller) else { return };
        let Role::Relay(r) = &mut c.role else { return };
        if std::mem::take(&mut r.answer) {
            let ticket = r.ticket.clone();
            c.out.tail(&mut self.pool).extend_from_slice(b"HTTP/1.1 200 Connection established\r\n\r\n");
            self.limited_tunnels(ticket.as_ref());
            self.mark_dirty(caller);
        }
    }

    /// No endpoint a CONNECT asked for is there.
    pub(crate) fn refuse_connect(&mut self, caller: Key, reason: Reason) {
        let Some(c) = self.conns.get_mut(caller) else { return };
        let mut head = Response::new(reason.http_status());
        head.fields.push(b"x-raddle-reason", reason.flag().as_bytes());
        write::response(c.out.tail(&mut self.pool), &head, Framing::Length(0), Connection::Close);
        // It is small, and the connection is closed next: what the socket does not take at once is lost.
        let _ = c.flush_out(&mut self.pool);
    }
}
