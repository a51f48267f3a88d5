//! The reference of the REST API is made from its OpenAPI document.
use serde_json::Value;
use std::fmt::Write;

const HEAD: &str = "\
# REST API

<!-- Made from the routes in crates/control/src/api: change them there, then run
     RADDLE_BLESS=1 cargo test -p raddle-control --test api_reference -->

What the command line and consoles ask the control plane, by default at `http://127.0.0.1:7070`. The control plane serves
the same as an OpenAPI 3.1 document at `/openapi.json`. A request carries `Authorization: Bearer TOKEN`; the role is the
least its token must have. Every refusal is an [`ErrorAnswer`](#erroranswer).

";

/// Run with `RADDLE_BLESS=1` to write the file anew.
#[test]
fn the_reference_lists_every_operation_and_every_value() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/api.md");
    let page = page(&raddle_control::api::openapi());
    if std::env::var_os("RADDLE_BLESS").is_some() {
        std::fs::write(path, &page).expect("written");
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(there == page, "docs/reference/api.md is stale: run it with RADDLE_BLESS=1");
}

fn page(document: &Value) -> String {
    let mut out = String::from(HEAD);
    out.push_str("## Operations\n");
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("methods") {
            operation_of(&mut out, &method.to_ascii_uppercase(), path, operation);
        }
    }
    out.push_str("\n## Values\n");
    for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
        write!(out, "\n### {name}\n\n{}\n", text(&schema["description"])).expect("kept");
        let Some(fields) = schema["properties"].as_object().filter(|f| !f.is_empty()) else { continue };
        out.push_str("\n| field | type | meaning |\n|---|---|---|\n");
        for (field, schema) in fields {
            let meaning = text(&schema["description"]);
            writeln!(out, "| `{field}` | {} | {meaning} |", kind(schema)).expect("kept");
        }
    }
    out
}

fn operation_of(out: &mut String, method: &str, path: &str, operation: &Value) {
    let role = operation["x-role"].as_str().map_or("none needed".to_owned(), |r| format!("`{r}`"));
    write!(out, "\n### {method} {path}\n\n{}\n\nRole: {role}.", text(&operation["summary"])).expect("kept");
    let body = operation["requestBody"]["content"].as_object().and_then(|c| c.iter().next());
    if let Some((media, body)) = body {
        write!(out, " Body: `{media}`, {}.", kind(&body["schema"])).expect("kept");
    }
    for (status, answer) in operation["responses"].as_object().expect("answers") {
        if status.starts_with('2') {
            let value = answer["content"].as_object().and_then(|c| c.iter().next());
            let value =
                value.map_or("nothing".to_owned(), |(media, v)| format!("`{media}`, {}", kind(&v["schema"])));
            write!(out, " Answer {status}: {value}. {}", text(&answer["description"])).expect("kept");
        }
    }
    out.push('\n');
    let Some(parameters) = operation["parameters"].as_array().filter(|p| !p.is_empty()) else { return };
    out.push_str("\n| parameter | in | type | meaning |\n|---|---|---|---|\n");
    for p in parameters {
        let place = p["in"].as_str().unwrap_or("");
        let meaning = text(&p["description"]);
        writeln!(out, "| `{}` | {place} | {} | {meaning} |", text(&p["name"]), kind(&p["schema"]))
            .expect("kept");
    }
}

/// A schema in a few words.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
        return format!("[{name}](#{})", name.to_ascii_lowercase());
    }
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().map(|w| format!("`{}`", text(w))).collect::<Vec<_>>().join(" or ");
    }
    if let Some(any) = schema["anyOf"].as_array() {
        return any.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    let items = &schema["properties"]["items"];
    if !items.is_null() && !schema["properties"]["next"].is_null() {
        return format!("page of {}", kind(&items["items"]));
    }
    let word = |name: &str| match name {
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map of {}", kind(&schema["additionalProperties"]))
        }
        other => other.to_owned(),
    };
    match &schema["type"] {
        Value::String(name) => word(name),
        Value::Array(names) => {
            names.iter().filter_map(Value::as_str).map(word).collect::<Vec<_>>().join(" or ")
        }
        _ => "any".to_owned(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("").replace('|', "\\|")
}
