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
        let version: Arc<str> = format!("{:016x}", fnv(&value)).into();
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
}
