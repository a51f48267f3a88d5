//! `kind: Service`: what apps publish.
use super::{EndpointTls, Labels, Metadata, protocol};
use raddle_core::Protocol;
use serde::Serialize;
use std::net::SocketAddr;

/// `kind: Service`: something an app publishes.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// `metadata.name` is the name requests carry (`interface:version[:group]`).
    pub metadata: Metadata,
    /// The application that publishes it.
    pub app: String,
    /// Protocol of its endpoints; absent = the request's.
    #[serde(serialize_with = "protocol")]
    pub protocol: Option<Protocol>,
    /// Further HTTP hosts that mean this service: lower-case, without port; `*.` may lead and stands for one
    /// or more labels.
    pub hosts: Vec<String>,
    /// Instances; may be empty.
    pub endpoints: Vec<Endpoint>,
}

/// One instance of a service.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// ip:port.
    pub address: SocketAddr,
    /// Deployment unit.
    pub unit: Option<String>,
    /// Group; `default` when not given. Other groups get traffic only by a rule.
    pub group: String,
    /// Share among its peers, 0..=10000; 0 = none at all.
    pub weight: u32,
    /// Labels such as `version`.
    pub labels: Labels,
    /// How it takes TLS; absent = it does not.
    pub tls: Option<EndpointTls>,
}
