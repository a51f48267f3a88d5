//! The sidecars' streams: one for each sidecar and replica.
use super::{Place, Quota, State, Tell};
use crate::registry;
use raddle_core::{Time, hash};
use raddle_policy::quota::{ClientId, Grant, Item, SILENT};
use raddle_xds::proto::quotas_server::Quotas;
use raddle_xds::proto::{Node, QuotaAnswer, QuotaElsewhere, QuotaGrant, QuotaItem, QuotaLease, QuotaReport};
use raddle_xds::server::PeerIdentity;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// A stream on which nothing comes for so long is ended.
const PATIENCE: Duration = Duration::from_secs(30);
/// Rules in a report.
const ITEMS: usize = 10_000;
/// Answers that wait for a sidecar that does not read.
const WAITING: usize = 16;

/// The gRPC service.
#[derive(Clone, Debug)]
pub struct Service(pub(super) Arc<Quota>);

#[tonic::async_trait]
impl Quotas for Service {
    type LeaseStream = Pin<Box<dyn Stream<Item = Result<QuotaAnswer, Status>> + Send>>;

    async fn lease(
        &self,
        request: Request<Streaming<QuotaReport>>,
    ) -> Result<Response<Self::LeaseStream>, Status> {
        let quota = self.0.clone();
        let place = quota.places.clone().try_acquire_owned();
        let place = place.map_err(|_| Status::resource_exhausted("too many quota streams"))?;
        let identity = request.extensions().get::<PeerIdentity>().and_then(|p| p.0.clone());
        let mut requests = request.into_inner();
        let (tell, told) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            let ended = match begin(&mut requests, identity.as_deref()).await {
                Ok((node, first)) => stream(&quota, &node, first, requests, &tell).await,
                Err(status) => Err(status),
            };
            drop(place);
            if let Err(status) = ended {
                // Whoever asked may have gone.
                let _ = tell.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(told))))
    }
}

/// The first report: who speaks, and may they?
async fn begin(
    requests: &mut Streaming<QuotaReport>,
    identity: Option<&str>,
) -> Result<(Node, QuotaReport), Status> {
    let first = tokio::time::timeout(PATIENCE, requests.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("nothing was reported"))??;
    let mut first = first.ok_or_else(|| Status::invalid_argument("nothing was sent"))?;
    let node = first.node.take();
    let node = node.ok_or_else(|| Status::invalid_argument("node: the first report must have it"))?;
    registry::check::node(&node).map_err(Status::invalid_argument)?;
    registry::service::allowed(&node, identity)?;
    Ok((node, first))
}

async fn stream(
    quota: &Quota,
    node: &Node,
    first: QuotaReport,
    mut requests: Streaming<QuotaReport>,
    tell: &Tell,
) -> Result<(), Status> {
    let client: ClientId = hash::stable(first.session, node.id.as_bytes());
    let number = quota.counters.reports.load(Relaxed) ^ (first.sequence << 32) ^ first.session;
    quota.state().streams.insert(client, (number, tell.clone()));
    let mut ending = quota.ending.subscribe();
    let mut replica = quota.replica.to_string();
    let mut report = Some(first);
    let mut last = quota.now();
    let ended = loop {
        if let Some(report) = report.take() {
            if report.items.len() > ITEMS {
                break Err(Status::invalid_argument("items: too many rules"));
            }
            last = quota.now();
            let mut answer = quota.answer(client, report);
            answer.replica = std::mem::take(&mut replica);
            // A sidecar that does not read its answers has the leases it has until they end.
            if tell.try_send(Ok(answer)).is_err() && tell.is_closed() {
                break Ok(());
            }
        }
        tokio::select! {
            next = tokio::time::timeout(PATIENCE, requests.message()) => match next {
                Ok(Ok(Some(next))) => report = Some(next),
                Ok(Ok(None)) => break Ok(()),
                Ok(Err(status)) => break Err(status),
                Err(_) => break Err(Status::deadline_exceeded("nothing was reported for too long")),
            },
            () = tell.closed() => break Ok(()),
            _ = ending.wait_for(|e| *e) => {
                break Err(Status::unavailable("the control plane ends; connect again"));
            }
        }
    };
    let now = quota.now();
    let mut state = quota.state();
    if state.streams.get(&client).is_some_and(|(n, _)| *n == number) {
        state.streams.remove(&client);
        // Who was silent before may live where nothing gets through: what is kept for it stays.
        if now.since(last) < SILENT {
            state.server.closed(client);
        }
    }
    ended
}

impl Quota {
    fn answer(&self, client: ClientId, report: QuotaReport) -> QuotaAnswer {
        self.counters.reports.fetch_add(1, Relaxed);
        let now = self.now();
        let mut answer = QuotaAnswer { sequence: report.sequence, ..QuotaAnswer::default() };
        let mut state = self.state();
        for item in report.items {
            self.item(&mut state, client, report.sequence, item, now, &mut answer);
        }
        answer
    }

    fn item(
        &self,
        state: &mut State,
        client: ClientId,
        sequence: u64,
        item: QuotaItem,
        now: Time,
        answer: &mut QuotaAnswer,
    ) {
        match self.place(state, &item.rule, now) {
            Place::Unknown => {}
            Place::There(replica, addresses) => {
                self.counters.elsewhere.fetch_add(1, Relaxed);
                answer.elsewhere.push(QuotaElsewhere { rule: item.rule, replica, addresses });
            }
            Place::Here => {
                let item = Item {
                    rule: item.rule.into(),
                    demand: item.demand,
                    used: item.used,
                    held: item.held,
                    holding: item.holding,
                    safe: item.safe,
                    ask: item.ask,
                };
                if let Some(grant) = state.server.on_item(client, sequence, &item, now) {
                    self.counters.tokens.fetch_add(u64::from(grant.tokens), Relaxed);
                    answer.grants.push(message(&grant));
                }
            }
        }
    }
}

fn message(grant: &Grant) -> QuotaGrant {
    QuotaGrant {
        rule: grant.rule.to_string(),
        lease: grant.lease.map(|l| QuotaLease { rate: l.rate, safe: l.safe }),
        tokens: grant.tokens,
        retry_ms: u32::try_from(grant.retry.as_millis()).unwrap_or(u32::MAX),
    }
}
