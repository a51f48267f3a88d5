//! Publications by gRPC, through the store, into the directory.
use raddle_control::registry::{Directory, Protection, Registry, Settings};
use raddle_control::serve;
use raddle_store::{Embedded, LeaseId, Store};
use raddle_xds::proto::registry_client::RegistryClient;
use raddle_xds::proto::{Instance, Node, PublishRequest, PublishResponse, Service};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

const PATIENCE: Duration = Duration::from_secs(20);

struct Plane {
    registry: Registry,
    store: Arc<dyn Store>,
    address: SocketAddr,
    lease: watch::Sender<Option<LeaseId>>,
}

impl Plane {
    async fn start(grace: Duration) -> Plane {
        let store: Arc<dyn Store> = Arc::new(Embedded::in_memory().expect("a store"));
        let lease = store.grant(Duration::from_secs(600)).await.expect("a lease");
        let (lease, leased) = watch::channel(Some(lease));
        let protection = Protection { grace: Duration::ZERO, ..Protection::default() };
        let settings = Settings { grace, protection, ..Settings::default() };
        let registry = Registry::start(store.clone(), leased, settings).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let router = tonic::service::Routes::new(registry.service()).into_axum_router();
        tokio::spawn(serve::serve(listener, router, None, serve::Limits::default(), std::future::pending()));
        Plane { registry, store, address, lease }
    }

    async fn until(&self, what: &str, holds: impl Fn(&Directory) -> bool) -> Arc<Directory> {
        let mut directory = self.registry.directory();
        let seen = tokio::time::timeout(PATIENCE, directory.wait_for(|d| holds(d))).await;
        let seen =
            seen.unwrap_or_else(|_| panic!("not in time: {what}; {:?}", self.registry.directory().borrow()));
        seen.expect("the registry lives").clone()
    }
}

struct Stream {
    tell: mpsc::Sender<PublishRequest>,
    told: Streaming<PublishResponse>,
    sequence: u64,
}

impl Stream {
    async fn open(plane: &Plane) -> Stream {
        let mut client =
            RegistryClient::connect(format!("http://{}", plane.address)).await.expect("connected");
        let (tell, requests) = mpsc::channel(8);
        let told = client.publish(ReceiverStream::new(requests)).await.expect("a stream").into_inner();
        Stream { tell, told, sequence: 0 }
    }

    async fn say(&mut self, id: &str, instance: Option<Instance>) -> String {
        self.sequence += 1;
        let node = Node { id: id.into(), app: "shop".into(), ..Node::default() };
        let request = PublishRequest { node: Some(node), instance, sequence: self.sequence };
        self.tell.send(request).await.expect("open");
        let answer = tokio::time::timeout(PATIENCE, self.told.message()).await.expect("in time");
        let answer = answer.expect("no error").expect("an answer");
        assert_eq!(answer.sequence, self.sequence);
        answer.error
    }
}

fn instance(weight: u32) -> Instance {
    let service =
        Service { name: "shop.Cart:1.0".into(), protocol: "bolt".into(), port: 12200, ..Default::default() };
    Instance { address: "10.0.0.1".into(), weight, tls: false, tls_required: false, services: vec![service] }
}

fn weights(d: &Directory) -> Vec<u32> {
    d.services
        .get("shop.Cart:1.0")
        .map_or(Vec::new(), |s| s.endpoints.iter().map(|e| e.instance.weight).collect())
}

#[tokio::test]
async fn what_is_published_is_listed_replaced_and_withdrawn_at_once() {
    let plane = Plane::start(Duration::from_secs(600)).await;
    let mut stream = Stream::open(&plane).await;
    assert_eq!(stream.say("shop-1", Some(instance(100))).await, "");
    plane.until("listed", |d| weights(d) == [100]).await;
    assert_eq!(stream.say("shop-1", Some(instance(50))).await, "");
    plane.until("replaced", |d| weights(d) == [50]).await;
    assert!(stream.say("shop-1", Some(instance(10_001))).await.contains("10000"));
    assert_eq!(weights(&plane.registry.directory().borrow()), [50], "the last good one stays");
    assert_eq!(stream.say("shop-1", None).await, "");
    plane.until("withdrawn", |d| weights(d).is_empty() && d.apps.is_empty()).await;
}

#[tokio::test]
async fn a_stream_that_ends_leaves_its_instance_for_the_grace() {
    let plane = Plane::start(Duration::from_millis(300)).await;
    let mut stream = Stream::open(&plane).await;
    assert_eq!(stream.say("shop-1", Some(instance(100))).await, "");
    plane.until("listed", |d| weights(d) == [100]).await;
    let began = std::time::Instant::now();
    drop(stream);
    plane.until("gone", |d| weights(d).is_empty()).await;
    assert!(began.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn who_comes_back_within_the_grace_was_never_away() {
    let plane = Plane::start(Duration::from_millis(300)).await;
    let mut stream = Stream::open(&plane).await;
    assert_eq!(stream.say("shop-1", Some(instance(100))).await, "");
    let before = plane.until("listed", |d| weights(d) == [100]).await;
    drop(stream);
    let mut again = Stream::open(&plane).await;
    assert_eq!(again.say("shop-1", Some(instance(100))).await, "");
    let mut other = Stream::open(&plane).await;
    assert_eq!(other.say("shop-2", Some(instance(7))).await, "");
    plane.until("both", |d| weights(d) == [100, 7]).await;
    drop(other);
    // When the second one's grace is over the first one's is too.
    let after = plane.until("the other has gone", |d| weights(d) == [100]).await;
    assert!(after.generation <= before.generation + 2, "the first one never went");
}

#[tokio::test]
async fn with_a_new_lease_everything_is_published_anew() {
    let plane = Plane::start(Duration::from_secs(600)).await;
    let mut stream = Stream::open(&plane).await;
    assert_eq!(stream.say("shop-1", Some(instance(100))).await, "");
    plane.until("listed", |d| weights(d) == [100]).await;
    let old = plane.lease.borrow().expect("a lease");
    let new = plane.store.grant(Duration::from_secs(600)).await.expect("a lease");
    plane.lease.send_replace(Some(new));
    let under_new = async {
        loop {
            let listing = plane.store.list("raddle/v1/instances/").await.expect("listed");
            if listing.entries.iter().all(|e| e.lease == Some(new)) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, under_new).await.expect("published anew");
    plane.store.revoke(old).await.expect("revoked");
    assert_eq!(weights(&plane.registry.directory().borrow()), [100]);
}

#[tokio::test]
async fn a_node_that_does_not_say_who_it_is_is_refused() {
    let plane = Plane::start(Duration::from_secs(600)).await;
    let mut client = RegistryClient::connect(format!("http://{}", plane.address)).await.expect("connected");
    let request = PublishRequest { node: None, instance: Some(instance(1)), sequence: 1 };
    let mut told = client.publish(tokio_stream::iter([request])).await.expect("a stream").into_inner();
    let status = told.message().await.expect_err("refused");
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn an_orphaned_set_is_collected_and_comes_again_with_its_next_user() {
    let plane = Plane::start(Duration::from_secs(600)).await;
    let mut stream = Stream::open(&plane).await;
    assert_eq!(stream.say("shop-1", Some(instance(100))).await, "");
    plane.until("listed", |d| weights(d) == [100]).await;
    assert_eq!(plane.registry.collect(Duration::ZERO).await, Ok(0), "it is in use");
    assert_eq!(stream.say("shop-1", None).await, "");
    let collected = async {
        while plane.registry.collect(Duration::ZERO).await != Ok(1) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, collected).await.expect("collected");
    plane.until("the service is gone", |d| d.services.is_empty()).await;
    assert_eq!(stream.say("shop-1", Some(instance(9))).await, "");
    plane.until("listed again", |d| weights(d) == [9]).await;
}

#[test]
fn a_certificate_speaks_for_its_own_app_and_unit_only() {
    use raddle_control::registry::service::allowed;
    let node = |app: &str, unit: &str| Node {
        id: "x".into(),
        app: app.into(),
        unit: unit.into(),
        ..Node::default()
    };
    let id = raddle_identity::SpiffeId::app("raddle.test", "u1", "shop").expect("an id").to_string();
    assert!(allowed(&node("shop", "u1"), None).is_ok(), "plaintext on loopback is believed");
    assert!(allowed(&node("shop", "u1"), Some(&id)).is_ok());
    assert!(allowed(&node("shop", ""), Some(&id)).is_ok());
    for (app, unit) in [("pay", "u1"), ("shop", "u2"), ("", "u1")] {
        let refused = allowed(&node(app, unit), Some(&id)).expect_err("refused");
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    }
    let control = raddle_identity::SpiffeId::control("raddle.test").expect("an id").to_string();
    assert!(allowed(&node("", ""), Some(&control)).is_err());
    assert!(allowed(&node("shop", ""), Some("spiffe:nonsense")).is_err());
}
