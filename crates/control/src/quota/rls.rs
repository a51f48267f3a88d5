//! Envoy's rate limit service (`envoy.service.ratelimit.v3.RateLimitService`) on the same limits.
//!
//! A descriptor is counted by these rules:
//! * the domain is a rule's name: by that rule, whatever the entries;
//! * an entry `rule` or `generic_key` names a rule: by that rule;
//! * the domain is `raddle`: by every rule whose conditions hold, and of which at least one thing is said. Entries are
//!   what conditions look at: `service`, `method`, `path`, `authority`, `caller_app`, `load_test`, `header.NAME`,
//!   `query.NAME`; `app` must be in the scope's apps where it has some.
//!
//! What no rule counts passes. A rule that another replica counts makes the call fail (`UNAVAILABLE`), so that Envoy's
//! own setting (`failure_mode_deny`) holds.
use super::{Place, Quota};
use envoy_types::pb::envoy::config::core::v3::HeaderValue;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{
    Code, DescriptorStatus, RateLimit,
};
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use envoy_types::pb::google::protobuf::Duration as Wait;
use raddle_model as model;
use raddle_model::{Bound, Condition, Matcher, RuleMode, Subject};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// Descriptors of a request, and requests that count as one.
const DESCRIPTORS: usize = 64;
const HITS: u64 = 1_000_000;

pub(super) fn server(quota: Arc<Quota>) -> RateLimitServiceServer<Service> {
    RateLimitServiceServer::new(Service(quota))
}

/// The gRPC service.
#[derive(Clone, Debug)]
pub struct Service(Arc<Quota>);

#[tonic::async_trait]
impl RateLimitService for Service {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let request = request.into_inner();
        if request.descriptors.len() > DESCRIPTORS {
            return Err(Status::invalid_argument("descriptors: too many"));
        }
        let answer = self.0.judge(&request)?;
        let over = answer.overall_code == Code::OverLimit as i32;
        self.0.counters.rls[usize::from(over)].fetch_add(1, Relaxed);
        Ok(Response::new(answer))
    }
}

impl Quota {
    fn judge(&self, request: &RateLimitRequest) -> Result<RateLimitResponse, Status> {
        let now = self.now();
        let mut answer = RateLimitResponse { overall_code: Code::Ok as i32, ..RateLimitResponse::default() };
        let mut state = self.state();
        for descriptor in &request.descriptors {
            let hits = descriptor.hits_addend.map_or(u64::from(request.hits_addend), |h| h.value);
            let hits = if descriptor.hits_addend.is_some() { hits } else { hits.max(1) }.min(HITS) as u32;
            let rules: Vec<(Arc<str>, Arc<model::RateLimit>)> = state
                .limits
                .rules()
                .filter(|(name, rule)| counts(rule, name, &request.domain, descriptor))
                .map(|(name, rule)| (name.clone(), rule.clone()))
                .collect();
            let mut status = DescriptorStatus { code: Code::Ok as i32, ..DescriptorStatus::default() };
            for (name, rule) in rules {
                match self.place(&state, &name, now) {
                    Place::Here => {}
                    Place::There(replica, _) => {
                        let who = if replica.is_empty() { "nobody yet".into() } else { replica };
                        return Err(Status::unavailable(format!("RateLimit/{name} is counted by {who}")));
                    }
                    Place::Unknown => continue,
                }
                let Some((passes, wait)) = state.server.take(&name, hits, now) else { continue };
                status.current_limit = Some(current(&name, &rule));
                if !passes && rule.mode == RuleMode::Enforce {
                    status.code = Code::OverLimit as i32;
                    status.duration_until_reset = Some(wait_of(wait));
                    if answer.overall_code == Code::Ok as i32 {
                        answer.overall_code = Code::OverLimit as i32;
                        answer.response_headers_to_add = headers(&name, wait);
                    }
                }
            }
            answer.statuses.push(status);
        }
        Ok(answer)
    }
}

/// Whether a rule counts a descriptor.
fn counts(rule: &model::RateLimit, name: &str, domain: &str, descriptor: &RateLimitDescriptor) -> bool {
    let entry = |key: &str| descriptor.entries.iter().find(|e| e.key == key).map(|e| e.value.as_str());
    if let Some(named) = entry("rule").or_else(|| entry("generic_key")) {
        return named == name;
    }
    if domain != "raddle" {
        return domain == name;
    }
    let apps = &rule.scope.apps;
    let app = entry("app").is_some_and(|a| apps.iter().any(|known| known == a));
    // A rule for all apps that asks nothing would count what names neither.
    (app || (apps.is_empty() && !rule.when.is_empty()))
        && rule.when.iter().all(|c| holds(c, |subject| entry(&key_of(subject)).map(str::to_owned)))
}

/// The entry that says a subject.
fn key_of(subject: &Subject) -> String {
    match subject {
        Subject::Header(name) => format!("header.{}", name.to_ascii_lowercase()),
        Subject::Query(name) => format!("query.{name}"),
        Subject::Method => "method".into(),
        Subject::Path => "path".into(),
        Subject::Authority => "authority".into(),
        Subject::Service => "service".into(),
        Subject::CallerApp => "caller_app".into(),
        Subject::LoadTest => "load_test".into(),
    }
}

fn holds(condition: &Condition, value: impl Fn(&Subject) -> Option<String>) -> bool {
    let value = value(&condition.subject);
    let value = value.as_deref();
    match &condition.matcher {
        Matcher::Equals(text) => value == Some(text),
        Matcher::NotEquals(text) => value != Some(text),
        Matcher::In(texts) => value.is_some_and(|v| texts.iter().any(|t| t == v)),
        Matcher::NotIn(texts) => !value.is_some_and(|v| texts.iter().any(|t| t == v)),
        Matcher::Prefix(text) => value.is_some_and(|v| v.starts_with(text.as_str())),
        Matcher::Regex(regex) => value.is_some_and(|v| {
            // The whole value must match.
            regex.find_iter(v).any(|m| m.start() == 0 && m.end() == v.len())
        }),
        Matcher::Range { min, max } => {
            value.and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| (*min..=*max).contains(&v))
        }
        Matcher::Exists(there) => value.is_some() == *there,
    }
}

fn current(name: &str, rule: &model::RateLimit) -> RateLimit {
    let per_second = match &rule.bound {
        Bound::Rate(rate) => rate.per_second.ceil() as u32,
        Bound::Concurrency(_) => 0,
    };
    RateLimit { name: name.to_owned(), requests_per_unit: per_second, unit: Unit::Second as i32 }
}

fn wait_of(wait: Duration) -> Wait {
    Wait { seconds: wait.as_secs() as i64, nanos: wait.subsec_nanos() as i32 }
}

fn headers(name: &str, wait: Duration) -> Vec<HeaderValue> {
    let header = |key: &str, value: String| HeaderValue { key: key.into(), value, ..HeaderValue::default() };
    vec![
        header("raddle-reason", "CL".into()),
        header("raddle-rule", format!("RateLimit/{name}")),
        header("retry-after", wait.as_secs_f64().ceil().max(1.0).to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
    use raddle_model::{LoadOptions, Source};

    fn rule(spec: &str) -> model::RateLimit {
        let text =
            format!("apiVersion: raddle.io/v1\nkind: RateLimit\nmetadata: {{name: r}}\nspec: {spec}\n");
        let source = Source { name: "r.yaml".into(), text };
        let (resources, _) = model::load(&[source], LoadOptions::rules_only()).expect("a rule");
        resources.rates.into_iter().next().expect("one")
    }

    fn descriptor(entries: &[(&str, &str)]) -> RateLimitDescriptor {
        let entry = |(key, value): &(&str, &str)| Entry { key: (*key).into(), value: (*value).into() };
        RateLimitDescriptor { entries: entries.iter().map(entry).collect(), ..RateLimitDescriptor::default() }
    }

    #[test]
    fn a_descriptor_is_counted_by_the_rule_it_names_or_whose_conditions_hold() {
        let all = rule("{rate: 10, reach: cluster}");
        assert!(counts(&all, "r", "r", &descriptor(&[("remote_address", "10.0.0.1")])));
        assert!(counts(&all, "r", "edge", &descriptor(&[("generic_key", "r")])));
        assert!(!counts(&all, "r", "edge", &descriptor(&[("generic_key", "s")])));
        assert!(!counts(&all, "r", "raddle", &descriptor(&[("anything", "else")])), "nothing of it is said");
        let scoped = rule("{scope: {apps: [shop]}, when: {method: GET}, rate: 10, reach: cluster}");
        assert!(counts(&scoped, "r", "raddle", &descriptor(&[("app", "shop"), ("method", "GET")])));
        assert!(!counts(&scoped, "r", "raddle", &descriptor(&[("app", "shop"), ("method", "PUT")])));
        assert!(!counts(&scoped, "r", "raddle", &descriptor(&[("app", "pay"), ("method", "GET")])));
    }
}
