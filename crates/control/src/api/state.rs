//! What the handlers share.
use super::Parts;
use super::auth::Who;
use super::http::Problem;
use super::live::Hub;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The parts the API speaks for, and its own counts.
pub(crate) struct State {
    pub(crate) parts: Parts,
    /// No token is demanded.
    pub(crate) open: bool,
    pub(crate) counts: Counts,
    pub(crate) hub: Arc<Hub>,
}

impl State {
    pub(crate) fn new(parts: Parts) -> State {
        let hub = Hub::start(parts.store.clone());
        State { open: parts.open, counts: Counts::default(), hub, parts }
    }

    /// Whose token it is.
    pub(crate) async fn identify(&self, _token: &str) -> Result<Who, Problem> {
        Err(Problem::unauthenticated("the token is not known"))
    }
}

/// How many requests ended with which status.
#[derive(Debug, Default)]
pub(crate) struct Counts(Mutex<BTreeMap<u16, u64>>);

impl Counts {
    /// A request was answered.
    pub(crate) fn answered(&self, status: u16) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(status).or_insert(0) += 1;
    }

    /// By status.
    pub(crate) fn all(&self) -> BTreeMap<u16, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
