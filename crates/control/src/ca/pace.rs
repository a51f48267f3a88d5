//! How often somebody may ask: token buckets by name, with the clock passed in.
use std::collections::HashMap;
use std::hash::Hash;

/// Names remembered; when there are more, the fullest buckets are forgotten, which gives nobody more.
const MOST: usize = 50_000;

/// A bucket for each name: `burst` at once, one more every `every` seconds.
#[derive(Debug)]
pub(super) struct Pace<K> {
    burst: f64,
    every: f64,
    buckets: HashMap<K, (f64, f64)>,
}

impl<K: Hash + Eq + Clone> Pace<K> {
    pub(super) fn new(burst: u32, every: f64) -> Pace<K> {
        Pace { burst: f64::from(burst), every, buckets: HashMap::new() }
    }

    /// Whether there is something left, without taking it; `now` in seconds.
    pub(super) fn has(&self, name: &K, now: f64) -> bool {
        self.buckets.get(name).is_none_or(|b| self.level(*b, now) >= 1.0)
    }

    /// Takes one if there is one.
    pub(super) fn take(&mut self, name: &K, now: f64) -> bool {
        if self.buckets.len() >= MOST && !self.buckets.contains_key(name) {
            self.forget(now);
        }
        let level = self.buckets.get(name).map_or(self.burst, |b| self.level(*b, now));
        let taken = level >= 1.0;
        self.buckets.insert(name.clone(), (if taken { level - 1.0 } else { level }, now));
        taken
    }

    fn level(&self, (level, at): (f64, f64), now: f64) -> f64 {
        (level + (now - at).max(0.0) / self.every).min(self.burst)
    }

    fn forget(&mut self, now: f64) {
        let (burst, every) = (self.burst, self.every);
        self.buckets.retain(|_, (level, at)| *level + (now - *at).max(0.0) / every < burst);
        if self.buckets.len() >= MOST {
            // All of them asked a moment ago: a flood of names. Whoever is forgotten begins anew.
            self.buckets.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_one_at_a_time() {
        let mut pace = Pace::new(3, 10.0);
        assert!((0..3).all(|_| pace.take(&"a", 0.0)));
        assert!(!pace.take(&"a", 9.0) && !pace.has(&"a", 9.0));
        assert!(pace.take(&"b", 9.0), "others are not concerned");
        assert!(pace.has(&"a", 10.0) && pace.take(&"a", 10.0) && !pace.take(&"a", 10.0));
    }

    #[test]
    fn memory_is_bounded_whatever_names_there_are() {
        let mut pace = Pace::new(3, 10.0);
        for name in 0..3 * MOST {
            pace.take(&name, 0.0);
            assert!(pace.buckets.len() <= MOST);
        }
    }
}
