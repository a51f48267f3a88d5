//! Table `foreign`: the same proxies under load generators of others, as a check on our own: wrk for HTTP/1.1,
//! h2load for HTTP/2 and gRPC.
use super::Setup;
use super::peers::{self, Kind, LOOPBACK};
use super::process::{self, Bench, Process};
use super::table::{Metric, Table};
use super::throughput::DIRECT;
use crate::Protocol;
use crate::cpu::CpuMeter;
use crate::http2::grpc;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

const SIZE: usize = 1024;

const METRICS: [Metric; 3] = [
    Metric { key: "cpu_us", title: "proxy CPU µs/request", digits: 2, chart: true },
    Metric { key: "rps", title: "requests/s", digits: 0, chart: true },
    Metric { key: "failed", title: "failed", digits: 0, chart: false },
];

/// What a generator says it did.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Told {
    requests: u64,
    failed: u64,
    rps: f64,
}

/// A generator that was found.
struct Generator {
    path: PathBuf,
    name: &'static str,
    protocol: Protocol,
    /// A request's body.
    body: PathBuf,
}

impl Generator {
    fn find(bench: &Bench, protocol: Protocol) -> io::Result<Generator> {
        let (name, package) = match protocol {
            Protocol::Http => ("wrk", "wrk"),
            _ => ("h2load", "nghttp2-client"),
        };
        let missing = || io::Error::other(format!("{name} is not installed (apt install {package})"));
        let path = process::find(name).ok_or_else(missing)?;
        let body = bench.dir.join("foreign-body");
        let content = [b'x'; SIZE];
        let content = if protocol == Protocol::Grpc { grpc::message(&content) } else { content.to_vec() };
        std::fs::write(&body, content)?;
        Ok(Generator { path, name, protocol, body })
    }

    /// Connections × depth, as ours.
    fn work(&self) -> (usize, usize) {
        if self.protocol == Protocol::Http { (32, 1) } else { (8, 16) }
    }

    fn run(&self, bench: &Bench, target: SocketAddr, time: Duration) -> io::Result<Told> {
        // Both take whole seconds. To wrk the case of a name matters: "host" it would send beside its own "Host".
        let seconds = time.as_secs_f64().ceil().max(1.0);
        let (connections, depth) = self.work();
        let host = self.protocol.usual_service();
        let mut args: Vec<String> = vec!["-t1".into(), format!("-c{connections}")];
        if self.protocol == Protocol::Http {
            args.extend([format!("-d{seconds}s"), "-H".into(), format!("Host: {host}")]);
            args.push(format!("http://{target}/echo"));
        } else {
            args.extend([format!("-m{depth}"), format!("-D{seconds}"), "-d".into()]);
            args.push(self.body.display().to_string());
            let grpc = self.protocol == Protocol::Grpc;
            let content_type = if grpc { "application/grpc" } else { "application/octet-stream" };
            let mut headers = vec![format!("content-type: {content_type}"), format!(":authority: {host}")];
            headers.extend(grpc.then(|| "te: trailers".to_owned()));
            args.extend(headers.into_iter().flat_map(|header| ["-H".to_owned(), header]));
            let path = if grpc { format!("{host}/echo") } else { "echo".to_owned() };
            args.push(format!("http://{target}/{path}"));
        }
        let mut process = Process::spawn(bench, self.name, self.path.as_os_str(), &args, None)?;
        let text = process.output(bench, time + Duration::from_secs(30))?;
        let told = if self.protocol == Protocol::Http { of_wrk(&text) } else { of_h2load(&text) };
        told.ok_or_else(|| io::Error::other(format!("{} is not understood:\n{text}", self.name)))
    }
}

/// The number before `word` in a line with `mark` in it.
fn before(text: &str, mark: &str, word: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.contains(mark))?;
    let words: Vec<&str> = line.split_whitespace().map(|w| w.trim_end_matches(',')).collect();
    let at = words.iter().position(|w| *w == word)?;
    words.get(at.checked_sub(1)?)?.parse().ok()
}

fn of_wrk(text: &str) -> Option<Told> {
    let after = |mark: &str| text.lines().find_map(|l| l.trim().strip_prefix(mark)).map(str::trim);
    let numbers = |text: &str| -> u64 {
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u64>().ok()).sum()
    };
    let refused = after("Non-2xx or 3xx responses:").map_or(0, numbers);
    // Of the kinds of socket errors all count.
    let broken = after("Socket errors:").map_or(0, numbers);
    Some(Told {
        requests: (before(text, " requests in ", "requests")? as u64).saturating_sub(refused),
        failed: refused + broken,
        rps: after("Requests/sec:")?.parse().ok()?,
    })
}

fn of_h2load(text: &str) -> Option<Told> {
    let count = |word| before(text, "requests:", word).map(|n| n as u64);
    let status = |word| before(text, "status codes:", word).map(|n| n as u64);
    Some(Told {
        requests: status("2xx")?,
        failed: count("failed")? + status("4xx")? + status("5xx")?,
        rps: before(text, "finished in", "req/s")?,
    })
}

pub(super) fn measure(setup: &mut Setup<'_>, protocol: Protocol) -> io::Result<Table> {
    let bench = setup.bench.clone();
    let mut table =
        Table::new("foreign", protocol, "1 KiB bodies, one proxy worker, by another generator", &METRICS);
    let generator = match Generator::find(&bench, protocol) {
        Ok(generator) => generator,
        Err(e) => {
            table.notes.push(format!("Not measured: {e}."));
            return Ok(table);
        }
    };
    // wrk asks without a body, and gets one.
    let echo = setup.start_echo(protocol, LOOPBACK, (protocol == Protocol::Http).then_some(SIZE))?;
    let mut running = vec![(DIRECT, None)];
    for (program, name) in setup.able(protocol) {
        match peers::start(
            &bench,
            &program,
            protocol,
            &format!("foreign-{protocol}-{:?}", program.kind),
            echo.listen,
        ) {
            Ok(peer) => running.push((name, Some(peer))),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(e),
            Err(e) => setup.leave_out(program.kind, &table.name, &e),
        }
    }
    let (connections, depth) = generator.work();
    let group = format!("{} {connections}×{depth}", generator.name);
    for round in 1..=setup.rounds {
        for (name, peer) in &running {
            let target = peer.as_ref().map_or(echo.listen, |p| p.listen);
            let mut meter = peer.as_ref().map(|p| CpuMeter::start(p.process.pid()));
            let told = generator.run(&bench, target, setup.seconds)?;
            let mut line =
                format!("{} {round}/{}: {group} {name}: {:.0}/s", table.name, setup.rounds, told.rps);
            if let Some(meter) = &mut meter {
                let cpu = meter.sample().as_secs_f64() * 1e6 / told.requests.max(1) as f64;
                table.push(&group, name, "cpu_us", cpu);
                line += &format!(", {cpu:.2} µs");
            }
            table.push(&group, name, "rps", told.rps);
            table.push(&group, name, "failed", told.failed as f64);
            setup.say(&line);
        }
    }
    let bounds: &[(Kind, f64)] = if protocol == Protocol::Http {
        &[(Kind::Nginx, 1.0), (Kind::Envoy, 0.35)]
    } else {
        &[(Kind::Envoy, 0.5)]
    };
    for (kind, bound) in bounds {
        let (Some(raddle), Some(peer)) = (Kind::Raddle.name(protocol), kind.name(protocol)) else { continue };
        let measured = table.ratio(&group, raddle, peer, "cpu_us");
        table.goal(format!("CPU under {group}, Raddle ÷ {peer}"), *bound, measured);
    }
    table.notes.push(
        "The counts are the generator's own; making connections is in the CPU. h2load does not look at grpc-status."
            .into(),
    );
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_generators_print_is_read() {
        let wrk = "Running 1s test @ http://127.0.0.1:1/echo\n  1 threads and 32 connections\n  Thread Stats   Avg\n  \
                   52341 requests in 1.10s, 57.3MB read\n  Socket errors: connect 0, read 2, write 0, timeout 1\n  \
                   Non-2xx or 3xx responses: 341\nRequests/sec:  47582.90\nTransfer/sec:     52.1MB\n";
        assert_eq!(of_wrk(wrk), Some(Told { requests: 52_000, failed: 344, rps: 47_582.9 }));
        let h2load = "finished in 1.00s, 187112.00 req/s, 199.77MB/s\n\
                      requests: 187240 total, 187240 started, 187112 done, 187112 succeeded, 3 failed, 0 errored, 0 timeout\n\
                      status codes: 187110 2xx, 0 3xx, 0 4xx, 2 5xx\n";
        assert_eq!(of_h2load(h2load), Some(Told { requests: 187_110, failed: 5, rps: 187_112.0 }));
        assert_eq!(of_wrk("unable to connect"), None);
    }
}
