//! What happened lately, for people: a bounded list that repeats cannot flood.
//!
//! For things that happen now and then (a configuration applied, an endpoint ejected, a full disk), not
//! for requests: recording takes a lock. Each new event is also a line in the process log.
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// How many events are kept unless told otherwise.
pub const DEFAULT_CAPACITY: usize = 512;
/// Events of the same kind and subject within this time are one event, counted.
const REPEAT_WINDOW_NS: u64 = 1_000_000_000;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Something is worse than it should be; the process copes.
    Warning,
    /// Something does not work until somebody acts.
    Error,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Its number: grows by one with each event kept.
    pub seq: u64,
    /// Nanoseconds since the Unix epoch.
    pub time: u64,
    /// What kind of thing, e.g. `config_applied`.
    pub kind: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What it happened to: a service, an endpoint, a file.
    pub subject: String,
    /// A sentence.
    pub message: String,
    /// Details by name.
    #[serde(serialize_with = "as_map")]
    pub fields: Vec<(&'static str, String)>,
    /// How often the same happened again within a second.
    pub repeats: u32,
}

fn as_map<S: serde::Serializer>(fields: &[(&'static str, String)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(fields.iter().map(|(k, v)| (k, v)))
}

impl Event {
    /// An event to be recorded.
    pub fn new(
        kind: &'static str,
        severity: Severity,
        subject: impl Into<String>,
        message: impl Into<String>,
    ) -> Event {
        let (subject, message) = (subject.into(), message.into());
        Event { seq: 0, time: 0, kind, severity, subject, message, fields: Vec::new(), repeats: 0 }
    }

    /// The event with one more detail.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Event {
        self.fields.push((name, value.to_string()));
        self
    }
}

/// The last events of a process. Cloning gives another handle to the same list.
#[derive(Clone, Debug)]
pub struct Events(Arc<Mutex<Ring>>);

#[derive(Debug)]
struct Ring {
    capacity: usize,
    next: u64,
    kept: VecDeque<Event>,
}

impl Default for Events {
    fn default() -> Events {
        Events::new(DEFAULT_CAPACITY)
    }
}

impl Events {
    /// A list of at most `capacity` events, at least one; the oldest go first.
    pub fn new(capacity: usize) -> Events {
        Events(Arc::new(Mutex::new(Ring { capacity: capacity.max(1), next: 1, kept: VecDeque::new() })))
    }

    /// Records an event that happens now.
    pub fn record(&self, event: Event) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.record_at(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), event);
    }

    /// Records an event that happens at `time`, in nanoseconds since the Unix epoch.
    pub fn record_at(&self, time: u64, event: Event) {
        // Not under the lock: standard error may be slow.
        if let Some(event) = self.keep(time, event) {
            log(&event);
        }
    }

    /// Keeps the event and gives a copy of it back, or counts it as a repeat.
    fn keep(&self, time: u64, event: Event) -> Option<Event> {
        let mut ring = self.ring();
        let (kind, subject) = (event.kind, event.subject.as_str());
        let recent =
            ring.kept.iter_mut().rev().take_while(|e| time.saturating_sub(e.time) < REPEAT_WINDOW_NS);
        if let Some(same) = recent.into_iter().find(|e| e.kind == kind && e.subject == subject) {
            same.repeats = same.repeats.saturating_add(1);
            return None;
        }
        if ring.kept.len() == ring.capacity {
            ring.kept.pop_front();
        }
        let event = Event { seq: ring.next, time, ..event };
        ring.next += 1;
        ring.kept.push_back(event.clone());
        Some(event)
    }

    /// The events kept whose number is over `since`, oldest first; 0 lists all.
    pub fn list(&self, since: u64) -> Vec<Event> {
        let ring = self.ring();
        let start = ring.kept.partition_point(|e| e.seq <= since);
        ring.kept.range(start..).cloned().collect()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log(event: &Event) {
    let Event { kind, subject, message, fields, .. } = event;
    let details = fields.iter().fold(String::new(), |text, (k, v)| text + &format!(" {k}={v:?}"));
    match event.severity {
        Severity::Info => tracing::info!(kind, subject, "{message}{details}"),
        Severity::Warning => tracing::warn!(kind, subject, "{message}{details}"),
        Severity::Error => tracing::error!(kind, subject, "{message}{details}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn event(kind: &'static str, subject: &str) -> Event {
        Event::new(kind, Severity::Info, subject, "it happened")
    }

    #[test]
    fn the_oldest_go_first_and_numbers_never_repeat() {
        let events = Events::new(3);
        for i in 0..5 {
            events.record_at(i * 2 * SECOND, event("kind", "subject"));
        }
        let seqs: Vec<_> = events.list(0).iter().map(|e| e.seq).collect();
        assert_eq!(seqs, [3, 4, 5]);
        assert_eq!(events.list(4).len(), 1);
        assert!(events.list(5).is_empty());
    }

    #[test]
    fn repeats_within_a_second_are_counted_and_not_listed() {
        let events = Events::default();
        for i in 0..10 {
            events.record_at(i * SECOND / 10, event("ejected", "10.0.0.1"));
            events.record_at(i * SECOND / 10, event("ejected", "10.0.0.2"));
        }
        events.record_at(SECOND, event("ejected", "10.0.0.1"));
        let list = events.list(0);
        assert_eq!(list.iter().map(|e| e.repeats).collect::<Vec<_>>(), [9, 9, 0]);
    }

    #[test]
    fn details_are_one_json_object() {
        let events = Events::default();
        events.record_at(7, event("k", "s").with("port", 80));
        let json = serde_json::to_value(events.list(0)).expect("serialises");
        assert_eq!(json[0]["fields"]["port"], "80");
        assert_eq!(json[0]["severity"], "info");
    }
}
