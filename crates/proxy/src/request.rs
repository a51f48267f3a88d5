//! The life of a request, read downwards: attributes → service → route → bounds → endpoint → connection →
//! forward; then its reply, or what became of it instead.
//!
//! Every end of a request passes [`Worker::finish`], where it is counted and logged with its reason.
use crate::conn::{Deferred, Direction, Paused, Role};
use crate::hosts::{Lease, readiness};
use crate::pending::{Extra, InFlight, ONE_WAY_ID};
use crate::worker::{STREAM_FROM, Worker};
use raddle_core::{Reason, Time};
use raddle_model::{Replies, RetryOn};
use raddle_net::{Key, OutBuf};
use raddle_policy::permits::Permit;
use raddle_policy::{Attributes, Decision, Load, Policy, Readiness, pick};
use raddle_telemetry::TraceParent;
use raddle_telemetry::access_log::Entry;
use raddle_wire::bolt::{self, Head, HeaderMap, Variant};
use std::net::IpAddr;
use std::time::Duration;

/// A request's time where neither its frame nor a rule says one.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// A caller gives up on its own when the time in its frame is over, and says so in its own words; the
/// sidecar's answer comes this much later, for callers that do not.
const AFTER_CALLERS_OWN: Duration = Duration::from_millis(50);
/// Frames longer than this are not kept for a retry.
const RETRY_COPY_MOST: usize = STREAM_FROM;
/// A request is moved at most this often because its connection went before it was written.
const MOVES_MOST: u8 = 8;

/// Where a request came from, and what it has been through.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Who asked.
    pub caller: Key,
    /// The id it gave the request.
    pub caller_id: u32,
    /// It wants no reply.
    pub one_way: bool,
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
}

/// A request that is dispatched again: it waited for a connection, or is retried.
pub struct Requeued {
    /// Its story so far.
    pub origin: Origin,
    /// Its frame, with whatever id.
    pub frame: Vec<u8>,
}

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

/// What routing reads of a Bolt request, borrowed from its bytes.
struct BoltAttributes<'a> {
    head: &'a Head,
    frame: &'a [u8],
    headers: HeaderMap<'a>,
    service: &'a [u8],
    ip: Option<IpAddr>,
}

impl Attributes for BoltAttributes<'_> {
    fn service(&self) -> &[u8] {
        self.service
    }

    fn method(&self) -> Option<&[u8]> {
        match bolt::method(self.head, self.frame) {
            bolt::Method::Found(m) => Some(m),
            bolt::Method::NeedMore | bolt::Method::Unknown => None,
        }
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name.as_bytes())
    }

    fn caller_app(&self) -> Option<&[u8]> {
        self.headers.get(b"rpc_trace_context.sofaCallerApp").or_else(|| self.headers.get(b"app"))
    }

    fn caller_ip(&self) -> Option<IpAddr> {
        self.ip
    }

    fn load_test(&self) -> bool {
        self.headers.get(b"shadowTest").is_some_and(|v| v == b"T")
    }
}

/// What the balancer reads of a worker's hosts.
struct HostView<'a> {
    worker: &'a crate::hosts::Hosts,
    conns: &'a raddle_net::Slab<crate::conn::Conn>,
    map: &'a [Key],
    variant: Variant,
    owner: Key,
    now: Time,
}

impl Load for HostView<'_> {
    fn ready(&self, i: u32) -> Readiness {
        match self.map.get(i as usize).and_then(|k| self.worker.get(*k)) {
            Some(h) => readiness(h, self.conns, self.variant, self.owner, self.now),
            None => Readiness::Down,
        }
    }

    fn active(&self, i: u32) -> u32 {
        self.map.get(i as usize).and_then(|k| self.worker.get(*k)).map_or(0, |h| h.active)
    }

    fn ewma_ns(&self, i: u32) -> f64 {
        self.map.get(i as usize).and_then(|k| self.worker.get(*k)).map_or(0.0, |h| h.ewma.value(self.now))
    }
}

/// What routing and balancing decided, without borrows.
struct Plan {
    endpoint: u32,
    ready: bool,
    connect: Option<u32>,
    timeout: Option<Duration>,
    tries: u8,
    per_try: Option<Duration>,
    retry_on: u8,
    budget: (f64, u32),
    rule: Option<String>,
}

/// Why a request is refused.
pub(crate) struct Refusal {
    reason: Reason,
    rule: Option<String>,
    detail: &'static str,
}

/// Parts of a request's end that only some have.
#[derive(Default)]
pub(crate) struct End<'a> {
    pub reason: Option<Reason>,
    pub status: u16,
    pub endpoint: Option<std::net::SocketAddr>,
    pub rule: Option<&'a str>,
    pub method: Option<&'a [u8]>,
    pub trace: Option<&'a [u8]>,
    pub tried: u8,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl Worker {
    /// A new request from a caller. `frame` is the whole frame, or its head and a little more if it is
    /// too large to be held.
    pub(crate) fn on_request(&mut self, caller: Key, head: &Head, frame: &[u8]) -> Sent {
        let Some(conn) = self.conns.get_mut(caller) else { return Sent::Done };
        let Role::Caller(c) = &mut conn.role else { return Sent::Done };
        c.active_at = self.now;
        c.variant = head.variant;
        let origin = Origin {
            caller,
            caller_id: head.id,
            one_way: !head.wants_reply(),
            direction: c.direction,
            listener: c.accepted.listener,
            start: self.now,
            deadline: Time::MAX,
            avoid: None,
            tried: 0,
            tries_left: None,
            moves: 0,
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
        if let Ok(bolt::Parsed::Head(mut head)) = Head::parse(&r.frame, &limits) {
            head.id = r.origin.caller_id;
            self.dispatch(r.origin, &head, &r.frame);
        }
    }

    fn dispatch(&mut self, mut origin: Origin, head: &Head, frame: &[u8]) -> Sent {
        let whole = frame.len() >= head.frame_len();

        // Attributes.
        let headers = head.headers(frame);
        let [service, target] = headers.get_all(&[&b"service"[..], &b"sofa_head_target_service"[..]]);
        let named = service.or(target);
        let default = match named {
            Some(_) => None,
            None => self.config.binding(origin.listener).and_then(|b| b.default_service.clone()),
        };
        let name = named.or(default.as_deref().map(str::as_bytes)).unwrap_or(b"");
        let ip = self.caller_ip(origin.caller);
        let attributes = BoltAttributes { head, frame, headers, service: name, ip };

        // Service.
        let found = match origin.direction {
            Direction::Outbound => self.service_named(name),
            Direction::Inbound => self.service_behind(origin.listener),
        };
        let Some(service) = found else {
            let row = self.row(origin.direction, b"unknown");
            let detail =
                if name.is_empty() { "the request names no service" } else { "add a Service of that name" };
            return self.refuse(&origin, head, frame, row, Refusal::new(Reason::NoCluster, detail));
        };
        let row = match origin.direction {
            Direction::Outbound => self.services.get(service).map_or(0, |s| s.row),
            Direction::Inbound => {
                self.row(Direction::Inbound, if name.is_empty() { b"unknown" } else { name })
            }
        };
        if origin.deadline <= self.now {
            return self.refuse(
                &origin,
                head,
                frame,
                row,
                Refusal::new(Reason::Timeout, "it waited for a connection"),
            );
        }

        // Route and endpoint. A frame too large to be held, and a caller that is slow, go on a connection of
        // their own.
        let private = !whole || self.is_private(origin.caller);
        let owner = if private { origin.caller } else { Key::NONE };
        let plan = match self.plan(&origin, service, &attributes, owner) {
            Ok(p) => p,
            Err(refusal) => return self.refuse(&origin, head, frame, row, refusal),
        };
        if let Some(i) = plan.connect {
            self.connect_ahead(service, i, head.variant, owner);
        }
        if origin.deadline == Time::MAX {
            origin.deadline = deadline(origin.start, head.timeout_ms, plan.timeout);
        }
        if origin.tries_left.is_none() {
            origin.tries_left = Some(plan.tries);
        }

        // Connection.
        let Some(s) = self.services.get(service) else { return Sent::Done };
        let Some(&host) = s.hosts.get(plan.endpoint as usize) else { return Sent::Done };
        let policy = s.service.policy.clone();
        let conn = match self.lease(host, head.variant, owner, &policy) {
            Lease::Ready(conn) => conn,
            Lease::Soon if private && !whole => return self.block(origin.caller, host),
            Lease::Soon => return self.wait(origin, service, host, head, frame, row, &policy),
            Lease::Full => {
                let r = Refusal::new(Reason::Overflow, "the endpoint does not read and its queue is full");
                return self.refuse(&origin, head, frame, row, r);
            }
            Lease::Failed => return self.no_connection(&mut origin, service, &plan, head, frame, row),
        };

        // Bounds.
        let cap = if origin.one_way { 0 } else { policy.settings.pool.max_outstanding };
        let Some(permit) = self.services.get_mut(service).and_then(|s| s.permits.acquire(cap)) else {
            let rule = policy.name.as_deref().map(str::to_owned);
            let r = Refusal { rule, ..Refusal::new(Reason::Overflow, "pool.maxOutstanding is reached") };
            return self.refuse(&origin, head, frame, row, r);
        };

        self.forward(&origin, service, row, &plan, permit, conn, host, head, frame)
    }

    /// Routes and picks an endpoint; everything borrowed stays inside.
    fn plan(
        &mut self,
        origin: &Origin,
        service: Key,
        a: &BoltAttributes<'_>,
        owner: Key,
    ) -> Result<Plan, Refusal> {
        let now = self.now;
        let logs = self.log.is_some();
        let Some(s) = self.services.get_mut(service) else {
            return Err(Refusal::new(Reason::NoCluster, "the service was removed"));
        };
        let crate::services::ServiceState { service, hosts, route, balance, budget, .. } = s;
        let (subset, rule, timeout, retry) = match service.route(a, route, &mut self.rng) {
            Decision::Send { subset, rule, timeout, retry } => (subset, rule, timeout, retry),
            Decision::Reject { reason, rule } => {
                let rule = rule.map(ToString::to_string);
                return Err(Refusal { reason, rule, detail: "" });
            }
        };
        let hash = service.hash_key(a);
        let state = balance.entry(subset.id).or_default();
        let view = HostView {
            worker: &self.hosts,
            conns: &self.conns,
            map: hosts,
            variant: a.head.variant,
            owner,
            now,
        };
        let Some(picked) = pick(subset, service, state, &view, hash, now, &mut self.rng, origin.avoid) else {
            let rule = rule.map(ToString::to_string);
            return Err(Refusal { reason: Reason::NoHealthy, rule, detail: "" });
        };
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
        head: &Head,
        frame: &[u8],
    ) -> Sent {
        let whole = frame.len() >= head.frame_len();
        let logs = self.log.is_some();
        let method = if logs { self.method_of(head, frame) } else { 0 };
        let tries_left = origin.tries_left.unwrap_or(0);
        let extra = self.extra(origin, plan, head, frame, tries_left, whole);
        let now = self.now;
        let Some(c) = self.conns.get_mut(conn) else { return Sent::Done };
        let Role::Endpoint(e) = &mut c.role else { return Sent::Done };
        e.used_at = now;
        let deadline =
            plan.per_try.filter(|_| tries_left > 0).map_or(origin.deadline, |d| origin.deadline.min(now + d));
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
                method,
                codec: head.codec,
                out_at: c.out.tail_offset(),
                len: if whole { frame.len() as u32 } else { 0 },
                sofa: head.class(frame) == bolt::CLASS_REQUEST,
                permit: Some(permit),
                extra,
            };
            if e.pending.live() == 0 {
                e.heartbeat.sent(now);
                wake = wake.min(e.heartbeat.next_wake());
            }
            wake = wake.min(deadline);
            e.pending.insert(request, deadline)
        };
        // A frame that waited carries the id of a connection that is gone.
        let mut was = *head;
        was.id = read_id(frame, head);
        let tail = c.out.tail(&mut self.pool);
        let at = tail.len();
        tail.extend_from_slice(frame);
        let crc_mask = if whole {
            bolt::patch_id(&mut tail[at..], &was, wire_id);
            0
        } else {
            let id_at = head.id_offset();
            tail[at + id_at..at + id_at + 4].copy_from_slice(&wire_id.to_be_bytes());
            e.stream_from = Some(origin.caller);
            if head.variant.crc() {
                bolt::crc_mask(was.id, wire_id, head.frame_len() - 4 - id_at - 4)
            } else {
                0
            }
        };
        let timer_at = c.timer_at;
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
            let end = End { bytes_in: head.frame_len() as u64, ..End::default() };
            self.log_end(origin, row, &end);
        } else {
            cells.in_flight.inc();
        }
        if whole { Sent::Done } else { Sent::Stream { sink: Some(conn), crc_mask } }
    }

    /// What must be kept of a request besides its accounts, if anything.
    fn extra(
        &mut self,
        origin: &Origin,
        plan: &Plan,
        head: &Head,
        frame: &[u8],
        tries_left: u8,
        whole: bool,
    ) -> Option<Box<Extra>> {
        let trace = if self.log.is_some() { head.headers(frame).get(b"traceparent") } else { None };
        let keep = tries_left > 0 && whole && frame.len() <= RETRY_COPY_MOST && !origin.one_way;
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

    // ---- when there is no connection yet, or none to be had ----

    /// Starts a connection to an endpoint the balancer would have liked.
    fn connect_ahead(&mut self, service: Key, endpoint: u32, variant: Variant, owner: Key) {
        let Some(s) = self.services.get(service) else { return };
        let Some(&host) = s.hosts.get(endpoint as usize) else { return };
        let policy = s.service.policy.clone();
        if let Some(h) = self.hosts.get(host)
            && readiness(h, &self.conns, variant, owner, self.now) == Readiness::Idle
        {
            self.open(host, variant, owner, &policy);
        }
    }

    /// The caller is not read until the connection is there: its large frame cannot be held meanwhile.
    fn block(&mut self, caller: Key, host: Key) -> Sent {
        if let Some(h) = self.hosts.get_mut(host) {
            h.blocked.push(caller);
        }
        self.pause(caller, Paused::NO_CONNECTION);
        Sent::Blocked
    }

    /// The request waits, within bounds, for the connection that is being made.
    #[allow(clippy::too_many_arguments)]
    fn wait(
        &mut self,
        origin: Origin,
        service: Key,
        host: Key,
        head: &Head,
        frame: &[u8],
        row: u32,
        policy: &Policy,
    ) -> Sent {
        let Some(s) = self.services.get_mut(service) else { return Sent::Done };
        if s.waiting.len() >= policy.settings.pool.max_pending as usize {
            let r = Refusal::new(Reason::Overflow, "pool.maxPending requests wait for a connection already");
            return self.refuse(&origin, head, frame, row, r);
        }
        let deadline = origin.deadline;
        s.waiting.push_back(Requeued { origin, frame: frame.to_vec() });
        if let Some(h) = self.hosts.get_mut(host) {
            if !h.waiting.contains(&service) {
                h.waiting.push(service);
            }
            // Its time may be over before the connect attempt is.
            let connecting: Vec<Key> = h.conns.iter().filter(|p| !p.ready).map(|p| p.key).collect();
            for key in connecting {
                self.arm(key, deadline);
            }
        }
        Sent::Done
    }

    /// The endpoint cannot be connected to: another one if retries are asked for, else the caller is told.
    fn no_connection(
        &mut self,
        origin: &mut Origin,
        service: Key,
        plan: &Plan,
        head: &Head,
        frame: &[u8],
        row: u32,
    ) -> Sent {
        // Not sent to anyone yet: another endpoint that is not known to be down may still be tried.
        if !plan.ready && origin.moves < MOVES_MOST && self.any_not_down(service, head.variant) {
            let mut again = origin.clone();
            again.moves += 1;
            again.avoid = Some(plan.endpoint);
            if frame.len() >= head.frame_len() {
                self.requeue.push_back(Requeued { origin: again, frame: frame.to_vec() });
                return Sent::Done;
            }
        }
        let r = Refusal {
            rule: plan.rule.clone(),
            ..Refusal::new(Reason::ConnectFailure, "every endpoint refuses connections")
        };
        self.refuse(origin, head, frame, row, r)
    }

    fn any_not_down(&self, service: Key, variant: Variant) -> bool {
        self.services.get(service).is_some_and(|s| {
            s.hosts
                .iter()
                .filter_map(|h| self.hosts.get(*h))
                .any(|h| readiness(h, &self.conns, variant, Key::NONE, self.now) != Readiness::Down)
        })
    }

    // ---- the reply ----

    /// A reply came: account for it, and pass it on or try again. Returns the caller and the id it knows
    /// the request by, if the reply is to be passed on.
    pub(crate) fn on_reply(
        &mut self,
        host: Key,
        variant: Variant,
        mut r: InFlight,
        head: &Head,
        frame: &[u8],
    ) -> Option<ReplyTo> {
        let latency = self.now.since(r.start);
        let failure = not_run(head, frame);
        self.host_done(host, Some(latency), failure.is_some());
        self.release_permit(&mut r);
        self.services.cells(r.cells).in_flight.dec();
        if failure == Some(RetryOn::ConnectFailure) {
            // The sidecar over there lives, its app does not: as good as a failed connect.
            self.rest_host(host, "its sidecar cannot reach the app");
        } else if failure.is_none() {
            self.host_answers(host);
        }
        if failure.is_some_and(|f| self.retry(&r, f)) {
            return None;
        }
        // An exception of the app travels under status 0, marked in the header map.
        let exception = head.header_len > 0
            && head.status == 0
            && head.headers(frame).get(bolt::HEADER_RESPONSE_ERROR) == Some(b"true");
        let end = End {
            status: if exception { bolt::STATUS_SERVER_EXCEPTION } else { head.status },
            endpoint: self.hosts.get(host).map(|h| h.host.addr),
            bytes_in: u64::from(r.len),
            bytes_out: head.frame_len() as u64,
            ..End::default()
        };
        self.finish(&r, &end, variant);
        self.reply_leaves(r.caller);
        self.conns.get(r.caller)?;
        Some(ReplyTo { caller: r.caller, id: r.caller_id, codec: r.codec, sofa: r.sofa })
    }

    /// The time of a request is over.
    pub(crate) fn on_timeout(&mut self, host: Key, variant: Variant, mut r: InFlight) {
        let latency = self.now.since(r.start);
        self.host_done(host, Some(latency), true);
        self.release_permit(&mut r);
        self.services.cells(r.cells).in_flight.dec();
        if !self.retry(&r, RetryOn::Timeout) {
            self.answer(host, variant, &r, Reason::Timeout, "no reply in time");
        }
    }

    /// The connection of a request is gone.
    pub(crate) fn lost(&mut self, host: Key, variant: Variant, mut r: InFlight, out: &OutBuf, why: Reason) {
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
            self.shard.requeued.inc();
            self.requeue.push_back(Requeued { origin: Origin { moves: 1, ..origin }, frame });
            return;
        }
        if !self.retry(&r, RetryOn::ConnectionLost) {
            self.answer(host, variant, &r, why, "the endpoint closed its connection");
        }
    }

    /// The sidecar ends before the reply came.
    pub(crate) fn end_in_flight(&mut self, host: Key, variant: Variant, mut r: InFlight) {
        self.host_done(host, None, false);
        self.release_permit(&mut r);
        self.services.cells(r.cells).in_flight.dec();
        self.answer(host, variant, &r, Reason::Draining, "the sidecar ends");
    }

    /// Tries a request again if its policy, its budget and its time allow.
    fn retry(&mut self, r: &InFlight, failure: RetryOn) -> bool {
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
        self.shard.retries.inc();
        self.requeue.push_back(Requeued { origin, frame: x.frame.clone() });
        true
    }

    /// The origin of a request in flight, unless its caller is gone.
    fn origin_of(&self, r: &InFlight) -> Option<Origin> {
        let Role::Caller(c) = &self.conns.get(r.caller)?.role else { return None };
        Some(Origin {
            caller: r.caller,
            caller_id: r.caller_id,
            one_way: false,
            direction: c.direction,
            listener: c.accepted.listener,
            start: r.start,
            deadline: r.extra.as_ref().and_then(|x| x.final_deadline).unwrap_or(Time::MAX),
            avoid: Some(r.endpoint),
            tried: r.extra.as_ref().map_or(0, |x| x.tried),
            tries_left: r.extra.as_ref().map(|x| x.tries_left),
            moves: 0,
        })
    }

    // ---- the sidecar's own answers ----

    /// Answers a request in flight that will get no reply.
    fn answer(&mut self, host: Key, variant: Variant, r: &InFlight, reason: Reason, detail: &'static str) {
        let endpoint = self.hosts.get(host).map(|h| h.host.addr);
        let rule = r.extra.as_ref().and_then(|x| x.rule.clone());
        let head = reply_head(variant, r.caller_id, r.codec);
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
        self.finish(r, &end, variant);
        self.reply_leaves(r.caller);
    }

    /// Refuses a request that was not sent to anyone.
    fn refuse(&mut self, origin: &Origin, head: &Head, frame: &[u8], row: u32, why: Refusal) -> Sent {
        let rule = why.rule.as_deref();
        if !origin.one_way {
            let form = self.form_for(origin.caller, head.class(frame) == bolt::CLASS_REQUEST);
            let reply = bolt::Reply { rule, form, ..bolt::Reply::new(why.reason, why.detail) };
            let mut to = *head;
            to.id = origin.caller_id;
            self.deliver(origin.caller, |out| bolt::encode::reply(out, &to, &reply));
            self.reply_leaves(origin.caller);
        }
        self.services.cells(row).rejected[why.reason].inc();
        let method = match bolt::method(head, frame) {
            bolt::Method::Found(m) => Some(m),
            _ => None,
        };
        let end = End {
            reason: Some(why.reason),
            status: why.reason.bolt_status(),
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
    fn form_for(&self, caller: Key, sofa: bool) -> bolt::Form {
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
    fn reply_leaves(&mut self, caller: Key) {
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

    /// Counts and logs the end of a request that had been sent.
    fn finish(&mut self, r: &InFlight, end: &End<'_>, _variant: Variant) {
        let cells = self.services.cells(r.cells);
        let latency = self.now.since(r.start);
        match end.reason {
            Some(reason) => cells.rejected[reason].inc(),
            None if end.status == 0 => cells.ok.inc(),
            None => cells.app_error.inc(),
        }
        cells.latency.record(latency.as_nanos() as u64);
        let failed = end.reason.is_some() || end.status != 0;
        if !self.log.as_mut().is_some_and(|l| l.wants(failed)) {
            return;
        }
        let method = self.method_names.get(r.method as usize).cloned().filter(|m| !m.is_empty());
        let x = r.extra.as_deref();
        let mut end = End { method: method.as_deref(), ..*end };
        if let Some(x) = x {
            end.tried = x.tried;
            end.trace = (!x.trace.is_empty()).then_some(&x.trace[..]);
            end.rule = x.rule.as_deref();
        }
        let origin = Origin {
            caller: r.caller,
            caller_id: r.caller_id,
            one_way: false,
            direction: Direction::Outbound,
            listener: u16::MAX,
            start: r.start,
            deadline: Time::MAX,
            avoid: None,
            tried: 0,
            tries_left: None,
            moves: 0,
        };
        let origin = self.origin_of(r).unwrap_or(origin);
        self.write_line(&origin, r.cells, &end);
    }

    /// Writes the line of a request that was not sent, or wants no reply.
    fn log_end(&mut self, origin: &Origin, row: u32, end: &End<'_>) {
        let failed = end.reason.is_some() || end.status != 0;
        if self.log.as_mut().is_some_and(|l| l.wants(failed)) {
            self.write_line(origin, row, end);
        }
    }

    fn write_line(&mut self, origin: &Origin, row: u32, end: &End<'_>) {
        let (caller, connection) = match self.conns.get(origin.caller).map(|c| &c.role) {
            Some(Role::Caller(c)) => (c.accepted.peer, c.accepted.id),
            _ => (None, 0),
        };
        let flag = match end.reason {
            None if connection == 0 && caller.is_none() => Some(Reason::CallerGone),
            r => r,
        };
        let binding = self.config.binding(origin.listener);
        let entry = Entry {
            time: self.shared.wall_zero_ns + origin.start.as_nanos(),
            direction: origin.direction,
            protocol: raddle_core::Protocol::Bolt,
            listener: binding.map_or("-", |b| &b.name),
            caller: caller.unwrap_or(NOBODY),
            connection,
            request_id: u64::from(origin.caller_id),
            service: self.services.row_name(row),
            method: end.method.and_then(|m| std::str::from_utf8(m).ok()),
            endpoint: end.endpoint,
            ok: end.reason.is_none() && end.status == 0,
            status: end.status,
            flag,
            rule: end.rule,
            duration_ns: self.now.since(origin.start).as_nanos() as u64,
            request_bytes: end.bytes_in,
            response_bytes: end.bytes_out,
            retries: u32::from(end.tried),
            traceparent: end.trace.and_then(TraceParent::parse),
        };
        if let Some(log) = &mut self.log {
            log.write(&entry);
        }
    }

    // ---- small accounts ----

    fn caller_ip(&self, caller: Key) -> Option<IpAddr> {
        match &self.conns.get(caller)?.role {
            Role::Caller(c) => c.accepted.peer.map(|a| a.ip()),
            _ => None,
        }
    }

    fn is_private(&self, caller: Key) -> bool {
        matches!(self.conns.get(caller).map(|c| &c.role), Some(Role::Caller(c)) if c.private)
    }

    fn method_of(&mut self, head: &Head, frame: &[u8]) -> u32 {
        match bolt::method(head, frame) {
            bolt::Method::Found(m) => self.intern_method(m),
            _ => 0,
        }
    }

    fn release_permit(&mut self, r: &mut InFlight) {
        if let (Some(s), Some(permit)) = (self.services.get_mut(r.service), r.permit.take()) {
            s.permits.release(permit);
        }
    }

    /// The bounds frames are parsed with.
    pub(crate) fn frame_limits(&self) -> bolt::Limits {
        let l = self.config.limits();
        bolt::Limits { max_frame: l.max_frame, max_header: l.max_header }
    }
}

impl Refusal {
    fn new(reason: Reason, detail: &'static str) -> Refusal {
        Refusal { reason, rule: None, detail }
    }
}

/// Stands in logs for a caller whose connection is gone.
pub(crate) const NOBODY: std::net::SocketAddr =
    std::net::SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

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

/// Whether a reply says that the request was not run, and so may be sent to another endpoint by policy: a
/// server too busy to take it, or a sidecar whose app is not there.
fn not_run(head: &Head, frame: &[u8]) -> Option<RetryOn> {
    if head.status == 0 {
        return None;
    }
    let flag = head.headers(frame).get(bolt::HEADER_REASON);
    match flag.and_then(|f| std::str::from_utf8(f).ok()).and_then(Reason::from_flag) {
        Some(Reason::ConnectFailure | Reason::NoHealthy | Reason::Draining) => Some(RetryOn::ConnectFailure),
        Some(r) if r.not_processed() && r.bolt_status() == 4 => Some(RetryOn::Overloaded),
        Some(_) => None,
        None if head.status == 4 => Some(RetryOn::Overloaded),
        None => None,
    }
}

/// The id that stands in a frame's bytes.
fn read_id(frame: &[u8], head: &Head) -> u32 {
    let at = head.id_offset();
    frame.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(head.id, u32::from_be_bytes)
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
