//! The control plane: one process that says what the mesh does, and may die without the mesh noticing.
//!
//! Its parts talk through the store and a few channels:
//!
//! * [`registry`]: who serves what: publications from sidecars, kept in the store, as a [`registry::Directory`].
//! * [`rules`]: rules with revisions and rollouts, as a [`rules::RuleBook`].
//! * [`discovery`]: both as xDS resources; what each peer gets of them.
//! * [`reports`]: what sidecars run, refuse and lack, and how the cohorts of a rollout fare.
//! * [`quota`]: rates that all sidecars have together.
//! * [`events`]: what happened, for people.
//! * [`ca`]: certificates. [`api`]: REST. [`election`]: which replica does the jobs that one must do.
//! * [`tokens`]: who may speak to it. [`serve`]: how connections are taken, gRPC and REST alike.
//! * [`plane`]: all of them put together; [`metrics`]: what it counts.
//! * [`keys`]: what lies where in the store.
#![forbid(unsafe_code)]

pub mod api;
pub mod ca;
pub mod discovery;
pub mod election;
pub mod events;
pub mod keys;
pub mod metrics;
pub mod plane;
pub mod quota;
pub mod registry;
pub mod reports;
pub mod rules;
pub mod serve;
pub mod tokens;
