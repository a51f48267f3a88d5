//! The admin server: answers for people and scrapers, on a thread of its own.
//!
//! It never makes a worker wait: metrics are read from cells, and questions only a worker can answer are put
//! into its inbox and answered between two turns.
mod authorization;
pub(crate) mod encryption;
mod limits;
mod pages;
pub(crate) mod views;

use crate::loader::Loader;
use crate::shared::Shared;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// Longest request body read.
const BODY_MOST: usize = 4096;
/// A connection that sends no request head for this long is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Most admin connections served at once: a scrape storm must not use up descriptors.
const CONNECTIONS_MOST: usize = 64;

/// What a page is made from.
pub(crate) struct Context {
    pub shared: Arc<Shared>,
    pub loader: Arc<Loader>,
}

/// A page: status, content type, body.
pub(crate) struct Page {
    status: StatusCode,
    kind: &'static str,
    body: String,
}

impl Page {
    pub(crate) fn text(status: StatusCode, body: impl Into<String>) -> Page {
        Page { status, kind: "text/plain; charset=utf-8", body: body.into() }
    }

    pub(crate) fn json(value: &impl serde::Serialize) -> Page {
        match serde_json::to_string_pretty(value) {
            Ok(body) => Page { status: StatusCode::OK, kind: "application/json", body: body + "\n" },
            Err(e) => Page::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")),
        }
    }
}

/// Serves the admin pages until the process ends.
pub(crate) async fn serve(fd: OwnedFd, shared: Arc<Shared>, loader: Arc<Loader>) {
    let listener = match tokio::net::TcpListener::from_std(std::net::TcpListener::from(fd)) {
        Ok(l) => l,
        Err(e) => return tracing::error!(error = %e, "admin server"),
    };
    let context = Arc::new(Context { shared, loader });
    let room = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MOST));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((s, _)) => s,
            Err(e) => {
                // Mostly a want of descriptors; it passes.
                tracing::debug!(error = %e, "admin accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let context = context.clone();
        tokio::task::spawn_local(async move {
            let io = hyper_util::rt::TokioIo::new(stream);
            let service = service_fn(|r| answer(context.clone(), r));
            let served = hyper::server::conn::http1::Builder::new()
                .timer(hyper_util::rt::TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(io, service)
                .await;
            if let Err(e) = served {
                tracing::trace!(error = %e, "admin connection");
            }
            drop(place);
        });
    }
}

async fn answer(
    context: Arc<Context>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, BODY_MOST).collect().await {
        Ok(b) => String::from_utf8_lossy(&b.to_bytes()).into_owned(),
        Err(_) => String::new(),
    };
    let changes = !matches!(head.method, Method::GET | Method::HEAD);
    let query = head.uri.query().unwrap_or("");
    let page = if changes && head.headers.contains_key("origin") {
        // A page in a browser on this machine must not be able to change the sidecar.
        Page::text(StatusCode::FORBIDDEN, "requests from browsers may only read\n")
    } else {
        pages::page(&context, &head.method, head.uri.path(), query, &body).await
    };
    let response = Response::builder()
        .status(page.status)
        .header("content-type", page.kind)
        .header("cache-control", "no-store")
        .body(Full::new(Bytes::from(page.body)));
    Ok(response.unwrap_or_default())
}
