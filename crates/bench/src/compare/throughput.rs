//! Table `throughput`: CPU of one proxy worker for a request, closed loop.
use super::peers::{self, Kind, LOOPBACK};
use super::table::{Metric, Table};
use super::{OTHERS, Setup, run_load};
use crate::{LoadOptions, Protocol};
use std::io;

/// Connections × depth.
fn work(protocol: Protocol) -> &'static [(usize, usize)] {
    match protocol {
        // One request a connection.
        Protocol::Http => &[(32, 1), (128, 1)],
        Protocol::Http2 | Protocol::Grpc => &[(8, 16), (32, 1)],
        _ => &[(32, 1), (8, 16), (8, 64)],
    }
}

/// What Raddle's CPU is to be of that of others, at each work: the peer, the ratio, whether it is a stretch.
fn goals(protocol: Protocol, depth: usize) -> Vec<(Kind, f64, bool)> {
    let batched = depth > 1;
    match protocol {
        Protocol::Http => {
            vec![(Kind::Nginx, 1.0, false), (Kind::Envoy, 0.35, false), (Kind::Haproxy, 1.0, true)]
        }
        Protocol::Http2 | Protocol::Grpc => vec![(Kind::Envoy, 0.5, false)],
        Protocol::Dubbo => vec![
            (Kind::Haproxy, if batched { 1.0 } else { 0.6 }, false),
            (Kind::Envoy, if batched { 0.06 } else { 0.3 }, false),
        ],
        _ => vec![(Kind::Haproxy, if batched { 1.0 } else { 0.6 }, false)],
    }
}

pub(super) const DIRECT: &str = "no proxy";

const METRICS: [Metric; 7] = [
    Metric { key: "cpu_us", title: "proxy CPU µs/request", digits: 2, chart: true },
    Metric { key: "rps", title: "requests/s", digits: 0, chart: true },
    Metric { key: "p99_us", title: "p99 µs", digits: 0, chart: false },
    Metric { key: "server_us", title: "server CPU µs/request", digits: 2, chart: false },
    Metric { key: "generator_us", title: "generator CPU µs/request", digits: 2, chart: false },
    Metric { key: "failed", title: "failed", digits: 0, chart: false },
    OTHERS,
];

pub(super) fn measure(setup: &mut Setup<'_>, protocol: Protocol) -> io::Result<Table> {
    let what = match protocol {
        Protocol::Bolt | Protocol::Dubbo => "frames",
        _ => "bodies",
    };
    let title = format!("1 KiB {what}, one proxy worker, closed loop");
    let mut table = Table::new("throughput", protocol, &title, &METRICS);
    let bench = setup.bench.clone();
    let echo = setup.start_echo(protocol, LOOPBACK, None)?;
    let mut running = Vec::new();
    for (program, name) in setup.able(protocol) {
        let files = format!("throughput-{protocol}-{:?}", program.kind);
        match peers::start(&bench, &program, protocol, &files, echo.listen) {
            Ok(peer) => running.push((name, Some(peer))),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(e),
            Err(e) => setup.leave_out(program.kind, &table.name, &e),
        }
    }
    running.insert(0, (DIRECT, None));
    for round in 1..=setup.rounds {
        for &(connections, depth) in work(protocol) {
            let group = format!("{connections}×{depth}");
            for (name, peer) in &running {
                let target = peer.as_ref().map_or(echo.listen, |p| p.listen);
                let mut pids = vec![("server".to_owned(), echo.process.pid())];
                pids.extend(peer.as_ref().map(|p| ("proxy".to_owned(), p.process.pid())));
                let opts = LoadOptions { target, connections, depth, pids, ..setup.load_options(protocol) };
                let result = run_load(&bench, opts)?;
                let mut push = |key, value| table.push(&group, name, key, value);
                push("server_us", result.processes[0].us_per_request);
                if let Some(proxy) = result.processes.get(1) {
                    push("cpu_us", proxy.us_per_request);
                }
                push("rps", result.rps);
                push("p99_us", result.latency.p99_us);
                push("generator_us", result.generator_us_per_request);
                push("failed", result.failures.total() as f64);
                push(OTHERS.key, result.other_cores());
                let cpu = result
                    .processes
                    .get(1)
                    .map_or(String::new(), |p| format!(", {:.2} µs", p.us_per_request));
                setup.say(&format!(
                    "{} {round}/{}: {group} {name}: {:.0}/s{cpu}",
                    table.name, setup.rounds, result.rps
                ));
            }
        }
    }
    for &(connections, depth) in work(protocol) {
        let group = format!("{connections}×{depth}");
        for (kind, bound, stretch) in goals(protocol, depth) {
            let (Some(raddle), Some(peer)) = (Kind::Raddle.name(protocol), kind.name(protocol)) else {
                continue;
            };
            let measured = table.ratio(&group, raddle, peer, "cpu_us");
            let what = format!("CPU at {group}, Raddle ÷ {peer}");
            if stretch { table.stretch(what, bound, measured) } else { table.goal(what, bound, measured) }
        }
    }
    table.notes = vec![
        format!(
            "CPU is the run time of the proxy process alone (schedstat), per request answered well. Raddle decodes, \
             routes, balances and counts every request{}.",
            match protocol {
                Protocol::Bolt => "; the others relay bytes",
                Protocol::Dubbo => ", and so does Envoy; HAProxy and nginx relay bytes",
                _ => ", and so do the others",
            }
        ),
        "Generator, echo server and proxy share the machine's cores: requests/s say as much of the three together \
         as of the proxy. Ratios are medians over rounds of the quotient within the round."
            .into(),
    ];
    Ok(table)
}
