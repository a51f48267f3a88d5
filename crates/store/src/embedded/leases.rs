//! Which leases live, and until when. Time is passed in.
//!
//! A lease whose time is over lives until it is ended, and may be kept until then: nobody has been told otherwise. When
//! it is ended, [`super::writer`] decides.
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// Leases with their deadlines.
#[derive(Debug, Default)]
pub(super) struct Leases {
    living: HashMap<i64, (Duration, Instant)>,
    ends: BTreeSet<(Instant, i64)>,
}

impl Leases {
    /// A lease begins, or gets its whole life again.
    pub(super) fn begin(&mut self, id: i64, ttl: Duration, now: Instant) {
        self.end(id);
        let end = now + ttl;
        self.living.insert(id, (ttl, end));
        self.ends.insert((end, id));
    }

    /// A lease is kept; false if it does not live.
    pub(super) fn keep(&mut self, id: i64, now: Instant) -> bool {
        let Some(&(ttl, _)) = self.living.get(&id) else { return false };
        self.begin(id, ttl, now);
        true
    }

    /// A lease ends; false if it did not live.
    pub(super) fn end(&mut self, id: i64) -> bool {
        let Some((_, end)) = self.living.remove(&id) else { return false };
        self.ends.remove(&(end, id))
    }

    /// Whether a lease lives.
    pub(super) fn lives(&self, id: i64) -> bool {
        self.living.contains_key(&id)
    }

    /// When the next one's time is over.
    pub(super) fn next(&self) -> Option<Instant> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// Ends the leases whose time is over.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<i64> {
        let over: Vec<i64> = self.ends.iter().take_while(|(end, _)| *end <= now).map(|(_, id)| *id).collect();
        for id in &over {
            self.end(*id);
        }
        over
    }

    /// How many live.
    pub(super) fn len(&self) -> usize {
        self.living.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    #[test]
    fn a_lease_that_is_kept_lives_its_whole_ttl_again() {
        let (mut leases, start) = (Leases::default(), Instant::now());
        leases.begin(1, TTL, start);
        assert!(leases.keep(1, start + Duration::from_secs(9)));
        assert!(leases.take_due(start + Duration::from_secs(18)).is_empty());
        assert_eq!(leases.take_due(start + Duration::from_secs(19)), [1]);
    }

    #[test]
    fn a_lease_whose_time_is_over_may_be_kept_until_it_is_ended() {
        let (mut leases, start) = (Leases::default(), Instant::now());
        leases.begin(1, TTL, start);
        assert_eq!(leases.next(), Some(start + TTL));
        assert!(leases.lives(1) && leases.keep(1, start + TTL));
        assert!(leases.take_due(start + TTL).is_empty());
        assert!(leases.end(1) && !leases.end(1));
        assert!(!leases.lives(1) && !leases.keep(1, start + TTL));
        assert_eq!((leases.next(), leases.len()), (None, 0));
    }
}
