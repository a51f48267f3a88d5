//! Table `storm`: thousands of clients shake hands with one callee at once; what its other callers feel of it.
pub(super) mod clients;

use super::links::{self, Link, Pair};
use super::peers::{Kind, LOOPBACK};
use super::pki::Pki;
use super::process::Bench;
use super::table::{Metric, Table};
use super::{OTHERS, Setup, run_load};
use crate::{LoadOptions, LoadResult, Protocol, cpu};
use clients::Storm;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const CLIENTS: usize = 10_000;
const RATE: f64 = 2000.0;
const CONNECTIONS: usize = 16;
/// From the first handshake to the last reply, most.
const PATIENCE: Duration = Duration::from_mins(2);

const BEFORE: &str = "before";
const DURING: &str = "during";
const GROUP: &str = "established: 2,000/s over TLS";
const CROWD: &str = "10,000 clients at once";

const METRICS: [Metric; 9] = [
    Metric { key: "p50_ms", title: "p50 ms", digits: 3, chart: false },
    Metric { key: "p99_ms", title: "p99 ms", digits: 3, chart: true },
    Metric { key: "p999_ms", title: "p99.9 ms", digits: 3, chart: false },
    Metric { key: "failed", title: "failed", digits: 0, chart: false },
    Metric { key: "handshakes_s", title: "handshakes/s", digits: 0, chart: true },
    Metric { key: "served", title: "served", digits: 0, chart: false },
    Metric { key: "seconds", title: "s to the last", digits: 2, chart: false },
    Metric { key: "cpu_ms", title: "callee CPU ms/handshake", digits: 3, chart: false },
    OTHERS,
];

pub(super) fn measure(setup: &mut Setup<'_>, protocol: Protocol) -> io::Result<Table> {
    let title = "10,000 clients reconnect to one callee by mutual TLS while others go on";
    let mut table = Table::new("storm", protocol, title, &METRICS);
    let bench = Bench { proxy_cpu: None, ..setup.bench.clone() };
    let pki = Pki::make(&bench)?;
    let echo = setup.start_echo(protocol, LOOPBACK, None)?;
    let Some(program) = setup.program(Kind::Raddle) else {
        return Ok(table);
    };
    for round in 1..=setup.rounds.min(3) {
        // New ones every round: sessions of the round before must not be resumed.
        let pair = links::start(&bench, &program, protocol, Link::Tls, &pki, echo.listen)?;
        let most = CLIENTS.min(setup.open_files.saturating_sub(super::memory::SPARE_FILES) as usize);
        let before = run_load(&bench, established(setup, protocol, &pair, Arc::clone(&bench.stop)))?;
        let (during, storm, cpu_ms) = storm(setup, &bench, &pair, &pki, most)?;
        for (subject, result) in [(BEFORE, &before), (DURING, &during)] {
            for (key, value) in [
                ("p50_ms", result.latency.p50_us / 1e3),
                ("p99_ms", result.latency.p99_us / 1e3),
                ("p999_ms", result.latency.p999_us / 1e3),
                ("failed", result.failures.total() as f64),
            ] {
                table.push(GROUP, subject, key, value);
            }
        }
        table.push(GROUP, BEFORE, OTHERS.key, before.other_cores());
        let rate = storm.served as f64 / storm.seconds.max(1e-9);
        for (key, value) in [
            ("handshakes_s", rate),
            ("served", storm.served as f64),
            ("failed", storm.failed.values().sum::<usize>() as f64),
            ("seconds", storm.seconds),
            ("cpu_ms", cpu_ms),
        ] {
            table.push(CROWD, "Raddle", key, value);
        }
        setup.say(&format!(
            "{} {round}: p99 {:.3} ms before, {:.3} ms during; {} of {most} served in {:.1} s ({rate:.0}/s), failed {:?}",
            table.name,
            before.latency.p99_us / 1e3,
            during.latency.p99_us / 1e3,
            storm.served,
            storm.seconds,
            storm.failed
        ));
    }
    table.gather_groups();
    let ratio = table.ratio(GROUP, DURING, BEFORE, "p99_ms");
    let refused = table.figure(CROWD, "Raddle", "failed").map(|f| f.max);
    table.goal("p99 of established callers, during ÷ before", 2.0, ratio);
    table.goal("clients not served", 0.0, refused);
    table.notes = vec![
        "Every client makes a whole handshake (nothing is resumed), both sides with ECDSA P-256 certificates, then sends \
         one request; it is served when that is answered. All connect at once and none comes again."
            .into(),
        "The clients' own half of 10,000 handshakes is computed on the same cores, at the lowest priority, because they \
         stand for other machines; what is left of its effect is in the p99 during."
            .into(),
    ];
    Ok(table)
}

fn established(setup: &Setup<'_>, protocol: Protocol, pair: &Pair, stop: Arc<AtomicBool>) -> LoadOptions {
    LoadOptions {
        target: pair.caller.listen,
        connections: CONNECTIONS,
        depth: 64,
        rate: Some(RATE),
        duration: setup.seconds.mul_f64(2.0),
        timeout: Duration::from_secs(30),
        stop,
        ..setup.load_options(protocol)
    }
}

/// The storm beside the established load: what became of both, and the callee's CPU for a handshake (with what the
/// established load costs, which is little beside it).
fn storm(
    setup: &Setup<'_>,
    bench: &Bench,
    pair: &Pair,
    pki: &Pki,
    most: usize,
) -> io::Result<(LoadResult, Storm, f64)> {
    let config = pki.client()?;
    let stop = Arc::new(AtomicBool::new(false));
    let warmup = Duration::from_millis(300);
    let opts = LoadOptions {
        warmup,
        duration: PATIENCE + PATIENCE,
        ..established(setup, Protocol::Bolt, pair, stop.clone())
    };
    std::thread::scope(|scope| {
        let load = scope.spawn(|| run_load(bench, opts));
        std::thread::park_timeout(warmup);
        let before = cpu::used(pair.callee.process.pid());
        let storm = clients::storm(&config, pair.callee.listen, most, PATIENCE, &bench.stop);
        let used = cpu::used(pair.callee.process.pid()).saturating_sub(before);
        stop.store(true, Ordering::Relaxed);
        let result = load.join().map_err(|_| io::Error::other("the load panicked"))?;
        bench.check_stop()?;
        let storm = storm?;
        Ok((result?, storm, used.as_secs_f64() * 1e3 / most as f64))
    })
}
