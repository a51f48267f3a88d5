//! Limits over the whole control plane: applied, rolled out, selected for sidecars, reported, asked for.
use raddle_control::plane::{ControlPlane, Keep, Options, Running};
use raddle_xds::proto::reports_client::ReportsClient;
use raddle_xds::proto::{
    LimitActivation, LimitCount, LimitCulprit, Limiting, Node, ReportRequest, ReportResponse, Running as Runs,
};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

const RULES: &str = "\
apiVersion: raddle.io/v1
kind: AdaptiveLimit
metadata: {name: order}
spec: {scope: {apps: [order]}}
---
apiVersion: raddle.io/v1
kind: RateLimit
metadata: {name: refunds}
spec: {scope: {apps: [order]}, mode: observe, when: {method: {equals: refund}}, rate: 10}
---
apiVersion: raddle.io/v1
kind: CircuitBreaker
metadata: {name: stock}
spec: {scope: {apps: [cart]}, consecutiveErrors: 5}
";

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

    async fn until(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let (status, body) = self.ask("GET", path, "").await;
            if status == 200 && holds(&body) {
                return body;
            }
            assert!(Instant::now() < deadline, "{path}: {status} {body}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Rules of an instance of an app, `KIND/NAME` and revision.
    fn wanted(&self, app: &str) -> Vec<(String, String)> {
        let node = Node { id: format!("{app}-1"), app: app.into(), ..Node::default() };
        let book = self.running.parts.rules.borrow().clone();
        let revision = |e: &_| book.select(e, &node).map(|r| r.hash.to_string());
        book.rules.values().filter_map(|e| Some((e.id.to_string(), revision(e)?))).collect()
    }
}

/// A sidecar of the app `order` that says what it is told to.
struct Sidecar {
    out: mpsc::Sender<ReportRequest>,
    answers: Streaming<ReportResponse>,
}

impl Sidecar {
    async fn join(plane: &Plane, limiting: Limiting) -> Sidecar {
        let (out, requests) = mpsc::channel(4);
        let node = Node { id: "order-1".into(), app: "order".into(), ..Node::default() };
        let running =
            plane.wanted("order").into_iter().map(|(rule, revision)| Runs { rule, revision }).collect();
        let first =
            ReportRequest { node: Some(node), running, limiting: Some(limiting), ..ReportRequest::default() };
        out.send(first).await.expect("open");
        let mut client = ReportsClient::connect(plane.grpc.clone()).await.expect("connected");
        let answers = client.report(ReceiverStream::new(requests)).await.expect("a stream").into_inner();
        Sidecar { out, answers }
    }

    async fn says(&mut self, limiting: Limiting) {
        let report = ReportRequest { limiting: Some(limiting), ..ReportRequest::default() };
        self.out.send(report).await.expect("open");
        self.answers.message().await.expect("taken").expect("open");
    }
}

fn holding(tier: u32) -> Limiting {
    let culprit = LimitCulprit {
        name: "shop.Order:1.0/list".into(),
        offered: 500.0,
        limit: 120.0,
        baseline: 100.0,
        rise: 5.0,
        cost_ms: 8.0,
        ..LimitCulprit::default()
    };
    let time = LimitActivation {
        number: 1,
        began_ms: 1_700_000_000_000,
        cause: "the cores are short".into(),
        culprits: vec![culprit.clone()],
        refused: vec![0, 0, 7, 0],
        ..LimitActivation::default()
    };
    Limiting {
        rule: "AdaptiveLimit/order".into(),
        mode: "enforce".into(),
        tier,
        since_ms: 1_700_000_000_000,
        signal: "load".into(),
        sensing: "CPU time of process 7, of 2 cores".into(),
        cpu: 0.97,
        threshold: 0.8,
        cores: 2.0,
        culprits: Some(culprit).filter(|_| tier > 0).into_iter().collect(),
        activations: vec![time],
        counts: vec![LimitCount { rule: "RateLimit/refunds".into(), held: 0, observed: 12 }],
        ..Limiting::default()
    }
}

#[tokio::test]
async fn limits_reach_the_sidecars_in_their_scope_and_what_they_hold_comes_back() {
    let plane = Plane::start().await;
    let (status, applied) = plane.ask("POST", "/v1/apply", RULES).await;
    assert_eq!(status, 200, "{applied}");
    let warned = applied["warnings"].to_string();
    assert!(warned.contains("no instance of app order is known"), "{warned}");
    let deadline = Instant::now() + Duration::from_secs(30);
    while plane.wanted("order").len() < 2 {
        assert!(Instant::now() < deadline, "the book has the rules");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let names = |app| plane.wanted(app).into_iter().map(|(rule, _)| rule).collect::<Vec<_>>();
    assert_eq!(names("order"), ["AdaptiveLimit/order", "RateLimit/refunds"]);
    assert_eq!(names("cart"), ["CircuitBreaker/stock"]);

    // Before anybody reports, the rules that name the app are known.
    let early =
        plane.until("/v1/apps/order/limits", |l| l["rules"].as_array().is_some_and(|r| r.len() == 2)).await;
    assert_eq!(early["sidecars"].as_array().map(Vec::len), Some(0));
    assert_eq!(plane.ask("GET", "/v1/apps/nobody/limits", "").await.0, 404);

    let mut sidecar = Sidecar::join(&plane, holding(0)).await;
    let look =
        plane.until("/v1/apps/order/limits", |l| l["sidecars"][0]["rule"] == "AdaptiveLimit/order").await;
    assert_eq!((look["holding"].as_u64(), look["rules"][0]["running"].as_u64()), (Some(0), Some(1)));
    assert_eq!(look["rules"][1]["mode"], "observe");
    sidecar.says(holding(1)).await;
    let look = plane.until("/v1/apps/order/limits", |l| l["holding"] == 1).await;
    let held = &look["sidecars"][0];
    assert_eq!(held["culprits"][0]["name"], "shop.Order:1.0/list");
    assert_eq!(held["culprits"][0]["rise"], 5.0);
    assert_eq!(held["times"][0]["refused"][2], 7);
    assert_eq!(held["sensing"], "CPU time of process 7, of 2 cores");
    assert_eq!(look["counts"][0]["observed"], 12);
    // People are told, once each.
    let mut ended = holding(0);
    ended.activations[0].ended_ms = 1_700_000_009_000;
    sidecar.says(ended).await;
    let path = "/v1/events?subject=app%20order";
    let events = plane
        .until(path, |e| {
            let all: Vec<_> =
                e["items"].as_array().into_iter().flatten().map(|e| e["what"].clone()).collect();
            all.contains(&"limitBegan".into()) && all.contains(&"limitEnded".into())
        })
        .await;
    assert!(events.to_string().contains("AdaptiveLimit/order holds shop.Order:1.0/list"), "{events}");
}

#[tokio::test]
async fn a_limit_is_rolled_out_in_stages_as_any_rule_is() {
    let plane = Plane::start().await;
    let rule = |threshold: &str, rollout: &str| {
        format!(
            "apiVersion: raddle.io/v1\nkind: AdaptiveLimit\nmetadata: {{name: order}}\nspec:\n  scope: {{apps: [order]}}\n  \
             threshold: {threshold}\n{rollout}"
        )
    };
    assert_eq!(plane.ask("POST", "/v1/apply", &rule("0.8", "")).await.0, 200);
    let staged = "  rollout:\n    stages: [{percent: 50, hold: 1h}, {percent: 100}]\n";
    let (status, applied) = plane.ask("POST", "/v1/apply", &rule("0.7", staged)).await;
    assert_eq!(status, 200, "{applied}");
    let look = plane
        .until("/v1/apps/order/limits", |l| {
            l["rules"][0]["candidate"].as_str().is_some_and(|c| !c.is_empty())
        })
        .await;
    assert_eq!(look["rules"][0]["percent"], 50.0);
}

#[tokio::test]
async fn a_limit_with_a_mistake_is_refused_with_its_place() {
    let plane = Plane::start().await;
    let wrong = "apiVersion: raddle.io/v1\nkind: AdaptiveLimit\nmetadata: {name: a}\nspec: {threshold: 2}\n";
    let (status, answer) = plane.ask("POST", "/v1/apply", wrong).await;
    assert_eq!(status, 422, "{answer}");
    assert!(answer.to_string().contains("spec.threshold"), "{answer}");
}
