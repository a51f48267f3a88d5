//! What a sidecar's admin port answers, as far as this crate reads it.
//!
//! Every field may be missing: an older or newer sidecar is shown as far as it is understood.
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// `GET /stats`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Stats {
    pub(crate) name: String,
    pub(crate) app: String,
    pub(crate) version: String,
    pub(crate) state: String,
    pub(crate) uptime_s: f64,
    pub(crate) pid: u32,
    pub(crate) workers: u32,
    pub(crate) config: Config,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) totals: Totals,
}

/// The configuration it runs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    pub(crate) generation: u64,
    pub(crate) revision: String,
    /// Seconds since the Unix epoch.
    pub(crate) loaded_at: u64,
    pub(crate) files: Vec<String>,
    /// Loads that were refused since the start.
    pub(crate) refused: u64,
    /// Of the last refused load, if the one in force is older.
    pub(crate) mistakes: Vec<String>,
}

/// An address it accepts on.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Listener {
    pub(crate) direction: String,
    pub(crate) listen: String,
    pub(crate) forward: Option<String>,
    pub(crate) service: Option<String>,
    pub(crate) protocol: Option<String>,
}

/// What it did since it started.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Totals {
    pub(crate) connections: Connections,
    pub(crate) inbound: Requests,
    pub(crate) outbound: Requests,
    pub(crate) retries: u64,
    pub(crate) late_replies: u64,
    pub(crate) caller_malformed: BTreeMap<String, u64>,
    pub(crate) upstream_malformed: BTreeMap<String, u64>,
    pub(crate) buffered_bytes: i64,
    pub(crate) paused_connections: i64,
    pub(crate) services: Vec<Service>,
}

/// Connections of both sides.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Connections {
    pub(crate) accepted: u64,
    pub(crate) callers_active: i64,
    pub(crate) upstream_opened: u64,
    pub(crate) upstream_failed: u64,
    pub(crate) upstream_active: i64,
}

/// Requests and what became of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Requests {
    pub(crate) total: u64,
    pub(crate) ok: u64,
    pub(crate) app_error: u64,
    pub(crate) rejected: BTreeMap<String, u64>,
    pub(crate) one_way: u64,
    pub(crate) in_flight: i64,
    pub(crate) latency: Latency,
}

/// Milliseconds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Latency {
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
}

/// A service's requests.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Service {
    pub(crate) direction: String,
    pub(crate) service: String,
    #[serde(flatten)]
    pub(crate) requests: Requests,
}

/// One of `GET /clusters`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Cluster {
    pub(crate) service: String,
    pub(crate) app: String,
    pub(crate) policy: Option<String>,
    pub(crate) endpoints: Vec<Endpoint>,
}

/// An endpoint, and what is known of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Endpoint {
    pub(crate) address: String,
    pub(crate) group: String,
    pub(crate) unit: Option<String>,
    pub(crate) weight: u32,
    pub(crate) health: String,
    pub(crate) state: String,
    pub(crate) active: i64,
    pub(crate) ewma_ms: Option<f64>,
    pub(crate) connections: i64,
    pub(crate) requests: u64,
    pub(crate) failures: u64,
    pub(crate) last_error: Option<Value>,
}

/// A loosely typed field as a text: strings without quotes, nothing as nothing.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}
