//! Whether `strict` may be applied: not while callers are known that come in plaintext, unless it is forced.
//!
//! This is the first of two guards: a sidecar itself carries `strict` out only when it has seen no plaintext caller for
//! a while.
use super::admit::States;
use super::{Callers, PlaintextCaller, RuleError};
use raddle_model::{Document, LinkEncryption, LinkMode, LoadOptions, Mistake, Source};
use std::sync::Arc;

/// Callers named in a refusal.
const NAMED: usize = 10;
/// Addresses named of each.
const ADDRESSES: usize = 3;

/// Refuses documents that would shut callers out, or warns of them where nothing is applied.
///
/// # Errors
/// [`RuleError::Plaintext`], naming them.
pub(super) fn check(
    documents: &[(Arc<str>, Document)],
    states: &States,
    callers: Option<&dyn Callers>,
    dry_run: bool,
    now: u64,
) -> Result<Vec<Mistake>, RuleError> {
    let Some(callers) = callers else { return Ok(Vec::new()) };
    let mut warnings = Vec::new();
    for (id, document) in documents.iter().filter(|(id, _)| id.starts_with("LinkEncryption/")) {
        let Some(link) = link(&document.json).filter(demands) else { continue };
        let stable = states.get(id).and_then(|s| s.stable.as_ref()?.document.as_deref());
        // Whom it shuts out is shut out already.
        if stable.and_then(self::link).is_some_and(|old| demands(&old)) {
            continue;
        }
        let found = callers.plaintext(&link.scope, link.settings.quiet);
        if found.is_empty() {
            continue;
        }
        let words = sentence(id, &found, now);
        if !dry_run {
            return Err(RuleError::Plaintext(words));
        }
        warnings.push(Mistake {
            file: String::new(),
            line: document.line,
            column: 1,
            path: "spec.mode".into(),
            problem: words,
            remedy: String::new(),
        });
    }
    Ok(warnings)
}

/// Whether it asks for `strict` somewhere, and does not force it.
fn demands(link: &LinkEncryption) -> bool {
    let s = &link.settings;
    !s.force && (s.mode == LinkMode::Strict || s.ports.iter().any(|p| p.mode == LinkMode::Strict))
}

fn link(json: &str) -> Option<LinkEncryption> {
    let source = Source { name: String::new(), text: json.to_owned() };
    raddle_model::load(&[source], LoadOptions::rules_only()).ok()?.0.encryption.pop()
}

/// Who, how much, when; and the two ways out.
fn sentence(id: &str, found: &[PlaintextCaller], now: u64) -> String {
    let mut out = format!("{id}: strict would shut out who still comes in plaintext:");
    for caller in found.iter().take(NAMED) {
        let who = if caller.caller.is_empty() { "an unknown caller" } else { &*caller.caller };
        let mut addresses: Vec<&str> = caller.addresses.iter().take(ADDRESSES).map(String::as_str).collect();
        if caller.addresses.len() > ADDRESSES {
            addresses.push("...");
        }
        let from =
            if addresses.is_empty() { String::new() } else { format!(" from {}", addresses.join(", ")) };
        let ago = now.saturating_sub(caller.last) / 1000;
        let share = caller.share * 100.0;
        out.push_str(&format!(
            "\n  {who}{from} calls {}: {share:.1} % of its requests, last seen {ago} s ago",
            caller.app
        ));
    }
    if found.len() > NAMED {
        out.push_str(&format!("\n  and {} more", found.len() - NAMED));
    }
    out.push_str(
        "\nWait until they have switched (raddle status encryption APP names them), or apply it with --force to refuse \
         them at once.",
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use raddle_model::Scope;
    use std::time::Duration;

    struct Risk;

    impl Callers for Risk {
        fn plaintext(&self, scope: &Scope, within: Duration) -> Vec<PlaintextCaller> {
            assert_eq!((scope.apps.len(), within), (1, Duration::from_secs(30)));
            vec![PlaintextCaller {
                app: "pay".into(),
                caller: "risk".into(),
                addresses: vec!["10.0.0.7".into()],
                share: 0.125,
                last: 4_000,
            }]
        }
    }

    fn document(spec: &str) -> (Arc<str>, Document) {
        let text = format!(
            "apiVersion: raddle.io/v1\nkind: LinkEncryption\nmetadata: {{name: pay}}\nspec: \
             {{scope: {{apps: [pay]}}, quiet: 30s, {spec}}}\n"
        );
        let source = Source { name: "pay.yaml".into(), text };
        let document = raddle_model::documents(&source).into_iter().next().expect("one");
        ("LinkEncryption/pay".into(), document)
    }

    fn judged(spec: &str, dry_run: bool) -> Result<Vec<Mistake>, RuleError> {
        check(&[document(spec)], &States::default(), Some(&Risk), dry_run, 9_000)
    }

    #[test]
    fn strict_is_refused_while_callers_come_in_plaintext_and_they_are_named() {
        let refused = judged("mode: strict", false).expect_err("refused").to_string();
        for part in ["risk from 10.0.0.7 calls pay: 12.5 %", "5 s ago", "--force", "Wait"] {
            assert!(refused.contains(part), "{part}: {refused}");
        }
        assert!(judged("mode: permissive, ports: [{port: 1, mode: strict}]", false).is_err());
    }

    #[test]
    fn what_shuts_nobody_out_or_is_forced_passes() {
        assert!(judged("mode: permissive", false).expect("fine").is_empty());
        assert!(judged("mode: strict, force: true", false).expect("forced").is_empty());
    }

    #[test]
    fn trying_it_out_warns_only() {
        let warned = judged("mode: strict", true).expect("a warning");
        assert!(warned[0].problem.contains("risk"), "{warned:?}");
    }
}
