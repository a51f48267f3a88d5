//! The sidecar's certificate for other software on this machine (Envoy, and whatever speaks SDS): `default`, or the
//! SPIFFE id, is certificate and key, `ROOTCA` whom to trust. Over a Unix socket: who may open it gets the key.
//!
//! Names and shapes are those of Istio's and SPIRE's agents, so that their users' configurations work.
use bytes::{Bytes, BytesMut};
use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate, secret,
};
use prost::Message;
use raddle_identity::{Identity, chain_pem};
use raddle_xds::resource::{Resource, field};
use raddle_xds::server::{Admission, Catalog, Limits, Options, Peer, Server, View};
use raddle_xds::types::Kind;
use std::fmt;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::UnixListenerStream;
use zeroize::{Zeroize, Zeroizing};

/// Name of the secret with certificate and key.
const DEFAULT: &str = "default";
/// Name of the secret with the roots.
const ROOTS: &str = "ROOTCA";
/// Streams at once: there are few programs on a machine.
const STREAMS: usize = 256;

/// Who may open the socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// The sidecar's user (mode 0600).
    #[default]
    Owner,
    /// Its group, too (mode 0660).
    Group,
}

/// Serves until it is dropped.
#[derive(Debug)]
pub struct Sds {
    tasks: [AbortHandle; 2],
    path: PathBuf,
}

impl Sds {
    /// Listens on a socket, in tasks of the running runtime. One that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// The address is taken, by a live socket or another file, or cannot be used.
    pub async fn spawn(
        path: &Path,
        access: Access,
        identity: watch::Receiver<Option<Arc<Identity>>>,
    ) -> io::Result<Sds> {
        let listener = listen(path, access).await?;
        let secrets = Arc::new(Secrets::default());
        let follower = tokio::spawn(follow(secrets.clone(), identity));
        let options = Options {
            limits: Limits { names: 64, name_bytes: 2048, ..Limits::default() },
            admission: Admission { streams: STREAMS, ..Admission::default() },
            request_bytes: 64 << 10,
            ..Options::default()
        };
        let routes = Server::new(Arc::new(Handle(secrets)), options).routes();
        let server = tokio::spawn(async move {
            let incoming = UnixListenerStream::new(listener);
            let served =
                tonic::transport::Server::builder().add_routes(routes).serve_with_incoming(incoming).await;
            if let Err(e) = served {
                tracing::error!("SDS has ended: {e}");
            }
        });
        Ok(Sds { tasks: [follower.abort_handle(), server.abort_handle()], path: path.to_owned() })
    }
}

impl Drop for Sds {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn listen(path: &Path, access: Access) -> io::Result<UnixListener> {
    if let Ok(there) = std::fs::symlink_metadata(path) {
        let taken = |why| Err(io::Error::new(io::ErrorKind::AddrInUse, why));
        if !there.file_type().is_socket() {
            return taken("there is another file");
        }
        if UnixStream::connect(path).await.is_ok() {
            return taken("another process listens on it");
        }
        std::fs::remove_file(path)?;
    }
    // Bound under another name, so that nobody comes in before its mode is set.
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", std::process::id()));
    let draft = PathBuf::from(draft);
    let _ = std::fs::remove_file(&draft);
    let listener = UnixListener::bind(&draft)?;
    let mode = match access {
        Access::Owner => 0o600,
        Access::Group => 0o660,
    };
    std::fs::set_permissions(&draft, PermissionsExt::from_mode(mode))?;
    std::fs::rename(&draft, path)?;
    Ok(listener)
}

async fn follow(secrets: Arc<Secrets>, mut identity: watch::Receiver<Option<Arc<Identity>>>) {
    loop {
        let now = identity.borrow_and_update().clone();
        if let Some(identity) = now {
            secrets.put(&identity);
        }
        if identity.changed().await.is_err() {
            // The agent is gone; what was told stays good.
            return std::future::pending().await;
        }
    }
}

/// The secrets in force.
#[derive(Default)]
struct Secrets {
    now: Mutex<Arc<Generation>>,
    generation: watch::Sender<u64>,
}

#[derive(Default)]
struct Generation {
    number: u64,
    resources: Vec<Arc<Resource>>,
}

impl Secrets {
    fn put(&self, identity: &Identity) {
        let id = identity.id().to_string();
        let serial = identity.leaf().serial.to_string();
        let roots: Vec<u8> = identity.trust().roots().iter().flat_map(|r| r.to_vec()).collect();
        let roots_version = raddle_identity::crypto::hex(&raddle_identity::crypto::sha256(&roots)[..8]);
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let number = now.number + 1;
        let resources = vec![
            Arc::new(certificate(DEFAULT, &serial, identity)),
            Arc::new(certificate(&id, &serial, identity)),
            Arc::new(trusted(&roots_version, identity)),
        ];
        *now = Arc::new(Generation { number, resources });
        drop(now);
        self.generation.send_replace(number);
    }
}

struct Handle(Arc<Secrets>);

impl Catalog for Handle {
    fn generation(&self) -> watch::Receiver<u64> {
        self.0.generation.subscribe()
    }

    fn view(&self, _: &Peer) -> Box<dyn View> {
        Box::new(Seen(self.0.now.lock().unwrap_or_else(PoisonError::into_inner).clone()))
    }
}

struct Seen(Arc<Generation>);

impl View for Seen {
    fn generation(&self) -> u64 {
        self.0.number
    }

    fn get(&self, kind: Kind, name: &str) -> Option<Arc<Resource>> {
        self.0.resources.iter().find(|r| r.kind == kind && *r.name == *name).cloned()
    }

    fn all(&self, kind: Kind, _: &dyn Fn(&str) -> bool) -> Vec<Arc<Resource>> {
        self.0.resources.iter().filter(|r| r.kind == kind).cloned().collect()
    }

    fn changed(&self, since: u64) -> Option<Vec<(Kind, Arc<str>)>> {
        (since == self.0.number).then(Vec::new)
    }
}

fn inline(bytes: Vec<u8>) -> Option<DataSource> {
    Some(DataSource { specifier: Some(Specifier::InlineBytes(bytes)), ..DataSource::default() })
}

fn certificate(name: &str, version: &str, identity: &Identity) -> Resource {
    let pem = identity.key().pem();
    let mut tls = TlsCertificate {
        certificate_chain: inline(chain_pem(identity.chain()).into_bytes()),
        private_key: inline(pem.as_bytes().to_vec()),
        ..TlsCertificate::default()
    };
    let secret = Secret { name: name.into(), r#type: Some(secret::Type::TlsCertificate(tls.clone())) };
    let resource = encode(name, version, secret);
    wipe(&mut tls);
    resource
}

fn trusted(version: &str, identity: &Identity) -> Resource {
    let context = CertificateValidationContext {
        trusted_ca: inline(identity.trust().pem().into_bytes()),
        ..CertificateValidationContext::default()
    };
    let secret = Secret { name: ROOTS.into(), r#type: Some(secret::Type::ValidationContext(context)) };
    encode(ROOTS, version, secret)
}

/// As [`Resource::new`], but every copy made here is wiped when it goes, and the version is none of the content's hash,
/// for it is shown.
fn encode(name: &str, version: &str, mut secret: Secret) -> Resource {
    let value = Zeroizing::new(secret.encode_to_vec());
    if let Some(secret::Type::TlsCertificate(tls)) = &mut secret.r#type {
        wipe(tls);
    }
    let url = Kind::Secret.type_url();
    let mut any = BytesMut::with_capacity(value.len() + url.len() + 16);
    field(&mut any, 1, url.as_bytes());
    field(&mut any, 2, &value);
    let mut delta = BytesMut::with_capacity(any.len() + name.len() + version.len() + 32);
    // Field numbers of envoy.service.discovery.v3.Resource: version = 1, resource = 2, name = 3.
    field(&mut delta, 1, version.as_bytes());
    field(&mut delta, 2, &any);
    field(&mut delta, 3, name.as_bytes());
    let wiped = |b: BytesMut| Bytes::from_owner(Zeroizing::new(Vec::from(b)));
    Resource {
        kind: Kind::Secret,
        name: name.into(),
        version: version.into(),
        any: wiped(any),
        delta: wiped(delta),
    }
}

fn wipe(tls: &mut TlsCertificate) {
    if let Some(DataSource { specifier: Some(Specifier::InlineBytes(key)), .. }) = &mut tls.private_key {
        key.zeroize();
    }
}

impl fmt::Debug for Secrets {
    /// Nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets(generation {})", *self.generation.borrow())
    }
}
