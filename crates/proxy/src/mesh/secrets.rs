//! The sidecar's identity from another agent on the machine: a client of the standard SDS over a Unix socket, as SPIRE's
//! and Istio's agents serve it.
//!
//! One stream for the certificate and one for the roots, as Envoy does it: there are agents that serve one name a stream.
//! What was got stays in force while the agent is away.
use crate::holding::{self, Held};
use crate::shared::Shared;
use envoy_types::pb::envoy::config::core::v3::{DataSource, Node, data_source::Specifier};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, secret};
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use envoy_types::pb::google::rpc::Status as Problem;
use hyper_util::rt::TokioIo;
use prost::Message;
use raddle_identity::Identity;
use raddle_identity::renewal::pause;
use raddle_model::IdentitySource;
use raddle_policy::Rng;
use raddle_xds::types::Kind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};
use zeroize::{Zeroize, Zeroizing};

/// How often it is looked whether the settings are still the same.
const LOOK: Duration = Duration::from_millis(500);
/// Longest time for connecting.
const CONNECT: Duration = Duration::from_secs(5);
/// Larger than any secret that could be good.
const MAX_MESSAGE: usize = 1 << 20;
/// `INVALID_ARGUMENT`.
const INVALID: i32 = 3;

/// Starts the thread. It ends with the sidecar.
pub(crate) fn start(shared: &Arc<Shared>) {
    let (weak, seed) = (Arc::downgrade(shared), shared.wall_zero_ns ^ 5);
    let run = move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(keep(weak, Rng::new(seed))),
        Err(e) => tracing::error!(error = %e, "spec.identity.sds cannot be followed"),
    };
    if let Err(e) = std::thread::Builder::new().name("sds".into()).spawn(run) {
        tracing::error!(error = %e, "spec.identity.sds cannot be followed");
    }
}

/// Where secrets come from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct From {
    socket: PathBuf,
    certificate: String,
    roots: String,
}

fn source(shared: &Shared) -> Option<From> {
    match shared.config.load().sidecar.identity.clone()? {
        IdentitySource::Sds { socket, certificate, roots } => Some(From { socket, certificate, roots }),
        IdentitySource::Files { .. } => None,
    }
}

async fn keep(weak: Weak<Shared>, mut rng: Rng) {
    let (mut failures, mut told) = (0u32, String::new());
    loop {
        let Some(shared) = weak.upgrade() else { return };
        let Some(from) = source(&shared) else {
            drop(shared);
            tokio::time::sleep(LOOK).await;
            continue;
        };
        let name = shared.config.load().sidecar.metadata.name.clone();
        drop(shared);
        let mut got = false;
        let why = tokio::select! {
            why = follow(&weak, &from, &name, &mut got) => why,
            () = changed(&weak, &from) => continue,
        };
        failures = if got { 1 } else { failures.saturating_add(1) };
        let Some(shared) = weak.upgrade() else { return };
        if why != told {
            tracing::warn!(socket = %from.socket.display(), "no secrets from the agent: {why}");
            shared.warn("sds_away", from.socket.display().to_string(), &why);
            told = why;
        }
        drop(shared);
        tokio::time::sleep(pause(failures, rng.unit())).await;
    }
}

/// Waits until the settings say something else, or the sidecar has ended.
async fn changed(weak: &Weak<Shared>, from: &From) {
    loop {
        tokio::time::sleep(LOOK).await;
        if weak.upgrade().is_none_or(|s| source(&s).as_ref() != Some(from)) {
            return;
        }
    }
}

/// What has come so far.
#[derive(Default)]
struct Parts {
    chain: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    roots: Vec<u8>,
}

/// Takes secrets as they come. Returns why no more do.
async fn follow(weak: &Weak<Shared>, from: &From, node: &str, got: &mut bool) -> String {
    let channel = match tokio::time::timeout(CONNECT, dial(&from.socket)).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(e)) => return format!("it cannot be connected to: {e}"),
        Err(_) => return format!("it cannot be connected to within {CONNECT:?}"),
    };
    let (tx, mut secrets) = mpsc::channel(2);
    let ended = |name: &str| {
        let (channel, node, tx) = (channel.clone(), node.to_owned(), tx.clone());
        let name = name.to_owned();
        async move { stream(channel, &name, &node, tx).await }
    };
    let (one, two) = (ended(&from.certificate), ended(&from.roots));
    tokio::pin!(one, two);
    let mut parts = Parts::default();
    loop {
        tokio::select! {
            why = &mut one => return why,
            why = &mut two => return why,
            secret = secrets.recv() => {
                let (Some(secret), Some(shared)) = (secret, weak.upgrade()) else { return "the sidecar ends".into() };
                if let Err(why) = parts.take(secret) {
                    return why;
                }
                match parts.put(&shared) {
                    Ok(put) => *got |= put,
                    Err(why) => shared.warn("identity_refused", "sds", why),
                }
            }
        }
    }
}

async fn dial(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://sds").connect_with_connector(connector).await
}

/// One name's stream. Returns why it has ended.
async fn stream(channel: Channel, name: &str, node: &str, secrets: mpsc::Sender<Secret>) -> String {
    let mut client = SecretDiscoveryServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let (say, said) = mpsc::channel(4);
    let request = DiscoveryRequest {
        node: Some(Node { id: node.into(), user_agent_name: "raddle".into(), ..Node::default() }),
        resource_names: vec![name.into()],
        type_url: Kind::Secret.type_url().into(),
        ..DiscoveryRequest::default()
    };
    if say.send(request.clone()).await.is_err() {
        return "the stream has ended".into();
    }
    let mut answers = match client.stream_secrets(ReceiverStream::new(said)).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return format!("{name}: {}", status.message()),
    };
    loop {
        let mut answer = match answers.message().await {
            Ok(Some(answer)) => answer,
            Ok(None) => return "the agent has ended the stream".into(),
            Err(status) => return format!("{name}: {}", status.message()),
        };
        let found = read(&mut answer, name);
        let error_detail = found.as_ref().err().map(|why| Problem {
            code: INVALID,
            message: why.clone(),
            ..Problem::default()
        });
        let ack = DiscoveryRequest {
            version_info: answer.version_info,
            response_nonce: answer.nonce,
            error_detail,
            ..request.clone()
        };
        let passed = match found {
            Ok(Some(secret)) => secrets.send(secret).await.is_ok(),
            Ok(None) | Err(_) => true,
        };
        if !passed || say.send(ack).await.is_err() {
            return "the stream has ended".into();
        }
    }
}

/// The secret of a name out of an answer, of which nothing is left.
fn read(answer: &mut DiscoveryResponse, name: &str) -> Result<Option<Secret>, String> {
    let mut found = Ok(None);
    for any in &mut answer.resources {
        match Secret::decode(&any.value[..]) {
            Ok(secret) if secret.name == name => found = Ok(Some(secret)),
            Ok(mut other) => wipe(&mut other),
            Err(_) => found = Err(format!("{name} cannot be read")),
        }
        any.value.zeroize();
    }
    found
}

fn wipe(secret: &mut Secret) {
    if let Some(secret::Type::TlsCertificate(tls)) = &mut secret.r#type
        && let Some(DataSource { specifier: Some(Specifier::InlineBytes(key)), .. }) = &mut tls.private_key
    {
        key.zeroize();
    }
}

fn bytes(source: Option<DataSource>) -> Option<Vec<u8>> {
    match source?.specifier? {
        Specifier::InlineBytes(bytes) => Some(bytes),
        Specifier::InlineString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

impl Parts {
    fn take(&mut self, secret: Secret) -> Result<(), String> {
        let Secret { name, r#type } = secret;
        let bad = |what: &str| format!("{name} has no {what} in it");
        match r#type {
            Some(secret::Type::TlsCertificate(tls)) => {
                self.key = Zeroizing::new(bytes(tls.private_key).ok_or_else(|| bad("private key"))?);
                self.chain = bytes(tls.certificate_chain).ok_or_else(|| bad("certificate"))?;
            }
            Some(secret::Type::ValidationContext(context)) => {
                self.roots = bytes(context.trusted_ca).ok_or_else(|| bad("roots"))?;
            }
            _ => return Err(bad("certificate or roots")),
        }
        Ok(())
    }

    /// Puts them in force, if all are there and they are others than those that are.
    fn put(&self, shared: &Shared) -> Result<bool, String> {
        if self.chain.is_empty() || self.roots.is_empty() {
            return Ok(false);
        }
        let now = holding::now_s();
        let identity = Identity::from_pem(&self.chain, &self.key, &self.roots, now)?;
        let held = Held::of(Some(&identity), now);
        if !shared.links.load().identity.as_ref().is_some_and(|i| i.same(&identity)) {
            tracing::info!(id = %identity.id(), serial = %identity.leaf().serial, not_after = identity.not_after(), "identity of an agent");
            shared.set_identity(Some(Arc::new(identity)), None).map_err(|e| e.to_string())?;
        }
        holding::tell_registry(shared, held);
        Ok(true)
    }
}
