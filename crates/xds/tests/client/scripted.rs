//! Against servers and networks that do what they should not.
use super::catalog::{Memory, Running, put};
use super::world::{World, cluster, endpoints, options, until};
use discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use futures_util::Stream;
use raddle_xds::client::{Mode, Options, Target, spawn};
use raddle_xds::types::Kind;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

/// Knows the state of the world only, has one cluster, and may refuse streams first.
#[derive(Clone, Default)]
struct Old {
    refusals: Arc<Mutex<Vec<Status>>>,
    attempts: Arc<Mutex<Vec<Instant>>>,
}

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Old {
    type StreamAggregatedResourcesStream = Out<discovery::DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Out<discovery::DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<discovery::DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        self.attempts.lock().expect("no panic").push(Instant::now());
        if let Some(status) = self.refusals.lock().expect("no panic").pop() {
            return Err(status);
        }
        let requests = request.into_inner();
        let out = futures_util::stream::unfold(requests, |mut requests| async move {
            loop {
                let request = requests.message().await.ok()??;
                let kind = Kind::of(&request.type_url)?;
                let resource = match kind {
                    Kind::Cluster => cluster("only"),
                    Kind::Endpoints => endpoints("only", &[1]),
                    _ => continue,
                };
                if !request.response_nonce.is_empty() || request.resource_names.is_empty() {
                    continue;
                }
                let response = discovery::DiscoveryResponse {
                    type_url: request.type_url,
                    version_info: "1".into(),
                    nonce: "1".into(),
                    resources: vec![prost::Message::decode(resource.any).ok()?],
                    ..Default::default()
                };
                return Some((Ok(response), requests));
            }
        });
        Ok(Response::new(Box::pin(out)))
    }

    async fn delta_aggregated_resources(
        &self,
        _: Request<Streaming<discovery::DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("what is a delta?"))
    }
}

async fn serve(old: Old) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let serving = tonic::transport::Server::builder()
        .add_service(AggregatedDiscoveryServiceServer::new(old))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(serving);
    address
}

#[tokio::test]
async fn a_server_without_the_incremental_variant_is_asked_for_the_whole() {
    let address = serve(Old::default()).await;
    let world = World::default();
    let client = spawn(Options { mode: Mode::Auto, ..options(address) }, world.sink());
    client.want("only");
    world.until("the service", |g| g.services.contains_key("only")).await;
    assert_eq!(client.status().mode, "sotw");
}

#[tokio::test]
async fn a_servers_hint_to_stay_away_is_kept_to() {
    let old = Old::default();
    let mut status = Status::unavailable("too many at once");
    status.metadata_mut().insert("grpc-retry-pushback-ms", "700".parse().expect("ascii"));
    old.refusals.lock().expect("no panic").push(status);
    let address = serve(old.clone()).await;
    let world = World::default();
    let client = spawn(Options { mode: Mode::Sotw, ..options(address) }, world.sink());
    client.want("only");
    world.until("the service", |g| g.services.contains_key("only")).await;
    let attempts = old.attempts.lock().expect("no panic").clone();
    assert_eq!(attempts.len(), 2);
    assert!(attempts[1] - attempts[0] >= Duration::from_millis(700), "{attempts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_one_server_dead_another_is_found_and_kept() {
    let memory = Memory::new();
    memory.change(|content| {
        put(content, cluster("a"));
        put(content, endpoints("a", &[1]));
    });
    let (first, second) = (Running::start(&memory, any()), Running::start(&memory, any()));
    let world = World::default();
    let targets: Vec<_> =
        [&first, &second].iter().map(|r| Target::plain(format!("http://{}", r.address))).collect();
    let client = spawn(Options { targets, seed: 5, ..options(first.address) }, world.sink());
    client.want("a");
    world.until("the service", |g| g.services.contains_key("a")).await;
    let used = client.status().connected.expect("a server");
    let (used, other) =
        if used.ends_with(&first.address.to_string()) { (first, second) } else { (second, first) };
    drop(used);
    until("the other", || client.status().connected.is_some_and(|c| c.ends_with(&other.address.to_string())))
        .await;
    memory.change(|content| put(content, endpoints("a", &[1, 2])));
    world.until("news from the other", |g| g.services["a"].len() == 2).await;
}

pub(crate) fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Passes connections on, and cuts each after some bytes to the client; the allowance grows.
async fn cutting(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(any()).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut allowance = 40usize;
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(to).await else { continue };
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let up = tokio::spawn(async move { copy(&mut from_client, &mut to_server).await });
            let mut left = allowance;
            allowance = allowance * 5 / 3 + 7;
            tokio::spawn(async move {
                let mut buffer = [0u8; 1024];
                while let Ok(n @ 1..) = from_server.read(&mut buffer).await {
                    let n = n.min(left);
                    if to_client.write_all(&buffer[..n]).await.is_err() {
                        break;
                    }
                    left -= n;
                    if left == 0 {
                        break;
                    }
                }
                up.abort();
            });
        }
    });
    address
}

async fn survives_cuts(mode: Mode) {
    let memory = Memory::new();
    memory.change(|content| {
        for n in 1..=200u16 {
            put(content, cluster(&format!("s{n}")));
            put(content, endpoints(&format!("s{n}"), &[n]));
        }
    });
    let running = Running::start(&memory, any());
    let address = cutting(running.address).await;
    let world = World::default();
    let client = spawn(Options { mode, ..options(address) }, world.sink());
    for n in 1..=200 {
        client.want(&format!("s{n}"));
    }
    world.until("all services, however often it is cut", |g| g.services.len() == 200).await;
    assert!(world.see(|g| g.services.iter().all(|(name, ports)| *name == format!("s{}", ports[0]))));
    let status = client.status();
    assert!(status.streams > 3 && status.refused.is_empty(), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_in_the_middle_of_responses_costs_nothing_but_time_incrementally() {
    survives_cuts(Mode::Delta).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_in_the_middle_of_responses_costs_nothing_but_time_as_a_whole() {
    survives_cuts(Mode::Sotw).await;
}
