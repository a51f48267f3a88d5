//! The load generator: closed-loop depth for throughput, open-loop rate for latency.
//!
//! Open loop means that every send time is fixed before the run starts, and that latency counts from the
//! intended time even if the generator or a full connection delayed the send. So a stalled server cannot
//! hide its stall (no coordinated omission). In closed loop each connection keeps `depth` requests in
//! flight, which measures throughput; its latency figures say little.
//!
//! [`worker`] is the event loop, [`flight`] one connection's requests in flight, [`speak`] the protocols,
//! [`timeline`] a run second by second.
mod connection;
mod failures;
mod flight;
mod once;
mod result;
mod schedule;
mod speak;
mod timeline;
mod worker;

pub use failures::Failures;
pub(crate) use once::once;
pub use result::{Latency, LoadResult, ProcessCpu};
pub(crate) use worker::begin_connect;

use crate::Protocol;
use crate::bolt::Version;
use crate::cpu::{self, CpuMeter, MachineCpu};
use schedule::Schedule;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use timeline::Timeline;

/// What [`load`] sends, and for how long.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// What it speaks.
    pub protocol: Protocol,
    /// Which form of Bolt.
    pub bolt: Version,
    /// Where it connects.
    pub target: SocketAddr,
    /// The service asked for: `interface:version` for Bolt and Dubbo, `package.Service` for gRPC, the host for
    /// HTTP; `None` is [`Protocol::usual_service`].
    pub service: Option<String>,
    /// The method asked for; the path for HTTP.
    pub method: String,
    /// More headers: entries of Bolt's header map, Dubbo's attachments, HTTP's headers.
    pub headers: Vec<(String, String)>,
    /// Connections, over all threads.
    pub connections: usize,
    /// Most requests in flight on a connection. In closed loop that many always are. HTTP/1.1 has one only.
    pub depth: usize,
    /// Requests a second over all connections, on a fixed schedule (open loop); `None` is closed loop.
    pub rate: Option<f64>,
    /// Time before measuring begins.
    pub warmup: Duration,
    /// Time measured.
    pub duration: Duration,
    /// Content bytes of a request (chunk bytes for tcp).
    pub size: usize,
    /// Content bytes a reply must have; `None` means as many as the request.
    pub reply_size: Option<usize>,
    /// Whether replies must echo the request's token and length. Off for servers that are not ours.
    pub check_echo: bool,
    /// How long a reply may take after its request was sent.
    pub timeout: Duration,
    /// Generator threads.
    pub threads: usize,
    /// Processes whose CPU is reported: name and process id.
    pub pids: Vec<(String, u32)>,
    /// A file for a line of JSON a second, and one for every request that failed; `None` writes none.
    pub timeline: Option<PathBuf>,
    /// Set it to end the run early: nothing more is sent, open loop waits for replies as at its end. What was measured
    /// until then is returned.
    pub stop: Arc<AtomicBool>,
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        LoadOptions {
            protocol: Protocol::Bolt,
            bolt: Version::V1,
            target: SocketAddr::from(([127, 0, 0, 1], 12200)),
            service: None,
            method: "echo".into(),
            headers: Vec::new(),
            connections: 8,
            depth: 16,
            rate: None,
            warmup: Duration::from_secs(1),
            duration: Duration::from_secs(10),
            size: 1024,
            reply_size: None,
            check_echo: true,
            timeout: Duration::from_secs(5),
            threads: 1,
            pids: Vec::new(),
            timeline: None,
            stop: Arc::default(),
        }
    }
}

impl LoadOptions {
    fn service(&self) -> &str {
        self.service.as_deref().unwrap_or(self.protocol.usual_service())
    }

    /// The path of HTTP requests.
    fn path(&self) -> String {
        match self.protocol {
            Protocol::Grpc => format!("/{}/{}", self.service(), self.method),
            _ => format!("/{}", self.method.trim_start_matches('/')),
        }
    }

    /// Requests in flight on a connection, most.
    fn depth(&self) -> usize {
        if self.protocol.is_multiplexed() { self.depth } else { 1 }
    }

    fn timeout_ms(&self) -> i32 {
        self.timeout.as_millis().min(i32::MAX as u128) as i32
    }
}

/// How a run goes, told about once a second.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Time since the start.
    pub elapsed: Duration,
    /// Warm-up and measured time together.
    pub total: Duration,
    /// Whether measuring has not begun.
    pub warming_up: bool,
    /// Requests answered well since the start, warm-up included.
    pub completed: u64,
    /// Requests failed since the start, warm-up included.
    pub failed: u64,
    /// Requests a second since the last report.
    pub rps: f64,
}

/// What the threads of a run share.
#[derive(Debug, Default)]
struct Counters {
    completed: AtomicU64,
    failed: AtomicU64,
}

/// Runs a load; `progress` is told how it goes about once a second.
///
/// # Errors
/// When an option makes no sense, the target cannot be connected to at the start, or epoll fails. Later
/// losses are counted, not returned.
pub fn load(opts: LoadOptions, mut progress: impl FnMut(&Progress)) -> io::Result<LoadResult> {
    check(&opts)?;
    let speaker = speak::speaker(&opts)?;
    let reachable = TcpStream::connect_timeout(&opts.target, opts.timeout)
        .map_err(|e| io::Error::new(e.kind(), format!("{}: cannot connect: {e}", opts.target)))?;
    drop(reachable);

    let threads = opts.threads.clamp(1, opts.connections);
    let counters: Vec<Counters> = (0..threads).map(|_| Counters::default()).collect();
    let start = Instant::now();
    let timeline = opts.timeline.as_deref().map(|path| Timeline::create(path, start)).transpose()?;
    let schedule = Schedule::new(&opts, threads);
    std::thread::scope(|scope| {
        let (done, all_done) = mpsc::channel::<()>();
        let workers: Vec<_> = counters
            .iter()
            .enumerate()
            .map(|(index, counters)| {
                let (opts, speaker, done) = (&opts, &*speaker, done.clone());
                let (schedule, timeline) = (schedule.for_thread(index), timeline.clone());
                scope.spawn(move || {
                    // Dropped when the thread ends, however it ends: the coordinator waits for that.
                    let _done = done;
                    worker::run(opts, speaker, schedule, start, counters, timeline)
                })
            })
            .collect();
        drop(done);
        let usage = watch(&opts, &counters, start, &all_done, &mut progress);
        let mut totals = worker::Totals::new();
        for worker in workers {
            totals.add(worker.join().map_err(|_| io::Error::other("a generator thread panicked"))??);
        }
        Ok(LoadResult::new(&opts, threads, &totals, usage))
    })
}

fn check(opts: &LoadOptions) -> io::Result<()> {
    let wrong = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    match opts {
        o if o.connections == 0 => wrong("connections must be at least 1"),
        o if o.depth == 0 || o.depth > flight::MAX_DEPTH => wrong("depth must be from 1 to 65536"),
        o if o.duration.is_zero() => wrong("duration must be more than nothing"),
        o if o.rate.is_some_and(|r| !r.is_finite() || r <= 0.0) => wrong("rate must be more than nothing"),
        o if o.protocol == Protocol::Tcp && o.size == 0 => wrong("tcp needs a size of at least 1 byte"),
        o if o.size > 32 << 20 => wrong("size must be at most 32 MiB"),
        _ => Ok(()),
    }
}

/// Reports progress and samples the processes' CPU until the workers are done.
fn watch(
    opts: &LoadOptions,
    counters: &[Counters],
    start: Instant,
    all_done: &mpsc::Receiver<()>,
    progress: &mut impl FnMut(&Progress),
) -> Usage {
    let measuring_from = start + opts.warmup;
    let measured_until = measuring_from + opts.duration;
    let sum =
        |of: fn(&Counters) -> &AtomicU64| counters.iter().map(|c| of(c).load(Ordering::Relaxed)).sum::<u64>();
    let completed = || sum(|c| &c.completed);
    let mut meters: Option<Meters> = None;
    let mut sampled = None;
    let mut last = (start, 0);
    loop {
        let now = Instant::now();
        if meters.is_none() && now >= measuring_from {
            meters = Some(Meters::start(&opts.pids, completed()));
        }
        if sampled.is_none() && now >= measured_until {
            sampled = meters.as_mut().map(|m| m.sample(completed()));
        }
        let edge = if now < measuring_from { measuring_from } else { measured_until };
        let until_edge = edge.saturating_duration_since(now);
        let tick = Duration::from_secs(1);
        let wait = if until_edge.is_zero() { tick } else { until_edge.min(tick) };
        match all_done.recv_timeout(wait) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => break,
        }
        let (now, count) = (Instant::now(), completed());
        if let Some(meters) = &mut meters {
            // Threads that come and go between the edges are still seen.
            meters.touch();
        }
        if now.duration_since(last.0) >= tick.mul_f64(0.9) {
            progress(&Progress {
                elapsed: now.duration_since(start),
                total: opts.warmup + opts.duration,
                warming_up: now < measuring_from,
                completed: count,
                failed: sum(|c| &c.failed),
                rps: (count - last.1) as f64 / now.duration_since(last.0).as_secs_f64(),
            });
            last = (now, count);
        }
    }
    sampled.or_else(|| meters.as_mut().map(|m| m.sample(completed()))).unwrap_or_default()
}

/// CPU used while measuring: by the watched processes, and by the whole machine.
#[derive(Debug, Default)]
struct Usage {
    processes: Vec<ProcessCpu>,
    machine_cores: f64,
    stolen_cores: f64,
}

/// CPU meters of the watched processes, with the request count they started at.
struct Meters {
    started: Instant,
    completed: u64,
    machine: MachineCpu,
    meters: Vec<(String, CpuMeter)>,
}

impl Meters {
    fn start(pids: &[(String, u32)], completed: u64) -> Meters {
        let meters = pids.iter().map(|(name, pid)| (name.clone(), CpuMeter::start(*pid))).collect();
        Meters { started: Instant::now(), completed, machine: MachineCpu::now(), meters }
    }

    fn touch(&mut self) {
        for (_, meter) in &mut self.meters {
            meter.sample();
        }
    }

    fn sample(&mut self, completed: u64) -> Usage {
        let requests = completed.saturating_sub(self.completed);
        let wall = self.started.elapsed();
        let machine = MachineCpu::now().since(self.machine);
        let processes = self
            .meters
            .iter_mut()
            .map(|(name, meter)| {
                let cpu = meter.sample();
                ProcessCpu::new(name.clone(), meter.pid(), cpu, requests, wall, cpu::resident(meter.pid()))
            })
            .collect();
        let cores = |seconds: f64| seconds / wall.as_secs_f64().max(1e-9);
        Usage { processes, machine_cores: cores(machine.busy_s), stolen_cores: cores(machine.stolen_s) }
    }
}
