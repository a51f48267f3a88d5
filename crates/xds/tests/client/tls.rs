//! Over TLS, with a configuration that changes.
use super::catalog::{Memory, put};
use super::scripted::any;
use super::world::{World, cluster, endpoints, options, until};
use raddle_xds::client::{Options, Target, TlsSource, spawn};
use raddle_xds::server::{Catalog, Options as ServerOptions, Server};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A root, and a server's certificate by it.
fn authority() -> (CertificateDer<'static>, Arc<ServerConfig>) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root");
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec!["control.raddle".into()]).expect("parameters");
    let leaf = leaf.signed_by(&key, &root).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .expect("a configuration");
    config.alpn_protocols = vec![b"h2".to_vec()];
    (root.der().clone(), Arc::new(config))
}

fn trusting(root: &CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).expect("a root");
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// Serves until it is aborted, connections included.
async fn serve(
    memory: &Arc<Memory>,
    config: Arc<ServerConfig>,
    address: SocketAddr,
) -> (SocketAddr, Arc<Mutex<Vec<tokio::task::AbortHandle>>>) {
    let listener = TcpListener::bind(address).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let routes = Server::new(Arc::clone(memory) as Arc<dyn Catalog>, ServerOptions::default()).routes();
    let tasks: Arc<Mutex<Vec<tokio::task::AbortHandle>>> = Arc::default();
    let (send, receive) = tokio::sync::mpsc::channel(8);
    let connections = Arc::clone(&tasks);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            // In between, so that a connection can be cut from outside.
            let (near, far) = tokio::io::duplex(1 << 16);
            let pump = tokio::spawn(async move {
                let (mut tcp, mut far) = (tcp, far);
                let _ = tokio::io::copy_bidirectional(&mut tcp, &mut far).await;
            });
            connections.lock().expect("no panic").push(pump.abort_handle());
            let (acceptor, send) = (TlsAcceptor::from(Arc::clone(&config)), send.clone());
            tokio::spawn(async move {
                if let Ok(tls) = acceptor.accept(near).await {
                    let _ = send.send(Ok::<_, std::io::Error>(tls)).await;
                }
            });
        }
    });
    let incoming = tokio_stream::wrappers::ReceiverStream::new(receive);
    tokio::spawn(tonic::transport::Server::builder().add_routes(routes).serve_with_incoming(incoming));
    (address, tasks)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_connection_asks_for_its_tls_configuration_anew() {
    let memory = Memory::new();
    memory.change(|content| {
        put(content, cluster("a"));
        put(content, endpoints("a", &[1]));
    });
    let (root, config) = authority();
    let (stranger, _) = authority();
    let (address, connections) = serve(&memory, config, any()).await;
    let given: Arc<Mutex<Option<Arc<ClientConfig>>>> = Arc::default();
    let asked = Arc::new(AtomicUsize::new(0));
    let source: TlsSource = {
        let (given, asked) = (Arc::clone(&given), Arc::clone(&asked));
        Arc::new(move || {
            asked.fetch_add(1, Ordering::Relaxed);
            given.lock().expect("no panic").clone()
        })
    };
    let target = Target {
        uri: format!("https://{address}"),
        tls: Some(source),
        server_name: Some("control.raddle".into()),
    };
    let world = World::default();
    let client = spawn(Options { targets: vec![target], ..options(address) }, world.sink());
    client.want("a");
    let error = |text: &str| client.status().last_error.is_some_and(|e| e.contains(text));
    until("there is none yet", || error("no TLS configuration yet")).await;
    *given.lock().expect("no panic") = Some(trusting(&stranger));
    until("a stranger's root", || error("UnknownIssuer") || error("BadSignature")).await;
    *given.lock().expect("no panic") = Some(trusting(&root));
    world.until("the service", |g| g.services.contains_key("a")).await;
    let before = asked.load(Ordering::Relaxed);
    assert!(before >= 3);
    for connection in connections.lock().expect("no panic").drain(..) {
        connection.abort();
    }
    until("a second stream", || client.status().streams == 2).await;
    assert!(asked.load(Ordering::Relaxed) > before);
    memory.change(|content| put(content, endpoints("a", &[1, 2])));
    world.until("news", |g| g.services["a"].len() == 2).await;
}
