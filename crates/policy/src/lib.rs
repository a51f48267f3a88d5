//! The sidecar's decisions, pure: where a request may go, which endpoint takes it, whether it is tried
//! again, when a connection is made anew, probed or given up, and whether an endpoint is healthy.
//!
//! Nothing here reads a clock, opens a socket, starts a thread or keeps global state: time is a
//! [`raddle_core::Time`] argument and chance is a seeded [`Rng`] argument, so that the same code runs in
//! the sidecar and in a simulator. What is *not* here: sockets and pools (crate `proxy`), and the meaning
//! of YAML (crate `model`).
//!
//! The control plane's are here too: [`rollout`], how a change of a rule spreads.
//!
//! Start with [`Snapshot`]: resources compiled into what workers read. A request asks
//! [`Snapshot::service`], then [`Service::route`] for a [`Subset`], then [`pick`] for an endpoint of it.
//! The rest are small state machines, one a file, that need nothing from each other.
#![forbid(unsafe_code)]

pub mod authz;
pub mod backoff;
pub mod balance;
pub mod budget;
pub mod health;
pub mod heartbeat;
pub mod limit;
pub mod link;
pub mod permits;
pub mod quota;
pub mod rng;
pub mod rollout;
pub mod route;
pub mod slowstart;
pub mod snapshot;

pub use backoff::Backoff;
pub use balance::ewma::PeakEwma;
pub use balance::{BalanceState, Load, Picked, Readiness, pick};
pub use budget::RetryBudget;
pub use health::HealthState;
pub use heartbeat::HeartbeatPlan;
pub use link::{LinkPlan, Standing, Switch, Transport};
pub use permits::Permits;
pub use raddle_core::hash;
pub use rng::Rng;
pub use route::actions::{Actions, Answer, Fault, FaultDraw, Mirror, Redirect, Rewrite};
pub use route::{Asked, Attributes, Decision, RouteState, RuleRef};
pub use snapshot::host::{Health, Host};
pub use snapshot::policy::{CompiledRetry, Policy};
pub use snapshot::service::{Endpoint, Service};
pub use snapshot::subset::Subset;
pub use snapshot::{Fed, Snapshot};
