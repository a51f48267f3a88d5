//! What the control plane knows, as Envoy's resources.
//!
//! * [`cluster()`] and [`endpoints()`] are a service, for sidecars and Envoy; [`subset_cluster`] and [`subset_endpoints`] a
//!   part of one under a name of its own, for gRPC's clients, which cannot make subsets by themselves.
//! * [`grpc_listener`] and [`grpc_routes`] are what `xds:///NAME` asks for.
//! * [`envoy_listener`], [`envoy_tcp_listener`] and [`envoy_routes`] are an outbound side for Envoy.
//! * [`trust_bundle`] is the roots.
//!
//! A rule of a route that the client has no words for is left out; which those are is said at [`routes`].
mod cluster;
mod endpoints;
mod listener;
mod matching;
pub mod routes;
mod subset;

pub use cluster::{cluster, subset_cluster};
pub use endpoints::{endpoints, subset_endpoints};
pub use listener::{OUTBOUND, envoy_listener, envoy_tcp_listener, grpc_listener, trust_bundle};
pub use routes::{Routed, envoy_routes, grpc_routes};
pub use subset::Subset;

use envoy_types::pb::envoy::config::core::v3::{
    AggregatedConfigSource, ApiVersion, ConfigSource, Metadata, config_source,
};
use envoy_types::pb::google::protobuf::value::Kind as Value;
use envoy_types::pb::google::protobuf::{self, Any, ListValue, Struct};
use prost::{Message, Name};

fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

fn duration(d: std::time::Duration) -> protobuf::Duration {
    // Envoy takes at most the seconds of 10,000 years; nobody waits longer.
    let seconds = d.as_secs().min(315_576_000_000) as i64;
    protobuf::Duration { seconds, nanos: d.subsec_nanos() as i32 }
}

/// Envoy has what it wants from the stream it is on.
fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3 as i32,
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    }
}

fn uint(value: u32) -> protobuf::UInt32Value {
    protobuf::UInt32Value { value }
}

fn text(s: &str) -> protobuf::Value {
    protobuf::Value { kind: Some(Value::StringValue(s.to_owned())) }
}

fn number(n: u32) -> protobuf::Value {
    protobuf::Value { kind: Some(Value::NumberValue(f64::from(n))) }
}

fn boolean(b: bool) -> protobuf::Value {
    protobuf::Value { kind: Some(Value::BoolValue(b)) }
}

fn list(values: impl Iterator<Item = protobuf::Value>) -> protobuf::Value {
    protobuf::Value { kind: Some(Value::ListValue(ListValue { values: values.collect() })) }
}

fn object(fields: impl IntoIterator<Item = (String, protobuf::Value)>) -> Struct {
    Struct { fields: fields.into_iter().collect() }
}

fn metadata(parts: Vec<(&str, Struct)>) -> Metadata {
    let filter_metadata = parts.into_iter().map(|(name, part)| (name.to_owned(), part)).collect();
    Metadata { filter_metadata, ..Metadata::default() }
}
