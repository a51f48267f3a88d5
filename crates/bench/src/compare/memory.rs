//! Table `memory`: resident memory idle, by idle connection, and with thousands of clusters.
use super::Setup;
use super::peers::{self, Kind, LOOPBACK, Peer, Program, Sidecar};
use super::process;
use super::table::{Metric, Table};
use crate::load::once;
use crate::{LoadOptions, cpu};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const CLUSTERS: usize = 5000;
const ENDPOINTS: usize = 3;
/// Idle connections held, most.
const CONNECTIONS: usize = 10_000;
/// Descriptors a process needs for other things.
const SPARE_FILES: u64 = 200;

const IDLE: &str = "idle";
const HELD: &str = "idle connections";
const MANY: &str = "5,000 clusters × 3 endpoints";

const METRICS: [Metric; 5] = [
    Metric { key: "rss_mib", title: "resident MiB", digits: 1, chart: true },
    Metric { key: "kib_per_connection", title: "KiB/connection", digits: 2, chart: true },
    Metric { key: "connections", title: "connections", digits: 0, chart: false },
    Metric { key: "ready_s", title: "s to ready", digits: 2, chart: true },
    Metric { key: "cpu_s", title: "CPU s to ready", digits: 2, chart: false },
];

pub(super) fn measure(setup: &mut Setup<'_>) -> io::Result<Table> {
    let mut table = Table::new("memory", "Resident memory of one proxy with one worker", &METRICS);
    let echo = peers::start_echo(&setup.bench, &setup.echo, LOOPBACK)?;
    for program in setup.programs.clone() {
        if let Err(e) = by_connection(setup, &mut table, &program, echo.listen) {
            if e.kind() == ErrorKind::Interrupted {
                return Err(e);
            }
            setup.leave_out(program.kind, "memory by connection", &e);
        }
    }
    // Few rounds: memory repeats, and a start of some peers takes most of a minute.
    for round in 1..=setup.rounds.min(3) {
        for kind in [Kind::Envoy, Kind::Raddle] {
            let Some(program) = setup.program(kind) else { continue };
            match by_cluster(setup, &mut table, &program, round) {
                Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
                Err(e) => setup.leave_out(kind, "memory by cluster", &e),
                Ok(()) => {}
            }
        }
    }
    table.gather_groups();
    let raddle = Kind::Raddle.name();
    let value = |group, key| table.figure(group, raddle, key).map(|f| f.median);
    let (idle, slope) = (value(IDLE, "rss_mib"), value(HELD, "kib_per_connection"));
    let (many, ready) = (value(MANY, "rss_mib"), value(MANY, "ready_s"));
    table.goal("idle sidecar, MiB", 10.0, idle);
    table.goal("KiB for an idle plain connection", 4.0, slope);
    table.goal("5,000 clusters × 3 endpoints, MiB", 40.0, many);
    table.goal("5,000 clusters × 3 endpoints, s to ready", 1.0, ready);
    table.notes = vec![
        "Resident memory (VmRSS) of the process; the kernel's socket buffers are not in it. KiB/connection is the \
         slope of a straight line through a quarter, a half and all of the connections, each of which has carried \
         one request."
            .into(),
        format!(
            "A process may open {} files here. A relay needs two a connection, so fewer are held through it.",
            setup.open_files
        ),
    ];
    Ok(table)
}

/// Idle memory, and its growth with idle connections.
fn by_connection(
    setup: &mut Setup<'_>,
    table: &mut Table,
    program: &Program,
    echo: SocketAddr,
) -> io::Result<()> {
    let bench = setup.bench.clone();
    let name = program.kind.name();
    let peer = peers::start(&bench, program, &format!("memory-{:?}", program.kind), echo)?;
    let idle = settled(&peer);
    table.push(IDLE, name, "rss_mib", mib(idle));
    let files = setup.open_files.saturating_sub(SPARE_FILES) as usize;
    let most = CONNECTIONS.min(if program.kind == Kind::Raddle { files } else { files / 2 });
    let mut held = Vec::with_capacity(most);
    let mut points = Vec::new();
    for part in [4, 2, 1] {
        while held.len() < most / part {
            if held.len() % 256 == 0 {
                bench.check_stop()?;
            }
            held.push(hold(peer.listen)?);
        }
        points.push((held.len() as f64, settled(&peer) as f64));
    }
    let slope = slope(&points) / 1024.0;
    let full = points.last().map_or(0.0, |p| p.1);
    table.push(HELD, name, "rss_mib", full / 1_048_576.0);
    table.push(HELD, name, "kib_per_connection", slope);
    table.push(HELD, name, "connections", most as f64);
    setup.say(&format!("memory: {name}: idle {:.1} MiB, {slope:.2} KiB/connection over {most}", mib(idle)));
    Ok(())
}

/// Memory and time to ready with thousands of clusters.
fn by_cluster(setup: &mut Setup<'_>, table: &mut Table, program: &Program, round: usize) -> io::Result<()> {
    let bench = setup.bench.clone();
    let (listen, admin) = (process::free_address(LOOPBACK)?, process::free_address(LOOPBACK)?);
    let clusters: Vec<(String, Vec<SocketAddr>)> = (0..CLUSTERS)
        .map(|i| {
            let ip = [127, 1, (i / 250) as u8, (i % 250) as u8 + 1];
            let endpoints = (0..ENDPOINTS).map(|e| SocketAddr::from((ip, 20_000 + e as u16)));
            (format!("bench.Service{i:04}:1.0"), endpoints.collect())
        })
        .collect();
    let name = format!("clusters-{:?}", program.kind);
    let start;
    let peer = if program.kind == Kind::Raddle {
        let services: String = clusters.iter().map(|(name, e)| peers::service(name, e)).collect();
        let yaml = Sidecar::outbound(listen, admin).yaml() + &services;
        start = Instant::now();
        peers::start_raddle(&bench, program, &name, &yaml, listen, admin)?
    } else {
        let config = peers::envoy(listen, admin, &clusters);
        start = Instant::now();
        peers::start_envoy(&bench, program, &name, &config, listen, admin)?
    };
    let ready = start.elapsed().as_secs_f64();
    let cpu = cpu::used(peer.process.pid()).as_secs_f64();
    let resident = mib(settled(&peer));
    let subject = program.kind.name();
    table.push(MANY, subject, "rss_mib", resident);
    table.push(MANY, subject, "ready_s", ready);
    table.push(MANY, subject, "cpu_s", cpu);
    setup.say(&format!("memory round {round}: {subject}: {MANY}: {resident:.1} MiB, ready in {ready:.2} s"));
    Ok(())
}

/// Opens a connection and sends one request over it, so that it is fully made on every hop.
pub(super) fn hold(target: SocketAddr) -> io::Result<TcpStream> {
    once(&LoadOptions { target, size: 64, timeout: Duration::from_secs(10), ..LoadOptions::default() })
}

/// Resident bytes once they have stopped changing, or after two seconds.
fn settled(peer: &Peer) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(2);
    let (mut last, mut same) = (0, 0);
    while same < 3 && Instant::now() < deadline {
        let now = cpu::resident(peer.process.pid()).unwrap_or(0);
        same = if now == last { same + 1 } else { 0 };
        last = now;
        std::thread::park_timeout(Duration::from_millis(100));
    }
    last
}

/// Of the straight line with the least squares through `(x, y)`.
fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let mean = |f: fn(&(f64, f64)) -> f64| points.iter().map(f).sum::<f64>() / n;
    let (mx, my) = (mean(|p| p.0), mean(|p| p.1));
    let over: f64 = points.iter().map(|(x, y)| (x - mx) * (y - my)).sum();
    let under: f64 = points.iter().map(|(x, _)| (x - mx).powi(2)).sum();
    if under > 0.0 { over / under } else { 0.0 }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_ignores_what_is_there_at_the_start() {
        assert!((slope(&[(1.0, 105.0), (2.0, 110.0), (4.0, 120.0)]) - 5.0).abs() < 1e-9);
        assert!(slope(&[]).abs() < 1e-9);
    }
}
