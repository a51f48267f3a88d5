//! The life of an HTTP request, read downwards: attributes → service → route → endpoint → connection →
//! bounds → forward. It goes on in [`response`](super::response).
use super::attributes::{HttpAttributes, said_app};
use super::exchange::{Exchange, HttpPlan, Up};
use super::pool::HttpLease;
use super::up2::Begun;
use super::view::HttpView;
use crate::authorize::Judged;
use crate::conn::{Direction, Role};
use crate::lane::Lane;
use crate::limits::done::Fate;
use crate::limits::state::Limited;
use crate::request::MOVES_MOST;
use crate::worker::Worker;
use raddle_core::{Protocol, Reason, Time};
use raddle_model::RetryOn;
use raddle_net::Key;
use raddle_policy::limit::Held;
use raddle_policy::{Attributes, Decision, pick};
use raddle_wire::http::h1::Framing;
use raddle_wire::http::{Request, grpc};
use std::net::IpAddr;
use std::time::Duration;

/// A gRPC client gives up on its own when its time is over; the sidecar's answer comes this much later.
const AFTER_CALLERS_OWN: Duration = Duration::from_millis(50);

impl Exchange {
    /// An exchange that has just begun.
    pub(crate) fn new(
        down: Key,
        direction: Direction,
        listener: u16,
        request: Request,
        framing: Framing,
        protocol: Protocol,
        now: Time,
    ) -> Exchange {
        Exchange {
            down,
            caller: None,
            direction,
            listener,
            request,
            framing,
            expects_continue: false,
            upgrade: false,
            old: false,
            protocol,
            start: now,
            deadline: Time::MAX,
            try_deadline: Time::MAX,
            active_at: now,
            service: Key::NONE,
            row: 0,
            plan: HttpPlan::default(),
            up: Up::None,
            host: Key::NONE,
            permit: None,
            ticket: None,
            avoid: None,
            tried: 0,
            tries_left: None,
            moves: 0,
            kept: Vec::new(),
            kept_all: true,
            trailers: None,
            request_over: false,
            request_sent: false,
            up_framing: Framing::None,
            down_framing: None,
            response_over: false,
            status: 0,
            grpc_status: None,
            said: None,
            bytes_in: 0,
            bytes_out: 0,
            counted: false,
            mirror: false,
            acted: false,
            original: None,
            mirror_to: None,
            response_ops: None,
            abort: None,
            reused: false,
            unsent: false,
            stale: false,
            waker: None,
        }
    }

    /// Whether the request asks for a tunnel through here (and not for one to an app that proxies).
    fn request_tunnels(&self, request: &Request) -> bool {
        request.is_connect() && !self.mirror
    }
}

/// What routing came to.
enum Routed {
    Send {
        plan: HttpPlan,
        connect: Option<u32>,
        ready: bool,
        timeout: Option<Duration>,
        tries: u8,
        per_try: Option<Duration>,
    },
    Refuse(Reason, Option<String>),
    Hold(Held),
    Answered,
    Delayed,
}

impl Worker {
    /// Sends an exchange's request to an endpoint, or answers it.
    pub(crate) fn dispatch_exchange(&mut self, key: Key) {
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        if x.deadline <= self.now {
            return self.answer_http(key, Reason::Timeout, None, "it waited for a connection");
        }
        if x.moves > MOVES_MOST {
            return self.answer_http(key, Reason::ConnectFailure, None, "no endpoint could be connected to");
        }
        let changed = x.original.is_some();
        let request = x.original.take().map_or_else(|| std::mem::take(&mut x.request), |o| *o);

        // Service.
        let Some((service, row)) = self.find_http_service(key, &request) else {
            return self.dispatch_unknown_http(key, request, changed);
        };
        self.dispatch_exchange_to(key, request, changed, (service, row));
    }

    /// Sends an exchange's request to its service, or answers it.
    pub(super) fn dispatch_exchange_to(
        &mut self,
        key: Key,
        request: Request,
        changed: bool,
        (service, row): (Key, u32),
    ) {
        let ip = self.conn_ip(key);
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        x.service = service;
        x.row = row;

        // Authorization.
        let observed = match self.authorize_http(key, &request) {
            Judged::Pass(observed) => observed,
            Judged::Refuse(denial) => {
                self.put_back(key, request, changed);
                return self.deny_http(key, denial);
            }
        };
        if let Some(refusal) = self.link_refuses_http(key, &request) {
            self.put_back(key, request, changed);
            if let Some(x) = self.http.exchanges.get_mut(key) {
                x.plan.rule = refusal.rule;
            }
            return self.answer_http(key, refusal.reason, None, &refusal.detail);
        }

        // Limits.
        let observed = match self.limit_exchange(key, &request, service, ip) {
            Limited::Pass(limit) => limit.map(String::from).or(observed),
            Limited::Wait(until) => {
                self.put_back(key, request, changed);
                return self.wait_for_turn(key, until);
            }
            Limited::Refuse(held) => {
                self.put_back(key, request, changed);
                return self.hold_http(key, &held);
            }
        };
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        if x.request_tunnels(&request) {
            self.put_back(key, request, changed);
            return self.begin_connect(key);
        }
        let lane = self.lane_of(key, service);

        // Route and endpoint.
        let routed = self.route_http(key, &request, service, lane, ip);
        self.put_back(key, request, changed);
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        let (connect, ready, endpoint) = match routed {
            Routed::Refuse(reason, rule) => {
                x.plan.rule = rule;
                return self.answer_http(key, reason, None, "");
            }
            Routed::Hold(held) => return self.hold_http(key, &held),
            Routed::Answered | Routed::Delayed => return,
            Routed::Send { plan, connect, ready, timeout, tries, per_try } => {
                let endpoint = plan.endpoint;
                x.plan = HttpPlan { logged: observed, ..plan };
                x.tries_left.get_or_insert(tries);
                if x.deadline == Time::MAX {
                    x.deadline = deadline(x, timeout);
                }
                x.try_deadline = match per_try.filter(|_| x.tries_left > Some(0)) {
                    Some(d) => self.now + d,
                    None => Time::MAX,
                };
                let at = x.deadline.min(x.try_deadline);
                let down = x.down;
                if at < Time::MAX {
                    self.arm(down, at);
                }
                (connect, ready, endpoint)
            }
        };
        let Some(s) = self.services.get(service) else { return };
        if let Some(i) = connect.filter(|i| *i != endpoint || !ready)
            && i != endpoint
            && let Some(&host) = s.hosts.get(i as usize)
        {
            let policy = s.service.policy.clone();
            self.open_http(host, lane, &policy);
        }

        // Connection.
        let Some(&host) = self.services.get(service).and_then(|s| s.hosts.get(endpoint as usize)) else {
            return;
        };
        let once = self.http.exchanges.get(key).is_some_and(|x| !x.request.is_safe());
        match self.lease_http(service, host, lane, once) {
            HttpLease::Ready(conn) => {
                if !self.send_on(key, conn, lane) && lane == Lane::Http1 {
                    self.offer_up1(host, conn);
                }
            }
            HttpLease::Soon => self.wait_http(key, service, host, lane),
            HttpLease::Failed => {
                let Some(x) = self.http.exchanges.get_mut(key) else { return };
                x.avoid = Some(endpoint);
                x.moves += 1;
                if x.moves <= MOVES_MOST && self.any_http_host_up(service) {
                    self.http.again.push(key);
                } else {
                    let why = self.why_unconnected(service);
                    self.answer_http(key, Reason::ConnectFailure, None, &why);
                }
            }
        }
    }

    /// Puts a head back that was taken out to be looked at; `changed` = another one is what is sent.
    pub(super) fn put_back(&mut self, key: Key, request: Request, changed: bool) {
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        if changed || !x.request.method().is_empty() {
            x.original = Some(Box::new(request));
        } else {
            x.request = request;
        }
    }

    /// Why an inbound request may not come as it does.
    fn link_refuses_http(&mut self, key: Key, request: &Request) -> Option<crate::answer::Refusal> {
        let x = self.http.exchanges.get(key)?;
        if x.direction != Direction::Inbound || x.tries_left.is_some() || x.mirror {
            return None;
        }
        let down = x.down;
        self.link_refuses(down, || said_app(request))
    }

    fn conn_ip(&self, key: Key) -> Option<IpAddr> {
        let x = self.http.exchanges.get(key)?;
        match &self.conns.get(x.down)?.role {
            Role::Http(h) => h.accepted()?.peer.map(|a| a.ip()),
            _ => None,
        }
    }

    pub(crate) fn row_unknown(&mut self, key: Key) -> u32 {
        let direction = self.http.exchanges.get(key).map_or(Direction::Outbound, |x| x.direction);
        self.row(direction, b"unknown")
    }

    /// The service a request is for, and the row of its metrics.
    fn find_http_service(&mut self, key: Key, request: &Request) -> Option<(Key, u32)> {
        let x = self.http.exchanges.get_mut(key)?;
        let (direction, listener, mirror, down) = (x.direction, x.listener, x.mirror, x.down);
        if mirror {
            return Some((x.service, x.row));
        }
        let grpc = x.protocol == Protocol::Grpc;
        match direction {
            Direction::Inbound => {
                let service = match self.service_behind(listener) {
                    Some(s) => s,
                    None => self.captured_service(down)?,
                };
                let name = grpc.then(|| grpc::split_path(request.path())).flatten().map(|(s, _)| s);
                let name = name.unwrap_or(host_of(request.authority()));
                let row = self.row(Direction::Inbound, if name.is_empty() { b"unknown" } else { name });
                Some((service, row))
            }
            Direction::Outbound => {
                let by_path = if grpc { self.grpc_service(request) } else { None };
                let service = by_path.or_else(|| self.service_of_host(listener, request.authority()))?;
                Some((service, self.services.get(service)?.row))
            }
        }
    }

    /// The service that has this host, or the listener's own.
    fn service_of_host(&mut self, listener: u16, authority: &[u8]) -> Option<Key> {
        let speaks_http = |p: Option<Protocol>| !matches!(p, Some(Protocol::Bolt | Protocol::Dubbo));
        let found = self.config.snapshot.service_for_host(authority).filter(|s| speaks_http(s.protocol));
        let name = match found {
            Some(s) => s.name.clone(),
            None => self.config.binding(listener)?.default_service.clone()?,
        };
        self.service_named(name.as_bytes())
    }

    /// The service of a gRPC path; Triple's version and group are part of the name.
    fn grpc_service(&mut self, request: &Request) -> Option<Key> {
        let (service, _) = grpc::split_path(request.path())?;
        let version = request.fields.get("tri-service-version").filter(|v| !v.is_empty());
        let group = request.fields.get("tri-service-group").filter(|v| !v.is_empty());
        if version.is_some() || group.is_some() {
            let mut name = [service, b":", version.unwrap_or(b"")].concat();
            if let Some(g) = group {
                let short = name.len();
                name.push(b':');
                name.extend_from_slice(g);
                if let Some(found) = self.service_named(&name) {
                    return Some(found);
                }
                name.truncate(short);
            }
            if let Some(found) = self.service_named(&name) {
                return Some(found);
            }
        }
        self.service_named(service)
    }

    /// What the connection to the endpoint carries: what the endpoint speaks, or what the caller does.
    fn lane_of(&self, key: Key, service: Key) -> Lane {
        let Some(x) = self.http.exchanges.get(key) else { return Lane::Http1 };
        if x.upgrade {
            return Lane::Http1;
        }
        let app = match x.direction {
            Direction::Inbound => self.config.binding(x.listener).and_then(|b| b.app_protocol),
            Direction::Outbound => None,
        };
        let told = app.or_else(|| self.services.get(service).and_then(|s| s.service.protocol));
        match told {
            Some(Protocol::Http) => Lane::Http1,
            Some(Protocol::Http2 | Protocol::Grpc) => Lane::Http2,
            _ if x.caller.is_some() || x.protocol != Protocol::Http => Lane::Http2,
            _ => Lane::Http1,
        }
    }

    /// Routes and picks an endpoint; everything borrowed stays inside.
    fn route_http(
        &mut self,
        key: Key,
        request: &Request,
        service: Key,
        lane: Lane,
        ip: Option<IpAddr>,
    ) -> Routed {
        let now = self.now;
        let logs = self.log.is_some();
        let Some(x) = self.http.exchanges.get(key) else { return Routed::Answered };
        let (avoid, tried, grpc, first) =
            (x.avoid, x.tried, x.protocol == Protocol::Grpc, x.tried == 0 && x.moves == 0 && !x.acted);
        let peer = self.peer_behind(x.direction, x.down);
        let Some(s) = self.services.get_mut(service) else {
            return Routed::Refuse(Reason::NoCluster, None);
        };
        let crate::services::ServiceState { service: svc, route, .. } = s;
        let svc = svc.clone();
        let a = HttpAttributes { request, service: svc.name.as_bytes(), grpc, ip, peer: peer.as_deref() };
        let (subset, rule, timeout, retry, actions) = match svc.route(&a, route, &mut self.rng) {
            Decision::Send { subset, rule, timeout, retry, actions } => {
                (subset, rule, timeout, retry, actions)
            }
            Decision::Reject { reason, rule } => {
                return Routed::Refuse(reason, rule.map(ToString::to_string));
            }
            // A gRPC caller could not make sense of a page.
            Decision::Answer { rule, .. } if grpc => {
                return Routed::Refuse(Reason::NoRoute, Some(rule.to_string()));
            }
            Decision::Answer { rule, answer } => {
                let rule = rule.to_string();
                self.answer_by_rule(key, request, &rule, answer);
                return Routed::Answered;
            }
        };
        let rule_name = rule.filter(|_| logs || actions.is_some()).map(ToString::to_string);
        // Before an endpoint is picked: one that waits or fails on purpose takes nobody's turn.
        if let Some(actions) = actions.filter(|_| first)
            && self.act(key, request, actions, rule_name.as_deref())
        {
            return Routed::Delayed;
        }
        let Some(s) = self.services.get_mut(service) else {
            return Routed::Refuse(Reason::NoCluster, rule_name);
        };
        let crate::services::ServiceState { hosts, balance, budget, .. } = s;
        let hash = svc.hash_key(&a);
        let state = balance.entry(subset.id).or_default();
        let ticket = self.http.exchanges.get(key).and_then(|x| x.ticket.as_ref());
        let breakers = self.limits.broken(ticket, now);
        let view = HttpView { hosts: &self.hosts, conns: &self.conns, map: hosts, lane, now, breakers };
        let Some(picked) = pick(subset, &svc, state, &view, hash, now, &mut self.rng, avoid) else {
            return Routed::Refuse(Reason::NoHealthy, rule.map(ToString::to_string));
        };
        let broken = view.broken(picked.index);
        let (mut tries, mut per_try, mut retry_on, mut shares) = (0, None, 0, (0.0, 0));
        if let Some(r) = retry {
            tries = r.attempts;
            per_try = r.per_try_timeout;
            shares = (r.budget, r.budget_min_per_second);
            let method = a.method();
            for on in RETRIED {
                let allowed = if grpc { r.allows(on, method) } else { r.allows_http(on, request.method()) };
                retry_on |= u8::from(allowed) << on as u8;
            }
            if tried == 0 {
                budget.request(now);
            }
        }
        if broken.is_some() {
            // None was better: it goes there if it may be a probe by now.
            let ticket = self.http.exchanges.get(key).and_then(|x| x.ticket.clone());
            if let Err(held) = self.limited_goes(ticket.as_ref(), broken) {
                return Routed::Hold(held);
            }
            self.limited_returns(ticket.as_ref(), Fate::Unknown);
        }
        let plan =
            HttpPlan { endpoint: picked.index, retry_on, budget: shares, rule: rule_name, logged: None };
        Routed::Send { plan, connect: picked.connect, ready: picked.ready, timeout, tries, per_try }
    }

    fn any_http_host_up(&self, service: Key) -> bool {
        let Some(s) = self.services.get(service) else { return false };
        s.hosts.iter().filter_map(|h| self.hosts.get(*h)).any(|h| h.down_until.is_none_or(|t| t <= self.now))
    }

    /// The exchange waits, within bounds, for a connection to a host.
    fn wait_http(&mut self, key: Key, service: Key, host: Key, lane: Lane) {
        let most =
            self.services.get(service).map_or(0, |s| s.service.policy.settings.pool.max_pending as usize);
        let exchanges = &self.http.exchanges;
        let Some(h) = self.hosts.get_mut(host) else { return };
        if h.http_waiting.len() >= most {
            // Those that were cancelled are still there.
            h.http_waiting.retain(|k| exchanges.get(*k).is_some_and(|x| matches!(x.up, Up::Waiting(_))));
        }
        if h.http_waiting.len() >= most {
            let what = "pool.maxPending requests wait for a connection already";
            return self.answer_http(key, Reason::Overflow, None, what);
        }
        h.http_waiting.push_back(key);
        if let Some(x) = self.http.exchanges.get_mut(key) {
            x.up = Up::Waiting(lane);
        }
    }

    /// Gives an exchange to a connection, if the bounds allow. False if the connection is still free.
    pub(crate) fn send_on(&mut self, key: Key, conn: Key, lane: Lane) -> bool {
        let now = self.now;
        let Some(x) = self.http.exchanges.get(key) else { return false };
        let service = x.service;
        if x.ticket.is_some()
            && let Err(held) = self.goes_on(key, conn)
        {
            self.hold_http(key, &held);
            return false;
        }
        let most = self.services.get(service).map_or(0, |s| s.service.policy.settings.pool.max_outstanding);
        let Some(permit) = self.services.get_mut(service).and_then(|s| s.permits.acquire(most)) else {
            let rule =
                self.services.get(service).and_then(|s| s.service.policy.name.as_deref().map(str::to_owned));
            if let Some(x) = self.http.exchanges.get_mut(key) {
                x.plan.rule = rule;
            }
            self.answer_http(key, Reason::Overflow, None, "pool.maxOutstanding is reached");
            return false;
        };
        let host = match self.conns.get(conn).map(|c| &c.role) {
            Some(Role::Http(h)) => h.host().unwrap_or(Key::NONE),
            _ => Key::NONE,
        };
        let Some(x) = self.http.exchanges.get_mut(key) else { return false };
        x.permit = Some(permit);
        x.host = host;
        x.counted = true;
        x.active_at = now;
        let row = x.row;
        if let Some(h) = self.hosts.get_mut(host) {
            h.active += 1;
            h.cells.active.set(i64::from(h.active));
            h.trying |= h.on_trial;
        }
        self.services.cells(row).in_flight.inc();
        let down = self.http.exchanges.get(key).map_or(Key::NONE, |x| x.down);
        let idle = self.services.get(service).map(|s| s.service.policy.settings.timeouts.stream_idle);
        if let Some(idle) = idle {
            self.arm(down, now + idle);
        }
        if let (Some(c), Some(x)) = (self.conns.get(conn), self.http.exchanges.get(key))
            && x.direction == Direction::Outbound
        {
            self.shard.count_link(c.tls.is_some());
        }
        if lane == Lane::Http1 {
            self.forward_one(key, conn);
            return true;
        }
        match self.forward_two(key, conn) {
            Begun::Yes => {}
            Begun::Later => {
                self.settle_try(key, None, false);
                self.exchange_returns(key, Fate::Unknown);
                self.wait_http(key, service, host, lane);
            }
            Begun::Never => {
                self.settle_try(key, None, false);
                self.exchange_returns(key, Fate::Unknown);
                self.retire_http(conn);
                if let Some(x) = self.http.exchanges.get_mut(key) {
                    x.up = Up::None;
                    x.moves += 1;
                    self.http.again.push(key);
                }
            }
        }
        true
    }
}

const RETRIED: [RetryOn; 5] = [
    RetryOn::Overloaded,
    RetryOn::ConnectFailure,
    RetryOn::ConnectionLost,
    RetryOn::Timeout,
    RetryOn::ServerError,
];

/// When an exchange's time is over: the shorter of the caller's (gRPC) and the rule's, or never.
fn deadline(x: &Exchange, rule: Option<Duration>) -> Time {
    let own = x.request.fields.get("grpc-timeout").filter(|_| x.protocol == Protocol::Grpc);
    let own = own.and_then(grpc::parse_timeout).map(|d| d + AFTER_CALLERS_OWN);
    match (own, rule) {
        (Some(a), Some(b)) => x.start + a.min(b),
        (Some(d), None) | (None, Some(d)) => x.start + d,
        (None, None) => Time::MAX,
    }
}

/// The host of an authority, without its port.
pub(crate) fn host_of(authority: &[u8]) -> &[u8] {
    let end = match authority.first() {
        Some(b'[') => authority.iter().position(|b| *b == b']').map_or(authority.len(), |i| i + 1),
        _ => authority.iter().position(|b| *b == b':').unwrap_or(authority.len()),
    };
    &authority[..end]
}
