//! The leader's job: to tick the rollouts by what is seen of them.
use super::service::{Rules, key, now, put};
use super::{Candidate, Fares, Observer, RolloutView, RuleError, RuleState, Spread, admit, book};
use crate::election::{Replica, Term};
use raddle_policy::rollout::{Rollout, Sample, Seen, State, Step, Waits, Watch};
use raddle_store::{Expect, Outcome, Txn};
use std::sync::Arc;
use std::time::Duration;

/// How often rollouts are looked at.
const BEAT: Duration = Duration::from_millis(500);
/// The job's name.
const JOB: &str = "rollouts";

/// What is known of a rollout while it runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Watched {
    /// Which rollout: another one of the same rule begins from nothing.
    seed: Arc<str>,
    watch: Watch,
    spread: Spread,
}

impl Rules {
    /// Begins to stand for the job of ticking the rollouts, by what `observer` sees.
    pub fn lead(self: &Arc<Rules>, replica: &Arc<Replica>, observer: Arc<dyn Observer>) {
        // Asked once, by whoever composes the control plane.
        let _ = self.observer.set(observer);
        let mut term = replica.lead(JOB);
        let rules = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut beat = tokio::time::interval(BEAT);
            beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                beat.tick().await;
                let Some(rules) = rules.upgrade() else { return };
                let now_leading = term.borrow_and_update().clone();
                match now_leading {
                    Some(term) => rules.beat(&term).await,
                    None => rules.look(),
                }
                if term.has_changed().is_err() {
                    return;
                }
            }
        });
    }

    /// Rollouts that run, by the book.
    fn running(&self) -> Vec<Arc<str>> {
        let book = self.book.borrow();
        book.rules.values().filter(|e| e.candidate.is_some()).map(|e| e.id.clone()).collect()
    }

    /// Who does not lead looks all the same, to be able to show it, and to go on if it leads next.
    fn look(&self) {
        let book = self.book.borrow().clone();
        self.watched().retain(|id, _| book.rules.get(id).is_some_and(|e| e.candidate.is_some()));
        for entry in book.rules.values() {
            if let Some((revision, cohort)) = &entry.candidate {
                self.observe(&entry.id, cohort, revision.as_ref().map(|r| &*r.hash));
            }
        }
    }

    fn observe(&self, id: &Arc<str>, cohort: &super::Cohort, revision: Option<&str>) {
        let Some(observer) = self.observer.get() else { return };
        let seen = observer.observe(id, cohort, revision);
        let mut all = self.watched();
        let watched = all.entry(id.clone()).or_default();
        if watched.seed != cohort.seed {
            *watched = Watched { seed: cohort.seed.clone(), ..Watched::default() };
        }
        watched.watch.add(now(), &seen.new);
        watched.spread = seen.spread;
    }

    async fn beat(&self, term: &Term) {
        self.look();
        for id in self.running() {
            if let Err(e) = self.tick(&id, term).await {
                tracing::warn!(rule = &*id, "the rollout could not be looked at: {e}");
            }
        }
    }

    async fn tick(&self, id: &Arc<str>, term: &Term) -> Result<(), RuleError> {
        let Some((mut state, changed)) = self.kept(id).await? else { return Ok(()) };
        let Some(candidate) = &mut state.candidate else { return Ok(()) };
        let step = self.step(id, candidate);
        if step == Step::Stayed {
            return Ok(());
        }
        let stage = candidate.rollout.stage() + 1;
        let share = f64::from(candidate.rollout.ppm()) / 10_000.0;
        admit::settle(&mut state);
        let expect = vec![(key(id), Expect::At(changed)), term.fence()];
        let txn = Txn { expect, ops: vec![put(id, &state)], relaxed: false };
        // Somebody was faster, or leads: the next beat sees what is there then.
        let Outcome::Done(_) = self.store.commit(txn).await? else { return Ok(()) };
        match step {
            Step::Stayed => {}
            Step::Advanced => {
                self.events.info(
                    "rolloutAdvanced",
                    &**id,
                    format!("stage {stage}: {share} % of the sidecars"),
                );
            }
            Step::Finished => self.events.info("rolloutDone", &**id, "all sidecars have it"),
            Step::Paused(breach) => self.events.warning("rolloutPaused", &**id, breach.to_string()),
            Step::RolledBack(breach) => self.events.warning("rolloutRolledBack", &**id, breach.to_string()),
        }
        Ok(())
    }

    /// The step that is due by what was seen.
    fn step(&self, id: &Arc<str>, candidate: &mut Candidate) -> Step {
        let now = now();
        let mut all = self.watched();
        let watched = all.entry(id.clone()).or_default();
        watched.watch.follow(&candidate.rollout);
        let windows = watched.watch.windows(now);
        candidate.rollout.tick(now, &seen(watched, &windows))
    }

    /// A rollout as people see it: the one that runs, or the last one.
    pub(super) fn view(&self, id: &Arc<str>, state: &RuleState) -> Option<RolloutView> {
        let candidate = state.candidate.as_ref().or(state.last.as_ref())?;
        let mut view = admit::view(id, state, candidate);
        let all = self.watched();
        if let Some(watched) = all.get(id).filter(|w| w.seed == book::cohort(candidate).seed) {
            let now = now();
            let windows = watched.watch.windows(now);
            view.spread = watched.spread;
            if let Some(window) = windows.get(1) {
                (view.candidate, view.rest) = (fares(&window.candidate), fares(&window.rest));
            }
            view.waits = waits(&candidate.rollout, now, &seen(watched, &windows));
        }
        Some(view)
    }
}

fn seen<'a>(watched: &Watched, windows: &'a [raddle_policy::rollout::Cohorts]) -> Seen<'a> {
    Seen {
        windows,
        stage_requests: watched.watch.stage_requests(),
        expected: watched.spread.wanted,
        refused: watched.spread.refused,
    }
}

fn fares(sample: &Sample) -> Fares {
    Fares {
        requests: sample.requests,
        error_rate: sample.error_rate(),
        p99_us: sample.p99().unwrap_or_default(),
    }
}

fn waits(rollout: &Rollout, now: u64, seen: &Seen<'_>) -> String {
    if matches!(rollout.state(), State::Done | State::RolledBack { .. }) {
        return String::new();
    }
    match rollout.waits(now, seen) {
        None => "the next step is due".into(),
        Some(Waits::Hold(ms)) => format!("{:.0} s more of this stage", (ms as f64 / 1000.0).ceil()),
        Some(Waits::Requests(have, need)) => {
            format!("requests of sidecars with the change: {have} of {need} that the guard needs")
        }
        Some(Waits::Resume) => "someone to resume it".into(),
    }
}
