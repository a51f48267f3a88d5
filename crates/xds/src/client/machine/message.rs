//! What goes over a stream, whichever variant it speaks.
use crate::proto::Refused;
use crate::types::Kind;
use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::google::rpc::Status;
use prost::Message as _;
use std::sync::Arc;

/// The variant a stream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    Delta,
    Sotw,
}

/// A message to the server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Message {
    Delta(discovery::DeltaDiscoveryRequest),
    Sotw(discovery::DiscoveryRequest),
}

/// What a lane has to say.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) kind: Kind,
    /// Incrementally: names to subscribe; else all of them.
    pub(super) names: Vec<String>,
    pub(super) unsubscribe: Vec<String>,
    pub(super) initial: Vec<(String, String)>,
    pub(super) version: String,
    pub(super) nonce: String,
    pub(super) answer: Option<Answer>,
    /// State of the world: names whose time runs from now.
    pub(super) awaited: Vec<Arc<str>>,
}

impl Default for Ask {
    fn default() -> Ask {
        Ask {
            kind: Kind::Cluster,
            names: Vec::new(),
            unsubscribe: Vec::new(),
            initial: Vec::new(),
            version: String::new(),
            nonce: String::new(),
            answer: None,
            awaited: Vec::new(),
        }
    }
}

/// To a response: taken, or refused and why.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) nonce: String,
    pub(super) refused: Option<Told>,
}

/// What is refused: for people, and by name for Raddle's own server.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Told {
    pub(super) message: String,
    pub(super) named: Vec<Refused>,
}

/// gRPC's `INVALID_ARGUMENT`.
const INVALID: i32 = 3;
const REFUSED: &str = "type.googleapis.com/raddle.v1.Refused";

impl Ask {
    /// As the variant writes it; the node goes with the first message of a stream.
    pub(super) fn into_message(self, variant: Variant, node: Option<Node>) -> Message {
        let told = self.answer.as_ref().and_then(|answer| answer.refused.clone());
        let error_detail = told.map(|told| Status {
            code: INVALID,
            message: told.message,
            details: told
                .named
                .iter()
                .map(|refused| Any { type_url: REFUSED.into(), value: refused.encode_to_vec() })
                .collect(),
        });
        let type_url = self.kind.type_url().to_owned();
        match variant {
            Variant::Delta => Message::Delta(discovery::DeltaDiscoveryRequest {
                node,
                type_url,
                resource_names_subscribe: self.names,
                resource_names_unsubscribe: self.unsubscribe,
                initial_resource_versions: self.initial.into_iter().collect(),
                response_nonce: self.answer.map(|answer| answer.nonce).unwrap_or_default(),
                error_detail,
                ..Default::default()
            }),
            Variant::Sotw => Message::Sotw(discovery::DiscoveryRequest {
                node,
                type_url,
                version_info: self.version,
                resource_names: self.names,
                response_nonce: self.nonce,
                error_detail,
                ..Default::default()
            }),
        }
    }
}

/// A response, whichever variant it came in.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    pub(super) type_url: String,
    pub(super) nonce: String,
    /// State of the world: the version of it all.
    pub(super) version: String,
    pub(super) resources: Vec<Raw>,
    pub(super) removed: Vec<String>,
    /// Names the server could not give, and why.
    pub(super) errors: Vec<(String, i32, String)>,
    /// Whether what is not here is not there, for types of which that is so.
    pub(super) whole: bool,
}

/// A resource as it came.
#[derive(Debug)]
pub(super) struct Raw {
    /// As the envelope says; `None` = only the content does.
    pub(super) name: Option<String>,
    pub(super) version: Arc<str>,
    pub(super) type_url: String,
    pub(super) value: Bytes,
    /// No content: a sign of life of a resource that is there already.
    pub(super) empty: bool,
}

const WRAPPER: &str = "type.googleapis.com/envoy.service.discovery.v3.Resource";

impl Raw {
    fn wrapped(resource: discovery::Resource, version: Option<&str>) -> Raw {
        let any = resource.resource;
        let version = version.unwrap_or(&resource.version).into();
        Raw {
            name: Some(resource.name).filter(|name| !name.is_empty()),
            version,
            empty: any.is_none(),
            type_url: any.as_ref().map(|any| any.type_url.clone()).unwrap_or_default(),
            value: any.map(|any| any.value.into()).unwrap_or_default(),
        }
    }

    fn bare(any: Any, version: &str) -> Raw {
        if any.type_url == WRAPPER
            && let Ok(resource) = discovery::Resource::decode(&*any.value)
        {
            return Raw::wrapped(resource, Some(version));
        }
        Raw {
            name: None,
            version: version.into(),
            empty: false,
            type_url: any.type_url,
            value: any.value.into(),
        }
    }
}

fn errors(errors: Vec<discovery::ResourceError>) -> Vec<(String, i32, String)> {
    let one = |e: discovery::ResourceError| {
        let (name, detail) = (e.resource_name?.name, e.error_detail.unwrap_or_default());
        Some((name, detail.code, detail.message))
    };
    errors.into_iter().filter_map(one).collect()
}

impl From<discovery::DeltaDiscoveryResponse> for Incoming {
    fn from(r: discovery::DeltaDiscoveryResponse) -> Incoming {
        Incoming {
            type_url: r.type_url,
            nonce: r.nonce,
            version: String::new(),
            resources: r.resources.into_iter().map(|resource| Raw::wrapped(resource, None)).collect(),
            removed: r.removed_resources,
            errors: errors(r.resource_errors),
            whole: false,
        }
    }
}

impl From<discovery::DiscoveryResponse> for Incoming {
    fn from(r: discovery::DiscoveryResponse) -> Incoming {
        let version = r.version_info;
        Incoming {
            type_url: r.type_url,
            nonce: r.nonce,
            resources: r.resources.into_iter().map(|any| Raw::bare(any, &version)).collect(),
            removed: Vec::new(),
            errors: errors(r.resource_errors),
            whole: true,
            version,
        }
    }
}
