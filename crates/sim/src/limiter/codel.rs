//! A gate by queueing time, after CoDel (Nichols and Jacobson, RFC 8289): when calls have queued for more than 5 ms
//! throughout 100 ms, one is rejected, and the next after `100 ms / √count`, until the queue is short again.
//!
//! CoDel stands at a queue's head; a gate before a server has the queueing time of the call that ended last instead. It
//! is told the true one.
use super::{Call, End, Limiter};

const TARGET: f64 = 0.005;
const INTERVAL: f64 = 0.1;

/// CoDel.
#[derive(Debug, Default)]
pub struct Codel {
    /// When the queue will have been long for a whole interval; absent = it is short.
    first_above: Option<f64>,
    dropping: bool,
    count: f64,
    last: f64,
    next: f64,
}

/// When the next is rejected (RFC 8289, 5.6).
fn control_law(at: f64, count: f64) -> f64 {
    at + INTERVAL / count.sqrt()
}

impl Codel {
    fn long(&self, now: f64) -> bool {
        self.first_above.is_some_and(|at| now >= at)
    }
}

impl Limiter for Codel {
    fn admit(&mut self, _: &Call, now: f64) -> bool {
        if self.dropping {
            if !self.long(now) {
                self.dropping = false;
            } else if now >= self.next {
                self.count += 1.0;
                self.next = control_law(self.next, self.count);
                return false;
            }
        } else if self.long(now) {
            // Where it dropped a short while ago it goes on from the rate it had.
            let recent = now - self.next < 16.0 * INTERVAL;
            let since = self.count - self.last;
            self.count = if recent && since > 1.0 { since } else { 1.0 };
            (self.dropping, self.last) = (true, self.count);
            self.next = control_law(now, self.count);
            return false;
        }
        true
    }

    fn complete(&mut self, _: &Call, end: &End, now: f64) {
        if end.queued < TARGET {
            self.first_above = None;
        } else if self.first_above.is_none() {
            self.first_above = Some(now + INTERVAL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(codel: &mut Codel, queued: f64, now: f64) {
        codel.complete(&Call::default(), &End { latency: queued, queued, failed: false, late: false }, now);
    }

    #[test]
    fn rejections_come_closer_by_the_root_of_their_number() {
        assert!((control_law(10.0, 1.0) - 10.1).abs() < 1e-12);
        assert!((control_law(10.0, 4.0) - 10.05).abs() < 1e-12);
        let mut codel = Codel::default();
        queued(&mut codel, 0.02, 0.0);
        let rejected: Vec<u32> =
            (0..500).filter(|&ms| !codel.admit(&Call::default(), f64::from(ms) / 1000.0 + 1e-9)).collect();
        // 100, then after 100/√1, 100/√2, 100/√3, ...
        assert_eq!(rejected[..4], [100, 200, 271, 329]);
    }

    #[test]
    fn it_ends_with_one_call_that_did_not_queue() {
        let mut codel = Codel::default();
        queued(&mut codel, 0.02, 0.0);
        assert!(!codel.admit(&Call::default(), 0.15));
        queued(&mut codel, 0.004, 0.2);
        assert!((0..100).all(|ms| codel.admit(&Call::default(), 0.3 + f64::from(ms) / 1000.0)));
    }
}
