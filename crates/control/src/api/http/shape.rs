//! The values of requests and answers, each with the JSON schema that describes it.
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A type with a JSON schema.
pub(crate) trait Shape {
    /// Its schema; named ones are put into `all` and referred to.
    fn schema(all: &mut Schemas) -> Value;
}

/// The named schemas of a document.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schemas(BTreeMap<&'static str, Value>);

impl Schemas {
    /// A reference to a named schema, which is made at the first use.
    pub(crate) fn named(&mut self, name: &'static str, make: impl FnOnce(&mut Schemas) -> Value) -> Value {
        if !self.0.contains_key(name) {
            // Holds the place, so that a type that contains itself ends.
            self.0.insert(name, Value::Null);
            let schema = make(self);
            self.0.insert(name, schema);
        }
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    /// All of them.
    pub(crate) fn into_value(self) -> Value {
        Value::Object(self.0.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect())
    }
}

/// A field of an object: its name in Rust, its documentation, its schema, and whether it must be there.
pub(crate) type Field = (&'static str, &'static [&'static str], Value, bool);

/// The schema of an object that has these fields, and perhaps more.
pub(crate) fn object(doc: &[&str], fields: Vec<Field>, closed: bool) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, doc, schema, must) in fields {
        let name = camel(name);
        let doc = sentence(doc);
        // Beside a reference a description is allowed in OpenAPI 3.1.
        let mut schema = schema;
        if let (Value::Object(map), false) = (&mut schema, doc.is_empty()) {
            map.insert("description".into(), Value::String(doc));
        }
        if must {
            required.push(Value::String(name.clone()));
        }
        properties.insert(name, schema);
    }
    let mut out = json!({"type": "object", "description": sentence(doc), "properties": properties});
    if let Value::Object(map) = &mut out {
        if !required.is_empty() {
            map.insert("required".into(), Value::Array(required));
        }
        if closed {
            map.insert("additionalProperties".into(), Value::Bool(false));
        }
    }
    out
}

/// Lines of a doc comment as one text.
pub(crate) fn sentence(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// `some_name` as `someName`.
pub(crate) fn camel(name: &str) -> String {
    let mut up = false;
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '_' => up = true,
            c if up => {
                out.extend(c.to_uppercase());
                up = false;
            }
            c => out.push(c),
        }
    }
    out
}

macro_rules! plain {
    ($($ty:ty => $schema:expr;)+) => {$(
        impl Shape for $ty {
            fn schema(_all: &mut Schemas) -> Value {
                $schema
            }
        }
    )+};
}

plain! {
    String => json!({"type": "string"});
    bool => json!({"type": "boolean"});
    u16 => json!({"type": "integer", "minimum": 0, "maximum": 65535});
    u32 => json!({"type": "integer", "minimum": 0, "maximum": 4294967295u32});
    u64 => json!({"type": "integer", "minimum": 0});
    f64 => json!({"type": "number"});
    Value => json!({});
    Map<String, Value> => json!({"type": "object"});
}

impl<T: Shape> Shape for Option<T> {
    fn schema(all: &mut Schemas) -> Value {
        let mut inner = T::schema(all);
        match inner.get_mut("type") {
            Some(Value::String(name)) if inner_is_plain(name) => {
                let name = name.clone();
                inner["type"] = json!([name, "null"]);
                inner
            }
            _ => json!({"anyOf": [inner, {"type": "null"}]}),
        }
    }
}

fn inner_is_plain(name: &str) -> bool {
    matches!(name, "string" | "boolean" | "integer" | "number")
}

impl<T: Shape> Shape for Vec<T> {
    fn schema(all: &mut Schemas) -> Value {
        json!({"type": "array", "items": T::schema(all)})
    }
}

impl<T: Shape> Shape for BTreeMap<String, T> {
    fn schema(all: &mut Schemas) -> Value {
        json!({"type": "object", "additionalProperties": T::schema(all)})
    }
}

/// Declares structs with their schema; [`answers`] and [`bodies`] say the rules.
macro_rules! shapes {
    (required: $required:literal, strict: $strict:literal, serde: $serde:tt, $(
        $(#[doc = $doc:expr])* pub struct $name:ident {
            $( $(#[doc = $fdoc:expr])* pub $field:ident : $ty:ty ),* $(,)?
        }
    )+) => {$(
        $(#[doc = $doc])*
        #[allow(unreachable_pub, reason = "one macro declares what is public and what is not")]
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde $serde]
        pub struct $name {
            $( $(#[doc = $fdoc])* pub $field: $ty, )*
        }

        impl $crate::api::http::shape::Shape for $name {
            fn schema(all: &mut $crate::api::http::shape::Schemas) -> serde_json::Value {
                all.named(stringify!($name), |all| {
                    let fields = vec![$((
                        stringify!($field),
                        &[$($fdoc),*] as &[&str],
                        <$ty as $crate::api::http::shape::Shape>::schema(all),
                        $required,
                    )),*];
                    $crate::api::http::shape::object(&[$($doc),*], fields, $strict)
                })
            }
        }
    )+};
}

/// Declares what is answered: structs with their schema. Every field is always there.
macro_rules! answers {
    ($($structs:tt)+) => {
        $crate::api::http::shape::shapes! {
            required: true, strict: false, serde: (rename_all = "camelCase", default), $($structs)+
        }
    };
}

/// Declares what a body may hold: structs with their schema. Unknown fields are refused; every field may be left out
/// (an `Option` says that it was).
macro_rules! bodies {
    ($($structs:tt)+) => {
        $crate::api::http::shape::shapes! {
            required: false, strict: true,
            serde: (rename_all = "camelCase", default, deny_unknown_fields), $($structs)+
        }
    };
}

pub(crate) use {answers, bodies, shapes};

answers! {
    /// Why a request was refused.
    pub struct ErrorAnswer {
        /// The one thing in it.
        pub error: ErrorBody,
    }

    /// Why a request was refused.
    pub struct ErrorBody {
        /// A word for programs; each status has few of them.
        pub code: String,
        /// A sentence for people.
        pub message: String,
        /// Everything that is wrong with what was sent, where single places can be named.
        pub mistakes: Vec<MistakeAnswer>,
    }

    /// One thing that is wrong (or doubtful), and where.
    pub struct MistakeAnswer {
        /// The document's file or body; empty if it is about none.
        pub file: String,
        /// 1-based line; 0 = the file as a whole.
        pub line: u32,
        /// 1-based column.
        pub column: u32,
        /// Path of the field; empty = the document itself.
        pub path: String,
        /// What is wrong.
        pub problem: String,
        /// What would be right.
        pub remedy: String,
    }
}

impl From<raddle_model::Mistake> for MistakeAnswer {
    fn from(m: raddle_model::Mistake) -> MistakeAnswer {
        let raddle_model::Mistake { file, line, column, path, problem, remedy } = m;
        MistakeAnswer { file, line, column, path, problem, remedy }
    }
}

/// A page of a list: its schema is [`Page`]'s with the items'.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Page<T> {
    /// In the order of their keys.
    pub(crate) items: Vec<T>,
    /// What to give as `after` for the next page; `null` = this is the last.
    pub(crate) next: Option<String>,
}

impl<T: Shape> Shape for Page<T> {
    fn schema(all: &mut Schemas) -> Value {
        let items = Vec::<T>::schema(all);
        let next = json!({
            "type": ["string", "null"],
            "description": "What to give as `after` for the next page; null = this is the last."
        });
        json!({
            "type": "object",
            "required": ["items", "next"],
            "properties": {"items": items, "next": next}
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    answers! {
        /// A knot.
        pub struct Knot {
            /// How often
            /// it is tied.
            pub tied_times: Option<u32>,
            /// Further ones.
            pub more: Vec<Knot>,
        }
    }

    #[test]
    fn a_schema_says_names_types_and_words_of_the_struct_even_if_it_holds_itself() {
        let mut all = Schemas::default();
        assert_eq!(Knot::schema(&mut all), json!({"$ref": "#/components/schemas/Knot"}));
        let schema = &all.into_value()["Knot"];
        assert_eq!(schema["description"], "A knot.");
        assert_eq!(schema["required"], json!(["tiedTimes", "more"]));
        assert_eq!(schema["properties"]["tiedTimes"]["type"], json!(["integer", "null"]));
        assert_eq!(schema["properties"]["tiedTimes"]["description"], "How often it is tied.");
        assert_eq!(schema["properties"]["more"]["items"], json!({"$ref": "#/components/schemas/Knot"}));
    }
}
