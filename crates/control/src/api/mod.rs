//! REST: everything the command line and a console need.
//!
//! [`router`] serves it, [`openapi`] describes it; both are made from one table of routes ([`routes`]). A handler gets
//! a request that is already admitted and checked against its route's declaration. Each file beside this one is a part
//! of the table with its handlers and the shapes they answer.
mod audit;
mod auth;
mod ca;
pub mod desk;
mod encryption;
mod explain;
mod health;
pub(crate) mod http;
mod limits;
mod live;
mod log;
mod mesh;
mod page;
mod quota;
mod rules;
mod sidecars;
mod state;
mod status;
mod tokens;

pub use auth::Role;
pub use desk::*;
pub use http::shape::MistakeAnswer;

use crate::ca::Ca;
use crate::events::Events;
use crate::plane;
use crate::registry::Directory;
use crate::rules::RuleBook;
use crate::tokens::Tokens;
use raddle_store::Store;
use state::State;
use std::sync::Arc;
use tokio::sync::watch;

/// What the API speaks for.
#[derive(Clone)]
pub struct Parts {
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// Who serves what.
    pub directory: watch::Receiver<Arc<Directory>>,
    /// The rules.
    pub book: watch::Receiver<Arc<RuleBook>>,
    /// What happened.
    pub events: Events,
    /// Name of this replica.
    pub replica: Arc<str>,
    /// Who may ask; `None` = whoever can connect, which is for listeners on loopback only.
    pub tokens: Option<Arc<Tokens>>,
    /// The rules' revisions and rollouts.
    pub desk: Option<Arc<dyn Desk>>,
    /// The certificate authority, if there is one.
    pub ca: Option<Arc<Ca>>,
    /// The rest of the process: streams, metrics. Without it (in tests) what is only there is empty.
    pub plane: Option<plane::Parts>,
}

/// The API as a service; called within a runtime. Where peers' addresses are to be in the audit, requests carry
/// `axum::extract::ConnectInfo<SocketAddr>`.
pub fn router(parts: Parts) -> axum::Router {
    http::router(routes(), Arc::new(State::new(parts)))
}

/// The OpenAPI 3.1 document.
pub fn openapi() -> serde_json::Value {
    http::document(&routes())
}

/// All there is.
fn routes() -> Vec<http::Route> {
    let parts = [
        rules::routes(),
        quota::routes(),
        mesh::routes(),
        sidecars::routes(),
        status::routes(),
        explain::routes(),
        encryption::routes(),
        limits::routes(),
        log::routes(),
        live::routes(),
        tokens::routes(),
        ca::routes(),
        health::routes(),
    ];
    parts.into_iter().flatten().collect()
}

/// The kinds of rule that can be applied.
pub fn kinds() -> &'static [&'static str] {
    &[
        "AdaptiveLimit",
        "Authorization",
        "CircuitBreaker",
        "LinkEncryption",
        "RateLimit",
        "Route",
        "TrafficPolicy",
    ]
}
