//! What may be published.
use super::Instance;
use super::book::{Published, ServiceSet};
use raddle_core::Protocol;
use raddle_xds::proto;
use raddle_xds::resource::fnv;
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Most services of an instance.
const SERVICES: usize = 10_000;
/// Most bytes of a service's or host's name.
const NAME: usize = 512;
/// Most bytes of an id, app, unit, group or version.
const WORD: usize = 128;
/// Most labels of an instance, metadata of a service and hosts of it.
const ENTRIES: usize = 64;
/// Most bytes of a label's or metadata's key and value.
const VALUE: (usize, usize) = (128, 1024);
/// Most bytes of a set in the store.
const SET: usize = 1 << 20;

/// An instance that may be published, and its services, ready for the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The instance.
    pub instance: Instance,
    /// Its services.
    pub set: ServiceSet,
    /// The set as it is stored.
    pub stored: Vec<u8>,
}

/// Whether a node may speak at all: its names.
pub fn node(node: &proto::Node) -> Result<(), String> {
    word("id", &node.id, true)?;
    word("app", &node.app, true)?;
    word("unit", &node.unit, false)?;
    word("group", &node.group, false)?;
    word("version", &node.version, false)?;
    entries("labels", node.labels.iter())
}

/// Checks a publication; an error is a sentence for people.
pub fn publication(node: &proto::Node, instance: &proto::Instance) -> Result<Checked, String> {
    let address: IpAddr = instance
        .address
        .parse()
        .map_err(|_| format!("address: `{}` is not an IP address without port", short(&instance.address)))?;
    if address.is_unspecified() || address.is_multicast() {
        return Err(format!("address: nobody can connect to {address}"));
    }
    if instance.weight > 10_000 {
        return Err(format!("weight: {} is more than 10000", instance.weight));
    }
    if instance.services.len() > SERVICES {
        return Err(format!("services: {} are more than {SERVICES}", instance.services.len()));
    }
    let mut set = instance.services.iter().map(service).collect::<Result<Vec<_>, _>>()?;
    set.sort_by(|a, b| a.name.cmp(&b.name));
    let mut names = HashSet::new();
    if let Some(twice) = set.iter().find(|s| !names.insert(&s.name)) {
        return Err(format!("services: `{}` is there twice", twice.name));
    }
    let (stored, hash) = stored(&set)?;
    let group = if node.group.is_empty() { "default" } else { &node.group };
    let instance = Instance {
        id: node.id.as_str().into(),
        app: node.app.as_str().into(),
        unit: node.unit.as_str().into(),
        group: group.into(),
        version: node.version.as_str().into(),
        labels: node.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        address,
        weight: instance.weight,
        tls: instance.tls,
        tls_required: instance.tls && instance.tls_required,
        services: hash,
    };
    Ok(Checked { instance, set: set.into(), stored })
}

/// A set as it is stored, and the hash it is stored under.
pub fn stored(set: &[Published]) -> Result<(Vec<u8>, Arc<str>), String> {
    // Nothing in a set has a form that JSON does not.
    let stored = serde_json::to_vec(set).map_err(|e| format!("services: {e}"))?;
    if stored.len() > SET {
        return Err(format!("services: they take {} bytes, more than {SET}", stored.len()));
    }
    let hash = format!("{:016x}", fnv(&stored)).into();
    Ok((stored, hash))
}

fn service(service: &proto::Service) -> Result<Published, String> {
    name("services.name", &service.name)?;
    let of = |what: &str| format!("service `{}`: {what}", service.name);
    let protocol = protocol(&service.protocol).ok_or_else(|| {
        of(&format!(
            "protocol `{}` is none of {}",
            short(&service.protocol),
            Protocol::ALL.map(Protocol::name).join(", ")
        ))
    })?;
    let port = u16::try_from(service.port).ok().filter(|p| *p > 0);
    let port = port.ok_or_else(|| of(&format!("port {} is not 1 to 65535", service.port)))?;
    if service.hosts.len() > ENTRIES {
        return Err(of(&format!("{} hosts are more than {ENTRIES}", service.hosts.len())));
    }
    for host in &service.hosts {
        name("hosts", host).map_err(|e| of(&e))?;
    }
    entries("metadata", service.metadata.iter()).map_err(|e| of(&e))?;
    Ok(Published {
        name: service.name.as_str().into(),
        protocol: protocol.into(),
        port,
        hosts: service.hosts.iter().map(|h| h.to_ascii_lowercase().into()).collect(),
        metadata: service.metadata.iter().map(|(k, v)| (k.clone(), v.clone())).collect::<BTreeMap<_, _>>(),
    })
}

fn protocol(name: &str) -> Option<&'static str> {
    match name {
        "" => Some(""),
        "http/1.1" => Some(Protocol::Http.name()),
        "http/2" => Some(Protocol::Http2.name()),
        "triple" => Some(Protocol::Grpc.name()),
        _ => Protocol::ALL.into_iter().map(Protocol::name).find(|n| *n == name),
    }
}

/// Words are parts of the store's keys: no `/`, nothing that does not print.
fn word(field: &str, word: &str, needed: bool) -> Result<(), String> {
    if word.is_empty() && needed {
        return Err(format!("{field}: it is empty"));
    }
    if word.len() > WORD {
        return Err(format!("{field}: {} bytes are more than {WORD}", word.len()));
    }
    match word.chars().find(|c| *c == '/' || c.is_control() || c.is_whitespace()) {
        Some(c) => Err(format!("{field}: {c:?} may not be in it")),
        None => Ok(()),
    }
}

fn name(field: &str, name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > NAME {
        return Err(format!("{field}: a name of {} bytes; 1 to {NAME} are right", name.len()));
    }
    match name.chars().find(|c| c.is_control() || c.is_whitespace()) {
        Some(c) => Err(format!("{field}: {c:?} may not be in `{}`", short(name))),
        None => Ok(()),
    }
}

fn entries<'a>(
    field: &str,
    entries: impl ExactSizeIterator<Item = (&'a String, &'a String)>,
) -> Result<(), String> {
    if entries.len() > ENTRIES {
        return Err(format!("{field}: {} are more than {ENTRIES}", entries.len()));
    }
    for (k, v) in entries {
        if k.is_empty() || k.len() > VALUE.0 || v.len() > VALUE.1 {
            return Err(format!(
                "{field}: `{}` is too long (key 1 to {}, value up to {})",
                short(k),
                VALUE.0,
                VALUE.1
            ));
        }
    }
    Ok(())
}

/// The beginning of what somebody sent, for a message.
fn short(text: &str) -> String {
    text.chars().take(64).filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> (proto::Node, proto::Instance) {
        let node = proto::Node { id: "shop-1".into(), app: "shop".into(), ..Default::default() };
        let service = |name: &str| proto::Service { name: name.into(), port: 80, ..Default::default() };
        let services = vec![service("b"), service("a")];
        (
            node,
            proto::Instance {
                address: "10.0.0.1".into(),
                weight: 100,
                tls: false,
                tls_required: false,
                services,
            },
        )
    }

    #[test]
    fn the_order_of_services_does_not_matter() {
        let (node, mut instance) = good();
        let one = publication(&node, &instance).expect("taken");
        instance.services.reverse();
        assert_eq!(one, publication(&node, &instance).expect("taken"));
        assert_eq!(&*one.instance.group, "default");
        assert_eq!(&*one.set[0].name, "a");
    }

    #[test]
    fn a_refusal_says_what_was_wrong() {
        let refused = |change: &dyn Fn(&mut proto::Instance), says: &str| {
            let (node, mut instance) = good();
            change(&mut instance);
            let error = publication(&node, &instance).expect_err(says);
            assert!(error.contains(says), "{error}");
        };
        refused(&|i| i.address = "shop.local".into(), "not an IP address");
        refused(&|i| i.address = "0.0.0.0".into(), "nobody can connect");
        refused(&|i| i.weight = 10_001, "more than 10000");
        refused(&|i| i.services[0].port = 0, "1 to 65535");
        refused(&|i| i.services[0].port = 65_536, "1 to 65535");
        refused(&|i| i.services[0].protocol = "gopher".into(), "gopher");
        refused(&|i| i.services[0].name = String::new(), "1 to 512");
        refused(&|i| i.services[0].name = "x".repeat(513), "1 to 512");
        refused(&|i| i.services[0].name = "a".into(), "twice");
        refused(&|i| i.services = vec![i.services[0].clone(); 10_001], "more than 10000");
        refused(
            &|i| i.services[0].metadata = (0..65).map(|n| (n.to_string(), String::new())).collect(),
            "65",
        );
    }

    #[test]
    fn words_that_would_break_a_key_are_refused() {
        for id in ["", "a/b", "a b", "a\n"] {
            let (mut n, _) = good();
            n.id = id.into();
            assert!(node(&n).is_err(), "{id:?}");
        }
        assert_eq!(node(&good().0), Ok(()));
    }
}
