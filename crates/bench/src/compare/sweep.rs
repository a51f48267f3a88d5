//! Table `sweep`: Raddle's CPU for a request as something grows a thousandfold. It should be flat.
use super::peers::{self, Kind, Peer, Program, Sidecar};
use super::process;
use super::table::{Metric, Table, median};
use super::{OTHERS, Setup, run_load};
use crate::{LoadOptions, Protocol};
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// What is spoken.
const BOLT: Protocol = Protocol::Bolt;
const SERVICE: &str = BOLT.usual_service();
const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
/// The most that ten thousand may cost over ten and still be called flat; noise of one machine is in it.
const FLAT: f64 = 1.2;

const METRICS: [Metric; 4] = [
    Metric { key: "cpu_us", title: "proxy CPU µs/request", digits: 2, chart: true },
    Metric { key: "rps", title: "requests/s", digits: 0, chart: false },
    Metric { key: "failed", title: "failed", digits: 0, chart: false },
    OTHERS,
];

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Axis {
    Services,
    Endpoints,
    EndpointsUsed,
    RulesElsewhere,
    RulesHere,
    Connections,
}

impl Axis {
    const ALL: [Axis; 6] = [
        Axis::Services,
        Axis::Endpoints,
        Axis::EndpointsUsed,
        Axis::RulesElsewhere,
        Axis::RulesHere,
        Axis::Connections,
    ];

    fn name(self) -> &'static str {
        match self {
            Axis::Services => "services",
            Axis::Endpoints => "endpoints, requests hashed to one",
            Axis::EndpointsUsed => "endpoints, requests over all",
            Axis::RulesElsewhere => "routes of other services",
            Axis::RulesHere => "rules of the service, by method",
            Axis::Connections => "idle connections",
        }
    }

    /// Connections × depth of the load.
    fn work(self) -> (usize, usize) {
        // Requests spread over thousands of connections leave nothing to batch: only unbatched work at the
        // small end compares with that.
        if self == Axis::EndpointsUsed { (32, 1) } else { (8, 16) }
    }

    /// The size the largest is compared with.
    fn baseline(self) -> usize {
        // Ten endpoints still batch three of the 32 requests in flight; a hundred hardly any.
        if self == Axis::EndpointsUsed { SIZES[1] } else { SIZES[0] }
    }

    fn config(self, n: usize, echo: SocketAddr) -> String {
        let mut out = String::new();
        match self {
            Axis::Services => {
                for i in 1..n {
                    out += &peers::service(BOLT, &format!("bench.Other{i}:1.0"), &[echo]);
                }
            }
            Axis::Endpoints => out += &policy("{consistentHash: method}"),
            Axis::EndpointsUsed => out += &policy("p2cEwma"),
            Axis::RulesElsewhere => {
                for i in 0..n {
                    let other = format!("bench.Other{i}:1.0");
                    out += &peers::service(BOLT, &other, &[echo]);
                    out += &route(&format!("other-{i}"), &other, 1);
                }
            }
            Axis::RulesHere => out += &route("here", SERVICE, n),
            Axis::Connections => {}
        }
        let spread = matches!(self, Axis::Endpoints | Axis::EndpointsUsed);
        let endpoints: Vec<_> = (0..if spread { n } else { 1 }).map(|i| alias(echo, i)).collect();
        out + &peers::service(BOLT, SERVICE, &endpoints)
    }
}

/// The `i`-th loopback address of the same server: a different endpoint to a proxy.
fn alias(echo: SocketAddr, i: usize) -> SocketAddr {
    let ip = Ipv4Addr::new(127, 0, (i / 250) as u8, (i % 250) as u8 + 1);
    SocketAddr::new(IpAddr::V4(ip), echo.port())
}

fn policy(balancer: &str) -> String {
    format!(
        "---\napiVersion: raddle.io/v1\nkind: TrafficPolicy\nmetadata: {{name: bench}}\nspec:\n  \
         to: {{services: [\"{SERVICE}\"]}}\n  balancer: {balancer}\n"
    )
}

/// A route of `rules` rules, none of which takes the load's method.
fn route(name: &str, service: &str, rules: usize) -> String {
    let mut out = format!(
        "---\napiVersion: raddle.io/v1\nkind: Route\nmetadata: {{name: {name}}}\nspec:\n  \
         to: {{services: [\"{service}\"]}}\n  rules:\n"
    );
    for i in 0..rules {
        // Writing to a String does not fail.
        let _ = writeln!(out, "  - {{when: {{method: method{i}}}, send: {{group: default}}}}");
    }
    out
}

/// One size of one axis, ready to be loaded.
struct Point {
    n: usize,
    peer: Peer,
    /// Held open for [`Axis::Connections`].
    _idle: Vec<TcpStream>,
}

fn start(setup: &Setup<'_>, program: &Program, axis: Axis, n: usize, echo: SocketAddr) -> io::Result<Point> {
    let bench = &setup.bench;
    let (listen, admin) = (process::free_address(peers::LOOPBACK)?, process::free_address(peers::LOOPBACK)?);
    let yaml = Sidecar::outbound(listen, admin).yaml() + &axis.config(n, echo);
    let peer = peers::start_raddle(bench, program, &format!("sweep-{axis:?}-{n}"), &yaml, listen, admin)?;
    let held = if axis == Axis::Connections { n.min(setup.open_files as usize / 2) } else { 0 };
    let idle = (0..held).map(|_| super::memory::hold(BOLT, listen)).collect::<io::Result<_>>()?;
    Ok(Point { n, peer, _idle: idle })
}

pub(super) fn measure(setup: &mut Setup<'_>) -> io::Result<Table> {
    let mut table =
        Table::new("sweep", BOLT, "Raddle's CPU for a request as the configuration grows", &METRICS);
    let Some(program) = setup.program(Kind::Raddle) else {
        table.notes.push("Raddle's binary is missing: nothing was measured.".into());
        return Ok(table);
    };
    for axis in Axis::ALL {
        match measure_axis(setup, &mut table, &program, axis) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(e),
            Err(e) => {
                setup.say(&format!("sweep: {}: {e}", axis.name()));
                table.notes.push(format!("{}: not measured: {e}", axis.name()));
            }
            Ok(()) => {}
        }
        let (first, last) = (label(axis.baseline()), label(SIZES[SIZES.len() - 1]));
        let growth = table.ratio(axis.name(), &last, &first, "cpu_us");
        table.goal(format!("{}: CPU at {last} ÷ at {first}", axis.name()), FLAT, growth);
    }
    table.notes.push(
        "Load is 8×16, and 32×1 where requests go over all endpoints: there every endpoint is a connection of its \
         own, so that the step from 10 to 100 is the loss of batching (fewer requests a write), not the choice; the \
         goal is counted from 100."
            .into(),
    );
    Ok(table)
}

fn measure_axis(setup: &mut Setup<'_>, table: &mut Table, program: &Program, axis: Axis) -> io::Result<()> {
    let bench = setup.bench.clone();
    let echo = setup.start_echo(BOLT, Ipv4Addr::UNSPECIFIED.into(), None)?;
    let mut points = Vec::new();
    for n in SIZES {
        // The rows in order of size, whatever order they are measured in.
        table.row(axis.name(), &label(n));
        bench.check_stop()?;
        points.push(start(setup, program, axis, n, echo.listen)?);
    }
    let (connections, depth) = axis.work();
    for round in 1..=setup.rounds {
        // Each round begins with another size, so that none is always measured first.
        for i in 0..points.len() {
            let point = &points[(i + round) % points.len()];
            let usual = setup.load_options(BOLT);
            // Every endpoint's connection must have been made before measuring begins.
            let first = axis == Axis::EndpointsUsed && round == 1;
            let warmup = usual.warmup + Duration::from_secs(if first { 3 } else { 0 });
            let pids = [("proxy", &point.peer), ("server", &echo)];
            let pids = pids.map(|(name, peer)| (name.to_owned(), peer.process.pid())).to_vec();
            let opts = LoadOptions { target: point.peer.listen, connections, depth, pids, warmup, ..usual };
            let result = run_load(&bench, opts)?;
            let mut push = |key, value| table.push(axis.name(), &label(point.n), key, value);
            push("cpu_us", result.processes[0].us_per_request);
            push("rps", result.rps);
            push("failed", result.failures.total() as f64);
            push(OTHERS.key, result.other_cores());
        }
        let costs = SIZES.iter().filter_map(|n| table.figure(axis.name(), &label(*n), "cpu_us"));
        let costs: Vec<String> = costs.map(|f| format!("{:.2}", median(&f.rounds))).collect();
        setup.say(&format!("sweep {round}/{}: {}: µs {}", setup.rounds, axis.name(), costs.join(" ")));
    }
    Ok(())
}

fn label(n: usize) -> String {
    if n >= 1000 { format!("{},{:03}", n / 1000, n % 1000) } else { n.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raddle_takes_every_configuration_of_the_sweep() {
        let [listen, admin, echo] = [1, 2, 3].map(|port| SocketAddr::new(peers::LOOPBACK, port));
        for axis in Axis::ALL {
            let yaml = Sidecar::outbound(listen, admin).yaml() + &axis.config(300, echo);
            peers::assert_loads(axis.name(), yaml);
        }
    }
}
