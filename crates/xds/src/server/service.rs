//! The gRPC services: ADS, and each kind alone.
use super::admission::Refusal;
use super::codec::XdsCodec;
use super::delta::Delta;
use super::response::Response;
use super::sotw::Sotw;
use super::stream::{Opening, Protocol, serve};
use super::streams::lock;
use super::{Inner, PeerIdentity};
use crate::types::Kind;
use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Code, Request, Status, Streaming};

/// A service: its name and its two streaming methods, and the kind it is about.
struct Description {
    name: &'static str,
    sotw: &'static str,
    delta: &'static str,
    only: Option<Kind>,
}

const SERVICES: [Description; 6] = [
    Description {
        name: "envoy.service.discovery.v3.AggregatedDiscoveryService",
        sotw: "StreamAggregatedResources",
        delta: "DeltaAggregatedResources",
        only: None,
    },
    Description {
        name: "envoy.service.cluster.v3.ClusterDiscoveryService",
        sotw: "StreamClusters",
        delta: "DeltaClusters",
        only: Some(Kind::Cluster),
    },
    Description {
        name: "envoy.service.endpoint.v3.EndpointDiscoveryService",
        sotw: "StreamEndpoints",
        delta: "DeltaEndpoints",
        only: Some(Kind::Endpoints),
    },
    Description {
        name: "envoy.service.listener.v3.ListenerDiscoveryService",
        sotw: "StreamListeners",
        delta: "DeltaListeners",
        only: Some(Kind::Listener),
    },
    Description {
        name: "envoy.service.route.v3.RouteDiscoveryService",
        sotw: "StreamRoutes",
        delta: "DeltaRoutes",
        only: Some(Kind::Routes),
    },
    Description {
        name: "envoy.service.secret.v3.SecretDiscoveryService",
        sotw: "StreamSecrets",
        delta: "DeltaSecrets",
        only: Some(Kind::Secret),
    },
];

pub(super) fn routes(server: &Arc<Inner>) -> tonic::service::Routes {
    tonic::service::Routes::new(Discovery::<0>(Arc::clone(server)))
        .add_service(Discovery::<1>(Arc::clone(server)))
        .add_service(Discovery::<2>(Arc::clone(server)))
        .add_service(Discovery::<3>(Arc::clone(server)))
        .add_service(Discovery::<4>(Arc::clone(server)))
        .add_service(Discovery::<5>(Arc::clone(server)))
}

/// The service of that place in [`SERVICES`].
#[derive(Clone)]
struct Discovery<const N: usize>(Arc<Inner>);

impl<const N: usize> NamedService for Discovery<N> {
    const NAME: &'static str = SERVICES[N].name;
}

impl<const N: usize> Service<http::Request<Body>> for Discovery<N> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let server = Arc::clone(&self.0);
        let described = &SERVICES[N];
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        if method == described.sotw {
            Box::pin(async move { Ok(stream::<Sotw>(server, described.only, request).await) })
        } else if method == described.delta {
            Box::pin(async move { Ok(stream::<Delta>(server, described.only, request).await) })
        } else {
            let status =
                Status::unimplemented(format!("{} has no {method} here, only streams", described.name));
            Box::pin(async move { Ok(status.into_http()) })
        }
    }
}

async fn stream<P: Protocol>(
    server: Arc<Inner>,
    only: Option<Kind>,
    request: http::Request<Body>,
) -> http::Response<Body> {
    let limit = server.options.request_bytes;
    let mut grpc = Grpc::new(XdsCodec::<P::Request>::default()).max_decoding_message_size(limit);
    grpc.streaming(Open::<P> { server, only, protocol: PhantomData }, request).await
}

/// Opens a stream, if the gate lets it in.
struct Open<P> {
    server: Arc<Inner>,
    only: Option<Kind>,
    protocol: PhantomData<fn() -> P>,
}

impl<P: Protocol> StreamingService<P::Request> for Open<P> {
    type Response = Response;
    type ResponseStream = ReceiverStream<Result<Response, Status>>;
    type Future = std::future::Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<P::Request>>) -> Self::Future {
        let streams = &self.server.streams;
        let admitted = lock(&self.server.gate).ask(self.server.started.elapsed(), streams.open());
        if let Err(refusal) = admitted {
            streams.counts.refused.fetch_add(1, Relaxed);
            return std::future::ready(Err(refused(refusal)));
        }
        let identity = request.extensions().get::<PeerIdentity>().and_then(|p| p.0.clone());
        let remote = request.remote_addr().map(|a| a.ip());
        let place = streams.take();
        let opening = Opening { server: Arc::clone(&self.server), only: self.only, identity, remote, place };
        let (out, body) = mpsc::channel(self.server.options.queue.max(1));
        tokio::spawn(serve::<P>(opening, request.into_inner(), out));
        std::future::ready(Ok(tonic::Response::new(ReceiverStream::new(body))))
    }
}

/// The status of a stream that is not let in, with the time to wait in its metadata: under the name Raddle's client
/// reads, and gRPC's own.
fn refused(refusal: Refusal) -> Status {
    let ms = refusal.after().as_millis();
    let (code, why) = match refusal {
        Refusal::Crowd(_) => (Code::Unavailable, "too many clients come at once"),
        Refusal::Full(_) => (Code::ResourceExhausted, "as many streams as are allowed are open"),
    };
    let mut metadata = MetadataMap::new();
    for name in ["retry-after-ms", "grpc-retry-pushback-ms"] {
        if let Ok(value) = ms.to_string().parse() {
            metadata.insert(name, value);
        }
    }
    Status::with_metadata(code, format!("{why}; come again in {ms} ms"), metadata)
}
