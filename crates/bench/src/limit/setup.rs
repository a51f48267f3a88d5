//! What stands between the callers and the app, and what it is told.
use crate::cgroup::CpuGroup;
use crate::compare::peers::{self, Kind, LOOPBACK, Peer, PeerInfo, Program};
use crate::compare::process::{self, Bench, Process};
use serde::Serialize;
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

const START: Duration = Duration::from_secs(20);

/// What stands before the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// Nothing.
    None,
    /// A sidecar with an adaptive limit.
    Raddle,
    /// Envoy with its adaptive concurrency filter (gradient controller).
    EnvoyConcurrency,
    /// Envoy with its admission control filter (success rate).
    EnvoyAdmission,
}

impl Variant {
    /// All of them.
    pub const ALL: [Variant; 4] =
        [Variant::None, Variant::Raddle, Variant::EnvoyConcurrency, Variant::EnvoyAdmission];

    /// Its name on the command line and in results.
    pub const fn name(self) -> &'static str {
        match self {
            Variant::None => "none",
            Variant::Raddle => "raddle",
            Variant::EnvoyConcurrency => "envoy-concurrency",
            Variant::EnvoyAdmission => "envoy-admission",
        }
    }

    /// Its name in tables.
    pub const fn title(self) -> &'static str {
        match self {
            Variant::None => "no limiter",
            Variant::Raddle => "Raddle AdaptiveLimit",
            Variant::EnvoyConcurrency => "Envoy adaptive concurrency",
            Variant::EnvoyAdmission => "Envoy admission control",
        }
    }

    const fn program(self) -> Option<Kind> {
        match self {
            Variant::None => None,
            Variant::Raddle => Some(Kind::Raddle),
            Variant::EnvoyConcurrency | Variant::EnvoyAdmission => Some(Kind::Envoy),
        }
    }
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(text: &str) -> Result<Variant, String> {
        let found = Variant::ALL.into_iter().find(|v| v.name() == text);
        found.ok_or_else(|| "expected one of none, raddle, envoy-concurrency, envoy-admission".to_owned())
    }
}

/// Looks for the programs; who is missing is said so.
pub(super) fn look(variants: &[Variant], raddle: &Path) -> Vec<(Variant, Option<PeerInfo>, Option<Program>)> {
    let look = |v: &Variant| match v.program() {
        None => (*v, None, None),
        Some(kind) => {
            let (info, program) = peers::look_for(kind, raddle);
            (*v, Some(info), program)
        }
    };
    variants.iter().map(look).collect()
}

/// The app, in its group.
pub(super) struct App {
    pub(super) process: Process,
    pub(super) address: SocketAddr,
    // Dropped last: a group can be removed when its processes are gone.
    _group: Option<CpuGroup>,
}

/// Starts the app with so many cores; without a group it has one thread, which bounds it to one core.
pub(super) fn start_app(bench: &Bench, raddle: &Path, cores: f64, group: bool) -> io::Result<App> {
    let address = process::free_address(LOOPBACK)?;
    let listen = address.to_string();
    let mut args: Vec<&str> = vec!["bench", "serve", "--burn", "--listen", &listen];
    if !group {
        args.extend(["--burn-threads", "1"]);
    }
    let group = group.then(|| CpuGroup::create(cores)).transpose()?;
    let mut process = Process::spawn(bench, "app", raddle.as_os_str(), args, None)?;
    process.wait_until(bench, START, || process::accepts(address))?;
    group.iter().try_for_each(|g| g.add(process.pid()))?;
    Ok(App { process, address, _group: group })
}

/// Starts what stands before the app; `cores` = what the app has, where it cannot be seen.
pub(super) fn start(
    bench: &Bench,
    variant: Variant,
    program: &Program,
    app: SocketAddr,
    cores: Option<f64>,
) -> io::Result<Peer> {
    let [listen, admin] = [process::free_address(LOOPBACK)?, process::free_address(LOOPBACK)?];
    match variant {
        Variant::None | Variant::Raddle => {
            let yaml = sidecar(listen, app, admin, cores);
            peers::start_raddle(bench, program, variant.name(), &yaml, listen, admin)
        }
        Variant::EnvoyConcurrency | Variant::EnvoyAdmission => {
            let config = envoy(variant, listen, app, admin);
            peers::start_envoy(bench, program, variant.name(), &config, listen, admin)
        }
    }
}

/// A sidecar with the one rule an app needs.
fn sidecar(listen: SocketAddr, app: SocketAddr, admin: SocketAddr, cores: Option<f64>) -> String {
    let cores = cores.map_or(String::new(), |c| format!("\n  cores: {c}"));
    format!(
        "apiVersion: raddle.io/v1\nkind: Sidecar\nmetadata: {{name: bench}}\nspec:\n  app: burn\n  workers: 1\n  \
         admin: \"{admin}\"\n  inbound: [{{listen: \"{listen}\", forward: \"{app}\"}}]\n\
         ---\napiVersion: raddle.io/v1\nkind: AdaptiveLimit\nmetadata: {{name: burn}}\nspec:\n  scope: {{apps: [burn]}}{cores}\n"
    )
}

/// Envoy with one filter, as its documentation configures it.
fn envoy(variant: Variant, listen: SocketAddr, app: SocketAddr, admin: SocketAddr) -> String {
    let address =
        |a: SocketAddr| json!({"socket_address": {"address": a.ip().to_string(), "port_value": a.port()}});
    let most = json!({"max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000});
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    json!({
        "admin": {"address": address(admin)},
        "static_resources": {
            "listeners": [{"name": "bench", "address": address(listen), "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": {
                    "@type": manager, "stat_prefix": "bench", "codec_type": "HTTP1",
                    "route_config": {"name": "bench", "virtual_hosts": [{"name": "bench", "domains": ["*"], "routes": [
                        // Just before its callers go away, so that it sees what became of their requests.
                        {"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "0.95s"}},
                    ]}]},
                    "http_filters": [
                        filter(variant),
                        {"name": "envoy.filters.http.router", "typed_config": {"@type": router}},
                    ],
                },
            }]}]}],
            "clusters": [{
                "name": "app", "type": "STATIC", "connect_timeout": "1s",
                "circuit_breakers": {"thresholds": [most]},
                "load_assignment": {"cluster_name": "app", "endpoints": [
                    {"lb_endpoints": [{"endpoint": {"address": address(app)}}]},
                ]},
            }],
        },
    })
    .to_string()
}

fn filter(variant: Variant) -> Value {
    let kind = "type.googleapis.com/envoy.extensions.filters.http";
    let key = |name: &str| format!("bench.{name}");
    match variant {
        Variant::EnvoyAdmission => json!({
            "name": "envoy.filters.http.admission_control",
            "typed_config": {
                "@type": format!("{kind}.admission_control.v3.AdmissionControl"),
                "enabled": {"default_value": true, "runtime_key": key("enabled")},
                "sampling_window": "30s",
                "sr_threshold": {"default_value": {"value": 95.0}, "runtime_key": key("sr")},
                "aggression": {"default_value": 1.5, "runtime_key": key("aggression")},
                "rps_threshold": {"default_value": 5, "runtime_key": key("rps")},
                "max_rejection_probability": {"default_value": {"value": 80.0}, "runtime_key": key("most")},
                "success_criteria": {
                    "http_criteria": {"http_success_status": [{"start": 100, "end": 500}]},
                    "grpc_criteria": {"grpc_success_status": [0]},
                },
            },
        }),
        _ => json!({
            "name": "envoy.filters.http.adaptive_concurrency",
            "typed_config": {
                "@type": format!("{kind}.adaptive_concurrency.v3.AdaptiveConcurrency"),
                "enabled": {"default_value": true, "runtime_key": key("enabled")},
                "gradient_controller_config": {
                    "sample_aggregate_percentile": {"value": 90},
                    "concurrency_limit_params": {"concurrency_update_interval": "0.1s"},
                    "min_rtt_calc_params": {"jitter": {"value": 10}, "interval": "60s", "request_count": 50},
                },
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::peers::assert_loads;

    #[test]
    fn raddle_takes_the_configuration_written_for_it() {
        let [a, b, c] = [1, 2, 3].map(|port| SocketAddr::new(LOOPBACK, port));
        for cores in [None, Some(1.0)] {
            assert_loads("limit", sidecar(a, b, c, cores));
        }
    }

    #[test]
    fn variants_are_read_by_their_names() {
        for variant in Variant::ALL {
            assert_eq!(variant.name().parse(), Ok(variant));
        }
        assert!("Envoy".parse::<Variant>().is_err());
    }
}
