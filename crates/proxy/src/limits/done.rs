//! How requests end, as limits are told.
use super::state::Limits;
use super::ticket::{Holds, Ticket};
use crate::worker::Worker;
use raddle_core::{Reason, Time};
use raddle_policy::Rng;
use raddle_policy::limit::Held;
use raddle_policy::limit::breaker::{Outcome, State};
use std::net::SocketAddr;
use std::time::Duration;

/// Nobody hears of a one-way request again. That it keeps the app busy for so long is a guess that its cost is looked
/// for below.
const ONE_WAY: Duration = Duration::from_millis(10);

/// How a request, or one try of it, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was answered.
    Answered,
    /// It failed in a way that speaks against the callee.
    Failed,
    /// It says nothing about the callee.
    Unknown,
}

impl Fate {
    /// Of what the sidecar answered itself for this reason.
    pub(crate) const fn of(reason: Reason) -> Fate {
        match reason {
            Reason::Timeout | Reason::ConnectionLost | Reason::ConnectFailure | Reason::EndpointProtocol => {
                Fate::Failed
            }
            _ => Fate::Unknown,
        }
    }

    /// Of a reply that another sidecar made for this reason.
    pub(crate) const fn said(reason: Reason) -> Fate {
        match reason {
            Reason::RateLimited
            | Reason::ClusterLimited
            | Reason::AdaptiveLimited
            | Reason::HotspotLimited
            | Reason::BreakerOpen
            | Reason::Denied
            | Reason::Injected => Fate::Unknown,
            _ => Fate::Failed,
        }
    }

    /// Of a reply: a failure unless it is `ok`, or another sidecar said it for a reason of its own.
    pub(crate) fn of_reply(ok: bool, said: Option<Reason>) -> Fate {
        match (ok, said) {
            (true, _) => Fate::Answered,
            (false, Some(reason)) => Fate::said(reason),
            (false, None) => Fate::Failed,
        }
    }

    /// Of an HTTP response.
    pub(crate) fn of_http(status: u16, grpc: Option<u16>, said: Option<Reason>) -> Fate {
        // What a gRPC status says of the callee: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS.
        let ok = status < 500 && !matches!(grpc, Some(2 | 4 | 13 | 14 | 15));
        if said.is_some_and(|r| Fate::said(r) == Fate::Unknown) {
            return Fate::Unknown;
        }
        Fate::of_reply(ok, said)
    }

    const fn outcome(self, after: Duration) -> Outcome {
        match self {
            Fate::Answered => Outcome::Answered(after),
            Fate::Failed => Outcome::Failed(after),
            Fate::Unknown => Outcome::Unknown,
        }
    }
}

impl Limits {
    /// Gives back what a request holds that was counted as under way.
    pub(super) fn end(&mut self, holds: Holds, fate: Option<Fate>, now: Time, rng: &mut Rng) {
        self.shard.limit_in_flight.dec();
        if holds.waits {
            self.shard.limit_waiting.dec();
        }
        self.give_back(holds, fate, now, rng);
    }

    /// Gives back what a request holds; without a fate it got nowhere.
    pub(super) fn give_back(&mut self, mut holds: Holds, fate: Option<Fate>, now: Time, rng: &mut Rng) {
        let fate = fate.unwrap_or(Fate::Unknown);
        self.complete(&mut holds, fate, now);
        if !holds.local.is_none() {
            self.keeps = true;
            self.local.done(holds.local, now);
        }
        if !holds.call.is_none() {
            let after = holds.tried.map_or(Duration::ZERO, |at| now.since(at));
            self.breakers.end(holds.call, fate.outcome(after), now, rng);
        }
    }

    /// Gives back what a request holds of adaptive limiting.
    fn complete(&mut self, holds: &mut Holds, fate: Fate, now: Time) {
        if let Some((gate, id)) = self.current(holds.interface.take()) {
            match holds.sent {
                Some(at) => gate.complete(id, now.since(at), holds.cost, fate == Fate::Failed),
                None => gate.withdraw(id),
            }
        }
    }
}

impl Worker {
    /// A request has ended. Only the first who says so is heard.
    #[inline]
    pub(crate) fn limited_ends(&mut self, ticket: Option<&Ticket>, fate: Fate) {
        if let Some(holds) = ticket.and_then(Ticket::end) {
            self.limits.end(holds, Some(fate), self.now, &mut self.rng);
        }
    }

    /// A request is answered, and its connection is a tunnel from here on. To adaptive limiting it is over: a tunnel's
    /// life says nothing of how long the app works. Bounds on what goes on at once hold until the tunnel ends.
    pub(crate) fn limited_tunnels(&mut self, ticket: Option<&Ticket>) {
        let Some(ticket) = ticket else { return };
        let Some(mut holds) = ticket.take_out() else { return };
        self.limits.complete(&mut holds, Fate::Answered, self.now);
        ticket.put_back(holds);
    }

    /// A request goes to this endpoint.
    ///
    /// # Errors
    /// The endpoint's breaker is open.
    #[inline]
    pub(crate) fn limited_goes(
        &mut self,
        ticket: Option<&Ticket>,
        to: Option<SocketAddr>,
    ) -> Result<(), Held> {
        match ticket {
            Some(ticket) => self.goes(ticket, to),
            None => Ok(()),
        }
    }

    fn goes(&mut self, ticket: &Ticket, to: Option<SocketAddr>) -> Result<(), Held> {
        let now = self.now;
        let Some(mut holds) = ticket.take_out() else { return Ok(()) };
        let entered = match to {
            Some(to) if !holds.call.is_none() => {
                self.limits.breakers.enter(&holds.call, to, now, &mut self.rng)
            }
            _ => Ok(None),
        };
        let entered = match entered {
            Ok(observed) => {
                self.limits.note(&mut holds, observed);
                holds.sent.get_or_insert(now);
                holds.tried = Some(now);
                Ok(())
            }
            Err(held) => Err(self.limits.count(held)),
        };
        ticket.put_back(holds);
        entered
    }

    /// One try of a request has ended, and it is tried again or sent elsewhere.
    #[inline]
    pub(crate) fn limited_returns(&mut self, ticket: Option<&Ticket>, fate: Fate) {
        let Some(ticket) = ticket else { return };
        let now = self.now;
        let Some(mut holds) = ticket.take_out() else { return };
        if !holds.call.is_none()
            && let Some(at) = holds.tried.take()
        {
            self.limits.breakers.leave(&holds.call, fate.outcome(now.since(at)), now, &mut self.rng);
        }
        ticket.put_back(holds);
    }

    /// A request that expects no reply has been sent.
    pub(crate) fn limited_one_way(&mut self, ticket: Option<&Ticket>) {
        let before = self.now - ONE_WAY;
        if let Some(mut holds) = ticket.and_then(Ticket::end) {
            holds.sent = Some(before);
            self.limits.end(holds, Some(Fate::Unknown), self.now, &mut self.rng);
        }
    }

    /// Once a second: tells what breakers did, and gives back what is kept ready for requests that do not come.
    pub(crate) fn tidy_limits(&mut self) {
        self.limits.local.flush();
        self.limits.keeps = false;
        self.limits.count_breakers();
        let events: Vec<_> = self.limits.breakers.events().collect();
        for e in events {
            let subject = format!("{} {}", e.rule, e.target);
            match e.state {
                State::Open => self.shared.warn("breaker_open", subject, e.text),
                State::HalfOpen => self.shared.note("breaker_half_open", subject, e.text),
                State::Closed => self.shared.note("breaker_closed", subject, e.text),
            }
        }
    }

    /// Accounts for requests that ended without anybody saying how.
    #[inline]
    pub(crate) fn settle_limits(&mut self) {
        while let Some(holds) = self.limits.lost() {
            self.limits.end(holds, None, self.now, &mut self.rng);
        }
    }
}

/// The app said what a request cost, in microseconds.
pub(crate) fn costs(ticket: Option<&Ticket>, said: Option<f64>) {
    if let Some((ticket, us)) = ticket.zip(said.filter(|us| (0.0..1e10).contains(us))) {
        ticket.with(|h| h.cost = Some(Duration::from_nanos((us * 1000.0) as u64)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_callee_is_blamed_for() {
        assert_eq!(Fate::of_http(200, None, None), Fate::Answered);
        assert_eq!(Fate::of_http(404, None, None), Fate::Answered);
        assert_eq!(Fate::of_http(503, None, None), Fate::Failed);
        assert_eq!(Fate::of_http(200, Some(3), None), Fate::Answered, "INVALID_ARGUMENT is the caller's");
        assert_eq!(Fate::of_http(200, Some(14), None), Fate::Failed);
        assert_eq!(Fate::of_http(429, None, Some(Reason::RateLimited)), Fate::Unknown);
        assert_eq!(Fate::of_http(503, None, Some(Reason::ConnectFailure)), Fate::Failed);
        assert_eq!(Fate::of_reply(false, Some(Reason::AdaptiveLimited)), Fate::Unknown);
        assert_eq!(Fate::of(Reason::CallerGone), Fate::Unknown);
        assert_eq!(Fate::of(Reason::Timeout), Fate::Failed);
    }
}
