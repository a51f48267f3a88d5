//! How a change of a rule spreads: stage by stage, watched, and back at once if it does harm.
//!
//! [`Rollout`] is the state machine, [`Watch`] what it is shown: requests of the sidecars that have the change (the
//! candidate's cohort) beside those of the rest, in windows of the same time. What counts as harm is in `guard`.
//! Times are milliseconds since the Unix epoch: the state outlives the process and moves between control planes.
mod guard;
mod sample;
mod watch;

pub use guard::{Breach, EVIDENCE};
pub use sample::{BUCKETS, Sample};
pub use watch::{Cohorts, Seen, Watch};

use raddle_model::{self as model, OnBreach};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Everyone, in millionths.
pub const WHOLE: u32 = 1_000_000;

/// A rollout: where it is and what it waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    plan: model::Rollout,
    stage: usize,
    /// When the stage began.
    since: u64,
    state: State,
    /// How the rest fared when there was one, for stages that leave none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    baseline: Option<Sample>,
}

/// What a rollout does now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is")]
pub enum State {
    /// It goes on by itself.
    Running,
    /// It stays at its stage until someone says otherwise; the guard still watches.
    Paused {
        /// Why.
        why: String,
        /// Who: a user, or `guard`.
        by: String,
    },
    /// Over: everyone has what was stable.
    RolledBack {
        /// Why.
        why: String,
        /// Who: a user, or `guard`.
        by: String,
    },
    /// Over: everyone has the change.
    Done,
}

/// What a tick or a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Stayed,
    /// The next stage began.
    Advanced,
    /// It is over, the change is everyone's.
    Finished,
    /// It was paused by the guard.
    Paused(Breach),
    /// It was rolled back by the guard.
    RolledBack(Breach),
}

/// How far a rollout is pushed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promote {
    /// To the next stage.
    Next,
    /// To everyone; it is over then.
    All,
}

/// Why a command was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The rollout is over.
    Over,
    /// It is paused already.
    Paused,
    /// It is not paused.
    Running,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Over => "the rollout is over",
            Refusal::Paused => "the rollout is paused already",
            Refusal::Running => "the rollout is not paused",
        })
    }
}

/// What a rollout waits for before its next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// The stage's time, this many milliseconds more.
    Hold(u64),
    /// Requests for the guard: so many seen, so many needed.
    Requests(u64, u64),
    /// Someone to resume it.
    Resume,
}

impl Rollout {
    /// The name a guard acts under.
    pub const GUARD: &str = "guard";

    /// Begins at the first stage. `before` is how requests fared without the change, if that is known.
    ///
    /// A plan whose only stage is everyone, without a guard, is over at once.
    pub fn new(plan: model::Rollout, before: Option<Sample>, now: u64) -> Rollout {
        let mut rollout = Rollout { plan, stage: 0, since: now, state: State::Running, baseline: before };
        if rollout.is_last() && rollout.plan.guard.is_none() {
            rollout.state = State::Done;
        }
        rollout
    }

    /// The share of sidecars that have the change now, in millionths.
    pub fn ppm(&self) -> u32 {
        match self.state {
            State::RolledBack { .. } => 0,
            State::Done => WHOLE,
            State::Running | State::Paused { .. } => {
                self.plan.stages.get(self.stage).map_or(WHOLE, |stage| stage.percent_ppm)
            }
        }
    }

    /// The plan it follows.
    pub fn plan(&self) -> &model::Rollout {
        &self.plan
    }

    /// The stage it is in, counted from 0.
    pub fn stage(&self) -> usize {
        self.stage
    }

    /// When the stage began, or its state changed.
    pub fn since(&self) -> u64 {
        self.since
    }

    /// What it does.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Whether nothing more will happen.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::RolledBack { .. } | State::Done)
    }

    fn is_last(&self) -> bool {
        self.stage + 1 >= self.plan.stages.len()
    }

    /// Looks at what was seen, and takes the step that is due.
    ///
    /// Harm comes before progress: with a breach, nothing ever widens. Without enough requests there is no verdict, and
    /// then the next stage does not come by time alone: a stage nobody could judge has tested nothing. Only if no
    /// connected sidecar is in the cohort (a small share of few) there is nothing to wait for, and time alone decides.
    pub fn tick(&mut self, now: u64, seen: &Seen<'_>) -> Step {
        if self.is_over() {
            return Step::Stayed;
        }
        let everyone = self.ppm() == WHOLE;
        if let Some(breach) = guard::verdict(self.plan.guard.as_ref(), seen, self.baseline.as_ref(), everyone)
        {
            return self.breach(breach, now);
        }
        match self.waits(now, seen) {
            None => self.advance(now, Some(seen)),
            Some(_) => Step::Stayed,
        }
    }

    /// What the next step waits for; `None` = it is due.
    pub fn waits(&self, now: u64, seen: &Seen<'_>) -> Option<Waits> {
        if matches!(self.state, State::Paused { .. }) {
            return Some(Waits::Resume);
        }
        let hold = self.plan.stages.get(self.stage).map_or(0, |stage| millis(stage.hold));
        let left = hold.saturating_sub(now.saturating_sub(self.since));
        if left > 0 {
            return Some(Waits::Hold(left));
        }
        let needed = self.plan.guard.as_ref().map_or(0, |guard| guard.min_requests);
        (seen.expected > 0 && seen.stage_requests < needed)
            .then_some(Waits::Requests(seen.stage_requests, needed))
    }

    fn breach(&mut self, breach: Breach, now: u64) -> Step {
        let (why, by) = (breach.to_string(), Rollout::GUARD.to_owned());
        match (self.plan.on_breach, &self.state) {
            (OnBreach::Rollback, _) => {
                self.state = State::RolledBack { why, by };
                self.since = now;
                Step::RolledBack(breach)
            }
            (OnBreach::Pause, State::Running) => {
                self.state = State::Paused { why, by };
                self.since = now;
                Step::Paused(breach)
            }
            (OnBreach::Pause, _) => Step::Stayed,
        }
    }

    fn advance(&mut self, now: u64, seen: Option<&Seen<'_>>) -> Step {
        if let Some(rest) = seen.and_then(Seen::rest)
            && self.plan.guard.as_ref().is_some_and(|guard| rest.requests >= guard.min_requests)
        {
            self.baseline = Some(rest.clone());
        }
        self.since = now;
        if !self.is_last() {
            self.stage += 1;
            if !(self.is_last() && self.plan.guard.is_none()) {
                return Step::Advanced;
            }
        }
        self.state = State::Done;
        Step::Finished
    }

    /// Holds it at its stage.
    pub fn pause(&mut self, why: &str, by: &str, now: u64) -> Result<(), Refusal> {
        match self.state {
            State::Running => {
                self.state = State::Paused { why: why.to_owned(), by: by.to_owned() };
                self.since = now;
                Ok(())
            }
            State::Paused { .. } => Err(Refusal::Paused),
            _ => Err(Refusal::Over),
        }
    }

    /// Lets it go on; its stage begins anew.
    pub fn resume(&mut self, now: u64) -> Result<(), Refusal> {
        match self.state {
            State::Paused { .. } => {
                self.state = State::Running;
                self.since = now;
                Ok(())
            }
            State::Running => Err(Refusal::Running),
            _ => Err(Refusal::Over),
        }
    }

    /// Takes the change back from everyone.
    pub fn undo(&mut self, why: &str, by: &str, now: u64) -> Result<(), Refusal> {
        if self.is_over() {
            return Err(Refusal::Over);
        }
        self.state = State::RolledBack { why: why.to_owned(), by: by.to_owned() };
        self.since = now;
        Ok(())
    }

    /// Goes on without waiting; a paused one runs again.
    pub fn promote(&mut self, to: Promote, now: u64) -> Result<Step, Refusal> {
        if self.is_over() {
            return Err(Refusal::Over);
        }
        self.state = State::Running;
        if to == Promote::All {
            self.stage = self.plan.stages.len().saturating_sub(1);
            self.since = now;
            self.state = State::Done;
            return Ok(Step::Finished);
        }
        Ok(self.advance(now, None))
    }
}

fn millis(d: std::time::Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
