//! `kind: Authorization`: who may call what.
use super::{Cidr, Matcher, Metadata, Rollout, RuleMode, Scope};
use serde::Serialize;

/// `kind: Authorization`: who may call what of an app.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Authorization {
    /// Name of the rule.
    pub metadata: Metadata,
    /// Which sidecars: those of the callees.
    pub scope: Scope,
    /// How a change of it spreads; absent = at once. Means something to a control plane alone.
    pub rollout: Option<Rollout>,
    /// What becomes of requests that a clause takes.
    pub action: AuthAction,
    /// Whether it is carried out or only counted.
    pub mode: RuleMode,
    /// Refusals say the rule's name to the caller.
    pub explain: bool,
    /// Clauses: it takes a request if one of them does. Never empty.
    pub rules: Vec<AuthClause>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthAction {
    /// It may pass. Once a sidecar has an `allow` rule, what none of them takes is refused.
    Allow,
    /// It is refused, whatever allows it.
    Deny,
}

/// A clause: all of its conditions must hold.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthClause {
    /// Name within the rule; its 0-based index when not given.
    pub name: Option<String>,
    /// All must hold; empty = every request.
    pub when: Vec<AuthCondition>,
}

/// A condition on a request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AuthCondition {
    /// A text of the request or its caller.
    Text {
        /// What is looked at.
        subject: AuthSubject,
        /// What it must be. Of a caller without an identity nothing holds that asks for one, not even `notEquals`.
        matcher: Matcher,
    },
    /// The address the connection came from lies in one of these blocks (or, `inside: false`, in none).
    Source {
        /// Blocks.
        blocks: Vec<Cidr>,
        /// In one of them, or in none.
        inside: bool,
    },
}

/// What a condition looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AuthSubject {
    /// The caller's app, as its certificate says. None in plaintext.
    CallerApp,
    /// The caller's unit, as its certificate says.
    CallerUnit,
    /// The caller's SPIFFE id, whole.
    CallerId,
    /// The service name.
    Service,
    /// The method name, as [`Subject::Method`](super::Subject::Method).
    Method,
    /// The path of an HTTP request without the query.
    Path,
    /// The host an HTTP request is for.
    Authority,
    /// A header of the request.
    Header(String),
}

impl AuthSubject {
    /// Whether it is known of callers with a certificate only.
    pub const fn needs_identity(&self) -> bool {
        matches!(self, AuthSubject::CallerApp | AuthSubject::CallerUnit | AuthSubject::CallerId)
    }
}
