//! Rollouts over simulated time: harm is found within seconds, noise never is.
use proptest::prelude::*;
use raddle_core::share;
use raddle_model::{self as model, Guard, OnBreach, Stage};
use raddle_policy::Rng;
use raddle_policy::rollout::{
    Breach, Cohorts, Promote, Refusal, Rollout, Sample, Seen, State, Step, Waits, Watch,
};
use std::time::Duration;

const START: u64 = 1_700_000_000_000;

fn guard() -> Guard {
    Guard { error_rate: Some(0.01), p99_ratio: Some(1.5), min_requests: 50 }
}

fn plan(stages: &[(u32, u64)], guard: Option<Guard>, on_breach: OnBreach) -> model::Rollout {
    let stage = |&(percent, hold): &(u32, u64)| Stage {
        percent_ppm: percent * 10_000,
        hold: Duration::from_secs(hold),
    };
    model::Rollout { stages: stages.iter().map(stage).collect(), guard, on_breach }
}

fn guarded(stages: &[(u32, u64)]) -> model::Rollout {
    plan(stages, Some(guard()), OnBreach::Rollback)
}

fn counted(requests: u64, failures: u64) -> Sample {
    let mut sample = Sample::default();
    (sample.requests, sample.failures) = (requests, failures);
    sample
}

/// How requests of a cohort fare.
#[derive(Clone, Copy)]
struct Health {
    errors: f64,
    median_us: f64,
}

const WELL: Health = Health { errors: 0.002, median_us: 2000.0 };

/// A hundred sidecars that report each second, and a control plane that looks twice a second.
struct Sim {
    rollout: Rollout,
    watch: Watch,
    rng: Rng,
    now: u64,
    per_second: f64,
}

impl Sim {
    const SIDECARS: u32 = 100;

    fn new(plan: model::Rollout, per_second: f64, seed: u64) -> Sim {
        let rollout = Rollout::new(plan, None, START);
        Sim { rollout, watch: Watch::default(), rng: Rng::new(seed), now: START, per_second }
    }

    fn members(&self) -> u32 {
        let ppm = self.rollout.ppm();
        (0..Sim::SIDECARS).filter(|i| share("r-1", &format!("shop-{i}")) < ppm).count() as u32
    }

    fn requests(&mut self, sidecars: u32, health: Health) -> Sample {
        let mean = self.per_second * f64::from(sidecars) / f64::from(Sim::SIDECARS);
        let count = (mean * (0.7 + 0.6 * self.rng.unit()) + self.rng.unit()) as u64;
        let mut sample = counted(count, 0);
        for _ in 0..count {
            sample.failures += u64::from(self.rng.unit() < health.errors);
            // Box-Muller: latencies with a long tail.
            let (u, v) = (self.rng.unit().max(1e-12), self.rng.unit());
            let normal = (-2.0 * u.ln()).sqrt() * (v * std::f64::consts::TAU).cos();
            sample.latency(Sample::bucket((health.median_us * (0.8 * normal).exp()) as u64), 1);
        }
        sample
    }

    /// One second: reports come in, then it is looked at twice.
    fn second(&mut self, candidate: Health, rest: Health) -> Step {
        let members = self.members();
        let reported = Cohorts {
            candidate: self.requests(members, candidate),
            rest: self.requests(Sim::SIDECARS - members, rest),
        };
        self.watch.add(self.now, &reported);
        let mut last = Step::Stayed;
        for _ in 0..2 {
            self.watch.follow(&self.rollout);
            let windows = self.watch.windows(self.now);
            let stage_requests = self.watch.stage_requests();
            let seen = Seen { windows: &windows, stage_requests, expected: u64::from(members), refused: 0 };
            let step = self.rollout.tick(self.now, &seen);
            if step != Step::Stayed {
                last = step;
            }
            self.now += 500;
        }
        last
    }

    /// Seconds until it is rolled back; `None` = it was not in that time.
    fn rolled_back_within(&mut self, seconds: u64, candidate: Health, rest: Health) -> Option<u64> {
        (1..=seconds).find(|_| matches!(self.second(candidate, rest), Step::RolledBack(_)))
    }
}

#[test]
fn chance_alone_never_rolls_back() {
    for (i, errors) in [0.0, 0.0005, 0.005, 0.01, 0.03, 0.3].into_iter().enumerate() {
        let health = Health { errors, ..WELL };
        for (j, percent) in [5, 50, 95].into_iter().enumerate() {
            for per_second in [20.0, 500.0] {
                let plan = guarded(&[(percent, 86_400), (100, 60)]);
                let mut sim = Sim::new(plan, per_second, 1 + (i * 10 + j) as u64);
                let found = sim.rolled_back_within(1500, health, health);
                assert_eq!(
                    found,
                    None,
                    "{errors} failing at {percent} %, {per_second}/s: {:?}",
                    sim.rollout.state()
                );
            }
        }
    }
}

#[test]
fn great_harm_is_rolled_back_within_ten_seconds() {
    let harms = [
        ("every request fails", Health { errors: 1.0, median_us: 1000.0 }),
        ("half of them fail", Health { errors: 0.5, ..WELL }),
        ("one in ten fails", Health { errors: 0.1, ..WELL }),
        ("all are five times as slow", Health { median_us: 10_000.0, ..WELL }),
    ];
    for (what, harm) in harms {
        for seed in 0..20 {
            let mut sim = Sim::new(guarded(&[(10, 300), (100, 60)]), 500.0, seed);
            let found = sim.rolled_back_within(10, harm, WELL);
            assert!(found.is_some(), "{what}, seed {seed}: not within 10 s");
            assert_eq!(sim.rollout.ppm(), 0);
        }
    }
}

#[test]
fn harm_that_begins_later_is_found_as_fast() {
    for seed in 0..10 {
        let mut sim = Sim::new(guarded(&[(10, 3600), (100, 60)]), 500.0, seed);
        assert_eq!(sim.rolled_back_within(600, WELL, WELL), None);
        let found = sim.rolled_back_within(10, Health { errors: 0.3, ..WELL }, WELL);
        assert!(found.is_some(), "seed {seed}");
    }
}

#[test]
fn where_there_are_few_requests_harm_is_found_later_but_found() {
    // A few requests a second in the cohort: a verdict needs 50, which come within a minute.
    for seed in 0..10 {
        let mut sim = Sim::new(guarded(&[(3, 3600), (100, 60)]), 100.0, seed);
        assert!((1..6).contains(&sim.members()));
        let found = sim.rolled_back_within(60, Health { errors: 1.0, ..WELL }, WELL);
        assert!(found.is_some(), "seed {seed}");
    }
}

#[test]
fn an_outage_of_everyone_is_not_the_changes_fault() {
    let mut sim = Sim::new(guarded(&[(10, 3600), (100, 60)]), 500.0, 5);
    sim.rolled_back_within(60, WELL, WELL);
    let bad = Health { errors: 0.6, median_us: 50_000.0 };
    assert_eq!(sim.rolled_back_within(120, bad, bad), None);
}

#[test]
fn a_good_change_reaches_everyone_and_harm_at_the_last_stage_is_compared_with_before() {
    let stages = [(10, 30), (50, 30), (100, 60)];
    let mut sim = Sim::new(guarded(&stages), 500.0, 3);
    let mut reached = vec![sim.rollout.ppm()];
    for _ in 0..150 {
        if sim.second(WELL, WELL) != Step::Stayed {
            reached.push(sim.rollout.ppm());
        }
    }
    assert_eq!(reached, [100_000, 500_000, 1_000_000, 1_000_000]);
    assert_eq!(*sim.rollout.state(), State::Done);

    let mut sim = Sim::new(guarded(&stages), 500.0, 4);
    while sim.rollout.stage() < 2 {
        sim.second(WELL, WELL);
    }
    let slow = Health { median_us: 10_000.0, ..WELL };
    assert!(sim.rolled_back_within(10, slow, WELL).is_some(), "nobody is left to compare with but the past");
}

#[test]
fn without_anything_to_compare_with_the_limit_alone_counts() {
    let mut sim = Sim::new(guarded(&[(100, 60)]), 500.0, 1);
    assert!(sim.rolled_back_within(10, Health { errors: 0.2, ..WELL }, WELL).is_some());
    let mut sim = Sim::new(guarded(&[(100, 3600)]), 500.0, 1);
    assert_eq!(sim.rolled_back_within(600, Health { errors: 0.009, ..WELL }, WELL), None);
}

#[test]
fn time_alone_widens_nothing_that_a_guard_should_have_judged() {
    let mut rollout = Rollout::new(guarded(&[(10, 60), (100, 60)]), None, START);
    let silent = Seen { expected: 3, ..Seen::default() };
    let later = START + 3_600_000;
    assert_eq!(rollout.tick(later, &silent), Step::Stayed);
    assert_eq!(rollout.waits(later, &silent), Some(Waits::Requests(0, 50)));
    assert_eq!(rollout.tick(later, &Seen { stage_requests: 50, ..silent }), Step::Advanced);

    let mut rollout = Rollout::new(guarded(&[(1, 60), (100, 60)]), None, START);
    assert_eq!(rollout.tick(START + 59_999, &Seen::default()), Step::Stayed);
    assert_eq!(rollout.tick(START + 60_000, &Seen::default()), Step::Advanced, "nobody is in the cohort");

    let mut rollout = Rollout::new(plan(&[(10, 60), (100, 60)], None, OnBreach::Rollback), None, START);
    assert_eq!(rollout.tick(START + 60_000, &silent), Step::Finished, "no guard: over when everyone has it");
}

#[test]
fn a_change_that_sidecars_refuse_goes_back_even_without_a_guard() {
    let mut rollout = Rollout::new(plan(&[(10, 60), (100, 60)], None, OnBreach::Rollback), None, START);
    let seen = Seen { expected: 10, refused: 2, ..Seen::default() };
    assert_eq!(rollout.tick(START + 1, &seen), Step::RolledBack(Breach::Refused(2)));
    assert!(
        matches!(rollout.state(), State::RolledBack { why, by } if why == "2 sidecars refuse it" && by == "guard")
    );
}

#[test]
fn a_breach_that_pauses_stays_until_someone_decides() {
    let plan = plan(&[(10, 5), (100, 5)], Some(guard()), OnBreach::Pause);
    let mut sim = Sim::new(plan, 500.0, 9);
    let harm = Health { errors: 0.5, ..WELL };
    assert!((0..10).any(|_| matches!(sim.second(harm, WELL), Step::Paused(_))));
    for _ in 0..60 {
        assert_eq!(sim.second(harm, WELL), Step::Stayed);
    }
    assert_eq!(sim.rollout.ppm(), 100_000);
    assert_eq!(sim.rollout.pause("", "ann", sim.now), Err(Refusal::Paused));
    sim.rollout.resume(sim.now).expect("it was paused");
    assert!((0..10).any(|_| matches!(sim.second(harm, WELL), Step::Paused(_))), "the harm is still there");
    sim.rollout.resume(sim.now).expect("it was paused");
    let steps: Vec<Step> = (0..20).map(|_| sim.second(WELL, WELL)).filter(|s| *s != Step::Stayed).collect();
    assert_eq!(steps, [Step::Advanced, Step::Finished], "what was seen before the pause does not count");
}

#[test]
fn commands_that_do_not_fit_are_refused_and_change_nothing() {
    let mut rollout = Rollout::new(guarded(&[(10, 60), (100, 60)]), None, START);
    assert_eq!(rollout.resume(START), Err(Refusal::Running));
    rollout.undo("no", "ann", START).expect("it runs");
    let over = rollout.clone();
    assert_eq!(rollout.undo("", "", START), Err(Refusal::Over));
    assert_eq!(rollout.pause("", "", START), Err(Refusal::Over));
    assert_eq!(rollout.resume(START), Err(Refusal::Over));
    assert_eq!(rollout.promote(Promote::All, START), Err(Refusal::Over));
    assert_eq!(rollout.tick(START + 1_000_000_000, &Seen::default()), Step::Stayed);
    assert_eq!(rollout, over);
}

#[test]
fn a_rollout_goes_on_where_it_was_under_another_leader() {
    let mut sim = Sim::new(guarded(&[(10, 30), (50, 30), (100, 30)]), 500.0, 8);
    for _ in 0..200 {
        sim.second(WELL, WELL);
        if sim.now.is_multiple_of(7_000) {
            // What the store keeps is the state; what was seen is lost.
            let text = serde_json::to_string(&sim.rollout).expect("it can be kept");
            let back: Rollout = serde_json::from_str(&text).expect("it can be read");
            assert_eq!(back, sim.rollout);
            (sim.rollout, sim.watch) = (back, Watch::default());
        }
    }
    assert_eq!(*sim.rollout.state(), State::Done);
}

/// What may happen to a rollout.
#[derive(Clone, Debug)]
enum Event {
    Tick { later: i64, candidate: (u64, u64), rest: (u64, u64), refused: u64, expected: u64 },
    Pause,
    Resume,
    Undo,
    Promote(bool),
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    let counts = || (0u64..3000, 0u64..3000).prop_map(|(n, f)| (n, f.min(n)));
    prop_oneof![
        12 => (-5_000i64..90_000, counts(), counts(), prop_oneof![9 => Just(0u64), 1 => 1u64..4], 0u64..5).prop_map(
            |(later, candidate, rest, refused, expected)| Event::Tick { later, candidate, rest, refused, expected }
        ),
        1 => Just(Event::Pause),
        2 => Just(Event::Resume),
        1 => Just(Event::Undo),
        1 => any::<bool>().prop_map(Event::Promote),
        1 => Just(Event::Restart),
    ]
}

proptest! {
    #[test]
    fn a_share_falls_by_rollback_alone_and_harm_never_widens(
        events in prop::collection::vec(event(), 1..60),
        pause in any::<bool>(),
        watched in any::<bool>(),
    ) {
        let on_breach = if pause { OnBreach::Pause } else { OnBreach::Rollback };
        let plan = plan(&[(1, 20), (10, 30), (50, 0), (100, 60)], watched.then(guard), on_breach);
        let mut rollout = Rollout::new(plan, None, START);
        let mut now = START;
        for event in events {
            let before = rollout.ppm();
            let over = rollout.is_over();
            match event {
                Event::Tick { later, candidate, rest, refused, expected } => {
                    now = now.saturating_add_signed(later);
                    let sample = |(requests, failures)| counted(requests, failures);
                    let windows = [Cohorts { candidate: sample(candidate), rest: sample(rest) }];
                    let seen = Seen { windows: &windows, stage_requests: candidate.0, expected, refused };
                    let step = rollout.tick(now, &seen);
                    let great = watched && candidate.0 >= 50 && rest.0 >= 50
                        && candidate.1 * 2 > candidate.0 && rest.1 * 20 < rest.0;
                    if (refused > 0 || great) && !over {
                        prop_assert!(!matches!(step, Step::Advanced | Step::Finished), "{:?}", step);
                        prop_assert!(rollout.ppm() <= before);
                        prop_assert!(!matches!(rollout.state(), State::Running));
                    }
                }
                Event::Pause => drop(rollout.pause("", "ann", now)),
                Event::Resume => drop(rollout.resume(now)),
                Event::Undo => drop(rollout.undo("", "ann", now)),
                Event::Promote(all) => {
                    drop(rollout.promote(if all { Promote::All } else { Promote::Next }, now));
                }
                Event::Restart => {
                    let text = serde_json::to_string(&rollout).expect("it can be kept");
                    rollout = serde_json::from_str(&text).expect("it can be read");
                }
            }
            let back = matches!(rollout.state(), State::RolledBack { .. });
            prop_assert!(rollout.ppm() >= before || back, "{} after {before}", rollout.ppm());
            prop_assert!(!over || rollout.ppm() == before, "what is over stays");
            prop_assert_eq!(back, rollout.ppm() == 0);
        }
    }
}
