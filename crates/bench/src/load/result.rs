//! What a run found.
use super::worker::Totals;
use super::{Failures, LoadOptions, Usage};
use crate::Protocol;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// Latency in microseconds. In open loop counted from the intended send time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Least.
    pub min_us: f64,
    /// Average.
    pub mean_us: f64,
    /// Half are faster.
    pub p50_us: f64,
    /// 90 % are faster.
    pub p90_us: f64,
    /// 99 % are faster.
    pub p99_us: f64,
    /// 99.9 % are faster.
    pub p999_us: f64,
    /// Most.
    pub max_us: f64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Latency {
        let us = |ns: u64| ns as f64 / 1e3;
        let at = |q| us(histogram.value_at_quantile(q));
        Latency {
            min_us: us(histogram.min()),
            mean_us: histogram.mean() / 1e3,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: us(histogram.max()),
        }
    }
}

/// CPU a process used while the load was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProcessCpu {
    /// The name it was given.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// CPU seconds used.
    pub cpu_s: f64,
    /// CPU microseconds used for a request answered well.
    pub us_per_request: f64,
    /// Cores kept busy.
    pub cores: f64,
    /// Resident memory at the end, bytes; `None` if the process is gone.
    pub resident_bytes: Option<u64>,
}

impl ProcessCpu {
    pub(super) fn new(
        name: String,
        pid: u32,
        cpu: Duration,
        requests: u64,
        wall: Duration,
        resident_bytes: Option<u64>,
    ) -> ProcessCpu {
        let cpu_s = cpu.as_secs_f64();
        ProcessCpu {
            name,
            pid,
            cpu_s,
            us_per_request: cpu_s * 1e6 / (requests.max(1) as f64),
            cores: cpu_s / wall.as_secs_f64().max(1e-9),
            resident_bytes,
        }
    }
}

/// What a run found.
#[derive(Clone, Debug, Serialize)]
pub struct LoadResult {
    /// What was spoken.
    pub protocol: Protocol,
    /// Where it connected.
    pub target: String,
    /// Connections.
    pub connections: usize,
    /// Most requests in flight on a connection.
    pub depth: usize,
    /// Requests a second asked for; `None` in closed loop.
    pub rate: Option<f64>,
    /// Content bytes of a request.
    pub size: usize,
    /// Generator threads.
    pub threads: usize,
    /// Time measured, seconds.
    pub seconds: f64,
    /// Requests answered well.
    pub requests: u64,
    /// Requests answered well a second.
    pub rps: f64,
    /// Of the requests answered well.
    pub latency: Latency,
    /// The others.
    pub failures: Failures,
    /// CPU microseconds of the generator itself for a request.
    pub generator_us_per_request: f64,
    /// Cores the generator kept busy.
    pub generator_cores: f64,
    /// The watched processes.
    pub processes: Vec<ProcessCpu>,
    /// Cores kept busy by all processes of the machine together.
    pub machine_cores: f64,
    /// Cores this virtual machine wanted and its host gave to others.
    pub stolen_cores: f64,
}

impl LoadResult {
    pub(super) fn new(opts: &LoadOptions, threads: usize, totals: &Totals, usage: Usage) -> LoadResult {
        let Usage { processes, machine_cores, stolen_cores } = usage;
        let seconds = totals.measured.as_secs_f64();
        let requests = totals.histogram.len();
        let cpu = totals.cpu.as_secs_f64();
        LoadResult {
            protocol: opts.protocol,
            target: opts.target.to_string(),
            connections: opts.connections,
            depth: opts.depth(),
            rate: opts.rate,
            size: opts.size,
            threads,
            seconds,
            requests,
            rps: requests as f64 / seconds.max(1e-9),
            latency: Latency::of(&totals.histogram),
            failures: totals.failures.clone(),
            generator_us_per_request: cpu * 1e6 / requests.max(1) as f64,
            generator_cores: cpu / seconds.max(1e-9),
            processes,
            machine_cores,
            stolen_cores,
        }
    }

    /// Cores kept busy by neither the generator nor a watched process: what disturbs a measurement. Stolen
    /// ones are in it.
    pub fn other_cores(&self) -> f64 {
        let known = self.generator_cores + self.processes.iter().map(|p| p.cores).sum::<f64>();
        (self.machine_cores - known).max(0.0) + self.stolen_cores
    }
}

impl fmt::Display for LoadResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loop_kind = match self.rate {
            Some(rate) => format!("open loop at {rate:.0}/s, latency from the intended send time"),
            None => format!("closed loop, depth {}", self.depth),
        };
        writeln!(
            f,
            "{} {}, {} connections, {} B, {loop_kind}",
            self.protocol, self.target, self.connections, self.size
        )?;
        writeln!(
            f,
            "  {} requests in {:.1} s: {:.0}/s, {} failed",
            self.requests,
            self.seconds,
            self.rps,
            self.failures.total()
        )?;
        let l = &self.latency;
        writeln!(
            f,
            "  latency µs: p50 {:.0}  p90 {:.0}  p99 {:.0}  p99.9 {:.0}  max {:.0}",
            l.p50_us, l.p90_us, l.p99_us, l.p999_us, l.max_us
        )?;
        for (kind, n) in self.failures.kinds() {
            writeln!(f, "  {kind}: {n}")?;
        }
        write!(
            f,
            "  CPU µs/request: generator {:.2} ({:.2} cores)",
            self.generator_us_per_request, self.generator_cores
        )?;
        for p in &self.processes {
            write!(f, ", {} {:.2} ({:.2} cores)", p.name, p.us_per_request, p.cores)?;
        }
        writeln!(f, ", others {:.2} cores", self.other_cores())
    }
}
