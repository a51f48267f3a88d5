//! Table `throughput`: CPU of one proxy worker for a request, closed loop.
use super::peers::{self, Kind, LOOPBACK};
use super::table::{Metric, Table};
use super::{OTHERS, Setup, run_load};
use crate::LoadOptions;
use std::io;

/// Connections × depth.
const WORK: [(usize, usize); 3] = [(32, 1), (8, 16), (8, 64)];
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

pub(super) fn measure(setup: &mut Setup<'_>) -> io::Result<Table> {
    let mut table = Table::new("throughput", "Bolt, 1 KiB frames, one proxy worker, closed loop", &METRICS);
    let bench = setup.bench.clone();
    let echo = peers::start_echo(&bench, &setup.echo, LOOPBACK)?;
    let mut running = Vec::new();
    for program in setup.programs.clone() {
        match peers::start(&bench, &program, &format!("throughput-{:?}", program.kind), echo.listen) {
            Ok(peer) => running.push((program.kind.name(), Some(peer))),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(e),
            Err(e) => setup.leave_out(program.kind, "throughput", &e),
        }
    }
    running.insert(0, (DIRECT, None));
    for round in 1..=setup.rounds {
        for (connections, depth) in WORK {
            let group = format!("{connections}×{depth}");
            for (name, peer) in &running {
                let target = peer.as_ref().map_or(echo.listen, |p| p.listen);
                let mut pids = vec![("server".to_owned(), echo.process.pid())];
                pids.extend(peer.as_ref().map(|p| ("proxy".to_owned(), p.process.pid())));
                let opts = LoadOptions { target, connections, depth, pids, ..setup.load_options() };
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
                    "throughput {round}/{}: {group} {name}: {:.0}/s{cpu}",
                    setup.rounds, result.rps
                ));
            }
        }
    }
    let (raddle, haproxy) = (Kind::Raddle.name(), Kind::Haproxy.name());
    for ((connections, depth), bound) in WORK.into_iter().zip([0.6, 1.0, 1.0]) {
        let group = format!("{connections}×{depth}");
        let measured = table.ratio(&group, raddle, haproxy, "cpu_us");
        table.goal(format!("CPU at {group}, Raddle ÷ HAProxy tcp"), bound, measured);
    }
    table.notes = vec![
        "CPU is the run time of the proxy process alone (schedstat), per request answered well. Raddle decodes, \
         routes, balances and counts every Bolt request; the others relay bytes."
            .into(),
        "Generator, echo server and proxy share the machine's cores: requests/s say as much of the three together \
         as of the proxy. Ratios are medians over rounds of the quotient within the round."
            .into(),
    ];
    Ok(table)
}
