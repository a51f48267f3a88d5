//! The task of one stream: requests and changes in, responses out.
use super::delta::Delta;
use super::options::Limits;
use super::response::{Response, Variant};
use super::sotw::Sotw;
use super::status::KindInfo;
use super::streams::{Place, Report, lock};
use super::subscription::Violation;
use super::{Event, Inner, Peer, View, peer};
use crate::types::Kind;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use prost::Message;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Code, Status, Streaming};

/// A stream that says nothing for this long ends: it holds a place others may want.
const PATIENCE: Duration = Duration::from_secs(30);
/// A status that a client does not take within this time is not sent.
const FAREWELL: Duration = Duration::from_secs(5);

/// A variant of the protocol, as the task drives it.
pub(super) trait Protocol: Report + 'static {
    type Request: Message + Default + 'static;
    const VARIANT: Variant;
    fn begin(limits: Limits, identifier: Arc<str>, tag: String) -> Self;
    fn node(request: &Self::Request) -> Option<&Node>;
    fn type_url(request: &mut Self::Request) -> &mut String;
    fn request(
        &mut self,
        request: &Self::Request,
        view: &dyn View,
        now_ms: u64,
        out: &mut Vec<Response>,
    ) -> Result<Event, Violation>;
    fn change(&mut self, view: &dyn View, out: &mut Vec<Response>);
}

macro_rules! protocol {
    ($machine:ty, $request:ty, $variant:expr) => {
        impl Report for $machine {
            fn report(&self) -> Vec<KindInfo> {
                self.status()
            }
        }

        impl Protocol for $machine {
            type Request = $request;
            const VARIANT: Variant = $variant;

            fn begin(limits: Limits, identifier: Arc<str>, tag: String) -> Self {
                <$machine>::new(limits, identifier, tag)
            }

            fn node(request: &$request) -> Option<&Node> {
                request.node.as_ref()
            }

            fn type_url(request: &mut $request) -> &mut String {
                &mut request.type_url
            }

            fn request(
                &mut self,
                request: &$request,
                view: &dyn View,
                now_ms: u64,
                out: &mut Vec<Response>,
            ) -> Result<Event, Violation> {
                <$machine>::request(self, request, view, now_ms, out)
            }

            fn change(&mut self, view: &dyn View, out: &mut Vec<Response>) {
                <$machine>::change(self, view, out);
            }
        }
    };
}

protocol!(Sotw, DiscoveryRequest, Variant::Sotw);
protocol!(Delta, DeltaDiscoveryRequest, Variant::Delta);

/// What is known of a stream before its first request.
pub(super) struct Opening {
    pub(super) server: Arc<Inner>,
    /// The one kind the service is about; `None` = all.
    pub(super) only: Option<Kind>,
    pub(super) identity: Option<String>,
    pub(super) remote: Option<IpAddr>,
    pub(super) place: Place,
}

/// Serves a stream to its end. What it ends with, if not by the client's will, is the last thing sent.
pub(super) async fn serve<P: Protocol>(
    opening: Opening,
    requests: Streaming<P::Request>,
    out: mpsc::Sender<Result<Response, Status>>,
) {
    let server = Arc::clone(&opening.server);
    if let Err(status) = talk::<P>(opening, requests, &out).await {
        if matches!(status.code(), Code::InvalidArgument | Code::ResourceExhausted | Code::PermissionDenied) {
            server.streams.counts.violations.fetch_add(1, Relaxed);
        }
        // Nobody may be there to take it any more.
        let _ = out.send_timeout(Err(status), FAREWELL).await;
    }
}

async fn talk<P: Protocol>(
    opening: Opening,
    mut requests: Streaming<P::Request>,
    out: &mpsc::Sender<Result<Response, Status>>,
) -> Result<(), Status> {
    let Opening { server, only, identity, remote, mut place } = opening;
    let first = timeout(PATIENCE, requests.message())
        .await
        .map_err(|_| Status::deadline_exceeded("nothing was asked for"))??;
    let Some(mut request) = first else { return Ok(()) };
    let node =
        P::node(&request).ok_or_else(|| Status::invalid_argument("the first request carries no node"))?;
    let peer = Arc::new(peer::peer(node, identity, remote).map_err(Status::permission_denied)?);
    let identifier: Arc<str> = server.options.identifier.as_str().into();
    let tag = format!("{}-{}-", server.tag, place.id);
    let machine = Arc::new(Mutex::new(P::begin(server.options.limits.clone(), identifier, tag)));
    let mut told = place.list(Arc::clone(&peer), P::VARIANT, now_ms(), Arc::clone(&machine) as _);
    let mut generation = server.catalog.generation();
    let turn = Turn { server: &server, peer: &peer, machine: &machine, only };
    let mut outbox = VecDeque::new();
    turn.request(&mut request, &mut outbox)?;
    drop(request);
    let mut leave: Option<Instant> = None;
    loop {
        tokio::select! {
            // What is ready goes out before more comes in, so that a client that floods cannot starve itself.
            biased;
            permit = out.reserve(), if !outbox.is_empty() => {
                let Ok(permit) = permit else { return Ok(()) };
                if let Some(response) = outbox.pop_front() {
                    server.streams.counts.sent(&response);
                    permit.send(Ok(response));
                }
            }
            after = &mut told, if leave.is_none() => {
                // An error cannot be: the sender lives as long as the place does.
                leave = Some(Instant::now() + after.unwrap_or_default());
            }
            () = sleep_until(leave.unwrap_or_else(Instant::now)), if leave.is_some() => {
                return Err(Status::unavailable("rebalance: connect again, to another replica if there is one"));
            }
            () = out.closed() => return Ok(()),
            // Nor are requests read whose answers would only pile up.
            message = requests.message(), if outbox.len() < server.options.queue.max(1) => match message? {
                Some(mut request) => turn.request(&mut request, &mut outbox)?,
                None => return Ok(()),
            },
            // While a client does not take what it was sent, changes add up.
            changed = generation.changed(), if outbox.is_empty() => {
                changed.map_err(|_| Status::unavailable("the server ends"))?;
                generation.borrow_and_update();
                turn.change(&mut outbox);
            }
        }
    }
}

/// What one turn of a stream's loop works with.
struct Turn<'a, P> {
    server: &'a Inner,
    peer: &'a Peer,
    machine: &'a Mutex<P>,
    only: Option<Kind>,
}

impl<P: Protocol> Turn<'_, P> {
    fn request(&self, request: &mut P::Request, outbox: &mut VecDeque<Response>) -> Result<(), Status> {
        self.check_type(P::type_url(request))?;
        let view = self.server.catalog.view(self.peer);
        let mut out = Vec::new();
        let event = lock(self.machine).request(request, &*view, now_ms(), &mut out).map_err(status)?;
        self.note(&event);
        outbox.extend(out);
        Ok(())
    }

    fn change(&self, outbox: &mut VecDeque<Response>) {
        let view = self.server.catalog.view(self.peer);
        let mut out = Vec::new();
        lock(self.machine).change(&*view, &mut out);
        outbox.extend(out);
    }

    /// A service of one kind needs no type URL; any other is a mistake.
    fn check_type(&self, url: &mut String) -> Result<(), Status> {
        match self.only {
            Some(kind) if url.is_empty() => kind.type_url().clone_into(url),
            Some(kind) if *url != kind.type_url() => {
                return Err(Status::invalid_argument(format!(
                    "this service is about {}, not {url}",
                    kind.type_url()
                )));
            }
            None if url.is_empty() => return Err(Status::invalid_argument("a request names no type_url")),
            _ => {}
        }
        Ok(())
    }

    fn note(&self, event: &Event) {
        if let Event::Nack { kind, version, refused, reason } = event {
            self.server.streams.counts.refused_by_client(*kind);
            let names: Vec<&str> = refused.iter().map(|n| n.name.as_str()).collect();
            tracing::warn!(node = %self.peer.node.id, kind = kind.name(), %version, ?names, %reason, "refused");
        }
    }
}

fn status(violation: Violation) -> Status {
    match violation {
        Violation::Malformed(why) => Status::invalid_argument(why),
        Violation::TooMuch(why) => Status::resource_exhausted(why),
    }
}

/// Milliseconds since the Unix epoch.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
