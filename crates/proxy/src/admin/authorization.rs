//! Why a request would pass or not.
use super::pages::parameters;
use super::{Context, Page};
use hyper::StatusCode;
use raddle_policy::authz::Asked;

/// What the rules in force make of a request that is only imagined.
pub(crate) fn explain(c: &Context, query: &str) -> Page {
    match Asked::from_pairs(parameters(query)) {
        Ok(asked) => Page::json(&c.shared.config.load().snapshot.authorization().explain(&asked)),
        Err(wrong) => Page::text(StatusCode::BAD_REQUEST, wrong + "\n"),
    }
}
