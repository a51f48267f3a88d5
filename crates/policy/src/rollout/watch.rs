//! What a rollout is shown: both cohorts in windows of the same time.
use super::{Rollout, Sample};
use std::collections::VecDeque;

/// Both cohorts in the same time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cohorts {
    /// Sidecars that have the change.
    pub candidate: Sample,
    /// The others the rule reaches.
    pub rest: Sample,
}

impl Cohorts {
    fn add(&mut self, other: &Cohorts) {
        self.candidate.add(&other.candidate);
        self.rest.add(&other.rest);
    }
}

/// What a rollout decides by at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen<'a> {
    /// The same two cohorts over several windows, the shortest first: a short one finds great harm at once, a long one
    /// finds small harm, and harm where there are few requests.
    pub windows: &'a [Cohorts],
    /// The candidate's requests since the stage began.
    pub stage_requests: u64,
    /// Connected sidecars that should have the change.
    pub expected: u64,
    /// Connected sidecars that refuse it.
    pub refused: u64,
}

impl Seen<'_> {
    /// The rest over the longest window.
    pub(super) fn rest(&self) -> Option<&Sample> {
        self.windows.last().map(|window| &window.rest)
    }
}

/// Gathers what cohorts report, by seconds.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Seconds since the epoch, and what was reported in them; the newest last.
    slots: VecDeque<(u64, Cohorts)>,
    /// Since the stage began.
    stage: Cohorts,
    /// Which stage that is: its number, and when it began.
    began: (usize, u64),
}

impl Watch {
    /// Shorter windows, in seconds; the third is the whole stage.
    const SPANS: [u64; 2] = [5, 30];
    /// Seconds kept.
    const KEPT: usize = 30;

    /// Adds what was reported just now.
    pub fn add(&mut self, now: u64, reported: &Cohorts) {
        let second = now / 1000;
        match self.slots.back_mut() {
            // A clock that goes back counts to the newest second.
            Some((last, slot)) if *last >= second => slot.add(reported),
            _ => {
                self.slots.push_back((second, reported.clone()));
                if self.slots.len() > Watch::KEPT {
                    self.slots.pop_front();
                }
            }
        }
        self.stage.add(reported);
    }

    /// Follows the rollout: a new stage is counted from its begin. What was seen before a pause or its end must not count
    /// afterwards, so a stage that begins anew forgets the windows, too.
    pub fn follow(&mut self, rollout: &Rollout) {
        let began = (rollout.stage(), rollout.since());
        if self.began != began {
            if self.began.0 == began.0 {
                self.slots.clear();
            }
            self.stage = Cohorts::default();
            self.began = began;
        }
    }

    /// The windows, the shortest first.
    pub fn windows(&self, now: u64) -> Vec<Cohorts> {
        let second = now / 1000;
        let span = |seconds: u64| {
            let mut sum = Cohorts::default();
            let fresh = self.slots.iter().rev().take_while(|(at, _)| at + seconds > second);
            fresh.for_each(|(_, slot)| sum.add(slot));
            sum
        };
        let mut out: Vec<Cohorts> = Watch::SPANS.into_iter().map(span).collect();
        out.push(self.stage.clone());
        out
    }

    /// The candidate's requests since the stage began.
    pub fn stage_requests(&self) -> u64 {
        self.stage.candidate.requests
    }
}
