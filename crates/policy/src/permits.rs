//! A bound on requests outstanding that holds exactly over all workers, and mostly costs them nothing
//! shared: a worker takes permits in chunks and keeps a few.
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What all workers took of one bound.
#[derive(Debug, Default)]
pub struct Shared {
    taken: AtomicU32,
}

impl Shared {
    /// Permits in use or kept by workers.
    pub fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes up to `most`, at least one, if `cap` allows; returns how many.
    fn take(&self, most: u32, cap: u32) -> u32 {
        let mut got = 0;
        let took = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
            got = most.min(cap.saturating_sub(taken));
            (got > 0).then(|| taken + got)
        });
        if took.is_ok() { got } else { 0 }
    }

    fn give(&self, n: u32) {
        if n > 0 {
            self.taken.fetch_sub(n, Ordering::Relaxed);
        }
    }
}

/// One worker's share of a bound. Dropping it gives back what it kept and what is in use.
#[derive(Debug)]
pub struct Permits {
    shared: Arc<Shared>,
    kept: u32,
    in_use: u32,
    cap: u32,
}

/// A request's permit; give it back with [`Permits::release`].
#[must_use = "a permit that is not released is lost"]
#[derive(Debug, PartialEq, Eq)]
pub struct Permit {
    counted: bool,
}

impl Permits {
    /// A worker's share of what `shared` counts.
    pub fn new(shared: Arc<Shared>) -> Permits {
        Permits { shared, kept: 0, in_use: 0, cap: 0 }
    }

    /// Requests of this worker that hold a counted permit.
    pub fn in_use(&self) -> u32 {
        self.in_use
    }

    /// A permit, if fewer than `cap` are out over all workers; 0 = unbounded and not counted.
    pub fn acquire(&mut self, cap: u32) -> Option<Permit> {
        if cap != self.cap {
            self.flush();
            self.cap = cap;
        }
        if cap == 0 {
            return Some(Permit { counted: false });
        }
        if self.kept == 0 {
            self.kept = self.shared.take(chunk(cap), cap);
        }
        self.kept = self.kept.checked_sub(1)?;
        self.in_use += 1;
        Some(Permit { counted: true })
    }

    /// Gives a permit back.
    pub fn release(&mut self, permit: Permit) {
        if !permit.counted {
            return;
        }
        self.in_use = self.in_use.saturating_sub(1);
        self.kept += 1;
        let chunk = chunk(self.cap);
        // Two chunks' hysteresis, so that a worker at a steady level leaves the shared word alone.
        if chunk <= 1 {
            self.flush();
        } else if self.kept > 2 * chunk {
            self.shared.give(chunk);
            self.kept -= chunk;
        }
    }

    /// Gives back what is kept; call it when the worker has been idle for a while, as others may want it.
    pub fn flush(&mut self) {
        self.shared.give(self.kept);
        self.kept = 0;
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        self.shared.give(self.kept + self.in_use);
    }
}

/// A worker keeps at most about 2 % of the cap from the others: one by one for small caps.
const fn chunk(cap: u32) -> u32 {
    let part = cap / 128;
    if part == 0 {
        1
    } else if part > 64 {
        64
    } else {
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_more_than_the_cap_is_out_over_all_workers(
            cap in 1u32..2000, steps in prop::collection::vec((0usize..4, any::<bool>()), 1..4000),
        ) {
            let shared = Arc::new(Shared::default());
            let mut workers: Vec<_> = (0..4).map(|_| (Permits::new(shared.clone()), Vec::new())).collect();
            for (w, take) in steps {
                let (permits, held) = &mut workers[w];
                if take {
                    held.extend(permits.acquire(cap));
                } else if let Some(permit) = held.pop() {
                    permits.release(permit);
                }
                prop_assert!(shared.taken() <= cap);
                let out: usize = workers.iter().map(|(_, held)| held.len()).sum();
                prop_assert!(out as u32 <= shared.taken());
            }
            drop(workers);
            prop_assert_eq!(shared.taken(), 0);
        }
    }

    #[test]
    fn a_small_cap_is_reached_exactly_by_two_workers() {
        let shared = Arc::new(Shared::default());
        let (mut a, mut b) = (Permits::new(shared.clone()), Permits::new(shared));
        let first = a.acquire(2).unwrap();
        assert!(b.acquire(2).is_some() && a.acquire(2).is_none() && b.acquire(2).is_none());
        a.release(first);
        assert!(b.acquire(2).is_some());
    }

    #[test]
    fn requests_admitted_without_a_bound_are_not_counted_when_one_comes() {
        let shared = Arc::new(Shared::default());
        let mut a = Permits::new(shared.clone());
        let free = a.acquire(0).unwrap();
        let counted = a.acquire(1).unwrap();
        a.release(free);
        assert!(a.acquire(1).is_none(), "the free one frees no place");
        a.release(counted);
        assert_eq!(shared.taken(), 0);
    }

    #[test]
    fn a_lowered_cap_holds_for_new_requests() {
        let mut a = Permits::new(Arc::new(Shared::default()));
        let held: Vec<_> = (0..1000).filter_map(|_| a.acquire(1000)).collect();
        assert_eq!(held.len(), 1000);
        assert!(a.acquire(10).is_none());
        for permit in held {
            a.release(permit);
        }
        assert!(a.acquire(10).is_some());
    }
}
