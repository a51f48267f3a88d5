//! Whether two rules say the same: what did not change is not compiled again.
use crate::route::program::same_matcher;
use raddle_model::{AuthClause, AuthCondition, Authorization};

pub(super) fn rule(a: &Authorization, b: &Authorization) -> bool {
    a.metadata.name == b.metadata.name
        && a.action == b.action
        && a.mode == b.mode
        && a.explain == b.explain
        && a.rules.len() == b.rules.len()
        && a.rules.iter().zip(&b.rules).all(|(a, b)| clause(a, b))
}

fn clause(a: &AuthClause, b: &AuthClause) -> bool {
    a.name == b.name
        && a.when.len() == b.when.len()
        && a.when.iter().zip(&b.when).all(|(a, b)| condition(a, b))
}

fn condition(a: &AuthCondition, b: &AuthCondition) -> bool {
    use AuthCondition::{Source, Text};
    match (a, b) {
        (Text { subject, matcher }, Text { subject: other, matcher: with }) => {
            subject == other && same_matcher(matcher, with)
        }
        (Source { blocks, inside }, Source { blocks: other, inside: side }) => {
            blocks == other && inside == side
        }
        _ => false,
    }
}
