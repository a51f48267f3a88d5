//! Resources, requests and pools made by hand for the tests.
#![allow(dead_code, unreachable_pub)]
use raddle_model::{
    Condition, Destination, Endpoint, IfEmpty, Matcher, Metadata, PolicySettings, Resources, Route,
    RouteRule, Scope, Service, Sidecar, Subject, Target, TrafficPolicy,
};
use raddle_policy::{
    Attributes, BalanceState, Decision, Load, Picked, Readiness, Rng, RouteState, Snapshot, Subset,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub fn addr(i: u32) -> SocketAddr {
    let [_, a, b, c] = i.to_be_bytes();
    SocketAddr::from(([10, a, b, c], 12200))
}

pub fn endpoint(i: u32, group: &str, unit: Option<&str>, weight: u32) -> Endpoint {
    let labels = BTreeMap::from([("version".to_owned(), format!("v{}", i % 3))]);
    Endpoint {
        address: addr(i),
        unit: unit.map(str::to_owned),
        group: group.into(),
        weight,
        labels,
        tls: None,
    }
}

pub fn named(name: &str) -> Metadata {
    Metadata { name: name.into(), ..Metadata::default() }
}

pub fn service(name: &str, endpoints: Vec<Endpoint>) -> Service {
    Service { metadata: named(name), app: "order".into(), protocol: None, hosts: Vec::new(), endpoints }
}

/// Endpoints of group `default` with these weights, no unit.
pub fn weighted(weights: &[u32]) -> Vec<Endpoint> {
    weights.iter().zip(0..).map(|(&w, i)| endpoint(i, "default", None, w)).collect()
}

pub fn sidecar(app: &str, unit: Option<&str>, group: &str) -> Sidecar {
    Sidecar {
        metadata: named("me"),
        app: app.into(),
        unit: unit.map(str::to_owned),
        group: group.into(),
        version: None,
        labels: BTreeMap::new(),
        address: None,
        workers: None,
        admin: None,
        inbound: Vec::new(),
        outbound: Vec::new(),
        limits: raddle_model::Limits::default(),
        drain: raddle_model::Drain::default(),
        replies: raddle_model::Replies::default(),
        access_log: raddle_model::AccessLog::default(),
        control_plane: None,
        publish: None,
        local_mesh: None,
        identity: None,
    }
}

pub fn rule() -> RouteRule {
    RouteRule {
        name: None,
        when: Vec::new(),
        percent_ppm: 1_000_000,
        hash_on: None,
        send: Vec::new(),
        if_empty: IfEmpty::Next,
        timeout: None,
        retry: None,
        actions: raddle_model::Actions::default(),
    }
}

pub fn to_group(group: &str) -> Vec<Destination> {
    vec![destination(group, 1)]
}

pub fn destination(group: &str, weight: u32) -> Destination {
    Destination { group: Some(group.into()), weight, ..Destination::default() }
}

pub fn header_is(name: &str, value: &str) -> Condition {
    Condition { subject: Subject::Header(name.into()), matcher: Matcher::Equals(value.into()) }
}

pub fn route(name: &str, rules: Vec<RouteRule>) -> Route {
    Route { metadata: named(name), scope: Scope::default(), rollout: None, to: Target::default(), rules }
}

pub fn policy(name: &str, settings: PolicySettings) -> TrafficPolicy {
    TrafficPolicy {
        metadata: named(name),
        scope: Scope::default(),
        rollout: None,
        to: Target::default(),
        settings,
    }
}

/// A snapshot of one service called `s`.
pub fn snapshot(endpoints: Vec<Endpoint>, routes: Vec<Route>, settings: PolicySettings) -> Snapshot {
    Snapshot::compile(resources(endpoints, routes, settings), None)
}

pub fn resources(endpoints: Vec<Endpoint>, routes: Vec<Route>, settings: PolicySettings) -> Resources {
    Resources {
        sidecar: Some(sidecar("gateway", Some("u1"), "default")),
        services: vec![service("s", endpoints)],
        policies: vec![policy("p", settings)],
        routes,
        ..Resources::default()
    }
}

pub fn only(snapshot: &Snapshot) -> &Arc<raddle_policy::Service> {
    snapshot.service(b"s").expect("the one service")
}

/// A request.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: Option<String>,
    pub headers: BTreeMap<String, String>,
    pub caller_app: Option<String>,
    pub caller_ip: Option<IpAddr>,
    pub load_test: bool,
    pub path: Option<String>,
    pub authority: Option<String>,
    pub query: BTreeMap<String, String>,
}

pub fn request(headers: &[(&str, &str)]) -> Request {
    let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Request { headers, ..Request::default() }
}

impl Attributes for Request {
    fn service(&self) -> &[u8] {
        b"s"
    }

    fn method(&self) -> Option<&[u8]> {
        self.method.as_deref().map(str::as_bytes)
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name).map(String::as_bytes)
    }

    fn caller_app(&self) -> Option<&[u8]> {
        self.caller_app.as_deref().map(str::as_bytes)
    }

    fn caller_ip(&self) -> Option<IpAddr> {
        self.caller_ip
    }

    fn load_test(&self) -> bool {
        self.load_test
    }

    fn path(&self) -> Option<&[u8]> {
        self.path.as_deref().map(str::as_bytes)
    }

    fn authority(&self) -> Option<&[u8]> {
        self.authority.as_deref().map(str::as_bytes)
    }

    fn query(&self, name: &str) -> Option<&[u8]> {
        self.query.get(name).map(String::as_bytes)
    }
}

/// What was decided, comparable: the group of the members (`+` joined, or the reject flag) and the rule.
pub fn decide(
    service: &raddle_policy::Service,
    req: &Request,
    state: &mut RouteState,
    rng: &mut Rng,
) -> (String, String) {
    match service.route(req, state, rng) {
        Decision::Send { subset, rule, .. } => {
            let mut groups: Vec<&str> =
                subset.members.iter().map(|&i| &*service.endpoints[i as usize].group).collect();
            groups.sort_unstable();
            groups.dedup();
            (groups.join("+"), rule.map_or_else(|| "-".into(), ToString::to_string))
        }
        Decision::Answer { rule, answer } => (answer.status().to_string(), rule.to_string()),
        Decision::Reject { reason, rule } => {
            (reason.flag().to_owned(), rule.map_or_else(|| "-".into(), ToString::to_string))
        }
    }
}

pub fn decide_once(service: &raddle_policy::Service, req: &Request) -> (String, String) {
    decide(service, req, &mut RouteState::default(), &mut Rng::new(1))
}

/// A pool in which everything is ready and idle unless said otherwise.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    pub ready: BTreeMap<u32, Readiness>,
    pub otherwise: Option<Readiness>,
    pub active: Vec<u32>,
    pub ewma: Vec<f64>,
}

impl Load for Pool {
    fn ready(&self, i: u32) -> Readiness {
        self.ready.get(&i).copied().or(self.otherwise).unwrap_or(Readiness::Ready)
    }

    fn active(&self, i: u32) -> u32 {
        self.active.get(i as usize).copied().unwrap_or(0)
    }

    fn ewma_ns(&self, i: u32) -> f64 {
        self.ewma.get(i as usize).copied().unwrap_or(1e6)
    }
}

/// One worker that picks endpoints of the default destination.
pub struct Worker {
    pub snapshot: Snapshot,
    pub state: BalanceState,
    pub rng: Rng,
    pub pool: Pool,
    pub now: raddle_core::Time,
}

impl Worker {
    pub fn new(endpoints: Vec<Endpoint>, settings: PolicySettings) -> Worker {
        Worker {
            snapshot: snapshot(endpoints, Vec::new(), settings),
            state: BalanceState::new(),
            rng: Rng::new(42),
            pool: Pool::default(),
            now: raddle_core::Time::ZERO,
        }
    }

    pub fn service(&self) -> Arc<raddle_policy::Service> {
        only(&self.snapshot).clone()
    }

    pub fn pick_with(&mut self, key: Option<u64>, avoid: Option<u32>) -> Option<Picked> {
        let service = only(&self.snapshot);
        let subset: &Subset = service.default_subset();
        raddle_policy::pick(subset, service, &mut self.state, &self.pool, key, self.now, &mut self.rng, avoid)
    }

    pub fn pick(&mut self) -> u32 {
        self.pick_with(None, None).expect("a candidate").index
    }

    pub fn counts(&mut self, n: u32) -> Vec<u32> {
        let mut counts = vec![0; self.service().endpoints.len()];
        for _ in 0..n {
            counts[self.pick() as usize] += 1;
        }
        counts
    }
}
