//! Small values of Envoy's messages.
use envoy_types::pb::envoy::config::core::v3::Address;
use envoy_types::pb::envoy::config::core::v3::{Metadata, address, socket_address};
use envoy_types::pb::google::protobuf::value::Kind as ValueKind;
use envoy_types::pb::google::protobuf::{Duration as Proto, Struct, Value};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Filter metadata of that name.
pub(super) fn metadata<'m>(metadata: Option<&'m Metadata>, name: &str) -> Option<&'m Struct> {
    metadata?.filter_metadata.get(name)
}

pub(super) fn text<'s>(fields: &'s Struct, name: &str) -> Option<&'s str> {
    as_text(fields.fields.get(name)?)
}

pub(super) fn as_text(value: &Value) -> Option<&str> {
    match value.kind.as_ref()? {
        ValueKind::StringValue(text) => Some(text),
        _ => None,
    }
}

pub(super) fn boolean(fields: &Struct, name: &str) -> bool {
    matches!(fields.fields.get(name).and_then(|v| v.kind.as_ref()), Some(ValueKind::BoolValue(true)))
}

pub(super) fn number(fields: &Struct, name: &str) -> Option<f64> {
    match fields.fields.get(name)?.kind.as_ref()? {
        ValueKind::NumberValue(number) => Some(*number),
        _ => None,
    }
}

pub(super) fn texts(fields: &Struct, name: &str) -> Vec<String> {
    match fields.fields.get(name).and_then(|v| v.kind.as_ref()) {
        Some(ValueKind::ListValue(list)) => {
            list.values.iter().filter_map(as_text).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

pub(super) fn object<'s>(fields: &'s Struct, name: &str) -> Option<&'s Struct> {
    match fields.fields.get(name)?.kind.as_ref()? {
        ValueKind::StructValue(object) => Some(object),
        _ => None,
    }
}

/// A scalar as text, as labels have it.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value.kind.as_ref()? {
        ValueKind::StringValue(text) => Some(text.clone()),
        ValueKind::NumberValue(number) => Some(number.to_string()),
        ValueKind::BoolValue(value) => Some(value.to_string()),
        _ => None,
    }
}

/// A duration; `None` = negative or without end.
pub(super) fn duration(d: Proto) -> Option<Duration> {
    Some(Duration::new(
        u64::try_from(d.seconds).ok()?,
        u32::try_from(d.nanos).ok().filter(|n| *n < 1_000_000_000)?,
    ))
}

/// An address to connect to, or what is wrong with it.
pub(super) fn socket(address: Option<&Address>) -> Result<SocketAddr, String> {
    let Some(address::Address::SocketAddress(socket)) = address.and_then(|a| a.address.as_ref()) else {
        return Err("is no socket address; give an ip and a port".into());
    };
    let ip: IpAddr = socket.address.parse().map_err(|_| {
        format!("{:?} is no ip address; names are not resolved here, give an ip", socket.address)
    })?;
    let port = match socket.port_specifier {
        Some(socket_address::PortSpecifier::PortValue(port)) => u16::try_from(port).unwrap_or(0),
        _ => 0,
    };
    match port {
        0 => Err(format!("{ip} has no port; give port_value 1..=65535")),
        _ if ip.is_unspecified() => Err(format!("{ip} is no address to connect to")),
        _ => Ok(SocketAddr::new(ip, port)),
    }
}

/// Whether the model takes it for a name.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 512 && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// Whether the model takes it for a host without port.
pub(super) fn is_host(text: &str) -> bool {
    let bare = text.strip_prefix("*.").unwrap_or(text);
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
    };
    let bracketed = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    bare.len() <= 253 && bare.split('.').all(label)
        || bracketed.is_some_and(|t| t.parse::<std::net::Ipv6Addr>().is_ok())
}
