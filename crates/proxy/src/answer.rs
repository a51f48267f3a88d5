//! The sidecar's own answers, and how any reply gets into a caller's out-buffer.
use crate::authorize;
use crate::call::Call;
use crate::conn::{Deferred, Direction, Paused, Role};
use crate::frame::{self, Asker, Head, Said};
use crate::limits::done::Fate;
use crate::pending::InFlight;
use crate::record::End;
use crate::request::{Origin, Sent};
use crate::worker::Worker;
use raddle_core::Reason;
use raddle_model::Replies;
use raddle_net::Key;
use std::borrow::Cow;

/// Whom a reply is for.
pub(crate) struct ReplyTo {
    /// The caller.
    pub caller: Key,
    /// What it asked.
    pub asker: Asker,
}

/// Why a request is refused.
pub(crate) struct Refusal {
    pub reason: Reason,
    /// The rule behind it, as the caller is told it.
    pub rule: Option<String>,
    /// The rule as logs name it, where callers are told less.
    pub logged: Option<String>,
    pub detail: Cow<'static, str>,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { reason, rule: None, logged: None, detail: detail.into() }
    }
}

impl Worker {
    /// Answers a request in flight that will get no reply.
    pub(crate) fn answer(&mut self, host: Key, r: &InFlight, reason: Reason, detail: &'static str) {
        let endpoint = self.hosts.get(host).map(|h| h.host.addr);
        let rule = r.extra.as_ref().and_then(|x| x.rule.clone());
        let detail = match endpoint {
            Some(a) => format!("{detail} ({a})"),
            None => detail.to_owned(),
        };
        let readable = self.readable_to(r.caller);
        let said = Said { reason, rule: authorize::told(rule.as_deref()), detail: &detail, readable };
        self.deliver(r.caller, |out| frame::reply(out, &r.asker(), &said));
        let end = End {
            reason: Some(reason),
            status: r.lane.status_of(reason),
            endpoint,
            bytes_in: u64::from(r.len),
            ..End::default()
        };
        self.finish(r, &end);
        self.reply_leaves(r.caller);
    }

    /// Refuses a request that was not sent to anyone.
    pub(crate) fn refuse(&mut self, origin: &Origin, call: &Call<'_>, row: u32, why: Refusal) -> Sent {
        let rule = why.rule.as_deref();
        self.limited_ends(origin.ticket.as_ref(), Fate::of(why.reason));
        if !origin.one_way {
            let readable = self.readable_to(origin.caller);
            let rule = authorize::told(rule);
            let said = Said { reason: why.reason, rule, detail: &why.detail, readable };
            let asker = call.asker(origin.caller_id);
            self.deliver(origin.caller, |out| frame::reply(out, &asker, &said));
            self.reply_leaves(origin.caller);
        }
        self.services.cells(row).rejected[why.reason].inc();
        let asked = call.named.filter(|_| why.reason == Reason::NoCluster);
        let end = End {
            reason: Some(why.reason),
            status: origin.lane.status_of(why.reason),
            service: asked.and_then(|s| std::str::from_utf8(s).ok()),
            rule: why.logged.as_deref().or(rule),
            method: call.method(),
            trace: call.trace(),
            tried: origin.tried,
            bytes_in: call.head.frame_len() as u64,
            ..End::default()
        };
        self.log_end(origin, row, &end);
        if call.whole() { Sent::Done } else { Sent::Stream { sink: None, crc_mask: 0 } }
    }

    /// Whether a rejection is said to a caller such that people can read it: if that is asked for and it is the
    /// local app. Everyone else gets the reason's status.
    pub(crate) fn readable_to(&self, caller: Key) -> bool {
        let outbound = matches!(
            self.conns.get(caller).map(|c| &c.role),
            Some(Role::Caller(c)) if c.direction == Direction::Outbound
        );
        outbound && self.config.sidecar.replies == Replies::Readable
    }

    /// Another sidecar's rejection, said to the local app in the form it asked for. False if the reply is
    /// to be passed on as it is.
    pub(crate) fn say_again(&mut self, from: Key, to: &ReplyTo, head: &Head, frame: &[u8]) -> bool {
        let Some((reason, rule)) = head.said_by_sidecar(frame) else { return false };
        if !self.readable_to(to.caller) {
            return false;
        }
        let addr = self.hosts.get(self.host_of(from)).map(|h| h.host.addr.to_string()).unwrap_or_default();
        let detail = format!("said by the sidecar at {addr}");
        let said = Said { reason, rule, detail: &detail, readable: true };
        self.deliver(to.caller, |out| frame::reply(out, &to.asker, &said));
        true
    }

    /// Puts a reply into a caller's out-buffer; behind a large reply that is passing through, it waits.
    pub(crate) fn deliver(&mut self, caller: Key, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(conn) = self.conns.get_mut(caller) else { return };
        let Role::Caller(c) = &mut conn.role else { return };
        if c.stream_from.is_some() {
            let mut held = Vec::new();
            write(&mut held);
            c.deferred_bytes += held.len();
            c.deferred.push_back(Deferred { bytes: held, from: None });
        } else {
            write(conn.out.tail(&mut self.pool));
            self.mark_dirty(caller);
        }
        self.check_slow(caller);
    }

    /// A request of the caller is answered.
    pub(crate) fn reply_leaves(&mut self, caller: Key) {
        if let Some(conn) = self.conns.get_mut(caller)
            && let Role::Caller(c) = &mut conn.role
        {
            c.in_flight = c.in_flight.saturating_sub(1);
            c.active_at = self.now;
            let over = c.in_flight == 0 && (conn.paused.has(Paused::ENDED) || c.told);
            if over {
                // Closed after this turn's flush, when the reply is out.
                self.mark_dirty(caller);
            }
        }
    }
}
