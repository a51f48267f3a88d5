//! Sidecars report over real streams; what they say is known to all replicas, and decides rollouts.
use raddle_control::election::Replica;
use raddle_control::events::Events;
use raddle_control::reports::Reports;
use raddle_control::rules::{Change, Cohort, Known, Observer, Rules};
use raddle_model::Source;
use raddle_policy::rollout::{Cohorts, State};
use raddle_store::{Embedded, Store};
use raddle_xds::proto::reports_client::ReportsClient;
use raddle_xds::proto::{Node, ReportRequest, ReportResponse, Running, ServiceStats};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Status, Streaming};

const ID: &str = "TrafficPolicy/slow";
const SERVICE: &str = "shop.Orders:1.0";
const STAGED: &str =
    "  rollout:\n    stages: [{percent: 30, hold: 1m}, {percent: 100}]\n    guard: {errorRate: 0.05}\n";

struct Plane {
    rules: Arc<Rules>,
    reports: Arc<Reports>,
    replica: Arc<Replica>,
    target: String,
}

fn store() -> Arc<dyn Store> {
    Arc::new(Embedded::in_memory().expect("a store in memory"))
}

async fn plane(store: &Arc<dyn Store>, name: &str) -> Plane {
    let replica = Replica::join(store.clone(), name, Vec::new());
    let rules = Rules::start(store.clone(), Known::default, Events::start(store.clone(), name));
    let reports = Reports::start(store.clone(), &replica, rules.book());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let target = format!("http://{}", listener.local_addr().expect("bound"));
    let server = tonic::transport::Server::builder().add_service(reports.service());
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    Plane { rules, reports, replica, target }
}

struct Sidecar {
    node: Node,
    out: mpsc::Sender<ReportRequest>,
    answers: Streaming<ReportResponse>,
}

impl Sidecar {
    async fn join(plane: &Plane, n: usize, first: ReportRequest) -> Sidecar {
        let node = Node { id: format!("shop-{n}"), app: "shop".into(), ..Node::default() };
        let (out, requests) = mpsc::channel(4);
        out.send(ReportRequest { node: Some(node.clone()), ..first }).await.expect("open");
        let mut client = ReportsClient::connect(plane.target.clone()).await.expect("connected");
        let answers = client.report(ReceiverStream::new(requests)).await.expect("a stream").into_inner();
        Sidecar { node, out, answers }
    }

    async fn says(&self, report: ReportRequest) {
        self.out.send(report).await.expect("open");
    }

    async fn answer(&mut self) -> Result<u32, Status> {
        let answer = tokio::time::timeout(Duration::from_secs(20), self.answers.message()).await;
        answer.expect("in time").map(|a| a.expect("open").interval_ms)
    }
}

fn report(revision: Option<&str>, requests: u64, failures: u64) -> ReportRequest {
    let running = revision.map(|r| Running { rule: ID.into(), revision: r.into() });
    let stats = ServiceStats { service: SERVICE.into(), requests, failures, ..ServiceStats::default() };
    let stats = Some(stats).filter(|s| s.requests > 0);
    ReportRequest {
        running: running.into_iter().collect(),
        stats: stats.into_iter().collect(),
        ..ReportRequest::default()
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn apply(rules: &Rules, seconds: u32, rollout: &str) -> String {
    let text = format!(
        "apiVersion: raddle.io/v1\nkind: TrafficPolicy\nmetadata: {{name: slow}}\nspec:\n  \
         to: {{services: [\"{SERVICE}\"]}}\n  timeouts: {{request: {seconds}s}}\n{rollout}"
    );
    let source = Source { name: "slow.yaml".into(), text };
    let applied = rules.apply(&[source], &Change::default()).await.expect("applied").applied.remove(0);
    applied.after.expect("a revision").to_string()
}

/// The stable and the candidate revision, and the cohort; known to all these planes.
async fn rollout(planes: &[&Plane]) -> (String, String, Cohort) {
    let stable = apply(&planes[0].rules, 1, "").await;
    let candidate = apply(&planes[0].rules, 2, STAGED).await;
    let cohort = |p: &Plane| {
        p.rules.book().borrow().rules.get(ID).and_then(|e| e.candidate.clone()).map(|(_, cohort)| cohort)
    };
    until("the books", async || planes.iter().all(|p| cohort(p).is_some())).await;
    (stable, candidate, cohort(planes[0]).expect("there"))
}

#[tokio::test]
async fn statuses_are_known_to_all_replicas_and_go_after_the_streams_end() {
    let store = store();
    let (one, two) = (plane(&store, "one").await, plane(&store, "two").await);
    let mut first = Sidecar::join(&one, 1, report(Some("r1"), 0, 0)).await;
    let mut second = Sidecar::join(&two, 2, report(None, 0, 0)).await;
    assert_eq!((first.answer().await.expect("taken"), second.answer().await.expect("taken")), (5000, 5000));
    until("both to know both", async || [&one, &two].iter().all(|p| p.reports.nodes().len() == 2)).await;
    first.says(report(Some("r2"), 0, 0)).await;
    until("the change", async || {
        let seen = two.reports.node("shop-1");
        seen.is_some_and(|s| s.running.get(ID).is_some_and(|r| &**r == "r2") && &*s.replica == "one")
    })
    .await;
    drop(first);
    until("it to be forgotten", async || [&one, &two].iter().all(|p| p.reports.node("shop-1").is_none()))
        .await;
    assert!(one.reports.node("shop-2").is_some());
}

#[tokio::test]
async fn reports_beyond_their_bounds_are_refused_in_words() {
    let store = store();
    let plane = plane(&store, "one").await;
    let stats = vec![ServiceStats::default(); 2001];
    let mut many = Sidecar::join(&plane, 1, ReportRequest { stats, ..ReportRequest::default() }).await;
    let refused = many.answer().await.expect_err("too many");
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert_eq!(refused.message(), "stats: 2001 entries are more than 2000");
    let mut long = Sidecar::join(&plane, 2, report(Some(&"x".repeat(200)), 0, 0)).await;
    let refused = long.answer().await.expect_err("too long");
    assert_eq!(refused.message(), "running.revision: 200 bytes are more than 128");
}

#[tokio::test]
async fn reports_come_faster_while_a_rollout_runs() {
    let store = store();
    let plane = plane(&store, "one").await;
    let mut sidecar = Sidecar::join(&plane, 1, report(None, 0, 0)).await;
    assert_eq!(sidecar.answer().await.expect("taken"), 5000);
    rollout(&[&plane]).await;
    assert_eq!(sidecar.answer().await.expect("told"), 1000);
}

#[tokio::test]
async fn requests_count_to_the_cohort_whose_revision_runs_and_only_once() {
    let store = store();
    let (one, two) = (plane(&store, "one").await, plane(&store, "two").await);
    let (stable, candidate, cohort) = rollout(&[&one, &two]).await;
    let mut seen = Cohorts::default();
    let mut look = || {
        let new = one.reports.observe(ID, &cohort, Some(&candidate)).new;
        seen.candidate.add(&new.candidate);
        seen.rest.add(&new.rest);
        seen.clone()
    };
    assert_eq!(look(), Cohorts::default());
    let chosen = |n: &usize| cohort.has(&format!("shop-{n}"));
    let inside: Vec<usize> = (0..200).filter(chosen).take(2).collect();
    let outside = (0..200).find(|n| !chosen(n)).expect("there is one");
    let runs = Sidecar::join(&two, inside[0], report(Some(&candidate), 50, 40)).await;
    // It shall have the candidate and does not yet: it says nothing of either.
    let _late = Sidecar::join(&one, inside[1], report(Some(&stable), 1000, 1000)).await;
    let _rest = Sidecar::join(&one, outside, report(Some(&stable), 70, 1)).await;
    until("what the other replica's sidecar said", async || look().candidate.requests == 50).await;
    runs.says(report(Some(&candidate), 5, 5)).await;
    until("what came since", async || {
        let all = look();
        all.candidate.requests == 55 && all.rest.requests == 70
    })
    .await;
    let all = look();
    assert_eq!((all.candidate.failures, all.rest.failures), (45, 1));
    let spread = one.reports.observe(ID, &cohort, Some(&candidate)).spread;
    assert_eq!((spread.wanted, spread.running, spread.refused), (2, 1, 0));
}

#[tokio::test]
async fn a_harmful_candidate_is_rolled_back_by_what_its_sidecars_report() {
    let store = store();
    let plane = plane(&store, "one").await;
    let (stable, candidate, cohort) = rollout(&[&plane]).await;
    plane.rules.lead(&plane.replica, plane.reports.clone());
    let mut sidecars = Vec::new();
    for n in 0..20 {
        sidecars.push(Sidecar::join(&plane, n, report(Some(&stable), 0, 0)).await);
    }
    let began = Instant::now();
    until("the rollback", async || {
        for sidecar in &sidecars {
            let has = cohort.has(&sidecar.node.id);
            let next = if has { report(Some(&candidate), 20, 15) } else { report(Some(&stable), 20, 0) };
            sidecar.says(next).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let view = plane.rules.rollout(ID).await.expect("there is one");
        matches!(&view.state, State::RolledBack { by, .. } if by == "guard")
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
