//! The control plane's own certificate: made by each replica for itself, its key only in memory.
use super::{CaError, CaOptions, Current};
use raddle_identity::renewal::renew_at;
use raddle_identity::{ALPN_H1, ALPN_H2, Clients, DenyList, Identity, PeerRule, PrivateKey, SpiffeId};
use rustls::ServerConfig;
use std::sync::Arc;
use tokio::sync::watch;

/// Names that every replica is called by on its own machine.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

pub(super) fn identity(current: &Current, options: &CaOptions, now: i64) -> Result<Identity, CaError> {
    let broken = |e: &dyn std::fmt::Display| CaError::Tls(e.to_string());
    let mut hosts: Vec<String> = LOCAL.map(str::to_owned).into();
    hosts.extend(options.hosts.iter().filter(|h| !LOCAL.contains(&h.as_str())).cloned());
    let key = PrivateKey::generate().map_err(|e| broken(&e))?;
    let id = SpiffeId::control(&options.trust_domain).map_err(|e| broken(&e))?;
    let signed = current.issuer.sign_server(&key, &id, &hosts, options.lifetime, now)?;
    Identity::new(signed.chain, Arc::new(key), current.trust.clone(), now).map_err(|e| broken(&e))
}

/// Bootstrap needs no certificate, so none is demanded; one that is shown must be good and not denied.
pub(super) fn config(
    own: &Identity,
    denied: watch::Receiver<Arc<DenyList>>,
) -> Result<ServerConfig, CaError> {
    let refuses = Arc::new(move |leaf: &raddle_identity::Leaf| denied.borrow().denies(leaf));
    let mut config = own
        .server_config(PeerRule::Member, Clients::Optional, Some(refuses))
        .map_err(|e| CaError::Tls(e.to_string()))?;
    config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_H1.to_vec()];
    Ok(config)
}

/// Whether another is needed: half of its life is over, another authority signs, or others are trusted.
pub(super) fn is_due(own: &Identity, signed_by: &str, current: &Current, now: i64) -> bool {
    let leaf = own.leaf();
    now >= renew_at(leaf.not_before, leaf.not_after, 0.5)
        || signed_by != current.issuer.id()
        || *own.trust() != current.trust
}
