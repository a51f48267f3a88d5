//! Who is at the other end, from what its first request says and its certificate proves.
use super::{Peer, Software};
use crate::proto::Node;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
use envoy_types::pb::google::protobuf::value::Kind as Value;
use envoy_types::pb::google::protobuf::{Struct, Value as AnyValue};

/// Most entries of metadata that are kept, and how deep they may lie.
const ENTRIES: usize = 1024;
const DEPTH: usize = 8;
/// Key of Raddle's own part of the metadata.
const OWN: &str = "raddle";

/// The peer, or why it is not let in. `remote` is its address as the connection has it, used if it names none.
pub(super) fn peer(
    node: &core::Node,
    identity: Option<String>,
    remote: Option<std::net::IpAddr>,
) -> Result<Peer, String> {
    let metadata = node.metadata.as_ref().map(flatten).unwrap_or_default();
    let own = |key: &str| {
        metadata
            .iter()
            .find_map(|(k, v)| (k.strip_prefix(OWN)?.strip_prefix('.')? == key).then(|| v.clone()))
            .unwrap_or_default()
    };
    let mut address = own("address");
    if address.is_empty() {
        address = remote.map(|ip| ip.to_canonical().to_string()).unwrap_or_default();
    }
    let prefix = format!("{OWN}.labels.");
    let labels =
        metadata.iter().filter_map(|(k, v)| Some((k.strip_prefix(&prefix)?.to_owned(), v.clone()))).collect();
    let zone = node.locality.as_ref().map(|l| l.zone.clone()).unwrap_or_default();
    let (app, unit) = match &identity {
        Some(id) => proven(id, &node.cluster, &zone)?,
        None => (node.cluster.clone(), zone),
    };
    let node = Node {
        id: node.id.clone(),
        app,
        unit,
        group: own("group"),
        version: own("version"),
        labels,
        address,
        software: version(node),
    };
    let software = software(&node.software);
    Ok(Peer { node, software, identity, metadata })
}

/// App and unit: what the certificate says, if what the node claims is the same or nothing.
fn proven(id: &str, app: &str, unit: &str) -> Result<(String, String), String> {
    let (own_unit, own_app) = names(id);
    let own_app = own_app.unwrap_or_default();
    if !app.is_empty() && app != own_app {
        return Err(format!("the certificate is {id}, the node says it is app {app:?}"));
    }
    let own_unit = own_unit.unwrap_or(unit);
    if !unit.is_empty() && unit != own_unit {
        return Err(format!("the certificate is {id}, the node says it is in unit {unit:?}"));
    }
    Ok((own_app.to_owned(), own_unit.to_owned()))
}

/// Unit and app of `spiffe://DOMAIN/unit/UNIT/app/APP`.
fn names(id: &str) -> (Option<&str>, Option<&str>) {
    let mut parts = id.strip_prefix("spiffe://").unwrap_or_default().split('/').skip(1);
    let (mut unit, mut app) = (None, None);
    while let (Some(key), Some(value)) = (parts.next(), parts.next()) {
        match key {
            "unit" => unit = Some(value),
            "app" => app = Some(value),
            _ => {}
        }
    }
    (unit, app)
}

fn version(node: &core::Node) -> String {
    let version = match &node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentVersion(v)) => v.clone(),
        Some(UserAgentVersionType::UserAgentBuildVersion(build)) => build
            .version
            .as_ref()
            .map(|v| format!("{}.{}.{}", v.major_number, v.minor_number, v.patch))
            .unwrap_or_default(),
        None => String::new(),
    };
    format!("{} {version}", node.user_agent_name).trim().to_owned()
}

fn software(agent: &str) -> Software {
    let begins = |with: &str| agent.get(..with.len()).is_some_and(|a| a.eq_ignore_ascii_case(with));
    if begins("raddle") {
        Software::Raddle
    } else if begins("envoy") {
        Software::Envoy
    } else if begins("grpc") {
        Software::Grpc
    } else {
        Software::Other
    }
}

fn flatten(metadata: &Struct) -> Vec<(String, String)> {
    let mut out = Vec::new();
    // Maps have no order; what is kept of too much must not depend on chance.
    walk_struct("", metadata, 0, &mut out);
    out.sort_unstable();
    out.truncate(ENTRIES);
    out
}

fn walk_struct(prefix: &str, all: &Struct, depth: usize, out: &mut Vec<(String, String)>) {
    for (key, value) in &all.fields {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        walk(key, value, depth + 1, out);
    }
}

fn walk(key: String, value: &AnyValue, depth: usize, out: &mut Vec<(String, String)>) {
    if depth > DEPTH {
        return;
    }
    match &value.kind {
        Some(Value::StringValue(s)) => out.push((key, s.clone())),
        Some(Value::NumberValue(n)) => out.push((key, n.to_string())),
        Some(Value::BoolValue(b)) => out.push((key, b.to_string())),
        Some(Value::StructValue(s)) => walk_struct(&key, s, depth, out),
        Some(Value::ListValue(list)) => {
            for (i, value) in list.values.iter().enumerate() {
                walk(format!("{key}.{i}"), value, depth + 1, out);
            }
        }
        Some(Value::NullValue(_)) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(s: &str) -> AnyValue {
        AnyValue { kind: Some(Value::StringValue(s.into())) }
    }

    fn all(fields: Vec<(&str, AnyValue)>) -> AnyValue {
        let fields = fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        AnyValue { kind: Some(Value::StructValue(Struct { fields })) }
    }

    fn node() -> core::Node {
        let own = all(vec![
            ("group", text("canary")),
            ("version", text("2")),
            ("address", text("10.0.0.7")),
            ("labels", all(vec![("tier", text("core"))])),
        ]);
        let Some(Value::StructValue(metadata)) =
            all(vec![("raddle", own), ("raddle.listen", text("x"))]).kind
        else {
            unreachable!()
        };
        core::Node {
            id: "shop-1".into(),
            cluster: "shop".into(),
            metadata: Some(metadata),
            locality: Some(core::Locality { zone: "u1".into(), ..core::Locality::default() }),
            user_agent_name: "envoy".into(),
            user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion("1.40.0".into())),
            ..core::Node::default()
        }
    }

    #[test]
    fn a_node_says_who_it_is_in_envoys_terms() {
        let peer = peer(&node(), None, None).expect("a peer");
        let n = &peer.node;
        assert_eq!((&*n.id, &*n.app, &*n.unit, &*n.group), ("shop-1", "shop", "u1", "canary"));
        assert_eq!((&*n.version, &*n.address, &*n.software), ("2", "10.0.0.7", "envoy 1.40.0"));
        assert_eq!(n.labels.get("tier").map(String::as_str), Some("core"));
        assert_eq!(peer.software, Software::Envoy);
        assert!(peer.metadata.contains(&("raddle.listen".into(), "x".into())));
    }

    #[test]
    fn the_certificates_app_and_unit_hold() {
        let id = |s: &str| Some(s.to_owned());
        assert!(peer(&node(), id("spiffe://mesh/unit/u1/app/shop"), None).is_ok());
        assert!(peer(&node(), id("spiffe://mesh/app/shop"), None).is_ok());
        for other in
            ["spiffe://mesh/unit/u1/app/bank", "spiffe://mesh/unit/u2/app/shop", "spiffe://mesh/control", "x"]
        {
            assert!(peer(&node(), id(other), None).is_err(), "{other}");
        }
        let nobody = core::Node::default();
        let peer = peer(&nobody, id("spiffe://mesh/unit/u1/app/shop"), None).expect("a peer");
        assert_eq!((&*peer.node.app, &*peer.node.unit), ("shop", "u1"));
    }

    #[test]
    fn clients_are_known_by_their_user_agents() {
        let known = [
            ("gRPC C-core", Software::Grpc),
            ("grpc-js", Software::Grpc),
            ("raddle 0.1", Software::Raddle),
            ("Envoy", Software::Envoy),
            ("go-xds", Software::Other),
            ("", Software::Other),
        ];
        for (agent, is) in known {
            assert_eq!(software(agent), is, "{agent}");
        }
    }

    #[test]
    fn metadata_is_bounded() {
        let mut deep = text("x");
        for _ in 0..50 {
            deep = all(vec![("a", deep)]);
        }
        let wide = (0..5000).map(|i| (format!("k{i}"), text("v"))).collect();
        assert_eq!(flatten(&Struct { fields: wide }).len(), ENTRIES);
        let fields = [("d".to_owned(), deep)].into_iter().collect();
        assert!(flatten(&Struct { fields }).is_empty());
    }
}
