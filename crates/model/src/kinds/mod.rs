//! The kinds of resource: one file each, whose functions declare every field.
mod actions;
mod authorization;
mod breaker;
mod certificate;
mod common;
mod limit;
mod link;
mod mesh;
mod policy;
mod reach;
mod route;
mod service;
mod sidecar;

pub(crate) use sidecar::accepts;

use crate::decode::{At, Choice, Cx, Fields, List, Record, Spotted, Text, TextMap, quote};
use crate::fingerprint::fingerprint;
use crate::reference::Page;
use crate::resources::{
    AdaptiveLimit, Authorization, Certificate, CircuitBreaker, Labels, LinkEncryption, Metadata, Origin,
    RateLimit, Resources, Route, Service, Sidecar, TrafficPolicy,
};
use crate::suggest;
use crate::yaml::{Node, Spot, Value};
use raddle_core::Protocol;
use serde::Serialize;

/// Kinds of the full system that a static file cannot hold yet.
pub(crate) const LATER: [&str; 3] = ["UnitTransfer", "DrainTest", "HealingPolicy"];

/// A kind in the reference.
pub(crate) struct Documented {
    pub(crate) name: &'static str,
    pub(crate) intro: &'static str,
    pub(crate) fields: fn(&mut Page),
}

/// Every kind that is read, in the reference's order.
pub(crate) const DOCUMENTED: [Documented; 10] = [
    Documented {
        name: Sidecar::KIND,
        intro: "The process itself: the app it stands beside, where it listens, and its bounds. Exactly one.",
        fields: |page| Fields::write(page, resource::<Sidecar>),
    },
    Documented {
        name: Service::KIND,
        intro: "Something an app publishes, with its instances. `metadata.name` is the name requests carry: \
                `interface:version[:group]` for Bolt and Dubbo, the service's full name for gRPC, the host for \
                HTTP.",
        fields: |page| Fields::write(page, resource::<Service>),
    },
    Documented {
        name: TrafficPolicy::KIND,
        intro: "How callers treat a service: balancing, connections, time bounds, retries, health. For each \
                service the one most particular policy holds as a whole (policies are not merged): named \
                services before an app before everything, then the scope with more parts, each label \
                being one.",
        fields: |page| Fields::write(page, resource::<TrafficPolicy>),
    },
    Documented {
        name: Route::KIND,
        intro: "Which requests go where. Rules are tried in order; the first whose conditions all hold takes \
                the request.",
        fields: |page| Fields::write(page, resource::<Route>),
    },
    Documented {
        name: LinkEncryption::KIND,
        intro: "Whether callers of an app encrypt. It reaches the callees' sidecars; those say to the registry that they \
                take TLS once they hold a certificate, and callers follow. Of several for one sidecar the one with the \
                narrower scope holds as a whole.",
        fields: |page| Fields::write(page, resource::<LinkEncryption>),
    },
    Documented {
        name: Authorization::KIND,
        intro: "Who may call what of an app, judged by the callee's sidecar for every request.",
        fields: |page| Fields::write(page, resource::<Authorization>),
    },
    Documented {
        name: AdaptiveLimit::KIND,
        intro: "The one rule that protects an app whose machine is short: its sidecar finds the interfaces that cause it and \
                holds just those. Of several for one sidecar the one with the narrower scope holds as a whole.",
        fields: |page| Fields::write(page, resource::<AdaptiveLimit>),
    },
    Documented {
        name: RateLimit::KIND,
        intro: "A bound on requests: in a time, at the same time, or for each value of a parameter. A request must pass every \
                rule that takes it.",
        fields: |page| Fields::write(page, resource::<RateLimit>),
    },
    Documented {
        name: CircuitBreaker::KIND,
        intro: "When callers stop calling what fails or is slow, and how they find out that it is well again.",
        fields: |page| Fields::write(page, resource::<CircuitBreaker>),
    },
    Documented {
        name: Certificate::KIND,
        intro: "A certificate and its key in files, for listeners that end TLS. The files are watched: a new \
                certificate is used for new connections as soon as both are in place.",
        fields: |page| Fields::write(page, resource::<Certificate>),
    },
];

/// A kind: how its `spec` is read, and where its metadata goes.
pub(crate) trait Resource: Serialize + Sized {
    const KIND: &'static str;
    /// Declares the fields of `spec`. The value's metadata is filled in by the caller.
    fn spec(fields: &mut Fields<'_>) -> Option<Self>;
    fn metadata_mut(&mut self) -> &mut Metadata;
}

/// Decodes one document into `out`, or notes what is wrong with it.
///
/// A resource with mistakes is left out: checks between resources would only say follow-up faults of it.
pub(crate) fn document(node: &Node<'_>, cx: &mut Cx, out: &mut Resources) {
    if node.is_null() {
        return;
    }
    cx.document = node.spot;
    let Value::Map(entries) = &node.value else {
        let problem = "a document must be a mapping".into();
        let remedy = "begin it with the fields apiVersion, kind, metadata and spec".into();
        return cx.mistake(node.spot, &At::ROOT, problem, remedy);
    };
    let kind = entries.iter().find(|(key, _)| key.text == "kind").map(|(_, kind)| kind);
    match kind
        .and_then(|kind| if let Value::Scalar { text, .. } = &kind.value { Some(&**text) } else { None })
    {
        Some(Service::KIND) => out.services.extend(sound::<Service>(node, cx)),
        Some(TrafficPolicy::KIND) => out.policies.extend(sound::<TrafficPolicy>(node, cx)),
        Some(Route::KIND) => out.routes.extend(sound::<Route>(node, cx)),
        Some(LinkEncryption::KIND) => out.encryption.extend(sound::<LinkEncryption>(node, cx)),
        Some(Authorization::KIND) => out.authorization.extend(sound::<Authorization>(node, cx)),
        Some(AdaptiveLimit::KIND) => out.adaptive.extend(sound::<AdaptiveLimit>(node, cx)),
        Some(RateLimit::KIND) => out.rates.extend(sound::<RateLimit>(node, cx)),
        Some(CircuitBreaker::KIND) => out.breakers.extend(sound::<CircuitBreaker>(node, cx)),
        Some(Certificate::KIND) => out.certificates.extend(sound::<Certificate>(node, cx)),
        Some(Sidecar::KIND) => {
            cx.sidecars.push(cx.place(node.spot, &At::ROOT));
            out.sidecar = out.sidecar.take().or(sound::<Sidecar>(node, cx));
        }
        given => unknown_kind(given, kind.map_or(node.spot, |kind| kind.spot), cx),
    }
}

/// The resource, if no mistake is in it.
fn sound<T: Resource>(node: &Node<'_>, cx: &mut Cx) -> Option<T> {
    let before = cx.count();
    let resource = Fields::read(node, &At::ROOT, cx, resource::<T>);
    resource.filter(|_| cx.count() == before)
}

fn unknown_kind(given: Option<&str>, spot: Spot, cx: &mut Cx) {
    let known = DOCUMENTED.map(|kind| kind.name);
    let (problem, remedy) = match given {
        None | Some("" | "~" | "null") => {
            ("is missing".into(), format!("give kind: one of {}", known.join(", ")))
        }
        Some(kind) if LATER.contains(&kind) => (
            format!("{kind} is not supported yet in a sidecar's static file by this version"),
            format!("leave it out; the kinds read are {}", known.join(", ")),
        ),
        Some(kind) => (
            format!("unknown kind {}", quote(kind)),
            match suggest::nearest(kind, known.into_iter().chain(LATER)) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("give one of {}", known.join(", ")),
            },
        ),
    };
    cx.mistake(spot, &At::ROOT.field("kind"), problem, remedy);
}

/// The fields every kind has, around those of its `spec`.
fn resource<T: Resource>(fields: &mut Fields<'_>) -> Option<T> {
    fields.required("apiVersion", Choice(&[("raddle.io/v1", ())]), "Version of this format.");
    fields.required("kind", Text::any("the kind"), &format!("`{}`.", T::KIND));
    let metadata = fields.required("metadata", Record(metadata), "Who the resource is.");
    if let (Some((metadata, spot)), Some((cx, _))) = (&metadata, fields.context()) {
        cx.declare(T::KIND, &metadata.name, *spot);
    }
    let spec = fields.required("spec", Record(T::spec), "What the resource says.");
    let mut resource = spec?;
    *resource.metadata_mut() = metadata?.0;
    resource.metadata_mut().fingerprint = fingerprint(&resource);
    Some(resource)
}

fn metadata(fields: &mut Fields<'_>) -> Option<(Metadata, Spot)> {
    let name = fields.required(
        "name",
        Spotted(Text::name("a name")),
        "Name, unique among the resources of this kind.",
    );
    let labels = fields.or("labels", TextMap, Labels::new(), "Free labels of the resource.");
    let origin = fields.context().map(|(cx, _)| Origin {
        file: cx.file().to_owned(),
        line: cx.document.line,
        column: cx.document.column,
    });
    let (name, spot) = name?;
    Some((Metadata { name, labels, origin: origin.unwrap_or_default(), fingerprint: 0 }, spot))
}

/// A protocol.
pub(crate) const PROTOCOLS: Choice<Protocol> = Choice(&[
    ("bolt", Protocol::Bolt),
    ("dubbo", Protocol::Dubbo),
    ("http", Protocol::Http),
    ("http2", Protocol::Http2),
    ("grpc", Protocol::Grpc),
    ("tcp", Protocol::Tcp),
]);

/// A list of names.
pub(crate) fn names(what: &'static str) -> List<Text> {
    List(Text::name(what))
}
