//! Adaptive limiting: when the app's machine is short, find the interfaces that cause it and hold just those.
//!
//! Three parts, none of which reads a clock or a file:
//!
//! * [`Board`]: what workers counted, one cell per worker and interface, written by that worker alone; and the
//!   orders in force.
//! * [`Gate`]: a worker's part. [`Gate::admit`] for each request, [`Gate::complete`] for each end.
//! * [`Controller`]: once a second, [`Controller::tick`]: reads the board and a [`Sample`] of the app's load, decides,
//!   and gives new orders.
//!
//! The simulator drives the same three.
mod board;
mod controller;
mod cost;
mod culprits;
mod evidence;
mod gate;
mod give;
mod learn;
mod mark;
mod meter;
mod orders;
mod record;
mod regulate;
mod rise;
mod signal;
mod slow;
mod trigger;
mod water;

pub use board::Board;
pub use controller::Controller;
pub use evidence::{Activation, Culprit, Event, Interface, Kind, Level, View};
pub use gate::Gate;

use serde::Serialize;

/// An interface: an index into the board. 0 is the place that all share who came too late for one of their own.
pub type InterfaceId = u32;

/// The app's load over the time since the last sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Cores in use.
    pub cpu: f64,
    /// Cores the app may use.
    pub cores: f64,
    /// Memory in use as a share of what it may use; absent = not known.
    pub memory: Option<f64>,
    /// Share of the time in which some of its threads waited for a core (PSI); absent = not known.
    pub pressure: Option<f64>,
    /// Share of the scheduler's periods in which it was throttled; absent = not known.
    pub throttled: Option<f64>,
}

/// Why a request is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Why {
    /// It is load-test traffic, which goes first.
    Marked,
    /// Its interface has far more requests in flight than ever, and the queue is long.
    Guard,
    /// Its interface is one of those that cause the shortage.
    Culprit,
    /// Everything together is too much, and it is its turn.
    Overload,
}
