//! What adaptive limiting goes by when it must learn, and what it learns: without samples of the app's load, with costs
//! that the app tells, and by what came at this time of the week before.
mod limit_common;
use limit_common::app::*;
use proptest::prelude::*;
use raddle_policy::limit::adaptive::View;

/// The same seconds, but nothing can be read of the app.
fn blind(app: &mut App, seconds: u32) -> View {
    (0..seconds)
        .map(|_| {
            app.serve();
            app.tick(None)
        })
        .last()
        .expect("a second at least")
}

fn refused(app: &App) -> u32 {
    app.seen.iter().map(|t| t.offers() - t.passes()).sum()
}

proptest! {
    #![proptest_config(seeded(24))]

    /// Where nothing of the app can be read: it says so, and refuses nobody in an ordinary life, whatever its load.
    #[test]
    fn by_latency_alone_an_ordinary_life_is_left_alone(
        seed in any::<u64>(), part in 0.1..0.75f64, workers in 1usize..4, io in 0.0..0.3f64,
    ) {
        let mut kinds = usual(12, 4.0, part);
        kinds.iter_mut().step_by(2).for_each(|k| k.io += io);
        let mut app = App::new(&kinds, 4.0, workers, seed);
        app.chance = true;
        for _ in 0..150 {
            let view = blind(&mut app, 1);
            prop_assert_eq!(view.signal, "latency");
            prop_assert!(!view.active && refused(&app) == 0, "{:?}", view.level);
        }
    }

    /// And who surges far beyond what the app can do is found and held: all others pass, and their requests are not
    /// late by more than a few seconds' queue.
    #[test]
    fn by_latency_alone_who_surges_is_held_and_nobody_else(
        seed in any::<u64>(), who in 0usize..12, times in 20.0..60.0f64, workers in 1usize..4,
    ) {
        let mut app = App::new(&usual(12, 4.0, 0.6), 4.0, workers, seed);
        app.chance = true;
        blind(&mut app, 90);
        app.kinds[who].rate *= times;
        blind(&mut app, 12);
        let (mut passed, mut innocent, mut offered) = (0, 0, 0);
        for _ in 0..30 {
            blind(&mut app, 1);
            for (i, tally) in app.seen.iter().enumerate() {
                if i == who {
                    passed += tally.passes();
                } else {
                    (innocent, offered) = (innocent + tally.passes(), offered + tally.offers());
                }
            }
        }
        prop_assert!(f64::from(innocent) >= 0.99 * f64::from(offered), "{innocent} of {offered}");
        prop_assert!(f64::from(passed) >= 30.0 * 20.0 * 0.8, "nearly what is usual at least: {passed}");
    }

    /// What the app says of its costs is taken for true, whatever its CPU seems to say.
    #[test]
    fn costs_that_the_app_tells_override_what_was_learned(
        seed in any::<u64>(), costs in prop::collection::vec((0.5..20.0f64, 0.0..0.2f64), 8), workers in 1usize..4,
    ) {
        let mut kinds: Vec<Asked> = costs.iter().map(|(ms, io)| Asked::new(20.0, ms / 1e3, *io)).collect();
        let whole: f64 = kinds.iter().map(|k| k.rate * k.cost).sum();
        for k in &mut kinds {
            k.rate *= 2.4 / whole;
        }
        let mut app = App::new(&kinds, 4.0, workers, seed);
        app.chance = true;
        app.seconds(40);
        app.says = true;
        let view = app.seconds(40);
        for (i, kind) in kinds.iter().enumerate().filter(|(_, k)| k.rate > 1.0) {
            let Some(top) = view.top.iter().find(|t| *t.name == *format!("i{i}")) else { continue };
            let truth = kind.cost * 1e3;
            prop_assert!((top.cost_ms - truth).abs() <= 0.02 * truth + 0.002, "i{i}: {} of {truth}", top.cost_ms);
        }
    }

    /// With costs told: whose calls become dear is found, and who only waits longer for others is not.
    #[test]
    fn with_costs_told_the_dear_one_is_held_and_not_the_one_that_waits(
        seed in any::<u64>(), times in 12.0..30.0f64, wait in 0.05..0.4f64, who in 0usize..12, off in 1usize..12,
    ) {
        let waits = (who + off) % 12;
        let mut app = App::new(&usual(12, 4.0, 0.6), 4.0, 2, seed);
        (app.chance, app.says) = (true, true);
        app.seconds(90);
        app.kinds[who].cost *= times;
        app.kinds[waits].io += wait;
        let mut ever = false;
        for _ in 0..25 {
            let view = app.second();
            let names = held(&view);
            prop_assert!(!names.contains(&format!("i{waits}")), "{names:?}");
            ever |= names == [format!("i{who}")];
        }
        prop_assert!(ever, "{:?}", app.events.iter().map(|e| &e.text).collect::<Vec<_>>());
    }

    /// Waiting for others makes nobody a culprit: the same are held as without.
    #[test]
    fn waiting_for_others_changes_no_culprit_set(
        seed in any::<u64>(), who in 0usize..12, off in 1usize..12, wait in 0.02..0.6f64, times in 15.0..40.0f64,
        at_once in any::<bool>(),
    ) {
        let run = |wait: f64| {
            let mut kinds = usual(12, 4.0, 0.6);
            let waits = (who + off) % 12;
            if !at_once {
                kinds[waits].io += wait;
            }
            let mut app = App::new(&kinds, 4.0, 2, seed);
            app.seconds(90);
            if at_once {
                app.kinds[waits].io += wait;
            }
            app.kinds[who].rate *= times;
            (0..12).map(|_| held(&app.second())).collect::<Vec<_>>()
        };
        let (without, with) = (run(0.0), run(wait));
        // It may be found a second sooner or later.
        prop_assert_eq!(without.last(), with.last());
        prop_assert!(with.iter().all(|s| s.is_empty() || Some(s) == without.last()), "{with:?}");
    }

    /// Whatever numbers interfaces have, the same become culprits at the same time. Costs are told here: the
    /// regression learns them in the order of numbers, and is not yet done when all comes evenly.
    #[test]
    fn permuting_ids_permutes_what_is_decided(
        seed in any::<u64>(), turn in 1usize..12, who in 0usize..12, also in 0usize..12, times in 8.0..40.0f64,
        dear in any::<bool>(),
    ) {
        let run = |turn: usize| {
            let mut kinds = usual(12, 4.0, 0.6);
            kinds.rotate_left(turn);
            let at = |i: usize| (i + 12 - turn) % 12;
            let mut app = App::new(&kinds, 4.0, 1, seed);
            app.order = (0..12).map(at).collect();
            app.says = true;
            app.seconds(60);
            app.kinds[at(who)].rate *= times;
            app.kinds[at(also)].rate *= 6.0;
            if dear {
                app.kinds[at(also)].cost *= 10.0;
            }
            let second = |view: View| {
                let id = |n: &str| (n[1..].parse::<usize>().expect("a number") + turn) % 12;
                let mut ids: Vec<usize> = view.culprits.iter().map(|c| id(&c.name)).collect();
                ids.sort_unstable();
                (view.tier, ids)
            };
            (0..15).map(|_| second(app.second())).collect::<Vec<_>>()
        };
        prop_assert_eq!(run(0), run(turn));
    }

    /// So many times the cores with so many times the load: the same is decided.
    #[test]
    fn scaling_cores_and_load_together_changes_no_decision(
        seed in any::<u64>(), factor in 2u32..6, who in 0usize..12, times in 12.0..40.0f64, few in any::<bool>(),
    ) {
        let run = |factor: f64| {
            let mut kinds = usual(12, 4.0, 0.6);
            for k in &mut kinds {
                k.rate *= factor;
            }
            let mut app = App::new(&kinds, 4.0 * factor, 2, seed);
            app.seconds(60);
            if few {
                app.cores *= 0.4;
            } else {
                app.kinds[who].rate *= times;
            }
            let last = (0..15).map(|_| app.second()).last().expect("seconds");
            (last.active, last.tier, held(&last))
        };
        prop_assert_eq!(run(1.0), run(f64::from(factor)));
    }
}

/// Two interfaces of few dear requests, and one that is high for a quarter of an hour. Minutes are of the clock's own.
fn quarter(app: &mut App, minute: u32, factor: f64) {
    let usual = app.kinds[0].rate;
    app.kinds[0].rate *= factor;
    for m in minute..minute + 15 {
        app.minute = Some(m % 10_080);
        app.seconds(60);
    }
    app.kinds[0].rate = usual;
}

/// A second interface rises in the same minutes as the first, until something is held: who is it?
fn whose_fault(learned: bool) -> Vec<String> {
    let kinds = [Asked::new(4.0, 0.06, 0.0), Asked::new(5.0, 0.06, 0.0), Asked::new(10.0, 0.06, 0.0)];
    let mut app = App::new(&kinds, 4.0, 1, 3);
    app.minute = Some(585);
    quarter(&mut app, 585, 1.0);
    quarter(&mut app, 600, if learned { 8.0 } else { 1.0 });
    assert!(!app.controller.view().active, "high, but there is enough");
    // It is forgotten by all means, but for that of the week.
    for hour in 0..4 {
        for slot in 0..4 {
            quarter(&mut app, 615 + hour * 60 + slot * 15, 1.0);
        }
    }
    for m in 595..600 {
        app.minute = Some(m);
        app.seconds(60);
    }
    app.minute = Some(600);
    app.kinds[0].rate *= 8.0;
    app.kinds[1].rate *= 6.0;
    let mut names: Vec<String> = Vec::new();
    for _ in 0..20 {
        names.extend(held(&app.second()));
    }
    names.sort();
    names.dedup();
    names
}

#[test]
fn what_came_at_this_time_of_the_week_before_is_no_rise() {
    let (with, without) = (whose_fault(true), whose_fault(false));
    assert_eq!(with, ["i1"], "the first comes every week");
    assert!(without.contains(&"i0".to_owned()), "who would not be known otherwise: {without:?}");
}
