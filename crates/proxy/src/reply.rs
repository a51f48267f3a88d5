//! What comes back for a request: its reply, too late a reply, a lost connection; and whether it is tried again.
use crate::answer::ReplyTo;
use crate::conn::Role;
use crate::fault::Faults;
use crate::frame::Head;
use crate::limits::done::{Fate, costs};
use crate::pending::InFlight;
use crate::record::End;
use crate::request::{MOVES_MOST, Origin, Requeued};
use crate::worker::Worker;
use raddle_core::{Reason, Time};
use raddle_model::RetryOn;
use raddle_net::{Key, OutBuf};

impl Worker {
    /// A reply came: account for it, and pass it on or try again. Returns the caller and the id it knows
    /// the request by, if the reply is to be passed on.
    pub(crate) fn on_reply(
        &mut self,
        host: Key,
        mut r: InFlight,
        head: &Head,
        frame: &[u8],
    ) -> Option<ReplyTo> {
        let latency = self.now.since(r.start);
        let failure = head.not_served(frame);
        self.host_done(host, Some(latency), failure.is_some());
        self.release_permit(&mut r);
        self.services.cells(r.cells).in_flight.dec();
        if failure == Some(RetryOn::ConnectFailure) {
            // The sidecar over there lives, its app does not: as good as a failed connect.
            self.rest_host(host, "its sidecar cannot reach the app");
        } else if failure.is_none() {
            self.host_answers(host);
        }
        let fate = match r.ticket {
            Some(_) if !head.answered() => {
                head.said_by_sidecar(frame).map_or(Fate::Failed, |(reason, _)| Fate::said(reason))
            }
            _ => Fate::Answered,
        };
        if failure.is_some_and(|f| self.retry(&r, f, fate)) {
            return None;
        }
        if r.ticket.is_some()
            && let Some(name) = self.limits.cost_header()
        {
            costs(r.ticket.as_ref(), head.reply_number(frame, name));
        }
        let (status, ok) = head.outcome(frame);
        let end = End {
            status,
            app_error: !ok,
            fate: Some(fate),
            endpoint: self.hosts.get(host).map(|h| h.host.addr),
            bytes_in: u64::from(r.len),
            bytes_out: head.frame_len() as u64,
            ..End::default()
        };
        self.finish(&r, &end);
        self.reply_leaves(r.caller);
        self.conns.get(r.caller)?;
        Some(ReplyTo { caller: r.caller, asker: r.asker() })
    }

    /// The time of a request is over.
    pub(crate) fn on_timeout(&mut self, host: Key, mut r: InFlight) {
        let latency = self.now.since(r.start);
        self.host_done(host, Some(latency), true);
        self.release_permit(&mut r);
        self.services.cells(r.cells).in_flight.dec();
        if !self.retry(&r, RetryOn::Timeout, Fate::Failed) {
            self.answer(host, &r, Reason::Timeout, "no reply in time");
        }
    }

    /// The connection of a request is gone.
    pub(crate) fn lost(&mut self, host: Key, mut r: InFlight, out: &OutBuf, why: Reason) {
        self.host_done(host, None, true);
        self.release_permit(&mut r);
        self.services.cells(r.cells).in_flight.dec();
        let whole_unsent = r.out_at + u64::from(r.len) > out.written_offset();
        if r.len > 0
            && whole_unsent
            && let Some(frame) = out.kept_from(r.out_at).and_then(|b| b.get(..r.len as usize))
            && let Some(origin) = self.origin_of(&r)
            && origin.moves < MOVES_MOST
        {
            // The kernel never took all of it, so the endpoint cannot have seen it whole: sending it to
            // another one repeats nothing.
            let frame = frame.to_vec();
            self.limited_returns(r.ticket.as_ref(), Fate::Unknown);
            self.shard.requeued.inc();
            self.requeue.push_back(Requeued { origin: Origin { moves: 1, ..origin }, frame });
            return;
        }
        if !self.retry(&r, RetryOn::ConnectionLost, Fate::Failed) {
            self.answer(host, &r, why, "the endpoint closed its connection");
        }
    }

    /// The sidecar ends before the reply came.
    pub(crate) fn end_in_flight(&mut self, host: Key, mut r: InFlight) {
        self.host_done(host, None, false);
        self.release_permit(&mut r);
        self.services.cells(r.cells).in_flight.dec();
        self.answer(host, &r, Reason::Draining, "the sidecar ends");
    }

    /// Tries a request again if its policy, its budget and its time allow. `fate` is what became of this try.
    pub(crate) fn retry(&mut self, r: &InFlight, failure: RetryOn, fate: Fate) -> bool {
        let now = self.now;
        let Some(x) = &r.extra else { return false };
        if x.tries_left == 0 || x.frame.is_empty() {
            return false;
        }
        let deadline = x.final_deadline.unwrap_or(Time::MAX);
        let workers = self.shared.workers().len().max(1) as u32;
        if x.retry_on & (1 << failure as u8) == 0 || deadline <= now {
            return false;
        }
        let Some(s) = self.services.get_mut(r.service) else { return false };
        if !s.budget.retry(x.budget.0, x.budget.1.div_ceil(workers), now) {
            self.shard.retries_denied.inc();
            return false;
        }
        let Some(mut origin) = self.origin_of(r) else { return false };
        origin.avoid = Some(r.endpoint);
        origin.tried = x.tried + 1;
        origin.tries_left = Some(x.tries_left - 1);
        origin.deadline = deadline;
        self.limited_returns(r.ticket.as_ref(), fate);
        self.shard.retries.inc();
        self.requeue.push_back(Requeued { origin, frame: x.frame.clone() });
        true
    }

    /// The origin of a request in flight, unless its caller is gone.
    pub(crate) fn origin_of(&self, r: &InFlight) -> Option<Origin> {
        let Role::Caller(c) = &self.conns.get(r.caller)?.role else { return None };
        Some(Origin {
            caller: r.caller,
            caller_id: r.caller_id,
            one_way: false,
            lane: r.lane,
            direction: c.direction,
            listener: c.accepted.listener,
            start: r.start,
            deadline: r.extra.as_ref().and_then(|x| x.final_deadline).unwrap_or(Time::MAX),
            avoid: Some(r.endpoint),
            tried: r.extra.as_ref().map_or(0, |x| x.tried),
            tries_left: r.extra.as_ref().map(|x| x.tries_left),
            moves: 0,
            faults: Faults::Over,
            ticket: r.ticket.clone(),
        })
    }

    pub(crate) fn release_permit(&mut self, r: &mut InFlight) {
        if let (Some(s), Some(permit)) = (self.services.get_mut(r.service), r.permit.take()) {
            s.permits.release(permit);
        }
    }
}
