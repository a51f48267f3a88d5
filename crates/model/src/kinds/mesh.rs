//! `spec.controlPlane` and `spec.publish` of a Sidecar.
use super::{PROTOCOLS, names};
use crate::decode::{
    At, Bool, Choice, Codec, Cx, DurationIn, Fields, FilePath, Host, Int, List, Record, Spotted, Text,
    TextMap, quote, scalar,
};
use crate::resources::{ControlAddress, ControlPlane, Labels, Publish, Published, XdsProtocol};
use crate::yaml::{Node, Spot};
use std::net::IpAddr;
use std::time::Duration;

/// More names than this are a slip: on-demand services need no preload.
const MOST_NAMES: usize = 10_000;
/// Most pairs of metadata a published service may have; the registry takes no more.
const MOST_METADATA: usize = 64;

pub(super) fn control_plane(fields: &mut Fields<'_>) -> Option<ControlPlane> {
    const PROTOCOL: Choice<XdsProtocol> =
        Choice(&[("delta", XdsProtocol::Delta), ("sotw", XdsProtocol::Sotw), ("auto", XdsProtocol::Auto)]);
    let addresses = fields.required(
        "addresses",
        List(Spotted(Replica)),
        "Its replicas, of which one is used and the others stand in: `127.0.0.1:15010` in plaintext, \
         `https://host:15012` by TLS.",
    );
    let insecure = fields.or(
        "insecure",
        Bool,
        false,
        "Allows plaintext to other machines. Whoever is on the way then reads and changes everything.",
    );
    let roots_file = fields.optional(
        "rootsFile",
        FilePath { what: "a file's path" },
        "needed with TLS",
        "PEM file with the roots its certificate is checked with. A relative path begins at the folder of this \
         YAML file.",
    );
    let token_file = fields.optional(
        "tokenFile",
        FilePath { what: "a file's path" },
        "none",
        "File with the bootstrap token the first certificate is got with; relative as above.",
    );
    let cache = fields.optional(
        "cache",
        FilePath { what: "a folder's path" },
        "`$STATE_DIRECTORY` if the service manager sets it, else none",
        "Folder where the last state is kept, for a start without control plane. It holds no secrets.",
    );
    let wait = fields.or(
        "wait",
        DurationIn::millis(0, 60_000),
        Duration::from_secs(1),
        "Longest a request waits for a service that is asked for because of it; then it fails with `NC`.",
    );
    let preload = fields.or(
        "preload",
        names("a service's name"),
        Vec::new(),
        "Services asked for at start and kept; all others when a request first names them.",
    );
    let idle = fields.or(
        "idle",
        DurationIn::millis(1000, 30 * 86_400_000),
        Duration::from_mins(10),
        "A service that was asked for because of a request is dropped after this long without one.",
    );
    let protocol = fields.or(
        "protocol",
        PROTOCOL,
        XdsProtocol::Auto,
        "The variant of xDS: changes only, the state of the world, or what the server knows.",
    );
    let sds = fields.optional(
        "sds",
        Record(sds),
        "none",
        "Where other software on this machine gets the instance's certificate by SDS.",
    );
    check_replicas(fields, addresses.as_deref().unwrap_or_default(), insecure);
    if preload.len() > MOST_NAMES {
        let problem = format!("{} names are more than {MOST_NAMES}", preload.len());
        fields.mistake("preload", problem, "name those that cannot wait; the others come on demand");
    }
    Some(ControlPlane {
        addresses: addresses?.into_iter().map(|(a, _)| a).collect(),
        insecure,
        roots_file,
        token_file,
        cache,
        wait,
        preload,
        idle,
        protocol,
        sds,
    })
}

fn sds(fields: &mut Fields<'_>) -> Option<std::path::PathBuf> {
    fields.required("socket", FilePath { what: "a socket's path" }, "Path of the Unix socket.")
}

fn check_replicas(fields: &mut Fields<'_>, addresses: &[(ControlAddress, Spot)], insecure: bool) {
    if fields.has("addresses") && addresses.is_empty() {
        fields.mistake("addresses", "is empty", "give one such as 127.0.0.1:15010");
    }
    for (i, (a, spot)) in addresses.iter().enumerate() {
        if a.tls || insecure || a.is_loopback() {
            continue;
        }
        let Some((cx, at)) = fields.context() else { return };
        let list = at.field("addresses");
        let problem = format!("{}:{} is plaintext to another machine", a.host, a.port);
        let remedy = format!("write https://{}:15012, or say insecure: true", a.host);
        cx.mistake(*spot, &list.item(i), problem, remedy);
    }
    if addresses.iter().any(|(a, _)| a.tls) && !fields.has("rootsFile") {
        let remedy = "give the file that `raddle ca roots` writes";
        fields.mistake("rootsFile", "is missing, and an address is https", remedy);
    }
}

/// `host:port`, with `https://` before it for TLS.
struct Replica;

impl Codec for Replica {
    type Out = ControlAddress;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<ControlAddress> {
        let (text, _) = scalar(self, node, at, cx)?;
        let address = replica(text);
        if address.is_none() {
            let problem = format!("{} is not an address of a control plane", quote(text));
            cx.mistake(node.spot, at, problem, format!("give {}", self.wanted()));
        }
        address
    }

    fn wanted(&self) -> String {
        "host:port such as 127.0.0.1:15010, or https://host:15012".into()
    }

    fn kind(&self) -> String {
        "host:port or https URL".into()
    }
}

fn replica(text: &str) -> Option<ControlAddress> {
    let (tls, rest) = match text.split_once("://") {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        Some(_) => return None,
        None => (false, text),
    };
    let (host, port) = rest.strip_suffix('/').unwrap_or(rest).rsplit_once(':')?;
    let port = port.parse().ok().filter(|p| *p > 0 && !port.starts_with('+'))?;
    let name = |h: &str| {
        !h.is_empty() && h.len() <= 253 && h.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    };
    let six = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    match six {
        Some(six) => six.parse::<std::net::Ipv6Addr>().ok().map(|_| ())?,
        None => name(host).then_some(())?,
    }
    Some(ControlAddress { tls, host: host.to_ascii_lowercase(), port })
}

pub(super) fn publish(fields: &mut Fields<'_>) -> Option<Publish> {
    let address = fields.optional(
        "address",
        Ip,
        "the first inbound listener's, else this host's",
        "The address callers connect to, without port.",
    );
    let weight = fields.or(
        "weight",
        Int::<u32>::new(0, 10_000, ""),
        100,
        "Share of requests relative to its peers; 0 = none at all.",
    );
    let services = fields.or("services", List(Record(published)), Vec::new(), "What the app serves.");
    let watch_port = fields.optional(
        "watchPort",
        Int::<u16>::new(1, 65_535, "port"),
        "published as long as the sidecar runs",
        "Port of the app on this machine: published only while it accepts connections, looked at every second.",
    );
    for (i, s) in services.iter().enumerate() {
        if services[..i].iter().any(|earlier| earlier.name == s.name) {
            let problem = format!("{} is given twice", quote(&s.name));
            fields.mistake("services", problem, "keep one of them");
        }
    }
    Some(Publish { address, weight, services, watch_port })
}

fn published(fields: &mut Fields<'_>) -> Option<Published> {
    let name = fields.required(
        "name",
        Text::name("a service's name"),
        "The name requests carry: `interface:version[:group]`, a gRPC service, or an HTTP host.",
    );
    let protocol = fields.optional("protocol", PROTOCOLS, "the request's", "What it speaks.");
    let port = fields.required(
        "port",
        Int::<u16>::new(1, 65_535, "port"),
        "The port callers connect to: the inbound listener's, or the app's own where connections are captured.",
    );
    let hosts = fields.or("hosts", List(Host), Vec::new(), "Further HTTP hosts that mean it.");
    let metadata = fields.or(
        "metadata",
        TextMap,
        Labels::new(),
        "What a framework wants its callers to know; at most 64 entries.",
    );
    if metadata.len() > MOST_METADATA {
        let problem = format!("{} entries are more than {MOST_METADATA}", metadata.len());
        fields.mistake("metadata", problem, "leave some out");
    }
    Some(Published { name: name?, protocol, port: port?, hosts, metadata })
}

/// An address without port.
struct Ip;

impl Codec for Ip {
    type Out = IpAddr;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<IpAddr> {
        let (text, _) = scalar(self, node, at, cx)?;
        match text.parse::<IpAddr>() {
            Ok(ip) if ip.is_unspecified() => {
                let problem = format!("{ip} is no address to connect to");
                cx.mistake(node.spot, at, problem, format!("give {}", self.wanted()));
                None
            }
            Ok(ip) => Some(ip),
            Err(_) => {
                let problem = format!("{} is not an IP address", quote(text));
                cx.mistake(node.spot, at, problem, format!("give {}", self.wanted()));
                None
            }
        }
    }

    fn wanted(&self) -> String {
        "an IP address such as 10.0.0.7".into()
    }

    fn kind(&self) -> String {
        "ip".into()
    }

    fn show(&self, out: &IpAddr) -> String {
        format!("`{out}`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_by_its_scheme_whether_it_is_tls() {
        let say = |t: &str| replica(t).map(|a| a.to_string());
        assert_eq!(say("127.0.0.1:15010").as_deref(), Some("http://127.0.0.1:15010"));
        assert_eq!(say("https://Control.Mesh:15012/").as_deref(), Some("https://control.mesh:15012"));
        assert_eq!(say("[::1]:15010").as_deref(), Some("http://[::1]:15010"));
        for wrong in ["", ":1", "host", "host:0", "host:x", "ftp://host:1", "a b:1", "[::1:1", "::1:15010"] {
            assert_eq!(say(wrong), None, "{wrong}");
        }
        let local = |t: &str| replica(t).is_some_and(|a| a.is_loopback());
        assert!(local("127.0.0.2:1") && local("[::1]:1") && local("localhost:1"));
        assert!(!local("10.0.0.1:1") && !local("localhost.evil:1"));
    }
}
