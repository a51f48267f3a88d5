//! `kind: LinkEncryption` and what else says who speaks TLS with whom.
use super::{Metadata, Rollout, Scope};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// `kind: LinkEncryption`: whether callers of an app encrypt.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkEncryption {
    /// Name of the rule.
    pub metadata: Metadata,
    /// Which sidecars: those of the callees. Callers follow what callees publish.
    pub scope: Scope,
    /// How a change of it spreads; absent = at once. Means something to a control plane alone.
    pub rollout: Option<Rollout>,
    /// What holds for the inbound side.
    #[serde(flatten)]
    pub settings: LinkSettings,
}

/// What holds for an app's inbound side.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkSettings {
    /// What callers are asked for.
    pub mode: LinkMode,
    /// The same for single ports of inbound listeners.
    pub ports: Vec<PortMode>,
    /// What callers do that cannot make a TLS connection; absent = as the mode says.
    pub fallback: Option<Fallback>,
    /// `strict` takes effect once no plaintext caller was seen for this long.
    pub quiet: Duration,
    /// `strict` takes effect at once, whoever still comes in plaintext.
    pub force: bool,
    /// Plaintext connections from before `strict` end at the latest after this long.
    pub deadline: Duration,
    /// The same for connections of bytes without a known protocol, which cannot be told to go.
    pub tcp_deadline: Duration,
}

impl Default for LinkSettings {
    /// What holds where no rule does: nothing is asked for.
    fn default() -> LinkSettings {
        LinkSettings {
            mode: LinkMode::Disable,
            ports: Vec::new(),
            fallback: None,
            quiet: Duration::from_secs(60),
            force: false,
            deadline: Duration::from_secs(120),
            tcp_deadline: Duration::from_secs(3600),
        }
    }
}

impl LinkSettings {
    /// The mode of a listener on this port.
    pub fn mode_of(&self, port: u16) -> LinkMode {
        self.ports.iter().find(|p| p.port == port).map_or(self.mode, |p| p.mode)
    }

    /// Whether callers may go on in plaintext if TLS cannot be had.
    pub fn fallback(&self) -> Fallback {
        self.fallback.unwrap_or(match self.mode {
            LinkMode::Strict => Fallback::Denied,
            LinkMode::Disable | LinkMode::Permissive => Fallback::Allowed,
        })
    }
}

/// What callers are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkMode {
    /// Plaintext. TLS is still taken, as long as the sidecar holds a certificate.
    #[default]
    Disable,
    /// TLS of those who can, plaintext of the others.
    Permissive,
    /// TLS; plaintext is refused.
    Strict,
}

impl LinkMode {
    /// As files and pages write it.
    pub const fn name(self) -> &'static str {
        match self {
            LinkMode::Disable => "disable",
            LinkMode::Permissive => "permissive",
            LinkMode::Strict => "strict",
        }
    }
}

/// The mode of one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMode {
    /// Port of the inbound listener.
    pub port: u16,
    /// What holds there.
    pub mode: LinkMode,
}

/// What a caller does that cannot make the TLS connection it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fallback {
    /// It goes on in plaintext and tries again in the background.
    Allowed,
    /// Its requests fail.
    Denied,
}

/// How an endpoint takes TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointTls {
    /// Plaintext is no way out if TLS fails.
    pub required: bool,
    /// SPIFFE ids it may have, to the letter; empty = that of the service's app (and the endpoint's unit, if it has one)
    /// in the sidecar's own trust domain.
    pub ids: Vec<String>,
}

/// `spec.identity`: where the sidecar's certificate comes from, if not from the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum IdentitySource {
    /// Files.
    Files {
        /// Name of a [`Certificate`](super::Certificate) with exactly one SPIFFE id.
        certificate: String,
        /// Roots of trust, PEM.
        roots: PathBuf,
    },
    /// Another agent's SDS (SPIRE's, Istio's), on a Unix socket.
    Sds {
        /// The socket.
        socket: PathBuf,
        /// Name of the secret with certificate and key.
        certificate: String,
        /// Name of the secret with the roots.
        roots: String,
    },
}
