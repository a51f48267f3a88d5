//! LDS and SDS.
use super::endpoints::socket;
use super::{ads, any};
use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source};
use envoy_types::pb::envoy::config::listener::v3::{ApiListener, Filter, FilterChain, Listener, filter};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds, http_connection_manager, http_filter,
};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, secret,
};
use std::net::SocketAddr;

/// Name of Envoy's outbound HTTP listener and of its routes.
pub const OUTBOUND: &str = "outbound";

/// LDS for gRPC's clients: the listener named as the target is (`xds:///NAME`), whose routes are RDS of the same name.
pub fn grpc_listener(target: &str) -> Listener {
    Listener {
        name: target.to_owned(),
        api_listener: Some(ApiListener { api_listener: Some(any(&manager(target))) }),
        ..Listener::default()
    }
}

/// LDS for Envoy: the outbound HTTP listener, with RDS [`OUTBOUND`]. Its address is the node's metadata
/// `raddle.listen`.
pub fn envoy_listener(address: SocketAddr) -> Listener {
    listener(
        OUTBOUND.to_owned(),
        address,
        "envoy.filters.network.http_connection_manager",
        any(&manager(OUTBOUND)),
    )
}

/// LDS for Envoy: a TCP listener to one service, named `tcp:SERVICE`. Its address is the node's metadata
/// `raddle.tcp.SERVICE`.
pub fn envoy_tcp_listener(service: &str, address: SocketAddr) -> Listener {
    let proxy = TcpProxy {
        stat_prefix: service.to_owned(),
        cluster_specifier: Some(tcp_proxy::ClusterSpecifier::Cluster(service.to_owned())),
        ..TcpProxy::default()
    };
    listener(format!("tcp:{service}"), address, "envoy.filters.network.tcp_proxy", any(&proxy))
}

/// SDS: a trust bundle. `roots` are certificates, each DER.
pub fn trust_bundle(name: &str, roots: &[Vec<u8>]) -> Secret {
    let pem: String = roots.iter().map(|der| pem(der)).collect();
    let source =
        DataSource { specifier: Some(data_source::Specifier::InlineString(pem)), ..DataSource::default() };
    Secret {
        name: name.to_owned(),
        r#type: Some(secret::Type::ValidationContext(CertificateValidationContext {
            trusted_ca: Some(source),
            ..CertificateValidationContext::default()
        })),
    }
}

fn manager(routes: &str) -> HttpConnectionManager {
    HttpConnectionManager {
        stat_prefix: OUTBOUND.to_owned(),
        route_specifier: Some(http_connection_manager::RouteSpecifier::Rds(Rds {
            config_source: Some(ads()),
            route_config_name: routes.to_owned(),
        })),
        http_filters: vec![HttpFilter {
            name: "envoy.filters.http.router".to_owned(),
            config_type: Some(http_filter::ConfigType::TypedConfig(any(&Router::default()))),
            ..HttpFilter::default()
        }],
        ..HttpConnectionManager::default()
    }
}

fn listener(
    name: String,
    address: SocketAddr,
    filter: &str,
    config: envoy_types::pb::google::protobuf::Any,
) -> Listener {
    let filter =
        Filter { name: filter.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(config)) };
    Listener {
        name,
        address: Some(socket(address.ip(), address.port())),
        filter_chains: vec![FilterChain { filters: vec![filter], ..FilterChain::default() }],
        ..Listener::default()
    }
}

/// A certificate as text (RFC 7468).
fn pem(der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut digits = String::with_capacity(der.len() * 4 / 3 + 4);
    for part in der.chunks(3) {
        let bits = part.iter().fold(0, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - part.len()));
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i)) as usize & 63];
            digits.push(if i <= part.len() { char::from(digit) } else { '=' });
        }
    }
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    // All digits are ASCII, so a line may be cut anywhere.
    for line in digits.as_bytes().chunks(64) {
        out.extend(line.iter().map(|b| char::from(*b)));
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_written_as_others_read_it() {
        let text = pem(&[0, 1, 2, 253, 254]);
        assert_eq!(text, "-----BEGIN CERTIFICATE-----\nAAEC/f4=\n-----END CERTIFICATE-----\n");
        assert!(pem(&[7; 100]).lines().all(|l| l.len() <= 64));
        assert_eq!(pem(b"a").lines().nth(1), Some("YQ=="));
        assert_eq!(pem(b"abc").lines().nth(1), Some("YWJj"));
    }
}
