//! `kind: LinkEncryption`, and how an endpoint takes TLS.
use super::Resource;
use super::reach::reach;
use crate::decode::{
    At, Bool, Choice, Codec, Cx, DurationIn, Fields, FilePath, Int, List, Record, Referent, Spotted, Text,
};
use crate::reference::Page;
use crate::resources::{
    EndpointTls, Fallback, IdentitySource, LinkEncryption, LinkMode, LinkSettings, Metadata, PortMode,
};
use crate::yaml::{Node, Value};
use std::collections::HashMap;

const MODES: Choice<LinkMode> = Choice(&[
    ("disable", LinkMode::Disable),
    ("permissive", LinkMode::Permissive),
    ("strict", LinkMode::Strict),
]);

impl Resource for LinkEncryption {
    const KIND: &'static str = "LinkEncryption";

    fn spec(fields: &mut Fields<'_>) -> Option<LinkEncryption> {
        let (scope, rollout) = reach(fields);
        let d = LinkSettings::default();
        let mode = fields.required(
            "mode",
            MODES,
            "What callers of the app are asked for: `disable` = plaintext (TLS is still taken); `permissive` = TLS of \
             those who can, plaintext of the others; `strict` = TLS, plaintext is refused.",
        );
        let ports = fields.or(
            "ports",
            List(Spotted(Record(port))),
            Vec::new(),
            "Other modes for single ports of inbound listeners.",
        );
        let mut first = HashMap::new();
        for (i, (port, spot)) in ports.iter().enumerate() {
            let earlier = *first.entry(port.port).or_insert(i);
            if earlier != i
                && let Some((cx, at)) = fields.context()
            {
                let problem = format!("{} is ports[{earlier}] already", port.port);
                let list = at.field("ports");
                cx.mistake(*spot, &list.item(i).field("port"), problem, "keep one of them".into());
            }
        }
        let fallback = fields.optional(
            "fallback",
            Choice(&[("allowed", Fallback::Allowed), ("denied", Fallback::Denied)]),
            "`denied` with `strict`, else `allowed`",
            "What callers do whose TLS connection fails: go on in plaintext and try again in the background, or let \
             their requests fail.",
        );
        let quiet = fields.or(
            "quiet",
            DurationIn::millis(0, 7 * 86_400_000),
            d.quiet,
            "`strict` takes effect once no plaintext caller was seen for this long; until then the sidecar behaves as \
             `permissive`, and says who still comes in plaintext.",
        );
        let force = fields.or(
            "force",
            Bool,
            false,
            "`strict` takes effect at once, whoever still comes in plaintext.",
        );
        let deadline = fields.or(
            "deadline",
            DurationIn::millis(1000, 86_400_000),
            d.deadline,
            "Plaintext connections from before `strict` are told to go; those that stay end after this long.",
        );
        let tcp_deadline = fields.or(
            "tcpDeadline",
            DurationIn::millis(1000, 30 * 86_400_000),
            d.tcp_deadline,
            "The same for connections without a known protocol, which cannot be told.",
        );
        let ports = ports.into_iter().map(|(port, _)| port).collect();
        let settings = LinkSettings { mode: mode?, ports, fallback, quiet, force, deadline, tcp_deadline };
        Some(LinkEncryption { metadata: Metadata::default(), scope, rollout, settings })
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

fn port(fields: &mut Fields<'_>) -> Option<PortMode> {
    let port = fields.required("port", Int::<u16>::new(1, 65_535, ""), "Port of the inbound listener.");
    let mode = fields.required("mode", MODES, "What holds there.");
    Some(PortMode { port: port?, mode: mode? })
}

/// `true`, `false`, or an object.
pub(super) struct TlsForm;

impl Codec for TlsForm {
    type Out = Option<EndpointTls>;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<Option<EndpointTls>> {
        match &node.value {
            Value::Map(_) => Fields::read(node, at, cx, endpoint_tls).map(Some),
            _ => Bool.decode(node, at, cx).map(|yes| yes.then(EndpointTls::default)),
        }
    }

    fn wanted(&self) -> String {
        "true, false or {required: true, ids: [...]}".into()
    }

    fn kind(&self) -> String {
        "`true` \\| `false` \\| object".into()
    }

    fn show(&self, _: &Option<EndpointTls>) -> String {
        "`false`".into()
    }

    fn document(&self, page: &mut Page) {
        Fields::write(page, endpoint_tls);
    }
}

fn endpoint_tls(fields: &mut Fields<'_>) -> Option<EndpointTls> {
    Some(EndpointTls {
        required: fields.or("required", Bool, false, "Plaintext is no way out if TLS fails."),
        ids: fields.or(
            "ids",
            List(Text::name("a SPIFFE id")),
            Vec::new(),
            "SPIFFE ids its certificate may have. Empty = that of the service's app, in the endpoint's unit if it has \
             one.",
        ),
    })
}

/// `spec.identity` of a sidecar.
pub(super) fn identity(fields: &mut Fields<'_>) -> Option<IdentitySource> {
    let socket = fields.optional(
        "sds",
        FilePath { what: "a socket's path" },
        "none",
        "Unix socket of an agent that gives certificates by SDS, such as SPIRE's or Istio's.",
    );
    let roots_name = Text::name("a secret's name");
    let secret = fields.or(
        "secret",
        Text::name("a secret's name"),
        "default".into(),
        "With `sds`: name of the secret with certificate and key.",
    );
    let trust =
        fields.or("trust", roots_name, "ROOTCA".into(), "With `sds`: name of the secret with the roots.");
    let named = super::common::Named { what: "a certificate's name", to: Referent::Certificate };
    let certificate =
        fields.optional("certificate", named, "none", "Name of a `Certificate` with exactly one SPIFFE id.");
    let roots = fields.optional(
        "rootsFile",
        FilePath { what: "a file's path" },
        "none",
        "With `certificate`: PEM file with the roots of trust. A relative path begins at the folder of this file.",
    );
    match (socket, certificate, roots) {
        (Some(socket), None, None) => Some(IdentitySource::Sds { socket, certificate: secret, roots: trust }),
        (None, Some(certificate), Some(roots)) => Some(IdentitySource::Files { certificate, roots }),
        _ => {
            fields.whole(
                "is neither whole nor one",
                "give {certificate, rootsFile}, or {sds}; leave it out for the control plane's",
            );
            None
        }
    }
}
