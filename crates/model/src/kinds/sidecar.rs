//! `kind: Sidecar`.
use super::common::Named;
use super::{PROTOCOLS, Resource, link, mesh};
use crate::decode::{
    Address, At, Choice, Codec, Cx, DurationIn, Fields, Int, Ip, List, Record, Referent, Role, Share, SizeIn,
    Spotted, Text, TextMap, quote, report_duplicates, wrong,
};
use crate::resources::{
    AccessLog, CallerIdentity, Capture, Drain, InboundListener, Labels, Limits, ListenerTls, LogFormat,
    Metadata, OutboundListener, PortProtocol, Replies, Sidecar, UnknownDestinations,
};
use crate::yaml::{Node, Spot, Value};
use raddle_core::Protocol;
use std::fmt;
use std::net::SocketAddr;

impl Resource for Sidecar {
    const KIND: &'static str = "Sidecar";

    fn spec(fields: &mut Fields<'_>) -> Option<Sidecar> {
        let app = fields.required("app", Text::name("the app's name"), "The application beside the sidecar.");
        let unit = fields.optional(
            "unit",
            Text::name("a unit's name"),
            "none",
            "Deployment unit of this instance; requests prefer endpoints of the same unit.",
        );
        let group =
            fields.or("group", Text::name("a group's name"), "default".into(), "Group of this instance.");
        let version = fields.optional(
            "version",
            Text::name("a version"),
            "none",
            "Version of the app here, for scopes and for routes of its callers.",
        );
        let labels = fields.or("labels", TextMap, Labels::new(), "Labels of this instance, for scopes.");
        let address = fields.optional(
            "address",
            Ip,
            "`publish.address`, if given",
            "Address of this instance, for scopes' `addresses`.",
        );
        let workers = fields.optional(
            "workers",
            Int::<u16>::new(1, 256, "threads"),
            "2, or the cores if fewer",
            "Worker threads.",
        );
        let admin = fields.optional(
            "admin",
            Spotted(Address(Role::Listen)),
            "no admin interface",
            "Where metrics and the admin interface are served. It has no password: keep it on loopback.",
        );
        let inbound =
            fields.or("inbound", List(Record(inbound)), Vec::new(), "Listeners for requests to the app.");
        let outbound =
            fields.or("outbound", List(Record(outbound)), Vec::new(), "Listeners for requests of the app.");
        let limits =
            fields.or("limits", Record(limits), Limits::default(), "Bounds that protect the sidecar.");
        let replies = fields.or(
            "replies",
            Choice(&[("status", Replies::Status), ("readable", Replies::Readable)]),
            Replies::Status,
            "How the sidecar says its own rejections to the local app: `status`, the protocol's own status for \
             the reason (Java clients show their own sentence for it), or `readable`, as an exception whose \
             text names the reason and the rule (SOFARPC clients get a `SofaRpcException` under status 0).",
        );
        let drain = fields.or("drain", Record(drain), Drain::default(), "How a shutdown proceeds.");
        let access_log = fields.or("accessLog", Record(access_log), AccessLog::default(), "The access log.");
        let control_plane = fields.optional(
            "controlPlane",
            Record(mesh::control_plane),
            "none: the files say everything",
            "The control plane services and rules come from, beside those in files. It need not be up.",
        );
        let publish = fields.optional(
            "publish",
            Record(mesh::publish),
            "nothing",
            "What the app serves, for the control plane's registry.",
        );
        let local_mesh = fields.optional(
            "localMesh",
            Spotted(Address(Role::Listen)),
            "none",
            "Where apps whose framework knows a mesh publish and subscribe, such as `127.0.0.1:13330`. It has no \
             password: keep it on loopback.",
        );
        let identity = fields.optional(
            "identity",
            Record(link::identity),
            "the control plane's, where it gives one",
            "Where the certificate comes from by which this instance proves who it is to other apps' sidecars.",
        );
        if control_plane.is_some() {
            if let Some((cx, _)) = fields.context() {
                cx.served = true;
            }
        } else if !fields.has("controlPlane") {
            for (name, given) in [("publish", publish.is_some()), ("localMesh", local_mesh.is_some())] {
                if given {
                    fields.warning(name, "has no effect without controlPlane", "add controlPlane");
                }
            }
        }

        if inbound.is_empty() && outbound.is_empty() {
            fields.warning("inbound", "the sidecar has no listener", "add inbound or outbound");
        }
        check_listeners(fields, admin, local_mesh, &inbound, &outbound);
        Some(Sidecar {
            metadata: Metadata::default(),
            app: app?,
            unit,
            group,
            version,
            labels,
            address,
            workers,
            admin: admin.map(|(address, _)| address),
            inbound: inbound.into_iter().map(|(listener, ..)| listener).collect(),
            outbound: outbound.into_iter().map(|(listener, _)| listener).collect(),
            limits,
            replies,
            drain,
            access_log,
            control_plane,
            publish,
            local_mesh: local_mesh.map(|(address, _)| address),
            identity,
        })
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

const PROTOCOL: &str = "Protocol of its connections. Leave it out to detect it from the first bytes.";

/// A listener, where its address stands, and where the app's does.
type Inbound = (InboundListener, Spot, Option<Spot>);

fn inbound(fields: &mut Fields<'_>) -> Option<Inbound> {
    const APP: Choice<Protocol> = Choice(&[("http", Protocol::Http), ("http2", Protocol::Http2)]);
    let listen = fields.required("listen", Spotted(Address(Role::Listen)), "Where requests are accepted.");
    let forward = fields.optional(
        "forward",
        Spotted(Address(Role::Connect)),
        "required; with `capture` the original destination",
        "Where the app itself listens.",
    );
    let protocol = fields.optional("protocol", PROTOCOLS, "detected", PROTOCOL);
    let app_protocol = fields.optional(
        "appProtocol",
        APP,
        "the request's own",
        "The HTTP the app speaks, if it is another than requests come in: `http` is HTTP/1.1.",
    );
    let caller_identity = fields.or(
        "callerIdentity",
        Choice(&[("headers", CallerIdentity::Headers), ("none", CallerIdentity::None)]),
        CallerIdentity::Headers,
        "How the app is told who calls, where the caller's certificate was verified: `headers` = by \
         `x-raddle-caller` (its app) and `x-raddle-caller-id` (its SPIFFE id) in HTTP's fields, Bolt's header map, \
         Dubbo's attachments, and in HTTP by `x-forwarded-client-cert` too; `none` = not at all. What callers \
         themselves say under these names is removed either way.",
    );
    let app_tls = fields.or(
        "appTls",
        List(Int::<u16>::new(1, 65_535, "")),
        Vec::new(),
        "Ports (the listener's, or those of captured connections) on which the app ends TLS itself: it passes through \
         untouched. On all others TLS is the mesh's, once the sidecar holds a certificate.",
    );
    let (tls, capture, ports) = common(fields);
    if forward.is_none() && capture.is_none() && !fields.has("forward") && !fields.has("capture") {
        let remedy = "give ip:port such as 127.0.0.1:12200; only captured connections have a destination";
        fields.mistake("forward", "is missing", remedy);
        return None;
    }
    if let (Some(_), Some(Protocol::Bolt | Protocol::Dubbo | Protocol::Tcp)) = (app_protocol, protocol) {
        fields.mistake("appProtocol", "is for HTTP, which protocol excludes", "leave one of them out");
    }
    let (listen, spot) = listen?;
    let (forward, forward_spot) = forward.unzip();
    Some((
        InboundListener {
            listen,
            forward,
            protocol,
            app_protocol,
            tls,
            app_tls,
            caller_identity,
            capture,
            ports,
        },
        spot,
        forward_spot,
    ))
}

/// A listener, and where its address stands.
fn outbound(fields: &mut Fields<'_>) -> Option<(OutboundListener, Spot)> {
    const UNKNOWN: Choice<UnknownDestinations> =
        Choice(&[("allow", UnknownDestinations::Allow), ("deny", UnknownDestinations::Deny)]);
    let listen =
        fields.required("listen", Spotted(Address(Role::Listen)), "Where the app sends its requests.");
    let protocol = fields.optional("protocol", PROTOCOLS, "detected", PROTOCOL);
    let service = fields.optional(
        "service",
        Named { what: "a service's name", to: Referent::NeededService },
        "none",
        "Service that bytes without a known protocol go to; TCP carries no service name.",
    );
    let (tls, capture, ports) = common(fields);
    let unknown = fields.optional(
        "unknownDestinations",
        UNKNOWN,
        "`allow` with `capture`, else `deny`",
        "What becomes of requests and bytes for what no Service names: `allow` = they pass through to where they \
         were meant to go (the original destination, the target of a CONNECT, the host of an absolute URI); \
         `deny` = they are refused with `NC`.",
    );
    if protocol == Some(Protocol::Tcp) && !fields.has("service") && !fields.has("capture") {
        fields.mistake("service", "is missing", "TCP carries no service name: say which service it goes to");
    }
    let by_default = if capture.is_some() { UnknownDestinations::Allow } else { UnknownDestinations::Deny };
    let unknown_destinations = unknown.unwrap_or(by_default);
    let (listen, spot) = listen?;
    Some((OutboundListener { listen, protocol, service, tls, capture, ports, unknown_destinations }, spot))
}

/// What both directions have.
fn common(fields: &mut Fields<'_>) -> (Option<ListenerTls>, Option<Capture>, Vec<PortProtocol>) {
    const CAPTURES: Choice<Capture> = Choice(&[("redirect", Capture::Redirect), ("tproxy", Capture::Tproxy)]);
    let tls = fields.optional(
        "tls",
        Record(tls),
        "plaintext only",
        "TLS that ends at the listener. The first byte of a connection tells it: plaintext stays allowed.",
    );
    let capture = fields.optional(
        "capture",
        CAPTURES,
        "none",
        "How the kernel leads connections here that were made to elsewhere: `redirect` or `tproxy`, as \
         `raddle capture install` was told.",
    );
    let ports = fields.or(
        "ports",
        Ports,
        Vec::new(),
        "Protocols by port of the original destination, such as `{3306: tcp}`. Needed where the server speaks \
         first: such connections are not waited for.",
    );
    if !ports.is_empty() && !fields.has("capture") {
        fields.warning("ports", "has no effect without capture", "give protocol for the whole listener");
    }
    (tls, capture, ports)
}

fn tls(fields: &mut Fields<'_>) -> Option<ListenerTls> {
    let name = Named { what: "a certificate's name", to: Referent::Certificate };
    let certificate = fields.required("certificate", name, "Name of the `Certificate` it shows.")?;
    Some(ListenerTls { certificate })
}

/// A mapping of ports to protocols.
struct Ports;

impl Codec for Ports {
    type Out = Vec<PortProtocol>;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<Self::Out> {
        let Value::Map(entries) = &node.value else {
            let found = if matches!(node.value, Value::List(_)) { "is a list" } else { "is a single value" };
            wrong(self, node, at, cx, found);
            return None;
        };
        report_duplicates(entries, at, cx);
        let mut out = Vec::with_capacity(entries.len());
        for (key, node) in entries {
            let at = at.field(&key.text);
            let digits = !key.text.is_empty() && key.text.bytes().all(|b| b.is_ascii_digit());
            match key.text.parse::<u16>() {
                Ok(port) if digits && port > 0 => {
                    out.extend(
                        PROTOCOLS.decode(node, &at, cx).map(|protocol| PortProtocol { port, protocol }),
                    );
                }
                _ => {
                    let problem = format!("{} is not a port", quote(&key.text));
                    cx.mistake(key.spot, &at, problem, "give a port 1..=65535".into());
                }
            }
        }
        Some(out)
    }

    fn wanted(&self) -> String {
        "a mapping of ports to protocols such as {3306: tcp}".into()
    }

    fn kind(&self) -> String {
        "map of protocol".into()
    }

    fn show(&self, _: &Self::Out) -> String {
        "`{}`".into()
    }
}

fn limits(fields: &mut Fields<'_>) -> Option<Limits> {
    const GIB: u32 = 1 << 30;
    let d = Limits::default();
    let limits = Limits {
        max_frame: fields.or("maxFrame", SizeIn::new(1 << 10, GIB), d.max_frame, "Largest frame accepted."),
        max_header: fields.or(
            "maxHeader",
            SizeIn::new(256, 16 << 20),
            d.max_header,
            "Largest header accepted (class name and header map of a frame, head of an HTTP message).",
        ),
        buffer_soft: fields.or(
            "bufferSoft",
            SizeIn::new(4 << 10, GIB),
            d.buffer_soft,
            "Bytes waiting for one peer before those who send to it are held back.",
        ),
        buffer_hard: fields.or(
            "bufferHard",
            SizeIn::new(4 << 10, GIB),
            d.buffer_hard,
            "Bytes waiting for one caller that does not read before its connection is reset (four times as \
             many for one that reads slowly), and for one endpoint before requests to it are refused.",
        ),
        max_connections: fields.or(
            "maxConnections",
            Int::<u32>::new(0, 10_000_000, "connections"),
            d.max_connections,
            "Most accepted connections at once; 0 = as many as the system gives.",
        ),
        detect_timeout: fields.or(
            "detectTimeout",
            DurationIn::millis(1, 60_000),
            d.detect_timeout,
            "How long the first bytes are awaited before a connection is treated as TCP.",
        ),
        frame_timeout: fields.or(
            "frameTimeout",
            DurationIn::usual(),
            d.frame_timeout,
            "How long a frame that has begun may take to arrive whole.",
        ),
        idle_timeout: fields.or(
            "idleTimeout",
            DurationIn::millis(1000, 7 * 86_400_000),
            d.idle_timeout,
            "A caller's connection with nothing in flight is closed after this long without a byte.",
        ),
        head_timeout: fields.or(
            "headTimeout",
            DurationIn::usual(),
            d.head_timeout,
            "How long the head of an HTTP request may take to arrive whole.",
        ),
        max_streams: fields.or(
            "maxStreams",
            Int::<u32>::new(1, 1_000_000, "streams"),
            d.max_streams,
            "Most HTTP/2 streams a caller may have open at once on a connection.",
        ),
    };
    if limits.buffer_hard < limits.buffer_soft {
        fields.mistake("bufferHard", "is under bufferSoft", "give at least as much as bufferSoft");
    }
    if limits.max_header > limits.max_frame {
        fields.mistake("maxHeader", "is over maxFrame", "a header is part of its frame: give less");
    }
    Some(limits)
}

fn drain(fields: &mut Fields<'_>) -> Option<Drain> {
    let d = Drain::default();
    let meaning = "Longest wait for requests in flight before the process ends.";
    Some(Drain { timeout: fields.or("timeout", DurationIn::millis(0, 86_400_000), d.timeout, meaning) })
}

fn access_log(fields: &mut Fields<'_>) -> Option<AccessLog> {
    const FORMATS: Choice<LogFormat> = Choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    let d = AccessLog::default();
    Some(AccessLog {
        path: fields.optional("path", Text::any("a path"), "off", "File to append to, or `stdout`."),
        format: fields.or("format", FORMATS, d.format, "Format of a line."),
        sample: fields.or(
            "sample",
            Share,
            d.sample,
            "Share of successful requests logged; failures always are.",
        ),
    })
}

/// More listeners than this are a slip or an attack; checks between them cost their square.
const MOST_LISTENERS: usize = 1000;

/// A listener and where it is declared.
struct Listener {
    list: &'static str,
    index: usize,
    address: SocketAddr,
    spot: Spot,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.list {
            "admin" | "localMesh" => write!(f, "spec.{} ({})", self.list, self.address),
            list => write!(f, "spec.{list}[{}].listen ({})", self.index, self.address),
        }
    }
}

/// Two listeners that the system would not let stand side by side, and listeners that forward to themselves
/// or back into the sidecar.
fn check_listeners(
    fields: &mut Fields<'_>,
    admin: Option<(SocketAddr, Spot)>,
    local_mesh: Option<(SocketAddr, Spot)>,
    inbound: &[Inbound],
    outbound: &[(OutboundListener, Spot)],
) {
    let listener = |list, (index, (address, spot))| Listener { list, index, address, spot };
    let mut all = Vec::new();
    all.extend(
        inbound.iter().map(|(l, spot, _)| (l.listen, *spot)).enumerate().map(|i| listener("inbound", i)),
    );
    all.extend(
        outbound.iter().map(|(l, spot)| (l.listen, *spot)).enumerate().map(|o| listener("outbound", o)),
    );
    if all.len() > MOST_LISTENERS {
        let problem = format!("{} listeners are more than {MOST_LISTENERS}", all.len());
        return fields.mistake("inbound", problem, "give fewer");
    }
    for (i, (from, _, spot)) in inbound.iter().enumerate() {
        let (Some(forward), Some(spot)) = (from.forward, spot) else { continue };
        if let Some(own) = all.iter().find(|own| accepts_local(own.address, forward)) {
            let problem = format!("{forward} leads back to {own}: a loop");
            let remedy = "give the port the app itself listens on";
            note(fields, "inbound", i, "forward", *spot, problem, remedy);
        }
    }
    all.extend(admin.map(|admin| listener("admin", (0, admin))));
    all.extend(local_mesh.map(|own| listener("localMesh", (0, own))));
    for (i, this) in all.iter().enumerate() {
        if let Some(earlier) = all[..i].iter().find(|earlier| clash(this.address, earlier.address)) {
            let problem = format!("{} is taken by {earlier}", this.address);
            note(fields, this.list, this.index, "listen", this.spot, problem, "give it a port of its own");
        }
    }
}

fn note(
    fields: &mut Fields<'_>,
    list: &str,
    index: usize,
    field: &str,
    spot: Spot,
    problem: String,
    remedy: &str,
) {
    let Some((cx, at)) = fields.context() else { return };
    let at = at.field(list);
    let item = at.item(index);
    let field = item.field(field);
    cx.mistake(
        spot,
        if matches!(list, "admin" | "localMesh") { &at } else { &field },
        problem,
        remedy.to_owned(),
    );
}

fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    // Listeners take one family only: 0.0.0.0 and [::] may have the same port.
    let same_family = a.is_ipv4() == b.is_ipv4();
    let meet = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && same_family && meet
}

/// Whether a connection to `target`, an address of this machine, ends at a listener on `listen`.
fn accepts_local(listen: SocketAddr, target: SocketAddr) -> bool {
    let same_family = listen.is_ipv4() == target.is_ipv4();
    listen.port() == target.port()
        && same_family
        && (listen.ip() == target.ip() || listen.ip().is_unspecified())
}

/// Whether a connection to `target`, an address of any machine, certainly ends at a listener on `listen`.
pub(crate) fn accepts(listen: SocketAddr, target: SocketAddr) -> bool {
    accepts_local(listen, target) && (listen.ip() == target.ip() || target.ip().is_loopback())
}
