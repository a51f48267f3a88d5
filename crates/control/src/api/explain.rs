//! Why: which revision of which rule reaches a sidecar, and who serves and misses a service.
use super::http::shape::{Page, answers};
use super::http::{Call, ParamKind, Problem, Reply, Route};
use super::mesh::no_service;
use super::page::{after, page};
use super::sidecars::{self, SidecarAnswer};
use crate::rules::{RuleBook, RuleEntry};
use raddle_xds::proto::Node;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/explain/rules/{kind}/{name}", "explainRule")
            .says("Which sidecars get which revision of a rule, and why.")
            .query("sidecar", ParamKind::Text, "Only this one.")
            .paged()
            .answers::<Page<ReasonAnswer>>(200, "By sidecar.")
            .on(rule),
        Route::get("/v1/explain/sidecars/{id}", "explainSidecar")
            .says("Which rules reach a sidecar, and why.")
            .paged()
            .answers::<Page<ReasonAnswer>>(200, "By rule.")
            .on(sidecar),
        Route::get("/v1/explain/services/{name}", "explainService")
            .says("Who serves a service, which rules concern it, and who asked for it and found nobody.")
            .answers::<ServiceReasons>(200, "The service.")
            .on(service),
    ]
}

answers! {
    /// Why a sidecar runs what it runs of a rule.
    pub struct ReasonAnswer {
        /// Instance id.
        pub sidecar: String,
        /// `KIND/NAME`.
        pub rule: String,
        /// Hash of the revision it should run; null = none.
        pub wanted: Option<String>,
        /// Hash of the revision it says it runs; null = none.
        pub running: Option<String>,
        /// Why that one.
        pub why: String,
        /// Why it refused it last; null = it did not.
        pub refusal: Option<String>,
    }

    /// A service, and what is said of it.
    pub struct ServiceReasons {
        /// Its name.
        pub service: String,
        /// The app that publishes it.
        pub app: String,
        /// How many endpoints it has.
        pub endpoints: u64,
        /// Rules whose target it is.
        pub rules: Vec<String>,
        /// Sidecars that asked for it and found nobody.
        pub missed_by: Vec<String>,
        /// What somebody should look at.
        pub warnings: Vec<String>,
    }
}

fn node(s: &SidecarAnswer) -> Node {
    Node {
        id: s.id.clone(),
        app: s.app.clone(),
        unit: s.unit.clone(),
        group: s.group.clone(),
        version: s.version.clone(),
        address: s.address.clone(),
        ..Node::default()
    }
}

fn reason(book: &RuleBook, entry: &RuleEntry, sidecar: &SidecarAnswer) -> ReasonAnswer {
    let wanted = book.select(entry, &node(sidecar)).map(|r| r.hash.to_string());
    let running = sidecar.running.iter().find(|r| *r.rule == *entry.id).map(|r| r.revision.clone());
    let hash =
        |r: &Option<std::sync::Arc<crate::rules::RuleRevision>>| r.as_ref().map(|r| r.hash.to_string());
    let (stable, candidate) = (hash(&entry.stable), entry.candidate.as_ref().map(|(r, c)| (hash(r), c)));
    let why = match (&wanted, &candidate) {
        (None, None) => "outside its scope".to_owned(),
        (Some(_), None) => "in its scope; everyone there has this revision".to_owned(),
        (wanted, Some((new, cohort))) => {
            let percent = f64::from(cohort.ppm) / 10_000.0;
            if wanted == new && wanted != &stable {
                format!("in its scope, and among the {percent} % that have the change")
            } else if wanted.is_some() {
                format!("in its scope, and not among the {percent} % that have the change")
            } else {
                format!(
                    "outside its scope, or of the part that has nothing while {percent} % have the change"
                )
            }
        }
    };
    let refused = sidecar.refused.iter().find(|r| *r.name == *entry.id);
    ReasonAnswer {
        sidecar: sidecar.id.clone(),
        rule: entry.id.to_string(),
        wanted,
        running,
        why,
        refusal: refused.map(|r| r.reason.clone()),
    }
}

async fn rule(call: Call) -> Result<Reply, Problem> {
    let id = call.rule_id();
    let book = call.state.parts.book.borrow().clone();
    let entry =
        book.rules.get(id.as_str()).ok_or_else(|| Problem::not_found(format!("there is no rule {id}")))?;
    if let Some(one) = call.query.text("sidecar") {
        let found = sidecars::find(&call, one).await?;
        return Reply::json(&Page { items: vec![reason(&book, entry, &found)], next: None });
    }
    let after = after(&call);
    let all = sidecars::all(&call).await?;
    let found = all.values().filter(|s| s.id > after && s.software == "raddle");
    Reply::json(&page(&call, found.map(|s| (s.id.clone(), reason(&book, entry, s)))))
}

async fn sidecar(call: Call) -> Result<Reply, Problem> {
    let found = sidecars::find(&call, call.param("id")).await?;
    let book = call.state.parts.book.borrow().clone();
    let after = after(&call);
    let rules = book.rules.values().filter(|r| *r.id > *after);
    Reply::json(&page(&call, rules.map(|r| (r.id.to_string(), reason(&book, r, &found)))))
}

async fn service(call: Call) -> Result<Reply, Problem> {
    let name = call.param("name").to_owned();
    let directory = call.state.parts.directory.borrow().clone();
    let book = call.state.parts.book.borrow().clone();
    let all = sidecars::all(&call).await?;
    let missed_by: Vec<String> =
        all.values().filter(|s| s.missing.contains(&name)).map(|s| s.id.clone()).collect();
    let listed = directory.services.get(name.as_str());
    if listed.is_none() && missed_by.is_empty() {
        return Err(no_service(&name));
    }
    let app = listed.map(|l| l.app.to_string()).unwrap_or_default();
    let concerns = |r: &&std::sync::Arc<RuleEntry>| {
        let revision = r.stable.as_ref().or_else(|| r.candidate.as_ref()?.0.as_ref());
        revision.and_then(|r| r.target.as_ref()).is_some_and(|t| t.covers(&name, &app))
    };
    let rules = book.rules.values().filter(concerns).map(|r| r.id.to_string()).collect();
    let mut warnings = Vec::new();
    match listed {
        None => warnings.push("nobody publishes it".to_owned()),
        Some(l) if l.endpoints.is_empty() => warnings.push("no instance serves it".to_owned()),
        Some(l) if l.protected => {
            warnings.push("held by self-protection: some of its endpoints have vanished".to_owned());
        }
        Some(_) => {}
    }
    let endpoints = listed.map_or(0, |l| l.endpoints.len() as u64);
    Reply::json(&ServiceReasons { service: name, app, endpoints, rules, missed_by, warnings })
}
