//! `kind: CircuitBreaker`, compiled, and what workers share of it.
use super::super::index::Index;
use super::super::program;
use super::target::{Change, Target, Why};
use super::{Event, State};
use crate::limit::{Again, Held};
use crate::route::Attributes;
use ahash::RandomState;
use raddle_core::{Reason, Time};
use raddle_model::{BreakerPer, BreakerSettings, CircuitBreaker, Forced, RuleMode};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Most breakers of a rule.
pub(super) const MOST: usize = 5_000;
/// Bytes kept of a service's or method's name, to show it.
const NAME: usize = 200;
/// A breaker that is not closed and that nobody has asked for so long is of something that is gone.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// How often it is looked for those.
const SWEEP: Duration = Duration::from_secs(60);

/// The breakers of a sidecar.
#[derive(Debug, Default)]
pub(crate) struct Program {
    pub(crate) rules: Vec<Rule>,
    pub(crate) index: Index,
}

/// One rule.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: Arc<str>,
    pub(crate) observe: bool,
    pub(crate) settings: BreakerSettings,
    pub(crate) shared: Arc<Shared>,
    /// What is said of a call that it holds, by why it is open.
    details: [Arc<str>; Why::ALL.len()],
}

/// What workers share of a rule.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(super) hasher: RandomState,
    /// Breakers that are not closed.
    pub(super) unwell: AtomicU32,
    targets: Mutex<Targets>,
    pub(crate) counts: program::Shared,
}

#[derive(Debug, Default)]
struct Targets {
    map: HashMap<u64, Arc<Target>, RandomState>,
    /// When it was last looked for breakers that nobody needs.
    swept: Time,
}

impl Shared {
    /// The breaker of this key, made if there is none. `None` = there are too many.
    pub(super) fn target(
        &self,
        key: u64,
        name: impl FnOnce() -> String,
        workers: usize,
        s: &BreakerSettings,
        now: Time,
    ) -> Option<Arc<Target>> {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(target) = targets.map.get(&key) {
            return Some(target.clone());
        }
        let full = targets.map.len() >= MOST;
        let pause = if full { Duration::from_secs(1) } else { SWEEP };
        if now.since(targets.swept) >= pause {
            targets.swept = now;
            self.sweep(&mut targets.map, full, s, now);
        }
        if targets.map.len() >= MOST {
            return None;
        }
        let target = Arc::new(Target::new(key, &name(), workers));
        targets.map.insert(key, target.clone());
        Some(target)
    }

    /// Forgets breakers of endpoints that are gone; if it is full, those without calls too.
    fn sweep(
        &self,
        map: &mut HashMap<u64, Arc<Target>, RandomState>,
        full: bool,
        s: &BreakerSettings,
        now: Time,
    ) {
        let long = FORGOTTEN.max(s.max_open_for.saturating_mul(2));
        map.retain(|_, target| {
            let closed = target.state() == State::Closed;
            let needed = match closed {
                true => !full || target.sum(s, now).calls > 0,
                false => now.since(target.since()) < long,
            };
            if !needed {
                target.gone.store(true, Ordering::Relaxed);
                if !closed {
                    self.unwell.fetch_sub(1, Ordering::Relaxed);
                }
            }
            needed
        });
    }

    pub(crate) fn targets(&self) -> Vec<Arc<Target>> {
        let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.map.values().cloned().collect()
    }
}

impl Program {
    pub(crate) fn new(sources: &[&CircuitBreaker], prev: Option<&Program>) -> Program {
        let old: HashMap<&str, &Rule, RandomState> =
            prev.into_iter().flat_map(|p| &p.rules).map(|r| (&*r.name, r)).collect();
        let rule = |source: &&CircuitBreaker| {
            let name = format!("CircuitBreaker/{}", source.metadata.name);
            let old = old.get(name.as_str()).filter(|o| o.settings.per == source.settings.per);
            Rule {
                observe: source.mode == RuleMode::Observe,
                settings: source.settings.clone(),
                shared: old.map(|o| o.shared.clone()).unwrap_or_default(),
                details: Why::ALL.map(|why| detail(&source.settings, why).into()),
                name: name.into(),
            }
        };
        let index = Index::new((0..).zip(sources.iter().map(|s| &*s.when)));
        Program { rules: sources.iter().map(rule).collect(), index }
    }
}

impl Rule {
    /// Its breakers that are not closed; 1 while a person holds all of them open, 0 while closed.
    pub(crate) fn unwell(&self) -> u32 {
        match self.settings.forced {
            Some(Forced::Open) => 1,
            Some(Forced::Closed) => 0,
            None => self.shared.unwell.load(Ordering::Relaxed),
        }
    }

    /// The key of the breaker that a call has by its service or method; `None` = endpoints have them.
    pub(crate) fn key(&self, req: &impl Attributes) -> Option<u64> {
        let of = match self.settings.per {
            BreakerPer::Endpoint => return None,
            BreakerPer::Service => (req.service(), None),
            BreakerPer::Method => (req.service(), req.method()),
        };
        Some(self.shared.hasher.hash_one(of))
    }

    /// What that breaker is called.
    pub(super) fn target_name(&self, req: &impl Attributes) -> String {
        let text = |name: &[u8]| String::from_utf8_lossy(&name[..name.len().min(NAME)]).into_owned();
        match req.method() {
            Some(method) if self.settings.per == BreakerPer::Method => {
                format!("{}.{}", text(req.service()), text(method))
            }
            _ => text(req.service()),
        }
    }

    pub(crate) fn held(&self, why: Why, again: Again) -> Held {
        let detail = self.details[why as usize].clone();
        Held { reason: Reason::BreakerOpen, rule: self.name.clone(), detail, again }
    }

    pub(super) fn forced(&self) -> Option<Forced> {
        self.settings.forced
    }

    /// A breaker has changed, which counts here.
    pub(super) fn event(&self, target: &Target, change: Change, at: Time) -> Event {
        match change.state {
            _ if target.gone.load(Ordering::Relaxed) => 0,
            State::Open if change.counts => self.shared.unwell.fetch_add(1, Ordering::Relaxed),
            State::Closed if change.counts => self.shared.unwell.fetch_sub(1, Ordering::Relaxed),
            State::Open | State::Closed | State::HalfOpen => 0,
        };
        Event {
            at,
            rule: self.name.clone(),
            target: target.name.clone(),
            state: change.state,
            text: change.text,
        }
    }
}

fn detail(s: &BreakerSettings, why: Why) -> String {
    let share = |r: Option<f64>| format!("{} %", (r.unwrap_or(0.0) * 1000.0).round() / 10.0);
    match why {
        Why::Failed => format!("{} of its calls failed", share(s.error_ratio)),
        Why::Slow => format!("{} of its calls took over {:?}", share(s.slow_ratio), s.slow_after),
        Why::InARow => match s.consecutive_errors.unwrap_or(1) {
            1 => "a call failed".into(),
            n => format!("{n} calls in a row failed"),
        },
        Why::Probes => "it still failed when it was tried again".into(),
        Why::Forced => "it is held open by hand".into(),
    }
}
