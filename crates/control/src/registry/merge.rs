//! How changes are merged: the first is told at once, constant change at ever longer intervals up to a bound.
use raddle_core::Time;
use std::time::Duration;

/// Shortest interval between two tellings.
const SHORTEST: Duration = Duration::from_millis(5);
/// Longest interval between two tellings.
const LONGEST: Duration = Duration::from_millis(100);

/// Says when changes are told.
#[derive(Clone, Debug)]
pub struct Merge {
    window: Duration,
    /// Nothing is told before this.
    open: Time,
    /// When the oldest change that is not told yet came.
    waiting: Option<Time>,
}

impl Default for Merge {
    fn default() -> Merge {
        Merge { window: SHORTEST, open: Time::ZERO, waiting: None }
    }
}

impl Merge {
    /// Something changed.
    pub fn changed(&mut self, now: Time) {
        self.waiting.get_or_insert(now);
    }

    /// When to tell what has changed; `None` = nothing has.
    pub fn due(&self) -> Option<Time> {
        self.waiting.map(|since| since.max(self.open))
    }

    /// It was told. If changes had to wait for the window, the next window is twice as long; after a quiet one it is
    /// the shortest again.
    pub fn told(&mut self, now: Time) {
        let waited = self.waiting.take().is_some_and(|since| since < self.open);
        self.window = if waited { (self.window * 2).min(LONGEST) } else { SHORTEST };
        self.open = now + self.window;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Time {
        Time::from_millis(n)
    }

    #[test]
    fn the_first_change_is_told_at_once() {
        let mut m = Merge::default();
        assert_eq!(m.due(), None);
        m.changed(ms(1000));
        assert_eq!(m.due(), Some(ms(1000)));
        m.told(ms(1000));
        assert_eq!(m.due(), None);
        m.changed(ms(2000));
        assert_eq!(m.due(), Some(ms(2000)));
    }

    #[test]
    fn constant_change_is_told_every_hundred_milliseconds_and_quiet_makes_it_quick_again() {
        let mut m = Merge::default();
        let mut told = Vec::new();
        for t in 0..2000 {
            m.changed(ms(t));
            if m.due().is_some_and(|due| due <= ms(t)) {
                m.told(ms(t));
                told.push(t);
            }
        }
        assert_eq!(told[..3], [0, 5, 15]);
        let last: Vec<u64> = told.windows(2).map(|w| w[1] - w[0]).rev().take(5).collect();
        assert_eq!(last, [100; 5]);
        // What still waits is told, too.
        m.told(ms(2100));
        m.changed(ms(9000));
        assert_eq!(m.due(), Some(ms(9000)));
        m.told(ms(9000));
        m.changed(ms(9001));
        assert_eq!(m.due(), Some(ms(9005)));
    }
}
