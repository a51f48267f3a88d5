//! Documents as they are kept and compared: canonical JSON, and YAML for people.
use crate::load::{LoadOptions, Source};
use crate::yaml::{self, Bounds, Node, Value};
use std::fmt::Write as _;

/// A resource's document, whoever wrote it and however it was laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// `kind`; empty = missing.
    pub kind: String,
    /// `metadata.name`; empty = missing.
    pub name: String,
    /// Canonical JSON: keys sorted, no blanks, numbers as they were written. Equal meaning but for the writing of
    /// values (`1s`, `1000ms`) gives equal text.
    pub json: String,
    /// 1-based line it begins at in its source.
    pub line: u32,
}

/// The documents of a source, in order. Those that cannot be read are left out: [`load`](crate::load()) tells of them.
pub fn documents(source: &Source) -> Vec<Document> {
    let options = LoadOptions::default();
    let mut bounds = Bounds { depth: options.max_depth, nodes: options.max_nodes };
    let mut found = Vec::new();
    for part in yaml::parts(&source.text) {
        let mut reader = yaml::Reader::new(part);
        while let Some(document) = reader.next(&mut bounds) {
            if let Ok(node) = document
                && !node.is_null()
            {
                let mut json = String::new();
                to_json(&node, &mut json);
                let name = field(&node, "metadata").and_then(|m| text_of(m, "name")).unwrap_or_default();
                let kind = text_of(&node, "kind").unwrap_or_default();
                found.push(Document { kind, name, json, line: node.spot.line });
            }
        }
    }
    found
}

/// Canonical JSON as YAML that people would write. A text that is not one JSON document is given back as it is.
pub fn to_yaml(json: &str) -> String {
    let mut bounds = Bounds { depth: 64, nodes: 1_000_000 };
    let read = yaml::parts(json).first().and_then(|part| yaml::Reader::new(*part).next(&mut bounds));
    let Some(Ok(node)) = read else { return json.to_owned() };
    let mut out = String::new();
    block(&node, 0, &mut out);
    out
}

fn field<'n, 'a>(node: &'n Node<'a>, name: &str) -> Option<&'n Node<'a>> {
    let Value::Map(entries) = &node.value else { return None };
    entries.iter().find(|(key, _)| key.text == name).map(|(_, value)| value)
}

fn text_of(node: &Node<'_>, name: &str) -> Option<String> {
    match &field(node, name)?.value {
        Value::Scalar { text, .. } => Some(text.to_string()),
        _ => None,
    }
}

fn to_json(node: &Node<'_>, out: &mut String) {
    match &node.value {
        Value::Scalar { text, plain } => {
            if *plain && node.is_null() {
                out.push_str("null");
            } else if *plain && is_bare(text) {
                out.push_str(text);
            } else {
                out.push_str(&quoted(text));
            }
        }
        Value::List(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                to_json(item, out);
            }
            out.push(']');
        }
        Value::Map(entries) => {
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_by(|a, b| a.0.text.cmp(&b.0.text));
            out.push('{');
            for (i, (key, value)) in sorted.into_iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                out.push_str(&quoted(&key.text));
                out.push(':');
                to_json(value, out);
            }
            out.push('}');
        }
    }
}

/// Whether text may stand in JSON without quotes and means the same there: a boolean, or a number in JSON's own writing.
fn is_bare(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let whole = digits.split(['.', 'e', 'E']).next().unwrap_or("");
    let looks = digits.starts_with(|c: char| c.is_ascii_digit()) && (whole == "0" || !whole.starts_with('0'));
    matches!(text, "true" | "false") || (looks && serde_json::from_str::<serde_json::Number>(text).is_ok())
}

fn quoted(text: &str) -> String {
    // A string always serialises.
    serde_json::to_string(text).unwrap_or_default()
}

fn block(node: &Node<'_>, indent: usize, out: &mut String) {
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                let _ = write!(out, "{:indent$}{}:", "", plain(&key.text, false));
                under(value, indent + 2, out);
            }
        }
        Value::List(items) if !items.is_empty() => {
            for item in items {
                let _ = write!(out, "{:indent$}-", "");
                let mut inner = String::new();
                under(item, indent + 2, &mut inner);
                // A block under a dash begins on the dash's line.
                match inner.strip_prefix('\n') {
                    Some(rest) => {
                        let _ = write!(out, " {}", rest.trim_start_matches(' '));
                    }
                    None => out.push_str(&inner),
                }
            }
        }
        _ => {
            scalar(node, out);
            out.push('\n');
        }
    }
}

fn under(value: &Node<'_>, indent: usize, out: &mut String) {
    match &value.value {
        Value::Map(entries) if !entries.is_empty() => {
            out.push('\n');
            block(value, indent, out);
        }
        Value::List(items) if !items.is_empty() => {
            out.push('\n');
            block(value, indent, out);
        }
        _ => {
            out.push(' ');
            scalar(value, out);
            out.push('\n');
        }
    }
}

fn scalar(node: &Node<'_>, out: &mut String) {
    match &node.value {
        Value::Scalar { text, plain: is_plain } => out.push_str(&plain(text, *is_plain)),
        Value::List(_) => out.push_str("[]"),
        Value::Map(_) => out.push_str("{}"),
    }
}

/// Text without quotes where YAML reads it as the same text.
fn plain(text: &str, bare: bool) -> String {
    if bare {
        return text.to_owned();
    }
    let first = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '/');
    let rest = text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
    let word = !matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "null" | "yes" | "no" | "on" | "off"
    );
    if first && rest && word { text.to_owned() } else { quoted(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Document {
        let source = Source { name: "x.yaml".into(), text: text.into() };
        documents(&source).into_iter().next().expect("a document")
    }

    #[test]
    fn layout_order_and_comments_make_no_difference() {
        let a =
            one("kind: Route # which\nmetadata: {name: a}\nspec: {b: 1.10, a: \"1.10\", c: [x, 2, null]}\n");
        let b = one(
            "{\"metadata\":{\"name\":\"a\"},\"spec\":{\"a\":\"1.10\",\"c\":[\"x\",2,~],\"b\":1.10},\"kind\":\"Route\"}",
        );
        assert_eq!(a.json, b.json);
        let json =
            r#"{"kind":"Route","metadata":{"name":"a"},"spec":{"a":"1.10","b":1.10,"c":["x",2,null]}}"#;
        assert_eq!((&*a.json, &*a.kind, &*a.name), (json, "Route", "a"));
    }

    #[test]
    fn yaml_made_of_json_means_the_same() {
        let text = "kind: Route\nmetadata: {name: \"a b\"}\nspec:\n  l: [1, {x: y, z: [a, b]}, []]\n  t: \"true\"\n  n: 007\n";
        let json = one(text).json;
        let yaml = to_yaml(&json);
        assert_eq!(one(&yaml).json, json, "{yaml}");
        assert!(yaml.contains("\n  l:\n    - 1\n    - x: y\n"), "{yaml}");
    }
}
