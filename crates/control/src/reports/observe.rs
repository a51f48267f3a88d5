//! What all replicas' sidecars say of a rollout.
use super::Reports;
use super::state::Look;
use super::status::NodeStatus;
use super::sums;
use crate::rules::{Cohort, Observed, Observer, RuleEntry, RuleRevision, Seen, Spread};
use raddle_policy::rollout::Cohorts;
use raddle_xds::types::Kind;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A refusal of a version that is not known (a client may name that of the whole response) is taken for one of the
/// candidate after this time: until then it may be an older one that the sidecar has not taken back yet.
const STALE: Duration = Duration::from_secs(5);

impl Look {
    pub(super) fn new(seed: Arc<str>) -> Look {
        Look { seed, first: Instant::now(), sums: Default::default() }
    }
}

impl Observer for Reports {
    fn observe(&self, rule: &str, cohort: &Cohort, _: Option<&str>) -> Observed {
        let book = self.book.borrow().clone();
        let mut state = self.state();
        let state = &mut *state;
        state
            .looks
            .retain(|id, _| book.rules.get(id).is_some_and(|e| e.candidate.is_some()) || **id == *rule);
        let look = state.looks.entry(rule.into()).or_insert_with(|| Look::new(cohort.seed.clone()));
        if look.seed != cohort.seed {
            *look = Look::new(cohort.seed.clone());
        }
        let mut new = Cohorts::default();
        let own = state.sums.get(rule).map(|own| (&self.replica, &own.sums));
        let told = state.told.get(rule).into_iter().flatten();
        for (replica, sums) in own.into_iter().chain(told).filter(|(_, s)| s.seed == cohort.seed) {
            let since = sums.since(look.sums.get(replica));
            new.candidate.add(&since.candidate);
            new.rest.add(&since.rest);
            look.sums.insert(replica.clone(), sums.clone());
        }
        let settled = look.first.elapsed() >= STALE;
        let nodes = state.nodes();
        let entry = book.rules.get(rule).filter(|e| sums::rollout(e).is_some());
        let spread = entry.map_or_else(Spread::default, |entry| spread(entry, &nodes, settled));
        Observed { new, spread }
    }
}

/// How far a candidate has come. `settled`: the rollout is so old that no sidecar's refusals are older.
fn spread(entry: &RuleEntry, nodes: &[Arc<NodeStatus>], settled: bool) -> Spread {
    let mut spread = Spread::default();
    let Some((candidate, cohort)) = sums::rollout(entry) else { return spread };
    for status in nodes.iter().filter(|s| cohort.has(&s.node.id)) {
        let present = status.running.get(&entry.id);
        let Some(candidate) = candidate else {
            // Removal: who shall not have it any more is who the stable revision is for.
            let wanted = sums::covers(entry, &status.node);
            spread.wanted += u64::from(wanted);
            spread.running += u64::from(wanted && present.is_none());
            continue;
        };
        if !candidate.scope.covers(&Seen(&status.node)) {
            continue;
        }
        let runs = present.is_some_and(|hash| *hash == candidate.hash);
        let refuses = !runs && refuses(status, entry, candidate, settled);
        // A rule for a callee reaches only those who call it, and that they say by running some revision of it.
        let concerned = present.is_some() || refuses || concerns(candidate, &status.node.app);
        spread.wanted += u64::from(concerned);
        spread.running += u64::from(runs);
        spread.refused += u64::from(refuses);
    }
    spread
}

fn concerns(revision: &RuleRevision, app: &str) -> bool {
    let Some(target) = &revision.target else { return true };
    target.app.as_deref().map_or(target.services.is_empty(), |a| a == app)
}

fn refuses(status: &NodeStatus, entry: &RuleEntry, candidate: &RuleRevision, settled: bool) -> bool {
    let stable = entry.stable.as_ref().map(|r| &*r.resource.version);
    let mut all = status.refused.iter();
    all.any(|r| {
        let this = *r.version == *candidate.resource.version;
        let other = Some(&*r.version) == stable;
        *r.name == *entry.id && r.type_url == Kind::Rule.type_url() && (this || settled && !other)
    })
}
