//! Which requests count to which cohort of a rollout, and their sums. Pure.
use crate::rules::{Cohort, RuleEntry, RuleRevision, Seen};
use raddle_model::Target;
use raddle_policy::rollout::{Cohorts, Sample};
use raddle_xds::proto::{Node, ServiceStats};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All that one replica's sidecars reported of a rollout since it began; in the store at `reports/REPLICA/KIND/NAME`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Sums {
    /// Which rollout.
    pub(super) seed: Arc<str>,
    /// Sidecars that run the change.
    pub(super) candidate: Sample,
    /// The others the rule reaches.
    pub(super) rest: Sample,
}

/// A cohort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Candidate,
    Rest,
}

impl Sums {
    pub(super) fn new(seed: &Arc<str>) -> Sums {
        Sums { seed: seed.clone(), ..Sums::default() }
    }

    pub(super) fn side(&mut self, side: Side) -> &mut Sample {
        match side {
            Side::Candidate => &mut self.candidate,
            Side::Rest => &mut self.rest,
        }
    }

    /// What came since an earlier moment. Sums that went down were begun anew: all of them came since.
    pub(super) fn since(&self, before: Option<&Sums>) -> Cohorts {
        let before = before.filter(|b| b.seed == self.seed);
        let difference = before.and_then(|b| {
            let candidate = difference(&self.candidate, &b.candidate)?;
            Some(Cohorts { candidate, rest: difference(&self.rest, &b.rest)? })
        });
        difference.unwrap_or_else(|| Cohorts { candidate: self.candidate.clone(), rest: self.rest.clone() })
    }
}

/// What came between two sums; `None` = they went down.
fn difference(now: &Sample, before: &Sample) -> Option<Sample> {
    let mut out = Sample::default();
    out.requests = now.requests.checked_sub(before.requests)?;
    out.failures = now.failures.checked_sub(before.failures)?;
    let old: BTreeMap<usize, u64> = before.buckets().collect();
    for (bucket, count) in now.buckets() {
        out.latency(bucket, count.checked_sub(old.get(&bucket).copied().unwrap_or(0))?);
    }
    Some(out)
}

/// Adds a service's requests.
pub(super) fn add(sample: &mut Sample, stats: &ServiceStats) {
    sample.requests = sample.requests.saturating_add(stats.requests);
    sample.failures = sample.failures.saturating_add(stats.failures.min(stats.requests));
    for bucket in &stats.latency {
        sample.latency(bucket.index as usize, bucket.count);
    }
}

/// The rollout of a rule, if any sidecar shall have the candidate.
pub(super) fn rollout(entry: &RuleEntry) -> Option<(Option<&Arc<RuleRevision>>, &Cohort)> {
    let (candidate, cohort) = entry.candidate.as_ref()?;
    (cohort.ppm > 0).then_some((candidate.as_ref(), cohort))
}

/// Whether one of a rule's revisions is for the node.
pub(super) fn covers(entry: &RuleEntry, node: &Node) -> bool {
    let candidate = entry.candidate.as_ref().and_then(|(revision, _)| revision.as_ref());
    entry.stable.iter().chain(candidate).any(|r| r.scope.covers(&Seen(node)))
}

/// The cohort a node's requests count to. A node that shall have the change and does not run it yet counts to none.
pub(super) fn side(entry: &RuleEntry, node: &Node, running: &BTreeMap<Arc<str>, Arc<str>>) -> Option<Side> {
    let (candidate, cohort) = rollout(entry)?;
    let chosen = cohort.has(&node.id);
    let has = match candidate {
        Some(revision) => running.get(&entry.id).is_some_and(|hash| *hash == revision.hash),
        None => chosen && !running.contains_key(&entry.id) && covers(entry, node),
    };
    if has {
        return Some(Side::Candidate);
    }
    (!chosen && covers(entry, node)).then_some(Side::Rest)
}

/// Whether a service's requests say something of a rule: it is named; or no service is, and they are the calls that the
/// node makes, or those it takes if the rule is for its own app or its inbound side (without a target).
pub(super) fn tells(target: Option<&Target>, node: &Node, stats: &ServiceStats) -> bool {
    match target {
        Some(target) if !target.services.is_empty() => target.services.contains(&stats.service),
        Some(target) if target.app.as_deref() == Some(&*node.app) => true,
        None => stats.inbound,
        _ => !stats.inbound,
    }
}

/// What a rule concerns, by the revision that is newest.
pub(super) fn target(entry: &RuleEntry) -> Option<&Target> {
    let candidate = entry.candidate.as_ref().and_then(|(revision, _)| revision.as_ref());
    candidate.or(entry.stable.as_ref())?.target.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(requests: u64, failures: u64, slow: u64) -> Sums {
        let mut sums = Sums::new(&"s".into());
        (sums.candidate.requests, sums.candidate.failures) = (requests, failures);
        sums.candidate.latency(40, slow);
        sums
    }

    #[test]
    fn differences_are_what_came_since_and_sums_that_went_down_count_from_zero() {
        let (before, now) = (sums(10, 1, 4), sums(15, 3, 9));
        assert_eq!(now.since(Some(&before)).candidate, {
            let mut expected = Sample::default();
            (expected.requests, expected.failures) = (5, 2);
            expected.latency(40, 5);
            expected
        });
        assert_eq!(before.since(Some(&now)).candidate, before.candidate);
        assert_eq!(now.since(None).candidate, now.candidate);
        let other = Sums { seed: "other".into(), ..before };
        assert_eq!(now.since(Some(&other)).candidate, now.candidate);
    }
}
