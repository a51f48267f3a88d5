use super::*;
use crate::rng::Rng;
use crate::route::Asked;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn hot(bound: Bound, most: u32, own: &[(&str, f64)], prev: Option<&Hot>) -> Hot {
    let overrides: BTreeMap<String, f64> = own.iter().map(|(v, b)| ((*v).to_owned(), *b)).collect();
    Hot::new(&LimitKey { by: KeyBy::Header("user".into()), most, overrides }, &bound, prev)
}

fn rate(per_second: f64, burst: u32) -> Bound {
    Bound::Rate(Rate { per_second, burst, max_wait: None, warm_up: None, reach: raddle_model::Reach::Local })
}

fn at(seconds: f64) -> Time {
    Time::from_nanos((seconds * 1e9) as u64)
}

fn pass(hot: &Hot, value: &str, now: Time, rng: &mut Rng) -> bool {
    hot.take(value.as_bytes(), now, rng).is_ok()
}

#[test]
fn a_million_values_in_bounded_memory_hot_ones_are_limited_right_and_rare_ones_untouched() {
    let hot = hot(rate(100.0, 100), 10_000, &[], None);
    let places = hot.table.places_in_all();
    let mut rng = Rng::new(3);
    let mut chance = Rng::new(4);
    let (mut rare_held, mut passed, mut offered) = (0u32, [0u32; 20], [0u32; 20]);
    // Ten seconds; twenty values come 1,000 times a second each, a million others once, all mixed.
    let total = 1_200_000u32;
    let mut rare = 0u32;
    for i in 0..total {
        let now = at(100.0 + 10.0 * f64::from(i) / f64::from(total));
        if chance.below(6) == 0 {
            let who = chance.below(20) as usize;
            offered[who] += 1;
            passed[who] += u32::from(pass(&hot, &format!("hot-{who}"), now, &mut rng));
        } else {
            rare += 1;
            rare_held += u32::from(!pass(&hot, &format!("rare-{rare}"), now, &mut rng));
        }
    }
    assert!(rare > 990_000 && rare_held == 0, "{rare_held} of {rare} rare ones were held");
    for who in 0..20 {
        assert!(offered[who] > 9_000);
        // 100 a second for ten seconds, and the burst; the bound is exact as long as it keeps its place.
        assert!((1_095..=1_101).contains(&passed[who]), "hot-{who}: {} of {}", passed[who], offered[who]);
    }
    assert_eq!(hot.table.places_in_all(), places, "not a byte more");
    let top = hot.table.top(at(110.0), 20);
    let mut names: Vec<_> = top.iter().map(|k| k.text.clone()).collect();
    names.sort();
    let mut wanted: Vec<_> = (0..20).map(|i| format!("hot-{i}")).collect();
    wanted.sort();
    assert_eq!(names, wanted, "the ones shown are the ones that come most often");
    assert!(top.iter().all(|k| (500.0..1_600.0).contains(&k.per_second)), "{top:?}");
}

#[test]
fn a_flood_that_fills_every_place_does_not_drive_out_who_comes_often() {
    // Each value has one request a minute, so that all of 200,000 values want a place at the same time.
    let hot = hot(rate(1.0 / 60.0, 1), 1_000, &[], None);
    let mut rng = Rng::new(5);
    let mut passed = 0;
    for i in 0..200_000u32 {
        let now = at(1000.0 + f64::from(i) / 10_000.0);
        assert!(pass(&hot, &format!("once-{i}"), now, &mut rng), "rare ones are never held");
        if i % 20 == 0 {
            passed += u32::from(pass(&hot, "often", now, &mut rng));
        }
    }
    assert!(passed <= 5, "{passed} of 10,000, where one may");
}

#[test]
fn as_many_values_as_there_are_places_for_are_nearly_all_limited() {
    // Every table has secrets of its own, so that which values meet in it is chance: ten tables together.
    const TABLES: usize = 10;
    for (values, most_wrong) in [(500u32, 3), (700, 15), (900, 120)] {
        let wrong: usize = (0..TABLES).map(|_| limited_wrongly(values)).sum();
        assert!(wrong <= TABLES * most_wrong, "{wrong} of {TABLES} times {values}");
    }
}

/// How many of so many values a table of a thousand places does not limit to just two requests.
fn limited_wrongly(values: u32) -> usize {
    let hot = hot(rate(1.0, 2), 1_000, &[], None);
    let mut rng = Rng::new(9);
    let mut passed = vec![0u32; values as usize];
    for round in 0..40u32 {
        for v in 0..values {
            let now = at(50.0 + f64::from(round) * 0.01);
            passed[v as usize] += u32::from(pass(&hot, &format!("v{v}"), now, &mut rng));
        }
    }
    passed.iter().filter(|p| **p != 2).count()
}

#[test]
fn values_with_a_bound_of_their_own_are_exact_whatever_else_comes() {
    let hot = hot(rate(10.0, 10), 8, &[("big", 1000.0), ("none", 0.0), ("half", 0.5)], None);
    let mut rng = Rng::new(1);
    let mut passed = [0u32; 3];
    for ms in 0..5000u32 {
        let now = at(10.0 + f64::from(ms) / 1000.0);
        for _ in 0..3 {
            for (n, value) in passed.iter_mut().zip(["big", "none", "half"]) {
                *n += u32::from(pass(&hot, value, now, &mut rng));
            }
            pass(&hot, &format!("other-{ms}"), now, &mut rng);
        }
    }
    assert!((5_995..=6_000).contains(&passed[0]), "1,000 a second and as much at once: {passed:?}");
    assert_eq!((passed[1], passed[2]), (0, 3));
}

#[test]
fn a_new_version_keeps_what_values_used() {
    let mut rng = Rng::new(1);
    let old = hot(rate(1.0, 5), 100, &[("own", 3.0)], None);
    for _ in 0..5 {
        assert!(pass(&old, "a", at(1.0), &mut rng));
    }
    for _ in 0..15 {
        assert!(pass(&old, "own", at(1.0), &mut rng));
    }
    let new = hot(rate(1.0, 5), 100, &[("b", 7.0), ("own", 3.0)], Some(&old));
    assert!(!pass(&new, "a", at(1.0), &mut rng) && !pass(&new, "own", at(1.0), &mut rng));
    let faster = hot(rate(100.0, 5), 100, &[], Some(&new));
    assert!(!pass(&faster, "a", at(1.0), &mut rng));
    assert!(pass(&faster, "a", at(2.1), &mut rng), "what it used at the old rate is forgotten soon");
    let larger = hot(rate(100.0, 5), 200, &[], Some(&faster));
    assert!(pass(&larger, "a", at(2.1), &mut rng), "a table of another size begins anew");
}

#[test]
fn every_kind_of_value_is_found() {
    let req = Asked {
        service: "s".into(),
        method: Some("GET".into()),
        headers: vec![("user".into(), "u1".into()), ("app".into(), "shop".into())],
        path: Some("/users/42//x?id=7".into()),
        ..Asked::default()
    };
    let found = |by: KeyBy| with_value(&by, &req, |v| String::from_utf8_lossy(v).into_owned());
    assert_eq!(found(KeyBy::Header("user".into())).as_deref(), Some("u1"));
    assert_eq!(found(KeyBy::Header("none".into())), None);
    assert_eq!(found(KeyBy::Query("id".into())).as_deref(), Some("7"));
    assert_eq!(found(KeyBy::PathPart(0)).as_deref(), Some("users"));
    assert_eq!(found(KeyBy::PathPart(1)).as_deref(), Some("42"));
    assert_eq!(found(KeyBy::PathPart(2)), None, "an empty part is none");
    assert_eq!(found(KeyBy::PathPart(9)), None);
    assert_eq!(found(KeyBy::CallerApp).as_deref(), Some("shop"));
    assert_eq!(found(KeyBy::Method).as_deref(), Some("GET"));
    assert_eq!(found(KeyBy::CallerIp), None);
    let mut text = Short { buffer: [0; 48], used: 0 };
    let longest: std::net::IpAddr = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().expect("an address");
    assert!(write!(text, "{longest}").is_ok() && text.bytes().len() == 39);
}

#[test]
fn long_values_are_told_apart_but_only_their_beginning_is_kept() {
    let hot = hot(rate(1.0, 1), 100, &[], None);
    let mut rng = Rng::new(1);
    let long = "x".repeat(100_000);
    assert!(pass(&hot, &format!("{long}1"), at(1.0), &mut rng));
    assert!(pass(&hot, &format!("{long}2"), at(1.0), &mut rng), "another one");
    assert!(!pass(&hot, &format!("{long}1"), at(1.0), &mut rng));
    let top = hot.table.top(at(1.0), 5);
    assert_eq!(top[0].text, format!("{}…", "x".repeat(table::SHOWN)));
    assert!(pass(&hot, &"y".repeat(table::SHOWN), at(1.0), &mut rng));
    assert!(hot.table.top(at(1.0), 5).iter().any(|k| k.text == "y".repeat(table::SHOWN)));
}

proptest! {
    #[test]
    fn a_value_that_keeps_its_place_never_passes_rate_times_time_plus_burst(
        per_second in 0.5f64..5_000.0, burst in 1u32..200,
        steps in prop::collection::vec((0u64..20_000_000, 0u8..20), 1..400),
    ) {
        let hot = hot(rate(per_second, burst), 1_000, &[], None);
        let (mut rng, mut now) = (Rng::new(2), 1_000_000_000u64);
        let mut passed: Vec<Vec<u64>> = vec![Vec::new(); 20];
        for (pause, who) in steps {
            now += pause;
            for _ in 0..4 {
                if pass(&hot, &format!("v{who}"), Time::from_nanos(now), &mut rng) {
                    passed[usize::from(who)].push(now);
                }
            }
        }
        for times in &passed {
            for (i, first) in times.iter().enumerate() {
                for (j, last) in times.iter().enumerate().skip(i) {
                    let bound = per_second * (last - first) as f64 / 1e9 + f64::from(burst) + 1e-6;
                    prop_assert!((j - i + 1) as f64 <= bound);
                }
            }
        }
    }

    #[test]
    fn places_in_use_are_never_taken_and_all_come_back(
        steps in prop::collection::vec((any::<bool>(), 0u16..200), 1..800),
    ) {
        let hot = hot(Bound::Concurrency(2), 16, &[("v3", 1.0)], None);
        let mut rng = Rng::new(2);
        let mut under_way: Vec<(u16, Took)> = Vec::new();
        for (begin, n) in steps {
            if begin {
                if let Ok(took) = hot.take(format!("v{n}").as_bytes(), at(1.0), &mut rng) {
                    under_way.push((n, took));
                }
            } else if !under_way.is_empty() {
                hot.done(under_way.swap_remove(usize::from(n) % under_way.len()).1);
            }
            let counted = under_way.iter().filter(|(_, took)| *took != Took::Nothing);
            let mut each: BTreeMap<u16, u32> = BTreeMap::new();
            counted.for_each(|(n, _)| *each.entry(*n).or_default() += 1);
            let most = |n: u16| if n == 3 { 1 } else { 2 };
            let bounded = each.iter().all(|(n, c)| *c <= most(*n));
            prop_assert!(bounded);
        }
        under_way.drain(..).for_each(|(_, took)| hot.done(took));
        for n in 0..200 {
            let left = hot.state(format!("v{n}").as_bytes(), at(1.0));
            prop_assert!(left.unwrap_or(0.0) < 1.0);
        }
    }
}

#[test]
fn values_that_may_be_secrets_are_not_shown() {
    let mut rng = Rng::new(1);
    for name in ["Authorization", "cookie", "x-api-key", "access_token", "X-Session-Id"] {
        let key = LimitKey { by: KeyBy::Header(name.into()), most: 100, overrides: BTreeMap::new() };
        let hot = Hot::new(&key, &rate(1.0, 1), None);
        assert!(
            pass(&hot, "Bearer abcdef", at(1.0), &mut rng) && !pass(&hot, "Bearer abcdef", at(1.0), &mut rng)
        );
        assert!(pass(&hot, "Bearer ghijkl", at(1.0), &mut rng), "they are told apart all the same");
        let top = hot.table.top(at(1.0), 5);
        assert!(top.iter().all(|k| k.text.starts_with('#') && k.text.len() == 9), "{top:?}");
        assert!(top.iter().any(|k| k.text == hot.shown(b"Bearer abcdef")));
    }
    let open = hot(rate(1.0, 1), 100, &[], None);
    assert_eq!(open.shown("é".repeat(50).as_bytes()).chars().last(), Some('…'));
}
