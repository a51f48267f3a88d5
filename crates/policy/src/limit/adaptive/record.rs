//! What is kept of what was seen and done, all of it bounded, and the sentences people read.
use super::board::Board;
use super::culprits::{Culprits, Demand, Member};
use super::evidence::{Activation, Culprit, Event, Kind, Level, View};
use super::signal::Standing;
use super::{InterfaceId, Why};
use raddle_core::Time;
use std::collections::VecDeque;

/// Seconds, activations and interfaces kept.
const SECONDS: usize = 120;
const ACTIVATIONS: usize = 16;
const NAMED: usize = 16;
/// Changes of what culprits may have that are smaller than this are not told.
const TOLD: f64 = 0.1;

/// Keeps what happened.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    history: VecDeque<Level>,
    activations: VecDeque<Activation>,
    events: Vec<Event>,
    count: u64,
    active: bool,
    began: Time,
    standing: Standing,
    told: f64,
    culprits: Vec<Culprit>,
    /// `mode: observe`: what is told is what would be done.
    pub(super) observe: bool,
}

fn secs(at: Time) -> f64 {
    at.as_nanos() as f64 * 1e-9
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

impl Recorder {
    pub(super) fn new(observe: bool) -> Recorder {
        Recorder { observe, ..Recorder::default() }
    }

    /// What is done to somebody, or would be if the rule did not only observe.
    fn is(&self) -> &'static str {
        if self.observe { "would be" } else { "is" }
    }

    fn tell(&mut self, at: Time, kind: Kind, text: String) {
        let activation = if self.active { self.count } else { 0 };
        self.events.push(Event { at, activation, kind, text });
    }

    /// Something is short: an activation begins.
    pub(super) fn begin(&mut self, now: Time, memory: bool, level: &Level, top: &[super::Interface]) {
        (self.count, self.active, self.began, self.told) = (self.count + 1, true, now, f64::INFINITY);
        let what = if memory {
            format!("memory: {} of it is in use", percent(level.memory))
        } else {
            format!(
                "CPU: {} of {:.2} cores in use, threshold {}, queue {:.0} ms (usually up to {:.0} ms)",
                percent(level.cpu),
                level.cores,
                percent(level.theta),
                level.q * 1e3,
                level.qref * 1e3
            )
        };
        let most: Vec<String> = top
            .iter()
            .take(5)
            .map(|i| format!("{} {} ({:.1}/s × {:.2} ms)", i.name, percent(i.share), i.offered, i.cost_ms))
            .collect();
        self.activations.push_back(Activation {
            number: self.count,
            began_secs: secs(now),
            cause: what.clone(),
            observed: self.observe,
            ..Activation::default()
        });
        if self.activations.len() > ACTIVATIONS {
            self.activations.pop_front();
        }
        self.tell(now, Kind::Began, format!("short of {what}; most is used by {}", most.join(", ")));
    }

    /// Whole seconds since it began.
    pub(super) fn seconds(&self, now: Time) -> u64 {
        now.since(self.began).as_secs()
    }

    /// These are held from now on.
    pub(super) fn added(
        &mut self,
        now: Time,
        ids: &[InterfaceId],
        demands: &[Demand],
        all: &Culprits,
        board: &Board,
    ) {
        let is = self.is();
        for m in all.members.iter().filter(|m| ids.contains(&m.id)) {
            let c = culprit(m, demands, board);
            let text = if m.dearer {
                format!(
                    "{} {is} held: its requests cost {:.1} times what they did, at {:.1}/s (usually {:.1}/s)",
                    c.name, m.drift, c.offered, c.baseline
                )
            } else {
                format!(
                    "{} {is} held: {:.1}/s are offered, {:.1} times the usual {:.1}/s; it asks for {} of the app",
                    c.name,
                    c.offered,
                    c.rise,
                    c.baseline,
                    percent(c.demand)
                )
            };
            if let Some(activation) = self.activations.back_mut()
                && activation.culprits.len() < NAMED
            {
                activation.culprits.push(c);
            }
            self.tell(now, Kind::Culprits, text);
        }
    }

    /// These are held no more.
    pub(super) fn let_go(&mut self, now: Time, ids: &[InterfaceId], board: &Board) {
        for id in ids {
            let (name, is) = (board.name(*id), self.is());
            let text = format!("{name} {is} held no more: it asks for no more than it may have");
            self.tell(now, Kind::Culprits, text);
        }
    }

    /// Everything is held.
    pub(super) fn everything(&mut self, now: Time, level: f64, queue: f64) {
        let text = format!(
            "nobody rose, yet {} is in use and the queue is {:.0} ms: everything {} held, the least important first",
            percent(level),
            queue * 1e3,
            self.is()
        );
        self.tell(now, Kind::Culprits, text);
    }

    /// Everything fits again.
    pub(super) fn fits(&mut self, now: Time, asked: f64) {
        self.tell(now, Kind::Restored, format!("{} is asked for: everything fits again", percent(asked)));
    }

    /// Nothing is held any more.
    pub(super) fn end(&mut self, now: Time, why: &str) {
        if let Some(activation) = self.activations.back_mut() {
            activation.ended_secs = Some(secs(now));
            why.clone_into(&mut activation.end);
        }
        let (is, seconds) = (self.is(), self.seconds(now));
        self.tell(now, Kind::Ended, format!("nothing {is} held any more after {seconds} s: {why}"));
        self.active = false;
    }

    /// A second is over. Returns what there is to tell.
    pub(super) fn second(
        &mut self,
        now: Time,
        level: Level,
        standing: Standing,
        all: &Culprits,
        demands: &[Demand],
        board: &Board,
    ) -> Vec<Event> {
        self.culprits = all.members.iter().take(NAMED * 4).map(|m| culprit(m, demands, board)).collect();
        self.culprits.sort_by(|a, b| b.demand.total_cmp(&a.demand));
        if standing != self.standing {
            let text = match standing {
                Standing::Load => "samples of the app's load come",
                Standing::Stale => {
                    "no sample of the app's load came for 3 s: nothing more is cut, and what is held is let go"
                }
                Standing::Latency => {
                    "no sample of the app's load ever came: its latency alone says whether it is short"
                }
            };
            self.standing = standing;
            self.tell(now, Kind::Signal, text.to_owned());
        }
        if self.active {
            self.follow(now, &level);
        }
        self.history.push_back(level);
        if self.history.len() > SECONDS {
            self.history.pop_front();
        }
        std::mem::take(&mut self.events)
    }

    /// Keeps the extremes, and tells of cuts and restores.
    fn follow(&mut self, now: Time, level: &Level) {
        if let Some(a) = self.activations.back_mut() {
            a.peak_cpu = a.peak_cpu.max(level.cpu);
            a.peak_queue = a.peak_queue.max(level.q);
            // A rule that began to be carried out in the middle counts from then on; one that only observes from then on
            // refuses no more.
            if a.observed && !self.observe {
                (a.observed, a.refused) = (false, [0; 4]);
            }
            if a.observed == self.observe {
                a.refused.iter_mut().zip(level.refused).for_each(|(sum, n)| *sum += u64::from(n));
            }
        }
        let changed = (level.room / self.told.max(1e-6) - 1.0).abs() > TOLD;
        if !changed || (level.tier == 1 && self.culprits.is_empty()) {
            return;
        }
        let kind = if level.room < self.told { Kind::Cut } else { Kind::Restored };
        self.told = level.room;
        let (who, may, refused) = match (level.tier, self.observe) {
            (2, false) => ("all interfaces", "may", "refused"),
            (2, true) => ("all interfaces", "might", "would have been refused"),
            (_, false) => ("those held", "may", "refused"),
            (_, true) => ("those that would be held", "might", "would have been refused"),
        };
        let limits: Vec<String> =
            self.culprits.iter().take(4).map(|c| format!("{} {:.1}/s", c.name, c.limit)).collect();
        let [marked, guard, culprit, overload] =
            [Why::Marked, Why::Guard, Why::Culprit, Why::Overload].map(|w| level.refused[w as usize]);
        let text = format!(
            "{who} {may} use {} of the app{}{}; CPU {}, queue {:.0} ms; {refused} in the last second: {marked} of load \
             tests, {guard} by the guard, {culprit} of culprits, {overload} of all",
            percent(level.room),
            if limits.is_empty() { "" } else { ": " },
            limits.join(", "),
            percent(level.cpu),
            level.q * 1e3
        );
        self.tell(now, kind, text);
    }

    /// What it has, without what the controller knows of interfaces.
    pub(super) fn view(&self) -> View {
        let level = self.history.back().copied().unwrap_or_default();
        View {
            active: self.active,
            tier: level.tier,
            since_secs: if self.active { level.at_secs - secs(self.began) } else { 0.0 },
            signal: match self.standing {
                Standing::Load => "load",
                Standing::Stale => "stale",
                Standing::Latency => "latency",
            },
            level,
            culprits: self.culprits.clone(),
            history: self.history.iter().copied().collect(),
            activations: self.activations.iter().cloned().collect(),
            ..View::default()
        }
    }
}

fn culprit(m: &Member, demands: &[Demand], board: &Board) -> Culprit {
    let d = demands.get(m.id as usize).copied().unwrap_or_default();
    Culprit {
        name: board.name(m.id),
        offered: d.rate,
        limit: m.limit.min(1e12),
        baseline: m.usual,
        demand: d.share() * m.drift,
        cost_ms: d.cost * m.drift * 1e3,
        rise: if m.dearer { m.drift } else { d.rate / m.usual.max(0.1) },
        dearer: m.dearer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_not_mixed_with_what_would_have_been() {
        let mut r = Recorder::new(true);
        let second = |r: &mut Recorder, observe| {
            r.observe = observe;
            r.follow(Time::ZERO, &Level { refused: [0, 1, 0, 0], ..Level::default() });
            r.activations.back().map(|a| (a.observed, a.refused[1]))
        };
        r.begin(Time::ZERO, false, &Level::default(), &[]);
        assert_eq!((second(&mut r, true), second(&mut r, true)), (Some((true, 1)), Some((true, 2))));
        assert_eq!((second(&mut r, false), second(&mut r, false)), (Some((false, 1)), Some((false, 2))));
        assert_eq!(second(&mut r, true), Some((false, 2)));
    }

    #[test]
    fn a_rule_that_only_observes_does_nothing_to_anybody_and_does_not_say_so() {
        let told = |observe| {
            let mut r = Recorder::new(observe);
            r.begin(Time::from_millis(1000), false, &Level::default(), &[]);
            r.everything(Time::from_millis(2000), 0.99, 1.0);
            r.culprits = vec![Culprit::default()];
            r.follow(Time::from_millis(3000), &Level { tier: 1, room: 0.5, ..Level::default() });
            r.end(Time::from_millis(4000), "all is well");
            let text: Vec<String> = r.events.iter().map(|e| e.text.clone()).collect();
            (text.join("; "), r.activations.back().map(|a| a.observed))
        };
        let (does, observed) = told(false);
        assert!(does.contains("everything is held") && does.contains("nothing is held any more"), "{does}");
        assert!(does.contains("those held may use") && observed == Some(false), "{does}");
        let (would, observed) = told(true);
        assert!(would.contains("everything would be held"), "{would}");
        assert!(would.contains("those that would be held might use"), "{would}");
        assert!(would.contains("would have been refused in the last second"), "{would}");
        assert!(!would.contains("is held") && observed == Some(true), "{would}");
    }
}
