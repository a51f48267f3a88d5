//! The declaration of a route.
use super::call::Call;
use super::problem::Problem;
use super::shape::{Schemas, Shape};
use crate::api::auth::Role;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub(crate) type Handling = Pin<Box<dyn Future<Output = Result<Reply, Problem>> + Send>>;
pub(crate) type Handler = Arc<dyn Fn(Call) -> Handling + Send + Sync>;
type Describe = fn(&mut Schemas) -> Value;

/// One operation of the API.
pub(crate) struct Route {
    pub(crate) method: Method,
    /// With its parameters in braces.
    pub(crate) path: &'static str,
    /// What a caller must be; `None` = anybody.
    pub(crate) role: Option<Role>,
    /// Name for generated clients.
    pub(crate) id: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) query: Vec<Param>,
    pub(crate) body: Option<BodySpec>,
    pub(crate) answers: Vec<Answer>,
    /// Error statuses beside those that follow from the rest of the declaration.
    pub(crate) refusals: Vec<u16>,
    /// Takes `If-Match`, gives `ETag`.
    pub(crate) tagged: bool,
    /// A method other than GET is noted in the audit.
    pub(crate) audited: bool,
    pub(crate) handler: Handler,
}

/// What a body may be.
pub(crate) struct BodySpec {
    pub(crate) media: &'static [&'static str],
    pub(crate) schema: Describe,
    pub(crate) required: bool,
    pub(crate) example: Option<&'static str>,
}

/// A good answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) what: &'static str,
    pub(crate) media: &'static str,
    pub(crate) schema: Describe,
}

/// A query parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Param {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) kind: ParamKind,
}

/// What a parameter's value may be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ParamKind {
    /// Any text of 1 to 1024 bytes.
    Text,
    /// `true` or `false`.
    Flag,
    /// A whole number in this range; what it is when it is left out.
    Whole(u64, u64, Option<u64>),
    /// One of these words.
    Word(&'static [&'static str]),
    /// Some of these words, divided by commas.
    Words(&'static [&'static str]),
}

/// `limit` and `after`.
pub(crate) const PAGING: [Param; 2] = [
    Param { name: "limit", doc: "Most items of the page.", kind: ParamKind::Whole(1, 1000, Some(100)) },
    Param {
        name: "after",
        doc: "Where the page begins: what `next` of the page before said.",
        kind: ParamKind::Text,
    },
];

impl Route {
    pub(crate) fn new(method: Method, path: &'static str, role: Option<Role>, id: &'static str) -> Route {
        Route {
            method,
            path,
            role,
            id,
            summary: "",
            query: Vec::new(),
            body: None,
            answers: Vec::new(),
            refusals: Vec::new(),
            tagged: false,
            audited: true,
            handler: Arc::new(|_| Box::pin(async { Err(Problem::not_found("nothing is here")) })),
        }
    }

    /// A GET that the role `read` may do.
    pub(crate) fn get(path: &'static str, id: &'static str) -> Route {
        Route::new(Method::GET, path, Some(Role::Read), id)
    }

    /// A POST that the role `operate` may do.
    pub(crate) fn post(path: &'static str, id: &'static str) -> Route {
        Route::new(Method::POST, path, Some(Role::Operate), id)
    }

    /// A DELETE that the role `operate` may do.
    pub(crate) fn delete(path: &'static str, id: &'static str) -> Route {
        Route::new(Method::DELETE, path, Some(Role::Operate), id)
    }

    /// Who may.
    pub(crate) fn role(mut self, role: Option<Role>) -> Route {
        self.role = role;
        self
    }

    /// What it does, a sentence.
    pub(crate) fn says(mut self, summary: &'static str) -> Route {
        self.summary = summary;
        self
    }

    /// A query parameter it takes.
    pub(crate) fn query(mut self, name: &'static str, kind: ParamKind, doc: &'static str) -> Route {
        self.query.push(Param { name, doc, kind });
        self
    }

    /// It answers pages.
    pub(crate) fn paged(mut self) -> Route {
        self.query.extend(PAGING);
        self
    }

    /// A JSON body of this shape.
    pub(crate) fn body<T: Shape>(mut self, required: bool) -> Route {
        let schema: Describe = T::schema;
        self.body = Some(BodySpec { media: &["application/json"], schema, required, example: None });
        self
    }

    /// A body of resources as files have them.
    pub(crate) fn documents(mut self) -> Route {
        let schema: Describe = |_| json!({"description": "Resources as files have them, one or more documents.", "type": ["object", "string"]});
        let example = "apiVersion: raddle.io/v1\nkind: TrafficPolicy\nmetadata: {name: order}\nspec: {target: {app: order}}\n";
        self.body = Some(BodySpec {
            media: &["application/yaml", "application/json"],
            schema,
            required: true,
            example: Some(example),
        });
        self
    }

    /// A good answer with JSON of this shape.
    pub(crate) fn answers<T: Shape>(mut self, status: u16, what: &'static str) -> Route {
        let schema: Describe = T::schema;
        self.answers.push(Answer { status, what, media: "application/json", schema });
        self
    }

    /// A good answer of another media type.
    pub(crate) fn answers_text(mut self, status: u16, media: &'static str, what: &'static str) -> Route {
        let schema: Describe = |_| json!({"type": "string"});
        self.answers.push(Answer { status, what, media, schema });
        self
    }

    /// Error statuses beside those that every such route has.
    pub(crate) fn refuses(mut self, statuses: &[u16]) -> Route {
        self.refusals.extend(statuses);
        self
    }

    /// It gives `ETag` and takes `If-Match`.
    pub(crate) fn tagged(mut self) -> Route {
        self.tagged = true;
        self
    }

    /// It changes nothing, whatever its method: the audit has nothing to note.
    pub(crate) fn harmless(mut self) -> Route {
        self.audited = false;
        self
    }

    /// What it does.
    pub(crate) fn on<F>(mut self, handler: impl Fn(Call) -> F + Send + Sync + 'static) -> Route
    where
        F: Future<Output = Result<Reply, Problem>> + Send + 'static,
    {
        self.handler = Arc::new(move |call| Box::pin(handler(call)));
        self
    }

    /// Names of the parameters in its path.
    pub(crate) fn path_params(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }

    /// All statuses it may answer with an error.
    pub(crate) fn errors(&self) -> Vec<u16> {
        let mut all = vec![400, 503];
        if self.role.is_some() {
            all.extend([401, 403, 429]);
        }
        if self.body.is_some() {
            all.extend([413, 415]);
        }
        if self.path_params().next().is_some() {
            all.push(404);
        }
        all.extend(&self.refusals);
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// A good answer.
pub(crate) struct Reply {
    pub(crate) response: Response,
    /// What was done, for the audit.
    pub(crate) note: String,
}

impl Reply {
    /// 200 with JSON.
    pub(crate) fn json(value: &impl Serialize) -> Result<Reply, Problem> {
        Reply::status_json(StatusCode::OK, value)
    }

    /// JSON with another status.
    pub(crate) fn status_json(status: StatusCode, value: &impl Serialize) -> Result<Reply, Problem> {
        let bytes = serde_json::to_vec(value)
            .map_err(|e| Problem::unavailable(format!("the answer cannot be written: {e}")))?;
        Ok(Reply::new(status, "application/json", Body::from(bytes)))
    }

    /// Any body.
    pub(crate) fn new(status: StatusCode, media: &'static str, body: Body) -> Reply {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        Reply { response, note: String::new() }
    }

    /// With a note for the audit.
    pub(crate) fn noted(mut self, note: impl Into<String>) -> Reply {
        self.note = note.into();
        self
    }

    /// With an `ETag`.
    pub(crate) fn tag(self, revision: &str) -> Reply {
        self.header(header::ETAG, &format!("\"{revision}\""))
    }

    /// With a header; one that cannot be sent is left out.
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Reply {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.response.headers_mut().insert(name, value);
        }
        self
    }
}
