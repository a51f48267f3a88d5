//! Open-loop load over many paths at once, each with its own rate, some of which surge for a while.
//!
//! [`load`](crate::load()) asks for one thing as fast or as evenly as told; this asks for a hundred things as callers
//! do: at random moments, popular ones more often (Zipf), whatever becomes of the requests before. Every send time is
//! drawn before its moment and does not depend on replies; a request that finds no connection idle gets a new one, so
//! that no path waits for another. Who gets no reply within the deadline goes away, as a caller does.
//!
//! [`arrivals`] draws, the worker (`worker.rs`) sends, [`MixResult`] is what became of each path in each second. HTTP/1.1
//! only.
mod arrivals;
mod result;
mod worker;

pub use result::{Cell, MixResult, MixSecond, Totals};

use arrivals::Arrivals;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What [`mix`] sends, and for how long.
#[derive(Clone, Debug)]
pub struct MixOptions {
    /// Where it connects.
    pub target: SocketAddr,
    /// The host asked for.
    pub host: String,
    /// Paths, the most popular first.
    pub paths: Vec<String>,
    /// Requests a second over all paths, where none surges.
    pub rate: f64,
    /// The `n`-th path's rate is proportional to `1 / n^zipf`.
    pub zipf: f64,
    /// Which paths are asked for more, and when.
    pub surges: Vec<Surge>,
    /// More of it, changed while it runs.
    pub knobs: Option<Arc<Knobs>>,
    /// More headers.
    pub headers: Vec<(String, String)>,
    /// How long it sends.
    pub duration: Duration,
    /// How long a caller waits, from the intended send time.
    pub deadline: Duration,
    /// Connections at most.
    pub connections: usize,
    /// The same seed draws the same send times.
    pub seed: u64,
    /// Set it to end early.
    pub stop: Arc<AtomicBool>,
}

impl Default for MixOptions {
    fn default() -> MixOptions {
        MixOptions {
            target: SocketAddr::from(([127, 0, 0, 1], 12200)),
            host: "burn.bench".into(),
            paths: crate::burn::menu(1.0).into_iter().map(|i| i.path).collect(),
            rate: 100.0,
            zipf: 1.2,
            surges: Vec::new(),
            knobs: None,
            headers: Vec::new(),
            duration: Duration::from_secs(10),
            deadline: Duration::from_secs(1),
            connections: 2000,
            seed: 1,
            stop: Arc::default(),
        }
    }
}

/// A path that is asked for more often for a while.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Surge {
    /// Which of the paths.
    pub path: usize,
    /// How many times as often.
    pub factor: f64,
    /// From when on, seconds since the start.
    pub from: f64,
    /// Until when.
    pub until: f64,
}

/// Factors that somebody turns while the load runs, one for each path.
#[derive(Debug)]
pub struct Knobs {
    /// In thousandths.
    factors: Vec<AtomicU32>,
}

impl Knobs {
    /// Every path at its usual rate.
    pub fn new(paths: usize) -> Knobs {
        Knobs { factors: (0..paths).map(|_| AtomicU32::new(1000)).collect() }
    }

    /// From the next moment on, this path is asked for so many times as often as usual.
    pub fn turn(&self, path: usize, factor: f64) {
        if let Some(knob) = self.factors.get(path) {
            knob.store((factor.max(0.0) * 1000.0) as u32, Ordering::Relaxed);
        }
    }

    fn factor(&self, path: usize) -> f64 {
        self.factors.get(path).map_or(1.0, |f| f64::from(f.load(Ordering::Relaxed)) / 1000.0)
    }
}

/// Requests a second of each path where none surges.
pub fn rates(paths: usize, rate: f64, zipf: f64) -> Vec<f64> {
    let weights: Vec<f64> = (1..=paths).map(|n| (n as f64).powf(-zipf)).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|w| rate * w / sum).collect()
}

/// Runs a load; `on_second` gets each second when its last deadline is over.
///
/// # Errors
/// When an option makes no sense, the target cannot be connected to at the start, or epoll fails.
pub fn mix(opts: &MixOptions, mut on_second: impl FnMut(&MixSecond)) -> io::Result<MixResult> {
    check(opts)?;
    std::net::TcpStream::connect_timeout(&opts.target, Duration::from_secs(5))
        .map_err(|e| io::Error::new(e.kind(), format!("{}: cannot connect: {e}", opts.target)))?;
    let arrivals = Arrivals::new(opts);
    worker::run(opts, arrivals, Instant::now(), &mut on_second)
}

fn check(opts: &MixOptions) -> io::Result<()> {
    let wrong = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    let texts = opts.paths.iter().chain([&opts.host]).chain(opts.headers.iter().flat_map(|(n, v)| [n, v]));
    match opts {
        o if o.paths.is_empty() || o.paths.len() > 10_000 => wrong("paths must be from 1 to 10000"),
        o if !o.rate.is_finite() || o.rate <= 0.0 => wrong("rate must be more than nothing"),
        o if !(0.0..=5.0).contains(&o.zipf) => wrong("zipf must be from 0 to 5"),
        o if o.connections == 0 => wrong("connections must be at least 1"),
        o if o.duration.is_zero() || o.deadline.is_zero() => {
            wrong("duration and deadline must be more than nothing")
        }
        o if o.surges.iter().any(|s| s.path >= o.paths.len()) => {
            wrong("a surge is of a path that is not there")
        }
        o if o.surges.iter().any(|s| !(0.0..=1000.0).contains(&s.factor)) => {
            wrong("a surge's factor must be from 0 to 1000")
        }
        _ if texts.into_iter().any(|t| t.bytes().any(|b| !(b'!'..=b'~').contains(&b))) => {
            wrong("paths, host and headers must be of printable ASCII characters")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_fall_as_zipf_says_and_add_up() {
        let rates = rates(100, 300.0, 1.0);
        assert!((rates.iter().sum::<f64>() - 300.0).abs() < 1e-9);
        assert!((rates[0] / rates[9] - 10.0).abs() < 1e-9);
    }

    #[test]
    fn options_that_make_no_sense_are_said_so() {
        let surge = Surge { path: 100, factor: 5.0, from: 1.0, until: 2.0 };
        for opts in [
            MixOptions { rate: 0.0, ..MixOptions::default() },
            MixOptions { paths: Vec::new(), ..MixOptions::default() },
            MixOptions { surges: vec![surge], ..MixOptions::default() },
            MixOptions { host: "a b\r\n".into(), ..MixOptions::default() },
        ] {
            assert_eq!(mix(&opts, |_| {}).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}
