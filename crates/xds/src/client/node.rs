//! Who asks, as xDS says it.
use crate::proto;
use envoy_types::pb::envoy::config::core::v3::{Locality, Node, node::UserAgentVersionType};
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use std::collections::HashMap;

/// The xDS node of a sidecar: `cluster` is the app, the zone is the unit, what xDS has no field for is in the
/// metadata `raddle`.
pub(super) fn envoy(node: &proto::Node) -> Node {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let labels = node.labels.iter().map(|(k, v)| (k.clone(), text(v))).collect();
    let own = HashMap::from([
        ("group".to_owned(), text(&node.group)),
        ("version".to_owned(), text(&node.version)),
        ("address".to_owned(), text(&node.address)),
        ("labels".to_owned(), Value { kind: Some(Kind::StructValue(Struct { fields: labels })) }),
    ]);
    let metadata = HashMap::from([(
        "raddle".to_owned(),
        Value { kind: Some(Kind::StructValue(Struct { fields: own })) },
    )]);
    Node {
        id: node.id.clone(),
        cluster: node.app.clone(),
        metadata: Some(Struct { fields: metadata }),
        locality: Some(Locality { zone: node.unit.clone(), ..Locality::default() }),
        user_agent_name: "raddle".into(),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion(node.software.clone())),
        client_features: vec!["xds.config.resource-in-sotw".into()],
        ..Node::default()
    }
}
