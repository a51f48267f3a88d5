//! What a process tells about itself: per-worker metrics, the access log, events, logging and trace context.
//!
//! Everything on the request path is a single-writer cell owned by one worker: no lock, no atomic
//! read-modify-write, no allocation. Reading (a scrape, `/stats`) walks the cells of all workers and
//! merges them; it never makes a worker wait.
//!
//! It is not an exporter: it opens no socket and serves no HTTP. It decides nothing: rules that need
//! counts keep their own.
//!
//! Start with [`cells`] (the list of every metric), then [`Registry`]; [`AccessLog`], [`Events`],
//! [`log`] and [`TraceParent`] stand each on their own.
#![forbid(unsafe_code)]

pub mod access_log;
pub mod cell;
pub mod cells;
mod counts;
pub mod events;
mod exposition;
pub mod labels;
pub mod log;
mod process;
pub mod reference;
pub mod registry;
mod table;
mod totals;
pub mod trace;

pub use access_log::{
    AccessLog, AccessLogger, Entry, Options as AccessLogOptions, Target as AccessLogTarget,
};
pub use cell::{Counter, Gauge, Histogram, Milli};
pub use cells::{
    AdaptiveCells, Bounds, BreakerCells, HostCells, LimitCells, LinkCells, LogCells, MeshCells, RuleCells,
    ServiceCells, WorkerCells,
};
pub use counts::ServiceCount;
pub use events::{Event, Events, Severity};
pub use labels::{AcceptError, ConnectError, Direction, LinkFailure, Malformed};
pub use log::{LogHandle, init_log};
pub use registry::{Registry, Shard};
pub use totals::Totals;
pub use trace::TraceParent;

/// How log lines are written: for the process log and for the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A line for people: fixed columns, then `key=value`.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}
