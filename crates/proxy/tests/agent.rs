//! The sidecar's certificate: got, renewed, kept while the authority is away, and given on over SDS.
use envoy_types::pb::envoy::config::core::v3::{Node as XdsNode, data_source::Specifier};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, secret};
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use hyper_util::rt::TokioIo;
use prost::Message;
use raddle_identity::{
    ALPN_H2, Clients, Identity, Issuer, Leaf, PeerRule, PrivateKey, SpiffeId, TrustBundle,
};
use raddle_model::ControlAddress;
use raddle_proxy::mesh::agent::{Agent, AgentOptions, AgentStatus, TokenSource};
use raddle_proxy::mesh::sds::{Access, Sds};
use raddle_xds::proto::certificates_server::{Certificates, CertificatesServer};
use raddle_xds::proto::{Node, SignRequest, SignResponse};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

const DAY: Duration = Duration::from_secs(86400);

fn real() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// Waits until it is so, for at most twenty seconds.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An authority that signs what it is asked, and remembers how it was asked.
struct Authority {
    issuer: Mutex<Arc<Issuer>>,
    lifetime: Mutex<Duration>,
    app: Mutex<Option<&'static str>>,
    away: AtomicBool,
    asked: Mutex<Vec<(String, Option<SpiffeId>)>>,
}

struct Service(Arc<Authority>);

#[tonic::async_trait]
impl Certificates for Service {
    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let shown = request.peer_certs().and_then(|c| Leaf::read(c.first()?)).map(|l| l.id);
        let asked = request.into_inner();
        self.0.asked.lock().unwrap().push((asked.token.clone(), shown.clone()));
        if self.0.away.load(Ordering::SeqCst) {
            return Err(Status::unavailable("away"));
        }
        if asked.token != "rdl_good" && shown.is_none() {
            return Err(Status::unauthenticated("the token is not known"));
        }
        let node = asked.node.unwrap();
        let app = self.0.app.lock().unwrap().unwrap_or(&node.app).to_owned();
        let id = SpiffeId::app("mesh.local", &node.unit, &app).unwrap();
        let issuer = self.0.issuer.lock().unwrap().clone();
        let lifetime = *self.0.lifetime.lock().unwrap();
        let signed = issuer.sign_request(&asked.request, &id, lifetime, real()).unwrap();
        let bytes =
            |all: &[rustls::pki_types::CertificateDer<'_>]| all.iter().map(|c| c.to_vec().into()).collect();
        Ok(Response::new(SignResponse {
            chain: bytes(&signed.chain),
            roots: bytes(issuer.roots()),
            not_after: signed.not_after as u64,
        }))
    }
}

struct Control {
    authority: Arc<Authority>,
    dir: tempfile::TempDir,
    port: u16,
    tls: bool,
}

impl Control {
    async fn start(tls: bool) -> Control {
        let issuer = Arc::new(Issuer::generate("mesh.local", 365 * DAY, real()).unwrap());
        let authority = Arc::new(Authority {
            issuer: Mutex::new(issuer.clone()),
            lifetime: Mutex::new(DAY),
            app: Mutex::default(),
            away: AtomicBool::new(false),
            asked: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let trust = TrustBundle::new("mesh.local", issuer.roots().to_vec()).unwrap();
        std::fs::write(dir.path().join("roots.pem"), trust.pem()).unwrap();
        std::fs::write(dir.path().join("token"), "rdl_good\n").unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(CertificatesServer::new(Service(authority.clone())));
        if tls {
            let key = PrivateKey::generate().unwrap();
            let id = SpiffeId::control("mesh.local").unwrap();
            let signed = issuer.sign_server(&key, &id, &["localhost".into()], DAY, real()).unwrap();
            let own = Identity::new(signed.chain, Arc::new(key), Arc::new(trust), real()).unwrap();
            let mut config = own.server_config(PeerRule::Member, Clients::Optional, None).unwrap();
            config.alpn_protocols = vec![ALPN_H2.to_vec()];
            let acceptor = TlsAcceptor::from(Arc::new(config));
            let (give, taken) = tokio::sync::mpsc::channel(16);
            tokio::spawn(async move {
                while let Ok((socket, _)) = listener.accept().await {
                    let (acceptor, give) = (acceptor.clone(), give.clone());
                    tokio::spawn(async move {
                        if let Ok(stream) = acceptor.accept(socket).await {
                            let _ = give.send(Ok::<_, std::io::Error>(stream)).await;
                        }
                    });
                }
            });
            tokio::spawn(server.serve_with_incoming(ReceiverStream::new(taken)));
        } else {
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            tokio::spawn(server.serve_with_incoming(incoming));
        }
        Control { authority, dir, port, tls }
    }

    fn options(&self) -> AgentOptions {
        let node = Node { id: "pay-1".into(), app: "pay".into(), unit: "u1".into(), ..Node::default() };
        let address = ControlAddress { tls: self.tls, host: "127.0.0.1".into(), port: self.port };
        AgentOptions {
            roots_file: Some(self.dir.path().join("roots.pem")),
            token: TokenSource::File(self.dir.path().join("token")),
            ..AgentOptions::new(node, vec![address], 1)
        }
    }

    fn asked(&self) -> Vec<(String, Option<SpiffeId>)> {
        self.authority.asked.lock().unwrap().clone()
    }
}

async fn first(agent: &Agent) -> Arc<Identity> {
    let mut identity = agent.identity();
    let waited = tokio::time::timeout(Duration::from_secs(20), identity.wait_for(Option::is_some)).await;
    waited.unwrap_or_else(|_| panic!("{agent:?}")).unwrap().clone().unwrap()
}

fn status(agent: &Agent) -> AgentStatus {
    agent.status().borrow().clone()
}

#[tokio::test]
async fn a_token_gets_the_first_certificate_and_that_one_the_next() {
    let control = Control::start(true).await;
    let agent = Agent::spawn(control.options());
    let one = first(&agent).await;
    assert_eq!(one.id().to_string(), "spiffe://mesh.local/unit/u1/app/pay");
    assert_eq!(control.asked(), [("rdl_good".to_owned(), None)]);
    agent.renew();
    until("it is renewed", || status(&agent).renewals == 2).await;
    let two = agent.identity().borrow().clone().unwrap();
    assert_ne!(one.leaf().serial, two.leaf().serial);
    assert_ne!(one.key().der(), two.key().der(), "a new key each time");
    assert_eq!(control.asked()[1], (String::new(), Some(one.id().clone())), "no token is sent any more");
    assert_eq!(status(&agent).detail(), None);
    // TLS to the control plane shows the certificate.
    assert!(agent.tls()().unwrap().client_auth_cert_resolver.has_certs());
}

#[tokio::test]
async fn a_certificate_is_renewed_by_itself_at_half_of_its_life() {
    let control = Control::start(true).await;
    *control.authority.lifetime.lock().unwrap() = Duration::from_secs(600);
    let ahead = Arc::new(AtomicI64::new(0));
    let clock = {
        let ahead = ahead.clone();
        Arc::new(move || real() + ahead.load(Ordering::SeqCst))
    };
    let agent = Agent::spawn(AgentOptions { clock, ..control.options() });
    first(&agent).await;
    // 660 s of life with the backdating: renewed between 204 s and 336 s from now.
    ahead.store(340, Ordering::SeqCst);
    until("it is renewed", || status(&agent).renewals == 2).await;
}

#[tokio::test]
async fn while_the_authority_is_away_the_certificate_is_kept_and_people_are_told() {
    let control = Control::start(true).await;
    let ahead = Arc::new(AtomicI64::new(0));
    let clock = {
        let ahead = ahead.clone();
        Arc::new(move || real() + ahead.load(Ordering::SeqCst))
    };
    let agent = Agent::spawn(AgentOptions { clock, ..control.options() });
    let one = first(&agent).await;
    control.authority.away.store(true, Ordering::SeqCst);
    agent.renew();
    until("it failed", || status(&agent).failures > 0).await;
    assert_eq!(status(&agent).detail(), None, "half of its life is left");
    ahead.store(70_000, Ordering::SeqCst);
    agent.renew();
    until("it says so", || status(&agent).expiring).await;
    let said = status(&agent).detail().unwrap();
    assert!(said.starts_with("the certificate expires soon") && said.contains("away"), "{said}");
    ahead.store(90_000, Ordering::SeqCst);
    agent.renew();
    until("it says that it is over", || status(&agent).expired).await;
    let kept = agent.identity().borrow().clone().unwrap();
    assert_eq!(kept.leaf(), one.leaf(), "it is not taken away");
    ahead.store(0, Ordering::SeqCst);
    control.authority.away.store(false, Ordering::SeqCst);
    agent.renew();
    until("it is well again", || status(&agent).renewals == 2).await;
    assert_eq!(status(&agent).detail(), None);
}

#[tokio::test]
async fn what_is_signed_for_another_is_not_taken() {
    let control = Control::start(true).await;
    *control.authority.app.lock().unwrap() = Some("order");
    let agent = Agent::spawn(control.options());
    until("it is refused", || status(&agent).error.is_some()).await;
    assert!(
        status(&agent).detail().unwrap().contains("is of another, spiffe://mesh.local/unit/u1/app/order")
    );
    assert!(agent.identity().borrow().is_none());
}

#[tokio::test]
async fn a_control_plane_of_other_roots_gets_no_token() {
    let control = Control::start(true).await;
    let other = Control::start(true).await;
    let roots_file = Some(other.dir.path().join("roots.pem"));
    let agent = Agent::spawn(AgentOptions { roots_file, ..control.options() });
    until("it is refused", || status(&agent).failures > 0).await;
    assert!(status(&agent).detail().unwrap().contains("UnknownIssuer"), "{agent:?}");
    assert_eq!(control.asked(), [], "nothing was asked");
    let agent = Agent::spawn(AgentOptions { roots_file: None, ..control.options() });
    until("it is refused", || status(&agent).failures > 0).await;
    assert!(status(&agent).detail().unwrap().contains("set controlPlane.rootsFile"));
}

#[tokio::test]
async fn a_bad_token_is_said_and_a_better_one_taken_when_it_comes() {
    let control = Control::start(false).await;
    std::fs::write(control.dir.path().join("token"), "rdl_secretly_wrong").unwrap();
    let agent = Agent::spawn(control.options());
    until("it is refused", || status(&agent).failures > 0).await;
    let said = format!("{agent:?} {:?} {:?}", status(&agent), control.options());
    assert!(said.contains("signs no certificate: the token is not known"), "{said}");
    assert!(!said.contains("secretly_wrong"));
    std::fs::write(control.dir.path().join("token"), "rdl_good").unwrap();
    agent.renew();
    first(&agent).await;
    let identity = agent.identity().borrow().clone().unwrap();
    let key = identity.key().pem();
    let said = format!("{agent:?} {identity:?} {:?}", agent.tls()().unwrap());
    assert!(!said.contains(key.lines().nth(1).unwrap()));
}

async fn secrets(socket: &Path) -> SecretDiscoveryServiceClient<tonic::transport::Channel> {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://sds");
    SecretDiscoveryServiceClient::new(endpoint.connect_with_connector(connector).await.unwrap())
}

fn content(response: &DiscoveryResponse) -> (String, String) {
    let secret = Secret::decode(&*response.resources[0].value).unwrap();
    let text = |d: Option<envoy_types::pb::envoy::config::core::v3::DataSource>| match d.unwrap().specifier {
        Some(Specifier::InlineBytes(b)) => String::from_utf8(b).unwrap(),
        other => panic!("{other:?}"),
    };
    match secret.r#type.unwrap() {
        secret::Type::TlsCertificate(t) => (text(t.certificate_chain), text(t.private_key)),
        secret::Type::ValidationContext(v) => (text(v.trusted_ca), String::new()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn other_software_gets_the_certificate_over_a_socket_and_each_new_one() {
    let control = Control::start(true).await;
    let agent = Agent::spawn(control.options());
    let socket = control.dir.path().join("sds.sock");
    // It may be asked before there is a certificate.
    let sds = Sds::spawn(&socket, Access::Owner, agent.identity()).await.unwrap();
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let taken = Sds::spawn(&socket, Access::Owner, agent.identity()).await.unwrap_err();
    assert!(taken.to_string().contains("another process listens"));

    let mut client = secrets(&socket).await;
    let (ask, asks) = tokio::sync::mpsc::channel(8);
    let request = |name: &str, nonce: &str, version: &str| DiscoveryRequest {
        node: Some(XdsNode { id: "envoy".into(), ..XdsNode::default() }),
        resource_names: vec![name.into()],
        response_nonce: nonce.into(),
        version_info: version.into(),
        ..DiscoveryRequest::default()
    };
    ask.send(request("default", "", "")).await.unwrap();
    let mut stream = client.stream_secrets(ReceiverStream::new(asks)).await.unwrap().into_inner();
    let got = tokio::time::timeout(Duration::from_secs(20), stream.next()).await.unwrap().unwrap().unwrap();
    let one = first(&agent).await;
    let (chain, key) = content(&got);
    assert_eq!((chain, key), (raddle_identity::chain_pem(one.chain()), one.key().pem().to_string()));
    assert!(!format!("{sds:?} {agent:?}").contains("PRIVATE"));
    ask.send(request("default", &got.nonce, &got.version_info)).await.unwrap();
    agent.renew();
    let next = tokio::time::timeout(Duration::from_secs(20), stream.next()).await.unwrap().unwrap().unwrap();
    assert_ne!(content(&next).1, one.key().pem().to_string(), "the new one is pushed");

    for (name, marker) in [("ROOTCA", ""), ("spiffe://mesh.local/unit/u1/app/pay", "PRIVATE KEY")] {
        let once = tokio_stream::iter([request(name, "", "")]).chain(tokio_stream::pending());
        let mut stream = secrets(&socket).await.stream_secrets(once).await.unwrap().into_inner();
        let got =
            tokio::time::timeout(Duration::from_secs(20), stream.next()).await.unwrap().unwrap().unwrap();
        assert!(content(&got).1.contains(marker), "{name}");
    }
    drop(sds);
    assert!(!socket.exists());
}
