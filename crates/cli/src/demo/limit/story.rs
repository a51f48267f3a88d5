//! What happens, in the order it happens; and what the user's keys make of it.
use super::config::RULE;
use super::ledger::{Ledger, State};
use super::mesh::Mesh;
use crate::demo::board::{Board, Mood};
use crate::exit::Failure;
use raddle_bench::mix::Knobs;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Those who take part.
pub(super) struct Story<'a> {
    pub(super) mesh: &'a Mesh,
    pub(super) board: &'a Board,
    pub(super) ledger: &'a Ledger,
    pub(super) knobs: &'a Knobs,
    /// The path that surges.
    pub(super) path: &'a str,
    pub(super) factor: f64,
    /// A tenth of the time it all may take.
    pub(super) unit: Duration,
    /// The rule is never in force.
    pub(super) without: bool,
    pub(super) stop: &'a AtomicBool,
    /// The user has pressed a key: from then on nothing happens by itself.
    pub(super) taken: &'a AtomicBool,
    /// One switch at a time.
    pub(super) acting: &'a Mutex<()>,
}

/// How long the limiter must have seen what is usual.
const KNOWN: Duration = Duration::from_secs(16);

impl Story<'_> {
    /// Plays the script.
    pub(super) fn tell(&self) -> Result<(), Failure> {
        let script: &[(&str, State, u32)] = match self.without {
            false => &[
                ("calm", State { surging: false, limiting: true }, 2),
                ("surge, with the limiter", State { surging: true, limiting: true }, 3),
                ("calm again", State { surging: false, limiting: true }, 1),
                ("the same without the limiter", State { surging: false, limiting: false }, 1),
                ("surge, without the limiter", State { surging: true, limiting: false }, 2),
                ("calm again", State { surging: false, limiting: true }, 1),
            ],
            true => &[
                ("calm, without the limiter", State { surging: false, limiting: false }, 3),
                ("surge, without the limiter", State { surging: true, limiting: false }, 5),
                ("calm again", State { surging: false, limiting: false }, 2),
            ],
        };
        for (n, (title, state, units)) in script.iter().enumerate() {
            if self.ended() {
                break;
            }
            (*title).clone_into(&mut self.ledger.edit().title);
            self.become_so(*state)?;
            // Before that the limiter does not know what is usual, and takes nothing for a surge.
            let least = if n == 0 && state.limiting { KNOWN } else { Duration::ZERO };
            self.pass((self.unit * *units).max(least));
        }
        if !self.stop.load(Ordering::Relaxed) {
            self.evidence();
        }
        self.ledger.edit().over = true;
        Ok(())
    }

    /// A key: the other way round.
    pub(super) fn turn(&self, change: fn(State) -> State) -> Result<(), Failure> {
        self.taken.store(true, Ordering::Relaxed);
        "by your keys".clone_into(&mut self.ledger.edit().title);
        let state = self.ledger.edit().state;
        self.become_so(change(state))
    }

    fn become_so(&self, wanted: State) -> Result<(), Failure> {
        let _one = self.acting.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, first) = {
            let known = self.ledger.edit();
            (known.state, known.parts.is_empty())
        };
        if wanted.limiting != before.limiting && !first {
            self.mesh.limit(wanted.limiting)?;
            let mode = if wanted.limiting { "enforce" } else { "observe" };
            self.board.note(Mood::Act, format!("raddle apply -f limit.yaml: {RULE} in mode: {mode}"));
        }
        if wanted.surging != before.surging {
            let factor = if wanted.surging { self.factor } else { 1.0 };
            self.knobs.turn(self.ledger.culprit, factor);
            self.board.note(
                Mood::Act,
                match wanted.surging {
                    true => format!("{} is asked for {factor} times as often", self.path),
                    false => format!("{} is asked for as usual again", self.path),
                },
            );
        }
        if first || wanted != before {
            self.ledger.switch(wanted);
        }
        Ok(())
    }

    /// What the limiter itself says it did.
    fn evidence(&self) {
        if let Some(text) = self.mesh.explained().filter(|text| !text.trim().is_empty()) {
            let indented = text.trim_end().replace('\n', "\n          ");
            self.board.note(Mood::Good, format!("raddle explain limit order\n          {indented}"));
        }
    }

    fn ended(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.taken.load(Ordering::Relaxed)
    }

    fn pass(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end && !self.ended() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
