//! Rules that say what no service they concern can be told in its protocol.
use super::place;
use crate::decode::{At, Cx};
use crate::resources::{Metadata, Resources, Retry, RetryOn, RouteRule, Service, Target};
use raddle_core::Protocol;
use std::collections::HashMap;

pub(super) fn all(resources: &Resources, cx: &mut Cx) {
    let speech = Speech::of(&resources.services);
    for policy in &resources.policies {
        if let Some(retry) = &policy.settings.retry
            && speech.without_http(&policy.to)
        {
            retry_in_vain(retry, &policy.metadata, &At::ROOT.field("spec"), cx);
        }
    }
    for route in resources.routes.iter().filter(|route| speech.without_http(&route.to)) {
        let spec = At::ROOT.field("spec");
        let rules = spec.field("rules");
        for (i, rule) in route.rules.iter().enumerate() {
            let at = rules.item(i);
            if let Some(retry) = &rule.retry {
                retry_in_vain(retry, &route.metadata, &at, cx);
            }
            actions_in_vain(rule, &route.metadata, &at, cx);
        }
    }
}

/// Which services may be asked in HTTP (gRPC included): those that do not declare another protocol.
struct Speech<'r> {
    by_name: HashMap<&'r str, bool>,
    by_app: HashMap<&'r str, bool>,
    any: bool,
}

impl<'r> Speech<'r> {
    fn of(services: &'r [Service]) -> Speech<'r> {
        let mut speech = Speech { by_name: HashMap::new(), by_app: HashMap::new(), any: services.is_empty() };
        for service in services {
            let http = !matches!(service.protocol, Some(Protocol::Bolt | Protocol::Dubbo | Protocol::Tcp));
            speech.by_name.insert(&service.metadata.name, http);
            *speech.by_app.entry(&service.app).or_default() |= http;
            speech.any |= http;
        }
        speech
    }

    /// Whether every service the target means is known, and none speaks HTTP.
    fn without_http(&self, to: &Target) -> bool {
        match &to.app {
            _ if !to.services.is_empty() => {
                to.services.iter().all(|name| self.by_name.get(name.as_str()) == Some(&false))
            }
            Some(app) => self.by_app.get(app.as_str()) == Some(&false),
            None => !self.any,
        }
    }
}

fn retry_in_vain(retry: &Retry, metadata: &Metadata, at: &At<'_>, cx: &mut Cx) {
    let repeats =
        |on: &RetryOn| matches!(on, RetryOn::ConnectionLost | RetryOn::Timeout | RetryOn::ServerError);
    if retry.idempotent_methods.is_empty() && retry.on.iter().any(repeats) {
        let at = at.field("retry");
        let mut finding = place(metadata, &at.field("on"));
        finding.problem =
            "connectionLost, timeout and serverError have no effect without idempotentMethods".into();
        finding.remedy = "name the methods that may run twice".into();
        cx.warning_at(finding);
    }
}

fn actions_in_vain(rule: &RouteRule, metadata: &Metadata, at: &At<'_>, cx: &mut Cx) {
    let actions = &rule.actions;
    let in_vain = "has no effect: no service it concerns speaks HTTP";
    let fails = "such requests fail with NR: no service it concerns speaks HTTP";
    for (name, given, problem) in [
        ("rewrite", actions.rewrite.is_some(), in_vain),
        ("headers", actions.headers.is_some(), in_vain),
        ("mirror", actions.mirror.is_some(), in_vain),
        ("redirect", actions.redirect.is_some(), fails),
        ("respond", actions.respond.is_some(), fails),
    ] {
        if given {
            let mut finding = place(metadata, &at.field(name));
            finding.problem = problem.into();
            finding.remedy = "leave it out, or mend the protocol of the services".into();
            cx.warning_at(finding);
        }
    }
}
