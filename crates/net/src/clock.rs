//! The real monotonic clock, behind the value type that decisions take.
use raddle_core::Time;
use std::time::{Duration, Instant};

/// Reads the monotonic clock as [`Time`] since its own creation.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}

impl Clock {
    /// A clock that starts an hour after zero, so that "long ago" can be expressed.
    pub fn new() -> Clock {
        Clock { start: Instant::now() }
    }

    /// Now.
    pub fn now(&self) -> Time {
        Time::ZERO + Duration::from_secs(3600) + self.start.elapsed()
    }
}
