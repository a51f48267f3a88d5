//! RDS: virtual hosts become services of their own, whose endpoints are those of the clusters they name; what a route
//! chooses by is then a label, [`label`].
use super::{Faults, action, matching, model, values};
use envoy_types::pb::envoy::config::route::v3 as envoy;
use raddle_model::{HashOn, RouteRule};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The label that tells that an endpoint of a virtual host is of a cluster; it may be of several.
pub fn label(cluster: &str) -> String {
    format!("xds.cluster/{cluster}")
}

/// Clusters of Istio's for what no service takes; the sidecar has its own way with it.
const CATCH_ALL: [&str; 3] = ["PassthroughCluster", "BlackHoleCluster", "InboundPassthroughCluster"];

/// A route configuration.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// Its name.
    pub name: String,
    /// Its virtual hosts that have a host.
    pub hosts: Vec<VirtualHost>,
}

/// A virtual host: what is asked for by some hosts' names.
#[derive(Clone, Debug)]
pub struct VirtualHost {
    /// Its name.
    pub name: String,
    /// Hosts, without port.
    pub hosts: Vec<String>,
    /// Its routes. Destinations choose by [`label`].
    pub rules: Vec<RouteRule>,
    /// Clusters its requests may go to.
    pub clusters: BTreeSet<String>,
    /// What a balancer of its clusters hashes, if one does.
    pub hash: Option<HashOn>,
}

/// What rules of one virtual host have in common.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) clusters: BTreeSet<String>,
    pub(super) hash: Option<HashOn>,
}

pub(super) fn read(config: envoy::RouteConfiguration, faults: &mut Faults) -> Option<Routes> {
    let envoy::RouteConfiguration {
        name,
        virtual_hosts,
        vhds,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        cluster_specifier_plugins,
        request_mirror_policies,
        vhost_header,
        typed_per_filter_config,
        // Without effect on where requests go.
        internal_only_headers: _,
        most_specific_header_mutations_wins: _,
        validate_clusters: _,
        max_direct_response_body_size_bytes: _,
        ignore_port_in_host_matching: _,
        ignore_path_parameters_in_path_matching: _,
        metadata: _,
        route_specifiers: _,
    } = config;
    let headers = !request_headers_to_add.is_empty()
        || !request_headers_to_remove.is_empty()
        || !response_headers_to_add.is_empty()
        || !response_headers_to_remove.is_empty();
    for (given, field) in [
        (vhds.is_some(), "vhds"),
        (headers, "*_headers_to_*"),
        (!cluster_specifier_plugins.is_empty(), "cluster_specifier_plugins"),
        (!request_mirror_policies.is_empty(), "request_mirror_policies"),
        (!vhost_header.is_empty(), "vhost_header"),
    ] {
        if given {
            faults.add(field, "is not supported here; give it to each route");
        }
    }
    filters("", typed_per_filter_config.keys(), faults);
    let mut routes = Routes { name, hosts: Vec::new() };
    for (i, host) in virtual_hosts.into_iter().enumerate() {
        routes.hosts.extend(virtual_host(host, &format!("virtual_hosts[{i}]"), faults));
    }
    Some(routes)
}

/// Configuration of filters for a route: those that change nothing about requests are passed over.
pub(super) fn filters<'k>(at: &str, names: impl Iterator<Item = &'k String>, faults: &mut Faults) {
    const HARMLESS: [&str; 4] =
        ["istio.stats", "istio.alpn", "envoy.filters.http.grpc_stats", "envoy.filters.http.router"];
    for name in names.filter(|name| !HARMLESS.contains(&name.as_str())) {
        let gap = if at.is_empty() { "" } else { "." };
        faults.add(
            &format!("{at}{gap}typed_per_filter_config"),
            format_args!("{name} is not supported; leave it out"),
        );
    }
}

#[allow(deprecated, reason = "servers send deprecated fields for years")]
fn virtual_host(host: envoy::VirtualHost, at: &str, faults: &mut Faults) -> Option<VirtualHost> {
    let envoy::VirtualHost {
        name,
        domains,
        routes,
        matcher,
        require_tls,
        rate_limits,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        typed_per_filter_config,
        retry_policy,
        request_mirror_policies,
        // Without effect on where requests go.
        virtual_clusters: _,
        cors: _,
        include_request_attempt_count: _,
        include_attempt_count_in_response: _,
        retry_policy_typed_config: _,
        hedge_policy: _,
        include_is_timeout_retry_header: _,
        per_request_buffer_limit_bytes: _,
        request_body_buffer_limit: _,
        metadata: _,
        route_specifiers: _,
    } = host;
    let hosts = hosts(&domains, at, faults);
    if hosts.is_empty() {
        if !routes.iter().all(caught) {
            faults.add(
                &format!("{at}.domains"),
                format_args!("[{}] names no host; give one, such as orders.internal", domains.join(", ")),
            );
        }
        return None;
    }
    for (given, field) in [
        (matcher.is_some(), "matcher"),
        (require_tls != 0, "require_tls"),
        (!rate_limits.is_empty(), "rate_limits"),
    ] {
        if given {
            faults.add(&format!("{at}.{field}"), "is not supported; leave it out");
        }
    }
    filters(at, typed_per_filter_config.keys(), faults);
    let common = action::Common {
        headers: action::Headers {
            request_add: &request_headers_to_add,
            request_remove: &request_headers_to_remove,
            response_add: &response_headers_to_add,
            response_remove: &response_headers_to_remove,
        },
        retry: retry_policy.as_ref(),
        mirrors: &request_mirror_policies,
    };
    let mut gathered = Gathered::default();
    let mut rules = Vec::new();
    let mut open = true;
    for (i, route) in routes.iter().enumerate() {
        let at = format!("{at}.routes[{i}]");
        let matched = route.r#match.clone().unwrap_or_default();
        let (when, percent) = matching::read(&matched, &format!("{at}.match"), faults);
        open &= when.as_object().is_some_and(|when| !when.is_empty()) || percent.is_some();
        let Some(mut rule) = action::read(route, &matched, &common, &at, &mut gathered, faults) else {
            continue;
        };
        rule.insert("when".into(), when);
        if let Some(percent) = percent {
            rule.insert("percent".into(), percent);
        }
        rules.push(Value::Object(rule));
    }
    if open {
        // What no route takes is answered with 404 there; here it would go to any endpoint.
        rules.push(json!({ "respond": { "status": 404 } }));
    }
    let document = json!({
        "apiVersion": "raddle.io/v1", "kind": "Route", "metadata": { "name": "virtual-host" }, "spec": { "rules": rules },
    });
    let mut inner = Faults::default();
    let route = model(&document, &mut inner).and_then(|mut resources| resources.routes.pop());
    for fault in inner.0 {
        faults.add(at, fault);
    }
    let name = if values::is_name(&name) { name } else { hosts.first()?.clone() };
    Some(VirtualHost { name, hosts, rules: route?.rules, clusters: gathered.clusters, hash: gathered.hash })
}

/// The hosts of domains, without ports, each once.
fn hosts(domains: &[String], at: &str, faults: &mut Faults) -> Vec<String> {
    let mut hosts: Vec<String> = Vec::new();
    for (i, domain) in domains.iter().enumerate().filter(|(_, domain)| *domain != "*") {
        let lower = domain.to_ascii_lowercase();
        let bare = match lower.rsplit_once(':') {
            Some((host, port)) if port == "*" || port.parse::<u16>().is_ok() => host,
            _ => &lower,
        };
        if !values::is_host(bare) {
            let problem = format_args!("{domain:?} is not supported; give a host, or *. and a host");
            faults.add(&format!("{at}.domains[{i}]"), problem);
        } else if !hosts.iter().any(|host| host == bare) {
            hosts.push(bare.to_owned());
        }
    }
    hosts
}

/// Whether a route is for what no service takes.
fn caught(route: &envoy::Route) -> bool {
    use envoy::{route::Action, route_action::ClusterSpecifier};
    match &route.action {
        Some(Action::Route(action)) => {
            matches!(&action.cluster_specifier, Some(ClusterSpecifier::Cluster(c)) if CATCH_ALL.contains(&c.as_str()))
        }
        Some(Action::DirectResponse(_)) => true,
        _ => false,
    }
}
