//! Bounds hold while workers run at the same time, on threads of their own.
mod limit_common;
use limit_common::*;
use raddle_core::Time;
use raddle_policy::Rng;
use raddle_policy::limit::breaker::{Outcome, State};
use raddle_policy::limit::{Breakers, Rules};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const WORKERS: usize = 4;

/// Runs a worker's part on a thread each; `clock` is what they have for time, in nanoseconds.
fn run<R: Send>(part: impl Fn(usize, &AtomicU64) -> R + Sync) -> Vec<R> {
    let clock = AtomicU64::new(10_000_000_000);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..WORKERS)
            .map(|w| {
                scope.spawn({
                    let (part, clock) = (&part, &clock);
                    move || part(w, clock)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().expect("it ends")).collect()
    })
}

/// Requests that passed while workers asked as fast as they could, and how long that took by their clock.
fn rush(rules: &Arc<Rules>, asks: u32, step: u64) -> (u64, f64, Vec<u64>) {
    let waits = std::sync::Mutex::new(Vec::new());
    let passed = run(|w, clock| {
        let mut local = crew(rules, WORKERS).swap_remove(w);
        let req = request("s", "m", &[("user", "one")]);
        let (mut passed, mut slots) = (0u64, Vec::new());
        for _ in 0..asks {
            let now = clock.fetch_add(step, Ordering::Relaxed);
            if let Ok(p) = judge(&mut local, &req, Time::from_nanos(now)) {
                passed += 1;
                slots.push(now + p.wait.as_nanos() as u64);
                local.done(p.ticket, Time::from_nanos(now));
            }
        }
        waits.lock().expect("nobody panicked").extend(slots);
        passed
    });
    let time = f64::from(asks) * WORKERS as f64 * step as f64 / 1e9;
    (passed.into_iter().sum(), time, waits.into_inner().expect("nobody panicked"))
}

#[test]
fn a_rate_is_used_to_the_full_and_never_passed() {
    for (rate, burst) in [(1_000.0, 1_000u32), (100_000.0, 10_000), (50.0, 1)] {
        let rules = limits(&[("r", &format!("{{rate: {rate}, burst: {burst}}}"))], None);
        let (passed, time, _) = rush(&rules, 50_000, 10_000);
        let whole = rate * time + f64::from(burst);
        assert!(passed as f64 <= whole + 1.0, "{passed} of {whole}");
        assert!(passed as f64 >= whole.min(200_000.0) * 0.93 - 2.0, "{passed} of {whole}");
    }
}

#[test]
fn paced_requests_leave_one_by_one() {
    let rules = limits(&[("r", "{rate: 1000, maxWait: 100ms}")], None);
    let (passed, time, mut slots) = rush(&rules, 20_000, 10_000);
    slots.sort_unstable();
    assert!(slots.windows(2).all(|p| p[1] - p[0] + 2 >= 1_000_000), "evenly");
    assert!((passed as f64) >= 1000.0 * time, "{passed} in {time} s");
}

#[test]
fn one_value_of_a_hotspot_limit_is_held_over_all_workers() {
    let rules = limits(&[("r", "{rate: 100, burst: 10, key: {header: user}}")], None);
    let (passed, time, _) = rush(&rules, 50_000, 10_000);
    // Those that enter the value at the same instant may count one each by itself.
    let whole = 100.0 * time + 10.0;
    assert!(passed as f64 <= whole + WORKERS as f64 && passed as f64 >= whole * 0.97, "{passed} of {whole}");
}

#[test]
fn what_is_under_way_is_bounded_at_every_moment_and_all_comes_back() {
    let rules = limits(
        &[("all", "{concurrency: 5}"), ("each", "{concurrency: 2, key: {by: method, most: 16}}")],
        None,
    );
    let under_way = AtomicU64::new(0);
    let most = AtomicU64::new(0);
    run(|w, _| {
        let mut local = crew(&rules, WORKERS).swap_remove(w);
        let mut rng = Rng::new(w as u64);
        let mut mine = Vec::new();
        for _ in 0..30_000 {
            if rng.below(2) == 0 {
                let req = request("s", &format!("m{}", rng.below(40)), &[]);
                if let Ok(p) = judge(&mut local, &req, at(1.0)) {
                    most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    mine.push(p.ticket);
                }
            } else if let Some(ticket) = mine.pop() {
                under_way.fetch_sub(1, Ordering::SeqCst);
                local.done(ticket, at(1.0));
            }
        }
        under_way.fetch_sub(mine.len() as u64, Ordering::SeqCst);
    });
    assert!((1..=5).contains(&most.load(Ordering::SeqCst)));
    let view = rules.view(at(1.0));
    assert_eq!(view.limits[0].in_use, Some(0), "what workers held ended with them");
    assert!(view.limits[1].values.iter().all(|v| v.in_use == Some(0)), "{:?}", view.limits[1].values);
}

#[test]
fn a_breaker_changes_once_for_all_workers() {
    let spec =
        "{errorRatio: 0.5, minCalls: 50, openFor: 100ms, maxOpenFor: 1s, probes: 4, passes: 3, window: 1s}";
    let rules = rules(&[("CircuitBreaker", "b", spec)], None);
    let events: Vec<_> = run(|w, clock| {
        let mut breakers = Breakers::new(w, WORKERS);
        breakers.sync(&rules);
        let (mut rng, req) = (Rng::new(w as u64), request("s", "m", &[]));
        let mut events = Vec::new();
        for _ in 0..30_000 {
            let now = Time::from_nanos(clock.fetch_add(20_000, Ordering::Relaxed));
            let (call, _) = breakers.begin(&req, now, &mut rng).expect("endpoints have the breakers");
            // It is ill for the first second of each two.
            let ill = (now.as_millis() / 1000).is_multiple_of(2);
            let outcome =
                if ill { Outcome::Failed(Duration::ZERO) } else { Outcome::Answered(Duration::ZERO) };
            let outcome = match breakers.enter(&call, ([10, 0, 0, 1], 80).into(), now, &mut rng) {
                Ok(_) => outcome,
                Err(_) => Outcome::Unknown,
            };
            breakers.end(call, outcome, now, &mut rng);
            events.extend(breakers.events());
        }
        events
    })
    .concat();
    let count = |state| events.iter().filter(|e| e.state == state).count();
    let (opened, half, closed) = (count(State::Open), count(State::HalfOpen), count(State::Closed));
    assert!(opened >= 1 && half >= 1 && closed >= 1, "{opened} {half} {closed}");
    // Each time it opened it went half open once, and from there open or closed.
    assert!(half == opened || half + 1 == opened, "{opened} {half} {closed}");
    let view = &rules.view(Time::from_nanos(12_400_000_000)).breakers[0];
    assert_eq!(view.unwell + view.closed, 1, "one breaker");
}
