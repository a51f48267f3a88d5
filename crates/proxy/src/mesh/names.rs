//! Which services are asked for, why, and for how long: a state machine without clock or socket.
use raddle_core::Time;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Names that requests brought; peers can make names up.
const DEMANDED_MOST: usize = 10_000;
/// A name that the control plane does not know is asked about for this long after its last request.
const MISSING_KEPT: Duration = Duration::from_secs(30);
/// The same for one that nobody answered.
const PENDING_KEPT: Duration = Duration::from_mins(1);

/// The services asked for.
#[derive(Debug, Default)]
pub(crate) struct Names {
    all: HashMap<Arc<str>, Entry>,
    /// How many of them are kept.
    kept: usize,
}

#[derive(Debug)]
struct Entry {
    /// Preloaded, a listener's own, or subscribed by the app: so many times.
    kept: u32,
    state: State,
    used: Time,
    /// Requests counted when it was last looked at.
    count: u64,
}

/// What is known of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Pending,
    Missing,
    Found,
}

/// How many there are of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Counts {
    /// Current here.
    pub found: usize,
    /// Asked for, not answered yet.
    pub pending: Vec<Arc<str>>,
    /// Unknown to the control plane.
    pub missing: Vec<Arc<str>>,
    /// Of all, those asked for because of requests.
    pub on_demand: usize,
}

/// What a wish came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Subscribe.
    New,
    /// It is known, or asked for already.
    Known(State),
    /// There are too many.
    Full,
}

impl Names {
    /// A request names it.
    pub(crate) fn want(&mut self, name: &str, now: Time) -> Wanted {
        if let Some(e) = self.all.get_mut(name) {
            e.used = now;
            return Wanted::Known(e.state);
        }
        if self.all.len() - self.kept >= DEMANDED_MOST {
            return Wanted::Full;
        }
        self.all.insert(name.into(), Entry { kept: 0, state: State::Pending, used: now, count: 0 });
        Wanted::New
    }

    /// It is kept, whether it is used or not. True if it is to be subscribed.
    pub(crate) fn keep(&mut self, name: &str, now: Time) -> bool {
        let new = !self.all.contains_key(name);
        let fresh = || Entry { kept: 0, state: State::Pending, used: now, count: 0 };
        let e = self.all.entry(name.into()).or_insert_with(fresh);
        self.kept += usize::from(e.kept == 0);
        e.kept += 1;
        new
    }

    /// One reason to keep it is gone.
    pub(crate) fn release(&mut self, name: &str, now: Time) {
        if let Some(e) = self.all.get_mut(name) {
            self.kept -= usize::from(e.kept == 1);
            e.kept = e.kept.saturating_sub(1);
            e.used = now;
        }
    }

    /// The control plane said what it knows.
    pub(crate) fn set(&mut self, name: &str, state: State) {
        if let Some(e) = self.all.get_mut(name) {
            e.state = state;
        }
    }

    /// Forgets what is not used any more, and says what to unsubscribe. `requests` says how many requests of a
    /// service there have been, and whether any is in flight; `None` = that is not known of it.
    pub(crate) fn sweep(
        &mut self,
        now: Time,
        idle: Duration,
        requests: impl Fn(&str) -> Option<(u64, bool)>,
    ) -> Vec<Arc<str>> {
        let mut gone = Vec::new();
        self.all.retain(|name, e| {
            let (count, moving) = requests(name).unwrap_or((e.count, false));
            if count != e.count || moving {
                e.count = count;
                e.used = now;
            }
            let patience = match e.state {
                State::Pending => PENDING_KEPT,
                State::Missing => MISSING_KEPT,
                State::Found => idle,
            };
            let stays = e.kept > 0 || now.since(e.used) < patience;
            if !stays {
                gone.push(name.clone());
            }
            stays
        });
        gone.sort_unstable();
        gone
    }

    /// Everything at a glance; at most `most` names of each list.
    pub(crate) fn counts(&self, most: usize) -> Counts {
        let mut c = Counts::default();
        for (name, e) in &self.all {
            c.on_demand += usize::from(e.kept == 0);
            match e.state {
                State::Found => c.found += 1,
                State::Pending if c.pending.len() < most => c.pending.push(name.clone()),
                State::Missing if c.missing.len() < most => c.missing.push(name.clone()),
                State::Pending | State::Missing => {}
            }
        }
        c.pending.sort_unstable();
        c.missing.sort_unstable();
        c
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_mins(10);

    fn s(n: u64) -> Time {
        Time::from_millis(n * 1000)
    }

    #[test]
    fn a_service_is_dropped_when_it_has_been_idle_and_not_before() {
        let mut n = Names::default();
        assert_eq!(n.want("a", s(0)), Wanted::New);
        assert_eq!(n.want("a", s(1)), Wanted::Known(State::Pending));
        n.set("a", State::Found);
        assert!(n.sweep(s(300), IDLE, |_| Some((5, false))).is_empty());
        assert!(n.sweep(s(800), IDLE, |_| Some((5, false))).is_empty());
        assert!(n.sweep(s(899), IDLE, |_| Some((5, true))).is_empty());
        assert!(n.sweep(s(1400), IDLE, |_| Some((5, false))).is_empty());
        assert_eq!(n.sweep(s(1500), IDLE, |_| Some((5, false))).len(), 1);
        assert_eq!(n.want("a", s(1501)), Wanted::New);
    }

    #[test]
    fn what_is_kept_stays_until_it_is_released_as_often() {
        let mut n = Names::default();
        assert!(n.keep("a", s(0)));
        assert!(!n.keep("a", s(0)));
        n.set("a", State::Found);
        n.release("a", s(1));
        assert!(n.sweep(s(9000), IDLE, |_| None).is_empty());
        n.release("a", s(9000));
        assert!(n.sweep(s(9001), IDLE, |_| None).is_empty());
        assert_eq!(n.sweep(s(9601), IDLE, |_| None).len(), 1);
    }

    #[test]
    fn names_made_up_are_bounded_and_forgotten_soon() {
        let mut n = Names::default();
        for i in 0..DEMANDED_MOST {
            assert_eq!(n.want(&format!("s{i}"), s(0)), Wanted::New);
            n.set(&format!("s{i}"), State::Missing);
        }
        assert_eq!(n.want("one more", s(0)), Wanted::Full);
        assert!(n.keep("kept", s(0)), "what is configured has room whatever requests do");
        assert_eq!(n.sweep(s(31), IDLE, |_| None).len(), DEMANDED_MOST);
        assert_eq!(n.want("one more", s(31)), Wanted::New);
    }
}
