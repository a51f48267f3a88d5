//! When requests are meant to be sent. Fixed before the run, whatever happens in it.
use super::LoadOptions;

/// The send times of one run, all threads together. Times are nanoseconds since the start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// Between two requests of the whole run; `None` in closed loop.
    interval: Option<f64>,
    /// Measuring begins.
    pub(super) from: u64,
    /// Measuring ends; nothing is due from here on.
    pub(super) until: u64,
    connections: usize,
    threads: usize,
    thread: usize,
}

impl Schedule {
    pub(super) fn new(opts: &LoadOptions, threads: usize) -> Schedule {
        let from = opts.warmup.as_nanos() as u64;
        Schedule {
            interval: opts.rate.map(|rate| 1e9 / rate),
            from,
            until: from + opts.duration.as_nanos() as u64,
            connections: opts.connections,
            threads,
            thread: 0,
        }
    }

    /// The part of one thread: every `threads`-th connection.
    pub(super) fn for_thread(self, thread: usize) -> Schedule {
        Schedule { thread, ..self }
    }

    /// Connections of this thread.
    pub(super) fn connections(&self) -> usize {
        (self.connections - self.thread).div_ceil(self.threads)
    }

    pub(super) fn is_open(&self) -> bool {
        self.interval.is_some()
    }

    /// When the `n`-th request of this thread's `connection`-th connection is meant to be sent.
    pub(super) fn intended(&self, connection: usize, n: u64) -> u64 {
        let global = (self.thread + connection * self.threads) as f64 + n as f64 * self.connections as f64;
        (global * self.interval.unwrap_or(0.0)) as u64
    }

    /// Whether something that began at `time` is measured.
    pub(super) fn measures(&self, time: u64) -> bool {
        (self.from..self.until).contains(&time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn threads_share_one_even_schedule() {
        let opts = LoadOptions {
            connections: 5,
            rate: Some(1000.0),
            warmup: Duration::ZERO,
            duration: Duration::from_secs(1),
            ..LoadOptions::default()
        };
        let all = Schedule::new(&opts, 2);
        let mut times = Vec::new();
        for thread in 0..2 {
            let mine = all.for_thread(thread);
            for c in 0..mine.connections() {
                times.extend((0..4).map(|n| mine.intended(c, n)));
            }
        }
        times.sort_unstable();
        let even: Vec<u64> = (0..20).map(|i| i * 1_000_000).collect();
        assert_eq!(times, even);
    }
}
