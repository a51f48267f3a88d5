//! What a route does with the requests it takes.
use super::routes::{Gathered, filters, label};
use super::{Faults, matching, values};
use envoy::{
    RetryPolicy, RouteAction, RouteMatch,
    redirect_action::{PathRewriteSpecifier, SchemeRewriteSpecifier},
    route::Action,
    route_action::{
        ClusterSpecifier, HostRewriteSpecifier, RequestMirrorPolicy, hash_policy::PolicySpecifier,
    },
    route_match::PathSpecifier,
};
use envoy_types::pb::envoy::config::core::v3::{
    HeaderValueOption, data_source::Specifier, header_value_option::HeaderAppendAction,
};
use envoy_types::pb::envoy::config::route::v3 as envoy;
use raddle_model::HashOn;
use serde_json::{Map, Value, json};
use std::time::Duration;

type Rule = Map<String, Value>;

/// What a virtual host gives all its routes.
pub(super) struct Common<'a> {
    pub(super) headers: Headers<'a>,
    pub(super) retry: Option<&'a RetryPolicy>,
    pub(super) mirrors: &'a [RequestMirrorPolicy],
}

pub(super) struct Headers<'a> {
    pub(super) request_add: &'a [HeaderValueOption],
    pub(super) request_remove: &'a [String],
    pub(super) response_add: &'a [HeaderValueOption],
    pub(super) response_remove: &'a [String],
}

pub(super) fn read(
    route: &envoy::Route,
    matched: &RouteMatch,
    common: &Common<'_>,
    at: &str,
    gathered: &mut Gathered,
    faults: &mut Faults,
) -> Option<Rule> {
    filters(at, route.typed_per_filter_config.keys(), faults);
    let mut rule = Rule::new();
    match &route.action {
        Some(Action::Route(action)) => {
            forward(&mut rule, action, matched, common, &format!("{at}.route"), gathered, faults);
            let own = Headers {
                request_add: &route.request_headers_to_add,
                request_remove: &route.request_headers_to_remove,
                response_add: &route.response_headers_to_add,
                response_remove: &route.response_headers_to_remove,
            };
            headers(&mut rule, &[&common.headers, &own], at, faults);
        }
        Some(Action::Redirect(redirect)) => {
            let redirect = self::redirect(redirect, matched, &format!("{at}.redirect"), faults)?;
            rule.insert("redirect".into(), redirect);
        }
        Some(Action::DirectResponse(response)) => {
            let body = match response.body.as_ref().and_then(|body| body.specifier.as_ref()) {
                None => String::new(),
                Some(Specifier::InlineString(text)) => text.clone(),
                Some(Specifier::InlineBytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
                Some(_) => {
                    faults.add(&format!("{at}.direct_response.body"), "is not inline; give inline_string");
                    return None;
                }
            };
            rule.insert("respond".into(), json!({ "status": response.status, "body": body }));
        }
        Some(Action::FilterAction(_) | Action::NonForwardingAction(_)) | None => {
            faults.add(at, "its action is not supported; give route, redirect or direct_response");
            return None;
        }
    }
    Some(rule)
}

fn forward(
    rule: &mut Rule,
    action: &RouteAction,
    matched: &RouteMatch,
    common: &Common<'_>,
    at: &str,
    gathered: &mut Gathered,
    faults: &mut Faults,
) {
    for (given, field) in [
        (action.metadata_match.is_some(), "metadata_match"),
        (action.regex_rewrite.is_some(), "regex_rewrite"),
        (action.path_rewrite_policy.is_some(), "path_rewrite_policy"),
        (!action.path_rewrite.is_empty(), "path_rewrite"),
        (!action.rate_limits.is_empty(), "rate_limits"),
        (action.internal_redirect_policy.is_some(), "internal_redirect_policy"),
        (action.hedge_policy.is_some(), "hedge_policy"),
        (action.retry_policy_typed_config.is_some(), "retry_policy_typed_config"),
    ] {
        if given {
            faults.add(&format!("{at}.{field}"), "is not supported; leave it out");
        }
    }
    // Envoy fails a request that its cluster has nobody for; the model would try the next rule.
    rule.insert("ifEmpty".into(), "fail".into());
    if let Some(send) = destinations(action, at, gathered, faults) {
        rule.insert("send".into(), send);
    }
    timeout(rule, action, at, faults);
    if let Some(retry) = action.retry_policy.as_ref().or(common.retry) {
        self::retry(rule, retry);
    }
    rewrite(rule, action, matched, at, faults);
    let own = action.request_mirror_policies.as_slice();
    mirror(rule, if own.is_empty() { common.mirrors } else { own }, at, faults);
    for policy in &action.hash_policy {
        let on = match &policy.policy_specifier {
            Some(PolicySpecifier::Header(header)) if header.regex_rewrite.is_none() => {
                HashOn::Header(header.header_name.to_ascii_lowercase())
            }
            Some(PolicySpecifier::ConnectionProperties(properties)) if properties.source_ip => {
                HashOn::CallerIp
            }
            _ => {
                faults.add(&format!("{at}.hash_policy"), "is not supported; give a header, or source_ip");
                continue;
            }
        };
        gathered.hash.get_or_insert(on);
    }
}

fn destinations(
    action: &RouteAction,
    at: &str,
    gathered: &mut Gathered,
    faults: &mut Faults,
) -> Option<Value> {
    let mut one = |name: &str, weight: u32| {
        gathered.clusters.insert(name.to_owned());
        json!({ "labels": { (label(name)): "true" }, "weight": weight })
    };
    match &action.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => Some(one(name, 100)),
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            let weight = |c: &envoy::weighted_cluster::ClusterWeight| c.weight.map_or(0, |w| w.value);
            let heaviest = weighted.clusters.iter().map(weight).max().unwrap_or(0).max(10_000);
            let mut send = Vec::new();
            for (i, cluster) in weighted.clusters.iter().enumerate() {
                let plain = cluster.cluster_header.is_empty()
                    && cluster.metadata_match.is_none()
                    && cluster.request_headers_to_add.is_empty()
                    && cluster.request_headers_to_remove.is_empty()
                    && cluster.response_headers_to_add.is_empty()
                    && cluster.response_headers_to_remove.is_empty()
                    && cluster.host_rewrite_specifier.is_none();
                if !plain {
                    let problem = "has more than a name and a weight; put the rest on the route";
                    faults.add(&format!("{at}.weighted_clusters.clusters[{i}]"), problem);
                }
                let scaled = u64::from(weight(cluster)) * 10_000 / u64::from(heaviest);
                send.push(one(&cluster.name, scaled as u32));
            }
            Some(send.into())
        }
        Some(_) => {
            faults.add(at, "its cluster is not given by name; give cluster or weighted_clusters");
            None
        }
        None => {
            faults.add(at, "has no cluster; give cluster or weighted_clusters");
            None
        }
    }
}

fn timeout(rule: &mut Rule, action: &RouteAction, at: &str, faults: &mut Faults) {
    // Envoy's default; 0 = none.
    let mut bound = action.timeout.map_or(Some(Duration::from_secs(15)), values::duration);
    if let Some(stream) = action.max_stream_duration.and_then(|m| m.max_stream_duration) {
        bound = values::duration(stream);
    }
    match bound {
        Some(Duration::ZERO) => {}
        Some(bound) => {
            rule.insert("timeout".into(), format!("{}ms", bound.as_millis().clamp(1, 3_600_000)).into());
        }
        None => faults.add(&format!("{at}.timeout"), "is no duration"),
    }
}

/// Conditions that the model does not have are left out: fewer retries do no harm.
fn retry(rule: &mut Rule, retry: &RetryPolicy) {
    let tries = retry.num_retries.map_or(1, |n| n.value).min(10);
    let gateway = || retry.retriable_status_codes.iter().any(|code| matches!(code, 502..=504));
    let mut on: Vec<&str> = Vec::new();
    for word in retry.retry_on.split(',').map(str::trim) {
        on.extend(match word {
            "5xx" => &["connectFailure", "connectionLost", "serverError"][..],
            "gateway-error" | "unavailable" => &["serverError"],
            "retriable-status-codes" if gateway() => &["serverError"],
            "connect-failure" => &["connectFailure"],
            "refused-stream" | "resource-exhausted" => &["overloaded"],
            "reset" | "reset-before-request" => &["connectionLost"],
            "deadline-exceeded" => &["timeout"],
            _ => &[],
        });
    }
    on.sort_unstable();
    on.dedup();
    if tries == 0 || on.is_empty() {
        return;
    }
    let mut out = json!({ "attempts": tries, "on": on });
    let bound = retry.per_try_timeout.and_then(values::duration).filter(|bound| !bound.is_zero());
    if let (Some(bound), Some(out)) = (bound, out.as_object_mut()) {
        out.insert("perTryTimeout".into(), format!("{}ms", bound.as_millis().clamp(1, 3_600_000)).into());
    }
    rule.insert("retry".into(), out);
}

/// A path whose leading part, which the route matched, is replaced.
fn prefixed(matched: &RouteMatch, to: &str) -> Option<Value> {
    match matched.path_specifier.as_ref()? {
        PathSpecifier::Path(_) => Some(json!(to)),
        PathSpecifier::Prefix(from) | PathSpecifier::PathSeparatedPrefix(from) => {
            let from = if from.is_empty() { "/" } else { from };
            Some(json!({ "prefix": from, "to": to }))
        }
        _ => None,
    }
}

fn rewrite(rule: &mut Rule, action: &RouteAction, matched: &RouteMatch, at: &str, faults: &mut Faults) {
    let mut rewrite = Map::new();
    if !action.prefix_rewrite.is_empty() {
        match prefixed(matched, &action.prefix_rewrite) {
            Some(path) => drop(rewrite.insert("path".into(), path)),
            None => faults.add(&format!("{at}.prefix_rewrite"), "needs a match by prefix or path; give one"),
        }
    }
    match &action.host_rewrite_specifier {
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => {
            rewrite.insert("authority".into(), host.as_str().into());
        }
        Some(HostRewriteSpecifier::AutoHostRewrite(auto)) if !auto.value => {}
        None => {}
        Some(_) => faults.add(at, "its host rewrite is not supported; give host_rewrite_literal"),
    }
    if !rewrite.is_empty() {
        rule.insert("rewrite".into(), rewrite.into());
    }
}

fn mirror(rule: &mut Rule, mirrors: &[RequestMirrorPolicy], at: &str, faults: &mut Faults) {
    match mirrors {
        [] => {}
        [mirror] if !mirror.cluster.is_empty() => {
            let mut out = json!({ "service": mirror.cluster });
            let percent = mirror.runtime_fraction.as_ref().and_then(matching::percent);
            if let (Some(percent), Some(out)) = (percent, out.as_object_mut()) {
                out.insert("percent".into(), percent);
            }
            rule.insert("mirror".into(), out);
        }
        _ => faults.add(
            &format!("{at}.request_mirror_policies"),
            "is not supported; give one, with a cluster's name",
        ),
    }
}

fn headers(rule: &mut Rule, levels: &[&Headers<'_>], at: &str, faults: &mut Faults) {
    let mut out = Map::new();
    type Add<'a> = fn(&Headers<'a>) -> &'a [HeaderValueOption];
    type Remove<'a> = fn(&Headers<'a>) -> &'a [String];
    let sides: [(&str, Add<'_>, Remove<'_>); 2] = [
        ("request", |h| h.request_add, |h| h.request_remove),
        ("response", |h| h.response_add, |h| h.response_remove),
    ];
    for (side, added, removed) in sides {
        let mut ops = Map::new();
        let gone: Vec<&String> = levels.iter().flat_map(|level| removed(level)).collect();
        if !gone.is_empty() {
            ops.insert("remove".into(), json!(gone));
        }
        let (mut set, mut add) = (Map::new(), Map::new());
        for option in levels.iter().flat_map(|level| added(level)) {
            header(option, &mut set, &mut add, &format!("{at}.{side}_headers_to_add"), faults);
        }
        for (name, map) in [("set", set), ("add", add)] {
            if !map.is_empty() {
                ops.insert(name.into(), map.into());
            }
        }
        if !ops.is_empty() {
            out.insert(side.into(), ops.into());
        }
    }
    if !out.is_empty() {
        rule.insert("headers".into(), out.into());
    }
}

#[allow(deprecated, reason = "servers send deprecated fields for years")]
fn header(option: &HeaderValueOption, set: &mut Rule, add: &mut Rule, at: &str, faults: &mut Faults) {
    let Some(header) = &option.header else { return };
    let name = header.key.to_ascii_lowercase();
    let value = if header.raw_value.is_empty() {
        header.value.clone()
    } else {
        String::from_utf8_lossy(&header.raw_value).into_owned()
    };
    if value.contains('%') {
        return faults.add(at, format_args!("{name}: {value:?} has a variable; give plain text"));
    }
    let appends = match (option.append, HeaderAppendAction::try_from(option.append_action)) {
        (Some(append), _) => append.value,
        (None, Ok(HeaderAppendAction::AppendIfExistsOrAdd)) => true,
        (None, Ok(HeaderAppendAction::OverwriteIfExistsOrAdd)) => false,
        _ => {
            return faults
                .add(at, format_args!("{name}: give APPEND_IF_EXISTS_OR_ADD or OVERWRITE_IF_EXISTS_OR_ADD"));
        }
    };
    if !appends {
        set.insert(name, value.into());
        return;
    }
    match add.entry(name).or_insert_with(|| json!([])) {
        Value::Array(values) => values.push(value.into()),
        other => *other = value.into(),
    }
}

fn redirect(r: &envoy::RedirectAction, matched: &RouteMatch, at: &str, faults: &mut Faults) -> Option<Value> {
    const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];
    let Some(status) = usize::try_from(r.response_code).ok().and_then(|i| STATUSES.get(i)) else {
        faults.add(&format!("{at}.response_code"), "is not known");
        return None;
    };
    let mut out = Map::from_iter([("status".to_owned(), json!(status))]);
    match &r.scheme_rewrite_specifier {
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => {
            drop(out.insert("scheme".into(), "https".into()));
        }
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => {
            drop(out.insert("scheme".into(), scheme.as_str().into()));
        }
        _ => {}
    }
    match (r.host_redirect.as_str(), r.port_redirect) {
        ("", 0) => {}
        ("", _) => faults.add(&format!("{at}.port_redirect"), "needs host_redirect; give both"),
        (host, 0) => drop(out.insert("authority".into(), host.into())),
        (host, port) => drop(out.insert("authority".into(), format!("{host}:{port}").into())),
    }
    match &r.path_rewrite_specifier {
        Some(PathRewriteSpecifier::PathRedirect(path)) => {
            drop(out.insert("path".into(), path.as_str().into()));
        }
        Some(PathRewriteSpecifier::PrefixRewrite(to)) => match prefixed(matched, to) {
            Some(path) => drop(out.insert("path".into(), path)),
            None => faults.add(&format!("{at}.prefix_rewrite"), "needs a match by prefix or path; give one"),
        },
        Some(PathRewriteSpecifier::RegexRewrite(_)) => {
            faults.add(
                &format!("{at}.regex_rewrite"),
                "is not supported; give path_redirect or prefix_rewrite",
            );
        }
        Some(PathRewriteSpecifier::PathRewrite(_)) => {
            faults
                .add(&format!("{at}.path_rewrite"), "is not supported; give path_redirect or prefix_rewrite");
        }
        None => {}
    }
    if r.strip_query {
        faults.add(&format!("{at}.strip_query"), "is not supported: the query stays; leave it out");
    }
    Some(out.into())
}
