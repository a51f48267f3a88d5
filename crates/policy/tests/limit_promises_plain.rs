//! What the plain limits promise, asked through the chain as the proxy asks it.
mod limit_common;
use limit_common::app::seeded;
use limit_common::*;
use proptest::prelude::*;
use raddle_core::Time;
use raddle_policy::Asked;
use raddle_policy::limit::{Local, Rules, Ticket};
use std::sync::Arc;

/// A request; those `refused` are so by a rule after the one in question.
fn asks(method: &str, refused: bool) -> Asked {
    request("s", method, if refused { &[("x", "1"), ("user", "u")] } else { &[("user", "u")] })
}

/// The last link of the chain is pacing: this refuses what is marked so.
const LAST: (&str, &str) = ("z-last", "{when: {header: {x: '1'}}, rate: 0, maxWait: 1s}");

/// Who asks, after how many nanoseconds, how often, and which of them are refused by a later rule: one in so many.
type Step = (usize, u64, u32, u32);

fn steps(pause: u64, longest: usize) -> impl Strategy<Value = Vec<Step>> {
    let pause = prop_oneof![4 => 0..pause, 1 => Just(0), 1 => 0..pause * 50];
    prop::collection::vec((0usize..16, pause, 1u32..40, prop_oneof![Just(u32::MAX), 1u32..5]), 1..longest)
}

/// When requests leave, in nanoseconds: those let through, after their wait.
fn run(
    rules: &Arc<Rules>,
    workers: usize,
    steps: &[Step],
    mut each: impl FnMut(usize, &mut Vec<Local>),
) -> Vec<u64> {
    let mut crew = crew(rules, workers);
    let (mut now, mut left, mut n) = (1_000_000_000u64, Vec::new(), 0u32);
    for (s, (worker, pause, asked, refused)) in steps.iter().enumerate() {
        now += pause;
        each(s, &mut crew);
        for _ in 0..*asked {
            n += 1;
            let local = &mut crew[worker % workers];
            let last = *refused != u32::MAX && n.is_multiple_of(*refused);
            if let Ok(passed) = judge(local, &asks("m", last), Time::from_nanos(now)) {
                assert!(!last, "the last rule refuses it");
                left.push(now + passed.wait.as_nanos() as u64);
                local.done(passed.ticket, Time::from_nanos(now));
            }
        }
    }
    left.sort_unstable();
    left
}

/// In every window no more than its time gives and what may come at once.
fn bounded(left: &[u64], rate: f64, burst: f64) -> Result<(), TestCaseError> {
    // A window from the i-th to the j-th holds too many if j - rate·t(j) is too far above i - rate·t(i).
    let mut lowest = f64::MAX;
    for (n, at) in left.iter().enumerate() {
        let over = n as f64 - rate * (*at - left[0]) as f64 / 1e9;
        lowest = lowest.min(over);
        prop_assert!(over - lowest + 1.0 <= burst + 1e-3, "{} over", over - lowest + 1.0 - burst);
    }
    Ok(())
}

proptest! {
    #![proptest_config(seeded(96))]

    /// A rate with its burst, whoever its requests come to, whatever later rules refuse of them, and while workers go
    /// and others take their place.
    #[test]
    fn no_window_sees_more_than_its_rate_gives_and_the_burst(
        rate in prop_oneof![0.5..50.0f64, 50.0..50_000.0], burst in 1u32..5_000, workers in 1usize..=16,
        warm in prop_oneof![Just(None), (1u32..20).prop_map(Some)], steps in steps(2_000_000, 120), gone in 0usize..8,
    ) {
        let warm = warm.map_or(String::new(), |s| format!(", warmUp: {s}s"));
        let spec = format!("{{rate: {rate}, burst: {burst}{warm}}}");
        let rules = limits(&[("r", &spec), LAST], None);
        let left = run(&rules, workers, &steps, |s, crew| {
            if gone > 0 && s % (gone * 3) == 0 {
                let w = s % crew.len();
                crew[w] = Local::new(w, workers);
                crew[w].sync(&rules);
            }
        });
        bounded(&left, rate, f64::from(burst))?;
    }

    /// One at a time, evenly, and none waits longer than said.
    #[test]
    fn paced_requests_leave_one_by_one_whatever_later_rules_refuse(
        rate in 1.0..20_000.0f64, workers in 1usize..=16, wait in 1u32..2_000, steps in steps(2_000_000, 80),
        warm in any::<bool>(),
    ) {
        let warm = if warm { ", warmUp: 5s" } else { "" };
        let spec = format!("{{rate: {rate}, maxWait: {wait}ms{warm}}}");
        let left = run(&limits(&[("r", &spec), LAST], None), workers, &steps, |_, _| {});
        bounded(&left, rate, 1.0 + rate * 2e-9)?;
    }

    /// What one rule gave goes back when a later one refuses: to everybody else it is as if it had never been asked.
    #[test]
    fn what_a_later_rule_refuses_costs_the_earlier_ones_nothing(
        first in prop::sample::select(vec![
            "{rate: 100, burst: 10}", "{rate: 3, burst: 1}", "{rate: 30, burst: 3, warmUp: 5s}", "{rate: 100, burst: 9, warmUp: 2s}",
            "{rate: 50, maxWait: 300ms}", "{rate: 50, maxWait: 300ms, warmUp: 4s}",
            "{concurrency: 3}", "{rate: 20, burst: 4, key: {header: user}}", "{concurrency: 2, key: {header: user}}",
            "{rate: 20, burst: 4, key: {header: user, values: [{value: u, bound: 5}]}}",
        ]),
        steps in prop::collection::vec((0u64..40_000_000, any::<bool>(), any::<bool>()), 1..300),
    ) {
        let rules = limits(&[("r", first), LAST], None);
        let (mut with, mut without) = (worker(&rules), worker(&limits(&[("r", first), LAST], None)));
        let (mut held, mut now): (Vec<(Ticket, Ticket)>, u64) = (Vec::new(), 1_000_000_000);
        for (pause, refused, end) in steps {
            now += pause;
            let at = Time::from_nanos(now);
            if refused {
                prop_assert!(judge(&mut with, &asks("m", true), at).is_err());
                continue;
            }
            let asked = asks("m", false);
            match (judge(&mut with, &asked, at), judge(&mut without, &asked, at)) {
                (Ok(a), Ok(b)) => {
                    prop_assert_eq!(a.wait, b.wait, "{}", first);
                    held.push((a.ticket, b.ticket));
                }
                (Err(_), Err(_)) => {}
                (a, b) => prop_assert!(false, "{first}: {:?} with those refused, {:?} without", a.is_ok(), b.is_ok()),
            }
            if end && !held.is_empty() {
                let (a, b) = held.swap_remove(held.len() / 2);
                with.done(a, at);
                without.done(b, at);
            }
        }
    }

    /// Rules that observe change nothing for those that hold: not what passes, nor how long it waits.
    #[test]
    fn observing_rules_change_no_decision_of_those_that_hold(
        observed in prop::collection::vec(prop::sample::select(vec![
            "rate: 2, burst: 1", "rate: 0", "concurrency: 1", "concurrency: 0", "rate: 5, maxWait: 2s",
            "rate: 1, key: {header: user}", "concurrency: 1, key: {by: method}", "rate: 9, warmUp: 3s",
            "rate: 0, key: {header: user}",
        ]), 1..6),
        first in any::<bool>(),
        steps in prop::collection::vec((0usize..2, 0u64..60_000_000, any::<bool>(), 0u8..3), 1..300),
    ) {
        let own = [
            ("k-rate", "{rate: 40, burst: 6}"), ("k-once", "{concurrency: 5}"), ("k-pace", "{rate: 30, maxWait: 200ms}"),
            ("k-hot", "{rate: 20, burst: 3, key: {by: method}}"), ("k-hold", "{concurrency: 2, key: {by: method}}"),
        ];
        let names: Vec<String> = (0..observed.len()).map(|i| format!("{}{i}", if first { "a" } else { "x" })).collect();
        let specs: Vec<String> = observed.iter().map(|o| format!("{{mode: observe, {o}}}")).collect();
        let more: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(specs.iter().map(String::as_str)).collect();
        let both: Vec<_> = if first { more.iter().chain(&own).copied().collect() } else { own.iter().chain(&more).copied().collect() };
        let (mut plain, mut seen) = (crew(&limits(&own, None), 2), crew(&limits(&both, None), 2));
        let (mut held, mut now): (Vec<(usize, Ticket, Ticket)>, u64) = (Vec::new(), 1_000_000_000);
        for (w, pause, end, method) in steps {
            now += pause;
            let at = Time::from_nanos(now);
            let asked = asks(["a", "b", "c"][usize::from(method)], false);
            match (judge(&mut plain[w], &asked, at), judge(&mut seen[w], &asked, at)) {
                (Ok(a), Ok(b)) => {
                    prop_assert_eq!(a.wait, b.wait);
                    held.push((w, a.ticket, b.ticket));
                }
                (Err(a), Err(b)) => prop_assert_eq!(a, b),
                (a, b) => prop_assert!(false, "{:?} without observers, {:?} with", a.is_ok(), b.is_ok()),
            }
            if end && !held.is_empty() {
                let (w, a, b) = held.swap_remove(held.len() / 2);
                plain[w].done(a, at);
                seen[w].done(b, at);
            }
        }
    }

    /// Never more at the same time than said, of all and of each value; and whatever order they end in, whatever is
    /// given up, and whichever workers go with what they hold, all places come back.
    #[test]
    fn places_are_bounded_and_come_back_after_any_order_of_ends_and_workers_gone(
        cap in 1u32..60, each in 1u32..6, workers in 1usize..=16,
        steps in prop::collection::vec((0usize..16, 0u8..6, 0u8..12), 1..500),
    ) {
        let (all, own) = (format!("{{concurrency: {cap}}}"), format!("{{concurrency: {each}, key: {{by: method}}}}"));
        let docs = [("all", all.as_str()), ("each", own.as_str()), LAST];
        let mut rules = limits(&docs, None);
        let mut crew = crew(&rules, workers);
        let mut held: Vec<(usize, u8, Ticket)> = Vec::new();
        for (w, method, what) in steps {
            let w = w % workers;
            match what {
                0..=5 => {
                    let asked = asks(&format!("m{method}"), what == 5);
                    if let Ok(passed) = judge(&mut crew[w], &asked, at(1.0)) {
                        held.push((w, method, passed.ticket));
                    }
                }
                6..=8 if !held.is_empty() => {
                    let (w, _, ticket) = held.swap_remove(usize::from(method) * 7 % held.len());
                    crew[w].done(ticket, at(1.0));
                }
                9 => crew[w].flush(),
                10 => {
                    // It goes, with all that it holds.
                    held.retain(|(owner, ..)| *owner != w);
                    crew[w] = Local::new(w, workers);
                    crew[w].sync(&rules);
                }
                11 => {
                    // Another version of the same rules: what is under way stays counted.
                    rules = limits(&docs, Some(&rules));
                    for local in &mut crew {
                        local.sync(&rules);
                    }
                }
                _ => {}
            }
            prop_assert!(held.len() <= cap as usize, "{} of {cap}", held.len());
            for m in 0..6 {
                prop_assert!(held.iter().filter(|(_, method, _)| *method == m).count() <= each as usize);
            }
        }
        for (w, _, ticket) in held.drain(..) {
            crew[w].done(ticket, at(1.0));
        }
        drop(crew);
        let view = rules.view(at(1.0));
        prop_assert_eq!(view.limits[0].in_use, Some(0));
        prop_assert!(view.limits[1].values.iter().all(|v| v.in_use == Some(0)), "{:?}", view.limits[1].values);
        let mut fresh = worker(&rules);
        let full = (0..200u32).filter_map(|m| judge(&mut fresh, &asks(&format!("n{m}"), false), at(1.0)).ok()).count();
        prop_assert_eq!(full, cap as usize, "as many as in the beginning");
    }

    /// However many values come, no more are kept than said; and those with a bound of their own are held to it by all
    /// workers together.
    #[test]
    fn values_are_bounded_in_number_and_own_bounds_hold_whatever_else_comes(
        most in 16u32..200, own in 1u32..50, workers in 1usize..=8,
        steps in prop::collection::vec((0usize..8, 0u64..3_000_000, 0u32..2_000), 50..800),
    ) {
        let spec = format!(
            "{{rate: 5, burst: 5, key: {{header: user, most: {most}, values: [{{value: vip, bound: {own}}}]}}}}"
        );
        let rules = limits(&[("r", &spec)], None);
        let mut crew = crew(&rules, workers);
        let (mut now, mut left) = (1_000_000_000u64, Vec::new());
        for (w, pause, user) in steps {
            now += pause;
            let at = Time::from_nanos(now);
            passes(&mut crew[w % workers], &request("s", "m", &[("user", &format!("u{user}"))]), at);
            if user % 3 == 0 && passes(&mut crew[w % workers], &request("s", "m", &[("user", "vip")]), at) {
                left.push(now);
            }
        }
        // As much longer a burst as the rate is higher.
        bounded(&left, f64::from(own), f64::from(own))?;
        let kept = rules.view(Time::from_nanos(now)).limits[0].kept.expect("it keeps values");
        // Places come in sets of eight.
        prop_assert!(kept <= most.next_multiple_of(8) as usize, "{kept} of {most}");
    }
}
