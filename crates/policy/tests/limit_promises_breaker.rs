//! What circuit breakers promise, in any order of calls, ends and workers.
mod limit_common;
use limit_common::app::seeded;
use limit_common::*;
use proptest::prelude::*;
use raddle_core::Time;
use raddle_policy::Rng;
use raddle_policy::limit::breaker::{Call, Event, Outcome, State};
use raddle_policy::limit::{Breakers, Held};
use std::time::Duration;

const OPEN_FOR: Duration = Duration::from_secs(1);
const MOST_OPEN_FOR: Duration = Duration::from_secs(4);
/// Probes that do not end give way after this.
const PATIENCE: Duration = Duration::from_secs(10);

/// Something that happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A worker begins a call.
    Begin(usize),
    /// One of those under way ends.
    End(usize, Outcome),
    /// So many milliseconds go by.
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (fast, slow) = (Duration::from_millis(5), Duration::from_secs(3));
    let outcome = prop::sample::select(vec![
        Outcome::Failed(fast),
        Outcome::Failed(slow),
        Outcome::Answered(fast),
        Outcome::Answered(fast),
        Outcome::Answered(slow),
        Outcome::Unknown,
    ]);
    prop_oneof![
        6 => (0..4usize).prop_map(Step::Begin),
        // Those that began last end first, mostly: some stay under way for long.
        5 => (prop_oneof![4 => 0..2usize, 1 => 0..50usize], outcome).prop_map(|(i, o)| Step::End(i, o)),
        2 => prop_oneof![3 => 1..100u64, 2 => 100..2_000u64, 1 => 2_000..12_000u64].prop_map(Step::Wait),
    ]
}

/// Workers that share breakers of one endpoint.
struct Crew {
    workers: Vec<Breakers>,
    rng: Rng,
}

impl Crew {
    fn new(spec: &str) -> Crew {
        let rules = rules(&[("CircuitBreaker", "b", spec)], None);
        let worker = |w| {
            let mut breakers = Breakers::new(w, 4);
            breakers.sync(&rules);
            breakers
        };
        Crew { workers: (0..4).map(worker).collect(), rng: Rng::new(5) }
    }

    fn begin(&mut self, w: usize, now: Time) -> (Result<Call, Held>, Vec<Event>) {
        let worker = &mut self.workers[w];
        let begun = worker.begin(&request("s", "m", &[]), now, &mut self.rng).map(|(call, _)| call);
        let entered = begun.and_then(|call| {
            match worker.enter(&call, ([10, 0, 0, 1], 80).into(), now, &mut self.rng) {
                Ok(_) => Ok(call),
                Err(held) => {
                    worker.end(call, Outcome::Unknown, now, &mut self.rng);
                    Err(held)
                }
            }
        });
        (entered, worker.events().collect())
    }

    fn end(&mut self, w: usize, call: Call, outcome: Outcome, now: Time) -> Vec<Event> {
        self.workers[w].end(call, outcome, now, &mut self.rng);
        self.workers[w].events().collect()
    }
}

/// What it must be, by what it told.
struct Model {
    state: State,
    /// How often it changed, or began with probes anew; since when it is what it is, and the first probe is under way.
    changes: u32,
    since: Time,
    first: Time,
    /// Probes let through in this round that may still say something, or did.
    probes: u32,
}

impl Model {
    fn hears(&mut self, events: &[Event], now: Time) {
        for event in events {
            (self.state, self.since) = (event.state, now);
            self.changes += 1;
            self.probes = 0;
        }
    }

    /// Whether a call must pass, must not, or may.
    fn passes(&self, probes: u32, now: Time) -> Option<bool> {
        match self.state {
            State::Closed => Some(true),
            State::Open if now.since(self.since) < OPEN_FOR => Some(false),
            State::Open => (now.since(self.since) > MOST_OPEN_FOR).then_some(true),
            State::HalfOpen => Some(self.probes < probes || now.since(self.first) >= PATIENCE),
        }
    }
}

proptest! {
    #![proptest_config(seeded(256))]

    /// Closed, all pass; open, none; half open, exactly so many. What a call says that began before the breaker last
    /// changed, counts for nothing: had it said nothing, all would be the same.
    #[test]
    fn exactly_so_many_probes_pass_and_late_replies_never_count(
        by in prop::sample::select(vec![
            "consecutiveErrors: 3", "errorRatio: 0.5, minCalls: 4", "slowRatio: 0.5, slowAfter: 1s, minCalls: 4",
            "consecutiveErrors: 2, errorRatio: 0.7, minCalls: 6, slowRatio: 0.6, slowAfter: 1s",
        ]),
        per in prop::sample::select(vec!["endpoint", "service", "method"]),
        probes in 1u32..6, passes in 1u32..6, steps in prop::collection::vec(step(), 50..500),
    ) {
        let spec = format!(
            "{{{by}, per: {per}, probes: {probes}, passes: {}, openFor: 1s, maxOpenFor: 4s, window: 2s}}",
            passes.min(probes)
        );
        let (mut heard, mut silent) = (Crew::new(&spec), Crew::new(&spec));
        let mut model = Model {
            state: State::Closed, changes: 0, since: Time::ZERO, first: Time::ZERO, probes: 0,
        };
        let mut under_way: Vec<(usize, u32, Call, Call)> = Vec::new();
        let mut now = at(100.0);
        for step in steps {
            match step {
                Step::Wait(ms) => now = now + Duration::from_millis(ms),
                Step::Begin(w) => {
                    let must = model.passes(probes, now);
                    let ((a, told), (b, same)) = (heard.begin(w, now), silent.begin(w, now));
                    prop_assert_eq!(&told, &same, "what is late was heard");
                    prop_assert_eq!(a.as_ref().err(), b.as_ref().err(), "what is late was heard");
                    prop_assert!(must.is_none_or(|must| must == a.is_ok()),
                        "{:?} after {} of {probes} probes: {:?}", model.state, model.probes, a.err());
                    model.hears(&told, now);
                    if let (Ok(a), Ok(b)) = (a, b) {
                        if model.state == State::HalfOpen {
                            if model.probes >= probes {
                                (model.probes, model.changes) = (0, model.changes + 1);
                            }
                            if model.probes == 0 {
                                model.first = now;
                            }
                            model.probes += 1;
                        }
                        under_way.push((w, model.changes, a, b));
                    }
                }
                Step::End(back, outcome) => {
                    let Some(i) = under_way.len().checked_sub(1 + back % under_way.len().max(1)) else { continue };
                    let (w, began, a, b) = under_way.remove(i);
                    let late = began != model.changes;
                    let told = heard.end(w, a, outcome, now);
                    let same = silent.end(w, b, if late { Outcome::Unknown } else { outcome }, now);
                    prop_assert_eq!(&told, &same, "what is late was heard");
                    if !late && model.state == State::HalfOpen && outcome == Outcome::Unknown {
                        model.probes -= 1;
                    }
                    model.hears(&told, now);
                }
            }
        }
    }
}

#[test]
fn calls_that_were_stuck_when_it_opened_do_not_open_it_again_when_they_time_out() {
    let mut crew = Crew::new("{consecutiveErrors: 3, probes: 1, passes: 1, openFor: 1s, maxOpenFor: 4s}");
    let failed = Outcome::Failed(Duration::from_millis(5));
    let stuck: Vec<Call> = (0..50).map(|_| crew.begin(0, at(1.0)).0.expect("closed")).collect();
    for _ in 0..3 {
        let call = crew.begin(1, at(1.0)).0.expect("closed");
        crew.end(1, call, failed, at(1.1));
    }
    assert!(crew.begin(1, at(1.5)).0.is_err());
    let probe = crew.begin(2, at(4.0)).0.expect("half open");
    crew.end(2, probe, Outcome::Answered(Duration::from_millis(5)), at(4.1));
    for call in stuck {
        assert_eq!(crew.end(0, call, Outcome::Failed(Duration::from_secs(30)), at(31.0)), []);
    }
    assert!(crew.begin(1, at(31.0)).0.is_ok());
}
