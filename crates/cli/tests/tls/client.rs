//! Clients that speak to the control plane as a sidecar would, and to a sidecar as Envoy would.
use crate::mesh::{Mesh, PATIENCE};
use envoy_types::pb::envoy::config::core::v3::{Locality, Node as XdsNode, data_source::Specifier};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, secret};
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use hyper_util::rt::TokioIo;
use prost::Message;
use raddle_identity::{ALPN_H2, PeerRule, PrivateKey, TrustBundle, anonymous_client_config};
use raddle_model::ControlAddress;
use raddle_proxy::mesh::agent::{Agent, AgentOptions, TokenSource};
use raddle_xds::client::TlsSource;
use raddle_xds::proto::certificates_client::CertificatesClient;
use raddle_xds::proto::registry_client::RegistryClient;
use raddle_xds::proto::reports_client::ReportsClient;
use raddle_xds::proto::{Instance, Node, PublishRequest, ReportRequest, Service, SignRequest};
use raddle_xds::types::Kind;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::{TcpStream, UnixStream};
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};

pub(crate) fn node(app: &str) -> Node {
    Node { id: format!("{app}-9"), app: app.into(), unit: "u1".into(), ..Node::default() }
}

/// TLS without a certificate.
pub(crate) fn anonymous(mesh: &Mesh) -> TlsSource {
    let roots = TrustBundle::load("first.contact", &mesh.path("roots.pem")).expect("roots");
    let mut config = anonymous_client_config(&roots, PeerRule::FirstContact).expect("a configuration");
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    let config = Arc::new(config);
    Arc::new(move || Some(config.clone()))
}

/// TLS with a certificate of this app, got with its token.
pub(crate) async fn member(mesh: &Mesh, app: &str) -> (Agent, TlsSource) {
    let address = ControlAddress { tls: true, host: "127.0.0.1".into(), port: mesh.tls.port() };
    let agent = Agent::spawn(AgentOptions {
        roots_file: Some(mesh.path("roots.pem")),
        token: TokenSource::File(mesh.path(&format!("{app}.token"))),
        ..AgentOptions::new(node(app), vec![address], 9)
    });
    let mut identity = agent.identity();
    let got = tokio::time::timeout(PATIENCE, identity.wait_for(Option::is_some)).await;
    assert!(got.is_ok(), "{agent:?}");
    let tls = agent.tls();
    (agent, tls)
}

/// A connection.
pub(crate) async fn dial(to: SocketAddr, tls: &TlsSource) -> Result<Channel, tonic::transport::Error> {
    let tls = tls.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let config = tls().expect("a configuration");
        async move {
            let stream = TcpStream::connect(to).await?;
            let stream = tokio_rustls::TlsConnector::from(config).connect(to.ip().into(), stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    Endpoint::from_static("http://control").connect_with_connector(connector).await
}

fn once<T: Send + 'static>(request: T) -> impl tokio_stream::Stream<Item = T> + Send + 'static {
    // The stream stays open: who ends it at once may miss the answer.
    tokio_stream::StreamExt::chain(tokio_stream::once(request), tokio_stream::pending())
}

/// Publishes for an app; what is answered.
pub(crate) async fn publish(channel: &Channel, app: &str) -> Result<String, Status> {
    let service =
        Service { name: format!("{app}.Stolen:1.0"), protocol: "bolt".into(), port: 1, ..Service::default() };
    let instance = Instance {
        address: "10.0.0.66".into(),
        weight: 100,
        tls: false,
        tls_required: false,
        services: vec![service],
    };
    let request = PublishRequest { node: Some(node(app)), instance: Some(instance), sequence: 1 };
    let mut answers = RegistryClient::new(channel.clone()).publish(once(request)).await?.into_inner();
    let answer = answers.message().await?;
    Ok(answer.expect("an answer").error)
}

/// Opens ADS for an app.
pub(crate) async fn subscribe(channel: &Channel, app: &str) -> Result<(), Status> {
    let locality = Some(Locality { zone: "u1".into(), ..Locality::default() });
    let node = XdsNode { id: format!("{app}-9"), cluster: app.into(), locality, ..XdsNode::default() };
    let request = DeltaDiscoveryRequest {
        node: Some(node),
        type_url: Kind::Secret.type_url().into(),
        resource_names_subscribe: vec!["raddle-trust".into()],
        ..DeltaDiscoveryRequest::default()
    };
    let mut client = AggregatedDiscoveryServiceClient::new(channel.clone());
    let mut answers = client.delta_aggregated_resources(once(request)).await?.into_inner();
    let answer = answers.message().await?.expect("an answer");
    assert_eq!(answer.resources.len(), 1, "the roots");
    Ok(())
}

/// Reports for an app.
pub(crate) async fn report(channel: &Channel, app: &str) -> Result<(), Status> {
    let request = ReportRequest { node: Some(node(app)), ..ReportRequest::default() };
    let mut answers = ReportsClient::new(channel.clone()).report(once(request)).await?.into_inner();
    answers.message().await?.map(|_| ()).ok_or_else(|| Status::ok("ended"))
}

/// Asks for a certificate of an app.
pub(crate) async fn sign(channel: &Channel, app: &str, token: &str) -> Result<(), Status> {
    let key = PrivateKey::generate().expect("a key");
    let request = key.request().expect("a request").into();
    let request = SignRequest { node: Some(node(app)), request, token: token.trim().into() };
    CertificatesClient::new(channel.clone()).sign(request).await.map(|_| ())
}

/// A secret of a sidecar's SDS socket: a chain and a key, or the roots and nothing.
pub(crate) async fn secret(socket: &Path, name: &str) -> (String, String) {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://sds").connect_with_connector(connector).await.expect("SDS");
    let request = DiscoveryRequest {
        node: Some(XdsNode { id: "envoy".into(), ..XdsNode::default() }),
        type_url: Kind::Secret.type_url().into(),
        resource_names: vec![name.into()],
        ..DiscoveryRequest::default()
    };
    let mut client = SecretDiscoveryServiceClient::new(channel);
    let mut answers = client.stream_secrets(once(request)).await.expect("a stream").into_inner();
    let answer = tokio::time::timeout(PATIENCE, answers.message()).await.expect("in time");
    let answer = answer.expect("no error").expect("an answer");
    let secret = Secret::decode(&*answer.resources[0].value).expect("a secret");
    let text = |source: Option<_>| match source {
        Some(envoy_types::pb::envoy::config::core::v3::DataSource {
            specifier: Some(Specifier::InlineBytes(bytes)),
            ..
        }) => String::from_utf8(bytes).expect("PEM"),
        other => panic!("{other:?}"),
    };
    match secret.r#type {
        Some(secret::Type::TlsCertificate(c)) => (text(c.certificate_chain), text(c.private_key)),
        Some(secret::Type::ValidationContext(c)) => (text(c.trusted_ca), String::new()),
        other => panic!("{other:?}"),
    }
}
