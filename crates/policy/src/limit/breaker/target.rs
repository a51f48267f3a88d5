//! One breaker: of one rule, for one endpoint, service or method.
use super::window::{Sum, Window, epoch};
use super::word::{Shared, Word};
use super::{Outcome, State};
use crate::rng::Rng;
use raddle_core::Time;
use raddle_model::BreakerSettings;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Probes that do not end give their places to others after this, or after the time it was open if that is longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Chance in how long it stays open, as a share.
const JITTER: f64 = 0.2;

/// Why a breaker opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Why {
    Failed,
    Slow,
    InARow,
    Probes,
    Forced,
}

impl Why {
    pub(super) const ALL: [Why; 5] = [Why::Failed, Why::Slow, Why::InARow, Why::Probes, Why::Forced];
}

/// A breaker, shared by all workers.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) key: u64,
    pub(crate) name: Arc<str>,
    word: Shared,
    /// When it became what it is.
    since: AtomicU64,
    why: AtomicU8,
    /// Failures in a row.
    row: AtomicU32,
    /// Counts before this do not count: it has closed since.
    floor: AtomicU64,
    windows: Box<[Window]>,
    /// It gave way to others: workers that still know it must ask for it anew.
    pub(super) gone: AtomicBool,
}

/// Whether a call may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It may. Its round must be told with its outcome.
    Allowed(u8),
    /// The same, and it decides with others whether the breaker closes.
    Probe(u8),
    /// It may not, before this time.
    Open(Time),
}

/// A breaker has become something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) state: State,
    /// Whether it was closed before or is now.
    pub(super) counts: bool,
    pub(super) text: String,
}

impl Target {
    pub(super) fn new(key: u64, name: &str, workers: usize) -> Target {
        Target {
            key,
            name: name.into(),
            word: Shared::default(),
            since: AtomicU64::new(0),
            why: AtomicU8::new(0),
            row: AtomicU32::new(0),
            floor: AtomicU64::new(0),
            windows: (0..workers.max(1)).map(|_| Window::default()).collect(),
            gone: AtomicBool::new(false),
        }
    }

    pub(crate) fn state(&self) -> State {
        match self.word.load() {
            Word::Closed { .. } => State::Closed,
            Word::Open { .. } => State::Open,
            Word::Half { .. } => State::HalfOpen,
        }
    }

    pub(crate) fn since(&self) -> Time {
        Time::from_nanos(self.since.load(Ordering::Relaxed))
    }

    /// Until when it is open at least; `None` = it is not.
    pub(crate) fn until(&self) -> Option<Time> {
        match self.word.load() {
            Word::Open { until, .. } => Some(time_of(until)),
            Word::Closed { .. } | Word::Half { .. } => None,
        }
    }

    pub(crate) fn why(&self) -> Why {
        let why = self.why.load(Ordering::Relaxed);
        Why::ALL.into_iter().find(|w| *w as u8 == why).unwrap_or(Why::Failed)
    }

    /// Calls in the window.
    pub(crate) fn sum(&self, s: &BreakerSettings, now: Time) -> Sum {
        let mut sum = Sum::default();
        let floor = self.floor.load(Ordering::Relaxed);
        for window in &self.windows {
            window.read(epoch(now, window_ns(s)), floor, &mut sum);
        }
        sum
    }

    /// Whether a call would not pass now.
    pub(super) fn is_open(&self, s: &BreakerSettings, now: Time) -> bool {
        match self.word.load() {
            Word::Closed { .. } => false,
            Word::Open { until, .. } => now < time_of(until),
            Word::Half { started, .. } => u32::from(started) >= probes(s) && !self.stuck(s, now),
        }
    }

    fn stuck(&self, s: &BreakerSettings, now: Time) -> bool {
        now.since(self.since()) >= PATIENCE.max(s.open_for)
    }

    /// Asks for a call.
    pub(super) fn ask(&self, s: &BreakerSettings, now: Time) -> (Answer, Option<Change>) {
        loop {
            let word = self.word.load();
            let to = match word {
                Word::Closed { round, .. } => return (Answer::Allowed(round), None),
                Word::Open { until, .. } if now < time_of(until) => {
                    return (Answer::Open(time_of(until)), None);
                }
                Word::Open { trips, round, .. } => {
                    let round = round.wrapping_add(1);
                    Word::Half { trips, round, started: 1, passed: 0, failed: 0 }
                }
                Word::Half { trips, round, started, passed, failed } => {
                    if u32::from(started) < probes(s) {
                        Word::Half { trips, round, started: started + 1, passed, failed }
                    } else if self.stuck(s, now) {
                        let round = round.wrapping_add(1);
                        Word::Half { trips, round, started: 1, passed: 0, failed: 0 }
                    } else {
                        return (Answer::Open(now + Duration::from_millis(100)), None);
                    }
                }
            };
            if !self.word.change(word, to) {
                continue;
            }
            let Word::Half { round, started, .. } = to else { continue };
            if started == 1 {
                self.since.store(now.as_nanos(), Ordering::Relaxed);
            }
            let change = matches!(word, Word::Open { .. }).then(|| Change {
                state: State::HalfOpen,
                counts: false,
                text: format!("lets {} calls through to see whether it may close", probes(s)),
            });
            return (Answer::Probe(round), change);
        }
    }

    /// A probe was not sent, or says nothing: another one may go.
    pub(super) fn unprobe(&self, its: u8) {
        loop {
            let word = self.word.load();
            let Word::Half { trips, round, started, passed, failed } = word else { return };
            let to = Word::Half { trips, round, started: started.saturating_sub(1), passed, failed };
            if round != its || started <= passed + failed || self.word.change(word, to) {
                return;
            }
        }
    }

    /// A call has ended that was let through in this round, perhaps as a probe. What a call says that was let through
    /// before the breaker opened and closed again is old: it was taken for ill by then, and found well since.
    pub(super) fn tell(
        &self,
        s: &BreakerSettings,
        worker: usize,
        (its, probe): (u8, bool),
        outcome: Outcome,
        now: Time,
        rng: &mut Rng,
    ) -> Option<Change> {
        let (failed, latency) = match outcome {
            Outcome::Answered(latency) => (false, latency),
            Outcome::Failed(latency) => (true, latency),
            Outcome::Unknown => {
                if probe {
                    self.unprobe(its);
                }
                return None;
            }
        };
        let slow = latency > s.slow_after;
        let bad = failed || (slow && s.slow_ratio.is_some());
        match self.word.load() {
            Word::Closed { round, .. } if probe || round != its => None,
            Word::Closed { .. } => {
                self.windows[worker % self.windows.len()].add(epoch(now, window_ns(s)), failed, slow);
                if failed {
                    self.row.fetch_add(1, Ordering::Relaxed);
                } else if self.row.load(Ordering::Relaxed) != 0 {
                    self.row.store(0, Ordering::Relaxed);
                }
                // What ends well opens nothing.
                if bad { self.judge(s, now, rng) } else { None }
            }
            Word::Half { .. } if probe => self.probed(s, its, bad, now, rng),
            Word::Half { .. } => None,
            Word::Open { .. } => None,
        }
    }

    /// Opens it if there is reason to.
    fn judge(&self, s: &BreakerSettings, now: Time, rng: &mut Rng) -> Option<Change> {
        let row = self.row.load(Ordering::Relaxed);
        if s.consecutive_errors.is_some_and(|most| row >= most) {
            let text = format!("{row} calls in a row failed");
            return self.open(s, (Why::InARow, &text), None, now, rng);
        }
        if s.error_ratio.is_none() && s.slow_ratio.is_none() {
            return None;
        }
        let sum = self.sum(s, now);
        if sum.calls < s.min_calls.max(1) {
            return None;
        }
        let over = |n: u32, most: Option<f64>| most.is_some_and(|m| f64::from(n) >= m * f64::from(sum.calls));
        let (calls, window) = (sum.calls, s.window);
        if sum.failed > 0 && over(sum.failed, s.error_ratio) {
            let text = format!("{} of {calls} calls in {window:?} failed", sum.failed);
            return self.open(s, (Why::Failed, &text), None, now, rng);
        }
        if sum.slow > 0 && over(sum.slow, s.slow_ratio) {
            let text = format!("{} of {calls} calls in {window:?} took over {:?}", sum.slow, s.slow_after);
            return self.open(s, (Why::Slow, &text), None, now, rng);
        }
        None
    }

    /// Opens it; `its` = as a probe of this round says so.
    fn open(
        &self,
        s: &BreakerSettings,
        (why, text): (Why, &str),
        its: Option<u8>,
        now: Time,
        rng: &mut Rng,
    ) -> Option<Change> {
        loop {
            let word = self.word.load();
            let (trips, round) = match word {
                Word::Half { round, .. } if its != Some(round) => return None,
                Word::Closed { .. } if its.is_some() => return None,
                // Well for long enough, it begins with the shortest time again.
                Word::Closed { round, .. } if now.since(self.since()) > s.max_open_for.max(s.window) => {
                    (0, round)
                }
                Word::Closed { trips, round } | Word::Half { trips, round, .. } => (trips, round),
                Word::Open { .. } => return None,
            };
            let time = open_time(s, trips, rng);
            let until = (now + time).as_nanos().div_ceil(1_000_000);
            if self.word.change(word, Word::Open { trips: trips.saturating_add(1).min(63), round, until }) {
                self.why.store(why as u8, Ordering::Relaxed);
                self.since.store(now.as_nanos(), Ordering::Relaxed);
                let text = format!("open for {:.1} s: {text}", time.as_secs_f64());
                let counts = matches!(word, Word::Closed { .. });
                return Some(Change { state: State::Open, counts, text });
            }
        }
    }

    /// A probe has ended.
    fn probed(&self, s: &BreakerSettings, its: u8, bad: bool, now: Time, rng: &mut Rng) -> Option<Change> {
        loop {
            let word = self.word.load();
            let Word::Half { trips, round, started, passed, failed } = word else { return None };
            if round != its {
                return None;
            }
            let (passed, failed) =
                if bad { (passed, failed.saturating_add(1)) } else { (passed.saturating_add(1), failed) };
            if u32::from(failed) > probes(s) - passes(s) {
                let text = format!("{failed} of {} probes failed", passed + failed);
                return self.open(s, (Why::Probes, &text), Some(its), now, rng);
            }
            let closes = u32::from(passed) >= passes(s);
            let to = match closes {
                true => Word::Closed { trips, round },
                false => Word::Half { trips, round, started, passed, failed },
            };
            if !self.word.change(word, to) {
                continue;
            }
            if !closes {
                return None;
            }
            self.row.store(0, Ordering::Relaxed);
            self.floor.store(epoch(now, window_ns(s)) + 1, Ordering::Relaxed);
            self.since.store(now.as_nanos(), Ordering::Relaxed);
            let text = format!("closed: {passed} of {} probes passed", passed + failed);
            return Some(Change { state: State::Closed, counts: true, text });
        }
    }
}

fn probes(s: &BreakerSettings) -> u32 {
    s.probes.clamp(1, 60_000)
}

fn passes(s: &BreakerSettings) -> u32 {
    s.passes.clamp(1, probes(s))
}

fn window_ns(s: &BreakerSettings) -> u64 {
    u64::try_from(s.window.as_nanos()).unwrap_or(u64::MAX)
}

fn time_of(ms: u64) -> Time {
    Time::from_nanos(ms.saturating_mul(1_000_000))
}

/// How long it stays open after it was so often before: twice as long each time, and some chance, such that callers of
/// one callee do not come back together.
fn open_time(s: &BreakerSettings, trips: u8, rng: &mut Rng) -> Duration {
    let most = s.max_open_for.max(s.open_for);
    let whole = s.open_for.saturating_mul(1 << u32::from(trips).min(30)).min(most);
    let chance = JITTER * rng.unit();
    let longer = whole.mul_f64(1.0 + chance);
    if longer <= most { longer } else { most.mul_f64(1.0 - chance).max(s.open_for.min(whole)) }
}
