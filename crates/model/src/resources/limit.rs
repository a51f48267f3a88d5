//! `kind: AdaptiveLimit`, `RateLimit` and `CircuitBreaker`: what holds requests back.
use super::{Condition, Metadata, Rollout, RuleMode, Scope};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// `kind: AdaptiveLimit`: the one rule an app needs against what it was not made for.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AdaptiveLimit {
    /// Name of the rule.
    pub metadata: Metadata,
    /// Which sidecars: those of the callees.
    pub scope: Scope,
    /// How a change of it spreads; absent = at once. Means something to a control plane alone.
    pub rollout: Option<Rollout>,
    /// What holds for the inbound side.
    #[serde(flatten)]
    pub settings: AdaptiveSettings,
}

/// How the app beside the sidecar is protected.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AdaptiveSettings {
    /// Whether it is carried out or only counted.
    pub mode: RuleMode,
    /// Share of the app's cores above which they are short (the controller's theta).
    pub threshold: f64,
    /// Share of the app's memory bound above which memory is short.
    pub memory_threshold: f64,
    /// What is told apart.
    pub by: InterfaceBy,
    /// Interfaces told apart at most; those that come later share one place.
    pub max_interfaces: u32,
    /// Where the app's load is read.
    pub signal: LoadSignal,
    /// Cores the app has; absent = as the signal says.
    pub cores: Option<f64>,
    /// Header of replies in which the app says what CPU time the request took, in microseconds.
    pub cost_header: Option<String>,
    /// What marks load-test traffic, which is held first.
    pub load_test: LoadTestMark,
    /// Who goes first when everything is too much: the first whose conditions hold; else [`Priority::Normal`].
    pub priorities: Vec<PriorityRule>,
}

/// The mark of load-test traffic: a header (Dubbo: attachment; gRPC: metadata) and its values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadTestMark {
    /// Name of the header.
    pub header: String,
    /// Any of these marks.
    pub values: Vec<String>,
}

impl Default for LoadTestMark {
    /// SOFA's.
    fn default() -> LoadTestMark {
        LoadTestMark { header: "shadowTest".into(), values: vec!["T".into()] }
    }
}

impl Default for AdaptiveSettings {
    fn default() -> AdaptiveSettings {
        AdaptiveSettings {
            mode: RuleMode::Enforce,
            threshold: 0.8,
            memory_threshold: 0.95,
            by: InterfaceBy::Method,
            max_interfaces: 2000,
            signal: LoadSignal::Auto,
            cores: None,
            cost_header: None,
            load_test: LoadTestMark::default(),
            priorities: Vec::new(),
        }
    }
}

/// What adaptive limiting takes for one interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InterfaceBy {
    /// Service and method; HTTP: method and path, where parts that look like ids are taken for one another.
    #[default]
    Method,
    /// The service; HTTP: the host.
    Service,
}

/// Where the load of the app beside the sidecar is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum LoadSignal {
    /// The cgroup of the process that has the app's port; else the process itself; else [`LoadSignal::Latency`].
    #[default]
    Auto,
    /// A cgroup's folder, version 1 or 2.
    Cgroup(PathBuf),
    /// A file with the app's process id.
    PidFile(PathBuf),
    /// A URL of the app that answers `{"cpu": SHARE, "memory": SHARE}`.
    Http(String),
    /// Nothing is read: the app's latency alone says whether it is short of something.
    Latency,
}

/// A class of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
#[repr(u8)]
pub enum Priority {
    /// Marked as load test: held first.
    LoadTest,
    /// Nobody waits for it.
    Batch,
    /// What is not said to be anything else.
    #[default]
    Normal,
    /// Held last, and never whole.
    Critical,
}

/// Which requests are of a class.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PriorityRule {
    /// All must hold; empty = every request.
    pub when: Vec<Condition>,
    /// Their class.
    pub priority: Priority,
}

/// `kind: RateLimit`: a bound somebody wrote down.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Name of the rule.
    pub metadata: Metadata,
    /// Which sidecars.
    pub scope: Scope,
    /// How a change of it spreads; absent = at once. Means something to a control plane alone.
    pub rollout: Option<Rollout>,
    /// Which way the requests go.
    pub side: Side,
    /// Whether it is carried out or only counted.
    pub mode: RuleMode,
    /// Which requests it counts: all conditions must hold; empty = all.
    pub when: Vec<Condition>,
    /// How many.
    pub bound: Bound,
    /// Counted for each value of this by itself; absent = all together.
    pub key: Option<LimitKey>,
}

/// Which way requests go, seen from the app beside the sidecar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// To the app.
    #[default]
    Inbound,
    /// From the app.
    Outbound,
}

/// How many requests may pass.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Bound {
    /// So many in a time.
    Rate(Rate),
    /// So many at the same time.
    Concurrency(u32),
}

/// So many requests in a time.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// Requests a second; 0 = none.
    pub per_second: f64,
    /// Requests that may come at once after a pause.
    pub burst: u32,
    /// Requests that come too early wait, at most this long, such that they leave evenly; absent = they are refused.
    pub max_wait: Option<Duration>,
    /// Time in which the rate rises from a third to the whole, after a pause; absent = it is whole at once.
    pub warm_up: Option<Duration>,
    /// Who counts.
    pub reach: Reach,
}

/// Who counts requests against a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// Each sidecar for itself.
    #[default]
    Local,
    /// All sidecars that have the rule together, by the control plane's quota server.
    Cluster,
}

/// Counting by value: a bound for each of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitKey {
    /// What is looked at; requests without it are not counted.
    pub by: KeyBy,
    /// Values kept at the same time; the rarest give way to others.
    pub most: u32,
    /// Values with a bound of their own: requests a second, or requests at the same time.
    pub overrides: BTreeMap<String, f64>,
}

/// A parameter of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum KeyBy {
    /// A header (Dubbo: attachment; gRPC: metadata).
    Header(String),
    /// A parameter of an HTTP request's query.
    Query(String),
    /// A part of an HTTP request's path, counted from 0.
    PathPart(u8),
    /// The caller's app.
    CallerApp,
    /// The caller's address.
    CallerIp,
    /// The method.
    Method,
}

/// `kind: CircuitBreaker`: when a callee is not called for a while.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CircuitBreaker {
    /// Name of the rule.
    pub metadata: Metadata,
    /// Which sidecars: those of the callers.
    pub scope: Scope,
    /// How a change of it spreads; absent = at once. Means something to a control plane alone.
    pub rollout: Option<Rollout>,
    /// Whether it is carried out or only counted.
    pub mode: RuleMode,
    /// Which requests it counts and holds: all conditions must hold; empty = all.
    pub when: Vec<Condition>,
    /// What is opened.
    pub settings: BreakerSettings,
}

/// When a breaker opens and closes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BreakerSettings {
    /// What has a breaker of its own.
    pub per: BreakerPer,
    /// Said by hand: it stays so; absent = it is decided.
    pub forced: Option<Forced>,
    /// Share of failed calls that opens it; absent = failures' share does not.
    pub error_ratio: Option<f64>,
    /// Share of slow calls that opens it; absent = slowness does not.
    pub slow_ratio: Option<f64>,
    /// What takes longer is slow.
    pub slow_after: Duration,
    /// Failures in a row that open it; absent = they do not.
    pub consecutive_errors: Option<u32>,
    /// Calls in the window below which no share says anything.
    pub min_calls: u32,
    /// Time that shares are of.
    pub window: Duration,
    /// How long it stays open the first time.
    pub open_for: Duration,
    /// How long it stays open at most, after opening again and again.
    pub max_open_for: Duration,
    /// Calls let through to see whether it may close.
    pub probes: u32,
    /// How many of them must succeed.
    pub passes: u32,
}

impl Default for BreakerSettings {
    fn default() -> BreakerSettings {
        BreakerSettings {
            per: BreakerPer::Endpoint,
            forced: None,
            error_ratio: None,
            slow_ratio: None,
            slow_after: Duration::from_secs(1),
            consecutive_errors: None,
            min_calls: 20,
            window: Duration::from_secs(10),
            open_for: Duration::from_secs(5),
            max_open_for: Duration::from_secs(60),
            probes: 5,
            passes: 3,
        }
    }
}

/// What has a breaker of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BreakerPer {
    /// Each endpoint: others take its requests while it is open; `CB` only if all are.
    #[default]
    Endpoint,
    /// Each service.
    Service,
    /// Each method of each service.
    Method,
}

/// What a person told a breaker to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Forced {
    /// It lets nothing through.
    Open,
    /// It lets everything through.
    Closed,
}
