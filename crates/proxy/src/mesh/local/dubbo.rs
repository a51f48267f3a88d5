//! The dialect of MOSN's Dubbo endpoints: `/pub`, `/unpub`, `/sub`, `/unsub`, each with the registry an app would
//! have used and the service. The registry is checked for shape and otherwise not used: the control plane is it.
use super::{Answer, check_name, service_name};
use crate::mesh::MeshHandle;
use raddle_core::Protocol;
use serde::{Deserialize, Deserializer};
use serde_json::json;
use std::collections::BTreeMap;

/// The paths of this dialect.
pub(super) const PATHS: [&str; 4] = ["/pub", "/unpub", "/sub", "/unsub"];

#[derive(Deserialize)]
struct Request {
    service: Service,
}

#[derive(Deserialize)]
struct Service {
    #[serde(default)]
    interface: String,
    #[serde(default)]
    methods: Vec<String>,
    // MOSN takes it as text; people write numbers.
    #[serde(default, deserialize_with = "port")]
    port: Option<u16>,
    #[serde(default)]
    group: String,
    #[serde(default)]
    version: String,
}

pub(super) fn answer(hub: &dyn MeshHandle, path: &str, body: &[u8]) -> Answer {
    let (number, said) = match run(hub, path, body) {
        Ok(said) => (0, said.to_owned()),
        Err(why) => (1, why),
    };
    Answer { status: 200, body: json!({ "err_no": number, "err_msg": said }).to_string() }
}

fn run(hub: &dyn MeshHandle, path: &str, body: &[u8]) -> Result<&'static str, String> {
    let Request { service } =
        serde_json::from_slice(body).map_err(|e| format!("the body is not the JSON this path takes: {e}"))?;
    check_name("service.interface", &service.interface)?;
    let name = service_name(&service.interface, &service.version, &service.group);
    check_name("service", &name)?;
    match path {
        "/pub" => {
            let mut metadata = BTreeMap::new();
            if !service.methods.is_empty() {
                metadata.insert("methods".to_owned(), service.methods.join(","));
            }
            super::publish(hub, name, Protocol::Dubbo, service.port, metadata)?;
            Ok("publish success")
        }
        "/unpub" => {
            hub.unpublish(&name);
            Ok("unpub success")
        }
        "/sub" => {
            hub.subscribe(&name).map_err(|e| e.to_string())?;
            Ok("subscribe success")
        }
        _ => {
            hub.unsubscribe(&name);
            Ok("unsubscribe success")
        }
    }
}

fn port<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u16>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Said {
        Number(u16),
        Text(String),
    }
    match Option::<Said>::deserialize(d)? {
        None => Ok(None),
        Some(Said::Number(n)) => Ok(Some(n)),
        Some(Said::Text(t)) if t.is_empty() => Ok(None),
        Some(Said::Text(t)) => t.parse().map(Some).map_err(serde::de::Error::custom),
    }
}
