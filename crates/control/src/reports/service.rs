//! Takes reports: one stream for each sidecar.
use super::state::Origin;
use super::{PATIENCE, Reports, check, sums};
use crate::registry;
use crate::rules::RuleBook;
use raddle_xds::proto::reports_server::Reports as Rpc;
use raddle_xds::proto::{Node, ReportRequest, ReportResponse};
use raddle_xds::server::PeerIdentity;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Milliseconds between reports: while a rollout that reaches the sidecar runs, and else.
const INTERVAL: (u32, u32) = (1_000, 5_000);

/// The gRPC service.
#[derive(Clone)]
pub struct Service(pub(super) Arc<Reports>);

#[tonic::async_trait]
impl Rpc for Service {
    type ReportStream = Pin<Box<dyn Stream<Item = Result<ReportResponse, Status>> + Send>>;

    async fn report(
        &self,
        request: Request<Streaming<ReportRequest>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let reports = self.0.clone();
        let place = reports.places.clone().try_acquire_owned();
        let place = place.map_err(|_| Status::resource_exhausted("too many report streams"))?;
        let identity = request.extensions().get::<PeerIdentity>().and_then(|p| p.0.clone());
        let mut requests = request.into_inner();
        let (tell, told) = mpsc::channel(4);
        tokio::spawn(async move {
            let ended = match begin(&mut requests, identity.as_deref()).await {
                Ok((node, first)) => stream(&reports, node, first, requests, &tell).await,
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
    requests: &mut Streaming<ReportRequest>,
    identity: Option<&str>,
) -> Result<(Node, ReportRequest), Status> {
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
    reports: &Reports,
    node: Node,
    first: ReportRequest,
    mut requests: Streaming<ReportRequest>,
    tell: &mpsc::Sender<Result<ReportResponse, Status>>,
) -> Result<(), Status> {
    let from = Origin {
        id: node.id.as_str().into(),
        node,
        replica: reports.replica.clone(),
        stream: reports.streams.fetch_add(1, Relaxed),
        since: super::now(),
    };
    let mut book = reports.book.clone();
    let mut ending = reports.ending.subscribe();
    let mut live = true;
    let mut said = 0;
    let mut report = Some(first);
    let ended = loop {
        let fresh = report.is_some();
        if let Some(report) = report.take()
            && let Err(why) = check::report(&report).map(|()| reports.take(&from, report))
        {
            break Err(Status::invalid_argument(why));
        }
        let interval_ms = interval(&book.borrow_and_update(), &from.node);
        if fresh || interval_ms != said {
            said = interval_ms;
            // A sidecar that does not read its answers keeps its interval.
            let _ = tell.try_send(Ok(ReportResponse { interval_ms }));
        }
        tokio::select! {
            next = tokio::time::timeout(PATIENCE, requests.message()) => match next {
                Ok(Ok(Some(next))) => report = Some(next),
                Ok(Ok(None)) => break Ok(()),
                Ok(Err(status)) => break Err(status),
                Err(_) => break Err(Status::deadline_exceeded("nothing was reported for too long")),
            },
            changed = book.changed(), if live => live = changed.is_ok(),
            () = tell.closed() => break Ok(()),
            _ = ending.wait_for(|e| *e) => {
                return Err(Status::unavailable("the control plane ends; connect again"));
            }
        }
    };
    reports.state().ended(&from, Instant::now());
    ended
}

/// How often a sidecar shall report.
fn interval(book: &RuleBook, node: &Node) -> u32 {
    let mut running = book.rules.values().filter(|e| e.candidate.is_some());
    if running.any(|entry| sums::covers(entry, node)) { INTERVAL.0 } else { INTERVAL.1 }
}
