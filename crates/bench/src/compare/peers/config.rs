//! What the proxies are told: one listener, one upstream, one worker, connections kept as long as may be.
use crate::Protocol;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

/// On which layer a proxy that does not know every protocol works.
const fn is_http(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Http | Protocol::Http2 | Protocol::Grpc)
}

pub(super) fn haproxy(protocol: Protocol, listen: SocketAddr, upstream: SocketAddr) -> String {
    let (mode, proto) = match protocol {
        Protocol::Http => ("http\n  http-reuse always", ""),
        Protocol::Http2 | Protocol::Grpc => ("http\n  http-reuse always", " proto h2"),
        _ => ("tcp", ""),
    };
    format!(
        "global\n  nbthread 1\n  maxconn 9900\ndefaults\n  mode {mode}\n  timeout connect 5s\n  timeout client 10m\n  \
         timeout server 10m\nlisten bench\n  bind {listen}{proto}\n  server echo {upstream}{proto}\n"
    )
}

const NGINX_STREAM: [&str; 2] =
    ["/usr/lib/nginx/modules/ngx_stream_module.so", "/usr/lib64/nginx/modules/ngx_stream_module.so"];

/// nginx in front of one upstream.
///
/// # Errors
/// When it has not got the module it takes.
pub(super) fn nginx(
    protocol: Protocol,
    name: &str,
    listen: SocketAddr,
    upstream: SocketAddr,
) -> io::Result<String> {
    let common = format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {name}.pid;\nerror_log stderr error;\n\
         events {{ worker_connections 19900; }}\n"
    );
    if !is_http(protocol) {
        let module = NGINX_STREAM.into_iter().find(|path| Path::new(path).is_file());
        let module = module.ok_or_else(|| {
            io::Error::other("nginx has no stream module (apt install libnginx-mod-stream)")
        })?;
        return Ok(format!(
            "load_module {module};\n{common}stream {{ server {{ listen {listen}; proxy_pass {upstream}; }} }}\n"
        ));
    }
    let (flags, pass) = if protocol == Protocol::Http {
        (
            "",
            "proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host; proxy_pass http://echo;",
        )
    } else {
        (" http2", "grpc_pass grpc://echo;")
    };
    let mut temp = String::new();
    for what in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        // Writing to a String does not fail.
        let _ = write!(temp, "{what}_temp_path {name}-{what}; ");
    }
    Ok(format!(
        "{common}http {{ access_log off; {temp}\n  keepalive_requests 1000000000; keepalive_timeout 1h; client_header_timeout 1h;\n  \
         client_max_body_size 0;\n  \
         upstream echo {{ server {upstream}; keepalive 512; keepalive_requests 1000000000; keepalive_timeout 1h; }}\n  \
         server {{ listen {listen}{flags} backlog=4096; location / {{ {pass} }} }}\n}}\n"
    ))
}

/// Envoy with one listener; for HTTP and Dubbo on layer 7. Requests go to the first of `clusters`.
pub(in crate::compare) fn envoy(
    protocol: Protocol,
    listen: SocketAddr,
    admin: SocketAddr,
    clusters: &[(String, Vec<SocketAddr>)],
) -> String {
    let cluster = |(name, endpoints): &(String, Vec<SocketAddr>)| -> Value {
        let endpoints: Vec<Value> =
            endpoints.iter().map(|e| json!({"endpoint": {"address": address(e)}})).collect();
        let most = json!({
            "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000,
        });
        let mut cluster = json!({
            "name": name, "type": "STATIC", "connect_timeout": "1s",
            "circuit_breakers": {"thresholds": [most]},
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        });
        if matches!(protocol, Protocol::Http2 | Protocol::Grpc) {
            cluster["typed_extension_protocol_options"] = json!({
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}},
                },
            });
        }
        cluster
    };
    let first = clusters.first().map_or("", |(name, _)| name);
    let filter = match protocol {
        Protocol::Dubbo => dubbo_proxy(first),
        p if is_http(p) => http_manager(p, first),
        _ => tcp_proxy(first),
    };
    json!({
        "admin": {"address": address(&admin)},
        "static_resources": {
            "listeners": [{"name": "bench", "address": address(&listen), "filter_chains": [{"filters": [filter]}]}],
            "clusters": clusters.iter().map(cluster).collect::<Vec<Value>>(),
        },
    })
    .to_string()
}

fn address(a: &SocketAddr) -> Value {
    json!({"socket_address": {"address": a.ip().to_string(), "port_value": a.port()}})
}

fn tcp_proxy(cluster: &str) -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "bench", "cluster": cluster,
        },
    })
}

fn dubbo_proxy(cluster: &str) -> Value {
    let service = Protocol::Dubbo.usual_service();
    let (interface, version) = service.split_once(':').unwrap_or((service, ""));
    json!({
        "name": "envoy.filters.network.dubbo_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.dubbo_proxy.v3.DubboProxy",
            "stat_prefix": "bench", "protocol_type": "Dubbo", "serialization_type": "Hessian2",
            "route_config": [{
                "name": "bench", "interface": interface, "version": version,
                "routes": [{
                    "match": {"method": {"name": {"exact": "echo"}}},
                    "route": {"cluster": cluster},
                }],
            }],
        },
    })
}

fn http_manager(protocol: Protocol, cluster: &str) -> Value {
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "bench", "codec_type": if protocol == Protocol::Http { "HTTP1" } else { "HTTP2" },
            "route_config": {"name": "bench", "virtual_hosts": [{
                "name": "bench", "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}],
            }]},
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }],
        },
    })
}

/// Raddle's own document of a configuration.
pub(in crate::compare) struct Sidecar {
    listener: String,
    admin: SocketAddr,
}

impl Sidecar {
    /// One outbound listener.
    pub(in crate::compare) fn outbound(listen: SocketAddr, admin: SocketAddr) -> Sidecar {
        Sidecar { listener: format!("outbound: [{{listen: \"{listen}\"}}]"), admin }
    }

    /// One outbound listener that need not find out what is spoken: a connection without a byte is not TCP.
    pub(in crate::compare) fn outbound_for(
        protocol: Protocol,
        listen: SocketAddr,
        admin: SocketAddr,
    ) -> Sidecar {
        Sidecar { listener: format!("outbound: [{{listen: \"{listen}\", protocol: {protocol}}}]"), admin }
    }

    /// One inbound listener in front of the app at `forward`.
    pub(in crate::compare) fn inbound(listen: SocketAddr, forward: SocketAddr, admin: SocketAddr) -> Sidecar {
        Sidecar { listener: format!("inbound: [{{listen: \"{listen}\", forward: \"{forward}\"}}]"), admin }
    }

    /// The document: one worker, access log on with the default sampling.
    pub(in crate::compare) fn yaml(&self) -> String {
        format!(
            "apiVersion: raddle.io/v1\nkind: Sidecar\nmetadata: {{name: bench}}\nspec:\n  app: bench\n  workers: 1\n  \
             admin: \"{}\"\n  {}\n  accessLog: {{path: access.log}}\n",
            self.admin, self.listener
        )
    }
}

/// A document of a service.
pub(in crate::compare) fn service(protocol: Protocol, name: &str, endpoints: &[SocketAddr]) -> String {
    let mut out = format!(
        "---\napiVersion: raddle.io/v1\nkind: Service\nmetadata: {{name: \"{name}\"}}\n\
         spec:\n  app: echo\n  protocol: {protocol}\n  endpoints:\n"
    );
    for endpoint in endpoints {
        // Writing to a String does not fail.
        let _ = writeln!(out, "  - {{address: \"{endpoint}\"}}");
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::compare::peers::LOOPBACK;
    use raddle_model::{LoadOptions, Source};

    /// Raddle must take the configuration as it is, without a word.
    pub(crate) fn assert_loads(name: &str, text: String) {
        let source = Source { name: name.to_owned(), text };
        match raddle_model::load(&[source], LoadOptions::default()) {
            Ok((_, warnings)) => assert_eq!(warnings, [], "{name}"),
            Err(report) => panic!("{name}: {report}"),
        }
    }

    #[test]
    fn raddle_takes_the_configurations_written_for_it() {
        let [a, b, c] = [1, 2, 3].map(|port| SocketAddr::new(LOOPBACK, port));
        for protocol in Protocol::ALL.into_iter().filter(|p| *p != Protocol::Tcp) {
            let service = service(protocol, protocol.usual_service(), &[c]);
            for sidecar in [Sidecar::outbound(a, b), Sidecar::outbound_for(protocol, a, b)] {
                assert_loads(protocol.name(), sidecar.yaml() + &service);
            }
        }
        assert_loads("inbound", Sidecar::inbound(a, b, c).yaml());
    }
}
