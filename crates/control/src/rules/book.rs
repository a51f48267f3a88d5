//! Rules as every part of the control plane reads them.
use super::{Candidate, Cohort, Revision, RuleBook, RuleEntry, RuleRevision, RuleState};
use raddle_core::share;
use raddle_model::{LoadOptions, Member, Source};
use raddle_xds::proto::{self, Node};
use raddle_xds::resource::Resource;
use raddle_xds::types::Kind;
use std::net::IpAddr;
use std::sync::Arc;

/// A node as scopes see it.
pub struct Seen<'a>(pub &'a Node);

impl Member for Seen<'_> {
    fn id(&self) -> &str {
        &self.0.id
    }

    fn app(&self) -> &str {
        &self.0.app
    }

    fn unit(&self) -> Option<&str> {
        given(&self.0.unit)
    }

    fn group(&self) -> &str {
        given(&self.0.group).unwrap_or("default")
    }

    fn version(&self) -> Option<&str> {
        given(&self.0.version)
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.0.labels.get(name).map(String::as_str)
    }

    fn address(&self) -> Option<IpAddr> {
        self.0.address.parse().ok()
    }
}

fn given(text: &str) -> Option<&str> {
    Some(text).filter(|t| !t.is_empty())
}

impl Cohort {
    /// Whether an instance is in it.
    pub fn has(&self, instance: &str) -> bool {
        share(&self.seed, instance) < self.ppm
    }
}

impl RuleBook {
    /// What of a rule a sidecar gets: rollout, then the scope of the revision that is meant for it. `None` = nothing.
    pub fn select<'a>(&self, entry: &'a RuleEntry, node: &Node) -> Option<&'a Arc<RuleRevision>> {
        let revision = match &entry.candidate {
            Some((candidate, cohort)) if cohort.has(&node.id) => candidate.as_ref(),
            _ => entry.stable.as_ref(),
        };
        revision.filter(|r| r.scope.covers(&Seen(node)))
    }
}

/// A rule's entry made of what is kept; revisions that `before` has are shared. `None` = there is nothing to tell
/// sidecars. A revision that this version of Raddle cannot read is left out, with a word in the log.
pub(super) fn entry(id: &Arc<str>, state: &RuleState, before: Option<&RuleEntry>) -> Option<RuleEntry> {
    let known: Vec<&Arc<RuleRevision>> = before.map_or_else(Vec::new, |b| {
        let candidate = b.candidate.as_ref().and_then(|(revision, _)| revision.as_ref());
        b.stable.iter().chain(candidate).collect()
    });
    let compile = |revision: &Revision| {
        let same = known.iter().find(|r| r.hash == revision.hash);
        same.map(|r| Arc::clone(r)).or_else(|| compiled(id, revision))
    };
    let stable = state.stable.as_ref().and_then(compile);
    let candidate = state.candidate.as_ref().map(|c| (compile(&c.revision), cohort(c)));
    if stable.is_none() && candidate.as_ref().is_none_or(|(revision, _)| revision.is_none()) {
        return None;
    }
    Some(RuleEntry { id: id.clone(), stable, candidate })
}

pub(super) fn cohort(candidate: &Candidate) -> Cohort {
    Cohort { seed: candidate.seed.clone(), ppm: candidate.rollout.ppm() }
}

fn compiled(id: &Arc<str>, revision: &Revision) -> Option<Arc<RuleRevision>> {
    let document = revision.document.clone()?;
    let source = Source { name: id.to_string(), text: document.to_string() };
    let resources = match raddle_model::load(&[source], LoadOptions::rules_only()) {
        Ok((resources, _)) => resources,
        Err(report) => {
            tracing::error!(rule = &**id, revision = &*revision.hash, "a kept rule cannot be read: {report}");
            return None;
        }
    };
    // Without a target it is for who is in the scope, whatever its services.
    let (scope, target) = resources.rules().next().map(|r| (r.scope.clone(), r.target.cloned()))?;
    let (kind, name) = id.split_once('/').unwrap_or((id, ""));
    let message = proto::Rule {
        kind: kind.into(),
        name: name.into(),
        revision: revision.hash.to_string(),
        document: document.to_string().into_bytes().into(),
    };
    let resource = Arc::new(Resource::new(Kind::Rule, id.clone(), &message));
    Some(Arc::new(RuleRevision { hash: revision.hash.clone(), document, scope, target, resource }))
}
