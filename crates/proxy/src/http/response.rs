//! What comes back for an exchange: interim responses, the response, its loss; and its end.
use super::actions::mutate;
use super::answer::End;
use super::convert;
use super::exchange::Up;
use super::sides::HttpConn;
use crate::conn::Role;
use crate::limits::done::Fate;
use crate::request::MOVES_MOST;
use crate::worker::Worker;
use raddle_core::{Protocol, Reason};
use raddle_model::RetryOn;
use raddle_net::Key;
use raddle_wire::http::Response;
use raddle_wire::http::h1::Framing;
use raddle_wire::http::h1::write::{self, Connection};
use std::time::Duration;

/// Before the second retry; each further one waits this much longer.
const RETRY_PAUSE: Duration = Duration::from_millis(25);

impl Worker {
    /// A response before the response: `100 Continue`, `103 Early Hints`.
    pub(crate) fn on_interim(&mut self, key: Key, head: &Response) {
        let now = self.now;
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        x.active_at = now;
        x.expects_continue &= head.status != 100;
        if x.mirror || x.old {
            return;
        }
        match &mut x.caller {
            Some(c) => {
                if let (Some(respond), Some(head)) = (&mut c.respond, convert::response_to(head)) {
                    // Interim responses may be lost without harm.
                    let _ = respond.send_informational(head);
                }
            }
            None => {
                let down = x.down;
                if let Some(c) = self.conns.get_mut(down) {
                    write::response(c.out.tail(&mut self.pool), head, Framing::None, Connection::Stays);
                    self.mark_dirty(down);
                }
            }
        }
    }

    /// A response's head has come: passed on, unless the request is tried again.
    pub(crate) fn on_response(&mut self, key: Key, mut head: Response, framing: Framing) {
        let now = self.now;
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        x.active_at = now;
        x.status = head.status;
        if let Some(status) = head.fields.get("grpc-status") {
            x.grpc_status = std::str::from_utf8(status).ok().and_then(|s| s.parse().ok());
        }
        let host = x.host;
        x.said = reason_in(&head);
        let failure = failure_of(&head, x.protocol, x.grpc_status);
        if failure == Some(RetryOn::ConnectFailure) {
            self.rest_host(host, "its sidecar cannot reach the app");
        }
        if let Some(f) = failure
            && self.may_retry_http(key, f)
            && self.budget_allows(key)
        {
            let said = self.http.exchanges.get(key).and_then(|x| x.said);
            self.drop_up(key);
            return self.try_again(key, Fate::of_reply(false, said));
        }
        self.exchange_costs(key, &head.fields);
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        if let Some(ops) = x.response_ops.take() {
            mutate(&mut head.fields, &ops);
        }
        self.send_head(key, &head, framing);
    }

    /// Writes a response's head to the caller.
    pub(crate) fn send_head(&mut self, key: Key, head: &Response, framing: Framing) {
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        let bodiless = head.is_bodiless() || x.request.method() == b"HEAD";
        if x.mirror {
            x.down_framing = Some(framing);
            return;
        }
        if let Some(c) = &mut x.caller {
            x.down_framing = Some(framing);
            let Some(mut respond) = c.respond.take() else { return };
            let over = framing == Framing::None || bodiless;
            let sent = convert::response_to(head).map(|h| respond.send_response(h, over));
            match sent {
                Some(Ok(stream)) => {
                    c.out.stream = Some(stream);
                    c.out.ended = over;
                }
                Some(Err(_)) => self.cancel(key, Reason::CallerGone),
                None => {
                    respond.send_reset(h2::Reason::INTERNAL_ERROR);
                    self.cancel(key, Reason::EndpointProtocol);
                }
            }
            return;
        }
        let framing = match framing {
            _ if bodiless => Framing::None,
            Framing::None => Framing::Length(0),
            Framing::Chunked | Framing::UntilClose if x.old => Framing::UntilClose,
            Framing::UntilClose => Framing::Chunked,
            f => f,
        };
        x.down_framing = Some(framing);
        let (down, old) = (x.down, x.old);
        // Whether a body that was not asked for still comes is the caller's to choose.
        let unsure = x.expects_continue && !x.request_over && x.bytes_in == 0;
        let ends = self.draining.is_some() || unsure;
        let Some(c) = self.conns.get_mut(down) else { return };
        let Role::Http(HttpConn::Down1(d)) = &mut c.role else { return };
        d.last |= ends || framing == Framing::UntilClose;
        let connection = match (d.last, old) {
            (true, _) => Connection::Close,
            (false, true) => Connection::KeepAlive,
            (false, false) => Connection::Stays,
        };
        write::response(c.out.tail(&mut self.pool), head, framing, connection);
        self.mark_dirty(down);
    }

    /// A response is whole: the endpoint's side is done with, whenever the caller takes the rest.
    pub(crate) fn release_endpoint(&mut self, key: Key) {
        let now = self.now;
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        let (host, sent, latency) = (x.host, x.request_sent, now.since(x.start));
        let failed = x.status >= 500 || x.grpc_status.is_some_and(|s| s == 14);
        let up = std::mem::replace(&mut x.up, Up::None);
        self.exchange_ends(key, None);
        self.host_answers(host);
        // First the accounts: who waits for a place may get the connection next.
        self.settle_try(key, Some(latency), failed);
        match up {
            Up::One(conn, _) => self.free_up1(conn, sent),
            Up::Two(conn, mut s) => {
                if !sent && let Some(stream) = &mut s.out.stream {
                    stream.send_reset(h2::Reason::NO_ERROR);
                }
                drop(s);
                self.free_up2(conn);
            }
            Up::None | Up::Waiting(_) | Up::Delayed(_) => {}
        }
    }

    /// The accounts of a try.
    pub(crate) fn settle_try(&mut self, key: Key, latency: Option<Duration>, failed: bool) {
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        if !std::mem::take(&mut x.counted) {
            return;
        }
        let (host, service, row, permit) = (x.host, x.service, x.row, x.permit.take());
        self.host_done(host, latency, failed);
        if let (Some(s), Some(p)) = (self.services.get_mut(service), permit) {
            s.permits.release(p);
        }
        self.services.cells(row).in_flight.dec();
    }

    /// Gives up the endpoint's side.
    pub(crate) fn drop_up(&mut self, key: Key) {
        self.settle_try(key, None, true);
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        match std::mem::replace(&mut x.up, Up::None) {
            Up::One(conn, _) => self.free_up1(conn, false),
            Up::Two(conn, mut s) => {
                if let Some(stream) = &mut s.out.stream {
                    stream.send_reset(h2::Reason::CANCEL);
                }
                drop(s);
                self.free_up2(conn);
            }
            Up::None | Up::Waiting(_) | Up::Delayed(_) => {}
        }
    }

    /// The caller is gone, or what it sends makes no sense.
    pub(crate) fn cancel(&mut self, key: Key, why: Reason) {
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        x.response_over = true;
        // Who has all bytes the head promised may leave before the stream's end is said.
        let why = (why != Reason::CallerGone || !x.caller_has_body()).then_some(why);
        // The endpoint did nothing wrong.
        self.settle_try(key, None, false);
        self.drop_up(key);
        self.finish_exchange(key, why);
    }

    /// The connection of an exchange is gone.
    pub(crate) fn lost_http(&mut self, key: Key, why: Reason, unsent: bool, what: &'static str) {
        self.settle_try(key, None, true);
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        if x.response_over {
            return;
        }
        if x.down_framing.is_some() {
            return self.cut(key, why);
        }
        if unsent && x.kept_all && x.moves < MOVES_MOST {
            // The kernel took nothing of it, so the endpoint cannot have seen it.
            self.shard.requeued.inc();
            return self.dispatch_anew(key);
        }
        if x.reused && x.kept_all && x.request.is_safe() && !std::mem::replace(&mut x.stale, true) {
            // Most likely the endpoint closed an idle connection just then (RFC 9112, section 9.3.1).
            self.shard.requeued.inc();
            return self.dispatch_anew(key);
        }
        if self.may_retry_http(key, RetryOn::ConnectionLost) && self.retry_http(key, RetryOn::ConnectionLost)
        {
            return;
        }
        self.answer_http(key, why, None, what);
    }

    /// The endpoint said that it did not look at the request: it is sent to another one, or on another
    /// connection.
    pub(crate) fn not_taken(&mut self, key: Key) {
        self.settle_try(key, None, false);
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        if x.down_framing.is_some() {
            return self.cut(key, Reason::ConnectionLost);
        }
        if x.kept_all && x.moves < MOVES_MOST {
            self.shard.requeued.inc();
            return self.dispatch_anew(key);
        }
        self.answer_http(key, Reason::ConnectionLost, None, "the endpoint refused the stream");
    }

    fn dispatch_anew(&mut self, key: Key) {
        self.exchange_returns(key, Fate::Unknown);
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        x.moves += 1;
        x.up = Up::None;
        x.request_sent = false;
        self.http.again.push(key);
    }

    /// The endpoint sent something that makes no sense, or ended the stream by an error of its own.
    pub(crate) fn lost_for_good(&mut self, key: Key, why: Reason, what: &'static str) {
        self.settle_try(key, None, true);
        let begun = self.http.exchanges.get(key).is_some_and(|x| x.down_framing.is_some());
        if begun { self.cut(key, why) } else { self.answer_http(key, why, Some(502), what) }
    }

    /// The endpoint reset the stream: the caller's is reset in the same way.
    pub(crate) fn reset_by_endpoint(&mut self, key: Key, code: h2::Reason) {
        self.settle_try(key, None, true);
        // What it did before, nobody knows: the same as if its connection had gone.
        if self.retry_http(key, RetryOn::ConnectionLost) {
            return;
        }
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        let Some(c) = &mut x.caller else {
            let begun = x.down_framing.is_some();
            return match begun {
                true => self.cut(key, Reason::ConnectionLost),
                false => {
                    self.answer_http(key, Reason::ConnectionLost, None, "the endpoint reset the stream");
                }
            };
        };
        if let Some(r) = &mut c.respond {
            r.send_reset(code);
        } else if let Some(s) = &mut c.out.stream {
            s.send_reset(code);
        }
        self.finish_exchange(key, Some(Reason::ConnectionLost));
    }

    /// Ends a response in the middle, such that the caller sees it.
    pub(crate) fn cut(&mut self, key: Key, why: Reason) {
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        let down = x.down;
        let framing = x.down_framing.unwrap_or_default();
        let over_h2 = x.caller.is_some();
        if let Some(c) = &mut x.caller
            && let Some(s) = &mut c.out.stream
        {
            let grpc = x.protocol == Protocol::Grpc;
            let told = grpc && s.send_trailers(super::answer::grpc_trailers(why)).is_ok();
            if !told {
                s.send_reset(h2::Reason::INTERNAL_ERROR);
            }
        }
        self.finish_exchange(key, Some(why));
        if !over_h2 {
            self.cut_down1(down, framing);
        }
    }

    /// Whether a retry would be allowed but for its budget.
    pub(crate) fn may_retry_http(&self, key: Key, failure: RetryOn) -> bool {
        self.http.exchanges.get(key).is_some_and(|x| {
            x.tries_left.is_some_and(|n| n > 0)
                && x.kept_all
                && x.plan.retry_on & (1 << failure as u8) != 0
                && x.deadline > self.now
                && x.down_framing.is_none()
        })
    }

    /// Tries a request again if its policy, its budget and its time allow.
    pub(crate) fn retry_http(&mut self, key: Key, failure: RetryOn) -> bool {
        let allowed = self.may_retry_http(key, failure) && self.budget_allows(key);
        if allowed {
            self.try_again(key, Fate::Failed);
        }
        allowed
    }

    /// Takes a retry out of the service's budget, if there is one left.
    fn budget_allows(&mut self, key: Key) -> bool {
        let now = self.now;
        let workers = self.shared.workers().len().max(1) as u32;
        let Some(x) = self.http.exchanges.get_mut(key) else { return false };
        let (share, floor) = x.plan.budget;
        let Some(s) = self.services.get_mut(x.service) else { return false };
        if !s.budget.retry(share, floor.div_ceil(workers), now) {
            self.shard.retries_denied.inc();
            return false;
        }
        true
    }

    fn try_again(&mut self, key: Key, fate: Fate) {
        self.exchange_returns(key, fate);
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        x.avoid = Some(x.plan.endpoint);
        x.tried += 1;
        x.tries_left = x.tries_left.map(|n| n - 1);
        x.request_sent = false;
        x.status = 0;
        x.grpc_status = None;
        x.said = None;
        self.shard.retries.inc();
        if x.tried == 1 || x.mirror {
            x.up = Up::None;
            return self.http.again.push(key);
        }
        // Endpoints that fail at the same moment would use up all tries within a millisecond.
        let until = self.now + RETRY_PAUSE * u32::from(x.tried - 1);
        x.up = Up::Delayed(until);
        let down = x.down;
        self.arm(down, until);
    }

    /// The end of every exchange: counted, logged, and its caller's next one.
    pub(crate) fn finish_exchange(&mut self, key: Key, reason: Option<Reason>) {
        self.settle_try(key, None, false);
        self.exchange_ends(key, reason);
        let Some(mut x) = self.http.exchanges.remove(key) else { return };
        let endpoint = self.hosts.get(x.host).map(|h| h.host.addr);
        self.record_http(&x, &End { reason, endpoint });
        self.pool.give(std::mem::take(&mut x.kept));
        self.http.give(std::mem::take(&mut x.request));
        if x.mirror {
            return;
        }
        match &x.caller {
            None => self.next_on_down1(x.down),
            Some(_) => self.next_on_down2(x.down, key),
        }
    }
}

/// Why the endpoint's sidecar answered in its place, if it did.
fn reason_in(r: &Response) -> Option<Reason> {
    Reason::from_flag(std::str::from_utf8(r.fields.get("x-raddle-reason")?).ok()?)
}

/// Whether a response says that the request may be sent to another endpoint by policy.
fn failure_of(r: &Response, protocol: Protocol, grpc_status: Option<u16>) -> Option<RetryOn> {
    let unavailable = protocol == Protocol::Grpc && grpc_status == Some(14);
    if r.status < 429 && !unavailable && grpc_status != Some(8) {
        return None;
    }
    match reason_in(r) {
        Some(Reason::ConnectFailure | Reason::NoHealthy | Reason::Draining) => Some(RetryOn::ConnectFailure),
        Some(Reason::ConnectionLost) => Some(RetryOn::ConnectionLost),
        Some(r) if r.not_processed() && r.bolt_status() == 4 => Some(RetryOn::Overloaded),
        Some(Reason::Timeout) => Some(RetryOn::Timeout),
        Some(Reason::EndpointProtocol) => Some(RetryOn::ServerError),
        Some(_) => None,
        None if unavailable || matches!(r.status, 502..=504) => Some(RetryOn::ServerError),
        None => None,
    }
}
