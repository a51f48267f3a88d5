//! Ours: the very board, gates and controller of a sidecar, with two workers.
use super::{Call, End, Limiter};
use raddle_core::Time;
use raddle_model::AdaptiveSettings;
use raddle_policy::limit::adaptive::{Board, Controller, Gate, InterfaceId, Sample};
use raddle_policy::rng::Rng;
use std::sync::Arc;
use std::time::Duration;

/// Workers of the simulated sidecar: more than one, such that what each counts must be put together.
pub const WORKERS: usize = 2;

/// The shipping code, with simulated time.
#[derive(Debug)]
pub struct Raddle {
    ids: Vec<InterfaceId>,
    gates: Vec<Gate>,
    chance: Vec<Rng>,
    controller: Controller,
    notes: Vec<(f64, String)>,
}

impl Raddle {
    /// With the settings that hold when none are written.
    pub fn new(interfaces: usize, seed: u64) -> Raddle {
        let settings = AdaptiveSettings::default();
        let board = Arc::new(Board::new(WORKERS, &settings));
        Raddle {
            ids: (0..interfaces).map(|i| board.id(&format!("call-{i}"))).collect(),
            gates: (0..WORKERS).map(|w| Gate::new(board.clone(), w)).collect(),
            chance: (0..WORKERS as u64).map(|w| Rng::new(seed ^ (w << 32))).collect(),
            controller: Controller::new(board, &settings),
            notes: Vec::new(),
        }
    }
}

/// Simulations begin some time after the clock's own start, as processes do.
fn time(now: f64) -> Time {
    Time::from_nanos(((now + 1000.0) * 1e9) as u64)
}

impl Limiter for Raddle {
    fn admit(&mut self, call: &Call, now: f64) -> bool {
        let worker = usize::from(call.worker) % WORKERS;
        let id = self.ids[call.interface as usize];
        self.gates[worker].admit(id, call.priority, time(now), &mut self.chance[worker]).is_ok()
    }

    fn complete(&mut self, call: &Call, end: &End, _: f64) {
        let worker = usize::from(call.worker) % WORKERS;
        let id = self.ids[call.interface as usize];
        self.gates[worker].complete(id, Duration::from_secs_f64(end.latency), None, end.failed);
    }

    fn tick(&mut self, now: f64, sample: Option<&Sample>, _: f64) {
        let minute = (now / 60.0) as u32 % (7 * 24 * 60);
        for event in self.controller.tick(time(now), Some(minute), sample) {
            self.notes.push((now, event.text));
        }
    }

    fn notes(&mut self) -> Vec<(f64, String)> {
        std::mem::take(&mut self.notes)
    }
}
