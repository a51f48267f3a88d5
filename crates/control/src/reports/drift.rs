//! Whether a sidecar runs what it should.
use super::NodeStatus;
use crate::discovery::Discovery;
use raddle_xds::proto::Node;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A rule of which a sidecar runs another revision than it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differs {
    /// KIND/NAME.
    pub rule: Arc<str>,
    /// What it runs; `None` = nothing.
    pub running: Option<Arc<str>>,
    /// What it should run; `None` = nothing.
    pub wanted: Option<Arc<str>>,
}

/// The rules a node should run, by KIND/NAME and revision, if it has subscribed to these services.
pub fn wanted(
    discovery: &Discovery,
    node: &Node,
    services: &dyn Fn(&str) -> bool,
) -> BTreeMap<Arc<str>, Arc<str>> {
    discovery.expected(node, services).into_iter().collect()
}

/// Where a sidecar differs from what it should run; empty = nowhere.
///
/// Only the replica with its xDS stream knows what it subscribed to. So a rule for a callee may be missing without being
/// told here; whatever is told is drift.
pub fn drift(discovery: &Discovery, status: &NodeStatus) -> Vec<Differs> {
    let must = wanted(discovery, &status.node, &|_| false);
    let may = wanted(discovery, &status.node, &|_| true);
    let mut differs: Vec<Differs> = Vec::new();
    for (rule, revision) in status.running.iter() {
        let wanted = may.get(rule);
        if wanted != Some(revision) {
            let (rule, wanted) = (rule.clone(), wanted.cloned());
            differs.push(Differs { rule, running: Some(revision.clone()), wanted });
        }
    }
    let lacking = must.into_iter().filter(|(rule, _)| !status.running.contains_key(rule));
    differs.extend(lacking.map(|(rule, hash)| Differs { rule, running: None, wanted: Some(hash) }));
    differs
}
