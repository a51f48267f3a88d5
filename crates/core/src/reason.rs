//! Why the sidecar answered a request itself: stable codes, and how each protocol carries them.
use std::fmt;

/// The cause of a reply the sidecar made itself, or of a request it lost sight of.
///
/// The flag is what access logs, metrics and `raddle explain` print; it never changes its meaning.
/// Where Envoy has a flag for the same thing, it is the same letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reason {
    /// No route matches, and the default destination is empty by rule.
    NoRoute,
    /// No service of that name is known.
    NoCluster,
    /// The service is known but has no endpoint that may take the request.
    NoHealthy,
    /// No connection could be made to any endpoint that may take the request.
    ConnectFailure,
    /// The connection to the endpoint ended after the request was written to it.
    ConnectionLost,
    /// A pool, queue or concurrency bound is reached.
    Overflow,
    /// The request's time is over.
    Timeout,
    /// A local rate or concurrency limit holds it.
    RateLimited,
    /// A cluster-wide quota holds it.
    ClusterLimited,
    /// Adaptive limiting holds it.
    AdaptiveLimited,
    /// A per-parameter-value limit holds it.
    HotspotLimited,
    /// The circuit breaker is open.
    BreakerOpen,
    /// Authorization denies it.
    Denied,
    /// Fault injection answered it.
    Injected,
    /// The caller went away before the reply.
    CallerGone,
    /// The caller sent bytes that are not its protocol.
    CallerProtocol,
    /// The endpoint sent bytes that are not its protocol.
    EndpointProtocol,
    /// The caller did not read its replies and its buffer is full.
    SlowCaller,
    /// The sidecar is shutting down.
    Draining,
}

impl Reason {
    /// Every reason, in declaration order: index with `reason as usize`.
    pub const ALL: [Reason; 19] = [
        Reason::NoRoute,
        Reason::NoCluster,
        Reason::NoHealthy,
        Reason::ConnectFailure,
        Reason::ConnectionLost,
        Reason::Overflow,
        Reason::Timeout,
        Reason::RateLimited,
        Reason::ClusterLimited,
        Reason::AdaptiveLimited,
        Reason::HotspotLimited,
        Reason::BreakerOpen,
        Reason::Denied,
        Reason::Injected,
        Reason::CallerGone,
        Reason::CallerProtocol,
        Reason::EndpointProtocol,
        Reason::SlowCaller,
        Reason::Draining,
    ];

    /// The short stable code in access logs and metric labels.
    pub const fn flag(self) -> &'static str {
        match self {
            Reason::NoRoute => "NR",
            Reason::NoCluster => "NC",
            Reason::NoHealthy => "UH",
            Reason::ConnectFailure => "UF",
            Reason::ConnectionLost => "UC",
            Reason::Overflow => "UO",
            Reason::Timeout => "UT",
            Reason::RateLimited => "RL",
            Reason::ClusterLimited => "CL",
            Reason::AdaptiveLimited => "AL",
            Reason::HotspotLimited => "HL",
            Reason::BreakerOpen => "CB",
            Reason::Denied => "RBAC",
            Reason::Injected => "FI",
            Reason::CallerGone => "DC",
            Reason::CallerProtocol => "DPE",
            Reason::EndpointProtocol => "UPE",
            Reason::SlowCaller => "DS",
            Reason::Draining => "DR",
        }
    }

    /// The reason of a flag, if there is one.
    pub fn from_flag(flag: &str) -> Option<Reason> {
        Reason::ALL.into_iter().find(|r| r.flag() == flag)
    }

    /// One sentence for a person: what happened.
    pub const fn describe(self) -> &'static str {
        match self {
            Reason::NoRoute => "no route matches the request",
            Reason::NoCluster => "no such service is known to the sidecar",
            Reason::NoHealthy => "the service has no healthy endpoint for this request",
            Reason::ConnectFailure => "no connection to an endpoint could be made",
            Reason::ConnectionLost => "the connection was lost while the request was in flight",
            Reason::Overflow => "a queue, pool or concurrency bound is reached",
            Reason::Timeout => "the request ran out of time",
            Reason::RateLimited => "a local limit holds the request",
            Reason::ClusterLimited => "a cluster quota holds the request",
            Reason::AdaptiveLimited => "adaptive limiting holds the request",
            Reason::HotspotLimited => "a hotspot limit holds the request",
            Reason::BreakerOpen => "the circuit breaker is open",
            Reason::Denied => "authorization denies the request",
            Reason::Injected => "fault injection answered the request",
            Reason::CallerGone => "the caller went away before the reply",
            Reason::CallerProtocol => "the caller sent a malformed frame",
            Reason::EndpointProtocol => "the endpoint sent a malformed frame",
            Reason::SlowCaller => "the caller does not read its replies",
            Reason::Draining => "the sidecar is shutting down",
        }
    }

    /// The sentence a person reads in a reply of the sidecar's own:
    /// `raddle RL: a local limit holds the request: 10/s (rule pay-qps)`. `detail` may be empty.
    pub fn sentence(self, detail: &str, rule: Option<&str>) -> String {
        let mut text = format!("raddle {}: {}", self.flag(), self.describe());
        if !detail.is_empty() {
            text.push_str(": ");
            text.push_str(detail);
        }
        if let Some(rule) = rule {
            text.push_str(" (rule ");
            text.push_str(rule);
            text.push(')');
        }
        text
    }

    /// The Bolt response status (u16) that carries it.
    pub const fn bolt_status(self) -> u16 {
        match self {
            Reason::NoRoute | Reason::NoCluster | Reason::NoHealthy => 6,
            Reason::ConnectFailure => 5,
            Reason::ConnectionLost | Reason::SlowCaller | Reason::Draining | Reason::CallerGone => 0x10,
            Reason::Overflow
            | Reason::RateLimited
            | Reason::ClusterLimited
            | Reason::AdaptiveLimited
            | Reason::HotspotLimited
            | Reason::BreakerOpen => 4,
            Reason::Timeout => 7,
            Reason::Denied => 2,
            Reason::Injected => 1,
            Reason::CallerProtocol | Reason::EndpointProtocol => 9,
        }
    }

    /// The Dubbo response status (u8) that carries it.
    pub const fn dubbo_status(self) -> u8 {
        match self {
            Reason::NoRoute | Reason::NoCluster | Reason::NoHealthy => 60,
            Reason::ConnectFailure
            | Reason::ConnectionLost
            | Reason::SlowCaller
            | Reason::Draining
            | Reason::CallerGone => 90,
            Reason::Overflow
            | Reason::RateLimited
            | Reason::ClusterLimited
            | Reason::AdaptiveLimited
            | Reason::HotspotLimited
            | Reason::BreakerOpen => 100,
            Reason::Timeout => 31,
            Reason::Denied | Reason::Injected => 80,
            Reason::CallerProtocol => 40,
            Reason::EndpointProtocol => 50,
        }
    }

    /// The HTTP status that carries it.
    pub const fn http_status(self) -> u16 {
        match self {
            Reason::NoRoute => 404,
            Reason::RateLimited
            | Reason::ClusterLimited
            | Reason::AdaptiveLimited
            | Reason::HotspotLimited
            | Reason::BreakerOpen => 429,
            Reason::Timeout => 504,
            Reason::Denied => 403,
            Reason::CallerProtocol => 400,
            Reason::EndpointProtocol => 502,
            Reason::Injected => 500,
            Reason::NoCluster
            | Reason::NoHealthy
            | Reason::ConnectFailure
            | Reason::ConnectionLost
            | Reason::Overflow
            | Reason::CallerGone
            | Reason::SlowCaller
            | Reason::Draining => 503,
        }
    }

    /// The gRPC status that carries it; [`GRPC_STATUSES`](crate::protocol::GRPC_STATUSES) has the names.
    pub const fn grpc_status(self) -> u8 {
        match self {
            Reason::NoRoute => 12,
            Reason::RateLimited
            | Reason::ClusterLimited
            | Reason::AdaptiveLimited
            | Reason::HotspotLimited
            | Reason::BreakerOpen => 8,
            Reason::Timeout => 4,
            Reason::Denied => 7,
            Reason::CallerProtocol | Reason::EndpointProtocol => 13,
            Reason::Injected => 2,
            Reason::NoCluster
            | Reason::NoHealthy
            | Reason::ConnectFailure
            | Reason::ConnectionLost
            | Reason::Overflow
            | Reason::CallerGone
            | Reason::SlowCaller
            | Reason::Draining => 14,
        }
    }

    /// Whether the endpoint certainly did not start on the request, so that sending it again is safe.
    pub const fn not_processed(self) -> bool {
        !matches!(
            self,
            Reason::ConnectionLost
                | Reason::Timeout
                | Reason::EndpointProtocol
                | Reason::SlowCaller
                | Reason::CallerGone
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.flag())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_unique_and_find_their_way_back() {
        for (i, r) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(r as usize, i);
            assert_eq!(Reason::from_flag(r.flag()), Some(r));
        }
    }

    #[test]
    fn grpc_and_http_say_the_same_of_a_reason() {
        use crate::protocol::GRPC_STATUSES;
        for r in Reason::ALL {
            let name = GRPC_STATUSES[r.grpc_status() as usize];
            match r.http_status() {
                404 => assert_eq!(name, "UNIMPLEMENTED"),
                429 => assert_eq!(name, "RESOURCE_EXHAUSTED"),
                403 => assert_eq!(name, "PERMISSION_DENIED"),
                504 => assert_eq!(name, "DEADLINE_EXCEEDED"),
                503 => assert_eq!(name, "UNAVAILABLE"),
                _ => assert!(matches!(name, "INTERNAL" | "UNKNOWN"), "{r}"),
            }
        }
    }

    #[test]
    fn a_request_that_may_have_run_is_never_called_safe_to_repeat() {
        assert!(!Reason::ConnectionLost.not_processed());
        assert!(!Reason::Timeout.not_processed());
        assert!(Reason::ConnectFailure.not_processed());
    }
}
