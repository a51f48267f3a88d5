//! Link encryption: what is wanted of an endpoint's connections, and what holds for the own inbound side.
//!
//! A caller compares its connections with [`Host::transport_id`](crate::Host::transport_id), one integer; a callee
//! has one [`LinkPlan`].
mod gate;
pub mod switch;

pub use gate::{Effective, Gate, Seen, Why};
use raddle_core::hash;
use raddle_model::{Endpoint, LinkEncryption, LinkSettings};
use std::sync::Arc;
pub use switch::{Standing, Switch};

/// Who is expected at the other end of a TLS connection to an endpoint.
#[derive(Debug, PartialEq, Eq)]
pub struct Transport {
    /// Hash of `app`, `unit` and `ids`; the same in every sidecar, never 0. 0 stands for plaintext everywhere.
    pub id: u64,
    /// The app.
    pub app: Arc<str>,
    /// Its unit; `None` = any.
    pub unit: Option<Arc<str>>,
    /// The ids themselves, to the letter, where `app` and `unit` do not say them; empty = they do.
    pub ids: Arc<[Arc<str>]>,
    /// Plaintext is no way out if TLS fails.
    pub required: bool,
}

/// The id of plaintext.
pub const PLAINTEXT: u64 = 0;

impl Transport {
    /// That of an endpoint of a service of `app`; `None` = plaintext.
    pub fn of(endpoint: &Endpoint, app: &str) -> Option<Arc<Transport>> {
        let tls = endpoint.tls.as_ref()?;
        let unit = endpoint.unit.as_deref().filter(|_| tls.ids.is_empty());
        let mut id = hash::stable(1, app.as_bytes());
        if let Some(unit) = unit {
            id = hash::stable(id, unit.as_bytes());
        }
        for one in &tls.ids {
            id = hash::stable(id, one.as_bytes());
        }
        Some(Arc::new(Transport {
            id: id.clamp(1, switch::DISTRUSTED - 1),
            app: app.into(),
            unit: unit.map(Arc::from),
            ids: tls.ids.iter().map(|i| Arc::from(i.as_str())).collect(),
            required: tls.required,
        }))
    }
}

/// What holds for the inbound side of this sidecar.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkPlan {
    /// Name of the `LinkEncryption` that says so; `None` = none reaches this sidecar.
    pub rule: Option<Arc<str>>,
    /// What it says.
    pub settings: LinkSettings,
}

impl LinkPlan {
    /// That of the rule with the narrowest scope; among equals the first.
    pub(crate) fn choose<'r>(rules: impl Iterator<Item = &'r LinkEncryption>) -> LinkPlan {
        let best = rules.enumerate().min_by_key(|(i, r)| (usize::MAX - r.scope.specificity(), *i));
        best.map_or_else(LinkPlan::default, |(_, r)| LinkPlan {
            rule: Some(r.metadata.name.as_str().into()),
            settings: r.settings.clone(),
        })
    }
}
