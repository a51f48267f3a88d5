//! The OpenAPI 3.1 document, made of the routes' declarations.
use super::route::{ParamKind, Route};
use super::shape::{ErrorAnswer, Schemas, Shape};
use crate::api::auth::Role;
use serde_json::{Map, Value, json};

const ABOUT: &str = "What the command line and consoles ask the control plane. Every refusal has the shape of \
                     `ErrorAnswer`. Lists are paged: `limit` says how many, `after` where to go on.";

/// The document of these routes.
pub(crate) fn document(routes: &[Route]) -> Value {
    let mut schemas = Schemas::default();
    let error = ErrorAnswer::schema(&mut schemas);
    let mut paths = Map::new();
    for route in routes {
        let operation = operation(route, &error, &mut schemas);
        let item = paths.entry(route.path).or_insert_with(|| Value::Object(Map::new()));
        item[route.method.as_str().to_ascii_lowercase()] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Raddle control plane",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}
        },
        "paths": paths,
        "components": {
            "schemas": schemas.into_value(),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "A token as `raddle token create` gives it."}
            }
        }
    })
}

fn operation(route: &Route, error: &Value, schemas: &mut Schemas) -> Value {
    let mut responses = Map::new();
    for answer in &route.answers {
        let mut response = json!({
            "description": answer.what,
            "content": {answer.media: {"schema": (answer.schema)(schemas)}}
        });
        if route.tagged {
            response["headers"] = json!({"ETag": {
                "description": "The revision, for If-Match.", "schema": {"type": "string"}
            }});
        }
        responses.insert(answer.status.to_string(), response);
    }
    for status in route.errors() {
        let content = json!({"application/json": {"schema": error}});
        responses.insert(status.to_string(), json!({"description": meaning(status), "content": content}));
    }
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.summary,
        "parameters": parameters(route),
        "responses": responses
    });
    if let Some(body) = &route.body {
        let mut content = Map::new();
        for media in body.media {
            let mut one = json!({"schema": (body.schema)(schemas)});
            if let (Some(example), "application/yaml") = (body.example, *media) {
                one["schema"] = json!({"type": "string"});
                one["example"] = json!(example);
            }
            content.insert((*media).to_owned(), one);
        }
        operation["requestBody"] = json!({"required": body.required, "content": content});
    }
    let Some(role) = route.role else {
        operation["security"] = json!([]);
        return operation;
    };
    operation["security"] = json!([{"token": []}]);
    operation["x-role"] = json!(role.name());
    operation
}

fn parameters(route: &Route) -> Vec<Value> {
    let path = route.path_params().map(|name| {
        let schema = match name {
            "number" => json!({"type": "integer", "minimum": 1, "maximum": u32::MAX}),
            "kind" => json!({"type": "string", "enum": crate::api::kinds()}),
            _ => json!({"type": "string", "minLength": 1, "maxLength": 512}),
        };
        json!({"name": name, "in": "path", "required": true, "description": path_doc(name), "schema": schema})
    });
    let query = route.query.iter().map(|param| {
        let schema = match param.kind {
            ParamKind::Text => json!({"type": "string", "minLength": 1, "maxLength": 1024}),
            ParamKind::Flag => json!({"type": "boolean"}),
            ParamKind::Whole(least, most, None) => {
                json!({"type": "integer", "minimum": least, "maximum": most})
            }
            ParamKind::Whole(least, most, Some(default)) => {
                json!({"type": "integer", "minimum": least, "maximum": most, "default": default})
            }
            ParamKind::Word(words) => json!({"type": "string", "enum": words}),
            ParamKind::Words(words) => {
                json!({"type": "array", "items": {"type": "string", "enum": words}, "minItems": 1})
            }
        };
        let mut one = json!({"name": param.name, "in": "query", "required": false, "description": param.doc, "schema": schema});
        if let ParamKind::Words(_) = param.kind {
            one["style"] = json!("form");
            one["explode"] = json!(false);
        }
        one
    });
    let mut all: Vec<Value> = path.chain(query).collect();
    if route.tagged && route.method != "GET" {
        all.push(json!({
            "name": "If-Match", "in": "header", "required": false,
            "description": "Does it only if the rule still has this revision: a tag as ETag gave it, in quotes.",
            "schema": {"type": "string", "pattern": "^\"[0-9a-f]{16}\"$"}
        }));
    }
    all
}

fn path_doc(name: &str) -> &'static str {
    match name {
        "kind" => "Kind of the rule.",
        "number" => "Number of the revision: 1 is the first.",
        "id" => "Instance id, token id or identity, as the list shows it.",
        _ => "Its name.",
    }
}

fn meaning(status: u16) -> &'static str {
    match status {
        400 => "The request makes no sense; the message says what is wrong.",
        401 => "There is no token, or it is not known, revoked or over.",
        403 => "The token's role may not do this.",
        404 => "There is no such thing.",
        409 => "It cannot be done as things stand.",
        412 => "It is no longer what If-Match or `expect` said.",
        413 => "The body is over 8 MiB.",
        415 => "The body's media type is not one this operation takes.",
        422 => "What was sent has mistakes; each is listed with its place.",
        429 => "Too many at once; Retry-After says when to come back.",
        503 => "The control plane cannot do it now; Retry-After says when to try again.",
        _ => "Refused.",
    }
}

impl Role {
    /// All roles in the document's order.
    pub(crate) const ALL: [Role; 3] = [Role::Read, Role::Operate, Role::Admin];
}
