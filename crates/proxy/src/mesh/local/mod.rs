//! The local mesh API: how an app whose framework knows of a mesh says what it serves and calls.
//!
//! Two dialects on one port (127.0.0.1:13330 by default): [`sofa`], which SOFARPC's `mesh` registry speaks, and
//! [`dubbo`], which MOSN's Dubbo endpoints speak. Both are turned into the same wishes to a [`MeshHandle`].
//!
//! Answers follow each dialect where clients depend on it: SOFARPC takes every status but 200 for "no mesh", so a
//! refusal is a 200 that says `success: false` and why.
mod dubbo;
mod server;
mod sofa;
#[cfg(test)]
mod tests;

pub use server::serve;

use super::MeshHandle;
use raddle_core::Protocol;
use raddle_model::Published;
use std::collections::BTreeMap;

/// An answer: status and JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Longest service name taken.
const NAME_MOST: usize = 1024;
/// Most metadata entries kept of a service, and the longest of them.
const METADATA_MOST: usize = 64;
const VALUE_MOST: usize = 1024;

/// What a request to the API comes to.
pub(crate) fn answer(hub: &dyn MeshHandle, method: &str, path: &str, body: &[u8]) -> Answer {
    let known = |path: &str| sofa::PATHS.contains(&path) || dubbo::PATHS.contains(&path);
    match (method, path) {
        ("POST", path) if sofa::PATHS.contains(&path) => sofa::answer(hub, path, body),
        ("POST", path) if dubbo::PATHS.contains(&path) => dubbo::answer(hub, path, body),
        (_, path) if known(path) => refusal(405, "POST is the only method here"),
        _ => {
            let paths: Vec<&str> = sofa::PATHS.iter().chain(&dubbo::PATHS).copied().collect();
            refusal(404, &format!("nothing here; the local mesh API has POST {}", paths.join(", ")))
        }
    }
}

fn refusal(status: u16, why: &str) -> Answer {
    Answer { status, body: serde_json::json!({ "success": false, "errorMessage": why }).to_string() }
}

/// Whether a service's name can be one: not empty, bounded, printable, without blanks.
fn check_name(field: &str, name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err(format!("{field} is missing; give interface:version"));
    }
    if name.len() > NAME_MOST || !name.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!("{field} must be at most {NAME_MOST} visible ASCII characters without blanks"));
    }
    Ok(())
}

/// Metadata within its bounds; what is beyond them is left out, longest names first to go by order.
fn bounded(all: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let fits = |(k, v): &(String, String)| !k.is_empty() && k.len() <= VALUE_MOST && v.len() <= VALUE_MOST;
    all.into_iter().filter(fits).take(METADATA_MOST).collect()
}

/// `interface:version[:group]`; a version or group that is empty or the default is left out at the end.
fn service_name(interface: &str, version: &str, group: &str) -> String {
    match (version, group) {
        ("", "") => interface.to_owned(),
        (version, "") => format!("{interface}:{version}"),
        (version, group) => format!("{interface}:{version}:{group}"),
    }
}

/// Publishes what the app serves on its own port `app` (`None`: it did not say which).
fn publish(
    hub: &dyn MeshHandle,
    name: String,
    protocol: Protocol,
    app: Option<u16>,
    metadata: BTreeMap<String, String>,
) -> Result<(), String> {
    let port = hub.inbound(app).ok_or_else(|| match app {
        Some(app) => format!(
            "the sidecar has no inbound listener that forwards to port {app}; add \
             `- {{listen: IP:PORT, forward: 127.0.0.1:{app}}}` to its `inbound`"
        ),
        None => {
            "the sidecar has no inbound listener; add one that forwards to the app to its `inbound`".into()
        }
    })?;
    let metadata = bounded(metadata);
    hub.publish(Published { name, protocol: Some(protocol), port, hosts: Vec::new(), metadata })
        .map_err(|e| e.to_string())
}
