//! The sidecar's certificate: its key is made in memory and never written, the control plane signs, and it is renewed
//! at half of its life. If it cannot be renewed, the one there is goes on being used, and people are told.
//!
//! The first time a token proves who the sidecar is, later its present certificate does.
use super::channel::{connect, sentence};
use raddle_identity::renewal::{expiring, pause, renew_at};
use raddle_identity::{ALPN_H2, Identity, PeerRule, PrivateKey, TrustBundle, anonymous_client_config};
use raddle_model::ControlAddress;
use raddle_policy::Rng;
use raddle_xds::client::TlsSource;
use raddle_xds::proto::certificates_client::CertificatesClient;
use raddle_xds::proto::{Node, SignRequest, SignResponse};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};
use zeroize::Zeroizing;

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);
/// The clock is looked at so often: it may be put forward, or the machine may have slept.
const LOOK: Duration = Duration::from_secs(3);
/// Larger than any answer that could be good.
const MAX_MESSAGE: usize = 1024 * 1024;
/// Longest token.
const MAX_TOKEN: u64 = 64 * 1024;

/// Where the token is that proves who the sidecar is. Never an argument: those everybody can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// There is none: an authority that is reached without one must know who asks.
    None,
    /// In a file, read anew for every attempt: Kubernetes renews projected tokens.
    File(PathBuf),
    /// In an environment variable.
    Variable(String),
}

/// What the agent is told when it starts.
#[derive(Clone)]
pub struct AgentOptions {
    /// Who the sidecar is.
    pub node: Node,
    /// The control plane's replicas.
    pub addresses: Vec<ControlAddress>,
    /// Roots with which it is checked before one has others; PEM.
    pub roots_file: Option<PathBuf>,
    /// What proves who the sidecar is at first.
    pub token: TokenSource,
    /// Seconds since 1970.
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// Where chance begins.
    pub seed: u64,
}

impl AgentOptions {
    /// With the machine's clock.
    pub fn new(node: Node, addresses: Vec<ControlAddress>, seed: u64) -> AgentOptions {
        let clock =
            Arc::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64));
        AgentOptions { node, addresses, roots_file: None, token: TokenSource::None, clock, seed }
    }
}

impl fmt::Debug for AgentOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentOptions")
            .field("node", &self.node)
            .field("addresses", &self.addresses)
            .field("roots_file", &self.roots_file)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

/// How it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentStatus {
    /// Until when the certificate is valid, seconds since 1970; `None` = there is none yet.
    pub not_after: Option<i64>,
    /// It should have been renewed long ago: less than a quarter of its life is left.
    pub expiring: bool,
    /// Its time is over: peers refuse it.
    pub expired: bool,
    /// Certificates got.
    pub renewals: u64,
    /// Attempts that failed since the last one that did not.
    pub failures: u32,
    /// Attempts that failed, all.
    pub failed: u64,
    /// Why the last one failed; a sentence.
    pub error: Option<String>,
}

impl AgentStatus {
    /// What the readiness page says, if there is something to say. Serving goes on in any case.
    pub fn detail(&self) -> Option<String> {
        let why = self.error.as_deref().unwrap_or("the control plane has not answered yet");
        match self {
            AgentStatus { expired: true, .. } => Some(format!("the certificate has expired: {why}")),
            AgentStatus { expiring: true, .. } => Some(format!("the certificate expires soon: {why}")),
            AgentStatus { not_after: None, error: Some(why), .. } => {
                Some(format!("no certificate yet: {why}"))
            }
            _ => None,
        }
    }
}

/// Keeps the sidecar's certificate. It ends when the last clone is dropped.
#[derive(Clone)]
pub struct Agent {
    shared: Arc<Shared>,
    _task: Arc<Task>,
}

struct Shared {
    options: AgentOptions,
    identity: watch::Sender<Option<Arc<Identity>>>,
    status: watch::Sender<AgentStatus>,
    now: Notify,
}

struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Agent {
    /// Starts it, in a task of the running runtime.
    pub fn spawn(options: AgentOptions) -> Agent {
        let shared = Arc::new(Shared {
            options,
            identity: watch::Sender::new(None),
            status: watch::Sender::default(),
            now: Notify::new(),
        });
        let task = tokio::spawn(run(shared.clone()));
        Agent { shared, _task: Arc::new(Task(task.abort_handle())) }
    }

    /// Certificate, key and roots in force; `None` until there is one.
    pub fn identity(&self) -> watch::Receiver<Option<Arc<Identity>>> {
        self.shared.identity.subscribe()
    }

    /// How it goes.
    pub fn status(&self) -> watch::Receiver<AgentStatus> {
        self.shared.status.subscribe()
    }

    /// Asks for a new certificate now.
    pub fn renew(&self) {
        self.shared.now.notify_one();
    }

    /// Other roots are in force (the control plane tells them beside certificates, too).
    pub fn trust(&self, roots: &TrustBundle) {
        self.shared.identity.send_if_modified(|identity| match identity {
            Some(i) if i.trust().trust_domain() == roots.trust_domain() && **i.trust() != *roots => {
                *identity = Some(Arc::new(i.with_trust(Arc::new(roots.clone()))));
                true
            }
            _ => false,
        });
    }

    /// Waits until there is a certificate, or it is known that the first attempt got none; no longer than `most`.
    pub async fn begun(&self, most: Duration) {
        let mut status = self.status();
        let known = status.wait_for(|s| s.not_after.is_some() || s.failed > 0);
        // The sender lives as long as the agent.
        let _ = tokio::time::timeout(most, known).await;
    }

    /// TLS to the control plane: with the certificate there is. As long as one is still to come there is nothing to
    /// connect with; without hope for one (no token), checked with the pinned roots, for servers that ask for none.
    pub fn tls(&self) -> TlsSource {
        let shared = self.shared.clone();
        Arc::new(move || {
            let awaited = shared.present().is_none() && shared.options.token != TokenSource::None;
            if awaited { None } else { shared.client_config(false).ok().map(Arc::new) }
        })
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Agent({:?})", *self.shared.status.borrow())
    }
}

async fn run(shared: Arc<Shared>) {
    let mut rng = Rng::new(shared.options.seed);
    let mut failures = 0u32;
    // Replicas are asked in turn, and not all sidecars begin with the same.
    let mut turn = rng.below(shared.options.addresses.len().max(1) as u32) as usize;
    loop {
        let attempt = tokio::time::timeout(ATTEMPT, shared.attempt(turn, failures)).await;
        let failed = match attempt {
            Ok(Ok(identity)) => {
                failures = 0;
                let (now, end) = (shared.clock(), identity.not_after());
                let due = renew_at(identity.leaf().not_before, end, rng.unit());
                // One that was old when it came would be due at once, and so would the next.
                let due = due.max(now.saturating_add(end.saturating_sub(now) / 4));
                shared.succeeded(identity);
                shared.wait_until(due).await;
                continue;
            }
            Ok(Err(why)) => why,
            Err(_) => format!("no answer within {ATTEMPT:?}"),
        };
        failures = failures.saturating_add(1);
        turn = turn.wrapping_add(1);
        shared.failed(failures, failed);
        tokio::select! {
            () = tokio::time::sleep(pause(failures, rng.unit())) => {}
            () = shared.now.notified() => {}
        }
    }
}

impl Shared {
    fn clock(&self) -> i64 {
        (self.options.clock)()
    }

    /// The certificate, if its time is not over.
    fn present(&self) -> Option<Arc<Identity>> {
        self.identity.borrow().clone().filter(|i| self.clock() < i.not_after())
    }

    /// Until a time, or until somebody asks for it to be now.
    async fn wait_until(&self, due: i64) {
        loop {
            let left = due.saturating_sub(self.clock());
            if left <= 0 {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK.min(Duration::from_secs(left as u64))) => {}
                () = self.now.notified() => return,
            }
        }
    }

    fn succeeded(&self, identity: Identity) {
        tracing::info!(id = %identity.id(), serial = %identity.leaf().serial, not_after = identity.not_after(), "certificate");
        let not_after = identity.not_after();
        self.identity.send_replace(Some(Arc::new(identity)));
        self.status.send_modify(|s| {
            *s = AgentStatus {
                not_after: Some(not_after),
                renewals: s.renewals + 1,
                failed: s.failed,
                ..AgentStatus::default()
            };
        });
    }

    fn failed(&self, failures: u32, why: String) {
        let now = self.clock();
        let ends = self.identity.borrow().as_ref().map(|i| (i.leaf().not_before, i.not_after()));
        let soon = ends.is_some_and(|(from, to)| expiring(from, to, now));
        let over = ends.is_some_and(|(_, to)| now > to);
        tracing::debug!(failures, "no certificate: {why}");
        self.status.send_modify(|s| {
            s.expiring = soon;
            s.expired = over;
            s.failures = failures;
            s.failed += 1;
            s.error = Some(why);
        });
    }

    /// Asks once. Every other time after a failure it is as at the first time, for the case that the certificate there
    /// is, or the roots, are what does not please.
    async fn attempt(&self, turn: usize, failures: u32) -> Result<Identity, String> {
        let n = self.options.addresses.len();
        let address = match n {
            0 => return Err("no address of the control plane is configured".into()),
            n => &self.options.addresses[turn % n],
        };
        let present = self.present();
        let anew = present.is_none() || failures % 2 == 1 && self.options.token != TokenSource::None;
        let by_certificate = !anew && address.tls;
        let token = match by_certificate {
            true => Zeroizing::new(String::new()),
            false => self.token()?,
        };
        let key = PrivateKey::generate().map_err(|e| e.to_string())?;
        let request = SignRequest {
            node: Some(self.options.node.clone()),
            request: key.request().map_err(|e| e.to_string())?.into(),
            token: token.to_string(),
        };
        let channel = self.dial(address, anew).await?;
        let mut client = CertificatesClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let sent = client.sign(request).await;
        let response = sent.map_err(|s| format!("{address}: {}", refused(&s)))?.into_inner();
        self.check(response, key).map_err(|e| format!("{address}: {e}"))
    }

    /// What was answered must be what was asked for.
    fn check(&self, response: SignResponse, key: PrivateKey) -> Result<Identity, String> {
        let certificates = |all: Vec<bytes::Bytes>| -> Vec<CertificateDer<'static>> {
            all.into_iter().map(|c| c.to_vec().into()).collect()
        };
        let chain = certificates(response.chain);
        let leaf = chain.first().and_then(|c| raddle_identity::Leaf::read(c));
        let id = leaf.ok_or("what was signed has no SPIFFE id")?.id;
        let node = &self.options.node;
        if id.is_control() || id.app_name() != node.app || id.unit() != node.unit {
            return Err(format!("what was signed is of another, {id}"));
        }
        if let Some(present) = &*self.identity.borrow()
            && present.id() != &id
        {
            return Err(format!("what was signed is of another trust domain than before, {id}"));
        }
        let roots = TrustBundle::new(id.trust_domain(), certificates(response.roots));
        let roots = roots.map_err(|e| e.to_string())?;
        Identity::new(chain, Arc::new(key), Arc::new(roots), self.clock()).map_err(|e| e.to_string())
    }

    fn token(&self) -> Result<Zeroizing<String>, String> {
        let text = match &self.options.token {
            TokenSource::None => String::new(),
            TokenSource::File(path) => {
                read(path).map_err(|e| format!("the token {}: {e}", path.display()))?
            }
            TokenSource::Variable(name) => std::env::var(name)
                .map_err(|_| format!("the environment variable {name} with the token is not set"))?,
        };
        let text = Zeroizing::new(text);
        Ok(Zeroizing::new(text.trim().to_owned()))
    }

    /// `anew`: as if there were no certificate yet.
    fn client_config(&self, anew: bool) -> Result<ClientConfig, String> {
        let mut config = match self.present().filter(|_| !anew) {
            Some(identity) => identity.client_config(PeerRule::Control),
            None => {
                let Some(file) = &self.options.roots_file else {
                    let why =
                        "nothing to check the control plane's certificate with; set controlPlane.rootsFile";
                    return Err(why.into());
                };
                let roots = TrustBundle::load("first.contact", file).map_err(|e| e.to_string())?;
                anonymous_client_config(&roots, PeerRule::FirstContact)
            }
        }
        .map_err(|e| e.to_string())?;
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        Ok(config)
    }

    async fn dial(&self, address: &ControlAddress, anew: bool) -> Result<Channel, String> {
        let tls = match address.tls {
            true => Some(Arc::new(self.client_config(anew)?)),
            false => None,
        };
        let endpoint = Endpoint::from_shared(format!("http://{}:{}", address.host, address.port))
            .map_err(|e| format!("{address}: {e}"))?;
        let to = address.clone();
        let connector = tower::service_fn(move |_: Uri| connect(to.clone(), tls.clone()));
        endpoint.connect_with_connector(connector).await.map_err(|e| format!("{address}: {}", sentence(&e)))
    }
}

fn read(path: &std::path::Path) -> io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_TOKEN).read_to_string(&mut text)?;
    Ok(text)
}

fn refused(status: &Status) -> String {
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument | Code::ResourceExhausted => {
            format!("the control plane signs no certificate: {}", status.message())
        }
        code => format!("{code:?}: {}", status.message()),
    }
}
