//! Load-test traffic: it goes first, and comes back by itself.
use raddle_core::Time;
use std::time::Duration;

/// How long it stays away at first, and when its return brought the shortage back.
const HOLD: Duration = Duration::from_secs(30);
const HOLD_AGAIN: Duration = Duration::from_secs(60);

/// The share of load-test traffic that passes.
#[derive(Debug)]
pub(super) struct Mark {
    pub pass: f64,
    until: Time,
    opened: bool,
    /// Some came since the shortage began, or in the second before.
    came: bool,
}

impl Default for Mark {
    fn default() -> Mark {
        Mark { pass: 1.0, until: Time::ZERO, opened: false, came: false }
    }
}

impl Mark {
    pub(super) fn begin(&mut self, now: Time) {
        (self.pass, self.until, self.opened) = (0.0, now + HOLD, false);
    }

    pub(super) fn end(&mut self) {
        self.pass = 1.0;
    }

    /// Whether all of it passes, or there was none.
    pub(super) fn open(&self) -> bool {
        self.pass >= 1.0 || !self.came
    }

    /// Notes how much of it came in this second.
    pub(super) fn note(&mut self, offered: f64, active: bool) {
        self.came = offered > 0.0 || (active && self.came);
    }

    /// Whether none of it passes.
    pub(super) fn closed(&self) -> bool {
        self.pass <= 0.0
    }

    pub(super) fn tick(&mut self, now: Time, active: bool, level: f64, theta: f64, draining: bool) {
        if !active {
            self.pass = 1.0;
            return;
        }
        if now < self.until {
            return;
        }
        if self.opened && (level > theta || draining) {
            (self.pass, self.until, self.opened) = (0.0, now + HOLD_AGAIN, false);
        } else if level > theta - 0.05 {
            self.pass *= 0.5;
        } else if level < theta - 0.15 && !draining {
            self.pass = (self.pass + 0.05).min(1.0);
            self.opened = true;
        }
    }
}
