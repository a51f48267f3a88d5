//! The demo's load: the app shop, calling order through its sidecars.
//!
//! An open loop: every request has a time to be sent at, and its latency counts from then. Replies are
//! checked against their requests. It is a small client of its own rather than the benchmark's generator,
//! because it must tell second by second what became of every request, by the sidecar's reject flag.
mod link;
pub(super) mod plain;

use hdrhistogram::Histogram;
use link::Link;
use raddle_bench::bolt::{Template, Version};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Connections to each sidecar.
const LINKS: usize = 2;
const CONTENT: usize = 128;
/// What a request's frame says it may take, milliseconds.
const TIMEOUT_MS: i32 = 3000;
/// A request without an answer after this long has failed, whatever the sidecar does.
const LOST: Duration = Duration::from_secs(5);
/// How long after a kill connections lost in flight are put down to it.
const AFTERMATH: Duration = Duration::from_secs(2);

/// What became of the requests.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) ok: u64,
    /// By reject flag, or by what was wrong.
    pub(super) failed: BTreeMap<String, u64>,
    /// Failures that a kill explains: in flight on the killed server's connections.
    pub(super) expected: u64,
    /// Failures that the harmful rule explains: its timeout.
    pub(super) hasty: u64,
    /// Latency of all requests answered well, microseconds.
    pub(super) latency: Histogram<u64>,
    last_kill: Option<Instant>,
    /// The harmful rule is out until then.
    harm_until: Option<Instant>,
    window: Window,
}

/// What happened since the last look.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) ok: u64,
    pub(super) failed: u64,
    latency: Histogram<u64>,
}

impl Window {
    fn new() -> Window {
        Window { ok: 0, failed: 0, latency: histogram() }
    }

    /// The latency that this share of the requests did not exceed, milliseconds.
    pub(super) fn at(&self, share: f64) -> f64 {
        self.latency.value_at_quantile(share) as f64 / 1e3
    }
}

fn histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, 60_000_000, 3)
        .unwrap_or_else(|_| unreachable!("these bounds are within what the histogram documents"));
    histogram.auto(false);
    histogram
}

impl Tally {
    fn new() -> Tally {
        Tally {
            sent: 0,
            ok: 0,
            failed: BTreeMap::new(),
            expected: 0,
            hasty: 0,
            latency: histogram(),
            last_kill: None,
            harm_until: None,
            window: Window::new(),
        }
    }

    /// The shared tally, even if a thread panicked with it: counts are always whole.
    pub(super) fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
        tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An instance is being killed now.
    pub(super) fn killed(&mut self) {
        self.last_kill = Some(Instant::now());
    }

    /// The harmful rule goes out now, or has been taken back.
    pub(super) fn harmed(&mut self, out: bool) {
        let more = if out { Duration::from_mins(10) } else { AFTERMATH };
        self.harm_until = Some(Instant::now() + more);
    }

    /// What happened since the last call.
    pub(super) fn take_window(&mut self) -> Window {
        std::mem::replace(&mut self.window, Window::new())
    }

    /// All failures.
    pub(super) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Failures that neither a kill nor the harmful rule explains.
    pub(super) fn unexpected(&self) -> u64 {
        self.failures() - self.expected - self.hasty
    }

    fn answered(&mut self, outcome: Outcome, latency: Duration) {
        match outcome {
            Outcome::Ok => {
                let us = latency.as_micros().min(u128::from(u64::MAX)) as u64;
                self.ok += 1;
                self.window.ok += 1;
                self.latency.saturating_record(us.max(1));
                self.window.latency.saturating_record(us.max(1));
            }
            Outcome::Failed(kind) => self.fail(kind, 1),
        }
    }

    fn fail(&mut self, kind: String, n: u64) {
        if n == 0 {
            return;
        }
        // UC is what the sidecar answers when the connection to an endpoint was lost with the request on it.
        if kind == "UC" && self.last_kill.is_some_and(|at| at.elapsed() < AFTERMATH) {
            self.expected += n;
        }
        // UT: no reply within the rule's timeout.
        if kind == "UT" && self.harm_until.is_some_and(|until| Instant::now() < until) {
            self.hasty += n;
        }
        self.window.failed += n;
        *self.failed.entry(kind).or_default() += n;
    }
}

/// What became of one request.
enum Outcome {
    Ok,
    Failed(String),
}

/// What the requests say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) service: &'a str,
    pub(super) method: &'a str,
    /// Headers beside the usual ones.
    pub(super) headers: &'a [(String, String)],
}

impl Call<'_> {
    /// A request of it.
    ///
    /// # Errors
    /// Its headers are too long.
    pub(super) fn template(&self) -> io::Result<Template> {
        Template::new(Version::V1, self.service, self.method, self.headers, CONTENT, TIMEOUT_MS)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))
    }
}

/// The load while it runs.
pub(super) struct Traffic {
    tally: Arc<Mutex<Tally>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Starts to send `rate` requests a second, evenly to all `targets`.
    pub(super) fn start(targets: &[SocketAddr], rate: f64, call: Call<'_>) -> io::Result<Traffic> {
        let template = call.template()?;
        let tally = Arc::new(Mutex::new(Tally::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let links = targets.len() * LINKS;
        let gap = Duration::from_secs_f64(links as f64 / rate);
        let start = Instant::now();
        let mut traffic = Traffic { tally, stop, threads: Vec::new() };
        for n in 0..links {
            let link = Link {
                target: targets[n % targets.len()],
                template: template.clone(),
                tally: traffic.tally.clone(),
                stop: traffic.stop.clone(),
                in_flight: Arc::default(),
                next_id: 1,
            };
            // Links take turns, so that the rate is even over all of them.
            let first = start + gap.mul_f64(n as f64 / links as f64);
            let thread = std::thread::Builder::new().name(format!("shop-{n}"));
            traffic.threads.push(thread.spawn(move || link.run(first, gap))?);
        }
        Ok(traffic)
    }

    /// The counts, shared.
    pub(super) fn tally(&self) -> Arc<Mutex<Tally>> {
        self.tally.clone()
    }

    /// Sends no more, waits for the answers, and returns the counts.
    pub(super) fn finish(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // What a thread that panicked did not count is missing in the sum, which shows.
            let _ = thread.join();
        }
        Tally::lock(&self.tally).clone()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raddle_bench::{ServeOptions, Server};

    #[test]
    fn only_what_a_kill_cut_off_is_put_down_to_it() {
        let mut tally = Tally::new();
        tally.fail("UC".into(), 1);
        tally.killed();
        tally.fail("UC".into(), 2);
        tally.fail("UH".into(), 3);
        assert_eq!((tally.failures(), tally.expected, tally.unexpected()), (6, 2, 4));
    }

    #[test]
    fn every_request_sent_is_answered_and_counted_once() {
        let server = Server::bind(ServeOptions {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..ServeOptions::default()
        })
        .unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| server.run(&stop).unwrap());
            let call = Call { service: "any:1.0", method: "create", headers: &[] };
            let traffic = Traffic::start(&[server.local_addr().unwrap()], 2000.0, call).unwrap();
            let deadline = Instant::now() + Duration::from_secs(20);
            while Tally::lock(&traffic.tally()).ok < 100 && Instant::now() < deadline {
                std::thread::yield_now();
            }
            let tally = traffic.finish();
            stop.store(true, Ordering::Relaxed);
            assert!(tally.ok >= 100);
            assert_eq!((tally.sent, tally.failures()), (tally.ok, 0), "{:?}", tally.failed);
        });
    }
}
