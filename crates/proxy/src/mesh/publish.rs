//! Tells the registry what the app serves, and takes it back before the sidecar ends.
//!
//! The stream is the lease: while it lives, what was said on it holds. So after every reconnect all is said again.
use super::channel::Dialer;
use super::link::Ask;
use super::offer::{self, Certificate, Offer};
use super::thread::Parts;
use crate::mesh::MeshHandle;
use crate::shared::Config;
use raddle_model::Published;
use raddle_xds::proto::registry_client::RegistryClient;
use raddle_xds::proto::{Instance, PublishRequest, PublishResponse, Service};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

/// How often the app's port is looked at, and how long it has to accept.
const WATCH_EVERY: Duration = Duration::from_secs(1);
const WATCH_PATIENCE: Duration = Duration::from_millis(500);
/// Without an acknowledgement for so long the stream is given up.
const ACK_PATIENCE: Duration = Duration::from_secs(10);

/// What is wanted of the publisher.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    /// Grows with every change of what is to be published.
    pub version: u64,
    /// Nothing is published any more: whoever waits for that.
    pub withdrawn: Option<crossbeam_channel::Sender<()>>,
}

/// Publishes until the process ends.
pub(crate) async fn run(parts: Parts, mut wishes: watch::Receiver<Wish>) {
    let mut dialer = Dialer::new(&parts.control, parts.tls(), parts.shared.wall_zero_ns ^ 1);
    loop {
        // Nobody is bothered with a stream on which there is nothing to say.
        while desired(&parts, &wishes.borrow_and_update()).is_none() {
            if let Some(done) = &wishes.borrow().withdrawn {
                let _ = done.try_send(());
            }
            if wishes.changed().await.is_err() {
                return;
            }
        }
        let ended = match dialer.dial().await {
            Ok(channel) => Stream::run(&parts, &mut wishes, RegistryClient::new(channel), &mut dialer).await,
            Err(e) => Err(e),
        };
        if let Err(e) = ended {
            tracing::debug!(error = e, "publishing");
            let mut view = parts.link.view();
            view.publication.acknowledged = false;
            view.publication.error = Some(e);
        }
        let pause = dialer.pause();
        let _ = tokio::time::timeout(pause, wishes.changed()).await;
    }
}

/// A stream to the registry.
struct Stream {
    out: mpsc::Sender<PublishRequest>,
    sequence: u64,
    /// What was said last, once anything was.
    said: Option<Instance>,
    acknowledged: u64,
}

impl Stream {
    /// Keeps the registry told until the stream ends.
    ///
    /// # Errors
    /// Why it ended.
    async fn run(
        parts: &Parts,
        wishes: &mut watch::Receiver<Wish>,
        mut client: RegistryClient<tonic::transport::Channel>,
        dialer: &mut Dialer,
    ) -> Result<(), String> {
        let (out, requests) = mpsc::channel(4);
        let mut s = Stream { out, sequence: 0, said: None, acknowledged: 0 };
        let wish = wishes.borrow_and_update().clone();
        s.say(parts, &wish).await?;
        let opened = client.publish(ReceiverStream::new(requests));
        let opened = tokio::time::timeout(ACK_PATIENCE, opened).await;
        let mut answers = opened
            .map_err(|_| "the registry does not answer".to_owned())?
            .map_err(|e| e.message().to_owned())?
            .into_inner();
        loop {
            let awaited = s.acknowledged < s.sequence;
            let patience = if awaited { ACK_PATIENCE } else { Duration::from_secs(86_400) };
            tokio::select! {
                answer = tokio::time::timeout(patience, answers.message()) => match answer {
                    Err(_) => return Err("the registry does not answer".into()),
                    Ok(Err(status)) => return Err(status.message().to_owned()),
                    Ok(Ok(None)) => return Err("the registry ended the stream".into()),
                    Ok(Ok(Some(answer))) => {
                        dialer.worked();
                        s.heard(parts, &answer);
                    }
                },
                changed = wishes.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let wish = wishes.borrow_and_update().clone();
                    s.say(parts, &wish).await?;
                }
            }
            if s.acknowledged == s.sequence
                && let Some(done) = &wishes.borrow().withdrawn
            {
                let _ = done.try_send(());
            }
        }
    }

    /// Says what is to be published, unless that was said last.
    async fn say(&mut self, parts: &Parts, wish: &Wish) -> Result<(), String> {
        let instance = desired(parts, wish);
        if self.sequence > 0 && self.said == instance {
            return Ok(());
        }
        self.sequence += 1;
        {
            let mut view = parts.link.view();
            if let Some(i) = &instance {
                if view.publication.tls != i.tls {
                    tell_switch(parts, i.tls);
                }
                (view.publication.tls, view.publication.tls_required) = (i.tls, i.tls_required);
            }
            view.publication.services = instance.as_ref().map_or(0, |i| i.services.len());
            view.publication.acknowledged = false;
        }
        self.said.clone_from(&instance);
        let node = (self.sequence == 1).then(|| parts.node.clone());
        let request = PublishRequest { node, instance, sequence: self.sequence };
        parts.link.cells.publications.inc();
        self.out.send(request).await.map_err(|_| "the stream has ended".into())
    }

    fn heard(&mut self, parts: &Parts, answer: &PublishResponse) {
        self.acknowledged = self.acknowledged.max(answer.sequence);
        let error = Some(&answer.error).filter(|e| !e.is_empty());
        if let Some(e) = error {
            tracing::error!("the registry refuses what is published: {e}");
            parts.shared.warn("publication_refused", "publish", e);
        }
        let mut view = parts.link.view();
        view.publication.acknowledged = self.acknowledged == self.sequence && error.is_none();
        view.publication.error = error.cloned();
    }
}

/// What the registry is to hold; `None` = nothing.
fn desired(parts: &Parts, wish: &Wish) -> Option<Instance> {
    let config = parts.shared.config.load();
    let publish = config.sidecar.publish.as_ref();
    let away =
        publish.is_some_and(|p| p.watch_port.is_some()) && !parts.link.app_there.load(Ordering::Acquire);
    if wish.withdrawn.is_some() || away {
        return None;
    }
    let configured = publish.map(|p| p.services.clone()).unwrap_or_default();
    let mut all: BTreeMap<String, Published> =
        parts.local.published().into_iter().map(|p| (p.name.clone(), p)).collect();
    all.extend(configured.into_iter().map(|p| (p.name.clone(), p)));
    let address = parts.local.address()?.to_string();
    let services: Vec<Service> = all.into_values().map(service).collect();
    let offer = offered(parts, &config, &services);
    let weight = publish.map_or(100, |p| p.weight);
    let (tls, tls_required) = (offer.tls, offer.required);
    (!services.is_empty()).then_some(Instance { address, weight, tls, tls_required, services })
}

/// Whether callers of these services are asked for TLS: the rule says so, and there is a certificate to take it with.
fn offered(parts: &Parts, config: &Config, services: &[Service]) -> Offer {
    let settings = &config.snapshot.link().settings;
    let certificate = match parts.link.holds_certificate.load(Ordering::Acquire) {
        true => Certificate::Valid,
        false if parts.shared.links.load().identity.is_some() => Certificate::Expired,
        false => Certificate::None,
    };
    let before = {
        let view = parts.link.view();
        Offer { tls: view.publication.tls, required: view.publication.tls_required }
    };
    // A port that is none is refused by the registry; it asks for nothing.
    let ports = services.iter().filter_map(|s| u16::try_from(s.port).ok());
    let lowest = offer::lowest(settings, &config.sidecar.inbound, ports);
    offer::offer(settings, lowest, certificate, before)
}

/// Callers are told to encrypt, or not to.
fn tell_switch(parts: &Parts, tls: bool) {
    let config = parts.shared.config.load();
    let plan = config.snapshot.link();
    let rule = plan.rule.as_deref().map_or_else(|| "no rule".to_owned(), |r| format!("LinkEncryption/{r}"));
    let mode = plan.settings.mode.name();
    let what = if tls { "callers are asked for TLS" } else { "callers are asked for plaintext" };
    tracing::info!(rule, mode, tls, "{what}");
    parts.shared.note("link_published", rule, format!("{what} (mode {mode})"));
}

fn service(p: Published) -> Service {
    Service {
        name: p.name,
        protocol: p.protocol.map_or("", raddle_core::Protocol::name).to_owned(),
        port: p.port.into(),
        hosts: p.hosts,
        metadata: p.metadata.into_iter().collect::<HashMap<_, _>>(),
    }
}

/// Looks at the app's port, if it is to be watched.
pub(crate) async fn watch_port(parts: Parts) {
    let mut told = None;
    loop {
        let port = parts.shared.config.load().sidecar.publish.as_ref().and_then(|p| p.watch_port);
        let there = match port {
            None => true,
            Some(port) => accepts(port, parts.local.address()).await,
        };
        if told != Some(there) {
            if told.is_some() || !there {
                tracing::info!(port, there, "the app's port");
            }
            told = Some(there);
            parts.link.app_there.store(there, Ordering::Release);
            parts.link.view().publication.app_away = !there;
            parts.link.ask(Ask::Local);
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

/// Whether something accepts connections on this port of this machine.
async fn accepts(port: u16, own: Option<IpAddr>) -> bool {
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    for ip in std::iter::once(local).chain(own.filter(|ip| *ip != local)) {
        let connect = tokio::net::TcpStream::connect(SocketAddr::new(ip, port));
        if matches!(tokio::time::timeout(WATCH_PATIENCE, connect).await, Ok(Ok(_))) {
            return true;
        }
    }
    false
}
