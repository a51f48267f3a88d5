//! How callers treat a cluster, from Envoy's own fields.
use super::Faults;
use envoy_types::pb::envoy::config::cluster::v3 as envoy;
use raddle_core::Protocol;
use raddle_model::PolicySettings;

pub(super) struct Policy {
    pub(super) settings: PolicySettings,
    pub(super) protocol: Option<Protocol>,
    pub(super) hashes: bool,
}

pub(super) fn read(_cluster: envoy::Cluster, _faults: &mut Faults) -> Option<Policy> {
    Some(Policy { settings: PolicySettings::default(), protocol: None, hashes: false })
}
