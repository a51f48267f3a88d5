//! Gradient2 of Netflix's concurrency-limits: each window the bound on calls in flight is multiplied by
//! `longRtt / shortRtt` (within 0.5 and 1), a few places are added, and a fifth of the way there is gone.
//!
//! Its defaults: begins at 20, within 20 and 200, 4 places, smoothing 0.2, the long average over 600 windows (the first
//! 10 plainly averaged). Windows, as its documentation advises: at least a second and ten samples, their mean.
use super::{Call, End, Limiter};

const LEAST: f64 = 20.0;
const MOST: f64 = 200.0;
const PLACES: f64 = 4.0;
const SMOOTHING: f64 = 0.2;
const LONG: f64 = 600.0;
const PLAIN: f64 = 10.0;
const WINDOW: f64 = 1.0;
const SAMPLES: f64 = 10.0;

/// Gradient2.
#[derive(Debug)]
pub struct Gradient2 {
    limit: f64,
    long: f64,
    windows: f64,
    flying: i64,
    since: f64,
    sum: f64,
    samples: f64,
    most: i64,
}

impl Default for Gradient2 {
    fn default() -> Gradient2 {
        Gradient2 {
            limit: LEAST,
            long: 0.0,
            windows: 0.0,
            flying: 0,
            since: 0.0,
            sum: 0.0,
            samples: 0.0,
            most: 0,
        }
    }
}

impl Gradient2 {
    fn window(&mut self, short: f64, flying: i64) {
        self.windows += 1.0;
        let part = if self.windows <= PLAIN { 1.0 / self.windows } else { 2.0 / (LONG + 1.0) };
        self.long += (short - self.long) * part;
        let long = self.long;
        if long / short > 2.0 {
            self.long *= 0.9;
        }
        if (flying as f64) < self.limit / 2.0 {
            return;
        }
        let gradient = (long / short).clamp(0.5, 1.0);
        let wanted = self.limit * gradient + PLACES;
        self.limit = (self.limit * (1.0 - SMOOTHING) + wanted * SMOOTHING).clamp(LEAST, MOST);
    }
}

impl Limiter for Gradient2 {
    fn admit(&mut self, _: &Call, _: f64) -> bool {
        let admitted = self.flying < self.limit as i64;
        self.flying += i64::from(admitted);
        admitted
    }

    fn complete(&mut self, _: &Call, end: &End, now: f64) {
        self.most = self.most.max(self.flying);
        self.flying -= 1;
        self.sum += end.latency.max(1e-6);
        self.samples += 1.0;
        if now - self.since >= WINDOW && self.samples >= SAMPLES {
            self.window(self.sum / self.samples, self.most);
            (self.since, self.sum, self.samples, self.most) = (now, 0.0, 0.0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(limit: f64, long: f64, short: f64, flying: i64) -> (f64, f64) {
        // The long average is far from moving.
        let mut g = Gradient2 { limit, long, windows: 1e9, ..Gradient2::default() };
        g.window(short, flying);
        (g.limit, g.long)
    }

    #[test]
    fn the_limit_follows_the_gradient_a_fifth_of_the_way() {
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 0.05, "{found} {expected}");
        near(at(100.0, 0.1, 0.1, 90).0, 100.8);
        // The long average takes 2/601 of the sample first: (0.1 + 0.1 · 2/601) / 0.2 = 0.5017; 50.17 + 4 wanted.
        near(at(100.0, 0.1, 0.2, 90).0, 80.0 + 0.2 * 54.17);
        near(at(100.0, 0.1, 1.0, 90).0, 80.0 + 0.2 * 54.0);
        near(at(100.0, 0.1, 0.2, 40).0, 100.0);
        near(at(20.0, 0.1, 1.0, 20).0, 20.0);
        near(at(199.9, 0.1, 0.1, 200).0, 200.0);
    }

    #[test]
    fn a_long_average_that_is_far_too_high_falls_faster() {
        let (_, long) = at(100.0, 0.5, 0.1, 90);
        assert!((long - (0.5 - 0.4 * 2.0 / 601.0) * 0.9).abs() < 1e-9, "{long}");
    }
}
