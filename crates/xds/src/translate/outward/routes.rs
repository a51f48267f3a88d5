//! RDS: routes and rules as far as clients have words for them.
//!
//! A rule is left out if one of its conditions cannot be said: about the caller's app or the load-test mark; negative
//! ones, and numbers, about path, method of an RPC or query; a second one about the path; for gRPC's clients also any
//! about authority or query. So is one that sends to group or unit `same`, or by three labels or more; for gRPC's
//! clients one that redirects or responds.
//!
//! Of a rule that is there, faults are not done, a stable choice of a share is one at random, and an empty destination
//! fails whatever `ifEmpty` says. gRPC's clients mirror nothing, change no headers or paths, and retry as they please.
use super::super::{GROUP, LB_METADATA, ServiceView, UNIT};
use super::listener::OUTBOUND;
use super::matching::{escape, everything, fraction, matching, regex};
use super::subset::Subset;
use super::{duration, metadata, object, text, uint};
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, HeaderValue, HeaderValueOption, Metadata, data_source,
};
use envoy_types::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, SchemeRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterSpecifier, HashPolicy, HostRewriteSpecifier, MaxStreamDuration, RequestMirrorPolicy, hash_policy,
};
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, HeaderMatcher, RedirectAction, RetryPolicy, Route as EnvoyRoute, RouteAction,
    RouteConfiguration, RouteMatch, VirtualHost, WeightedCluster, header_matcher, route,
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatchAndSubstitute, StringMatcher};
use raddle_model::{
    Balancer, Destination, HashOn, HeaderOps, PathRewrite, PolicySettings, Redirect, Respond, Retry, RetryOn,
    Route, RouteRule,
};
use std::collections::BTreeSet;
use std::time::Duration;

/// Whom routes are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Envoy,
    Grpc,
}

/// A service with the routes that concern it and reach the peer, in their order, and the policy that holds.
#[derive(Debug)]
pub struct Routed<'a> {
    /// The service.
    pub service: ServiceView<'a>,
    /// Its routes.
    pub routes: Vec<&'a Route>,
    /// Its policy.
    pub policy: &'a PolicySettings,
}

/// RDS for gRPC's clients. `routes` are those that concern the service and reach the peer, in their order.
pub fn grpc_routes(
    target: &str,
    service: &ServiceView<'_>,
    routes: &[&Route],
    policy: &PolicySettings,
) -> RouteConfiguration {
    let host = VirtualHost {
        name: target.to_owned(),
        domains: vec!["*".to_owned()],
        routes: all(Dialect::Grpc, service, routes, policy),
        ..VirtualHost::default()
    };
    RouteConfiguration { name: target.to_owned(), virtual_hosts: vec![host], ..RouteConfiguration::default() }
}

/// RDS for Envoy: [`OUTBOUND`], with a virtual host for each service that speaks HTTP; anything else is answered with
/// 404.
pub fn envoy_routes(services: &[Routed<'_>]) -> RouteConfiguration {
    // Envoy refuses all of it if two hosts share a domain; the first keeps it.
    let mut taken = BTreeSet::new();
    let mut hosts = Vec::new();
    for routed in services.iter().filter(|r| speaks_http(r.service.protocol)) {
        let service = &routed.service;
        let names = std::iter::once(service.name).chain(service.hosts.iter().map(|h| &**h));
        let domains: Vec<String> = names
            .map(str::to_lowercase)
            .filter(|d| d != "*" && domain(d) && taken.insert(d.clone()))
            .collect();
        if !domains.is_empty() {
            hosts.push(VirtualHost {
                name: service.name.to_owned(),
                domains,
                routes: all(Dialect::Envoy, service, &routed.routes, routed.policy),
                ..VirtualHost::default()
            });
        }
    }
    hosts.push(nobody());
    let longest = hosts.iter().flat_map(|h| &h.routes).filter_map(body).max().unwrap_or(0);
    RouteConfiguration {
        name: OUTBOUND.to_owned(),
        virtual_hosts: hosts,
        // A host means its service on any port.
        ignore_port_in_host_matching: true,
        max_direct_response_body_size_bytes: (longest > 4096).then(|| uint(longest as u32)),
        ..RouteConfiguration::default()
    }
}

fn speaks_http(protocol: &str) -> bool {
    matches!(protocol, "" | "http" | "http2" | "grpc" | "triple" | "http/1.1" | "http/2")
}

/// Whether Envoy takes it as a domain: no control characters.
fn domain(name: &str) -> bool {
    !name.is_empty() && name.len() <= 1024 && !name.chars().any(char::is_control)
}

/// Length of a route's own answer.
fn body(route: &EnvoyRoute) -> Option<usize> {
    let route::Action::DirectResponse(direct) = route.action.as_ref()? else { return None };
    match direct.body.as_ref()?.specifier.as_ref()? {
        data_source::Specifier::InlineString(text) => Some(text.len()),
        _ => None,
    }
}

/// The answer to hosts nobody publishes.
fn nobody() -> VirtualHost {
    let respond =
        Respond { status: 404, headers: Vec::new(), body: "no service is published for this host\n".into() };
    let route = EnvoyRoute {
        r#match: Some(RouteMatch { path_specifier: Some(everything()), ..RouteMatch::default() }),
        action: Some(respond_action(&respond)),
        ..EnvoyRoute::default()
    };
    VirtualHost {
        name: "nobody".to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        ..VirtualHost::default()
    }
}

/// The rules in order, and what is done without one.
fn all(
    dialect: Dialect,
    service: &ServiceView<'_>,
    routes: &[&Route],
    policy: &PolicySettings,
) -> Vec<EnvoyRoute> {
    let rules = routes.iter().flat_map(|r| r.rules.iter().enumerate().map(move |(i, rule)| (*r, i, rule)));
    let mut out: Vec<EnvoyRoute> =
        rules.filter_map(|(r, i, rule)| one(dialect, service, r, i, rule, policy)).collect();
    out.push(EnvoyRoute {
        name: "default".to_owned(),
        r#match: Some(RouteMatch { path_specifier: Some(everything()), ..RouteMatch::default() }),
        action: Some(route::Action::Route(forward(dialect, service, None, policy))),
        ..EnvoyRoute::default()
    });
    out
}

fn one(
    dialect: Dialect,
    service: &ServiceView<'_>,
    route: &Route,
    index: usize,
    rule: &RouteRule,
    policy: &PolicySettings,
) -> Option<EnvoyRoute> {
    let actions = &rule.actions;
    let action = match (&actions.redirect, &actions.respond) {
        (Some(_), _) | (_, Some(_)) if dialect == Dialect::Grpc => return None,
        (Some(redirect), _) => redirect_action(redirect),
        (None, Some(respond)) => respond_action(respond),
        (None, None) => {
            let mut forward = forward(dialect, service, Some(rule), policy);
            forward.cluster_specifier =
                Some(destinations(dialect, service, &rule.send, &mut forward.metadata_match)?);
            route::Action::Route(forward)
        }
    };
    let name = rule.name.clone().unwrap_or_else(|| index.to_string());
    let mut out = EnvoyRoute {
        name: format!("{}/{name}", route.metadata.name),
        r#match: Some(matching(dialect, service, route, rule)?),
        action: Some(action),
        ..EnvoyRoute::default()
    };
    if dialect == Dialect::Envoy {
        if let Some(headers) = &actions.headers {
            out.request_headers_to_remove.clone_from(&headers.request.remove);
            out.request_headers_to_add = header_values(&headers.request);
            out.response_headers_to_remove.clone_from(&headers.response.remove);
            out.response_headers_to_add = header_values(&headers.response);
        }
        if let Some(respond) = &actions.respond {
            let set = HeaderOps { set: respond.headers.clone(), ..HeaderOps::default() };
            out.response_headers_to_add.extend(header_values(&set));
        }
    }
    Some(out)
}

/// Where requests go; `None` = it cannot be said.
fn destinations(
    dialect: Dialect,
    service: &ServiceView<'_>,
    send: &[Destination],
    whole: &mut Option<Metadata>,
) -> Option<ClusterSpecifier> {
    let subsets = send.iter().map(|d| Some((subset(d)?, d.weight))).collect::<Option<Vec<_>>>()?;
    let cluster = |subset: &Subset| match dialect {
        Dialect::Envoy => service.name.to_owned(),
        Dialect::Grpc => subset.name(service.name),
    };
    let metadata = |subset: &Subset| (dialect == Dialect::Envoy).then(|| metadata_match(subset));
    match &subsets[..] {
        [] => Some(ClusterSpecifier::Cluster(service.name.to_owned())),
        [(subset, _)] => {
            *whole = metadata(subset);
            Some(ClusterSpecifier::Cluster(cluster(subset)))
        }
        several => {
            let clusters: Vec<ClusterWeight> = several
                .iter()
                .filter(|(_, weight)| *weight > 0)
                .map(|(subset, weight)| ClusterWeight {
                    name: cluster(subset),
                    weight: Some(uint(*weight)),
                    metadata_match: metadata(subset),
                    ..ClusterWeight::default()
                })
                .collect();
            let weighted = WeightedCluster { clusters, ..WeightedCluster::default() };
            (!weighted.clusters.is_empty()).then_some(ClusterSpecifier::WeightedClusters(weighted))
        }
    }
}

fn subset(d: &Destination) -> Option<Subset> {
    let same = |part: &Option<String>| part.as_deref() == Some("same");
    if same(&d.group) || same(&d.unit) || d.labels.len() > 2 {
        return None;
    }
    let group = Some(d.group.clone().unwrap_or_else(|| "default".to_owned()));
    Some(Subset { group, unit: d.unit.clone(), labels: d.labels.clone() })
}

fn metadata_match(subset: &Subset) -> Metadata {
    let group = subset.group.iter().map(|g| (GROUP.to_owned(), text(g)));
    let unit = subset.unit.iter().map(|u| (UNIT.to_owned(), text(u)));
    let labels = subset.labels.iter().map(|(k, v)| (k.clone(), text(v)));
    metadata(vec![(LB_METADATA, object(group.chain(unit).chain(labels)))])
}

fn forward(
    dialect: Dialect,
    service: &ServiceView<'_>,
    rule: Option<&RouteRule>,
    policy: &PolicySettings,
) -> RouteAction {
    let limit = rule.and_then(|r| r.timeout).or(policy.timeouts.request);
    let mut action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(service.name.to_owned())),
        hash_policy: hash(&policy.balancer),
        ..RouteAction::default()
    };
    if dialect == Dialect::Grpc {
        action.max_stream_duration = limit.map(|limit| MaxStreamDuration {
            max_stream_duration: Some(duration(limit)),
            ..MaxStreamDuration::default()
        });
        return action;
    }
    // Without a word from us, Envoy gives up after 15 seconds.
    action.timeout = Some(duration(limit.unwrap_or(Duration::ZERO)));
    action.idle_timeout = Some(duration(policy.timeouts.stream_idle));
    let retry = rule.and_then(|r| r.retry.as_ref()).or(policy.retry.as_ref());
    action.retry_policy = retry.map(|r| retry_policy(r, service));
    let Some(rule) = rule else { return action };
    if let Some(mirror) = &rule.actions.mirror {
        action.request_mirror_policies = vec![RequestMirrorPolicy {
            cluster: mirror.service.clone(),
            runtime_fraction: Some(fraction(mirror.percent_ppm)),
            ..RequestMirrorPolicy::default()
        }];
    }
    if let Some(rewrite) = &rule.actions.rewrite {
        action.regex_rewrite = rewrite.path.as_ref().map(path_rewrite);
        action.host_rewrite_specifier =
            rewrite.authority.clone().map(HostRewriteSpecifier::HostRewriteLiteral);
    }
    action
}

fn hash(balancer: &Balancer) -> Vec<HashPolicy> {
    use hash_policy::{ConnectionProperties, Header, PolicySpecifier};
    let Balancer::ConsistentHash { on } = balancer else { return Vec::new() };
    let by_header =
        |name: &str| PolicySpecifier::Header(Header { header_name: name.to_owned(), ..Header::default() });
    let specifier = match on {
        HashOn::Header(name) => by_header(name),
        HashOn::Method => by_header(":path"),
        HashOn::CallerIp => PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true }),
    };
    vec![HashPolicy { policy_specifier: Some(specifier), ..HashPolicy::default() }]
}

/// What may have run is repeated only for methods that may be; Envoy cannot tell the two apart, so that then nothing
/// of another method is.
fn retry_policy(retry: &Retry, service: &ServiceView<'_>) -> RetryPolicy {
    let on: BTreeSet<&str> = retry
        .on
        .iter()
        .flat_map(|on| match on {
            RetryOn::Overloaded => &["refused-stream"][..],
            RetryOn::ConnectFailure => &["connect-failure", "refused-stream"],
            RetryOn::ConnectionLost => &["reset"],
            RetryOn::Timeout => &["gateway-error"],
            RetryOn::ServerError => &["gateway-error", "unavailable"],
        })
        .copied()
        .collect();
    let harmless = |on: &RetryOn| matches!(on, RetryOn::Overloaded | RetryOn::ConnectFailure);
    let guard = (!retry.on.iter().all(harmless)).then(|| idempotent(retry, service));
    RetryPolicy {
        retry_on: on.into_iter().collect::<Vec<_>>().join(","),
        num_retries: Some(uint(u32::from(retry.attempts))),
        per_try_timeout: retry.per_try_timeout.map(duration),
        retriable_request_headers: guard.into_iter().collect(),
        ..RetryPolicy::default()
    }
}

fn idempotent(retry: &Retry, service: &ServiceView<'_>) -> HeaderMatcher {
    let methods: Vec<String> = retry.idempotent_methods.iter().map(|m| escape(m)).collect();
    let (name, expression) = if matches!(service.protocol, "grpc" | "triple") {
        (":path", format!("/[^/]+/(?:{})", methods.join("|")))
    } else {
        let safe = ["GET", "HEAD", "OPTIONS", "TRACE"].map(str::to_owned);
        (":method", safe.into_iter().chain(methods).collect::<Vec<_>>().join("|"))
    };
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(header_matcher::HeaderMatchSpecifier::StringMatch(StringMatcher {
            match_pattern: Some(MatchPattern::SafeRegex(regex(expression))),
            ..StringMatcher::default()
        })),
        ..HeaderMatcher::default()
    }
}

fn path_rewrite(rewrite: &PathRewrite) -> RegexMatchAndSubstitute {
    // In a substitution a backslash begins a reference.
    let literal = |text: &str| text.replace('\\', "\\\\");
    let (pattern, substitution) = match rewrite {
        PathRewrite::Exact(path) => ("^.*$".to_owned(), literal(path)),
        PathRewrite::Prefix { from, to } => {
            let (from, to) = (from.trim_end_matches('/'), to.trim_end_matches('/'));
            (format!("^{}(?:/(.*))?$", escape(from)), format!("{}/\\1", literal(to)))
        }
    };
    RegexMatchAndSubstitute { pattern: Some(regex(pattern)), substitution }
}

fn redirect_action(redirect: &Redirect) -> route::Action {
    use envoy_types::pb::envoy::config::route::v3::redirect_action::RedirectResponseCode as Code;
    let authority = redirect.authority.as_deref().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() => match port.parse::<u16>() {
            Ok(port) => (host, u32::from(port)),
            Err(_) => (authority, 0),
        },
        _ => (authority, 0),
    };
    let code = match redirect.status {
        302 => Code::Found,
        303 => Code::SeeOther,
        307 => Code::TemporaryRedirect,
        308 => Code::PermanentRedirect,
        _ => Code::MovedPermanently,
    };
    route::Action::Redirect(RedirectAction {
        host_redirect: host.to_owned(),
        port_redirect: port,
        response_code: code as i32,
        scheme_rewrite_specifier: redirect
            .scheme
            .map(|s| SchemeRewriteSpecifier::SchemeRedirect(s.name().to_owned())),
        path_rewrite_specifier: redirect.path.as_ref().map(|path| match path {
            PathRewrite::Exact(path) => PathRewriteSpecifier::PathRedirect(path.clone()),
            prefix @ PathRewrite::Prefix { .. } => PathRewriteSpecifier::RegexRewrite(path_rewrite(prefix)),
        }),
        ..RedirectAction::default()
    })
}

fn respond_action(respond: &Respond) -> route::Action {
    let body = DataSource {
        specifier: Some(data_source::Specifier::InlineString(respond.body.clone())),
        ..DataSource::default()
    };
    route::Action::DirectResponse(DirectResponseAction {
        status: u32::from(respond.status),
        body: (!respond.body.is_empty()).then_some(body),
        ..DirectResponseAction::default()
    })
}

fn header_values(ops: &HeaderOps) -> Vec<HeaderValueOption> {
    let value = |(name, value): &(String, String), action: HeaderAppendAction| HeaderValueOption {
        // A percent sign begins one of Envoy's own variables.
        header: Some(HeaderValue {
            key: name.clone(),
            value: value.replace('%', "%%"),
            ..HeaderValue::default()
        }),
        append_action: action as i32,
        keep_empty_value: true,
        ..HeaderValueOption::default()
    };
    let set = ops.set.iter().map(|h| value(h, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = ops.add.iter().map(|h| value(h, HeaderAppendAction::AppendIfExistsOrAdd));
    set.chain(add).collect()
}
