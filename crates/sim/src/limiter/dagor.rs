//! DAGOR (Zhou et al., "Overload Control for Scaling WeChat Microservices", SoCC 2018): calls have a business priority
//! and one of 128 user priorities; those beyond a cursor are rejected. The server is overloaded while calls queue for
//! more than 20 ms on average, over a second or 2,000 calls.
//!
//! Each window the number to be admitted goes down by alpha = 5 % of those admitted while overloaded, else up by
//! beta = 1 % of those that came; the cursor moves over a histogram of priorities until as many would have passed. All
//! interfaces have one business priority here (nobody wrote others down), load tests one below. It is told the true
//! queueing time of each call.
use super::{Call, End, Limiter};
use raddle_model::Priority;

const USERS: usize = 128;
const LEVELS: usize = 2 * USERS;
const ALPHA: f64 = 0.05;
const BETA: f64 = 0.01;
const QUEUED: f64 = 0.02;
const WINDOW: f64 = 1.0;
const WINDOW_CALLS: u32 = 2000;

/// DAGOR.
#[derive(Debug)]
pub struct Dagor {
    /// Calls of this window by level.
    histogram: Vec<u32>,
    came: u32,
    admitted: u32,
    queued: f64,
    ended: u32,
    since: f64,
    /// Levels up to this one pass.
    cursor: usize,
}

impl Default for Dagor {
    fn default() -> Dagor {
        Dagor {
            histogram: vec![0; LEVELS],
            came: 0,
            admitted: 0,
            queued: 0.0,
            ended: 0,
            since: 0.0,
            cursor: LEVELS - 1,
        }
    }
}

/// The cursor after a window.
fn moved(cursor: usize, histogram: &[u32], came: u32, admitted: u32, overloaded: bool) -> usize {
    let mut passing = f64::from(admitted);
    let mut cursor = cursor;
    if overloaded {
        let wanted = (1.0 - ALPHA) * passing;
        while passing > wanted && cursor > 0 {
            passing -= f64::from(histogram[cursor]);
            cursor -= 1;
        }
    } else {
        let wanted = passing + BETA * f64::from(came);
        while passing < wanted && cursor + 1 < histogram.len() {
            cursor += 1;
            passing += f64::from(histogram[cursor]);
        }
    }
    cursor
}

impl Dagor {
    fn window(&mut self, now: f64) {
        if now - self.since < WINDOW && self.came < WINDOW_CALLS {
            return;
        }
        let overloaded = self.ended > 0 && self.queued / f64::from(self.ended) > QUEUED;
        self.cursor = moved(self.cursor, &self.histogram, self.came, self.admitted, overloaded);
        self.histogram.fill(0);
        (self.came, self.admitted, self.ended, self.queued, self.since) = (0, 0, 0, 0.0, now);
    }
}

/// A call's level: the lower, the more important.
fn level(call: &Call) -> usize {
    let user = (call.user.wrapping_mul(0x9e37_79b9) >> 25) as usize;
    if call.priority == Priority::LoadTest { USERS + user } else { user }
}

impl Limiter for Dagor {
    fn admit(&mut self, call: &Call, now: f64) -> bool {
        self.window(now);
        let level = level(call);
        self.histogram[level] += 1;
        self.came += 1;
        let admitted = level <= self.cursor;
        self.admitted += u32::from(admitted);
        admitted
    }

    fn complete(&mut self, _: &Call, end: &End, _: f64) {
        self.queued += end.queued;
        self.ended += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_moves_by_the_histogram() {
        // 4 levels of 25 calls each, all admitted: 95 wanted, the last level goes.
        assert_eq!(moved(3, &[25; 4], 100, 100, true), 2);
        // 75 admitted of 100: 71.25 wanted, one more goes.
        assert_eq!(moved(2, &[25; 4], 100, 75, true), 1);
        // Not overloaded: 50 + 1 wanted, one comes back.
        assert_eq!(moved(1, &[25; 4], 100, 50, false), 2);
        assert_eq!(moved(3, &[25; 4], 100, 100, false), 3);
        // With fine levels, 5 % go and 1 % come back.
        assert_eq!(moved(99, &[1; 100], 100, 100, true), 94);
        assert_eq!(moved(94, &[1; 100], 100, 95, false), 95);
    }

    #[test]
    fn load_tests_are_below_every_user() {
        let marked = Call { priority: Priority::LoadTest, ..Call::default() };
        assert!(level(&marked) >= USERS);
        assert!((0..1000).all(|user| level(&Call { user: user << 20, ..Call::default() }) < USERS));
    }
}
