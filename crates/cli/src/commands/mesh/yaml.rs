//! JSON values as YAML, in block form, as people write it.
use serde_json::Value;

/// A whole document.
pub(super) fn render(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(value, 0, &mut out),
        Value::Array(items) if !items.is_empty() => block(value, 0, &mut out),
        other => {
            out.push_str(&scalar(other));
            out.push('\n');
        }
    }
    out
}

fn block(value: &Value, depth: usize, out: &mut String) {
    let pad = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                out.push_str(&format!("{pad}{}:", string(name)));
                inside(value, depth, out);
            }
        }
        Value::Array(items) => {
            for item in items {
                if nested(item) {
                    let mut lines = String::new();
                    block(item, depth + 1, &mut lines);
                    out.push_str(&format!("{pad}- {}", lines.trim_start_matches(' ')));
                } else {
                    out.push_str(&format!("{pad}- {}\n", scalar(item)));
                }
            }
        }
        other => out.push_str(&format!("{pad}{}\n", scalar(other))),
    }
}

fn inside(value: &Value, depth: usize, out: &mut String) {
    if nested(value) {
        out.push('\n');
        block(value, depth + 1, out);
    } else {
        out.push_str(&format!(" {}\n", scalar(value)));
    }
}

fn nested(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => string(text),
        // Empty lists and mappings, numbers, booleans, null: JSON's form is YAML's.
        other => other.to_string(),
    }
}

/// A string, in quotes unless it is surely read back as the same string.
fn string(text: &str) -> String {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null"
        );
    // JSON's strings are YAML's double-quoted ones.
    if plain { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_written_as_people_do() {
        let value = json!({
            "kind": "Route", "on": true, "text": "yes", "none": null, "empty": [], "n": 1.5,
            "rules": [{"name": "a", "to": [{"app": "b: c"}]}, "x", ["y"]]
        });
        let wanted = "kind: Route\n\"on\": true\ntext: \"yes\"\nnone: null\nempty: []\n\"n\": 1.5\nrules:\n  \
                      - name: a\n    to:\n      - app: \"b: c\"\n  - x\n  - - \"y\"\n";
        assert_eq!(render(&value), wanted);
    }
}
