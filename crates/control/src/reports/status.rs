//! What is known of a sidecar, and how that is kept in the store.
use super::limits::LimitStatus;
use raddle_xds::proto::Node;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rules a sidecar runs: KIND/NAME and revision.
pub type Running = Arc<BTreeMap<Arc<str>, Arc<str>>>;

/// What a sidecar said last. In the store (`nodes/ID`) it is JSON of this shape.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    /// Who it is.
    #[serde(with = "node")]
    pub node: Node,
    /// The replica that has its stream.
    pub replica: Arc<str>,
    /// When that stream began, milliseconds since the Unix epoch.
    pub connected_since: u64,
    /// When it reported last, milliseconds since the Unix epoch; of another replica's sidecar: when what it said
    /// changed last.
    #[serde(rename = "at")]
    pub last_report: u64,
    /// Rules it runs.
    #[serde(with = "running")]
    pub running: Running,
    /// Digest over them, by its own word.
    pub digest: String,
    /// What it refuses.
    pub refused: Vec<Refusal>,
    /// Services it asked for that nobody publishes.
    pub missing: Vec<String>,
    /// How its inbound side is encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkStatus>,
    /// What holds requests back there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitStatus>,
}

/// How a sidecar's inbound side is encrypted, in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinkStatus {
    /// The rule in force, without its kind; empty = none.
    pub rule: String,
    /// What it asks for: `disable`, `permissive`, `strict`.
    pub mode: String,
    /// What is carried out.
    pub effective: String,
    /// Why the two differ, or what else is to be known.
    pub waits: String,
    /// Until when the certificate is valid, seconds since the Unix epoch; 0 = there is none.
    pub certificate_ends: u64,
}

impl NodeStatus {
    /// Whether both say the same of the sidecar, whenever they were told.
    pub(super) fn says(&self, other: &NodeStatus) -> bool {
        self.digest == other.digest
            && self.running == other.running
            && self.refused == other.refused
            && self.missing == other.missing
            && self.link == other.link
            && self.limits.as_ref().map(LimitStatus::story) == other.limits.as_ref().map(LimitStatus::story)
            && self.node == other.node
    }
}

/// A resource that a sidecar refuses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Refusal {
    /// Type, as xDS names it.
    pub type_url: String,
    /// Name.
    pub name: String,
    /// The version it refuses.
    pub version: String,
    /// Why, in its words.
    pub reason: String,
}

mod node {
    use super::{BTreeMap, Deserialize, Node, Serialize};
    use serde::{Deserializer, Serializer};

    #[derive(Default, Serialize, Deserialize)]
    #[serde(default)]
    struct Shape {
        id: String,
        app: String,
        unit: String,
        group: String,
        version: String,
        labels: BTreeMap<String, String>,
        address: String,
        software: String,
    }

    pub(super) fn serialize<S: Serializer>(node: &Node, to: S) -> Result<S::Ok, S::Error> {
        let node = node.clone();
        let labels = node.labels.into_iter().collect();
        let Node { id, app, unit, group, version, address, software, .. } = node;
        Shape { id, app, unit, group, version, labels, address, software }.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Node, D::Error> {
        let Shape { id, app, unit, group, version, labels, address, software } = Shape::deserialize(from)?;
        let labels = labels.into_iter().collect();
        Ok(Node { id, app, unit, group, version, labels, address, software })
    }
}

mod running {
    use super::{Arc, Deserialize, Running, Serialize};
    use serde::{Deserializer, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Shape {
        rule: Arc<str>,
        revision: Arc<str>,
    }

    pub(super) fn serialize<S: Serializer>(running: &Running, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(running.iter().map(|(r, v)| Shape { rule: r.clone(), revision: v.clone() }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Running, D::Error> {
        let all: Vec<Shape> = Vec::deserialize(from)?;
        Ok(Arc::new(all.into_iter().map(|s| (s.rule, s.revision)).collect()))
    }
}
