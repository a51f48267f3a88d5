//! What the handlers share.
use super::Parts;
use super::auth::Who;
use super::http::Problem;
use super::live::Hub;
use crate::tokens::{Grant, Tokens};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The parts the API speaks for, and its own counts.
pub(crate) struct State {
    pub(crate) parts: Parts,
    pub(crate) counts: Counts,
    pub(crate) hub: Arc<Hub>,
}

impl State {
    pub(crate) fn new(parts: Parts) -> State {
        let hub = Hub::start(parts.store.clone());
        State { counts: Counts::default(), hub, parts }
    }

    /// Whose token it is.
    pub(crate) fn identify(tokens: &Tokens, token: &str) -> Result<Who, Problem> {
        match tokens.authenticate(token) {
            Ok(Grant::Api { name, id, role }) => {
                let name = if name.is_empty() { id } else { name };
                Ok(Who { name: name.to_string(), role })
            }
            Ok(Grant::Bootstrap(_)) => {
                Err(Problem::forbidden("this token is for a sidecar's certificate, not for the API"))
            }
            Err(denied) => Err(Problem::unauthenticated(denied.to_string())),
        }
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
