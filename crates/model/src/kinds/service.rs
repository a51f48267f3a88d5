//! `kind: Service`.
use super::link::TlsForm;
use super::{PROTOCOLS, Resource};
use crate::decode::{Address, At, Codec, Cx, Fields, Host, Int, List, Record, Role, Spotted, Text, TextMap};
use crate::resources::{Endpoint, Labels, Metadata, Service};
use crate::yaml::{Node, Spot};
use std::collections::HashMap;

impl Resource for Service {
    const KIND: &'static str = "Service";

    fn spec(fields: &mut Fields<'_>) -> Option<Service> {
        let app = fields.required(
            "app",
            Text::name("the app's name"),
            "The application that publishes the service.",
        );
        if let (Some(app), Some((cx, _))) = (&app, fields.context())
            && !cx.apps.contains(app)
        {
            cx.apps.insert(app.clone());
        }
        let protocol = fields.optional(
            "protocol",
            PROTOCOLS,
            "the request's",
            "Protocol its endpoints speak. Leave it out to use the protocol each request arrives in.",
        );
        let hosts = fields.or(
            "hosts",
            List(OwnHost),
            Vec::new(),
            "Further HTTP hosts that mean this service, besides its name: lower-case, without port. `*.` may \
             lead and stands for one or more labels; a whole host goes before it, a longer suffix before a \
             shorter one.",
        );
        let endpoints = fields.or(
            "endpoints",
            List(Record(endpoint)),
            Vec::new(),
            "Its instances. With none, requests for it fail with `UH`.",
        );
        check_endpoints(fields, &endpoints);
        let endpoints = endpoints.into_iter().map(|(endpoint, _)| endpoint).collect();
        Some(Service { metadata: Metadata::default(), app: app?, protocol, hosts, endpoints })
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// An endpoint, and where its address stands.
fn endpoint(fields: &mut Fields<'_>) -> Option<(Endpoint, Spot)> {
    let address =
        fields.required("address", Spotted(Address(Role::Connect)), "Where it accepts connections.");
    let unit = fields.optional("unit", Text::name("a unit's name"), "none", "Its deployment unit.");
    let group = fields.or(
        "group",
        Text::name("a group's name"),
        "default".into(),
        "Its group. Groups other than `default` get requests only by a `Route`.",
    );
    let weight = fields.or(
        "weight",
        Int::<u32>::new(0, 10_000, ""),
        100,
        "Share of requests relative to its peers; 0 = none at all.",
    );
    let labels =
        fields.or("labels", TextMap, Labels::new(), "Labels that routes select by, such as `version`.");
    let tls = fields.or(
        "tls",
        TlsForm,
        None,
        "It takes TLS, and shows a certificate that the sidecar's roots vouch for.",
    );
    if let Some((cx, _)) = fields.context()
        && !cx.groups.contains(&group)
    {
        cx.groups.insert(group.clone());
    }
    let (address, spot) = address?;
    Some((Endpoint { address, unit, group, weight, labels, tls }, spot))
}

/// A host that no other service may have.
struct OwnHost;

impl Codec for OwnHost {
    type Out = String;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<String> {
        let host = Host.decode(node, at, cx)?;
        cx.claim_host(&host, node.spot, at);
        Some(host)
    }

    fn wanted(&self) -> String {
        Host.wanted()
    }

    fn kind(&self) -> String {
        Host.kind()
    }

    fn show(&self, out: &String) -> String {
        Host.show(out)
    }
}

fn check_endpoints(fields: &mut Fields<'_>, endpoints: &[(Endpoint, Spot)]) {
    if endpoints.is_empty() {
        fields.warning("endpoints", "the service has no endpoints", "add one, or its requests fail with UH");
        return;
    }
    if endpoints.iter().all(|(endpoint, _)| endpoint.weight == 0) {
        fields.mistake("endpoints", "every endpoint has weight 0", "give at least one a weight over 0");
    }
    let mut first = HashMap::with_capacity(endpoints.len());
    for (i, (endpoint, spot)) in endpoints.iter().enumerate() {
        let earlier = *first.entry(endpoint.address).or_insert(i);
        if earlier != i
            && let Some((cx, at)) = fields.context()
        {
            let problem = format!("{} is endpoints[{earlier}] already", endpoint.address);
            let list = at.field("endpoints");
            cx.mistake(*spot, &list.item(i).field("address"), problem, "keep one of them".into());
        }
    }
}
