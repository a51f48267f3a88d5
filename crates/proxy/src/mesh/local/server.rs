//! The API's HTTP server: bounded in connections, bodies and time; one thread's tasks.
use super::answer;
use crate::mesh::MeshHandle;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Longest body read.
const BODY_MOST: usize = 256 << 10;
/// A connection that sends no request head for this long is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the registry to hear that the app serves nothing any more.
const WITHDRAWN: Duration = Duration::from_secs(3);
/// Callers hear of it a moment after the registry.
const HEARD: Duration = Duration::from_millis(500);
/// How often that is looked at.
const BEAT: Duration = Duration::from_millis(20);
/// Most connections served at once.
const CONNECTIONS_MOST: usize = 64;

/// Serves the API on the thread's `LocalSet` until the task is dropped.
pub async fn serve(listener: TcpListener, hub: Arc<dyn MeshHandle>) {
    let room = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MOST));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                // Mostly a want of descriptors; it passes.
                tracing::debug!(error = %e, "local mesh API accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let hub = hub.clone();
        tokio::task::spawn_local(async move {
            let served = hyper::server::conn::http1::Builder::new()
                .timer(hyper_util::rt::TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(
                    hyper_util::rt::TokioIo::new(stream),
                    service_fn(|request| respond(hub.clone(), request)),
                )
                .await;
            if let Err(e) = served {
                tracing::trace!(error = %e, "local mesh API connection");
            }
            drop(place);
        });
    }
}

async fn respond(
    hub: Arc<dyn MeshHandle>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let read = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_MOST).collect()).await;
    let said = match read {
        _ if head.headers.contains_key("origin") => {
            // A page in a browser on this machine must not be able to publish or withdraw.
            super::refusal(403, "requests from browsers are not answered")
        }
        Ok(Ok(body)) => {
            let before = hub.published().len();
            let said = answer(&*hub, head.method.as_str(), head.uri.path(), &body.to_bytes());
            if before > 0 && hub.published().is_empty() {
                moved_away(&*hub).await;
            }
            said
        }
        Ok(Err(_)) => super::refusal(413, &format!("the body is longer than {BODY_MOST} bytes")),
        Err(_) => super::refusal(408, "the body took too long"),
    };
    let response = Response::builder()
        .status(said.status)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(said.body)));
    Ok(response.unwrap_or_default())
}

/// Waits until callers send no more. A framework that unpublishes its last service ends its server as soon as it has the
/// answer, and would cut what is in flight.
async fn moved_away(hub: &dyn MeshHandle) {
    let told = async {
        // The publisher takes the wish up at its next turn; before that it looks acknowledged.
        tokio::time::sleep(2 * BEAT).await;
        while !hub.acknowledged() {
            tokio::time::sleep(BEAT).await;
        }
        tokio::time::sleep(HEARD).await;
    };
    // A registry that is away hears of it when it is back; the app need not wait for that.
    let _ = tokio::time::timeout(WITHDRAWN, told).await;
}
