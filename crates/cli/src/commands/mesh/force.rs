//! `raddle apply --force`: says `force: true` in the link encryption that is sent.
use raddle_model::{Document, LoadOptions, Source};
use serde_json::Value;

/// The sources with `spec.force: true` in every `LinkEncryption`, and the names of those. Lines stay where they are, for
/// what the control plane says of them. Sources with mistakes are left alone: they are refused as they are.
pub(super) fn force(sources: Vec<Source>) -> (Vec<Source>, Vec<String>) {
    let mut forced = Vec::new();
    let sources = sources.into_iter().map(|source| {
        let sound = raddle_model::load(std::slice::from_ref(&source), LoadOptions::rules_only()).is_ok();
        if sound { forced_in(source, &mut forced) } else { source }
    });
    (sources.collect(), forced)
}

fn forced_in(source: Source, forced: &mut Vec<String>) -> Source {
    let documents = raddle_model::documents(&source);
    if !documents.iter().any(|d| d.kind == "LinkEncryption") {
        return source;
    }
    let lines: Vec<&str> = source.text.lines().collect();
    let mut text = String::new();
    let mut at = 1;
    for (i, document) in documents.iter().enumerate() {
        let first = document.line as usize;
        let end = documents.get(i + 1).map_or(lines.len() + 1, |next| next.line as usize);
        // What stands before the first document, or between two: comments, and the line that divides them.
        let before = at.min(first);
        for line in &lines[(before - 1).min(lines.len())..(first - 1).min(lines.len())] {
            text.push_str(line);
            text.push('\n');
        }
        let body = &lines[(first - 1).min(lines.len())..(end - 1).min(lines.len())];
        let divider = body.iter().rposition(|l| l.trim_end() == "---").unwrap_or(body.len());
        match with_force(document) {
            Some(json) => {
                forced.push(format!("LinkEncryption/{}", document.name));
                text.push_str(&json);
                text.push_str(&"\n".repeat(divider.max(1)));
            }
            None => body[..divider].iter().for_each(|line| {
                text.push_str(line);
                text.push('\n');
            }),
        }
        at = first + divider;
    }
    for line in lines.iter().skip(at - 1) {
        text.push_str(line);
        text.push('\n');
    }
    Source { text, ..source }
}

fn with_force(document: &Document) -> Option<String> {
    if document.kind != "LinkEncryption" {
        return None;
    }
    let mut value: Value = serde_json::from_str(&document.json).ok()?;
    value.get_mut("spec")?.as_object_mut()?.insert("force".into(), Value::Bool(true));
    Some(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# of the payment team
apiVersion: raddle.io/v1
kind: LinkEncryption
metadata: {name: pay}
spec:
  mode: strict
  scope: {apps: [pay]}
---
apiVersion: raddle.io/v1
kind: TrafficPolicy
metadata: {name: calm}
spec:
  to: {app: pay}
---
apiVersion: raddle.io/v1
kind: LinkEncryption
metadata: {name: order}
spec: {mode: strict}
";

    fn source(text: &str) -> Source {
        Source { name: "pay.yaml".into(), text: text.into() }
    }

    #[test]
    fn link_encryption_is_forced_and_all_else_stays_where_it_is() {
        let (sources, forced) = force(vec![source(TEXT)]);
        assert_eq!(forced, ["LinkEncryption/pay", "LinkEncryption/order"]);
        let (resources, _) = raddle_model::load(&sources, LoadOptions::rules_only()).expect("sound");
        assert!(resources.encryption.iter().all(|l| l.settings.force), "{}", sources[0].text);
        let lines =
            |s: &Source| raddle_model::documents(s).into_iter().map(|d| (d.name, d.line)).collect::<Vec<_>>();
        assert_eq!(lines(&sources[0]), lines(&source(TEXT)), "{}", sources[0].text);
        assert_eq!(resources.policies.len(), 1);
    }

    #[test]
    fn what_has_mistakes_or_nothing_to_force_is_sent_as_it_is() {
        let wrong = TEXT.replace("mode: strict\n", "mode: stern\n");
        let other =
            "apiVersion: raddle.io/v1\nkind: TrafficPolicy\nmetadata: {name: a}\nspec: {to: {app: pay}}\n";
        for text in [wrong.as_str(), other] {
            let (sources, forced) = force(vec![source(text)]);
            assert!(forced.is_empty());
            assert_eq!(sources[0].text, text);
        }
    }
}
