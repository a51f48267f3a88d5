//! Rules of authorization that say what another says already.
use super::place;
use crate::decode::{At, Cx};
use crate::resources::{AuthCondition, Authorization, Metadata};
use std::collections::HashMap;

pub(super) fn all(rules: &[Authorization], cx: &mut Cx) {
    let mut first: HashMap<String, &Metadata> = HashMap::new();
    for rule in rules {
        clauses(rule, cx);
        let scope = serde_json::to_string(&rule.scope);
        let (Ok(scope), Ok(said)) = (scope, serde_json::to_string(&rule.rules)) else { continue };
        let key = format!("{:?} {:?} {scope} {said}", rule.action, rule.mode);
        let other = *first.entry(key).or_insert(&rule.metadata);
        if !std::ptr::eq(other, &raw const rule.metadata) {
            let mut finding = place(&rule.metadata, &At::ROOT.field("spec").field("rules"));
            let origin = &other.origin;
            finding.problem = format!("{} ({}:{}) says the same", other.name, origin.file, origin.line);
            finding.remedy = "keep one of them".into();
            cx.warning_at(finding);
        }
    }
}

/// Clauses that can take no request, or none that another clause leaves.
fn clauses(rule: &Authorization, cx: &mut Cx) {
    let spec = At::ROOT.field("spec");
    let list = spec.field("rules");
    let everything = rule.rules.iter().position(|c| c.when.is_empty());
    let mut first: HashMap<String, usize> = HashMap::new();
    for (i, clause) in rule.rules.iter().enumerate() {
        let item = list.item(i);
        let mut finding = place(&rule.metadata, &item);
        if outside_of_itself(&clause.when) {
            finding.problem =
                "no address is in source and not in notSource: the clause takes no request".into();
            finding.remedy = "mend the blocks, or leave the clause out".into();
            cx.mistake_at(finding);
            continue;
        }
        let same = serde_json::to_string(&clause.when).ok().map(|said| *first.entry(said).or_insert(i));
        finding.problem = match (everything, same) {
            (Some(all), _) if all != i => {
                format!("rules[{all}] takes every request, so this clause adds nothing")
            }
            (_, Some(same)) if same != i => format!("says the same as rules[{same}]"),
            _ => continue,
        };
        finding.remedy = "leave one of them out".into();
        cx.warning_at(finding);
    }
}

/// Whether every block an address must be in lies in one it must not be in.
fn outside_of_itself(when: &[AuthCondition]) -> bool {
    let blocks = |wanted: bool| {
        when.iter().find_map(|c| match c {
            AuthCondition::Source { blocks, inside } if *inside == wanted => Some(blocks),
            _ => None,
        })
    };
    let (Some(inside), Some(outside)) = (blocks(true), blocks(false)) else { return false };
    inside.iter().all(|i| outside.iter().any(|o| o.prefix() <= i.prefix() && o.contains(i.base())))
}
