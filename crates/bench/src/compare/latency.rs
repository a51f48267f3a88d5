//! Table `latency`: what two proxies in a chain add at a steady rate, open loop.
use super::peers::{self, Kind, LOOPBACK, Peer, Program, Sidecar};
use super::process::{self, Bench};
use super::table::{Metric, Table};
use super::throughput::DIRECT;
use super::{OTHERS, Setup, run_load};
use crate::{LoadOptions, Protocol};
use std::io;
use std::net::SocketAddr;

const RATE: f64 = 2000.0;
const CONNECTIONS: usize = 16;
const GROUP: &str = "2,000/s, 16 connections";

const METRICS: [Metric; 8] = [
    Metric { key: "added_p50_ms", title: "added p50 ms", digits: 3, chart: true },
    Metric { key: "added_p99_ms", title: "added p99 ms", digits: 3, chart: true },
    Metric { key: "p50_ms", title: "p50 ms", digits: 3, chart: false },
    Metric { key: "p99_ms", title: "p99 ms", digits: 3, chart: false },
    Metric { key: "p999_ms", title: "p99.9 ms", digits: 3, chart: false },
    Metric { key: "cpu_us", title: "CPU µs/request of both", digits: 1, chart: false },
    Metric { key: "failed", title: "failed", digits: 0, chart: false },
    OTHERS,
];

/// Two proxies of one kind in front of `upstream`, first the one requests go into.
fn chain(
    bench: &Bench,
    program: &Program,
    protocol: Protocol,
    upstream: SocketAddr,
) -> io::Result<[Peer; 2]> {
    let files = format!("latency-{protocol}-{:?}", program.kind);
    let (listen, admin) = (process::free_address(LOOPBACK)?, process::free_address(LOOPBACK)?);
    let second = if program.kind == Kind::Raddle {
        let yaml = Sidecar::inbound(listen, upstream, admin).yaml();
        peers::start_raddle(bench, program, &format!("{files}-callee"), &yaml, listen, admin)?
    } else {
        peers::start(bench, program, protocol, &format!("{files}-callee"), upstream)?
    };
    let first = peers::start(bench, program, protocol, &format!("{files}-caller"), second.listen)?;
    Ok([first, second])
}

pub(super) fn measure(setup: &mut Setup<'_>, protocol: Protocol) -> io::Result<Table> {
    let title = "two proxies in a chain, 2,000 requests/s, open loop";
    let mut table = Table::new("latency", protocol, title, &METRICS);
    // Two proxies on one CPU would wait for each other as they never do on two machines.
    let bench = Bench { proxy_cpu: None, ..setup.bench.clone() };
    let echo = setup.start_echo(protocol, LOOPBACK, None)?;
    let mut running: Vec<(String, Option<[Peer; 2]>)> = vec![(DIRECT.to_owned(), None)];
    for (program, name) in setup.able(protocol) {
        match chain(&bench, &program, protocol, echo.listen) {
            Ok(peers) => running.push((twice(name), Some(peers))),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(e),
            Err(e) => setup.leave_out(program.kind, &table.name, &e),
        }
    }
    for round in 1..=setup.rounds {
        let mut direct = (0.0, 0.0);
        for (name, chain) in &running {
            let target = chain.as_ref().map_or(echo.listen, |[first, _]| first.listen);
            let mut pids = vec![("server".to_owned(), echo.process.pid())];
            pids.extend(chain.iter().flatten().map(|peer| ("proxy".to_owned(), peer.process.pid())));
            let opts = LoadOptions {
                target,
                pids,
                connections: CONNECTIONS,
                depth: 64,
                rate: Some(RATE),
                // At this rate a 99th percentile needs some seconds.
                duration: setup.seconds.mul_f64(2.0),
                ..setup.load_options(protocol)
            };
            let result = run_load(&bench, opts)?;
            let (p50, p99) = (result.latency.p50_us / 1e3, result.latency.p99_us / 1e3);
            let mut push = |key, value| table.push(GROUP, name, key, value);
            if chain.is_none() {
                direct = (p50, p99);
            } else {
                push("added_p50_ms", p50 - direct.0);
                push("added_p99_ms", p99 - direct.1);
                push("cpu_us", result.processes[1..].iter().map(|p| p.us_per_request).sum());
            }
            push("p50_ms", p50);
            push("p99_ms", p99);
            push("p999_ms", result.latency.p999_us / 1e3);
            push("failed", result.failures.total() as f64);
            push(OTHERS.key, result.other_cores());
            setup.say(&format!(
                "{} {round}/{}: {name}: p50 {p50:.3} ms, p99 {p99:.3} ms",
                table.name, setup.rounds
            ));
        }
    }
    let [raddle, envoy] =
        [Kind::Raddle, Kind::Envoy].map(|kind| twice(kind.name(protocol).unwrap_or_default()));
    let added = |key| table.figure(GROUP, &raddle, key).map(|f| f.median);
    let (p50, p99) = (added("added_p50_ms"), added("added_p99_ms"));
    let against = table.ratio(GROUP, &raddle, &envoy, "added_p50_ms");
    let against_p99 = table.ratio(GROUP, &raddle, &envoy, "added_p99_ms");
    table.goal("p50 added by two sidecars, ms", 0.15, p50);
    table.goal("p99 added by two sidecars, ms", 0.5, p99);
    table.goal("added p50, Raddle ÷ Envoy", 0.5, against);
    table.goal("added p99, Raddle ÷ Envoy", 0.5, against_p99);
    table.notes = vec![
        "Latency counts from the intended send time. \"Added\" is over the direct run of the same round. Proxies are \
         not pinned here."
            .into(),
        "On a virtual machine with idle time, waking a halted CPU costs 0.1 to 0.4 ms and is in every hop; it is the \
         comparison within a round that means something."
            .into(),
    ];
    Ok(table)
}

fn twice(name: &str) -> String {
    format!("{name} + {name}")
}
