//! Conditions that no request fulfils, because methods and paths are not written so.
use super::place;
use crate::decode::{At, Cx, quote};
use crate::resources::{AuthCondition, AuthSubject, Condition, Matcher, Metadata, Resources, Subject};

pub(super) fn all(resources: &Resources, cx: &mut Cx) {
    let spec = At::ROOT.field("spec");
    for route in &resources.routes {
        let rules = spec.field("rules");
        for (i, rule) in route.rules.iter().enumerate() {
            plain(&rule.when, &route.metadata, &rules.item(i), cx);
        }
    }
    for rule in &resources.adaptive {
        let list = spec.field("priorities");
        for (i, priority) in rule.settings.priorities.iter().enumerate() {
            plain(&priority.when, &rule.metadata, &list.item(i), cx);
        }
    }
    for rule in &resources.rates {
        plain(&rule.when, &rule.metadata, &spec, cx);
    }
    for rule in &resources.breakers {
        plain(&rule.when, &rule.metadata, &spec, cx);
    }
    for rule in &resources.authorization {
        let rules = spec.field("rules");
        for (i, clause) in rule.rules.iter().enumerate() {
            for condition in &clause.when {
                let AuthCondition::Text { subject, matcher } = condition else { continue };
                let subject = match subject {
                    AuthSubject::Method => &Subject::Method,
                    AuthSubject::Path => &Subject::Path,
                    _ => continue,
                };
                one(subject, matcher, &rule.metadata, &rules.item(i), cx);
            }
        }
    }
}

fn plain(when: &[Condition], rule: &Metadata, at: &At<'_>, cx: &mut Cx) {
    for condition in when {
        one(&condition.subject, &condition.matcher, rule, at, cx);
    }
}

fn one(subject: &Subject, matcher: &Matcher, rule: &Metadata, at: &At<'_>, cx: &mut Cx) {
    type Odd = fn(&str, bool) -> Option<String>;
    let (field, odd): (_, Odd) = match subject {
        Subject::Method => ("method", method),
        Subject::Path => ("path", path),
        _ => return,
    };
    let (texts, prefix) = match matcher {
        Matcher::Equals(text) | Matcher::NotEquals(text) => (std::slice::from_ref(text), false),
        Matcher::Prefix(text) => (std::slice::from_ref(text), true),
        Matcher::In(texts) | Matcher::NotIn(texts) => (&texts[..], false),
        Matcher::Regex(_) | Matcher::Range { .. } | Matcher::Exists(_) => return,
    };
    let Some((text, remedy)) = texts.iter().find_map(|t| Some((t, odd(t, prefix)?))) else { return };
    let when = at.field("when");
    let mut finding = place(rule, &when.field(field));
    let is = if prefix { "begins with" } else { "is" };
    finding.problem = format!("no request's {field} {is} {}", quote(text));
    finding.remedy = remedy;
    cx.warning_at(finding);
}

/// What is right in place of a text that is no method's name: the access log writes those of HTTP with their paths.
fn method(text: &str, prefix: bool) -> Option<String> {
    if !text.contains([' ', '/']) {
        return None;
    }
    Some(match text.split_once(' ') {
        Some((verb, path)) if path.starts_with('/') && !verb.contains('/') => {
            let path = path.split('?').next().unwrap_or(path);
            format!("for HTTP give method: {verb} and path: {}", form(path, prefix))
        }
        Some(_) => "give the method's name alone".into(),
        None => "give the method's name alone; path is a condition of its own".into(),
    })
}

/// What is right in place of a text that is no path: it begins with a slash (but for `OPTIONS *`), and has no query.
fn path(text: &str, prefix: bool) -> Option<String> {
    if text.contains("://") {
        return Some("give the path alone; authority is a condition of its own".into());
    }
    if let Some((path, _)) = text.split_once('?') {
        return Some(format!("give path: {}; query is a condition of its own", form(path, false)));
    }
    let odd = !text.is_empty() && !text.starts_with('/') && text != "*";
    odd.then(|| format!("a path begins with a slash: give path: {}", form(&format!("/{text}"), prefix)))
}

fn form(text: &str, prefix: bool) -> String {
    let short: String = text.chars().filter(|c| !c.is_control()).take(60).collect();
    if prefix { format!("{{prefix: {short}}}") } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_with_their_paths_are_told_apart_and_names_are_left_alone() {
        let right = |text, prefix| method(text, prefix).unwrap_or_default();
        assert_eq!(right("GET /m/42", false), "for HTTP give method: GET and path: /m/42");
        assert_eq!(right("GET /m/?a=b", true), "for HTTP give method: GET and path: {prefix: /m/}");
        assert!(right("shop.Order/list", false).starts_with("give the method's name alone; path"));
        assert_eq!(right("GET ", true), "give the method's name alone");
        for name in ["GET", "query", "transferIn~v2", "$invoke", ""] {
            assert_eq!(method(name, false), None, "{name}");
        }
    }

    #[test]
    fn paths_begin_with_a_slash_and_have_no_query() {
        let right = |text, prefix| path(text, prefix).unwrap_or_default();
        assert_eq!(right("orders", true), "a path begins with a slash: give path: {prefix: /orders}");
        assert_eq!(right("/a?b=c", false), "give path: /a; query is a condition of its own");
        assert!(right("http://shop/a", false).contains("authority"));
        for fine in ["/", "/a", "*", "", "/a b"] {
            assert_eq!(path(fine, false), None, "{fine}");
        }
    }
}
