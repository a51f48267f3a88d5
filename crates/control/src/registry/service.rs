//! Takes publications. Each stream holds one instance; when it ends without a word, the instance stays for the grace.
use super::check::{self, Checked};
use super::metrics::Counters;
use super::writer::Writer;
use crate::keys;
use bytes::Bytes;
use raddle_identity::SpiffeId;
use raddle_store::{Key, LeaseId, Revision, StoreError};
use raddle_xds::proto::registry_server::Registry as Rpc;
use raddle_xds::proto::{Node, PublishRequest, PublishResponse};
use raddle_xds::server::PeerIdentity;
use std::collections::HashSet;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Value of an instance that has withdrawn: it is removed in the next moment, and nobody takes it for lost.
pub(super) const WITHDRAWN: &[u8] = b"-";
/// Pause before a write is tried again that the store did not take.
const AGAIN: Duration = Duration::from_millis(500);
/// Most bytes of a request: names, hosts and metadata of 10,000 services.
pub(super) const REQUEST: usize = 8 << 20;

/// The gRPC service. Clones are the same.
#[derive(Clone, Debug)]
pub struct Publications {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) writer: Writer,
    pub(super) lease: watch::Receiver<Option<LeaseId>>,
    pub(super) grace: Duration,
    pub(super) places: Arc<Semaphore>,
    pub(super) counters: Arc<Counters>,
    /// Sets that are in the store and in use, as far as this replica knows: `APP/HASH`.
    pub(super) known: Arc<Mutex<HashSet<Arc<str>>>>,
    pub(super) ending: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl Rpc for Publications {
    type PublishStream = Pin<Box<dyn Stream<Item = Result<PublishResponse, Status>> + Send>>;

    async fn publish(
        &self,
        request: Request<Streaming<PublishRequest>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        let shared = self.shared.clone();
        let place = shared.places.clone().try_acquire_owned();
        let place = place.map_err(|_| Status::resource_exhausted("too many publication streams"))?;
        let identity = request.extensions().get::<PeerIdentity>().and_then(|p| p.0.clone());
        let mut requests = request.into_inner();
        let (tell, told) = mpsc::channel(4);
        tokio::spawn(async move {
            shared.counters.streams.fetch_add(1, Relaxed);
            let ended = match begin(&mut requests, identity.as_deref()).await {
                Ok((node, first)) => Session::new(&shared, node, tell.clone()).run(requests, first).await,
                Err(status) => Err(status),
            };
            shared.counters.streams.fetch_sub(1, Relaxed);
            drop(place);
            if let Err(status) = ended {
                // Whoever asked may have gone.
                let _ = tell.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(told))))
    }
}

/// The first request: who speaks, and may they?
async fn begin(
    requests: &mut Streaming<PublishRequest>,
    identity: Option<&str>,
) -> Result<(Node, PublishRequest), Status> {
    let first = requests.message().await?.ok_or_else(|| Status::invalid_argument("nothing was sent"))?;
    let node =
        first.node.clone().ok_or_else(|| Status::invalid_argument("node: the first request must have it"))?;
    check::node(&node).map_err(Status::invalid_argument)?;
    allowed(&node, identity)?;
    Ok((node, first))
}

/// Whether the peer's certificate lets it speak for the node. Without one (plaintext on loopback) it is believed.
pub fn allowed(node: &Node, identity: Option<&str>) -> Result<(), Status> {
    let Some(identity) = identity else { return Ok(()) };
    let id: SpiffeId = identity.parse().map_err(|e| Status::permission_denied(format!("{identity}: {e}")))?;
    let unit = node.unit.is_empty() || id.unit() == node.unit;
    if id.is_control() || id.app_name() != node.app || !unit {
        return Err(Status::permission_denied(format!(
            "{identity} may not speak for app {} unit {:?}",
            node.app, node.unit
        )));
    }
    Ok(())
}

/// One stream.
struct Session<'a> {
    shared: &'a Shared,
    node: Node,
    key: Key,
    tell: mpsc::Sender<Result<PublishResponse, Status>>,
    lease: watch::Receiver<Option<LeaseId>>,
    /// What shall be in the store.
    wanted: Option<Checked>,
    /// What the stream wrote last: it is its own as long as the key is at this commit.
    written: Option<Revision>,
    /// The store has not taken it yet; and whom to tell then.
    due: bool,
    owed: Option<u64>,
}

impl<'a> Session<'a> {
    fn new(
        shared: &'a Shared,
        node: Node,
        tell: mpsc::Sender<Result<PublishResponse, Status>>,
    ) -> Session<'a> {
        let key = format!("{}{}/{}", keys::INSTANCES, node.app, node.id).into();
        let lease = shared.lease.clone();
        Session { shared, node, key, tell, lease, wanted: None, written: None, due: false, owed: None }
    }

    async fn run(
        mut self,
        mut requests: Streaming<PublishRequest>,
        first: PublishRequest,
    ) -> Result<(), Status> {
        let mut ending = self.shared.ending.clone();
        self.take(first).await;
        let ended = loop {
            tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => self.take(request).await,
                    Ok(None) => break Ok(()),
                    Err(status) => break Err(status),
                },
                changed = self.lease.changed() => {
                    // Keys under the old lease go with it.
                    self.due = self.wanted.is_some();
                    self.write().await;
                    if changed.is_err() {
                        break Err(Status::unavailable("the control plane ends"));
                    }
                }
                () = tokio::time::sleep(AGAIN), if self.due => self.write().await,
                () = self.tell.closed() => break Ok(()),
                () = over(&mut ending) => break Err(Status::unavailable("the control plane ends; connect again")),
            }
        };
        drop(requests);
        if *ending.borrow() {
            return ended;
        }
        let Session { shared, key, written, .. } = self;
        if let Some(at) = written {
            tokio::spawn(later(
                shared.writer.clone(),
                key,
                at,
                shared.grace,
                shared.counters.clone(),
                ending,
            ));
        }
        ended
    }

    /// A request: it replaces what the stream published before.
    async fn take(&mut self, request: PublishRequest) {
        let Some(instance) = request.instance else {
            let done = self.withdraw().await;
            return self.answer(request.sequence, done.map_err(|e| e.to_string()).err()).await;
        };
        match check::publication(&self.node, &instance) {
            Ok(checked) => {
                if let Some(owed) = self.owed.take() {
                    self.answer(owed, Some("a newer one replaced it before the store had taken it".into()))
                        .await;
                }
                self.wanted = Some(checked);
                self.due = true;
                self.owed = Some(request.sequence);
                self.write().await;
            }
            Err(why) => {
                self.shared.counters.refused.fetch_add(1, Relaxed);
                self.answer(request.sequence, Some(why)).await;
            }
        }
    }

    /// Writes what is due. What the store does not take now is tried again.
    async fn write(&mut self) {
        let (Some(checked), Some(lease)) = (&self.wanted, *self.lease.borrow_and_update()) else { return };
        let name: Arc<str> = format!("{}/{}", checked.instance.app, checked.instance.services).into();
        let known = self.shared.known.lock().unwrap_or_else(PoisonError::into_inner).contains(&name);
        let set =
            (!known).then(|| (format!("{}{name}", keys::SERVICES).into(), checked.stored.clone().into()));
        let Ok(value) = serde_json::to_vec(&checked.instance) else { return };
        match self.shared.writer.put(set, self.key.clone(), value.into(), lease).await {
            Ok(revision) => {
                self.written = Some(revision);
                self.due = false;
                self.shared.counters.taken.fetch_add(1, Relaxed);
                if let Some(owed) = self.owed.take() {
                    self.answer(owed, None).await;
                }
            }
            Err(e) => tracing::debug!("{}: not written yet: {e}", self.key),
        }
    }

    /// Marks the instance as withdrawn and removes it: two commits, so that nobody takes it for lost.
    async fn withdraw(&mut self) -> Result<(), StoreError> {
        (self.wanted, self.due, self.owed) = (None, false, None);
        if self.written.take().is_none() {
            return Ok(());
        }
        let Some(lease) = *self.lease.borrow() else { return Err(StoreError::NoLease) };
        self.shared.counters.withdrawn.fetch_add(1, Relaxed);
        let at = self.shared.writer.put(None, self.key.clone(), Bytes::from_static(WITHDRAWN), lease).await?;
        match self.shared.writer.delete(self.key.clone(), at).await {
            // Another stream speaks for the instance now.
            Ok(_) | Err(StoreError::Invalid(_)) => Ok(()),
            Err(e) => Err(e),
        }
    }

    async fn answer(&self, sequence: u64, error: Option<String>) {
        let response = PublishResponse { sequence, error: error.unwrap_or_default() };
        // Whoever asked may have gone; the loop will see that.
        let _ = self.tell.send(Ok(response)).await;
    }
}

/// Waits until the control plane ends.
async fn over(ending: &mut watch::Receiver<bool>) {
    // The sender lives as long as the registry.
    let _ = ending.wait_for(|e| *e).await;
}

/// Removes an instance whose stream has ended, unless somebody wrote it again within the grace.
async fn later(
    writer: Writer,
    key: Key,
    at: Revision,
    grace: Duration,
    counters: Arc<Counters>,
    mut ending: watch::Receiver<bool>,
) {
    tokio::select! {
        () = tokio::time::sleep(grace) => {}
        // The sidecar comes back to another replica, or to this one; else the lease removes it.
        () = over(&mut ending) => return,
    }
    loop {
        match writer.delete(key.clone(), at).await {
            Ok(_) => {
                counters.expired.fetch_add(1, Relaxed);
                return tracing::info!("{key}: its stream ended and did not come back");
            }
            Err(StoreError::Unavailable(why)) => tracing::debug!("{key}: not removed yet: {why}"),
            Err(_) => return,
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = over(&mut ending) => return,
        }
    }
}
