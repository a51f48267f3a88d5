//! The sidecar's own answers, and how any reply gets into a caller's out-buffer.
use crate::conn::{Deferred, Direction, Paused, Role};
use crate::lane::Lane;
use crate::pending::InFlight;
use crate::record::End;
use crate::request::{Origin, Sent};
use crate::worker::Worker;
use raddle_core::Reason;
use raddle_model::Replies;
use raddle_net::Key;
use raddle_wire::bolt::{self, Head, Variant};

/// Whom a reply is for.
pub(crate) struct ReplyTo {
    /// The caller.
    pub caller: Key,
    /// The id it knows the request by.
    pub id: u32,
    /// Serialiser of the request.
    pub codec: u8,
    /// The request was SOFARPC's.
    pub sofa: bool,
}

/// Why a request is refused.
pub(crate) struct Refusal {
    pub reason: Reason,
    pub rule: Option<String>,
    pub detail: &'static str,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, detail: &'static str) -> Refusal {
        Refusal { reason, rule: None, detail }
    }
}

impl Worker {
    /// Answers a request in flight that will get no reply.
    pub(crate) fn answer(&mut self, host: Key, r: &InFlight, reason: Reason, detail: &'static str) {
        let endpoint = self.hosts.get(host).map(|h| h.host.addr);
        let rule = r.extra.as_ref().and_then(|x| x.rule.clone());
        let Lane::Bolt(variant) = r.lane else { return };
        let head = reply_head(variant, r.caller_id as u32, r.codec);
        let detail = match endpoint {
            Some(a) => format!("{detail} ({a})"),
            None => detail.to_owned(),
        };
        let form = self.form_for(r.caller, r.sofa);
        let reply = bolt::Reply { rule: rule.as_deref(), form, ..bolt::Reply::new(reason, &detail) };
        self.deliver(r.caller, |out| bolt::encode::reply(out, &head, &reply));
        let end = End {
            reason: Some(reason),
            status: reason.bolt_status(),
            endpoint,
            bytes_in: u64::from(r.len),
            ..End::default()
        };
        self.finish(r, &end);
        self.reply_leaves(r.caller);
    }

    /// Refuses a request that was not sent to anyone.
    pub(crate) fn refuse(
        &mut self,
        origin: &Origin,
        head: &Head,
        frame: &[u8],
        row: u32,
        why: Refusal,
    ) -> Sent {
        let rule = why.rule.as_deref();
        if !origin.one_way {
            let form = self.form_for(origin.caller, head.class(frame) == bolt::CLASS_REQUEST);
            let reply = bolt::Reply { rule, form, ..bolt::Reply::new(why.reason, why.detail) };
            let mut to = *head;
            to.id = origin.caller_id as u32;
            self.deliver(origin.caller, |out| bolt::encode::reply(out, &to, &reply));
            self.reply_leaves(origin.caller);
        }
        self.services.cells(row).rejected[why.reason].inc();
        let method = match bolt::method(head, frame) {
            bolt::Method::Found(m) => Some(m),
            _ => None,
        };
        let asked = if why.reason == Reason::NoCluster {
            head.headers(frame).get(bolt::HEADER_SERVICE)
        } else {
            None
        };
        let end = End {
            reason: Some(why.reason),
            status: why.reason.bolt_status(),
            service: asked.and_then(|s| std::str::from_utf8(s).ok()),
            rule,
            method,
            trace: head.headers(frame).get(b"traceparent"),
            tried: origin.tried,
            bytes_in: head.frame_len() as u64,
            ..End::default()
        };
        self.log_end(origin, row, &end);
        if frame.len() >= head.frame_len() { Sent::Done } else { Sent::Stream { sink: None, crc_mask: 0 } }
    }

    /// How a rejection is said to a caller: readable to people if that is asked for and it is the local app,
    /// by status to everyone else.
    pub(crate) fn form_for(&self, caller: Key, sofa: bool) -> bolt::Form {
        let outbound = matches!(
            self.conns.get(caller).map(|c| &c.role),
            Some(Role::Caller(c)) if c.direction == Direction::Outbound
        );
        match self.config.sidecar.replies {
            Replies::Readable if outbound && sofa => bolt::Form::SofaException,
            Replies::Readable if outbound => bolt::Form::ServerException,
            Replies::Readable | Replies::Status => bolt::Form::Status,
        }
    }

    /// Another sidecar's rejection, said to the local app in the form it asked for. False if the reply is
    /// to be passed on as it is.
    pub(crate) fn say_again(&mut self, host: Key, to: &ReplyTo, head: &Head, frame: &[u8]) -> bool {
        if head.status == 0 || head.header_len == 0 {
            return false;
        }
        let form = self.form_for(to.caller, to.sofa);
        if form == bolt::Form::Status {
            return false;
        }
        let [reason, rule] = head.headers(frame).get_all(&[bolt::HEADER_REASON, bolt::HEADER_RULE]);
        let text = |b: Option<&[u8]>| b.and_then(|b| std::str::from_utf8(b).ok()).map(str::to_owned);
        let Some(reason) = text(reason).as_deref().and_then(Reason::from_flag) else { return false };
        let rule = text(rule);
        let addr = self.hosts.get(host).map(|h| h.host.addr.to_string()).unwrap_or_default();
        let detail = format!("said by the sidecar at {addr}");
        let to_head = reply_head(head.variant, to.id, to.codec);
        let reply = bolt::Reply { rule: rule.as_deref(), form, ..bolt::Reply::new(reason, &detail) };
        self.deliver(to.caller, |out| bolt::encode::reply(out, &to_head, &reply));
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

/// A request head good enough to answer a request whose frame is gone.
fn reply_head(variant: Variant, id: u32, codec: u8) -> Head {
    Head {
        variant,
        kind: bolt::Kind::Request,
        command: bolt::Command::Request,
        id,
        codec,
        timeout_ms: 0,
        status: 0,
        class_len: 0,
        header_len: 0,
        content_len: 0,
    }
}
