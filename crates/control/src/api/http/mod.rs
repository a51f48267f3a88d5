//! What every route shares: how it is declared, what it may be asked, what it answers, and the document that says so.
//!
//! A route is declared once, as a [`Route`]: method, path, role, parameters, body, answers, handler. The router serves
//! it and the OpenAPI document describes it from that one declaration, so that they cannot disagree.
mod call;
mod openapi;
mod problem;
mod route;
mod serve;
pub(crate) mod shape;

pub(crate) use call::Call;
pub(crate) use problem::Problem;
pub(crate) use route::{ParamKind, Reply, Route};
pub(crate) use serve::router;
pub(crate) use shape::Shape;

pub(crate) use openapi::document;
