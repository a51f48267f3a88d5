//! The life of a request, read downwards: attributes → service → route → endpoint → connection → bounds →
//! forward.
//!
//! It goes on in [`reply`](crate::reply) with what comes back; where there is no connection yet, in
//! [`waiting`](crate::waiting); where the sidecar answers itself, in [`answer`](crate::answer). Every end of a
//! request passes [`record`](crate::record), where it is counted and logged with its reason.
use crate::answer::Refusal;
use crate::authorize::Judged;
use crate::call::{Call, CallAttributes};
use crate::conn::{Direction, Role};
use crate::fault::{self, Faults};
use crate::frame::{Head, Told};
use crate::lane::Lane;
use crate::lease::{Lease, readiness};
use crate::limits::done::Fate;
use crate::limits::state::{Broken, Limited};
use crate::limits::ticket::Ticket;
use crate::pending::{Extra, InFlight, ONE_WAY_ID};
use crate::record::End;
use crate::worker::{STREAM_FROM, Worker};
use raddle_core::{Reason, Time};
use raddle_model::RetryOn;
use raddle_net::Key;
use raddle_policy::permits::Permit;
use raddle_policy::{Attributes, Decision, Load, Readiness, pick};
use raddle_wire::bolt::Limits;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A request's time where neither its frame nor a rule says one.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// A caller gives up on its own when the time in its frame is over, and says so in its own words; the
/// sidecar's answer comes this much later, for callers that do not.
const AFTER_CALLERS_OWN: Duration = Duration::from_millis(50);
/// Frames longer than this are not kept for a retry.
const RETRY_COPY_MOST: usize = STREAM_FROM;
/// A request is moved at most this often because its connection went before it was written.
pub(crate) const MOVES_MOST: u8 = 8;

/// Where a request came from, and what it has been through.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Who asked.
    pub caller: Key,
    /// The id it gave the request.
    pub caller_id: u64,
    /// It wants no reply.
    pub one_way: bool,
    /// What it speaks.
    pub lane: Lane,
    /// Which way it goes.
    pub direction: Direction,
    /// The listener it came by.
    pub listener: u16,
    /// When it was read.
    pub start: Time,
    /// When its time is over; [`Time::MAX`] until it was first dispatched.
    pub deadline: Time,
    /// The endpoint that failed it last.
    pub avoid: Option<u32>,
    /// Tries made.
    pub tried: u8,
    /// Tries left; `None` until a policy said.
    pub tries_left: Option<u8>,
    /// How often it was moved without having been sent.
    pub moves: u8,
    /// Faults made on purpose.
    pub faults: Faults,
    /// What it holds of limits, once they were asked.
    pub ticket: Option<Ticket>,
}

/// A request that is dispatched again: it waited for a connection, or is retried.
pub struct Requeued {
    /// Its story so far.
    pub origin: Origin,
    /// Its frame, with whatever id.
    pub frame: Vec<u8>,
}

/// What became of a dispatched request.
pub(crate) enum Sent {
    /// Forwarded, queued or answered; nothing more to do.
    Done,
    /// Its connection is not there yet; offer the same bytes again when the caller is resumed.
    Blocked,
    /// Its head is forwarded; the rest of the frame goes to `sink` (or nowhere) as it comes.
    Stream {
        /// The connection to the endpoint.
        sink: Option<Key>,
        /// For the frame's last four bytes.
        crc_mask: u32,
    },
}

/// What the balancer reads of a worker's hosts.
struct HostView<'a> {
    worker: &'a crate::hosts::Hosts,
    conns: &'a raddle_net::Slab<crate::conn::Conn>,
    map: &'a [Key],
    lane: Lane,
    owner: Key,
    now: Time,
    breakers: Option<Broken<'a>>,
}

impl HostView<'_> {
    /// Whether an endpoint's breaker keeps the request away from it.
    fn broken(&self, i: u32) -> Option<SocketAddr> {
        let breakers = self.breakers.as_ref()?;
        let h = self.map.get(i as usize).and_then(|k| self.worker.get(*k))?;
        breakers.open(h.host.addr).then_some(h.host.addr)
    }
}

impl Load for HostView<'_> {
    fn ready(&self, i: u32) -> Readiness {
        if self.broken(i).is_some() {
            return Readiness::Down;
        }
        match self.map.get(i as usize).and_then(|k| self.worker.get(*k)) {
            Some(h) => readiness(h, self.conns, self.lane, self.owner, self.now),
            None => Readiness::Down,
        }
    }

    fn active(&self, i: u32) -> u32 {
        self.map.get(i as usize).and_then(|k| self.worker.get(*k)).map_or(0, |h| h.active)
    }

    fn ewma_ns(&self, i: u32) -> f64 {
        self.map
            .get(i as usize)
            .and_then(|k| self.worker.get(*k))
            .map_or(0.0, |h| h.ewma.expected(h.active == 0, self.now))
    }
}

/// What routing and balancing decided, without borrows.
pub(crate) struct Plan {
    pub endpoint: u32,
    pub ready: bool,
    pub connect: Option<u32>,
    pub timeout: Option<Duration>,
    pub tries: u8,
    pub per_try: Option<Duration>,
    pub retry_on: u8,
    pub budget: (f64, u32),
    pub rule: Option<String>,
    pub delay: Option<Duration>,
}

impl Worker {
    /// A new request from a caller. `frame` is the whole frame, or its head and a little more if it is
    /// too large to be held.
    pub(crate) fn on_request(&mut self, caller: Key, head: &Head, frame: &[u8]) -> Sent {
        let Some(conn) = self.conns.get_mut(caller) else { return Sent::Done };
        let Role::Caller(c) = &mut conn.role else { return Sent::Done };
        c.active_at = self.now;
        let lane = head.lane();
        c.lane = lane;
        // It may have been here before, without a connection to go on.
        let ticket = c.blocked.take();
        let origin = Origin {
            caller,
            caller_id: head.id(),
            one_way: !head.wants_reply(),
            lane,
            direction: c.direction,
            listener: c.accepted.listener,
            start: self.now,
            deadline: Time::MAX,
            avoid: None,
            tried: 0,
            tries_left: None,
            moves: 0,
            faults: Faults::Undrawn,
            ticket,
        };
        if !origin.one_way {
            c.in_flight += 1;
        }
        let sent = self.dispatch(origin, head, frame);
        if matches!(sent, Sent::Blocked)
            && let Some(conn) = self.conns.get_mut(caller)
            && let Role::Caller(c) = &mut conn.role
            && head.wants_reply()
        {
            // It will come by here again, as if it were new.
            c.in_flight -= 1;
        }
        sent
    }

    /// Dispatches a request that waited, was moved or is retried.
    pub(crate) fn dispatch_again(&mut self, r: Requeued) {
        let limits = self.frame_limits();
        if let Ok(Some(head)) = Head::parse(r.origin.lane, &r.frame, limits) {
            self.dispatch(r.origin, &head, &r.frame);
        }
    }

    fn dispatch(&mut self, origin: Origin, head: &Head, frame: &[u8]) -> Sent {
        // Some protocols have a service's name in pieces: room to put it together, kept from call to call.
        let mut name = std::mem::take(&mut self.name);
        name.clear();
        let peer = self.peer_behind(origin.direction, origin.caller);
        let sent = self.dispatch_call(origin, &Call::open(head, frame, &mut name, peer.as_deref()));
        self.name = name;
        sent
    }

    fn dispatch_call(&mut self, origin: Origin, call: &Call<'_>) -> Sent {
        // Attributes.
        let default = match call.named {
            Some(_) => None,
            None => self.config.binding(origin.listener).and_then(|b| b.default_service.clone()),
        };
        let name = call.named.or(default.as_deref().map(str::as_bytes)).unwrap_or(b"");

        // Service.
        let (found, name) = match origin.direction {
            Direction::Outbound => self.service_called(call, name),
            Direction::Inbound => (self.service_behind(origin.listener), name),
        };
        let Some(service) = found else {
            return self.dispatch_unknown(origin, call, name);
        };
        self.dispatch_to(origin, call, name, service)
    }

    /// A call for a service that is not known here: the control plane is asked; else it goes where it was meant to.
    #[cold]
    fn dispatch_unknown(&mut self, origin: Origin, call: &Call<'_>, name: &[u8]) -> Sent {
        let asked = match self.passes_unasked(origin.caller) {
            true => Err(None),
            false => self.call_on_demand(&origin, call, name),
        };
        let refusal = match asked {
            Ok(sent) => return sent,
            Err(refusal) => refusal,
        };
        if let Some(service) = self.captured_service(origin.caller) {
            return self.dispatch_to(origin, call, name, service);
        }
        let row = self.row(origin.direction, b"unknown");
        let detail =
            if name.is_empty() { "the request names no service" } else { "add a Service of that name" };
        let refusal = refusal.unwrap_or_else(|| Refusal::new(Reason::NoCluster, detail));
        self.refuse(&origin, call, row, refusal)
    }

    /// Sends a call to its service, or answers it.
    #[inline]
    fn dispatch_to(&mut self, mut origin: Origin, call: &Call<'_>, name: &[u8], service: Key) -> Sent {
        let ip = self.caller_ip(origin.caller);
        let attributes = CallAttributes { call, service: name, ip };
        let row = match origin.direction {
            Direction::Outbound => self.services.get(service).map_or(0, |s| s.row),
            Direction::Inbound => {
                self.row(Direction::Inbound, if name.is_empty() { b"unknown" } else { name })
            }
        };
        if origin.deadline <= self.now {
            return self.refuse(
                &origin,
                call,
                row,
                Refusal::new(Reason::Timeout, "it waited for a connection"),
            );
        }

        // What its connection may carry.
        if origin.direction == Direction::Inbound
            && origin.tries_left.is_none()
            && let Some(refusal) = self.link_refuses(origin.caller, || attributes.caller_app())
        {
            return self.refuse(&origin, call, row, refusal);
        }

        // Authorization.
        let observed = match self.authorize_call(&origin, call, name) {
            Judged::Pass(observed) => observed,
            Judged::Refuse(denial) => return self.refuse(&origin, call, row, denial.refusal()),
        };

        // Limits.
        let observed = match self.limit_call(&mut origin, &attributes) {
            Limited::Pass(None) => observed,
            Limited::Pass(Some(limit)) => Some(limit.into()),
            Limited::Wait(until) => return self.keep_back(origin, call, row, until),
            Limited::Refuse(held) => return self.refuse(&origin, call, row, held.into()),
        };

        // Route and endpoint. A frame too large to be held, and a caller that is slow, go on a connection of
        // their own.
        let private = !call.whole() || self.is_private(origin.caller);
        let owner = if private { origin.caller } else { Key::NONE };
        let plan = match self.plan(&mut origin, service, &attributes, owner) {
            Ok(p) => Plan { rule: observed.or(p.rule), ..p },
            Err(refusal) => return self.refuse(&origin, call, row, refusal),
        };
        if let Some(delay) = plan.delay.filter(|_| call.whole())
            && self.hold(&origin, call.frame, delay)
        {
            return Sent::Done;
        }
        if let Some(i) = plan.connect {
            self.connect_ahead(service, i, origin.lane, owner);
        }
        if origin.deadline == Time::MAX {
            origin.deadline = deadline(origin.start, call.timeout_ms(), plan.timeout);
        }
        if origin.tries_left.is_none() {
            origin.tries_left = Some(plan.tries);
        }

        // Connection.
        let Some(s) = self.services.get(service) else { return Sent::Done };
        let Some(&host) = s.hosts.get(plan.endpoint as usize) else { return Sent::Done };
        let most = s.service.policy.settings.pool.max_outstanding;
        let conn = match self.lease(service, host, origin.lane, owner) {
            Lease::Ready(conn) => conn,
            Lease::Soon if !call.whole() => return self.block(origin, host),
            Lease::Soon => return self.wait(origin, service, host, call, row),
            Lease::Full => {
                let r = Refusal::new(Reason::Overflow, "the endpoint does not read and its queue is full");
                return self.refuse(&origin, call, row, r);
            }
            Lease::Failed => return self.no_connection(&origin, service, &plan, call, row),
        };

        // Bounds.
        let to = self.hosts.get(host).map(|h| h.host.addr);
        if let Err(held) = self.limited_goes(origin.ticket.as_ref(), to) {
            return self.refuse(&origin, call, row, held.into());
        }
        let cap = if origin.one_way { 0 } else { most };
        let Some(permit) = self.services.get_mut(service).and_then(|s| s.permits.acquire(cap)) else {
            let rule =
                self.services.get(service).and_then(|s| s.service.policy.name.as_deref().map(str::to_owned));
            let r = Refusal { rule, ..Refusal::new(Reason::Overflow, "pool.maxOutstanding is reached") };
            return self.refuse(&origin, call, row, r);
        };

        self.forward(&origin, service, row, &plan, permit, conn, host, call)
    }

    /// Routes and picks an endpoint; everything borrowed stays inside.
    fn plan(
        &mut self,
        origin: &mut Origin,
        service: Key,
        a: &CallAttributes<'_>,
        owner: Key,
    ) -> Result<Plan, Refusal> {
        let now = self.now;
        let logs = self.log.is_some();
        let Some(s) = self.services.get_mut(service) else {
            return Err(Refusal::new(Reason::NoCluster, "the service was removed"));
        };
        let crate::services::ServiceState { service, hosts, route, balance, budget, .. } = s;
        let (subset, rule, timeout, retry, actions) = match service.route(a, route, &mut self.rng) {
            Decision::Send { subset, rule, timeout, retry, actions } => {
                (subset, rule, timeout, retry, actions)
            }
            // Redirects and HTTP replies cannot be said in an RPC protocol.
            Decision::Answer { rule, .. } => {
                let detail = "the rule's answer can only be said in HTTP";
                let rule = Some(rule.to_string());
                return Err(Refusal { rule, ..Refusal::new(Reason::NoRoute, detail) });
            }
            Decision::Reject { reason, rule } => {
                let rule = rule.map(ToString::to_string);
                return Err(Refusal { rule, ..Refusal::new(reason, "") });
            }
        };
        let delay = match actions {
            None if origin.faults != Faults::Abort => None,
            actions => fault::draw(origin, rule, actions, &mut self.rng)?,
        };
        let hash = service.hash_key(a);
        let state = balance.entry(subset.id).or_default();
        let breakers = self.limits.broken(origin.ticket.as_ref(), now);
        let (worker, conns) = (&self.hosts, &self.conns);
        let view = HostView { worker, conns, map: hosts, lane: origin.lane, owner, now, breakers };
        let Some(picked) = pick(subset, service, state, &view, hash, now, &mut self.rng, origin.avoid) else {
            let rule = rule.map(ToString::to_string);
            return Err(Refusal { rule, ..Refusal::new(Reason::NoHealthy, "") });
        };
        let broken = view.broken(picked.index);
        let (mut tries, mut per_try, mut retry_on, mut shares) = (0, None, 0, (0.0, 0));
        if let Some(r) = retry {
            tries = r.attempts;
            per_try = r.per_try_timeout;
            shares = (r.budget, r.budget_min_per_second);
            let method = if r.needs_method() { a.method() } else { None };
            for on in
                [RetryOn::Overloaded, RetryOn::ConnectFailure, RetryOn::ConnectionLost, RetryOn::Timeout]
            {
                retry_on |= u8::from(r.allows(on, method)) << on as u8;
            }
            if origin.tried == 0 {
                budget.request(now);
            }
        }
        let rule = if logs { rule.map(ToString::to_string) } else { None };
        if broken.is_some() {
            // None was better: it goes there if it may be a probe by now.
            self.limited_goes(origin.ticket.as_ref(), broken)?;
            self.limited_returns(origin.ticket.as_ref(), Fate::Unknown);
        }
        Ok(Plan {
            endpoint: picked.index,
            ready: picked.ready,
            connect: picked.connect,
            timeout,
            tries,
            per_try,
            retry_on,
            budget: shares,
            rule,
            delay,
        })
    }

    /// Writes the request to its connection and remembers whom its reply is for.
    #[allow(clippy::too_many_arguments)] // the request's last step needs all that the earlier ones found
    fn forward(
        &mut self,
        origin: &Origin,
        service: Key,
        row: u32,
        plan: &Plan,
        permit: Permit,
        conn: Key,
        host: Key,
        call: &Call<'_>,
    ) -> Sent {
        let whole = call.whole();
        let (limits, tells) = (self.frame_limits(), self.tells_caller(origin.listener));
        let method = match &self.log {
            Some(_) => call.method().map_or(0, |m| self.intern_method(m)),
            None => 0,
        };
        let tries_left = origin.tries_left.unwrap_or(0);
        let extra = self.extra(origin, plan, call, tries_left);
        let now = self.now;
        let Some(c) = self.conns.get_mut(conn) else { return Sent::Done };
        let Role::Endpoint(e) = &mut c.role else { return Sent::Done };
        e.used_at = now;
        let deadline =
            plan.per_try.filter(|_| tries_left > 0).map_or(origin.deadline, |d| origin.deadline.min(now + d));
        let out_at = c.out.tail_offset();
        let tail = c.out.tail(&mut self.pool);
        let at = tail.len();
        let told = match origin.direction {
            Direction::Inbound => call.tell(tail, limits, tells),
            Direction::Outbound => {
                tail.extend_from_slice(call.frame);
                Told { head: *call.head, crc_mask: 0, added: false }
            }
        };
        let head = &told.head;
        let mut wake = Time::MAX;
        let wire_id = if origin.one_way {
            ONE_WAY_ID
        } else {
            let request = InFlight {
                caller: origin.caller,
                caller_id: origin.caller_id,
                start: origin.start,
                service,
                endpoint: plan.endpoint,
                cells: row,
                lane: origin.lane,
                direction: origin.direction,
                listener: origin.listener,
                method,
                codec: head.codec(),
                out_at,
                len: if whole { (tail.len() - at) as u32 } else { 0 },
                sofa: call.sofa(),
                permit: Some(permit),
                ticket: origin.ticket.clone(),
                extra,
            };
            if e.pending.live() == 0 {
                e.heartbeat.sent(now);
                wake = wake.min(e.heartbeat.next_wake());
            }
            wake = wake.min(deadline);
            e.pending.insert(request, deadline)
        };
        if origin.direction == Direction::Outbound {
            self.shard.count_link(c.tls.is_some());
        }
        let crc_mask = if whole {
            head.write_id(&mut tail[at..], u64::from(wire_id));
            0
        } else {
            e.stream_from = Some(origin.caller);
            told.crc_mask ^ head.write_id_ahead(&mut tail[at..], u64::from(wire_id))
        };
        let timer_at = c.timer_at;
        if tells && call.peer.is_some() && !told.added {
            self.shard.identity_skipped.inc();
        }
        self.mark_dirty(conn);
        if wake < timer_at {
            self.arm(conn, wake);
        }
        if let Some(h) = self.hosts.get_mut(host)
            && !origin.one_way
        {
            h.active += 1;
            h.cells.active.set(i64::from(h.active));
            h.trying |= h.on_trial;
        }
        let cells = self.services.cells(row);
        if origin.one_way {
            cells.one_way.inc();
            let rule = plan.rule.as_deref();
            let end = End { rule, bytes_in: call.head.frame_len() as u64, ..End::default() };
            self.log_end(origin, row, &end);
            self.limited_one_way(origin.ticket.as_ref());
        } else {
            cells.in_flight.inc();
        }
        if whole { Sent::Done } else { Sent::Stream { sink: Some(conn), crc_mask } }
    }

    /// What must be kept of a request besides its accounts, if anything.
    fn extra(&mut self, origin: &Origin, plan: &Plan, call: &Call<'_>, tries_left: u8) -> Option<Box<Extra>> {
        let frame = call.frame;
        let trace = if self.log.is_some() { call.trace() } else { None };
        let keep = tries_left > 0 && call.whole() && frame.len() <= RETRY_COPY_MOST && !origin.one_way;
        if !keep && trace.is_none() && plan.rule.is_none() && origin.tried == 0 {
            return None;
        }
        Some(Box::new(Extra {
            frame: if keep { frame.to_vec() } else { Vec::new() },
            tries_left,
            tried: origin.tried,
            final_deadline: Some(origin.deadline),
            retry_on: plan.retry_on,
            budget: plan.budget,
            trace: trace.map(<[u8]>::to_vec).unwrap_or_default(),
            rule: plan.rule.clone(),
        }))
    }

    fn caller_ip(&self, caller: Key) -> Option<IpAddr> {
        match &self.conns.get(caller)?.role {
            Role::Caller(c) => c.accepted.peer.map(|a| a.ip()),
            _ => None,
        }
    }

    fn is_private(&self, caller: Key) -> bool {
        matches!(self.conns.get(caller).map(|c| &c.role), Some(Role::Caller(c)) if c.private)
    }

    /// The bounds frames are parsed with.
    pub(crate) fn frame_limits(&self) -> Limits {
        let l = self.config.limits();
        Limits { max_frame: l.max_frame, max_header: l.max_header }
    }
}

/// When a request's time is over: the shorter of its frame's and the rule's, or the default.
fn deadline(start: Time, frame_ms: i32, rule: Option<Duration>) -> Time {
    let own = u64::try_from(frame_ms)
        .ok()
        .filter(|ms| *ms > 0)
        .map(|ms| Duration::from_millis(ms) + AFTER_CALLERS_OWN);
    let d = match (own, rule) {
        (Some(a), Some(b)) => a.min(b),
        (Some(d), None) | (None, Some(d)) => d,
        (None, None) => DEFAULT_TIMEOUT,
    };
    start + d
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_timeout_holds() {
        let t = Time::from_millis(1000);
        let ms = |n| Some(Duration::from_millis(n));
        assert_eq!(deadline(t, 3000, ms(500)), Time::from_millis(1500));
        assert_eq!(deadline(t, 300, ms(500)), Time::from_millis(1350));
        assert_eq!(deadline(t, 0, ms(500)), Time::from_millis(1500));
        assert_eq!(deadline(t, -1, None), Time::from_millis(61_000));
    }
}
