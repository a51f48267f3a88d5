//! What adaptive limiting promises, driven through its public parts by a small app of its own.
use proptest::prelude::*;
use raddle_core::Time;
use raddle_model::{AdaptiveSettings, Priority};
use raddle_policy::Rng;
use raddle_policy::limit::adaptive::{Board, Controller, Gate, Sample, View, Why};
use std::sync::Arc;
use std::time::Duration;

const MARKED: Priority = Priority::LoadTest;

/// An app whose requests take their cost and, when more is asked than it has, as much longer as all of them wait.
struct App {
    gates: Vec<Gate>,
    controller: Controller,
    rng: Rng,
    now: u64,
    cores: f64,
    /// Requests a second, CPU seconds and seconds of waiting of each interface.
    kinds: Vec<(f64, f64, f64)>,
    ids: Vec<u32>,
    marked: f64,
    owed: Vec<f64>,
    backlog: f64,
    /// Of the last second, by interface: offered and let through; by reason: refused.
    offered: Vec<u32>,
    passed: Vec<u32>,
    refused: [u32; 4],
}

impl App {
    fn new(kinds: &[(f64, f64, f64)], cores: f64, workers: usize) -> App {
        let settings = AdaptiveSettings::default();
        let board = Arc::new(Board::new(workers, &settings));
        App {
            ids: (0..kinds.len()).map(|i| board.id(&format!("i{i}"))).collect(),
            gates: (0..workers).map(|w| Gate::new(board.clone(), w)).collect(),
            controller: Controller::new(board, &settings),
            rng: Rng::new(7),
            now: 1_000_000_000,
            cores,
            kinds: kinds.to_vec(),
            marked: 0.0,
            owed: vec![0.0; kinds.len()],
            backlog: 0.0,
            offered: vec![0; kinds.len()],
            passed: vec![0; kinds.len()],
            refused: [0; 4],
        }
    }

    /// A second of requests, evenly; their ends a step after they are done; at its end this sample, made of the truth.
    fn second(&mut self, sample: impl FnOnce(Sample) -> Option<Sample>) -> View {
        const STEPS: u32 = 50;
        let n = self.kinds.len();
        (self.offered, self.passed, self.refused) = (vec![0; n], vec![0; n], [0; 4]);
        let mut used = 0.0;
        let mut ends: Vec<(u32, usize, usize, f64)> = Vec::new();
        for step in 0..STEPS {
            self.now += 1_000_000_000 / u64::from(STEPS);
            let now = Time::from_nanos(self.now);
            let wait = self.backlog / self.cores;
            for i in 0..n {
                let (rate, cost, io) = self.kinds[i];
                self.owed[i] += rate / f64::from(STEPS);
                while self.owed[i] >= 1.0 {
                    self.owed[i] -= 1.0;
                    let worker = self.rng.below(self.gates.len() as u32) as usize;
                    let priority = if self.rng.unit() < self.marked { MARKED } else { Priority::Normal };
                    self.offered[i] += 1;
                    match self.gates[worker].admit(self.ids[i], priority, now, &mut self.rng) {
                        Ok(()) => {
                            self.passed[i] += 1;
                            self.backlog += cost;
                            let latency = wait + cost + io;
                            ends.push((
                                step + (latency * f64::from(STEPS)).ceil() as u32,
                                worker,
                                i,
                                latency,
                            ));
                        }
                        Err(why) => self.refused[why as usize] += 1,
                    }
                }
            }
            let work = self.backlog.min(self.cores / f64::from(STEPS));
            (self.backlog, used) = (self.backlog - work, used + work);
            let gates = &mut self.gates;
            let ids = &self.ids;
            ends.retain(|&(at, worker, i, latency)| {
                let over = at <= step;
                if over {
                    gates[worker].complete(ids[i], Duration::from_secs_f64(latency), None, false);
                }
                !over
            });
        }
        for (_, worker, i, latency) in ends {
            self.gates[worker].complete(self.ids[i], Duration::from_secs_f64(latency), None, false);
        }
        let sample = sample(Sample { cpu: used, cores: self.cores, ..Sample::default() });
        self.controller.tick(Time::from_nanos(self.now), None, sample.as_ref());
        self.controller.view()
    }

    fn seconds(&mut self, n: u32) -> View {
        (0..n).map(|_| self.second(Some)).last().expect("a second at least")
    }
}

/// Twenty interfaces that use 60 % of four cores.
fn kinds() -> Vec<(f64, f64, f64)> {
    (0..20).map(|i| (20.0, 0.004 + 0.0002 * f64::from(i), 0.002)).collect()
}

fn held(view: &View) -> Vec<String> {
    let mut names: Vec<String> = view.culprits.iter().map(|c| c.name.to_string()).collect();
    names.sort();
    names
}

#[test]
fn an_ordinary_life_is_left_alone() {
    let mut app = App::new(&kinds(), 4.0, 2);
    for _ in 0..300 {
        let view = app.second(Some);
        assert!(!view.active && app.refused == [0; 4], "{:?}", view.level);
    }
}

#[test]
fn who_surges_is_held_and_nobody_else() {
    let mut app = App::new(&kinds(), 4.0, 2);
    app.seconds(120);
    app.kinds[3].0 *= 25.0;
    app.seconds(3);
    for _ in 0..60 {
        let view = app.second(Some);
        assert_eq!(held(&view), ["i3"]);
        for i in (0..20).filter(|i| *i != 3) {
            assert_eq!(app.offered[i], app.passed[i], "interface {i}");
        }
        assert!(app.passed[3] >= 20, "at least what is usual for it: {}", app.passed[3]);
        assert!(view.level.cpu < 0.9, "{:?}", view.level);
    }
}

#[test]
fn when_the_surge_is_over_nothing_is_held_any_more() {
    let mut app = App::new(&kinds(), 4.0, 2);
    app.seconds(120);
    app.kinds[3].0 *= 25.0;
    app.seconds(20);
    app.kinds[3].0 /= 25.0;
    app.seconds(5);
    for _ in 0..10 {
        app.second(Some);
        assert_eq!(app.refused, [0; 4]);
    }
    assert!(!app.seconds(60).active);
}

#[test]
fn load_tests_are_at_nothing_before_anybody_else_is_held() {
    let mut app = App::new(&kinds(), 4.0, 1);
    app.seconds(120);
    app.marked = 0.6;
    app.kinds.iter_mut().for_each(|k| k.0 *= 2.5);
    for _ in 0..30 {
        app.second(Some);
        assert_eq!(app.refused[Why::Culprit as usize] + app.refused[Why::Overload as usize], 0);
    }
    assert!(app.refused[Why::Marked as usize] > 0);
}

#[test]
fn without_anybody_to_blame_everything_is_shared_and_the_machine_stays_busy() {
    let mut app = App::new(&kinds(), 4.0, 2);
    app.seconds(120);
    app.cores = 2.0;
    let view = app.seconds(10);
    assert_eq!(view.tier, 2, "{:?}", view.level);
    let mut passed = 0.0;
    for _ in 0..30 {
        app.second(Some);
        passed += app.passed.iter().zip(&app.kinds).map(|(n, k)| f64::from(*n) * k.1).sum::<f64>();
    }
    assert!(passed / 30.0 > 0.9 * 2.0, "{passed}");
}

#[test]
fn duplicate_late_and_nan_samples_raise_no_rejects() {
    let nan = |s: Sample| Some(Sample { cpu: f64::NAN, ..s });
    let odd: [fn(Sample) -> Option<Sample>; 4] = [
        |_| None,
        |s| Some(Sample { cores: f64::INFINITY, ..s }),
        |s| Some(Sample { cpu: -1.0, ..s }),
        |s| Some(Sample { memory: Some(f64::NAN), ..s }),
    ];
    let mut app = App::new(&kinds(), 4.0, 2);
    app.seconds(60);
    for sample in odd {
        for _ in 0..20 {
            app.second(sample);
            app.controller.tick(
                Time::from_nanos(app.now),
                None,
                Some(&Sample { cpu: 9.0, cores: 4.0, ..Sample::default() }),
            );
            assert_eq!(app.refused, [0; 4]);
        }
        app.second(nan);
        assert!(!app.seconds(5).active);
    }
}

#[test]
fn without_samples_for_long_what_is_held_is_let_go() {
    let mut app = App::new(&kinds(), 4.0, 2);
    app.seconds(120);
    app.kinds[3].0 *= 25.0;
    assert!(app.seconds(10).active);
    let view = (0..40).map(|_| app.second(|_| None)).last().expect("a second");
    assert_eq!((view.active, view.signal), (false, "stale"));
}

#[test]
fn settings_change_without_what_was_learned_being_lost() {
    let mut app = App::new(&kinds(), 4.0, 2);
    app.seconds(120);
    let before = app.controller.view().top;
    app.controller.configure(&AdaptiveSettings { threshold: 0.7, ..AdaptiveSettings::default() });
    let view = app.seconds(1);
    assert!((view.level.theta - 0.7).abs() < 1e-9);
    assert!((view.top[0].baseline - before[0].baseline).abs() < 1.0);
}

#[test]
fn the_trim_moves_down_by_18_percent_and_up_by_5_a_second_at_most() {
    let mut app = App::new(&kinds(), 4.0, 2);
    app.seconds(120);
    app.kinds[3].0 *= 20.0;
    let levels: Vec<_> = (0..60)
        .map(|t| {
            app.kinds[3].0 = if t % 10 < 5 { 400.0 } else { 200.0 };
            app.second(Some).level
        })
        .collect();
    for pair in levels.windows(2).filter(|p| p[0].tier == 1 && p[1].tier == 1) {
        let ratio = pair[1].g / pair[0].g;
        assert!((0.818..1.052).contains(&ratio), "{ratio}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn permuting_ids_permutes_the_output(who in 0usize..20, turn in 0usize..20) {
        let run = |shift: usize| {
            let mut all = kinds();
            all.rotate_left(shift);
            let at = (who + 20 - shift) % 20;
            let mut app = App::new(&all, 4.0, 1);
            app.seconds(60);
            app.kinds[at].0 *= 25.0;
            held(&app.seconds(6)).iter().map(|n| (n[1..].parse::<usize>().expect("a number") + shift) % 20).collect::<Vec<_>>()
        };
        prop_assert_eq!(run(0), run(turn));
    }

    #[test]
    fn scaling_cores_and_load_together_changes_no_decision(factor in 1u32..4) {
        let run = |factor: f64| {
            let all: Vec<_> = kinds().iter().map(|k| (k.0 * factor, k.1, k.2)).collect();
            let mut app = App::new(&all, 4.0 * factor, 1);
            app.seconds(60);
            app.kinds[3].0 *= 25.0;
            held(&app.seconds(6))
        };
        prop_assert_eq!(run(1.0), run(f64::from(factor)));
    }

    #[test]
    fn waiting_for_others_makes_nobody_a_culprit(wait in 0.0..0.4f64, who in 4usize..20) {
        let mut app = App::new(&kinds(), 4.0, 1);
        app.seconds(120);
        app.kinds[who].2 += wait;
        app.kinds[3].0 *= 25.0;
        prop_assert_eq!(held(&app.seconds(6)), ["i3"]);
    }
}
