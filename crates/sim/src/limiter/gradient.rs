//! Envoy's adaptive concurrency (gradient controller): every 100 ms the bound on calls in flight is multiplied by
//! `minRTT · (1 + buffer) / sampleRTT` (within 0.5 and 2), and the root of that is added.
//!
//! Its defaults: percentile 50, buffer 25 %, at most 1000. The least latency is measured every 60 s (as in its
//! documentation's example, jitter 15 %) over 50 calls, with 3 in flight at most; and also when the bound was at its
//! least for 5 windows.
use super::{Call, End, Limiter};
use crate::chance::Chance;

const LEAST: f64 = 3.0;
const MOST: f64 = 1000.0;
const BUFFER: f64 = 0.25;
const WINDOW: f64 = 0.1;
const MEASURE_EVERY: f64 = 60.0;
const JITTER: f64 = 0.15;
const MEASURE_CALLS: usize = 50;
const LOW_WINDOWS: u32 = 5;

/// Envoy's adaptive concurrency.
#[derive(Debug)]
pub struct Gradient {
    limit: f64,
    least: f64,
    samples: Vec<f64>,
    /// While the least latency is measured: the bound to go back to, and when it began.
    measures: Option<f64>,
    epoch: f64,
    measure_at: f64,
    window_at: f64,
    low: u32,
    flying: i64,
    chance: Chance,
}

/// The bound after a window.
fn next_limit(limit: f64, least: f64, sample: f64) -> f64 {
    let gradient = (least * (1.0 + BUFFER) / sample).clamp(0.5, 2.0);
    let limit = limit * gradient;
    (limit + limit.sqrt()).floor().clamp(LEAST, MOST)
}

fn median(samples: &mut [f64]) -> f64 {
    let middle = samples.len() / 2;
    *samples.select_nth_unstable_by(middle, f64::total_cmp).1
}

impl Gradient {
    /// With its defaults.
    pub fn new(seed: u64) -> Gradient {
        Gradient {
            limit: LEAST,
            least: 0.0,
            samples: Vec::new(),
            measures: Some(LEAST),
            epoch: 0.0,
            measure_at: f64::INFINITY,
            window_at: WINDOW,
            low: 0,
            flying: 0,
            chance: Chance::new(seed, 31),
        }
    }

    fn measure(&mut self, now: f64) {
        self.measures = Some(self.limit);
        self.limit = LEAST;
        (self.epoch, self.measure_at, self.low) = (now, f64::INFINITY, 0);
        self.samples.clear();
    }

    fn timers(&mut self, now: f64) {
        if self.measures.is_some() {
            return;
        }
        if now >= self.window_at {
            self.window_at = now + WINDOW;
            if !self.samples.is_empty() {
                let new = next_limit(self.limit, self.least, median(&mut self.samples));
                self.samples.clear();
                self.low = if self.limit <= LEAST && new <= LEAST { self.low + 1 } else { 0 };
                self.limit = new;
            }
        }
        if now >= self.measure_at || self.low >= LOW_WINDOWS {
            self.measure(now);
        }
    }
}

impl Limiter for Gradient {
    fn admit(&mut self, _: &Call, now: f64) -> bool {
        self.timers(now);
        let admitted = (self.flying as f64) < self.limit;
        self.flying += i64::from(admitted);
        admitted
    }

    fn complete(&mut self, _: &Call, end: &End, now: f64) {
        self.flying -= 1;
        if now - end.latency >= self.epoch {
            self.samples.push(end.latency.max(1e-6));
        }
        if self.samples.len() >= MEASURE_CALLS
            && let Some(before) = self.measures.take()
        {
            self.least = median(&mut self.samples);
            self.samples.clear();
            self.limit = before;
            self.measure_at = now + MEASURE_EVERY * (1.0 + JITTER * self.chance.unit());
            self.window_at = now + WINDOW;
        }
        self.timers(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_follows_the_gradient_with_room_for_bursts() {
        // 100 · 10 ms · 1.25 / 12.5 ms = 100, and its root.
        assert_eq!(next_limit(100.0, 0.010, 0.0125), 110.0);
        // The gradient is within 0.5 and 2.
        assert_eq!(next_limit(100.0, 0.010, 1.0), 57.0);
        assert_eq!(next_limit(100.0, 0.010, 0.001), 214.0);
        assert_eq!(next_limit(3.0, 0.010, 1.0), 3.0);
        assert_eq!(next_limit(900.0, 0.010, 0.001), 1000.0);
    }

    #[test]
    fn the_least_latency_is_measured_with_few_calls_in_flight() {
        let mut g = Gradient::new(1);
        let call = Call::default();
        for n in 0..50 {
            assert!(g.admit(&call, f64::from(n)));
            let end = End { latency: 0.01, queued: 0.0, failed: false, late: false };
            g.complete(&call, &end, f64::from(n) + 0.01);
        }
        assert_eq!((g.measures, g.least), (None, 0.01));
        assert!(g.measure_at >= 109.0 && g.measure_at <= 118.1, "{}", g.measure_at);
    }
}
