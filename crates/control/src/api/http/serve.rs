//! From the declared routes to a router: who is let in, what is read of a request, what becomes of refusals.
use super::call::{Call, Values};
use super::problem::Problem;
use super::route::Route;
use crate::api::Parts;
use crate::api::audit::{self, AuditAnswer};
use crate::api::auth;
use crate::api::state::State;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, RawPathParams, Request};
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Largest body.
pub(crate) const BODY: usize = 8 << 20;

/// The router of these routes.
pub(crate) fn router(routes: Vec<Route>, state: Arc<State>) -> Router {
    let mut paths: BTreeMap<&'static str, MethodRouter> = BTreeMap::new();
    for route in routes {
        // The table's methods are all standard ones.
        let Ok(filter) = MethodFilter::try_from(route.method.clone()) else { continue };
        let (route, state) = (Arc::new(route), state.clone());
        let serve = {
            let route = route.clone();
            move |params: Result<RawPathParams, axum::extract::rejection::RawPathParamsRejection>,
                  request: Request| {
                let (route, state) = (route.clone(), state.clone());
                async move {
                    let params = params
                        .map(|p| p.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
                        .map_err(|_| Problem::bad("the path is not percent-encoded UTF-8"));
                    let answered = match params {
                        Ok(params) => answer(&route, state.clone(), params, request).await,
                        Err(problem) => Err(problem),
                    };
                    let response = answered.unwrap_or_else(IntoResponse::into_response);
                    state.counts.answered(response.status().as_u16());
                    response
                }
            }
        };
        let before = paths.remove(route.path).unwrap_or_default();
        paths.insert(route.path, before.on(filter, serve));
    }
    let mut router = Router::new();
    for (path, methods) in paths {
        router = router.route(path, methods);
    }
    router
        .method_not_allowed_fallback(|request: Request| async move {
            Problem::method(format!("{} is nothing to do to {}", request.method(), request.uri().path()))
        })
        .fallback(|request: Request| async move {
            let message =
                format!("there is no {}; see /openapi.json for what there is", request.uri().path());
            Problem::not_found(message)
        })
}

async fn answer(
    route: &Route,
    state: Arc<State>,
    path: BTreeMap<String, String>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let who = auth::admit(&state, route.role, &parts.headers)?;
    check_path(route, &path)?;
    let query = Values::read(parts.uri.query().unwrap_or(""), &route.query)?;
    let body = read_body(route, &parts.headers, body).await?;
    let from = parts
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or_else(String::new, |ConnectInfo(peer)| peer.ip().to_string());
    // Asking what a write would do is no write.
    let writes = route.method != Method::GET && route.audited && !query.flag("dryRun");
    let entry = AuditAnswer {
        who: who.name.clone(),
        from,
        action: route.id.to_owned(),
        subject: parts.uri.to_string(),
        ..AuditAnswer::default()
    };
    let call = Call { state: state.clone(), who, path, query, headers: parts.headers, body };
    if !writes {
        return (route.handler)(call).await.map(|reply| reply.response);
    }
    let Parts { store, replica, .. } = &state.parts;
    let note = audit::begin(store.as_ref(), replica, entry).await?;
    let done = (route.handler)(call).await;
    let (status, message) = match &done {
        Ok(reply) => (reply.response.status(), reply.note.as_str()),
        Err(problem) => (problem.status, problem.message.as_str()),
    };
    audit::end(store.as_ref(), note, status.as_u16(), message).await;
    done.map(|reply| reply.response)
}

/// What can be said of the path's parameters before anything is looked up.
fn check_path(route: &Route, path: &BTreeMap<String, String>) -> Result<(), Problem> {
    for (name, value) in path {
        if name == "kind" && !crate::api::kinds().contains(&value.as_str()) {
            let kinds = crate::api::kinds().join(", ");
            return Err(Problem::not_found(format!(
                "no kind of rule is called {value:?}; there are {kinds}"
            )));
        }
        if name == "number" && !value.parse::<u32>().is_ok_and(|n| n > 0) {
            return Err(Problem::not_found(format!("{value:?} is no revision's number; the first is 1")));
        }
        if value.is_empty() || value.len() > 512 || value.chars().any(char::is_control) {
            return Err(Problem::not_found(format!("{}: {name} is no possible name", route.path)));
        }
    }
    Ok(())
}

/// The body, if the route takes one.
async fn read_body(route: &Route, headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let too_large = || Problem::too_large(format!("the body is over {} MiB", BODY >> 20));
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|n| n > BODY as u64) {
        return Err(too_large());
    }
    // A broken connection is told as one, though nobody may be there to read it.
    let bytes = axum::body::to_bytes(body, BODY).await.map_err(|e| {
        let mut cause: Option<&dyn std::error::Error> = Some(&e);
        let mut text = String::new();
        while let Some(e) = cause {
            text = e.to_string();
            cause = e.source();
        }
        if text.contains("length limit") {
            too_large()
        } else {
            Problem::bad(format!("the body did not come: {text}"))
        }
    })?;
    let Some(spec) = &route.body else {
        return if bytes.is_empty() { Ok(bytes) } else { Err(Problem::bad("this operation takes no body")) };
    };
    if bytes.is_empty() {
        return if spec.required { Err(Problem::bad("the body is missing")) } else { Ok(bytes) };
    }
    let given = headers.get(header::CONTENT_TYPE).map(|v| v.to_str().unwrap_or("?").to_ascii_lowercase());
    let media = given.as_deref().map(|v| v.split(';').next().unwrap_or("").trim());
    match media {
        Some(media) if spec.media.contains(&media) => Ok(bytes),
        media => Err(Problem::media_type(format!(
            "the body's Content-Type is {}; give {}",
            media.unwrap_or("missing"),
            spec.media.join(" or ")
        ))),
    }
}
