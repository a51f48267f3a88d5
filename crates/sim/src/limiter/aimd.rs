//! Additive increase, multiplicative decrease (Chiu and Jain 1989), as in Netflix's concurrency-limits: the bound on
//! calls in flight grows by 1 with each call that ends well while at least half of it is used, and is multiplied by 0.9
//! with each that fails or takes longer than a second.
//!
//! Its defaults: within 20 and 200, ratio 0.9. Its timeout is 5 s by default; callers here give up after 1 s.
use super::{Call, End, Limiter};

const LEAST: i64 = 20;
const MOST: i64 = 200;
const RATIO: f64 = 0.9;
const TIMEOUT: f64 = 1.0;

/// AIMD.
#[derive(Debug)]
pub struct Aimd {
    limit: i64,
    flying: i64,
}

impl Default for Aimd {
    fn default() -> Aimd {
        Aimd { limit: LEAST, flying: 0 }
    }
}

/// The bound after a call.
fn next_limit(limit: i64, flying: i64, failed: bool) -> i64 {
    let next = if failed {
        (limit - 1).min((limit as f64 * RATIO) as i64)
    } else if flying * 2 >= limit {
        limit + 1
    } else {
        limit
    };
    next.clamp(LEAST, MOST)
}

impl Limiter for Aimd {
    fn admit(&mut self, _: &Call, _: f64) -> bool {
        let admitted = self.flying < self.limit;
        self.flying += i64::from(admitted);
        admitted
    }

    fn complete(&mut self, _: &Call, end: &End, _: f64) {
        let failed = end.failed || end.late || end.latency > TIMEOUT;
        self.limit = next_limit(self.limit, self.flying, failed);
        self.flying -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_adds_one_and_takes_a_tenth() {
        assert_eq!(next_limit(100, 50, false), 101);
        assert_eq!(next_limit(100, 49, false), 100);
        assert_eq!(next_limit(100, 100, true), 90);
        assert_eq!(next_limit(20, 20, true), 20);
        assert_eq!(next_limit(200, 200, false), 200);
    }
}
