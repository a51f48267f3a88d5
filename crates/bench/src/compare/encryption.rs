//! Table `encryption`: what TLS between two sidecars costs over plaintext, and what an idle connection holds.
use super::links::{self, Link, Pair, name};
use super::memory::{settled, slope};
use super::peers::{Kind, LOOPBACK, Program};
use super::pki::Pki;
use super::storm::clients;
use super::table::{Metric, Table};
use super::{OTHERS, Setup, memory, run_load};
use crate::{LoadOptions, LoadResult, Protocol};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};

/// Idle connections held.
const CONNECTIONS: usize = 10_000;
const IDLE: &str = "idle connections at the callee, each used once";
/// The open loop's rate: a share of what plaintext carried in the round, so that queues stay short.
const SHARE: f64 = 0.4;

const METRICS: [Metric; 8] = [
    Metric { key: "cpu_us", title: "CPU µs/request of both", digits: 2, chart: true },
    Metric { key: "rps", title: "requests/s", digits: 0, chart: true },
    Metric { key: "p50_us", title: "p50 µs", digits: 0, chart: false },
    Metric { key: "p99_us", title: "p99 µs", digits: 0, chart: true },
    Metric { key: "kib_per_connection", title: "KiB/connection", digits: 2, chart: true },
    Metric { key: "connections", title: "connections", digits: 0, chart: false },
    Metric { key: "failed", title: "failed", digits: 0, chart: false },
    OTHERS,
];

/// Connections × depth.
fn work(protocol: Protocol) -> &'static [(usize, usize)] {
    if protocol == Protocol::Bolt { &[(8, 16), (8, 64)] } else { &[(8, 16)] }
}

pub(super) fn measure(setup: &mut Setup<'_>, protocol: Protocol) -> io::Result<Table> {
    let title = "1 KiB, two sidecars of one worker, plaintext and mutual TLS 1.3 between them";
    let mut table = Table::new("encryption", protocol, title, &METRICS);
    let bench = super::Bench { proxy_cpu: None, ..setup.bench.clone() };
    let pki = Pki::make(&bench)?;
    let echo = setup.start_echo(protocol, LOOPBACK, None)?;
    let mut running: Vec<(String, Link, Pair)> = Vec::new();
    for kind in [Kind::Envoy, Kind::Raddle] {
        let Some(program) = setup.program(kind) else { continue };
        for link in [Link::Plaintext, Link::Tls] {
            match links::start(&bench, &program, protocol, link, &pki, echo.listen) {
                Ok(pair) => running.push((name(kind, link), link, pair)),
                Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
                Err(e) => setup.leave_out(kind, &format!("{}, {}", table.name, name(kind, link)), &e),
            }
        }
    }
    for round in 1..=setup.rounds {
        for &(connections, depth) in work(protocol) {
            let group = format!("{connections}×{depth}");
            let mut plain = 0.0;
            for (subject, link, pair) in &running {
                let opts = LoadOptions {
                    target: pair.caller.listen,
                    connections,
                    depth,
                    pids: pids(pair),
                    ..setup.load_options(protocol)
                };
                let closed = run_load(&bench, opts.clone())?;
                if *link == Link::Plaintext {
                    plain = closed.rps;
                }
                let open = run_load(&bench, LoadOptions { rate: Some((plain * SHARE).max(100.0)), ..opts })?;
                let cpu = put(&mut table, &group, subject, &closed, &open);
                setup.say(&format!(
                    "{} {round}/{}: {group} {subject}: {cpu:.2} µs, {:.0}/s; p99 {:.0} µs at {:.0}/s",
                    table.name,
                    setup.rounds,
                    closed.rps,
                    open.latency.p99_us,
                    plain * SHARE
                ));
            }
        }
    }
    drop(running);
    if let Some(program) = setup.program(Kind::Raddle).filter(|_| protocol == Protocol::Bolt) {
        for link in [Link::Plaintext, Link::Tls] {
            match hold(setup, &mut table, &program, link, (&pki, echo.listen)) {
                Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
                Err(e) => setup.leave_out(Kind::Raddle, &format!("{}, {IDLE}", table.name), &e),
                Ok(()) => {}
            }
        }
    }
    goals(&mut table, protocol);
    table.notes = vec![
        "CPU is the run time of both sidecars (schedstat) per request of a closed loop; p50 and p99 are of an open loop at \
         40 % of what the same proxy carried in plaintext in that round. Sidecars are not pinned; both hold certificates \
         in either case. Ratios are medians over rounds of the quotient within the round."
            .into(),
        "Envoy's peers are tcp_proxy for Bolt and its HTTP connection manager for HTTP/2, with the same certificates."
            .into(),
    ];
    Ok(table)
}

fn pids(pair: &Pair) -> Vec<(String, u32)> {
    [&pair.caller, &pair.callee].map(|peer| ("proxy".to_owned(), peer.process.pid())).to_vec()
}

/// Notes a pair's round; its CPU µs for a request.
fn put(table: &mut Table, group: &str, subject: &str, closed: &LoadResult, open: &LoadResult) -> f64 {
    let cpu = closed.processes.iter().map(|p| p.us_per_request).sum();
    let failed = closed.failures.total() + open.failures.total();
    let figures = [
        ("cpu_us", cpu),
        ("rps", closed.rps),
        ("p50_us", open.latency.p50_us),
        ("p99_us", open.latency.p99_us),
        ("failed", failed as f64),
        (OTHERS.key, closed.other_cores().max(open.other_cores())),
    ];
    for (key, value) in figures {
        table.push(group, subject, key, value);
    }
    cpu
}

/// Memory of the callee by idle connection.
fn hold(
    setup: &mut Setup<'_>,
    table: &mut Table,
    program: &Program,
    link: Link,
    (pki, echo): (&Pki, SocketAddr),
) -> io::Result<()> {
    let bench = setup.bench.clone();
    let protocol = table.protocol;
    let callee = links::callee(&bench, program, protocol, link, pki, (&format!("idle-{link:?}"), echo))?;
    let config = pki.client()?;
    let most = CONNECTIONS.min(setup.open_files.saturating_sub(memory::SPARE_FILES) as usize);
    let (mut held, mut points): (Vec<TcpStream>, Vec<(f64, f64)>) = (Vec::with_capacity(most), Vec::new());
    for part in [4, 2, 1] {
        while held.len() < most / part {
            if held.len().is_multiple_of(256) {
                bench.check_stop()?;
            }
            held.push(match link {
                Link::Plaintext => memory::hold(protocol, callee.listen)?,
                Link::Tls => clients::hold(&config, callee.listen)?,
            });
        }
        points.push((held.len() as f64, settled(&callee) as f64));
    }
    let closed = held.iter().filter(|stream| memory::is_closed(stream)).count();
    if closed > 0 {
        return Err(io::Error::other(format!("it closed {closed} of {most} idle connections")));
    }
    let slope = slope(&points) / 1024.0;
    let subject = name(Kind::Raddle, link);
    table.push(IDLE, &subject, "kib_per_connection", slope);
    table.push(IDLE, &subject, "connections", most as f64);
    setup.say(&format!("{}: {subject}: {slope:.2} KiB/connection over {most} {IDLE}", table.name));
    Ok(())
}

fn goals(table: &mut Table, protocol: Protocol) {
    let [plain, tls] = [Link::Plaintext, Link::Tls].map(|link| name(Kind::Raddle, link));
    let envoy = name(Kind::Envoy, Link::Tls);
    for &(connections, depth) in work(protocol) {
        let group = format!("{connections}×{depth}");
        let (cpu, p99) =
            (table.ratio(&group, &tls, &plain, "cpu_us"), table.ratio(&group, &tls, &plain, "p99_us"));
        table.goal(format!("CPU at {group}, TLS ÷ plaintext"), 1.10, cpu);
        table.goal(format!("p99 at {group}, TLS ÷ plaintext"), 1.05, p99);
        let against = table.ratio(&group, &tls, &envoy, "cpu_us");
        table.stretch(format!("CPU at {group} with TLS, Raddle ÷ Envoy"), 1.0, against);
    }
    if protocol == Protocol::Bolt {
        for (subject, bound) in [(plain, 4.0), (tls, 12.0)] {
            let slope = table.figure(IDLE, &subject, "kib_per_connection").map(|f| f.median);
            table.goal(format!("KiB for an idle connection, {subject}"), bound, slope);
        }
    }
}
