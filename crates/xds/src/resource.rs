//! A resource, encoded once for everybody who gets it.
use crate::types::Kind;
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use std::fmt;
use std::sync::Arc;

/// A resource as it is sent. Its bytes are made once; responses are put together from them.
#[derive(Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: Arc<str>,
    /// Hash of its content, 16 hexadecimal digits: the same content has the same version on every replica and after
    /// every restart.
    pub version: Arc<str>,
    /// `google.protobuf.Any`, encoded.
    pub any: Bytes,
    /// `envoy.service.discovery.v3.Resource` (name, version, resource), encoded.
    pub delta: Bytes,
}

impl Resource {
    /// Encodes a message.
    pub fn new(kind: Kind, name: impl Into<Arc<str>>, message: &impl Message) -> Resource {
        let name = name.into();
        let value = message.encode_to_vec();
        // Clusters and endpoints carry maps, which are encoded in no order; in routes and listeners order means something.
        let hash = if matches!(kind, Kind::Cluster | Kind::Endpoints) {
            unordered(&value, DEPTH)
        } else {
            fnv(&value)
        };
        let version: Arc<str> = format!("{hash:016x}").into();
        let url = kind.type_url();
        let mut any = BytesMut::with_capacity(value.len() + url.len() + 16);
        field(&mut any, 1, url.as_bytes());
        field(&mut any, 2, &value);
        let mut delta = BytesMut::with_capacity(any.len() + name.len() + 32);
        // Field numbers of envoy.service.discovery.v3.Resource: version = 1, resource = 2, name = 3.
        field(&mut delta, 1, version.as_bytes());
        field(&mut delta, 2, &any);
        field(&mut delta, 3, name.as_bytes());
        Resource { kind, name, version, any: any.freeze(), delta: delta.freeze() }
    }
}

impl fmt::Debug for Resource {
    /// Nothing of the content: it may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Resource({} {} at {}, {} bytes)",
            self.kind.name(),
            self.name,
            self.version,
            self.any.len()
        )
    }
}

/// Writes a length-delimited field.
pub fn field(out: &mut BytesMut, number: u32, content: &[u8]) {
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, out);
    prost::encoding::encode_varint(content.len() as u64, out);
    out.put_slice(content);
}

/// How deep messages are looked into for maps.
const DEPTH: usize = 16;

/// A hash of an encoded message in which the order of a map's entries makes no difference: `prost` encodes maps in the
/// order of a hash table, which is another one in every process. What is no message is hashed as it is.
fn unordered(bytes: &[u8], depth: usize) -> u64 {
    let Some(fields) = fields(bytes).filter(|f| depth > 0 && !f.is_empty()) else { return fnv(bytes) };
    let mut all = Vec::with_capacity(fields.len() * 16);
    for run in fields.chunk_by(|a, b| a.0 == b.0) {
        let mut hashes: Vec<u64> = run.iter().map(|(_, content)| unordered(content, depth - 1)).collect();
        if run.iter().all(|(_, content)| is_map_entry(content)) {
            hashes.sort_unstable();
        }
        for hash in hashes {
            all.extend_from_slice(&run[0].0.to_le_bytes());
            all.extend_from_slice(&hash.to_le_bytes());
        }
    }
    fnv(&all)
}

/// An entry of a `map<string, ...>`: a text under number 1, and perhaps something under 2.
fn is_map_entry(bytes: &[u8]) -> bool {
    const KEY: u64 = 1 << 3 | 2;
    fields(bytes).is_some_and(|fields| match &fields[..] {
        [(KEY, key)] => std::str::from_utf8(key).is_ok(),
        [(KEY, key), (value, _)] => *value >> 3 == 2 && std::str::from_utf8(key).is_ok(),
        _ => false,
    })
}

/// The fields of a message: tag (number and wire type) and content; `None` = it is no message.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, &[u8])>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = prost::encoding::decode_varint(&mut bytes).ok()?;
        let length = match tag & 7 {
            0 => bytes.iter().position(|b| b & 0x80 == 0)? + 1,
            1 => 8,
            2 => usize::try_from(prost::encoding::decode_varint(&mut bytes).ok()?).ok()?,
            5 => 4,
            _ => return None,
        };
        if tag >> 3 == 0 {
            return None;
        }
        let (content, rest) = bytes.split_at_checked(length)?;
        found.push((tag, content));
        bytes = rest;
    }
    Some(found)
}

/// FNV-1a, 64 bits: stable across builds and machines.
pub fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::config::cluster::v3::Cluster;
    use envoy_types::pb::envoy::service::discovery::v3 as discovery;

    #[test]
    fn what_is_put_together_decodes_as_what_the_protocol_means() {
        let cluster = Cluster { name: "shop".into(), ..Cluster::default() };
        let r = Resource::new(Kind::Cluster, "shop", &cluster);
        let delta = discovery::Resource::decode(r.delta.clone()).expect("a resource");
        assert_eq!((&*delta.name, &*delta.version), ("shop", &*r.version));
        let any = delta.resource.expect("its content");
        assert_eq!(any.type_url, Kind::Cluster.type_url());
        assert_eq!(Cluster::decode(&*any.value).expect("a cluster"), cluster);
    }

    #[test]
    fn the_same_content_has_the_same_version_whatever_order_its_maps_are_in() {
        use envoy_types::pb::envoy::config::core::v3::Metadata;
        use envoy_types::pb::google::protobuf::{Struct, Value, value};
        let version = |changed: &str| {
            let text = |t: &str| Value { kind: Some(value::Kind::StringValue(t.to_owned())) };
            let fields: std::collections::HashMap<String, Value> =
                (0..20).map(|n| (format!("k{n}"), text(if n == 7 { changed } else { "v" }))).collect();
            let filter_metadata =
                (0..5).map(|n| (format!("m{n}"), Struct { fields: fields.clone() })).collect();
            let metadata = Some(Metadata { filter_metadata, ..Metadata::default() });
            let cluster = Cluster { name: "shop".into(), metadata, ..Cluster::default() };
            Resource::new(Kind::Cluster, "shop", &cluster).version
        };
        let first = version("v");
        assert!((0..50).all(|_| version("v") == first));
        assert_ne!(version("w"), first);
    }
}
