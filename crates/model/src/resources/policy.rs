//! `kind: TrafficPolicy`: how callers treat a service.
use super::{Metadata, Rollout, Scope, Target};
use serde::Serialize;
use std::time::Duration;

/// `kind: TrafficPolicy`: how callers treat a service.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// Name of the rule.
    pub metadata: Metadata,
    /// Which sidecars.
    pub scope: Scope,
    /// How a change of it spreads; absent = at once. Means something to a control plane alone.
    pub rollout: Option<Rollout>,
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
    /// Most HTTP/2 streams open at once on a connection to an endpoint.
    pub max_streams: u32,
    /// Most HTTP/1.1 connections to an endpoint, per worker: each carries one request at a time.
    pub http1_connections: u16,
}

impl Default for Pool {
    fn default() -> Pool {
        Pool {
            connections: 1,
            max_connections: 4,
            max_outstanding: 0,
            max_pending: 1024,
            idle_timeout: None,
            max_streams: 100,
            http1_connections: 256,
        }
    }
}

/// Time bounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// To establish a connection.
    pub connect: Duration,
    /// For a whole request; if it carries a timeout of its own (a Bolt or Dubbo frame's, gRPC's
    /// `grpc-timeout`), the shorter holds. Absent = its own; where it has none, 60 s for Bolt and Dubbo and no
    /// bound for HTTP and gRPC, whose exchanges may be streams.
    pub request: Option<Duration>,
    /// An HTTP or gRPC exchange in which no byte moved either way for this long is ended with `UT`.
    pub stream_idle: Duration,
    /// Unacknowledged bytes or unanswered probes make a peer dead after this long.
    pub dead_peer: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(1),
            request: None,
            stream_idle: Duration::from_mins(5),
            dead_peer: Duration::from_secs(5),
        }
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
    /// Methods that may be repeated after they may have run (for `connectionLost`, `timeout`, `serverError`);
    /// empty = none, but that HTTP's GET, HEAD, OPTIONS and TRACE always may.
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
    /// The endpoint answered with HTTP 502, 503 or 504, or gRPC `UNAVAILABLE`; only for idempotent methods.
    ServerError,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckKind {
    /// A connection can be made.
    Tcp,
    /// A Bolt heartbeat is answered.
    Bolt,
    /// A Dubbo heartbeat is answered.
    Dubbo,
    /// A GET over HTTP/1.1 is answered with a status of 200 to 399.
    Http {
        /// What is asked for, query included.
        path: String,
    },
    /// The gRPC health service (`grpc.health.v1.Health/Check`) answers `SERVING`.
    Grpc {
        /// The service asked about; empty = the server as a whole.
        service: String,
    },
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
