//! Limiting: what holds requests back, of `kind: AdaptiveLimit`, `RateLimit` and `CircuitBreaker`.
//!
//! The decisions are [`raddle_policy::limit`]'s. Here is what they are asked with and what becomes of the answer:
//!
//! * [`Limiting`]: what all threads see of the rule of adaptive limiting in force. The loader puts it into
//!   [`Shared::limits`]; the thread `limits` ticks a controller over its board; workers have a gate each.
//! * [`thread`]: that thread. What it reads of the app is crate `sense`'s.
//! * [`Quota`]: who counts rules that hold for all sidecars together.
pub(crate) mod app;
pub(crate) mod asked;
pub(crate) mod done;
pub(crate) mod interface;
mod judge;
pub(crate) mod page;
mod relay;
pub(crate) mod state;
pub mod thread;
pub(crate) mod ticket;

use crate::shared::{Config, Shared};
use arc_swap::ArcSwapOption;
use raddle_core::Time;
use raddle_model::AdaptiveSettings;
use raddle_policy::Snapshot;
use raddle_policy::limit::adaptive::{Board, Sample, View};
use std::sync::Arc;

/// The rule of adaptive limiting in force, and what belongs to it. Another one takes its place when the rule changes;
/// the board stays as long as it counts the same things.
#[derive(Debug)]
pub struct Limiting {
    /// `AdaptiveLimit/NAME`.
    pub rule: Arc<str>,
    /// What the rule says.
    pub settings: Arc<AdaptiveSettings>,
    /// The rule's [`fingerprint`](raddle_model::Metadata::fingerprint).
    pub fingerprint: u64,
    /// What workers and the controller share.
    pub board: Arc<Board>,
    /// What the controller said last, for pages.
    pub view: Arc<ArcSwapOption<View>>,
    /// What is read of the app, or why nothing is: a sentence.
    pub sensing: Arc<ArcSwapOption<thread::Sensing>>,
    /// What the app's load is to be taken for, in place of what can be read of it: for tests.
    pub pretended: Arc<ArcSwapOption<Sample>>,
}

impl Limiting {
    /// What holds with this snapshot, where `old` held before.
    pub fn of(snapshot: &Snapshot, old: Option<&Arc<Limiting>>, workers: usize) -> Option<Arc<Limiting>> {
        let rule = snapshot.limits().adaptive.as_ref()?;
        let name: Arc<str> = format!("AdaptiveLimit/{}", rule.metadata.name).into();
        let fingerprint = rule.metadata.fingerprint;
        if let Some(same) = old.filter(|o| o.rule == name && o.fingerprint == fingerprint) {
            return Some(same.clone());
        }
        // What was learnt of the app holds on, whatever a person called the rule before.
        let s = &rule.settings;
        let kept = old.filter(|o| (o.settings.by, o.settings.max_interfaces) == (s.by, s.max_interfaces));
        let board = kept.map_or_else(|| Arc::new(Board::new(workers, s)), |o| o.board.clone());
        Some(Arc::new(Limiting {
            rule: name,
            settings: Arc::new(s.clone()),
            fingerprint,
            board,
            view: old.map_or_else(Default::default, |o| o.view.clone()),
            sensing: old.map_or_else(Default::default, |o| o.sensing.clone()),
            pretended: old.map_or_else(Default::default, |o| o.pretended.clone()),
        }))
    }
}

/// Whether a request may pass, by those who count for all sidecars together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// It may.
    Taken,
    /// It may not.
    Refused,
    /// It is not known yet: ask again, at the latest then.
    Later(Time),
}

/// The client of the quota server, as workers ask it: `reach: cluster`.
///
/// Each worker asks for itself, between 0 and the number of workers, and only one at a time asks as the same worker. An
/// answer takes no lock that another worker holds for longer than a few instructions.
pub trait Quota: Send + Sync {
    /// Takes one request's worth of a rule (`RateLimit/NAME`), of one value of its key if it counts by one.
    fn try_take(&self, worker: usize, rule: &str, value: Option<&[u8]>, now: Time) -> Take;
}

impl Shared {
    /// Puts a configuration in force, with what belongs to its limits. Workers are told by whoever calls.
    pub(crate) fn put_config(&self, config: Config) {
        let old = self.limits.load_full();
        let new = Limiting::of(&config.snapshot, old.as_ref(), self.workers().len());
        // First, such that workers that see the configuration see it as well.
        self.limits.store(new);
        self.config.store(Arc::new(config));
        self.limiter.ring();
    }
}
