//! What adaptive limiting promises those it holds: how much passes over all workers, and who goes first.
mod limit_common;
use limit_common::app::*;
use proptest::prelude::*;
use raddle_policy::limit::adaptive::{Sample, View, Why};

const WHO: usize = 3;

/// What one worker's bucket holds at most, of a limit: so many seconds of its part, and two requests at least.
fn buckets(limit: f64, workers: usize) -> f64 {
    0.3 * limit + 2.0 * workers as f64
}

fn mixes() -> impl Strategy<Value = [f64; 4]> {
    (0.0..1.0f64, 0.1..1.0f64, 0.0..1.0f64)
        .prop_map(|(batch, normal, critical)| [0.0, batch, normal, critical])
}

/// How requests are spread over sixteen workers: some get nothing, some nearly all.
fn spread() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(prop_oneof![Just(0.0), 0.01..0.1f64, 0.5..1.0f64, Just(5.0)], 16)
}

fn spread_over(workers: usize, weights: &[f64]) -> Vec<f64> {
    let mut weights = weights[..workers].to_vec();
    if weights.iter().sum::<f64>() <= 0.0 {
        weights[0] = 1.0;
    }
    weights
}

proptest! {
    #![proptest_config(seeded(32))]

    /// In any window: the limits of its seconds, what the buckets hold at once, and a tenth of the critical. Whoever
    /// they come to, and whichever workers idle and return.
    #[test]
    fn all_gates_together_pass_no_more_than_the_limit_and_what_their_buckets_hold(
        seed in any::<u64>(), workers in 1usize..=16, surge in 10.0..50.0f64, mix in mixes(),
        phases in prop::collection::vec((spread(), 1u32..8), 1..6),
    ) {
        let mut app = App::new(&usual(12, 4.0, 0.6), 4.0, workers, seed);
        app.chance = true;
        app.seconds(40);
        app.kinds[WHO].rate *= surge;
        app.kinds[WHO].mix = mix;
        let mut view = app.seconds(3);
        // By second: what may pass, what passed, and how many of the critical came.
        let mut seconds: Vec<(f64, f64, f64)> = Vec::new();
        for (weights, n) in &phases {
            app.spread = vec![spread_over(workers, weights)];
            for _ in 0..*n {
                let limit = view.culprits.iter().find(|c| *c.name == *format!("i{WHO}")).map(|c| c.limit);
                let limit = limit.filter(|_| view.tier == 1);
                view = app.second();
                match limit {
                    Some(limit) => {
                        let tally = &app.seen[WHO];
                        seconds.push((limit, f64::from(tally.passes()), f64::from(tally.offered[3])));
                    }
                    None => seconds.clear(),
                }
                for from in 0..seconds.len() {
                    let window = &seconds[from..];
                    let sum = |f: fn(&(f64, f64, f64)) -> f64| window.iter().map(f).sum::<f64>();
                    let most = window.iter().map(|w| w.0).fold(0.0, f64::max);
                    // The critical may draw half a bucket in advance, and every tenth passes whatever there is.
                    let ahead = if mix[3] > 0.0 { 0.5 } else { 0.0 };
                    let bound = sum(|w| w.0) + (1.0 + ahead) * buckets(most, workers)
                        + 0.1 * sum(|w| w.2) + workers as f64 * ahead * 2.0;
                    prop_assert!(sum(|w| w.1) <= bound + 1.0,
                        "{} of {bound} in {} s with {workers} workers: {window:?}", sum(|w| w.1), window.len());
                }
            }
        }
    }

    /// When all is too much, who matters least goes first, and of the critical a tenth passes whatever happens.
    #[test]
    fn the_least_important_goes_first_and_the_critical_keep_a_tenth(
        seed in any::<u64>(), workers in 1usize..4, cores in 0.02..0.5f64,
        mixes in prop::collection::vec((mixes(), 0.0..0.3f64), 12),
    ) {
        let mut kinds = usual(12, 4.0, 0.6);
        for (kind, (mix, tests)) in kinds.iter_mut().zip(&mixes) {
            kind.mix = *mix;
            kind.mix[0] = *tests;
        }
        let mut app = App::new(&kinds, 4.0, workers, seed);
        app.chance = true;
        app.seconds(60);
        app.cores *= cores;
        let mut view = app.seconds(8);
        prop_assert!(view.active && view.tier == 2, "{:?} {:?}", view.level, view.culprits);
        let mut sums = vec![Tally::default(); 12];
        for _ in 0..20 {
            if view.tier != 2 {
                return Ok(());
            }
            view = app.second();
            sums.iter_mut().zip(&app.seen).for_each(|(sum, second)| sum.add(second));
        }
        let mut all = Tally::default();
        for (i, sum) in sums.iter().enumerate() {
            all.add(sum);
            let (came, guard) = (f64::from(sum.offered[3]), f64::from(sum.refused[Why::Guard as usize][3]));
            let least = 0.1 * (came - guard) - workers as f64;
            prop_assert!(f64::from(sum.passed[3]) >= least, "i{i}: {sum:?}");
        }
        let part = |class: usize| f64::from(all.passed[class]) / f64::from(all.offered[class].max(1));
        prop_assert!(all.passed[0] == 0, "{all:?}");
        for class in 1..3 {
            let (lower, higher) = (part(class), part(class + 1));
            prop_assert!(all.offered[class] < 50 || all.offered[class + 1] < 50 || lower <= higher + 0.05, "{all:?}");
            prop_assert!(all.offered[class + 1] < 50 || higher > 0.8 || lower < 0.1,
                "{class}: {lower} passes while of the next only {higher} does: {all:?}");
        }
    }

    /// In both tiers, who asks for more gets nothing of what others have.
    #[test]
    fn raising_one_demand_never_raises_anothers_share(
        seed in any::<u64>(), who in 0usize..12, more in 1.2..4.0f64, all in any::<bool>(),
    ) {
        let run = |more: f64| {
            let mut app = App::new(&usual(12, 4.0, 0.6), 4.0, 1, seed);
            app.seconds(60);
            if all {
                app.cores *= 0.4;
            } else {
                for i in 0..3 {
                    app.kinds[(who + i) % 12].rate *= 15.0;
                }
            }
            let view = app.seconds(12);
            app.kinds[who].rate *= more;
            let mut sums = vec![Tally::default(); 12];
            for _ in 0..15 {
                app.second();
                sums.iter_mut().zip(&app.seen).for_each(|(sum, second)| sum.add(second));
            }
            (view.tier, sums)
        };
        let ((tier, before), (again, after)) = (run(1.0), run(more));
        prop_assert_eq!(tier, again);
        prop_assert_eq!(tier, if all { 2 } else { 1 });
        for i in (0..12).filter(|i| *i != who) {
            let (b, a) = (f64::from(before[i].passes()), f64::from(after[i].passes()));
            prop_assert!(a <= 1.08 * b + 10.0, "i{i}: {b} before, {a} after i{who} asks for {more} times as much");
        }
    }
}

/// What a run's seconds are judged by: who was refused, and why, of every interface.
fn refusals(
    app: &mut App,
    seconds: u32,
    mut sample: impl FnMut(&mut App, Sample, u32) -> View,
) -> Vec<Vec<Tally>> {
    let second = |s| {
        let truth = app.serve();
        sample(app, truth, s);
        app.seen.clone()
    };
    (0..seconds).map(second).collect()
}

fn nonsense() -> impl Strategy<Value = Sample> {
    let odd = prop_oneof![
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(-1.0),
        Just(-0.0),
        Just(f64::MIN_POSITIVE),
        Just(-1e300),
    ];
    (odd.clone(), odd.clone(), odd.clone(), 0..3u8).prop_map(|(a, b, c, which)| {
        let sane = Sample { cpu: 2.4, cores: 4.0, ..Sample::default() };
        match which {
            0 => Sample {
                cpu: if a > 0.0 && a.is_finite() {
                    f64::NAN
                } else if a == 0.0 {
                    -1.0
                } else {
                    a
                },
                ..sane
            },
            1 => Sample { cores: if b > 0.0 && b.is_finite() { f64::NAN } else { b }, ..sane },
            _ => Sample { cpu: f64::NAN, cores: c, memory: Some(a), pressure: Some(b), throttled: Some(c) },
        }
    })
}

proptest! {
    #![proptest_config(seeded(24))]

    /// What cannot be is no sample: all goes on as without one. Twice at once, and late ones, change nothing at all.
    #[test]
    fn samples_that_cannot_be_are_none_and_duplicates_and_late_ones_change_nothing(
        seed in any::<u64>(), odd in prop::collection::vec(nonsense(), 1..6), surges in any::<bool>(), every in 2u32..9,
    ) {
        let run = |garbage: bool| {
            let mut app = App::new(&usual(12, 4.0, 0.6), 4.0, 2, seed);
            app.chance = true;
            let mut all = Vec::new();
            for phase in 0..2 {
                if phase == 1 && surges {
                    app.kinds[WHO].rate *= 20.0;
                }
                all.extend(refusals(&mut app, 40, |app, truth, s| {
                    let view = match (s % every == 0, garbage) {
                        (true, true) => app.tick(Some(&odd[s as usize % odd.len()])),
                        (true, false) => app.tick(None),
                        (false, _) => app.tick(Some(&truth)),
                    };
                    if garbage {
                        let over = Sample { cpu: 40.0, memory: Some(1.0), pressure: Some(1.0), ..truth };
                        app.tick(Some(&over));
                        let late = app.now() - std::time::Duration::from_secs(2);
                        app.controller.tick(late, None, Some(&over));
                        app.controller.tick(late, Some(u32::MAX), None);
                    }
                    view
                }));
            }
            all
        };
        prop_assert_eq!(run(true), run(false));
    }

    /// Parts of samples that cannot be are as if they were not known.
    #[test]
    fn parts_of_samples_that_cannot_be_are_not_known(
        seed in any::<u64>(), odd in prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -3.0]),
        surges in any::<bool>(),
    ) {
        let run = |odd: Option<f64>| {
            let mut app = App::new(&usual(12, 4.0, 0.6), 4.0, 2, seed);
            app.chance = true;
            refusals(&mut app, 90, |app, truth, s| {
                if s == 45 && surges {
                    app.kinds[WHO].rate *= 20.0;
                    app.kinds[WHO + 1].io += 0.3;
                }
                app.tick(Some(&Sample { memory: odd, pressure: odd, throttled: odd, ..truth }))
            })
        };
        prop_assert_eq!(run(Some(odd)), run(None));
    }

    /// One absurd second is forgotten: nobody is refused for it.
    #[test]
    fn one_sample_far_off_has_nobody_refused_in_an_ordinary_life(
        seed in any::<u64>(), cpu in prop::sample::select(vec![0.0, 1e3, 1e9, 1e300, f64::MAX]), io in 0.0..0.5f64,
        cores in prop::sample::select(vec![1e-300, 0.5, 1e6, 1e300]), which in any::<bool>(),
    ) {
        let mut kinds = usual(12, 4.0, 0.55);
        kinds.iter_mut().step_by(3).for_each(|k| k.io += io);
        let mut app = App::new(&kinds, 4.0, 2, seed);
        app.chance = true;
        let off = if which { Sample { cpu, ..Sample::default() } } else { Sample { cores, ..Sample::default() } };
        let all = refusals(&mut app, 120, |app, truth, s| {
            let odd = if which { Sample { cpu: off.cpu, ..truth } } else { Sample { cores: off.cores, ..truth } };
            app.tick(Some(if s == 50 { &odd } else { &truth }))
        });
        let refused: u32 = all.iter().flatten().map(|t| t.offers() - t.passes()).sum();
        prop_assert_eq!(refused, 0);
    }
}
