//! Self-protection: when instances that have vanished are kept in the list.
//!
//! A broken network, or a control plane that lost its streams, looks like the death of many instances at once. The last
//! good list serves callers better then: their own outlier detection finds out which endpoints are really gone.
use raddle_core::Time;
use std::time::Duration;

/// The bounds of self-protection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Share of instances, in percent, that must have vanished within the window.
    pub percent: u32,
    /// Fewer than these never count as many.
    pub least: usize,
    /// The window; and how long enough of them must be back before the others are let go.
    pub window: Duration,
    /// What vanishes stays in the list for this long at first: if it is the first of many, nobody sees it go.
    pub settle: Duration,
    /// Kept no longer than this.
    pub longest: Duration,
    /// After the control plane's start nothing vanishes for this long: sidecars need time to come back.
    pub grace: Duration,
}

impl Default for Protection {
    fn default() -> Protection {
        Protection {
            percent: 30,
            least: 5,
            window: Duration::from_secs(15),
            settle: Duration::from_secs(1),
            longest: Duration::from_secs(30 * 60),
            grace: Duration::from_secs(15),
        }
    }
}

impl Protection {
    /// Whether `gone` of `before` instances are many.
    pub fn many(&self, gone: usize, before: usize) -> bool {
        gone >= self.least.max(1) && gone as u64 * 100 > before as u64 * u64::from(self.percent)
    }
}

/// Whether an app's (or the mesh's) vanished instances are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    since: Option<Time>,
    /// Since when enough instances are back.
    well: Option<Time>,
}

impl Guard {
    /// Whether it is on.
    pub fn on(&self) -> bool {
        self.since.is_some()
    }

    /// Looks at the numbers: `live` instances are there; `gone` vanished within the window or are kept. Returns whether
    /// it is on now.
    pub fn look(&mut self, rules: &Protection, now: Time, live: usize, gone: usize) -> bool {
        let many = rules.many(gone, live + gone);
        let Some(since) = self.since else {
            if many {
                *self = Guard { since: Some(now), well: None };
            }
            return many;
        };
        if many {
            self.well = None;
        } else {
            self.well.get_or_insert(now);
        }
        let well = self.well.is_some_and(|w| now.since(w) >= rules.window || gone == 0);
        if well || now.since(since) >= rules.longest {
            *self = Guard::default();
        }
        self.on()
    }

    /// An operator says that they are really gone.
    pub fn release(&mut self) {
        *self = Guard::default();
    }
}
