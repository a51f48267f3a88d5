//! `kind: Route`: which requests go where, and what happens to them on the way.
use super::{Actions, HashOn, Labels, Metadata, Retry, Rollout, Scope, Target};
use regex::Regex;
use serde::Serialize;
use std::time::Duration;

/// `kind: Route`: which requests go where.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Name of the rule.
    pub metadata: Metadata,
    /// Which sidecars.
    pub scope: Scope,
    /// How a change of it spreads; absent = at once. Means something to a control plane alone.
    pub rollout: Option<Rollout>,
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
    /// What is done to the request and its reply; nothing by default.
    #[serde(flatten)]
    pub actions: Actions,
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
    /// The method name. HTTP: the request method (`GET`). gRPC and Triple: the RPC's method, the last part of
    /// the path.
    Method,
    /// The path of an HTTP request, as it was sent, without the query.
    Path,
    /// The host (and port, if it has one) an HTTP request is for: `Host` or `:authority`.
    Authority,
    /// A parameter of an HTTP request's query, as it was sent: not decoded.
    Query(String),
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

fn regex_text<S: serde::Serializer>(r: &Regex, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(r.as_str())
}
