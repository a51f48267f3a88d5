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
use crate::rng::Rng;
use raddle_core::Time;
use raddle_model::{AdaptiveSettings, Priority};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

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

/// What workers and the controller share.
#[derive(Debug)]
pub struct Board {
    workers: usize,
}

impl Board {
    /// A board for this many workers.
    pub fn new(workers: usize, settings: &AdaptiveSettings) -> Board {
        let _ = settings;
        Board { workers: workers.max(1) }
    }

    /// The id of an interface, given to it when it is first asked for. Takes a lock: workers keep what they learn.
    pub fn id(&self, name: &str) -> InterfaceId {
        let _ = name;
        0
    }
}

/// A worker's part.
#[derive(Debug)]
pub struct Gate {
    board: Arc<Board>,
    worker: usize,
}

impl Gate {
    /// The gate of the worker with this index.
    pub fn new(board: Arc<Board>, worker: usize) -> Gate {
        let worker = worker.min(board.workers - 1);
        Gate { board, worker }
    }

    /// Whether a request may pass. It counts as offered in any case; one that passes must be completed.
    ///
    /// # Errors
    /// Why it may not. In `mode: observe` as well: whoever asks lets it pass then and still completes it.
    pub fn admit(
        &mut self,
        id: InterfaceId,
        priority: Priority,
        now: Time,
        rng: &mut Rng,
    ) -> Result<(), Why> {
        let _ = (id, priority, now, rng, &self.board, self.worker);
        Ok(())
    }

    /// A request that passed has ended: after how long, with what CPU time if the app said so.
    pub fn complete(&mut self, id: InterfaceId, latency: Duration, cost: Option<Duration>, failed: bool) {
        let _ = (id, latency, cost, failed);
    }
}

/// The part that decides, once a second.
#[derive(Debug)]
pub struct Controller {
    board: Arc<Board>,
}

/// Something people should know of.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When.
    #[serde(skip)]
    pub at: Time,
    /// One sentence: what happened and by what evidence.
    pub text: String,
}

/// What `/limits` and `raddle explain limit` show.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// Whether it holds anything now.
    pub active: bool,
}

impl Controller {
    /// A controller of this board.
    pub fn new(board: Arc<Board>, settings: &AdaptiveSettings) -> Controller {
        let _ = settings;
        Controller { board }
    }

    /// Decides for the next second. `sample` is absent if nothing could be read. Minutes of the week since some Monday
    /// are `week_minute`, for what is usual at this time of the week; absent = not known.
    pub fn tick(&mut self, now: Time, week_minute: Option<u32>, sample: Option<&Sample>) -> Vec<Event> {
        let _ = (now, week_minute, sample, &self.board);
        Vec::new()
    }

    /// What it knows and does.
    pub fn view(&self) -> View {
        View::default()
    }
}
