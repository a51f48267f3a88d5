//! A worker's view of the hosts it talks to: connections, load, and back-off after failed connects.
use crate::conn::{Accepted, Conn, Phase, Role};
use crate::lane::Lane;
use crate::worker::Worker;
use ahash::AHashMap;
use raddle_core::{Reason, Time};
use raddle_net::{Interest, Key, OutBuf, Slab};
use raddle_policy::link::PLAINTEXT;
use raddle_policy::{Backoff, HeartbeatPlan, Host, PeakEwma, Policy, Standing, Switch};
use raddle_telemetry::{ConnectError, HostCells};
use raddle_wire::bolt::Variant;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One connection in a host's pool.
#[derive(Clone, Copy, Debug)]
pub struct Pooled {
    /// The connection.
    pub key: Key,
    /// What it carries.
    pub lane: Lane,
    /// The caller it belongs to; [`Key::NONE`] = shared.
    pub owner: Key,
    /// Its handshake is done.
    pub ready: bool,
}

/// A worker's state of one host.
pub struct HostState {
    /// The host, shared with other workers.
    pub host: Arc<Host>,
    /// Connections that take or will take requests; retiring ones are no longer here.
    pub conns: Vec<Pooled>,
    /// Requests in flight from this worker.
    pub active: u32,
    /// Recent latency.
    pub ewma: PeakEwma,
    /// When to try again after failed connects.
    pub backoff: Backoff,
    /// No connect before this.
    pub down_until: Option<Time>,
    /// It answered that its app is not there: after `down_until` one request at a time tries it.
    pub on_trial: bool,
    /// That request is on its way.
    pub trying: bool,
    /// Why the last connect failed.
    pub last_error: Option<String>,
    /// What its last connection carried, to try it again without a request.
    pub lane: Lane,
    /// Its metrics.
    pub cells: Arc<HostCells>,
    /// The policy its last connection was made under, to try it again without a request.
    pub policy: Option<Arc<Policy>>,
    /// Services with requests that wait for a connection to it.
    pub waiting: Vec<Key>,
    /// Callers whose next request waits for a connection of their own to it.
    pub blocked: Vec<Key>,
    /// HTTP/1.1 connections without an exchange, the last used at the end.
    pub idle1: Vec<Key>,
    /// Exchanges that wait for a connection to it.
    pub http_waiting: std::collections::VecDeque<Key>,
    /// It is the local app, which is always spoken to in plaintext.
    pub inward: bool,
    /// What is known of TLS to it.
    pub link: Switch,
    /// Why TLS to it failed last.
    pub link_error: Option<String>,
}

impl HostState {
    /// What its connections are wanted to be.
    #[inline]
    pub fn wanted(&self) -> u64 {
        if self.inward { PLAINTEXT } else { self.host.transport_id() }
    }

    /// Whether a connection may carry requests, as far as its encryption goes.
    #[inline]
    pub(crate) fn usable(&self, conn: Key, conns: &Slab<Conn>) -> bool {
        conns.get(conn).is_some_and(|c| self.link.standing(c.transport, self.wanted()) != Standing::Wrong)
    }

    /// How many shared connections of a lane there are that are `transport`, and how many of them are being made.
    pub(crate) fn made(&self, conns: &Slab<Conn>, lane: Lane, transport: u64) -> (usize, usize) {
        let mine = self.conns.iter().filter(|p| p.lane == lane && p.owner == Key::NONE);
        mine.filter(|p| conns.get(p.key).is_some_and(|c| c.transport == transport))
            .fold((0, 0), |(n, c), p| (n + 1, c + usize::from(!p.ready)))
    }

    /// Whether somebody waits for a connection to it.
    pub fn is_awaited(&self) -> bool {
        !(self.waiting.is_empty() && self.blocked.is_empty() && self.http_waiting.is_empty())
    }
}

/// The hosts of a worker.
#[derive(Default)]
pub struct Hosts {
    slab: Slab<HostState>,
    /// Hosts that could not be connected to: tried again even if no request comes.
    down: Vec<Key>,
    /// When to look at them next.
    down_next: Option<Time>,
    by_addr: AHashMap<SocketAddr, Key>,
    /// Connections that are to be replaced or looked at again.
    pub(crate) turning: crate::turning::Turning,
}

impl Hosts {
    /// A host's state.
    #[inline]
    pub fn get(&self, key: Key) -> Option<&HostState> {
        self.slab.get(key)
    }

    /// A host's state, for change.
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut HostState> {
        self.slab.get_mut(key)
    }

    fn note_down(&mut self, host: Key, until: Option<Time>) {
        if !self.down.contains(&host) {
            self.down.push(host);
        }
        self.down_next = match (self.down_next, until) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    /// Keys of all hosts.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.slab.keys()
    }

    /// All hosts.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &HostState)> {
        self.slab.iter()
    }
}

/// A local app that cannot be reached is tried again after this long at most: it is mostly restarting, and
/// trying costs nothing on the same machine.
const LOCAL_APP_REST: Duration = Duration::from_millis(250);
/// A host whose sidecar says that its app is not there is tried again after this long at most: with one
/// request, which is sent elsewhere should it fail, so that waiting longer would only cost capacity.
const LONGEST_REST: Duration = Duration::from_millis(500);

impl Role {
    /// How it was accepted, if it is a caller's.
    pub(crate) fn accepted(&self) -> Option<&Accepted> {
        match self {
            Role::New(a) => Some(a),
            Role::Caller(c) => Some(&c.accepted),
            Role::Relay(r) => r.accepted.as_ref(),
            Role::Http(h) => h.accepted(),
            Role::Endpoint(_) => None,
        }
    }

    /// Whether it leads to an endpoint and cannot carry anything yet.
    pub fn connecting(&self) -> bool {
        match self {
            Role::Endpoint(e) => e.phase == Phase::Connecting,
            Role::Relay(r) => r.connecting,
            Role::Http(h) => h.connecting(),
            _ => false,
        }
    }
}

impl Conn {
    /// Whether its handshake, TLS's included, is still under way.
    pub fn connecting(&self) -> bool {
        self.role.connecting()
    }

    /// Whether TCP's handshake is still under way.
    pub fn dialling(&self) -> bool {
        self.tls.is_none() && self.role.connecting()
    }

    /// Whether it is the caller's end of a connection that was made with TLS.
    pub fn is_link(&self) -> bool {
        self.tls.as_ref().is_some_and(|t| t.link.is_some())
    }

    /// Whether it leads to an endpoint and has nothing to do: no request in flight, and no large frame passing either
    /// way. A large reply is claimed when it begins: while its bytes come, nothing need be in flight.
    pub fn is_idle_endpoint(&self) -> bool {
        matches!(&self.role, Role::Endpoint(e) if e.pending.live() == 0 && e.stream_from.is_none())
            && self.stream.is_none()
    }

    /// Whether it leads to an endpoint.
    pub fn is_endpoint(&self) -> bool {
        match &self.role {
            Role::Endpoint(_) => true,
            Role::Http(h) => h.is_upstream(),
            _ => false,
        }
    }
}

impl Worker {
    /// The worker's state of a host, made at first use.
    pub(crate) fn host_state(&mut self, host: &Arc<Host>) -> Key {
        let addr = host.addr;
        if let Some(&k) = self.hosts.by_addr.get(&addr) {
            if let Some(h) = self.hosts.slab.get_mut(k)
                && !Arc::ptr_eq(&h.host, host)
            {
                h.host = host.clone();
            }
            return k;
        }
        let now = self.now;
        let key = self.hosts.slab.insert(HostState {
            host: host.clone(),
            conns: Vec::new(),
            active: 0,
            ewma: PeakEwma::new(now),
            backoff: Backoff::default(),
            down_until: None,
            on_trial: false,
            trying: false,
            last_error: None,
            lane: Lane::Bolt(Variant::V1),
            cells: self.shard.host(addr),
            policy: None,
            waiting: Vec::new(),
            blocked: Vec::new(),
            idle1: Vec::new(),
            http_waiting: Default::default(),
            inward: false,
            link: Switch::default(),
            link_error: None,
        });
        self.hosts.by_addr.insert(addr, key);
        key
    }

    /// Starts to connect to a host as the policy of `service` says. False if it failed at once.
    pub(crate) fn open_for(&mut self, service: Key, host: Key, lane: Lane, owner: Key) -> bool {
        let Some(s) = self.services.get(service) else { return false };
        let policy = s.service.policy.clone();
        self.open(host, lane, owner, &policy)
    }

    /// Starts to connect to a host. False if it failed at once.
    pub(crate) fn open(&mut self, host: Key, lane: Lane, owner: Key, policy: &Arc<Policy>) -> bool {
        match self.dial(host) {
            Some(transport) => self.open_as(host, lane, owner, policy, transport),
            None => false,
        }
    }

    /// The same as what is said: a transport's id, or plaintext.
    pub(crate) fn open_as(
        &mut self,
        host: Key,
        lane: Lane,
        owner: Key,
        policy: &Arc<Policy>,
        transport: u64,
    ) -> bool {
        if matches!(lane, Lane::Http1 | Lane::Http2) {
            return self.open_http_as(host, lane, policy, transport);
        }
        let Some(h) = self.hosts.slab.get_mut(host) else { return false };
        let addr = h.host.addr;
        h.policy = Some(policy.clone());
        h.lane = lane;
        let policy = &policy.settings;
        let fd = match self.connect_out(addr, policy.timeouts.dead_peer) {
            Ok(fd) => fd,
            Err(e) => {
                self.connect_failed(host, &e);
                return false;
            }
        };
        let endpoint = crate::conn::Endpoint {
            host,
            lane,
            owner,
            phase: Phase::Connecting,
            since: self.now,
            pending: Default::default(),
            heartbeat: HeartbeatPlan::new(policy.timeouts.dead_peer, self.now),
            used_at: self.now,
            feeders: Vec::new(),
            stream_from: None,
            retire_by: Time::MAX,
            connect_timeout: policy.timeouts.connect,
            idle_timeout: policy.pool.idle_timeout,
            stalled_since: None,
        };
        let Some(key) = self.add_conn(fd, Interest::WRITE, Role::Endpoint(Box::new(endpoint))) else {
            return false;
        };
        self.arm(key, self.now + policy.timeouts.connect);
        if let Some(c) = self.conns.get_mut(key) {
            c.transport = transport;
        }
        if let Some(h) = self.hosts.slab.get_mut(host) {
            h.conns.push(Pooled { key, lane, owner, ready: false });
        }
        self.shard.upstream_opened.inc();
        true
    }

    /// Puts a socket under the worker's watch.
    pub(crate) fn add_conn(
        &mut self,
        fd: std::os::fd::OwnedFd,
        interest: Interest,
        role: Role,
    ) -> Option<Key> {
        let key = self.conns.insert(Conn {
            fd,
            out: OutBuf::default(),
            stash: Vec::new(),
            stream: None,
            interest,
            paused: Default::default(),
            dirty: false,
            timer_at: Time::MAX,
            read_at: self.now,
            wrote_at: self.now,
            frame_since: self.now,
            tls: None,
            transport: PLAINTEXT,
            row: crate::callers::Row::NONE,
            leaving: None,
            ends: false,
            lingers: false,
            role,
        });
        let conn = self.conns.get(key)?;
        if let Err(e) = self.poller.add(&conn.fd, key.to_u64(), interest) {
            tracing::warn!(error = %e, "cannot watch a connection");
            self.conns.remove(key);
            return None;
        }
        Some(key)
    }

    /// Notes a failed connect: back off, and let those that waited go elsewhere or be told.
    pub(crate) fn connect_failed(&mut self, host: Key, error: &std::io::Error) {
        let now = self.now;
        self.shard.upstream_failed[ConnectError::of(error)].inc();
        let local = !self.leads_out(host);
        let Some(h) = self.hosts.slab.get_mut(host) else { return };
        // One that connections only pass through to is judged by nobody but who calls it.
        let passing = !self.config.names_host(&h.host.addr);
        let longest = if local || passing { LOCAL_APP_REST } else { Duration::MAX };
        h.down_until = Some(h.backoff.failed(now, &mut self.rng).min(now + longest));
        h.last_error = Some(error.to_string());
        h.cells.failures.inc();
        let addr = h.host.addr;
        tracing::debug!(endpoint = %addr, %error, "connect failed");
        if passing {
            return self.release_waiting(host);
        }
        if h.host.set_reachable(false, now) {
            self.shared.warn("endpoint_unreachable", addr.to_string(), error.to_string());
        }
        let at = h.down_until;
        self.hosts.note_down(host, at);
        self.release_waiting(host);
        self.release_http_waiting(host);
    }

    /// A host answers that its app is not there: it gets no requests for a while, longer each time.
    pub(crate) fn rest_host(&mut self, host: Key, why: &str) {
        let now = self.now;
        let Some(h) = self.hosts.slab.get_mut(host) else { return };
        h.trying = false;
        if h.down_until.is_some_and(|t| t > now) {
            // One of several that were on their way when the first was answered.
            return;
        }
        h.on_trial = true;
        h.down_until = Some(h.backoff.failed(now, &mut self.rng).min(now + LONGEST_REST));
        h.last_error = Some(why.to_owned());
        let addr = h.host.addr;
        if h.host.set_reachable(false, now) {
            self.shared.warn("endpoint_unreachable", addr.to_string(), why);
        }
        let at = h.down_until;
        self.hosts.note_down(host, at);
    }

    /// A host runs requests: nothing speaks against it any more.
    #[inline]
    pub(crate) fn host_answers(&mut self, host: Key) {
        let now = self.now;
        if let Some(h) = self.hosts.slab.get_mut(host)
            && (h.down_until.is_some() || h.on_trial)
        {
            h.down_until = None;
            h.on_trial = false;
            h.trying = false;
            h.backoff.succeeded();
            h.last_error = None;
            h.host.set_reachable(true, now);
        }
    }

    /// Tries hosts again that could not be connected to; rules that turn away from them must learn of their
    /// return, and no request will tell.
    pub(crate) fn try_down_hosts(&mut self) {
        for key in std::mem::take(&mut self.hosts.down) {
            let Some(h) = self.hosts.slab.get(key) else { continue };
            if h.host.reachable() && h.down_until.is_none() {
                continue;
            }
            let due = h.down_until.is_none_or(|t| t <= self.now);
            if due && h.conns.iter().any(|p| p.ready) {
                // It can be connected to; only a request can tell whether its app is back.
                h.host.set_reachable(true, self.now);
                continue;
            }
            self.hosts.down.push(key);
            let named = self.config.names_host(&h.host.addr);
            if due
                && named
                && h.conns.is_empty()
                && let Some(policy) = h.policy.clone()
            {
                let lane = h.lane;
                self.open(key, lane, Key::NONE, &policy);
            }
        }
        // A connect under way needs no look until it ends, and then it is noted anew.
        let soon = self.now + Duration::from_millis(100);
        let until = |k: &Key| self.hosts.slab.get(*k).and_then(|h| h.down_until);
        self.hosts.down_next = self.hosts.down.iter().map(|k| until(k).map_or(soon, |t| t.max(soon))).min();
    }

    /// When [`Worker::try_down_hosts`] has something to do.
    pub(crate) fn next_down_host(&self) -> Option<Time> {
        self.hosts.down_next
    }

    /// Lets go on what waited for a connection to this host, whether there is one now or not.
    pub(crate) fn release_waiting(&mut self, host: Key) {
        let Some(h) = self.hosts.slab.get_mut(host) else { return };
        let services = std::mem::take(&mut h.waiting);
        let blocked = std::mem::take(&mut h.blocked);
        for s in services {
            if let Some(s) = self.services.get_mut(s) {
                self.requeue.extend(s.waiting.drain(..));
            }
        }
        for c in blocked {
            self.unpause(c, crate::conn::Paused::NO_CONNECTION);
        }
    }

    /// Lets those go on, to be told so, whose time is over while they wait for a connection to this host.
    /// Returns when the next one's is.
    pub(crate) fn release_overdue(&mut self, host: Key) -> Time {
        let mut next = Time::MAX;
        let Some(h) = self.hosts.slab.get(host) else { return next };
        for s in h.waiting.clone() {
            let Some(s) = self.services.get_mut(s) else { continue };
            for r in std::mem::take(&mut s.waiting) {
                if r.origin.deadline <= self.now {
                    self.requeue.push_back(r);
                } else {
                    next = next.min(r.origin.deadline);
                    s.waiting.push_back(r);
                }
            }
        }
        next
    }

    /// A host can be connected to, and this connection takes requests.
    pub(crate) fn host_established(&mut self, host: Key, conn: Key) {
        let now = self.now;
        let Some(h) = self.hosts.slab.get_mut(host) else { return };
        h.backoff.succeeded();
        h.host.set_reachable(true, now);
        h.down_until = None;
        h.last_error = None;
        if let Some(p) = h.conns.iter_mut().find(|p| p.key == conn) {
            p.ready = true;
        }
        h.cells.connections.set(h.conns.iter().filter(|p| p.ready).count() as i64);
    }

    /// Takes a connection out of its host's pool.
    pub(crate) fn unpool(&mut self, host: Key, conn: Key) {
        if let Some(h) = self.hosts.slab.get_mut(host) {
            h.conns.retain(|p| p.key != conn);
        }
    }

    /// Retires connections to hosts that the configuration names no more, and forgets hosts without any.
    pub(crate) fn prune_hosts(&mut self) {
        let config = self.config.clone();
        let gone: Vec<Key> = self
            .hosts
            .slab
            .iter()
            .filter(|(_, h)| !config.names_host(&h.host.addr) && !self.destinations.has(h.host.addr))
            .map(|(k, _)| k)
            .collect();
        for k in gone {
            let Some(h) = self.hosts.slab.get(k) else { continue };
            let conns: Vec<Key> = h.conns.iter().map(|p| p.key).collect();
            let (addr, idle) = (h.host.addr, h.active == 0 && !h.is_awaited());
            for c in conns {
                self.retire(c, "endpoint removed");
            }
            let empty = self.hosts.slab.get(k).is_some_and(|h| h.conns.is_empty());
            if empty && idle && !self.hosts_in_use(k) {
                self.hosts.slab.remove(k);
                self.hosts.by_addr.remove(&addr);
            }
        }
    }

    fn hosts_in_use(&self, host: Key) -> bool {
        self.conns.iter().any(|(_, c)| match &c.role {
            Role::Endpoint(e) => e.host == host,
            Role::Relay(r) => r.host == host,
            Role::Http(h) => h.host() == Some(host),
            _ => false,
        })
    }

    /// A request to a host is over: its account.
    pub(crate) fn host_done(&mut self, host: Key, latency: Option<Duration>, failed: bool) {
        let now = self.now;
        if let Some(h) = self.hosts.slab.get_mut(host) {
            h.active = h.active.saturating_sub(1);
            // Lost, timed out or answered: the next request may try.
            h.trying = false;
            h.cells.active.set(i64::from(h.active));
            h.cells.requests.inc();
            if failed {
                h.cells.failures.inc();
            }
            if let Some(l) = latency {
                h.ewma.observe(l, now);
            }
        }
    }

    /// Closes what a caller that is gone had for itself.
    pub(crate) fn retire_private(&mut self, caller: Key) {
        let own: Vec<Key> = self
            .hosts
            .slab
            .iter()
            .flat_map(|(_, h)| h.conns.iter().filter(|p| p.owner == caller).map(|p| p.key))
            .collect();
        for k in own {
            self.retire(k, "its caller is gone");
        }
    }

    /// Answers every live request of a connection that is gone.
    pub(crate) fn fail_in_flight(&mut self, e: crate::conn::Endpoint, out: &OutBuf, why: Reason) {
        let mut e = e;
        for r in e.pending.drain() {
            self.lost(e.host, r, out, why);
        }
    }
}
