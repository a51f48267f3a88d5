//! What several kinds share: scope, target, retry, request attributes.
use super::names;
use crate::decode::{
    At, Choice, Codec, Cx, DurationIn, Fields, Int, List, Referent, Share, Text, quote, scalar,
};
use crate::reference::{Page, Row};
use crate::resources::{HashOn, Retry, RetryOn, Target};
use crate::yaml::{Node, Value};

/// `to` of a route: a callee, down to its methods.
pub(super) fn route_target(fields: &mut Fields<'_>) -> Option<Target> {
    let mut target = policy_fields(fields);
    target.methods = fields.or("methods", names("a method's name"), Vec::new(), "Methods; empty = all.");
    Some(target)
}

/// `to` of a policy: whole services.
pub(super) fn policy_target(fields: &mut Fields<'_>) -> Option<Target> {
    let remedy = "leave it out; time bounds and retries of single methods belong into a Route";
    fields.refuse("methods", "a policy holds for whole services", remedy);
    Some(policy_fields(fields))
}

fn policy_fields(fields: &mut Fields<'_>) -> Target {
    let app = Named { what: "an app's name", to: Referent::App };
    let service = Named { what: "a service's name", to: Referent::Service };
    Target {
        app: fields.optional("app", app, "any", "The callee's app."),
        services: fields.or("services", List(service), Vec::new(), "Service names; empty = all."),
        methods: Vec::new(),
    }
}

/// A name that another document should declare.
pub(super) struct Named {
    pub(super) what: &'static str,
    pub(super) to: Referent,
}

impl Codec for Named {
    type Out = String;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<String> {
        let name = Text::name(self.what).decode(node, at, cx)?;
        cx.refer(self.to, &name, node.spot, at);
        Some(name)
    }

    fn wanted(&self) -> String {
        self.what.into()
    }

    fn kind(&self) -> String {
        "text".into()
    }

    fn show(&self, out: &String) -> String {
        format!("`{out}`")
    }
}

/// `retry` of a policy or a route rule.
pub(super) fn retry(fields: &mut Fields<'_>) -> Option<Retry> {
    const FAILURES: Choice<RetryOn> = Choice(&[
        ("overloaded", RetryOn::Overloaded),
        ("connectFailure", RetryOn::ConnectFailure),
        ("connectionLost", RetryOn::ConnectionLost),
        ("timeout", RetryOn::Timeout),
        ("serverError", RetryOn::ServerError),
    ]);
    let retry = Retry {
        attempts: fields.or("attempts", Int::<u8>::new(1, 10, "tries"), 1, "Tries after the first."),
        on: fields.or(
            "on",
            List(FAILURES),
            vec![RetryOn::ConnectFailure, RetryOn::Overloaded],
            "Which failures are tried again. After `connectFailure` and `overloaded` the request has certainly \
             not run; after `connectionLost`, `timeout` and `serverError` (HTTP 502, 503 or 504, gRPC \
             `UNAVAILABLE`) it may have, so these need `idempotentMethods`.",
        ),
        per_try_timeout: fields.optional(
            "perTryTimeout",
            DurationIn::usual(),
            "what is left",
            "Bound of one try. Absent = what is left of the request's time.",
        ),
        budget: fields.or("budget", Share, 0.2, "Retries allowed as a share of requests, so that they never multiply an outage."),
        budget_min_per_second: fields.or(
            "budgetMinPerSecond",
            Int::<u32>::new(0, 1_000_000, "retries per second"),
            10,
            "Retries allowed whatever the share.",
        ),
        idempotent_methods: fields.or(
            "idempotentMethods",
            names("a method's name"),
            Vec::new(),
            "Methods that may run twice without harm. HTTP's `GET`, `HEAD`, `OPTIONS` and `TRACE` always may.",
        ),
    };
    if retry.on.is_empty() && fields.has("on") {
        fields.mistake("on", "names no failure", "name at least one, or leave retry out");
    }
    Some(retry)
}

/// A request attribute to hash: `method`, `callerIp` or `{header: name}`.
pub(super) struct Attribute;

impl Attribute {
    const WORDS: Choice<bool> = Choice(&[("method", true), ("callerIp", false)]);
}

impl Codec for Attribute {
    type Out = HashOn;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<HashOn> {
        if let Value::Map(_) = node.value {
            return Fields::read(node, at, cx, header).map(HashOn::Header);
        }
        let (text, _) = scalar(self, node, at, cx)?;
        if text == "header" {
            let remedy = "write {header: NAME}".to_owned();
            cx.mistake(node.spot, at, "the header's name is missing".into(), remedy);
            return None;
        }
        match Attribute::WORDS.0.iter().find(|(word, _)| *word == text) {
            Some((_, true)) => Some(HashOn::Method),
            Some((_, false)) => Some(HashOn::CallerIp),
            None => {
                let problem = format!("{} is no request attribute", quote(text));
                cx.mistake(node.spot, at, problem, format!("give {}", self.wanted()));
                None
            }
        }
    }

    fn wanted(&self) -> String {
        "method, callerIp or {header: NAME}".into()
    }

    fn kind(&self) -> String {
        "`method` \\| `callerIp` \\| object".into()
    }

    fn document(&self, page: &mut Page) {
        Fields::write(page, header);
    }
}

fn header(fields: &mut Fields<'_>) -> Option<String> {
    fields.required("header", Text::name("a header's name"), "Name of the header whose value is taken.")
}

/// A row for fields whose names the user chooses.
pub(super) fn free_names(page: &mut Page, kind: &str, meaning: &str, inner: impl FnOnce(&mut Page)) {
    let row = Row { kind: kind.into(), unit: "", default: "none".into(), meaning: meaning.into() };
    page.field("<name>", row, inner);
}
