//! A response, put together from resources that were encoded once for everybody.
use crate::resource::Resource;
use crate::types::Kind;
use bytes::BufMut;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use std::borrow::Cow;
use std::sync::Arc;

/// The variants of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// State of the world: `DiscoveryRequest` and `DiscoveryResponse`.
    Sotw,
    /// Incremental: `DeltaDiscoveryRequest` and `DeltaDiscoveryResponse`.
    Delta,
}

impl Variant {
    /// As people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Variant::Sotw => "sotw",
            Variant::Delta => "delta",
        }
    }
}

/// A `DiscoveryResponse` or `DeltaDiscoveryResponse`.
#[derive(Clone, Debug)]
pub struct Response {
    /// Which of the two.
    pub variant: Variant,
    /// What kind; `None` = one the server does not know.
    pub kind: Option<Kind>,
    /// Its type URL.
    pub type_url: Cow<'static, str>,
    /// The digest of everything sent of that kind.
    pub version: String,
    /// Names it on its stream.
    pub nonce: String,
    /// What is there.
    pub resources: Vec<Arc<Resource>>,
    /// What is not (delta).
    pub removed: Vec<Arc<str>>,
    /// Who says so.
    pub identifier: Arc<str>,
}

/// Bytes that a field of that length takes, with its key.
fn size(number: u32, content: usize) -> usize {
    key_len(number) + encoded_len_varint(content as u64) + content
}

fn put(out: &mut impl BufMut, number: u32, content: &[u8]) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(content.len() as u64, out);
    out.put_slice(content);
}

/// Bytes a resource takes in a response.
pub(super) fn resource_bytes(variant: Variant, resource: &Resource) -> usize {
    size(2, encoded(variant, resource).len())
}

/// Bytes a removal takes in a response.
pub(super) fn removal_bytes(name: &str) -> usize {
    size(6, name.len())
}

fn encoded(variant: Variant, resource: &Resource) -> &[u8] {
    match variant {
        Variant::Sotw => &resource.any,
        Variant::Delta => &resource.delta,
    }
}

impl Response {
    /// Field number of `control_plane`.
    fn control_plane(&self) -> u32 {
        match self.variant {
            Variant::Sotw => 6,
            Variant::Delta => 7,
        }
    }

    /// Bytes of it.
    pub fn encoded_len(&self) -> usize {
        let resources: usize = self.resources.iter().map(|r| resource_bytes(self.variant, r)).sum();
        let removed: usize = self.removed.iter().map(|name| removal_bytes(name)).sum();
        size(1, self.version.len())
            + resources
            + size(4, self.type_url.len())
            + size(5, self.nonce.len())
            + removed
            + size(self.control_plane(), size(1, self.identifier.len()))
    }

    /// Writes it.
    pub fn encode(&self, out: &mut impl BufMut) {
        put(out, 1, self.version.as_bytes());
        for resource in &self.resources {
            put(out, 2, encoded(self.variant, resource));
        }
        put(out, 4, self.type_url.as_bytes());
        put(out, 5, self.nonce.as_bytes());
        for name in &self.removed {
            put(out, 6, name.as_bytes());
        }
        encode_key(self.control_plane(), WireType::LengthDelimited, out);
        encode_varint(size(1, self.identifier.len()) as u64, out);
        put(out, 1, self.identifier.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::config::cluster::v3::Cluster;
    use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
    use prost::Message;

    fn response(variant: Variant) -> Response {
        let cluster = Cluster { name: "shop".into(), ..Cluster::default() };
        Response {
            variant,
            kind: Some(Kind::Cluster),
            type_url: Kind::Cluster.type_url().into(),
            version: "0123".into(),
            nonce: "a-1".into(),
            resources: vec![Arc::new(Resource::new(Kind::Cluster, "shop", &cluster))],
            removed: Vec::new(),
            identifier: "raddle-0".into(),
        }
    }

    fn bytes(response: &Response) -> Vec<u8> {
        let mut out = Vec::new();
        response.encode(&mut out);
        assert_eq!(out.len(), response.encoded_len());
        out
    }

    #[test]
    fn a_state_of_the_world_response_reads_as_the_protocol_says() {
        let sent = response(Variant::Sotw);
        let read = DiscoveryResponse::decode(&*bytes(&sent)).expect("a response");
        assert_eq!((&*read.version_info, &*read.nonce), ("0123", "a-1"));
        assert_eq!(read.type_url, Kind::Cluster.type_url());
        assert_eq!(read.control_plane.expect("who").identifier, "raddle-0");
        assert_eq!(Cluster::decode(&*read.resources[0].value).expect("a cluster").name, "shop");
    }

    #[test]
    fn a_delta_response_reads_as_the_protocol_says() {
        let mut sent = response(Variant::Delta);
        sent.removed = vec!["gone".into()];
        let read = DeltaDiscoveryResponse::decode(&*bytes(&sent)).expect("a response");
        assert_eq!((&*read.system_version_info, &*read.nonce), ("0123", "a-1"));
        assert_eq!(read.removed_resources, ["gone"]);
        assert_eq!(read.control_plane.expect("who").identifier, "raddle-0");
        assert_eq!((&*read.resources[0].name, read.resources.len()), ("shop", 1));
    }
}
