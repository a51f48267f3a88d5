//! The resource kinds a static sidecar reads, as plain typed values.
//!
//! Everything here has been validated: a value that exists is a value that can run. The YAML behind it is
//! described field by field where it is decoded.
use raddle_core::Protocol;
use regex::Regex;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Labels of an instance or resource.
pub type Labels = BTreeMap<String, String>;

/// Where a resource was read from, for messages (`shop.yaml:12:3`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// Path of the file as it was named.
    pub file: String,
    /// 1-based line of the document's first key.
    pub line: u32,
    /// 1-based column.
    pub column: u32,
}

/// All resources of one static configuration.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// The one sidecar document, if present.
    pub sidecar: Option<Sidecar>,
    /// Services, in file order; names are unique.
    pub services: Vec<Service>,
    /// Traffic policies, in file order; names are unique.
    pub policies: Vec<TrafficPolicy>,
    /// Routes, in file order; names are unique.
    pub routes: Vec<Route>,
}

/// `metadata` of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// Unique among resources of its kind.
    pub name: String,
    /// Free labels.
    pub labels: Labels,
    /// Where it was read.
    #[serde(skip)]
    pub origin: Origin,
    /// Hash of the resource's decoded content: equal between two loads = unchanged, wherever it stands in its
    /// file. Filled by [`load`](crate::load()); means nothing across versions of Raddle.
    #[serde(skip)]
    pub fingerprint: u64,
}

/// `kind: Sidecar`: this process.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sidecar {
    /// Name of this instance.
    pub metadata: Metadata,
    /// The application beside the sidecar.
    pub app: String,
    /// Deployment unit; requests prefer endpoints of the same unit.
    pub unit: Option<String>,
    /// Group of this instance; `default` when not given.
    pub group: String,
    /// Labels of this instance.
    pub labels: Labels,
    /// Worker threads; absent = 2, or the cores if fewer.
    pub workers: Option<u16>,
    /// Admin address; absent = none.
    pub admin: Option<SocketAddr>,
    /// Listeners for requests to the local app.
    pub inbound: Vec<InboundListener>,
    /// Listeners for requests of the local app.
    pub outbound: Vec<OutboundListener>,
    /// Bounds that protect the sidecar.
    pub limits: Limits,
    /// How the sidecar says its own rejections to the local app.
    pub replies: Replies,
    /// How a shutdown proceeds.
    pub drain: Drain,
    /// Access log.
    pub access_log: AccessLog,
}

/// One inbound listener.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InboundListener {
    /// Address to accept on.
    pub listen: SocketAddr,
    /// The local app's address.
    pub forward: SocketAddr,
    /// Declared protocol; absent = detected from the first bytes.
    #[serde(serialize_with = "protocol")]
    pub protocol: Option<Protocol>,
}

/// One outbound listener.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutboundListener {
    /// Address to accept on.
    pub listen: SocketAddr,
    /// Declared protocol; absent = detected from the first bytes.
    #[serde(serialize_with = "protocol")]
    pub protocol: Option<Protocol>,
    /// Service for bytes that name none (TCP).
    pub service: Option<String>,
}

/// Bounds of the sidecar.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Largest frame accepted, bytes.
    pub max_frame: u32,
    /// Largest header (class name and header map) accepted, bytes.
    pub max_header: u32,
    /// Bytes waiting to be written to one peer before its producers are held back.
    pub buffer_soft: u32,
    /// Bytes waiting for one slow caller before it is reset.
    pub buffer_hard: u32,
    /// Most accepted connections at once; 0 = as many as the OS gives.
    pub max_connections: u32,
    /// How long the first bytes of a connection are awaited before it is treated as TCP.
    pub detect_timeout: Duration,
    /// How long a frame that has begun may take to arrive whole.
    pub frame_timeout: Duration,
    /// A caller's connection with nothing in flight is closed after this long without a byte.
    pub idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_frame: 64 << 20,
            max_header: 64 << 10,
            buffer_soft: 256 << 10,
            buffer_hard: 16 << 20,
            max_connections: 0,
            detect_timeout: Duration::from_millis(100),
            frame_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_mins(10),
        }
    }
}

/// How the sidecar says its own rejections to the local app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Replies {
    /// By the protocol's own status for the reason. Clients map it to the exception they know for it; Java
    /// clients do not read the text that goes with it.
    #[default]
    Status,
    /// In the form whose text the client shows to its user, where the request tells which client it is.
    Readable,
}

/// How a shutdown proceeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// Longest wait for requests in flight.
    pub timeout: Duration,
}

impl Default for Drain {
    fn default() -> Drain {
        Drain { timeout: Duration::from_secs(30) }
    }
}

/// Access log settings.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessLog {
    /// File to append to, `stdout`, or absent = off.
    pub path: Option<String>,
    /// Line format.
    pub format: LogFormat,
    /// Share of successful requests logged, 0..=1; failures always are.
    pub sample: f64,
}

impl Default for AccessLog {
    fn default() -> AccessLog {
        AccessLog { path: None, format: LogFormat::Text, sample: 0.01 }
    }
}

/// Format of access-log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line of `key=value`-like columns.
    Text,
    /// One JSON object a line.
    Json,
}

/// `kind: Service`: something an app publishes.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// `metadata.name` is the name requests carry (`interface:version[:group]`).
    pub metadata: Metadata,
    /// The application that publishes it.
    pub app: String,
    /// Protocol of its endpoints; absent = the request's.
    #[serde(serialize_with = "protocol")]
    pub protocol: Option<Protocol>,
    /// Instances; may be empty.
    pub endpoints: Vec<Endpoint>,
}

/// One instance of a service.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// ip:port.
    pub address: SocketAddr,
    /// Deployment unit.
    pub unit: Option<String>,
    /// Group; `default` when not given. Other groups get traffic only by a rule.
    pub group: String,
    /// Share among its peers, 0..=10000; 0 = none at all.
    pub weight: u32,
    /// Labels such as `version`.
    pub labels: Labels,
}

/// Which sidecars a rule reaches; every given part must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Scope {
    /// Apps; empty = all.
    pub apps: Vec<String>,
    /// Units; empty = all.
    pub units: Vec<String>,
    /// Groups; empty = all.
    pub groups: Vec<String>,
    /// Labels that must all be equal.
    pub labels: Labels,
}

/// What a rule is about on the callee side; every given part must hold, all empty = everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// The callee's app.
    pub app: Option<String>,
    /// Service names.
    pub services: Vec<String>,
    /// Methods.
    pub methods: Vec<String>,
}

/// `kind: TrafficPolicy`: how callers treat a service.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// Name of the rule.
    pub metadata: Metadata,
    /// Which sidecars.
    pub scope: Scope,
    /// Which services (methods are not allowed here).
    pub to: Target,
    /// How it is done.
    #[serde(flatten)]
    pub settings: PolicySettings,
}

/// Settings of a `TrafficPolicy`; the default is what a service without one gets.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicySettings {
    /// How an endpoint is picked.
    pub balancer: Balancer,
    /// Preference for endpoints of the caller's unit.
    pub unit_affinity: UnitAffinity,
    /// Connections and bounds.
    pub pool: Pool,
    /// Time bounds.
    pub timeouts: Timeouts,
    /// Retries; absent = none.
    pub retry: Option<Retry>,
    /// Active health check; absent = none.
    pub health_check: Option<HealthCheck>,
    /// Ramp for endpoints that are new or back; absent = full weight at once.
    pub slow_start: Option<SlowStart>,
    /// Below this share (0..=1) of healthy endpoints, health is ignored (all are used).
    pub panic_threshold: f64,
}

impl Default for PolicySettings {
    fn default() -> PolicySettings {
        PolicySettings {
            balancer: Balancer::P2cEwma,
            unit_affinity: UnitAffinity::Prefer,
            pool: Pool::default(),
            timeouts: Timeouts::default(),
            retry: None,
            health_check: None,
            slow_start: None,
            panic_threshold: 0.3,
        }
    }
}

/// How an endpoint is picked among those that may take a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Balancer {
    /// In turn; exact by weight.
    RoundRobin,
    /// Two at random, the one with the lower expected latency (peak EWMA × in flight ÷ weight).
    P2cEwma,
    /// Two at random, the one with fewer requests in flight ÷ weight.
    LeastRequest,
    /// At random by weight.
    Random,
    /// By consistent hash of a request attribute.
    ConsistentHash {
        /// What is hashed.
        on: HashOn,
    },
}

/// A request attribute to hash.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum HashOn {
    /// Value of a header.
    Header(String),
    /// Method name.
    Method,
    /// The caller's address (without port).
    CallerIp,
}

/// Preference for endpoints of the caller's own unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum UnitAffinity {
    /// Own unit while it has a healthy endpoint, else any.
    Prefer,
    /// Own unit only.
    Require,
    /// All units alike.
    None,
}

/// Connections to endpoints and bounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    /// Connections kept to an endpoint, per worker.
    pub connections: u16,
    /// Most connections to an endpoint, per worker, when a queue builds.
    pub max_connections: u16,
    /// Most requests outstanding to the service from this sidecar; 0 = unbounded.
    pub max_outstanding: u32,
    /// Most requests that wait for a connection, per worker.
    pub max_pending: u32,
    /// A connection with nothing in flight is closed after this long without a request; absent = never.
    pub idle_timeout: Option<Duration>,
}

impl Default for Pool {
    fn default() -> Pool {
        Pool { connections: 1, max_connections: 4, max_outstanding: 0, max_pending: 1024, idle_timeout: None }
    }
}

/// Time bounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// To establish a connection.
    pub connect: Duration,
    /// For a request whose frame carries no timeout of its own; the shorter of both holds. Absent = the
    /// frame's own, or 60 s where it has none.
    pub request: Option<Duration>,
    /// Unacknowledged bytes or unanswered probes make a peer dead after this long.
    pub dead_peer: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts { connect: Duration::from_secs(1), request: None, dead_peer: Duration::from_secs(5) }
    }
}

/// When a request is sent again.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Tries after the first, 1..=10.
    pub attempts: u8,
    /// Which failures are retried.
    pub on: Vec<RetryOn>,
    /// Bound of one try; absent = what is left of the request's time.
    pub per_try_timeout: Option<Duration>,
    /// Retries allowed as a share of requests, 0..=1.
    pub budget: f64,
    /// Retries per second allowed whatever the share.
    pub budget_min_per_second: u32,
    /// Methods that may be repeated after they may have run; empty = none (for `connectionLost`, `timeout`).
    pub idempotent_methods: Vec<String>,
}

/// A failure that may be retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RetryOn {
    /// The endpoint answered that it is too busy and did not run it (Bolt status 4).
    Overloaded,
    /// No connection could be made.
    ConnectFailure,
    /// Connection lost with the request in flight; only for idempotent methods.
    ConnectionLost,
    /// A try timed out; only for idempotent methods.
    Timeout,
}

/// Active health check of every endpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// How it is asked.
    pub kind: CheckKind,
    /// Time between checks.
    pub interval: Duration,
    /// Bound of one check.
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy.
    pub unhealthy_after: u8,
    /// Successes in a row that make it healthy.
    pub healthy_after: u8,
}

/// Kinds of active health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckKind {
    /// A connection can be made.
    Tcp,
    /// A Bolt heartbeat is answered.
    Bolt,
}

/// Ramp of an endpoint's weight.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SlowStart {
    /// Length of the ramp.
    pub window: Duration,
    /// Weight at its start as a share of the full one, 0..=1.
    pub floor: f64,
}

/// `kind: Route`: which requests go where.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Name of the rule.
    pub metadata: Metadata,
    /// Which sidecars.
    pub scope: Scope,
    /// Which callee.
    pub to: Target,
    /// Tried in order.
    pub rules: Vec<RouteRule>,
}

/// One rule of a route.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteRule {
    /// Name within the route; its 0-based index when not given.
    pub name: Option<String>,
    /// Which requests; all conditions must hold; empty = all.
    pub when: Vec<Condition>,
    /// Share of the matching requests, in millionths; 1_000_000 = all.
    pub percent_ppm: u32,
    /// Stable choice of that share by this attribute; absent = exact counting.
    pub hash_on: Option<HashOn>,
    /// Where to; several = by weight. Empty = the default destination.
    pub send: Vec<Destination>,
    /// What if the destination has no usable endpoint.
    pub if_empty: IfEmpty,
    /// Bound for the request, over the policy's.
    pub timeout: Option<Duration>,
    /// Retries, over the policy's.
    pub retry: Option<Retry>,
}

/// One condition on a request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What is looked at.
    pub subject: Subject,
    /// What it must be.
    pub matcher: Matcher,
}

/// What a condition looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Subject {
    /// A header of the request.
    Header(String),
    /// The method name.
    Method,
    /// The service name.
    Service,
    /// The caller's app (as the request says it).
    CallerApp,
    /// Whether the request carries the load-test mark; matched against `true` or `false`.
    LoadTest,
}

/// What a subject must be.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Matcher {
    /// Equal.
    Equals(String),
    /// Not equal; an absent subject is not equal.
    NotEquals(String),
    /// One of.
    In(Vec<String>),
    /// None of; an absent subject is none of them.
    NotIn(Vec<String>),
    /// Begins with.
    Prefix(String),
    /// The whole value matches. The expression is as the user wrote it: whoever matches anchors it.
    Regex(#[serde(serialize_with = "regex_text")] Regex),
    /// An integer within inclusive bounds.
    Range {
        /// Lower bound, inclusive.
        min: i64,
        /// Upper bound, inclusive.
        max: i64,
    },
    /// Present (true) or absent (false).
    Exists(bool),
}

/// A set of endpoints, and its share.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// Group; `same` = the sidecar's own. Absent = `default`.
    pub group: Option<String>,
    /// Unit; `same` = the sidecar's own. Absent = by unit affinity.
    pub unit: Option<String>,
    /// Labels the endpoint must carry.
    pub labels: Labels,
    /// Share among the destinations of the rule; 0 gets exactly nothing.
    pub weight: u32,
    /// Fewer usable endpoints than this count as none.
    pub min_healthy: u32,
}

/// What happens if a destination has no usable endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum IfEmpty {
    /// The next rule is tried.
    Next,
    /// The request fails with `UH`.
    Fail,
    /// Any endpoint of the service takes it.
    Any,
}

// The signature is serde's.
#[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref)]
fn protocol<S: serde::Serializer>(p: &Option<Protocol>, s: S) -> Result<S::Ok, S::Error> {
    match p {
        Some(p) => s.serialize_str(p.name()),
        None => s.serialize_none(),
    }
}

fn regex_text<S: serde::Serializer>(r: &Regex, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(r.as_str())
}
