//! LDS: listeners tell which routes are in force. Where the sidecar listens is its own affair.
use super::routes::{self, Routes};
use super::{Faults, cluster::over_ads};
use envoy::filter::ConfigType;
use envoy_types::pb::envoy::config::listener::v3 as envoy;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};
use prost::Message;
use std::sync::Arc;

/// A listener, as far as it matters here.
#[derive(Clone, Debug, Default)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Route configurations it has by name.
    pub rds: Vec<Arc<str>>,
    /// Those it has within itself.
    pub inline: Vec<Arc<Routes>>,
}

const MANAGER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
/// Network filters that leave requests as they are, or that Raddle does its own way: TCP is relayed to where it went.
const HARMLESS: [&str; 5] = ["tcp_proxy", "TcpProxy", "istio", "metadata_exchange", "stats"];

pub(super) fn read(listener: envoy::Listener, faults: &mut Faults) -> Option<Listener> {
    let mut out = Listener { name: listener.name.clone(), ..Listener::default() };
    let inbound = listener.traffic_direction == 1;
    if listener.filter_chain_matcher.is_some() {
        faults.add("filter_chain_matcher", "is not supported; give filter_chain_match");
    }
    if let Some(api) = listener.api_listener.as_ref().and_then(|api| api.api_listener.as_ref()) {
        manager(&api.value, "api_listener", &mut out, faults);
    }
    // What comes in is for the app; Raddle's own listeners see to that.
    let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain).filter(|_| !inbound);
    for (i, chain) in chains.enumerate() {
        for (j, filter) in chain.filters.iter().enumerate() {
            let at = format!("filter_chains[{i}].filters[{j}]");
            let Some(ConfigType::TypedConfig(any)) = &filter.config_type else {
                faults.add(&at, format_args!("{} has no typed_config; give it", filter.name));
                continue;
            };
            if any.type_url.ends_with(MANAGER) {
                manager(&any.value, &at, &mut out, faults);
            } else if !HARMLESS.iter().any(|word| filter.name.contains(word) || any.type_url.contains(word)) {
                faults.add(
                    &at,
                    format_args!("{} is not supported; give the HTTP connection manager", filter.name),
                );
            }
        }
    }
    Some(out)
}

fn manager(value: &[u8], at: &str, out: &mut Listener, faults: &mut Faults) {
    let Ok(manager) = HttpConnectionManager::decode(value) else {
        return faults.add(at, "its HTTP connection manager does not decode");
    };
    match manager.route_specifier {
        Some(RouteSpecifier::Rds(rds)) => {
            if !over_ads(rds.config_source.as_ref()) {
                faults.add(&format!("{at}.rds.config_source"), "is not supported; give ads or self");
            }
            out.rds.push(rds.route_config_name.as_str().into());
        }
        Some(RouteSpecifier::RouteConfig(config)) => {
            let mut inner = Faults::default();
            out.inline.extend(routes::read(config, &mut inner).map(Arc::new));
            for fault in inner.0 {
                faults.add("", format_args!("{at}.route_config.{fault}"));
            }
        }
        Some(RouteSpecifier::ScopedRoutes(_)) => {
            faults.add(&format!("{at}.scoped_routes"), "is not supported; give rds or route_config");
        }
        None => {}
    }
}
