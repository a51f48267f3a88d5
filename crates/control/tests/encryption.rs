//! Link encryption over the whole control plane: who gets the rule, who is told of, and what strict is refused for.
use raddle_control::plane::{ControlPlane, Keep, Options, Running};
use raddle_xds::proto::registry_client::RegistryClient;
use raddle_xds::proto::reports_client::ReportsClient;
use raddle_xds::proto::{self, Edge, Encryption, Instance, Node, PublishRequest, ReportRequest, Service};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

const RULE: &str = "LinkEncryption/pay";
const IN_A_YEAR: u64 = 4_000_000_000;

struct Plane {
    running: Running,
    grpc: String,
    rest: SocketAddr,
}

impl Plane {
    async fn start() -> Plane {
        let any = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let options = Options {
            store: Keep::Memory,
            grpc: any,
            tls: None,
            rest: any,
            no_auth: true,
            ..Options::default()
        };
        let running = ControlPlane::start(options).await.expect("it starts");
        let grpc = format!("http://{}", running.addresses().grpc.expect("gRPC"));
        let rest = running.addresses().rest.expect("REST");
        Plane { running, grpc, rest }
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = tokio::net::TcpStream::connect(self.rest).await.expect("connected");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/yaml\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("read");
        let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, serde_json::from_str(body).unwrap_or_default())
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, "").await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn apply(&self, spec: &str) -> (u16, Value) {
        let text = format!(
            "apiVersion: raddle.io/v1\nkind: LinkEncryption\nmetadata: {{name: pay}}\nspec: {{{spec}}}\n"
        );
        self.ask("POST", "/v1/apply?replace=true", &text).await
    }

    /// Which mode the rule has for a sidecar now.
    fn wanted(&self, node: &Node) -> Option<(String, String)> {
        let book = self.running.parts.rules.borrow().clone();
        let entry = book.rules.get(RULE)?;
        let revision = book.select(entry, node)?;
        let document: Value = serde_json::from_str(&revision.document).expect("JSON");
        Some((revision.hash.to_string(), document["spec"]["mode"].as_str().expect("a mode").to_owned()))
    }
}

/// A sidecar of the app `pay` that does what it is told.
struct Sidecar {
    node: Node,
    publish: mpsc::Sender<PublishRequest>,
    report: mpsc::Sender<ReportRequest>,
    sequence: u64,
    /// Its requests fail while it has the rule.
    fails: bool,
    _published: Streaming<proto::PublishResponse>,
    _reported: Streaming<proto::ReportResponse>,
}

impl Sidecar {
    async fn join(plane: &Plane, n: u8) -> Sidecar {
        let node = Node {
            id: format!("pay-{n}"),
            app: "pay".into(),
            address: format!("10.0.0.{n}"),
            ..Node::default()
        };
        let (publish, publications) = mpsc::channel(8);
        let (report, reports) = mpsc::channel(8);
        let first = ReportRequest { node: Some(node.clone()), ..ReportRequest::default() };
        report.send(first).await.expect("open");
        let mut registry = RegistryClient::connect(plane.grpc.clone()).await.expect("connected");
        let mut told = ReportsClient::connect(plane.grpc.clone()).await.expect("connected");
        let published = registry.publish(ReceiverStream::new(publications)).await.expect("a stream");
        let reported = told.report(ReceiverStream::new(reports)).await.expect("a stream");
        Sidecar {
            node,
            publish,
            report,
            sequence: 0,
            fails: false,
            _published: published.into_inner(),
            _reported: reported.into_inner(),
        }
    }

    /// Publishes and reports as the rule says that it has now.
    async fn follow(&mut self, plane: &Plane, edges: Vec<Edge>) {
        let wanted = plane.wanted(&self.node);
        let mode = wanted.as_ref().map_or("disable", |(_, mode)| mode);
        let service = Service { name: "shop.Pay:1.0".into(), port: 12200, ..Service::default() };
        let instance = Instance {
            address: self.node.address.clone(),
            weight: 100,
            tls: mode != "disable",
            tls_required: mode == "strict",
            services: vec![service],
        };
        self.sequence += 1;
        let node = (self.sequence == 1).then(|| self.node.clone());
        let said = PublishRequest { node, instance: Some(instance), sequence: self.sequence };
        self.publish.send(said).await.expect("open");
        let encryption = Encryption {
            rule: wanted.as_ref().map_or("", |_| "pay").into(),
            mode: mode.into(),
            effective: mode.into(),
            certificate_ends: IN_A_YEAR,
            ..Encryption::default()
        };
        let stats = proto::ServiceStats {
            service: "shop.Pay:1.0".into(),
            inbound: true,
            requests: 100,
            failures: if self.fails && wanted.is_some() { 60 } else { 0 },
            latency: Vec::new(),
        };
        let running = wanted.map(|(revision, _)| proto::Running { rule: RULE.into(), revision });
        let report = ReportRequest {
            running: running.into_iter().collect(),
            stats: vec![stats],
            edges,
            encryption: Some(encryption),
            ..ReportRequest::default()
        };
        self.report.send(report).await.expect("open");
    }
}

fn edge(caller: &str, address: &str, encrypted: bool, requests: u64) -> Edge {
    let id = if encrypted { format!("spiffe://mesh.test/app/{caller}") } else { String::new() };
    let (caller, address) = (caller.to_owned(), address.to_owned());
    Edge { caller, address, encrypted, requests, connections: 1, id, ..Edge::default() }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How many instances ask for TLS, the sidecars following meanwhile.
async fn asking(plane: &Plane, sidecars: &mut [Sidecar]) -> u64 {
    for sidecar in sidecars.iter_mut() {
        sidecar.follow(plane, Vec::new()).await;
    }
    plane.get("/v1/encryption/pay").await["summary"]["tls"].as_u64().expect("a number")
}

async fn sidecars(plane: &Plane, n: u8) -> Vec<Sidecar> {
    let mut all = Vec::new();
    for i in 1..=n {
        all.push(Sidecar::join(plane, i).await);
    }
    until("all to be published", async || {
        asking(plane, &mut all).await;
        let seen = plane.get("/v1/encryption/pay").await;
        seen["summary"]["instances"] == n && seen["summary"]["sidecars"] == n
    })
    .await;
    all
}

const STAGES: &str = "mode: permissive, scope: {apps: [pay]}, \
     rollout: {stages: [{percent: 25, hold: 10m}, {percent: 100}], guard: {errorRate: 0.05}}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_reaches_its_share_and_a_rollback_in_the_middle_takes_it_back() {
    let plane = Plane::start().await;
    let mut all = sidecars(&plane, 16).await;
    assert_eq!(plane.apply(STAGES).await.0, 200);
    // Who is in it is by a hash: some, and not all.
    let chosen = |plane: &Plane, all: &[Sidecar]| {
        all.iter().filter(|s| plane.wanted(&s.node).is_some()).count() as u64
    };
    until("the book", async || chosen(&plane, &all) > 0).await;
    let share = chosen(&plane, &all);
    assert!((1..16).contains(&share), "{share} of 16");
    until("the stage to ask for TLS", async || asking(&plane, &mut all).await == share).await;
    let seen = plane.get("/v1/encryption/pay").await;
    assert_eq!(seen["summary"]["rules"][0]["percent"], 25.0);
    assert_eq!(seen["summary"]["rules"][0]["candidateMode"], "permissive");
    assert_eq!(seen["summary"]["asked"]["permissive"], share);
    let (status, _) = plane.ask("POST", "/v1/rules/LinkEncryption/pay/rollout/undo", "").await;
    assert_eq!(status, 200);
    until("nobody to ask any more", async || asking(&plane, &mut all).await == 0).await;
    assert_eq!(plane.apply("mode: permissive, scope: {apps: [pay]}").await.0, 200);
    until("everyone to ask", async || asking(&plane, &mut all).await == 16).await;
    until("the time line to tell", async || {
        let told = plane.get("/v1/encryption/pay/timeline").await;
        let whats: Vec<&str> =
            told["items"].as_array().expect("items").iter().filter_map(|e| e["what"].as_str()).collect();
        ["ruleApplied", "rollout", "tlsPublished", "tlsWithdrawn", "linkModeInForce"]
            .iter()
            .all(|w| whats.contains(w))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_whose_requests_fail_is_taken_back_by_its_guard() {
    let plane = Plane::start().await;
    let mut all = sidecars(&plane, 16).await;
    for s in &mut all {
        s.fails = true;
    }
    assert_eq!(plane.apply(STAGES).await.0, 200);
    until("some to ask for TLS", async || asking(&plane, &mut all).await > 0).await;
    until("the guard", async || {
        asking(&plane, &mut all).await;
        let rollout = plane.get("/v1/rules/LinkEncryption/pay/rollout").await;
        rollout["state"] == "rolledBack" && rollout["by"] == "guard"
    })
    .await;
    until("nobody to ask any more", async || asking(&plane, &mut all).await == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_is_refused_while_callers_come_in_plaintext_unless_it_is_forced() {
    let plane = Plane::start().await;
    let mut all = sidecars(&plane, 2).await;
    assert_eq!(plane.apply("mode: permissive, scope: {apps: [pay]}").await.0, 200);
    until("both to ask", async || asking(&plane, &mut all).await == 2).await;
    all[0].follow(&plane, vec![edge("order", "10.0.1.1", true, 75)]).await;
    all[1].follow(&plane, vec![edge("", "10.0.0.1", false, 25)]).await;
    until("callers to be known", async || {
        plane.get("/v1/encryption/pay").await["summary"]["requests"]["all"] == 100
    })
    .await;
    let seen = plane.get("/v1/encryption/pay").await;
    assert_eq!(seen["summary"]["requests"]["percent"], 75.0);
    let edge = &seen["edges"][0];
    assert_eq!(edge["plaintext"], true, "who comes in plaintext is first: {seen}");
    assert_eq!((&edge["caller"], &edge["byAddress"]), (&"pay".into(), &true.into()), "{edge}");
    assert_eq!(edge["addresses"][0]["address"], "10.0.0.1");
    let listed = plane.get("/v1/encryption").await;
    assert_eq!(listed["items"][0]["plaintextCallers"][0], "pay");

    let strict = "mode: strict, scope: {apps: [pay]}";
    let (status, refused) = plane.apply(strict).await;
    let words = refused["error"]["message"].as_str().unwrap_or_default();
    assert_eq!(status, 409, "{refused}");
    assert!(words.contains("pay from 10.0.0.1 calls pay: 25.0 %") && words.contains("--force"), "{words}");
    let text = format!(
        "apiVersion: raddle.io/v1\nkind: LinkEncryption\nmetadata: {{name: pay}}\nspec: {{{strict}}}\n"
    );
    let (status, tried) = plane.ask("POST", "/v1/diff", &text).await;
    assert_eq!(status, 200, "{tried}");
    assert!(tried["warnings"][0]["problem"].as_str().unwrap_or_default().contains("10.0.0.1"), "{tried}");
    assert_eq!(plane.apply("mode: strict, scope: {apps: [other]}").await.0, 200, "nobody calls that");
    assert_eq!(plane.apply("mode: permissive, scope: {apps: [pay]}").await.0, 200);
    assert_eq!(plane.apply(&format!("{strict}, force: true")).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_nobody_knows_is_said_to_be_none() {
    let plane = Plane::start().await;
    let (status, body) = plane.ask("GET", "/v1/encryption/nobody", "").await;
    assert_eq!(status, 404, "{body}");
    assert_eq!(plane.get("/v1/encryption").await["items"].as_array().map(Vec::len), Some(0));
}
