//! What the server knows of one sidecar at one rule.
use super::{ClientId, LEASE, Lease, REPORT, SILENT};
use raddle_core::Time;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Demand below which a sidecar counts as idle, requests a second.
pub(super) const IDLE: f64 = 0.1;
/// Grants of one sidecar that are told apart; of more, the oldest count as one.
const TOLD_APART: usize = 4;
/// What a sidecar lets through is looked at over this time, seconds.
const LOOKED: f64 = 0.5;
/// Leases whose time is remembered until they are acknowledged.
const SENT: usize = 4;

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
    /// Oldest first; in place, as every report of every sidecar looks here.
    given: [Given; TOLD_APART],
    known: usize,
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
            given: [Given { first: 0, last: 0, lease: Lease::default(), until: now }; TOLD_APART],
            known: 0,
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
        self.push(Given { first: 0, last: held, lease, until: now + LEASE });
    }

    /// What it said to hold counts this part: together they said more than there is.
    pub(super) fn doubt(&mut self, part: Lease) {
        for given in self.given[..self.known].iter_mut().filter(|g| g.first == 0) {
            given.lease.rate *= part.rate;
            given.lease.safe *= part.safe;
        }
    }

    pub(super) fn charge(&self, now: Time) -> f64 {
        self.given().iter().filter(|g| g.until > now).map(|g| g.lease.rate).fold(0.0, f64::max)
    }

    pub(super) fn safe(&self) -> f64 {
        self.given().iter().map(|g| g.lease.safe).fold(0.0, f64::max)
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
        let mut kept = 0;
        for i in 0..self.known {
            if self.given[i].last >= held {
                self.given[kept] = self.given[i];
                kept += 1;
            }
        }
        self.known = kept;
        if let Some((_, at)) = self.sent.iter().find(|(seq, _)| *seq == held && held > 0) {
            self.acked = self.acked.max(*at);
        }
    }

    pub(super) fn give(&mut self, seq: u64, lease: Lease, now: Time) {
        let until = now + LEASE;
        self.sent[seq as usize % SENT] = (seq, now);
        if let Some(last) = self.given[..self.known].last_mut()
            && last.lease == lease
            && last.last < seq
        {
            (last.last, last.until) = (seq, until);
            return;
        }
        self.push(Given { first: seq, last: seq, lease, until });
    }

    fn given(&self) -> &[Given] {
        &self.given[..self.known]
    }

    fn push(&mut self, given: Given) {
        if self.known == TOLD_APART {
            let old = self.given[0];
            self.given.copy_within(1.., 0);
            self.known -= 1;
            let next = &mut self.given[0];
            (next.first, next.last) = (next.first.min(old.first), next.last.max(old.last));
            next.until = next.until.max(old.until);
            next.lease.rate = next.lease.rate.max(old.lease.rate);
            next.lease.safe = next.lease.safe.max(old.lease.safe);
        }
        self.given[self.known] = given;
        self.known += 1;
    }
}

/// The sidecars at a rule. A sidecar's place is the same at most rules, so who looked at one knows where to look first.
#[derive(Debug, Default)]
pub(super) struct Holders {
    places: HashMap<ClientId, usize, BuildHasherDefault<Spread>>,
    list: Vec<(ClientId, Holder)>,
}

impl Holders {
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Where a sidecar is, if it is here. `hint`: where it may be.
    pub(super) fn find(&self, client: ClientId, hint: usize) -> Option<usize> {
        if self.list.get(hint).is_some_and(|(id, _)| *id == client) {
            return Some(hint);
        }
        self.places.get(&client).copied()
    }

    /// A sidecar that is not here yet; its place.
    pub(super) fn add(&mut self, client: ClientId, now: Time) -> usize {
        self.places.insert(client, self.list.len());
        self.list.push((client, Holder::new(now)));
        self.list.len() - 1
    }

    /// By the place that was found.
    pub(super) fn at(&mut self, place: usize) -> &mut Holder {
        &mut self.list[place].1
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Holder> {
        self.list.iter().map(|(_, holder)| holder)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (ClientId, &mut Holder)> {
        self.list.iter_mut().map(|(client, holder)| (*client, holder))
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Holder) -> bool) {
        if self.list.iter().all(|(_, holder)| keep(holder)) {
            return;
        }
        self.list.retain(|(_, holder)| keep(holder));
        self.places = self.list.iter().enumerate().map(|(place, (client, _))| (*client, place)).collect();
    }
}

/// Numbers of sidecars are hashes already, or counted in tests.
#[derive(Debug, Default)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.write_u64(u64::from(*b));
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}
