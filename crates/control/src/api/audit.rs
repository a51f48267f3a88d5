//! Who changed what: every write is noted before it is done, and how it ended after.
//!
//! A write whose note cannot be kept is not done. One whose end is not noted stays `begun` in the audit: the control
//! plane died meanwhile, and it may or may not have been done.
use super::http::Problem;
use super::http::shape::answers;
use crate::events::{key, now_ms};
use crate::keys::AUDIT;
use bytes::Bytes;
use raddle_store::{Entry, Op, Outcome, Store, Txn};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Longest text kept of a subject or message.
const LONGEST: usize = 1000;

answers! {
    /// A write.
    pub struct AuditAnswer {
        /// Sorts by time.
        pub id: String,
        /// Milliseconds since the Unix epoch.
        pub at: u64,
        /// Name of the token that was shown.
        pub who: String,
        /// From where: the peer's address.
        pub from: String,
        /// What: the operation's id.
        pub action: String,
        /// To what: path and query of the request.
        pub subject: String,
        /// `begun`, `done` or `refused`.
        pub result: String,
        /// HTTP status; 0 = it has not ended.
        pub status: u16,
        /// What was done, or why it was refused.
        pub message: String,
    }
}

/// A note of a write that has begun.
pub(crate) struct Note {
    key: Arc<str>,
    entry: AuditAnswer,
}

/// Numbers notes of the same millisecond.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Notes that a write begins.
///
/// # Errors
/// When the note cannot be kept: the write must not be done.
pub(crate) async fn begin(store: &dyn Store, replica: &str, mut entry: AuditAnswer) -> Result<Note, Problem> {
    entry.at = now_ms();
    entry.result = "begun".into();
    entry.subject = short(&entry.subject);
    let key: Arc<str> = key(AUDIT, entry.at, replica, NUMBER.fetch_add(1, Ordering::Relaxed)).into();
    let note = Note { key, entry };
    keep(store, &note).await?;
    Ok(note)
}

/// Notes how it ended.
pub(crate) async fn end(store: &dyn Store, mut note: Note, status: u16, message: &str) {
    note.entry.status = status;
    note.entry.result = if status < 400 { "done" } else { "refused" }.into();
    note.entry.message = short(message);
    if let Err(problem) = keep(store, &note).await {
        tracing::warn!("the end of {} cannot be noted: {}", note.entry.action, problem.message);
    }
}

async fn keep(store: &dyn Store, note: &Note) -> Result<(), Problem> {
    let value = Bytes::from(serde_json::to_vec(&note.entry).unwrap_or_default());
    let op = Op::Put { key: note.key.clone(), value, lease: None };
    match store.commit(Txn { expect: Vec::new(), ops: vec![op], relaxed: false }).await? {
        Outcome::Done(_) => Ok(()),
        Outcome::Conflict(..) => Err(Problem::unavailable("the audit cannot be written")),
    }
}

/// A note as it is listed.
pub(crate) fn read(entry: &Entry) -> Option<(String, AuditAnswer)> {
    let id = entry.key.strip_prefix(AUDIT)?.to_owned();
    let mut note: AuditAnswer = serde_json::from_slice(&entry.value).ok()?;
    note.id.clone_from(&id);
    Some((id, note))
}

fn short(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}
