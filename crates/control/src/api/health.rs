//! Is it alive, is it ready, and how is it: for supervisors and scrapers.
use super::http::shape::answers;
use super::http::{Call, Problem, Reply, Route};
use axum::body::Body;
use axum::http::StatusCode;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/healthz", "health")
            .role(None)
            .says("The process lives.")
            .answers::<Health>(200, "It does.")
            .on(healthz),
        Route::get("/readyz", "ready")
            .role(None)
            .says("The control plane can work: its store answers.")
            .answers::<Health>(200, "It can.")
            .on(readyz),
        Route::get("/metrics", "metrics")
            .says("Metrics in Prometheus' text form.")
            .answers_text(200, "text/plain; version=0.0.4", "The metrics.")
            .on(metrics),
        Route::get("/openapi.json", "openapi")
            .role(None)
            .says("This document.")
            .answers::<serde_json::Map<String, serde_json::Value>>(200, "OpenAPI 3.1.")
            .on(document),
    ]
}

answers! {
    /// How the process is.
    pub struct Health {
        /// `ok`.
        pub status: String,
    }
}

fn ok() -> Health {
    Health { status: "ok".into() }
}

async fn healthz(_call: Call) -> Result<Reply, Problem> {
    Reply::json(&ok())
}

async fn readyz(call: Call) -> Result<Reply, Problem> {
    let asked = call.state.parts.store.get(crate::keys::LEADER);
    match tokio::time::timeout(std::time::Duration::from_secs(2), asked).await {
        Ok(Ok(_)) => Reply::json(&ok()),
        Ok(Err(e)) => Err(Problem::unavailable(e.to_string())),
        Err(_) => Err(Problem::unavailable("the store does not answer within 2 s")),
    }
}

async fn metrics(call: Call) -> Result<Reply, Problem> {
    let mut text = call.state.parts.plane.as_ref().map_or_else(String::new, crate::metrics::render);
    crate::metrics::api(&mut text, call.state.counts.all(), call.state.parts.events.lost());
    Ok(Reply::new(StatusCode::OK, "text/plain; version=0.0.4", Body::from(text)))
}

async fn document(_call: Call) -> Result<Reply, Problem> {
    Reply::json(&super::openapi())
}
