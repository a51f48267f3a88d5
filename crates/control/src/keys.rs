//! What lies where in the store. Every key begins with the layout's version, so that another layout can live beside it
//! while it is migrated.

/// Prefix of everything.
pub const ROOT: &str = "raddle/v1/";
/// `rules/KIND/NAME`: a rule with its stable and candidate revisions and rollout state.
pub const RULES: &str = "raddle/v1/rules/";
/// Changes with every change that people make of rules: it puts those into one order.
pub const RULES_EPOCH: &str = "raddle/v1/rules-epoch";
/// `history/KIND/NAME/NUMBER`: every revision, for ever or as the bound says.
pub const HISTORY: &str = "raddle/v1/history/";
/// `instances/APP/INSTANCE`: one running copy; under its replica's lease.
pub const INSTANCES: &str = "raddle/v1/instances/";
/// `services/APP/HASH`: a set of services that instances of the app publish.
pub const SERVICES: &str = "raddle/v1/services/";
/// `nodes/INSTANCE`: what a sidecar runs, has refused and lacks; under its replica's lease, written when it changes.
pub const NODES: &str = "raddle/v1/nodes/";
/// `reports/REPLICA/KIND/NAME`: how a rollout's cohorts fare as one replica's sidecars say; under its lease.
pub const REPORTS: &str = "raddle/v1/reports/";
/// `links/REPLICA/APP`: who calls the app, and whether over TLS, as one replica's sidecars say; under its lease, and only
/// while there are several replicas.
pub const LINKS: &str = "raddle/v1/links/";
/// `ca/...`: certificates; the key sealed.
pub const CA: &str = "raddle/v1/ca/";
/// `tokens/ID`: API and bootstrap tokens, hashed.
pub const TOKENS: &str = "raddle/v1/tokens/";
/// `audit/TIME-NUMBER`: who changed what.
pub const AUDIT: &str = "raddle/v1/audit/";
/// `events/TIME-NUMBER`: what happened, for people.
pub const EVENTS: &str = "raddle/v1/events/";
/// `quota/SHARD`: which replica counts these rates; under its lease.
pub const QUOTA: &str = "raddle/v1/quota/";
/// `leader/JOB`: which replica does it; under its lease.
pub const LEADER: &str = "raddle/v1/leader/";
/// `replicas/ID`: the replicas that live, and their addresses; under their leases.
pub const REPLICAS: &str = "raddle/v1/replicas/";
