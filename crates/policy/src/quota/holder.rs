//! What the server knows of one sidecar at one rule.
use super::{LEASE, Lease, REPORT, SILENT};
use raddle_core::Time;

/// Demand below which a sidecar counts as idle, requests a second.
pub(super) const IDLE: f64 = 0.1;
/// Grants of one sidecar that are told apart; of more, the oldest count as one.
const TOLD_APART: usize = 8;
/// What a sidecar lets through is looked at over this time, seconds.
const LOOKED: f64 = 0.5;
/// Leases whose time is remembered until they are acknowledged.
const SENT: usize = 8;

/// A lease that the sidecar may believe in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    /// The reports it answers, first and last.
    first: u64,
    last: u64,
    lease: Lease,
    until: Time,
}

/// A sidecar at a rule.
#[derive(Debug)]
pub(super) struct Holder {
    /// Oldest first.
    pub(super) given: Vec<Given>,
    pub(super) demand: f64,
    pub(super) seen: Time,
    /// When the leases of its last reports were given, and that of those which it is known to hold.
    sent: [(u64, Time); SENT],
    acked: Time,
    pub(super) poked: Time,
    pub(super) closed: bool,
    /// Requests a second that it let through of late.
    pub(super) passes: f64,
    /// What it said to hold when it was met while the rule was learnt.
    pub(super) told: Lease,
}

impl Holder {
    pub(super) fn new(now: Time) -> Holder {
        Holder {
            given: Vec::new(),
            demand: 0.0,
            seen: now,
            sent: [(0, now); SENT],
            acked: now,
            poked: now,
            closed: false,
            passes: 0.0,
            told: Lease::default(),
        }
    }

    /// What somebody else gave it, as it says in its report of a lease of `held`.
    pub(super) fn told(&mut self, lease: Lease, held: u64, demand: f64, now: Time) {
        self.told = lease;
        // All report at once when a server comes back. That they have let nothing through before is not so.
        self.passes = lease.rate.max(lease.safe).min(demand);
        self.given.push(Given { first: 0, last: held, lease, until: now + LEASE });
    }

    pub(super) fn charge(&self, now: Time) -> f64 {
        self.given.iter().filter(|g| g.until > now).map(|g| g.lease.rate).fold(0.0, f64::max)
    }

    pub(super) fn safe(&self) -> f64 {
        self.given.iter().map(|g| g.lease.safe).fold(0.0, f64::max)
    }

    /// Nothing is heard of it, or it hears nothing: as long as it reports what it held before, it may be about to use
    /// its safe share.
    pub(super) fn silent(&self, now: Time) -> bool {
        !self.closed && now.since(self.acked) > SILENT
    }

    /// What is kept for it beside its leases, as it may be about to use its safe share.
    pub(super) fn reserve(&self, now: Time) -> f64 {
        if self.silent(now) { (self.safe() - self.charge(now)).max(0.0) } else { 0.0 }
    }

    /// Requests let through since it last said so.
    pub(super) fn passed(&mut self, used: u64, now: Time) {
        let over = now.since(self.seen).as_secs_f64();
        if over > 0.0 {
            let weight = (over / LOOKED).min(1.0);
            self.passes += weight * (used as f64 / over - self.passes);
        }
    }

    /// What it is likely to have let through since its last report.
    pub(super) fn unsaid(&self, now: Time) -> f64 {
        self.passes * now.since(self.seen).min(REPORT).as_secs_f64()
    }

    /// What it needs.
    pub(super) fn want(&self) -> f64 {
        if self.demand < IDLE { 0.0 } else { self.demand }
    }

    /// It holds what this report's answer gave: what was given before is over.
    pub(super) fn ack(&mut self, held: u64) {
        self.given.retain(|g| g.last >= held);
        if let Some((_, at)) = self.sent.iter().find(|(seq, _)| *seq == held && held > 0) {
            self.acked = self.acked.max(*at);
        }
    }

    pub(super) fn give(&mut self, seq: u64, lease: Lease, now: Time) {
        let until = now + LEASE;
        self.sent[seq as usize % SENT] = (seq, now);
        if let Some(last) = self.given.last_mut()
            && last.lease == lease
            && last.last < seq
        {
            (last.last, last.until) = (seq, until);
            return;
        }
        if self.given.len() >= TOLD_APART {
            let old = self.given.remove(0);
            let next = &mut self.given[0];
            (next.first, next.last) = (next.first.min(old.first), next.last.max(old.last));
            next.until = next.until.max(old.until);
            next.lease.rate = next.lease.rate.max(old.lease.rate);
            next.lease.safe = next.lease.safe.max(old.lease.safe);
        }
        self.given.push(Given { first: seq, last: seq, lease, until });
    }
}
