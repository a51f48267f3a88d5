//! Table `memory`: resident memory idle, by idle connection, and with thousands of clusters.
use super::Setup;
use super::peers::{self, Kind, LOOPBACK, Peer, Program, Sidecar};
use super::process;
use super::table::{Metric, Table};
use crate::load::once;
use crate::{LoadOptions, Protocol, cpu};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const CLUSTERS: usize = 5000;
const ENDPOINTS: usize = 3;
/// Idle connections held, most.
const CONNECTIONS: usize = 10_000;
/// Descriptors a process needs for other things.
pub(super) const SPARE_FILES: u64 = 200;

const IDLE: &str = "idle";
const HELD: &str = "idle connections, each used once";
const UNUSED: &str = "idle connections, never used";
const MANY: &str = "5,000 clusters × 3 endpoints";

const METRICS: [Metric; 5] = [
    Metric { key: "rss_mib", title: "resident MiB", digits: 1, chart: true },
    Metric { key: "kib_per_connection", title: "KiB/connection", digits: 2, chart: true },
    Metric { key: "connections", title: "connections", digits: 0, chart: false },
    Metric { key: "ready_s", title: "s to ready", digits: 2, chart: true },
    Metric { key: "cpu_s", title: "CPU s to ready", digits: 2, chart: false },
];

pub(super) fn measure(setup: &mut Setup<'_>, protocol: Protocol) -> io::Result<Table> {
    let mut table = Table::new("memory", protocol, "resident memory of one proxy with one worker", &METRICS);
    let echo = setup.start_echo(protocol, LOOPBACK, None)?;
    let groups: &[&'static str] = match protocol {
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => &[HELD, UNUSED],
        // A listener that waits for a first byte takes such a connection for TCP after a while.
        _ => &[HELD],
    };
    for (program, name) in setup.able(protocol) {
        for group in groups {
            if let Err(e) = by_connection(setup, &mut table, (&program, name), group, echo.listen) {
                if e.kind() == ErrorKind::Interrupted {
                    return Err(e);
                }
                setup.leave_out(program.kind, &format!("{}, {group}", table.name), &e);
            }
        }
    }
    if protocol == Protocol::Bolt {
        by_clusters(setup, &mut table)?;
    }
    table.gather_groups();
    let raddle = Kind::Raddle.program();
    let value = |group, key| table.figure(group, raddle, key).map(|f| f.median);
    let idle = value(IDLE, "rss_mib");
    let slopes: Vec<_> = groups.iter().map(|group| (group, value(group, "kib_per_connection"))).collect();
    let (many, ready) = (value(MANY, "rss_mib"), value(MANY, "ready_s"));
    table.goal("idle sidecar, MiB", 10.0, idle);
    for (group, slope) in slopes {
        table.goal(format!("KiB for a connection ({group})"), 4.0, slope);
    }
    if protocol == Protocol::Bolt {
        table.goal("5,000 clusters × 3 endpoints, MiB", 40.0, many);
        table.goal("5,000 clusters × 3 endpoints, s to ready", 1.0, ready);
    }
    table.notes = vec![
        "Resident memory (VmRSS) of the process; the kernel's socket buffers are not in it. KiB/connection is the \
         slope of a straight line through a quarter, a half and all of the connections."
            .into(),
        format!(
            "A process may open {} files here. A relay needs two a connection, so fewer are held through it.",
            setup.open_files
        ),
    ];
    Ok(table)
}

/// Memory and time to ready with thousands of clusters, of those that can be told of so many.
fn by_clusters(setup: &mut Setup<'_>, table: &mut Table) -> io::Result<()> {
    // Few rounds: memory repeats, and a start of some peers takes most of a minute.
    for round in 1..=setup.rounds.min(3) {
        for kind in [Kind::Envoy, Kind::Raddle] {
            let Some(program) = setup.program(kind) else { continue };
            match by_cluster(setup, table, &program, round) {
                Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
                Err(e) => setup.leave_out(kind, "memory by cluster", &e),
                Ok(()) => {}
            }
        }
    }
    Ok(())
}

/// Idle memory, and its growth with idle connections.
fn by_connection(
    setup: &mut Setup<'_>,
    table: &mut Table,
    (program, name): (&Program, &str),
    group: &str,
    echo: SocketAddr,
) -> io::Result<()> {
    let bench = setup.bench.clone();
    let protocol = table.protocol;
    let used = group == HELD;
    let files = format!("memory-{protocol}-{:?}-{used}", program.kind);
    let peer = if program.kind == Kind::Raddle && !used {
        let (listen, admin) = (process::free_address(LOOPBACK)?, process::free_address(LOOPBACK)?);
        let service = peers::service(protocol, protocol.usual_service(), &[echo]);
        let yaml = Sidecar::outbound_for(protocol, listen, admin).yaml() + &service;
        peers::start_raddle(&bench, program, &files, &yaml, listen, admin)?
    } else {
        peers::start(&bench, program, protocol, &files, echo)?
    };
    let idle = settled(&peer);
    if used {
        table.push(IDLE, name, "rss_mib", mib(idle));
    }
    let files = setup.open_files.saturating_sub(SPARE_FILES) as usize;
    let most = CONNECTIONS.min(if program.kind == Kind::Raddle { files } else { files / 2 });
    let mut held = Vec::with_capacity(most);
    let mut points = Vec::new();
    for part in [4, 2, 1] {
        while held.len() < most / part {
            if held.len() % 256 == 0 {
                bench.check_stop()?;
            }
            held.push(if used { hold(protocol, peer.listen)? } else { TcpStream::connect(peer.listen)? });
        }
        points.push((held.len() as f64, settled(&peer) as f64));
    }
    let closed = held.iter().filter(|stream| is_closed(stream)).count();
    if closed > 0 {
        return Err(io::Error::other(format!("it closed {closed} of {most} idle connections")));
    }
    let slope = slope(&points) / 1024.0;
    let full = points.last().map_or(0.0, |p| p.1);
    table.push(group, name, "rss_mib", full / 1_048_576.0);
    table.push(group, name, "kib_per_connection", slope);
    table.push(group, name, "connections", most as f64);
    setup.say(&format!(
        "{}: {name}: idle {:.1} MiB, {slope:.2} KiB/connection over {most} {group}",
        table.name,
        mib(idle)
    ));
    Ok(())
}

/// Whether the peer has ended an idle connection.
pub(super) fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).is_err() || matches!(stream.peek(&mut [0; 64]), Ok(0))
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
        let services: String =
            clusters.iter().map(|(name, e)| peers::service(Protocol::Bolt, name, e)).collect();
        let yaml = Sidecar::outbound(listen, admin).yaml() + &services;
        start = Instant::now();
        peers::start_raddle(&bench, program, &name, &yaml, listen, admin)?
    } else {
        let config = peers::envoy(Protocol::Bolt, listen, admin, &clusters);
        start = Instant::now();
        peers::start_envoy(&bench, program, &name, &config, listen, admin)?
    };
    let ready = start.elapsed().as_secs_f64();
    let cpu = cpu::used(peer.process.pid()).as_secs_f64();
    let resident = mib(settled(&peer));
    let subject = program.kind.name(Protocol::Bolt).unwrap_or_default();
    table.push(MANY, subject, "rss_mib", resident);
    table.push(MANY, subject, "ready_s", ready);
    table.push(MANY, subject, "cpu_s", cpu);
    setup.say(&format!("memory round {round}: {subject}: {MANY}: {resident:.1} MiB, ready in {ready:.2} s"));
    Ok(())
}

/// Opens a connection and sends one request over it, so that it is fully made on every hop.
pub(super) fn hold(protocol: Protocol, target: SocketAddr) -> io::Result<TcpStream> {
    once(&LoadOptions {
        protocol,
        target,
        size: 64,
        timeout: Duration::from_secs(10),
        ..LoadOptions::default()
    })
}

/// Resident bytes once they have stopped changing, or after two seconds.
pub(super) fn settled(peer: &Peer) -> u64 {
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
pub(super) fn slope(points: &[(f64, f64)]) -> f64 {
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
