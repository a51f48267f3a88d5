//! Rules with revisions and rollouts.
//!
//! [`Rules`] is the service: [`admit`] (and [`strict`]) decides what a change comes to, [`service`] writes it, [`book`] is what everybody
//! reads, [`lead`] is the leader's job: to tick the rollouts (`raddle_policy::rollout`) by what an [`Observer`] sees.
mod admit;
mod book;
mod desk;
mod diff;
mod lead;
mod service;
mod strict;
#[cfg(test)]
mod tests;
mod types;

pub use admit::Known;
pub use book::Seen;
pub use service::Rules;
pub use types::*;

use std::collections::BTreeMap;
use std::sync::Arc;

/// All rules at one moment. Never changed: the next one shares what did not change.
#[derive(Clone, Debug, Default)]
pub struct RuleBook {
    /// Grows with every change.
    pub generation: u64,
    /// By `KIND/NAME`.
    pub rules: BTreeMap<Arc<str>, Arc<RuleEntry>>,
}

/// A rule: the revision in force, and the one that is on its way.
#[derive(Clone, Debug)]
pub struct RuleEntry {
    /// `KIND/NAME`.
    pub id: Arc<str>,
    /// What sidecars outside the candidate's cohort run; `None` = the rule is new (or being removed: see `candidate`).
    pub stable: Option<Arc<RuleRevision>>,
    /// What is being rolled out: the revision (`None` = removal), and the share of instances that has it, in millionths
    /// (stable hash of instance id and rollout).
    pub candidate: Option<(Option<Arc<RuleRevision>>, Cohort)>,
}

/// Which instances have a candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Cohort {
    /// Names the rollout; the hash is over it and the instance id, so that not always the same instances go first.
    pub seed: Arc<str>,
    /// Share in millionths.
    pub ppm: u32,
}

/// One revision of a rule.
#[derive(Clone, Debug)]
pub struct RuleRevision {
    /// Hash of the content, 16 hexadecimal digits.
    pub hash: Arc<str>,
    /// The whole resource as JSON.
    pub document: Arc<str>,
    /// Which sidecars.
    pub scope: raddle_model::Scope,
    /// Which callee it concerns; `None` = the inbound side of every sidecar in the scope.
    pub target: Option<raddle_model::Target>,
    /// The resource as it is sent.
    pub resource: Arc<raddle_xds::resource::Resource>,
}

/// What is seen of a rollout; the reports of all replicas know.
pub trait Observer: Send + Sync + 'static {
    /// What happened since the last call for this rollout, and how far it has come.
    fn observe(&self, rule: &str, candidate: &Cohort, revision: Option<&str>) -> Observed;
}

/// Who still comes in plaintext; the reports of all replicas know.
pub trait Callers: Send + Sync + 'static {
    /// Callers in plaintext, seen in the last so long, of apps with sidecars in a scope.
    fn plaintext(&self, scope: &raddle_model::Scope, within: std::time::Duration) -> Vec<PlaintextCaller>;
}

/// A caller in plaintext.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlaintextCaller {
    /// Whom it calls.
    pub app: Arc<str>,
    /// Its app; empty = nobody knows.
    pub caller: Arc<str>,
    /// Where it comes from.
    pub addresses: Vec<String>,
    /// Its share of the app's requests of the last minute, 0..=1.
    pub share: f64,
    /// When it was seen last, milliseconds since the Unix epoch.
    pub last: u64,
}

/// What happened to a rollout's cohorts since one looked last.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Requests of the sidecars that run the candidate, and of the others the rule reaches.
    pub new: raddle_policy::rollout::Cohorts,
    /// How far the candidate has come.
    pub spread: Spread,
}
