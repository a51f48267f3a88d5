//! Which leases live, and until when. Time is passed in.
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
        match self.living.get(&id) {
            Some(&(ttl, end)) if now < end => {
                self.begin(id, ttl, now);
                true
            }
            _ => false,
        }
    }

    /// A lease ends; false if it did not live.
    pub(super) fn end(&mut self, id: i64) -> bool {
        let Some((_, end)) = self.living.remove(&id) else { return false };
        self.ends.remove(&(end, id))
    }

    /// Whether a lease lives.
    pub(super) fn lives(&self, id: i64, now: Instant) -> bool {
        self.living.get(&id).is_some_and(|(_, end)| now < *end)
    }

    /// When the next one ends.
    pub(super) fn next(&self) -> Option<Instant> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// The leases that are over; they stay until [`Leases::end`].
    pub(super) fn due(&self, now: Instant) -> Vec<i64> {
        self.ends.iter().take_while(|(end, _)| *end <= now).map(|(_, id)| *id).collect()
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
        assert!(leases.due(start + Duration::from_secs(18)).is_empty());
        assert_eq!(leases.due(start + Duration::from_secs(19)), [1]);
    }

    #[test]
    fn a_lease_that_is_over_cannot_be_kept_even_before_it_is_cleared() {
        let (mut leases, start) = (Leases::default(), Instant::now());
        leases.begin(1, TTL, start);
        assert!(!leases.keep(1, start + TTL));
        assert!(!leases.lives(1, start + TTL));
        assert_eq!(leases.next(), Some(start + TTL));
        assert!(leases.end(1) && !leases.end(1));
        assert_eq!((leases.next(), leases.len()), (None, 0));
    }
}
