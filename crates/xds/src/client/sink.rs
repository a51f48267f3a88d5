//! Where a client gives what it gets.
use crate::types::Kind;
use raddle_model::{Route, Service, TrafficPolicy};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Takes what arrives. Called from one task, never twice at a time; must not block for long.
pub trait Sink: Send + 'static {
    /// Takes an update, and says what of it cannot be used. That is told to the server by name, and what was
    /// there before stays in force; everything else of the update is applied.
    fn apply(&mut self, update: Update) -> Vec<Refused>;
}

impl<F: FnMut(Update) -> Vec<Refused> + Send + 'static> Sink for F {
    fn apply(&mut self, update: Update) -> Vec<Refused> {
        self(update)
    }
}

/// What changed. A name with `None` is gone.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// Services.
    pub services: Vec<(Arc<str>, Option<Service>)>,
    /// What a model's service does not say, of those of `services` about which there is something to say.
    pub marks: Vec<(Arc<str>, Marks)>,
    /// Policies from Envoy's resources, named like the service they are for. Never from Raddle's own server.
    pub policies: Vec<(Arc<str>, Option<TrafficPolicy>)>,
    /// Routes from Envoy's resources, named like the service they are for. Never from Raddle's own server.
    pub routes: Vec<(Arc<str>, Option<Route>)>,
    /// Raddle's rules, by KIND/NAME.
    pub rules: Vec<(Arc<str>, Option<RuleDoc>)>,
    /// Roots of trust, DER, all that hold now; `None` = unchanged.
    pub roots: Option<Vec<Vec<u8>>>,
    /// Wanted services that the server says do not exist. Sent once; a service that comes to be is in `services`.
    pub missing: Vec<Arc<str>>,
    /// Whether this is from the cache on disk and not from a server.
    pub cached: bool,
}

impl Update {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
            && self.policies.is_empty()
            && self.routes.is_empty()
            && self.rules.is_empty()
            && self.roots.is_none()
            && self.missing.is_empty()
    }
}

/// What Raddle's control plane says of a service beside what the model has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The list is the last good one, kept because too many instances vanished at once.
    pub kept: bool,
    /// The framework's metadata of the service.
    pub metadata: BTreeMap<String, String>,
}

/// A rule as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleDoc {
    /// Its revision, 16 hexadecimal digits.
    pub revision: Arc<str>,
    /// The whole resource: apiVersion, kind, metadata, spec.
    pub json: Arc<str>,
}

/// Something of an update that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// [`Kind::Cluster`] for a service or its policy, [`Kind::Routes`] for a route, [`Kind::Rule`] for a rule.
    pub kind: Kind,
    /// As the update named it.
    pub name: Arc<str>,
    /// Why, as a sentence.
    pub reason: String,
}
