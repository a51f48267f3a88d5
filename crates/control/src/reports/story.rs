//! What happens while links are switched, as events for people: what several instances do at the same time is one.
use super::edges::Happened;
use crate::events::{Events, Severity};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Instances named in an event; of more it is said how many.
const NAMED: usize = 5;
/// Different events that may wait; further ones are lost.
const WAITING: usize = 1_000;

/// An app, the kind of event, and what its instances do.
type Deed = (Arc<str>, &'static str, String);

/// What waits to be told.
#[derive(Debug, Default)]
pub(super) struct Story {
    /// Instances by app, event and what they do.
    instances: BTreeMap<Deed, Vec<Arc<str>>>,
    callers: Vec<Happened>,
}

/// The subject of an app's events.
pub fn subject(app: &str) -> String {
    format!("app {app}")
}

impl Story {
    /// Something is so of an instance since now.
    pub(super) fn instance(&mut self, app: &Arc<str>, what: &'static str, does: String, instance: &Arc<str>) {
        let key = (app.clone(), what, does);
        if self.instances.len() < WAITING || self.instances.contains_key(&key) {
            self.instances.entry(key).or_default().push(instance.clone());
        }
    }

    /// Callers begin and end.
    pub(super) fn callers(&mut self, happened: Vec<Happened>) {
        let room = WAITING.saturating_sub(self.callers.len());
        self.callers.extend(happened.into_iter().take(room));
    }

    /// Tells what waits.
    pub(super) fn tell(&mut self, events: &Events) {
        for ((app, what, does), ids) in std::mem::take(&mut self.instances) {
            events.info(what, subject(&app), format!("{}: {does}", names(&ids)));
        }
        for happened in self.callers.drain(..) {
            let (severity, what, app, message) = caller(happened);
            events.tell(severity, what, subject(&app), message);
        }
    }

    /// Whether something waits.
    pub(super) fn waits(&self) -> bool {
        !self.instances.is_empty() || !self.callers.is_empty()
    }
}

fn caller(happened: Happened) -> (Severity, &'static str, Arc<str>, String) {
    match happened {
        Happened::Began { app, caller, encrypted: true } => {
            let message = format!("first request of {caller} over TLS");
            (Severity::Info, "encryptedBegan", app, message)
        }
        Happened::Began { app, caller, encrypted: false } => {
            let message = format!("{caller} comes in plaintext");
            (Severity::Info, "plaintextBegan", app, message)
        }
        Happened::Ended { app, caller } => {
            let message = format!("{caller} has sent nothing in plaintext for a minute");
            (Severity::Info, "plaintextEnded", app, message)
        }
    }
}

/// `pay-1, pay-2`; `pay-1, pay-2, pay-3, pay-4, pay-5 and 95 more`.
fn names(ids: &[Arc<str>]) -> String {
    let named: Vec<&str> = ids.iter().take(NAMED).map(|id| &**id).collect();
    match ids.len() {
        n if n > NAMED => format!("{} and {} more", named.join(", "), n - NAMED),
        _ => named.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_instances_some_are_named() {
        let ids = |n: usize| (0..n).map(|i| format!("p-{i}").into()).collect::<Vec<Arc<str>>>();
        assert_eq!(names(&ids(2)), "p-0, p-1");
        assert_eq!(names(&ids(7)), "p-0, p-1, p-2, p-3, p-4 and 2 more");
    }
}
