//! Counts of services, for the sidecar's reports: cheaper than totals, and without names of reasons.
use crate::cell::Snapshot;
use crate::cells::{LimitCells, WorkerCells};
use crate::labels::Direction;
use crate::registry::Registry;
use crate::table::OTHER;
use raddle_core::Reason;
use std::sync::Arc;

/// What became of a service's requests so far, over all workers.
#[derive(Clone, Debug)]
pub struct ServiceCount {
    /// Which way they went.
    pub direction: Direction,
    /// The service.
    pub service: Arc<str>,
    /// Requests that are over.
    pub ended: u64,
    /// Of those, failures of any cause but the caller's own.
    pub failed: u64,
    /// Requests forwarded that expect no reply.
    pub one_way: u64,
    /// Requests whose reply is awaited.
    pub in_flight: i64,
    /// How long they took.
    pub latency: Option<Box<Snapshot>>,
}

impl Registry {
    /// The counts of every service that has series of its own, in no order; durations where `latency` says so.
    pub fn service_counts(&self, latency: bool) -> Vec<ServiceCount> {
        let entries = self.tables.services.entries();
        let mut out = Vec::with_capacity(entries.len());
        for (name, entry) in entries {
            if &*name.service == OTHER {
                continue;
            }
            let mut count = ServiceCount {
                direction: name.direction,
                service: name.service.clone(),
                ended: 0,
                failed: 0,
                one_way: 0,
                in_flight: 0,
                latency: latency.then(Box::default),
            };
            for cells in entry.resolved() {
                count.ended += cells.ok.read() + cells.app_error.read();
                count.failed += cells.app_error.read();
                for (reason, counter) in cells.rejected.iter() {
                    let n = counter.read();
                    count.ended += n;
                    if !is_callers_own(reason) {
                        count.failed += n;
                    }
                }
                count.one_way += cells.one_way.read();
                count.in_flight += cells.in_flight.read();
                if let Some(sum) = &mut count.latency {
                    sum.merge(&cells.latency.snapshot());
                }
            }
            out.push(count);
        }
        out
    }

    /// What each limit and breaker held and would have held so far, `KIND/NAME` first, in no order.
    pub fn limit_counts(&self) -> Vec<(Arc<str>, u64, u64)> {
        let entries = self.tables.limits.entries();
        let sum = |entry: &crate::table::Entry<LimitCells>| {
            let all = entry.resolved();
            all.fold((0, 0), |(held, observed), c| (held + c.held.read(), observed + c.observed.read()))
        };
        let counts = entries.iter().map(|(name, entry)| {
            let (held, observed) = sum(entry);
            (name.0.clone(), held, observed)
        });
        counts.collect()
    }

    /// Whether services may have no series of their own because there are too many.
    pub fn services_are_full(&self) -> bool {
        self.tables.services.is_full()
    }
}

/// A failure that says nothing about the callee.
fn is_callers_own(reason: Reason) -> bool {
    matches!(reason, Reason::CallerGone | Reason::CallerProtocol | Reason::SlowCaller)
}

impl WorkerCells {
    /// Counts a request to an endpoint by whether its connection is encrypted.
    #[inline]
    pub fn count_link(&self, encrypted: bool) {
        if encrypted { &self.link_requests_secured } else { &self.link_requests_plain }.inc();
    }
}
