//! The traffic policy in force for a service, ready to be asked per request.
use raddle_model as model;
use raddle_model::{HashOn, PolicySettings, RetryOn};
use std::sync::Arc;
use std::time::Duration;

/// Settings of a service and the `TrafficPolicy` they come from.
#[derive(Debug)]
pub struct Policy {
    /// Name of the `TrafficPolicy`; absent = no policy reaches the service, the settings are the defaults.
    pub name: Option<Arc<str>>,
    /// The settings.
    pub settings: PolicySettings,
    /// Its retries, ready to be asked; absent = none.
    pub retry: Option<CompiledRetry>,
    pub(crate) scope: model::Scope,
    pub(crate) to: model::Target,
}

impl Policy {
    pub(crate) fn builtin() -> Policy {
        Policy {
            name: None,
            settings: PolicySettings::default(),
            retry: None,
            scope: model::Scope::default(),
            to: model::Target::default(),
        }
    }

    pub(crate) fn compile(policy: model::TrafficPolicy) -> Policy {
        Policy {
            name: Some(Arc::from(policy.metadata.name)),
            retry: policy.settings.retry.as_ref().map(CompiledRetry::new),
            settings: policy.settings,
            scope: policy.scope,
            to: policy.to,
        }
    }

    pub(crate) fn same(&self, policy: &model::TrafficPolicy) -> bool {
        self.name.as_deref() == Some(policy.metadata.name.as_str())
            && self.scope == policy.scope
            && self.to == policy.to
            && self.settings == policy.settings
    }

    /// What the balancer hashes, if it hashes.
    pub(crate) fn hash_on(&self) -> Option<&HashOn> {
        match &self.settings.balancer {
            model::Balancer::ConsistentHash { on } => Some(on),
            _ => None,
        }
    }
}

/// Retries of a policy or rule.
#[derive(Clone, Debug, PartialEq)]
pub struct CompiledRetry {
    /// Tries after the first.
    pub attempts: u8,
    /// Bound of one try; absent = what is left of the request's time.
    pub per_try_timeout: Option<Duration>,
    /// Retries allowed as a share of requests, 0..=1.
    pub budget: f64,
    /// Retries per second allowed whatever the share.
    pub budget_min_per_second: u32,
    on: u8,
    idempotent: Box<[Box<[u8]>]>,
}

impl CompiledRetry {
    pub(crate) fn new(retry: &model::Retry) -> CompiledRetry {
        CompiledRetry {
            attempts: retry.attempts,
            per_try_timeout: retry.per_try_timeout,
            budget: retry.budget,
            budget_min_per_second: retry.budget_min_per_second,
            on: retry.on.iter().fold(0, |bits, &on| bits | 1 << on as u8),
            idempotent: retry.idempotent_methods.iter().map(|m| m.as_bytes().into()).collect(),
        }
    }

    /// Whether a request of `method` that failed so may be sent again. A failure after which it may have
    /// run is retried for the named idempotent methods only.
    pub fn allows(&self, failure: RetryOn, method: Option<&[u8]>) -> bool {
        if self.on & (1 << failure as u8) == 0 {
            return false;
        }
        match failure {
            RetryOn::Overloaded | RetryOn::ConnectFailure => true,
            RetryOn::ConnectionLost | RetryOn::Timeout | RetryOn::ServerError => {
                method.is_some_and(|m| self.idempotent.iter().any(|i| **i == *m))
            }
        }
    }

    /// [`CompiledRetry::allows`] for a plain HTTP request (not gRPC, whose method is another thing): methods
    /// that RFC 9110 calls safe may be repeated without being named.
    pub fn allows_http(&self, failure: RetryOn, method: &[u8]) -> bool {
        let safe = matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE");
        (safe && self.on & (1 << failure as u8) != 0) || self.allows(failure, Some(method))
    }

    /// Whether [`CompiledRetry::allows`] looks at the method.
    pub fn needs_method(&self) -> bool {
        !self.idempotent.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_idempotent_methods_are_repeated_after_they_may_have_run() {
        let retry = CompiledRetry::new(&model::Retry {
            attempts: 2,
            on: vec![RetryOn::Overloaded, RetryOn::Timeout],
            per_try_timeout: None,
            budget: 0.2,
            budget_min_per_second: 3,
            idempotent_methods: vec!["get".into()],
        });
        assert!(retry.allows(RetryOn::Overloaded, None));
        assert!(retry.allows(RetryOn::Timeout, Some(b"get")));
        assert!(!retry.allows(RetryOn::Timeout, Some(b"put")));
        assert!(!retry.allows(RetryOn::Timeout, None));
        assert!(!retry.allows(RetryOn::ConnectionLost, Some(b"get")), "not asked for");
    }

    #[test]
    fn safe_http_methods_are_repeated_without_being_named() {
        let retry = CompiledRetry::new(&model::Retry {
            attempts: 2,
            on: vec![RetryOn::ServerError, RetryOn::ConnectionLost],
            per_try_timeout: None,
            budget: 0.2,
            budget_min_per_second: 3,
            idempotent_methods: vec!["PUT".into()],
        });
        for safe in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT"] {
            assert!(retry.allows_http(RetryOn::ServerError, safe.as_bytes()), "{safe}");
        }
        for unsafe_ in ["POST", "DELETE", "PATCH", "CONNECT", "get"] {
            assert!(!retry.allows_http(RetryOn::ServerError, unsafe_.as_bytes()), "{unsafe_}");
        }
        assert!(!retry.allows_http(RetryOn::Timeout, b"GET"), "not asked for");
        assert!(!retry.allows(RetryOn::ServerError, Some(b"GET")), "an RPC's method may be called so");
    }
}
