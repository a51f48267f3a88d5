//! The dialect of SOFARPC's `mesh` registry (`registry-mesh` in its source: `MeshApiClient`, `MeshRegistry`).
//!
//! A provider says `configs/application` once, then `services/publish` for each service; it never says its port. A
//! consumer says `services/subscribe` and then calls the mesh's host on port 12220, whatever the answer's address is;
//! of the answer's first entry it takes the parameters after the `?` (serialization, weight, timeout).
use super::{Answer, check_name};
use crate::mesh::{AppInfo, MeshHandle};
use raddle_core::Protocol;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The paths of this dialect.
pub(super) const PATHS: [&str; 5] = [
    "/configs/application",
    "/services/publish",
    "/services/unpublish",
    "/services/subscribe",
    "/services/unsubscribe",
];

/// Where its consumers look for the mesh; they cannot be told another port.
const CONSUMER_PORT: u16 = 12220;
/// The version of SOFA's own wire conventions, which providers announce.
const SOFA_VERSION: &str = "4.0";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(default)]
    service_name: String,
    #[serde(default)]
    protocol_type: Option<String>,
    #[serde(default)]
    provider_meta_info: Option<Provider>,
    #[serde(default)]
    group: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Provider {
    #[serde(default)]
    serialize_type: Option<String>,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    properties: Option<BTreeMap<String, Value>>,
}

pub(super) fn answer(hub: &dyn MeshHandle, path: &str, body: &[u8]) -> Answer {
    let said = match path {
        "/configs/application" => application(hub, body).map(|()| json!({ "success": true })),
        "/services/publish" => publish(hub, body).map(|()| json!({ "success": true })),
        "/services/subscribe" => subscribe(hub, body),
        "/services/unpublish" => parse(body).map(|r| {
            hub.unpublish(&r.service_name);
            json!({ "success": true })
        }),
        _ => parse(body).map(|r| {
            hub.unsubscribe(&r.service_name);
            json!({ "success": true })
        }),
    };
    // Another status than 200 is "no mesh there" to the client, which then tells nobody why.
    let body = said.unwrap_or_else(|why| json!({ "success": false, "errorMessage": why }));
    Answer { status: 200, body: body.to_string() }
}

fn application(hub: &dyn MeshHandle, body: &[u8]) -> Result<(), String> {
    let said: BTreeMap<String, Value> = json_of(body)?;
    let mut facts: BTreeMap<String, String> = said.iter().map(|(k, v)| (k.clone(), text(v))).collect();
    // Apps without a name are common in tests; the sidecar has one.
    let app = facts.remove("appName").filter(|name| !name.is_empty() && name != "null");
    hub.configure(AppInfo { app, facts: super::bounded(facts) });
    Ok(())
}

fn publish(hub: &dyn MeshHandle, body: &[u8]) -> Result<(), String> {
    let request = parse(body)?;
    let protocol = protocol(request.protocol_type.as_deref())?;
    let mut metadata = BTreeMap::new();
    if let Some(provider) = request.provider_meta_info {
        for (key, value) in provider.properties.unwrap_or_default() {
            metadata.insert(key, text(&value));
        }
        let mut keep = |key: &str, value: Option<String>| {
            if let Some(value) = value.filter(|v| !v.is_empty()) {
                metadata.insert(key.to_owned(), value);
            }
        };
        keep("_SERIALIZETYPE", provider.serialize_type);
        keep("v", provider.version);
    }
    if let Some(group) = request.group.filter(|g| !g.is_empty()) {
        metadata.insert("sofaGroup".into(), group);
    }
    super::publish(hub, request.service_name, protocol, None, metadata)
}

fn subscribe(hub: &dyn MeshHandle, body: &[u8]) -> Result<Value, String> {
    let request = parse(body)?;
    let protocol = protocol(request.protocol_type.as_deref())?;
    let at = hub.outbound(Some(protocol), CONSUMER_PORT).filter(|a| a.port() == CONSUMER_PORT).ok_or_else(|| {
        format!(
            "the sidecar has no outbound listener on port {CONSUMER_PORT}, which is where SOFARPC's mesh client \
             calls; add `- {{listen: 127.0.0.1:{CONSUMER_PORT}}}` to its `outbound`"
        )
    })?;
    let mut parameters = BTreeMap::from([("v", SOFA_VERSION), ("_SERIALIZETYPE", "hessian2")]);
    if protocol == Protocol::Bolt {
        parameters.insert("p", "1");
    }
    hub.subscribe(&request.service_name).map_err(|e| e.to_string())?;
    let query: Vec<String> = parameters.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let data = format!("{at}?{}", query.join("&"));
    Ok(json!({ "success": true, "serviceName": request.service_name, "datas": [data] }))
}

fn parse(body: &[u8]) -> Result<Request, String> {
    let request: Request = json_of(body)?;
    check_name("serviceName", &request.service_name)?;
    Ok(request)
}

fn json_of<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|e| format!("the body is not the JSON this path takes: {e}"))
}

fn protocol(said: Option<&str>) -> Result<Protocol, String> {
    match said.unwrap_or("bolt") {
        "" | "bolt" | "tr" | "DEFAULT" => Ok(Protocol::Bolt),
        "dubbo" => Ok(Protocol::Dubbo),
        "tri" | "triple" => Ok(Protocol::Grpc),
        "grpc" => Ok(Protocol::Grpc),
        "rest" | "http" => Ok(Protocol::Http),
        "h2c" | "http2" => Ok(Protocol::Http2),
        other => Err(format!(
            "protocolType {other:?} is not known; it is one of bolt, dubbo, tri, grpc, rest, http, h2c"
        )),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}
