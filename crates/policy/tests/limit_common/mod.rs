//! Rules out of YAML, requests, and workers for tests of limits.
#![allow(dead_code, unreachable_pub)]
pub mod app;
use raddle_core::Time;
use raddle_model::{LoadOptions, Side, Source, load};
use raddle_policy::Asked;
use raddle_policy::limit::{Held, Local, Rules, Ticket, Verdict};
use std::sync::Arc;
use std::time::Duration;

/// Rules of these documents (kind, name, spec), after others.
pub fn rules(documents: &[(&str, &str, &str)], prev: Option<&Rules>) -> Arc<Rules> {
    let text: Vec<String> = documents
        .iter()
        .map(|(kind, name, spec)| {
            format!("apiVersion: raddle.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
        })
        .collect();
    let source = Source { name: "rules.yaml".into(), text: text.join("---\n") };
    let (res, _) = load(&[source], LoadOptions::rules_only()).unwrap_or_else(|report| panic!("{report}"));
    let (rates, breakers): (Vec<_>, Vec<_>) = (res.rates.iter().collect(), res.breakers.iter().collect());
    Arc::new(Rules::new(res.adaptive.first(), &rates, &breakers, prev))
}

/// Rate limits (name, spec).
pub fn limits(specs: &[(&str, &str)], prev: Option<&Rules>) -> Arc<Rules> {
    let documents: Vec<_> = specs.iter().map(|(name, spec)| ("RateLimit", *name, *spec)).collect();
    rules(&documents, prev)
}

/// A worker that follows these rules.
pub fn worker(rules: &Arc<Rules>) -> Local {
    crew(rules, 1).remove(0)
}

/// So many workers.
pub fn crew(rules: &Arc<Rules>, n: usize) -> Vec<Local> {
    let worker = |i| {
        let mut local = Local::new(i, n);
        local.sync(rules);
        local
    };
    (0..n).map(worker).collect()
}

pub fn request(service: &str, method: &str, headers: &[(&str, &str)]) -> Asked {
    let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Asked { service: service.into(), method: Some(method.into()), headers, ..Asked::default() }
}

pub fn at(seconds: f64) -> Time {
    Time::from_nanos((seconds * 1e9) as u64)
}

/// What a request that passed got.
#[derive(Debug)]
pub struct Passed {
    pub ticket: Ticket,
    pub wait: Duration,
    pub ask: bool,
    pub observed: Option<Held>,
}

/// Judges a request of the inbound side that can wait.
pub fn judge(local: &mut Local, req: &Asked, now: Time) -> Result<Passed, Held> {
    match local.judge(Side::Inbound, req, now, true) {
        Verdict::Pass { ticket, wait, ask, observed } => Ok(Passed { ticket, wait, ask, observed }),
        Verdict::Refuse(held) => Err(held),
    }
}

/// The same for one that ends at once.
pub fn passes(local: &mut Local, req: &Asked, now: Time) -> bool {
    judge(local, req, now).map(|p| local.done(p.ticket, now)).is_ok()
}
