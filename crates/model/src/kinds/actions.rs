//! What a rule of a `Route` does besides sending requests somewhere.
use super::common::Named;
use crate::decode::{
    At, Authority, Choice, Codec, Cx, DurationIn, Fields, HeaderMap, HeaderName, Int, List, Percent, Record,
    Referent, Text, UriPath, quote, scalar,
};
use crate::reference::Page;
use crate::resources::{
    Abort, AbortStatus, Actions, Delay, Fault, HeaderMutation, HeaderOps, Mirror, PathRewrite, Redirect,
    Respond, Rewrite, Scheme,
};
use crate::suggest;
use crate::yaml::{Node, Value};
use raddle_core::protocol::GRPC_STATUSES;

/// Every share of these is of the requests that the rule takes.
const ALL: u32 = 1_000_000;

/// Most bytes of a body that stands in a configuration.
const LARGEST_BODY: usize = 64 << 10;

/// The fields of a rule that say what is done.
pub(super) fn of(fields: &mut Fields<'_>) -> Actions {
    let actions = Actions {
        rewrite: fields.optional(
            "rewrite",
            Record(rewrite),
            "nothing",
            "HTTP and gRPC: what the endpoint sees in place of what the caller asked for.",
        ),
        headers: fields.optional(
            "headers",
            Record(headers),
            "unchanged",
            "HTTP and gRPC: changes of headers; first `remove`, then `set`, then `add`.",
        ),
        mirror: fields.optional(
            "mirror",
            Record(mirror),
            "none",
            "HTTP and gRPC: another service gets copies of the requests; its replies are dropped.",
        ),
        fault: fields.optional(
            "fault",
            Record(fault),
            "none",
            "Faults made on purpose, to see what callers do.",
        ),
        redirect: fields.optional(
            "redirect",
            Record(redirect),
            "none",
            "HTTP: the caller is told to ask elsewhere; no endpoint is asked. Other protocols get `NR`.",
        ),
        respond: fields.optional(
            "respond",
            Record(respond),
            "none",
            "HTTP: the sidecar answers by itself; no endpoint is asked. Other protocols get `NR`.",
        ),
    };
    check_alone(fields);
    actions
}

/// A rule that answers by itself has nothing to say about endpoints.
fn check_alone(fields: &mut Fields<'_>) {
    const ENDPOINTS: [&str; 8] =
        ["send", "ifEmpty", "timeout", "retry", "rewrite", "headers", "mirror", "fault"];
    let (redirect, respond) = (fields.has("redirect"), fields.has("respond"));
    if redirect && respond {
        let problem = "redirect and respond are given together";
        return fields.mistake("respond", problem, "keep one: a request gets one answer");
    }
    if !redirect && !respond {
        return;
    }
    let answer = if redirect { "redirect" } else { "respond" };
    for name in ENDPOINTS {
        if fields.has(name) {
            let problem = format!("has no effect with {answer}: no endpoint is asked");
            fields.mistake(name, problem, format!("leave {name} or {answer} out"));
        }
    }
}

fn rewrite(fields: &mut Fields<'_>) -> Option<Rewrite> {
    let meaning =
        "The path: the whole one, or its leading segments by `{prefix: /a, to: /b}`. The query stays.";
    let rewrite = Rewrite {
        path: fields.optional("path", PathForm, "as it came", meaning),
        authority: fields.optional("authority", Authority, "as it came", "`Host` or `:authority`."),
    };
    if !fields.has("path") && !fields.has("authority") {
        fields.whole("rewrites nothing", "give path or authority");
    }
    Some(rewrite)
}

/// A path, or `{prefix: /a, to: /b}`.
struct PathForm;

impl Codec for PathForm {
    type Out = PathRewrite;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<PathRewrite> {
        match &node.value {
            Value::Map(_) => Fields::read(node, at, cx, prefix),
            _ => {
                scalar(self, node, at, cx)?;
                UriPath { query: false }.decode(node, at, cx).map(PathRewrite::Exact)
            }
        }
    }

    fn wanted(&self) -> String {
        "a path such as /orders, or {prefix: /a, to: /b}".into()
    }

    fn kind(&self) -> String {
        "path, or object".into()
    }

    fn document(&self, page: &mut Page) {
        Fields::write(page, prefix);
    }
}

fn prefix(fields: &mut Fields<'_>) -> Option<PathRewrite> {
    let from = fields.required(
        "prefix",
        UriPath { query: false },
        "Leading segments that are replaced: `/a` is a prefix of `/a` and `/a/b`, not of `/ab`. Other paths stay \
         as they are.",
    );
    let to = fields.required(
        "to",
        UriPath { query: false },
        "What stands in their place; `/` takes them away. A slash at its end makes no difference.",
    );
    Some(PathRewrite::Prefix { from: from?, to: to? })
}

fn redirect(fields: &mut Fields<'_>) -> Option<Redirect> {
    const STATUSES: Choice<u16> =
        Choice(&[("301", 301), ("302", 302), ("303", 303), ("307", 307), ("308", 308)]);
    const SCHEMES: Choice<Scheme> = Choice(&[("http", Scheme::Http), ("https", Scheme::Https)]);
    let redirect = Redirect {
        status: fields.or(
            "status",
            STATUSES,
            302,
            "HTTP status. Callers repeat the method after 307 and 308; 301 and 308 may be remembered for ever.",
        ),
        scheme: fields.optional(
            "scheme",
            SCHEMES,
            "the request's",
            "Scheme to ask with. The port is left out then, unless `authority` has one.",
        ),
        authority: fields.optional("authority", Authority, "the request's", "Host to ask, or host:port."),
        path: fields.optional(
            "path",
            PathForm,
            "the request's",
            "Path to ask for: the whole one, or leading segments changed as in `rewrite`. The query stays.",
        ),
    };
    if !["scheme", "authority", "path"].into_iter().any(|name| fields.has(name)) {
        fields.whole("leads back to where it came from: a loop", "give scheme, authority or path");
    }
    Some(redirect)
}

fn respond(fields: &mut Fields<'_>) -> Option<Respond> {
    let respond = Respond {
        status: fields.or("status", Int::<u16>::new(200, 599, ""), 200, "HTTP status."),
        headers: fields.or("headers", HeaderMap { lists: true }, Vec::new(), "Headers of the reply."),
        body: fields.or("body", Text::any("text"), String::new(), "Body of the reply, at most 64 KiB."),
    };
    if respond.body.len() > LARGEST_BODY {
        let problem = format!("is {} bytes long", respond.body.len());
        fields.mistake("body", problem, format!("give at most {LARGEST_BODY}; serve more from a service"));
    }
    if !respond.body.is_empty() && matches!(respond.status, 204 | 205 | 304) {
        let problem = format!("a reply of status {} has no body", respond.status);
        fields.mistake("body", problem, "leave body out, or give another status");
    }
    Some(respond)
}

fn mirror(fields: &mut Fields<'_>) -> Option<Mirror> {
    let service = Named { what: "a service's name", to: Referent::Service };
    let service = fields.required("service", service, "The service that gets the copies.");
    let percent_ppm = fields.or("percent", Percent, ALL, "Share of the rule's requests that is copied.");
    Some(Mirror { service: service?, percent_ppm })
}

fn fault(fields: &mut Fields<'_>) -> Option<Fault> {
    let fault = Fault {
        delay: fields.optional("delay", Record(delay), "none", "The request waits before it goes on."),
        abort: fields.optional(
            "abort",
            Record(abort),
            "none",
            "The request is answered with a failure, flag `FI`; after the delay, if it meets both.",
        ),
    };
    if !fields.has("delay") && !fields.has("abort") {
        fields.whole("makes no fault", "give delay or abort");
    }
    Some(fault)
}

fn delay(fields: &mut Fields<'_>) -> Option<Delay> {
    let time = fields.required("time", DurationIn::millis(1, 3_600_000), "How long it waits.");
    let percent_ppm = fields.or("percent", Percent, ALL, "Share of the rule's requests.");
    Some(Delay { time: time?, percent_ppm })
}

fn abort(fields: &mut Fields<'_>) -> Option<Abort> {
    let http = fields.optional(
        "status",
        Int::<u16>::new(400, 599, ""),
        "500",
        "HTTP status. gRPC calls get the gRPC status that belongs to it, other protocols their own for `FI`.",
    );
    let grpc = fields.optional(
        "grpcStatus",
        GrpcStatus,
        "from `status`",
        "gRPC status, by name or number. Other HTTP requests get the HTTP status that belongs to it.",
    );
    let percent_ppm = fields.or("percent", Percent, ALL, "Share of the rule's requests.");
    if fields.has("status") && fields.has("grpcStatus") {
        fields.mistake("grpcStatus", "status and grpcStatus are given together", "keep one of them");
    }
    let status = match (http, grpc) {
        (_, Some(status)) => AbortStatus::Grpc(status),
        (Some(status), None) => AbortStatus::Http(status),
        (None, None) => AbortStatus::Reason,
    };
    Some(Abort { status, percent_ppm })
}

/// A gRPC status other than OK: `UNAVAILABLE`, or 14.
struct GrpcStatus;

impl Codec for GrpcStatus {
    type Out = u8;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<u8> {
        let (text, _) = scalar(self, node, at, cx)?;
        let known = |code: &usize| (1..GRPC_STATUSES.len()).contains(code);
        let code = GRPC_STATUSES.iter().position(|name| *name == text).or_else(|| text.parse().ok());
        if let Some(code) = code.filter(known) {
            return u8::try_from(code).ok();
        }
        let (problem, remedy) = match suggest::nearest(text, GRPC_STATUSES[1..].iter().copied()) {
            _ if code == Some(0) => ("OK is no failure".into(), format!("give {}", self.wanted())),
            Some(meant) => (format!("{} is no gRPC status", quote(text)), format!("did you mean {meant}?")),
            None => (format!("{} is no gRPC status", quote(text)), format!("give {}", self.wanted())),
        };
        cx.mistake(node.spot, at, problem, remedy);
        None
    }

    fn wanted(&self) -> String {
        "a gRPC status such as UNAVAILABLE, or 1..=16".into()
    }

    fn kind(&self) -> String {
        "gRPC status".into()
    }
}

fn headers(fields: &mut Fields<'_>) -> Option<HeaderMutation> {
    let mutation = HeaderMutation {
        request: fields.or(
            "request",
            Record(operations),
            HeaderOps::default(),
            "Of requests, before they go to the endpoint.",
        ),
        response: fields.or(
            "response",
            Record(operations),
            HeaderOps::default(),
            "Of replies, before they go to the caller; the sidecar's own rejections are left as they are.",
        ),
    };
    if !fields.has("request") && !fields.has("response") {
        fields.whole("changes nothing", "give request or response");
    }
    Some(mutation)
}

fn operations(fields: &mut Fields<'_>) -> Option<HeaderOps> {
    let ops = HeaderOps {
        remove: fields.or("remove", List(HeaderName), Vec::new(), "Headers taken away."),
        set: fields.or(
            "set",
            HeaderMap { lists: false },
            Vec::new(),
            "Headers that get this one value, whatever they had.",
        ),
        add: fields.or("add", HeaderMap { lists: true }, Vec::new(), "Values added to those that are there."),
    };
    if !["remove", "set", "add"].into_iter().any(|name| fields.has(name)) {
        fields.whole("changes nothing", "give remove, set or add");
    }
    Some(ops)
}
