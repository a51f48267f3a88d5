//! What happened, and who did what.
use super::audit::{self, AuditAnswer};
use super::auth::Role;
use super::http::shape::{Page, answers};
use super::http::{Call, ParamKind, Problem, Reply, Route};
use super::page::newest_first;
use crate::events::{Event, Severity, read};
use crate::keys::{AUDIT, EVENTS};

const SEVERITIES: &[&str] = &["info", "warning", "error"];

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/events", "listEvents")
            .says("What happened, the newest first.")
            .query(
                "since",
                ParamKind::Whole(0, u32::MAX as u64, None),
                "Only those of the last so many seconds.",
            )
            .query("subject", ParamKind::Text, "Only those about this, as `Route/checkout`.")
            .query("severity", ParamKind::Word(SEVERITIES), "Only those that matter so much or more.")
            .paged()
            .answers::<Page<EventAnswer>>(200, "The newest first.")
            .on(events),
        Route::get("/v1/audit", "listAudit")
            .role(Some(Role::Admin))
            .says("Who changed what, the newest first.")
            .query(
                "since",
                ParamKind::Whole(0, u32::MAX as u64, None),
                "Only those of the last so many seconds.",
            )
            .query("who", ParamKind::Text, "Only those by this token's name.")
            .paged()
            .answers::<Page<AuditAnswer>>(200, "The newest first.")
            .on(audit),
    ]
}

answers! {
    /// Something that happened.
    pub struct EventAnswer {
        /// Sorts by time.
        pub id: String,
        /// Milliseconds since the Unix epoch.
        pub at: u64,
        /// `info`, `warning` or `error`.
        pub severity: String,
        /// What, as a word.
        pub what: String,
        /// What it happened to.
        pub subject: String,
        /// A sentence.
        pub message: String,
        /// The replica that saw it.
        pub replica: String,
    }
}

impl EventAnswer {
    pub(super) fn new(id: String, event: Event) -> EventAnswer {
        let Event { at, severity, what, subject, message, replica } = event;
        EventAnswer { id, at, severity: word(severity).to_owned(), what, subject, message, replica }
    }
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

async fn events(call: Call) -> Result<Reply, Problem> {
    let subject = call.query.text("subject");
    let least =
        call.query.text("severity").and_then(|s| SEVERITIES.iter().position(|w| *w == s)).unwrap_or(0);
    let page = newest_first(
        &call,
        EVENTS,
        |entry| read(entry).map(|(id, event)| (id.clone(), EventAnswer::new(id, event))),
        |e| {
            subject.is_none_or(|s| e.subject == s)
                && SEVERITIES.iter().position(|w| *w == e.severity).unwrap_or(0) >= least
        },
    );
    Reply::json(&page.await?)
}

async fn audit(call: Call) -> Result<Reply, Problem> {
    let who = call.query.text("who");
    let page = newest_first(&call, AUDIT, audit::read, |e| who.is_none_or(|who| e.who == who));
    Reply::json(&page.await?)
}
