//! The server over real sockets.
mod world;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::endpoint::v3::endpoint_discovery_service_client::EndpointDiscoveryServiceClient;
use raddle_xds::server::{Admission, Limits, Options, PeerIdentity, Server};
use raddle_xds::types::Kind::{Cluster, Endpoints, Listener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use world::{World, delta_request, sotw_request};

const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    world: World,
    server: Server,
    channel: Channel,
}

async fn start(options: Options, identity: Option<&'static str>) -> Running {
    let world = World::new();
    let server = Server::new(Arc::new(world.clone()), options);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let interceptor = tonic::service::InterceptorLayer::new(move |mut request: Request<()>| {
        request.extensions_mut().insert(PeerIdentity(identity.map(str::to_owned)));
        Ok(request)
    });
    let routes = server.routes();
    tokio::spawn(
        tonic::transport::Server::builder()
            .layer(interceptor)
            .add_routes(routes)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    Running { world, server, channel }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("in time")
}

async fn until(mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

struct SotwEnds(mpsc::Sender<DiscoveryRequest>, Streaming<DiscoveryResponse>);
struct DeltaEnds(mpsc::Sender<DeltaDiscoveryRequest>, Streaming<DeltaDiscoveryResponse>);

impl Running {
    async fn sotw(&self) -> Result<SotwEnds, Status> {
        let (tx, rx) = mpsc::channel(64);
        let mut client = AggregatedDiscoveryServiceClient::new(self.channel.clone());
        Ok(SotwEnds(
            tx,
            within(client.stream_aggregated_resources(ReceiverStream::new(rx))).await?.into_inner(),
        ))
    }

    async fn delta(&self) -> Result<DeltaEnds, Status> {
        let (tx, rx) = mpsc::channel(64);
        let mut client = AggregatedDiscoveryServiceClient::new(self.channel.clone());
        Ok(DeltaEnds(
            tx,
            within(client.delta_aggregated_resources(ReceiverStream::new(rx))).await?.into_inner(),
        ))
    }
}

async fn end<T: std::fmt::Debug>(stream: &mut Streaming<T>) -> Status {
    within(async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended without a status"),
                Err(status) => return status,
            }
        }
    })
    .await
}

#[tokio::test]
async fn both_variants_are_served_and_changes_are_pushed() {
    let run = start(Options::default(), None).await;
    run.world.set(Cluster, "a", 1);
    let SotwEnds(ask, mut said) = run.sotw().await.unwrap();
    ask.send(sotw_request(Cluster, &[], "", "")).await.unwrap();
    let first = within(said.message()).await.unwrap().unwrap();
    assert_eq!((first.resources.len(), first.control_plane.unwrap().identifier.as_str()), (1, "raddle"));
    ask.send(sotw_request(Cluster, &[], &first.nonce, &first.version_info)).await.unwrap();
    let DeltaEnds(ask_delta, mut said_delta) = run.delta().await.unwrap();
    ask_delta.send(delta_request(Cluster, &["b"], &[])).await.unwrap();
    let missing = within(said_delta.message()).await.unwrap().unwrap();
    assert_eq!(missing.removed_resources, ["b"]);
    until(|| run.server.streams().iter().any(|s| s.kinds.iter().any(|k| !k.acked.is_empty()))).await;
    run.world.set(Cluster, "b", 1);
    assert_eq!(within(said.message()).await.unwrap().unwrap().resources.len(), 2);
    let delta = within(said_delta.message()).await.unwrap().unwrap();
    assert_eq!((delta.resources.len(), delta.resources[0].name.as_str()), (1, "b"));
    let counters = run.server.counters();
    assert_eq!((counters.streams, counters.pushes[0], counters.resources), (2, 4, 4));
    drop((ask, said, ask_delta, said_delta));
    until(|| run.server.streams().is_empty() && run.server.counters().streams == 0).await;
}

#[tokio::test]
async fn a_stream_shows_who_is_there_and_what_was_refused() {
    let run = start(Options::default(), None).await;
    run.world.set(Listener, "l", 1);
    let SotwEnds(ask, mut said) = run.sotw().await.unwrap();
    ask.send(sotw_request(Listener, &["l"], "", "")).await.unwrap();
    let first = within(said.message()).await.unwrap().unwrap();
    let mut refusal = sotw_request(Listener, &["l"], &first.nonce, "");
    refusal.error_detail = world::error("l: bad port");
    ask.send(refusal).await.unwrap();
    until(|| run.server.counters().nacks[2] == 1).await;
    let stream = &run.server.streams()[0];
    assert_eq!(
        (&*stream.node, &*stream.app, stream.software, stream.variant),
        ("n1", "shop", "envoy", "sotw")
    );
    assert_eq!(stream.address, "127.0.0.1");
    let kind = &stream.kinds[0];
    assert_eq!((kind.kind, kind.names, kind.nacked[0].reason.as_str()), ("listener", 1, "l: bad port"));
    assert!(serde_json::to_string(stream).unwrap().contains("\"nacked\""));
}

#[tokio::test]
async fn a_kind_alone_is_served_without_type_url() {
    let run = start(Options::default(), None).await;
    run.world.set(Endpoints, "a", 1);
    let mut client = EndpointDiscoveryServiceClient::new(run.channel.clone());
    let mut first = sotw_request(Endpoints, &["a"], "", "");
    first.type_url.clear();
    let requests = tokio_stream::iter([first.clone()]).chain_pending();
    let mut said = within(client.stream_endpoints(requests)).await.unwrap().into_inner();
    assert_eq!(within(said.message()).await.unwrap().unwrap().resources.len(), 1);
    let other = tokio_stream::iter([sotw_request(Cluster, &["a"], "", "")]).chain_pending();
    let mut said = within(client.stream_endpoints(other)).await.unwrap().into_inner();
    assert_eq!(end(&mut said).await.code(), Code::InvalidArgument);
    assert_eq!(within(client.fetch_endpoints(first)).await.unwrap_err().code(), Code::Unimplemented);
}

/// A stream of requests that stays open.
trait Pending: Sized {
    fn chain_pending(self) -> tokio_stream::adapters::Chain<Self, tokio_stream::Pending<DiscoveryRequest>>;
}

impl<S: tokio_stream::Stream<Item = DiscoveryRequest>> Pending for S {
    fn chain_pending(self) -> tokio_stream::adapters::Chain<Self, tokio_stream::Pending<DiscoveryRequest>> {
        tokio_stream::StreamExt::chain(self, tokio_stream::pending())
    }
}

#[tokio::test]
async fn what_breaks_a_bound_or_makes_no_sense_ends_its_stream_in_words() {
    let limits = Limits { names: 2, ..Limits::default() };
    let run = start(Options { limits, request_bytes: 1000, ..Options::default() }, None).await;
    let mut nobody = sotw_request(Cluster, &[], "", "");
    nobody.node = None;
    let mut untyped = sotw_request(Cluster, &[], "", "");
    untyped.type_url.clear();
    let many = sotw_request(Cluster, &["a", "b", "c"], "", "");
    let long = sotw_request(Cluster, &[&"x".repeat(2000)], "", "");
    let cases = [
        (nobody, Code::InvalidArgument),
        (untyped, Code::InvalidArgument),
        (many, Code::ResourceExhausted),
        (long, Code::OutOfRange),
    ];
    for (request, code) in cases {
        let SotwEnds(ask, mut said) = run.sotw().await.unwrap();
        ask.send(request).await.unwrap();
        let status = end(&mut said).await;
        assert_eq!(status.code(), code, "{status:?}");
        assert!(!status.message().is_empty());
    }
    until(|| run.server.counters().streams == 0).await;
    assert_eq!(run.server.counters().violations, 3);
}

#[tokio::test]
async fn a_node_must_be_of_the_app_its_certificate_is_for() {
    let run = start(Options::default(), Some("spiffe://mesh/unit/u1/app/bank")).await;
    let SotwEnds(ask, mut said) = run.sotw().await.unwrap();
    ask.send(sotw_request(Cluster, &[], "", "")).await.unwrap();
    let status = end(&mut said).await;
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("shop") && status.message().contains("bank"), "{status:?}");
    let run = start(Options::default(), Some("spiffe://mesh/unit/u1/app/shop")).await;
    let SotwEnds(ask, mut said) = run.sotw().await.unwrap();
    ask.send(sotw_request(Cluster, &[], "", "")).await.unwrap();
    within(said.message()).await.unwrap().unwrap();
    assert_eq!(run.server.streams()[0].unit, "u1");
}

#[tokio::test]
async fn a_crowd_is_told_when_to_come_again() {
    let admission = Admission { rate: 0.1, burst: 2.0, streams: 100 };
    let run = start(Options { admission, ..Options::default() }, None).await;
    let _kept = (run.delta().await.unwrap(), run.delta().await.unwrap());
    let Err(status) = run.delta().await else { panic!("let in") };
    assert_eq!(status.code(), Code::Unavailable);
    let after: u64 = status.metadata().get("retry-after-ms").unwrap().to_str().unwrap().parse().unwrap();
    assert!((1..=10_000).contains(&after), "{after}");
    assert_eq!(run.server.counters().refused, 1);
}

#[tokio::test]
async fn no_more_streams_than_the_cap_are_open() {
    let admission = Admission { streams: 1, ..Admission::default() };
    let run = start(Options { admission, ..Options::default() }, None).await;
    let kept = run.delta().await.unwrap();
    let Err(status) = run.delta().await else { panic!("let in") };
    assert_eq!(status.code(), Code::ResourceExhausted);
    drop(kept);
    until(|| run.server.counters().streams == 0).await;
    assert!(run.delta().await.is_ok());
}

#[tokio::test]
async fn the_oldest_streams_are_shed_and_the_others_stay() {
    let run = start(Options { shed_over: Duration::from_millis(200), ..Options::default() }, None).await;
    let mut streams = Vec::new();
    for i in 0..4 {
        let DeltaEnds(ask, said) = run.delta().await.unwrap();
        ask.send(delta_request(Cluster, &["a"], &[])).await.unwrap();
        until(|| run.server.streams().len() == i + 1).await;
        streams.push((ask, said));
    }
    assert_eq!(run.server.shed(0.5), 2);
    for (_, said) in &mut streams[..2] {
        let status = end(said).await;
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("rebalance"));
    }
    until(|| run.server.streams().len() == 2).await;
    run.world.set(Cluster, "a", 1);
    for (_, said) in &mut streams[2..] {
        within(said.message()).await.unwrap().unwrap();
    }
    assert_eq!(run.server.counters().shed, 2);
}

#[tokio::test]
async fn a_client_that_does_not_read_gets_the_last_state_and_not_every_one() {
    let limits = Limits { in_flight: 2, ..Limits::default() };
    let run = start(Options { limits, queue: 1, ..Options::default() }, None).await;
    run.world.set(Cluster, "a", 0);
    let DeltaEnds(ask, mut said) = run.delta().await.unwrap();
    ask.send(delta_request(Cluster, &["a"], &[])).await.unwrap();
    until(|| run.server.counters().pushes[0] >= 1).await;
    for content in 1..500 {
        run.world.set(Cluster, "a", content);
    }
    let mut seen = 0;
    let want = run.world.versions(Cluster)["a"].clone();
    within(async {
        loop {
            let response = said.message().await.unwrap().unwrap();
            seen += 1;
            let mut ack = delta_request(Cluster, &[], &[]);
            ack.response_nonce = response.nonce;
            ask.send(ack).await.unwrap();
            if response.resources[0].version == want {
                break;
            }
        }
    })
    .await;
    assert!(seen < 20, "{seen} responses for 500 changes");
}
