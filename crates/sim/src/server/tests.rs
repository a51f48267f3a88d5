//! The model against what queueing theory knows of it.
use super::Discipline;
use crate::limiter::none::Unlimited;
use crate::run;
use crate::scenario::{Interface, Retries, Role, Scenario, Sensor};

/// An app with one interface.
fn alone(rate: f64, cpu: f64, sigma: f64, cores: f64, discipline: Discipline) -> Scenario {
    let interface = Interface { rate, cpu, sigma, io: 0.0, timeout: 1e6, memory: 0.0, role: Role::Innocent };
    Scenario {
        name: "alone".into(),
        about: String::new(),
        cores,
        discipline,
        interfaces: vec![interface],
        warm: 400.0,
        event: 4000.0,
        after: 10.0,
        surges: Vec::new(),
        load_test: 0.0,
        capacity: 1.0,
        pauses: None,
        day: None,
        noise: None,
        retries: Retries { attempts: 1, backoff: 0.1 },
        sensor: Sensor { jitter: 0.0, error: 0.0, missing: 0.0, cores: 1.0 },
        memory: None,
        background: [0.0, 0.0],
        later: 0.0,
    }
}

/// Mean load and mean latency.
fn play(scenario: &Scenario) -> (f64, f64) {
    let run = run(scenario, 5, &mut Unlimited);
    let event = &run.seconds[400..4400];
    let load = event.iter().map(|s| s.busy / s.cores).sum::<f64>() / event.len() as f64;
    (load, run.event[0].mean())
}

fn near(found: f64, expected: f64, tolerance: f64) {
    assert!((found / expected - 1.0).abs() < tolerance, "{found}, theory says {expected}");
}

#[test]
fn one_shared_core_is_as_slow_as_theory_says_whatever_the_demands_spread() {
    // M/G/1-PS: the mean latency is E[S] / (1 - rho), insensitive to the distribution beyond its mean.
    for (rho, sigma) in [(0.5, 0.1), (0.7, 0.5), (0.8, 1.0)] {
        let (load, latency) = play(&alone(rho / 0.02, 0.02, sigma, 1.0, Discipline::Sharing));
        near(load, rho, 0.02);
        near(latency, 0.02 / (1.0 - rho), 0.06);
    }
}

/// The probability that a call must wait in M/M/c (Erlang C).
fn erlang(c: u32, offered: f64) -> f64 {
    let (mut term, mut sum) = (1.0, 0.0);
    for k in 0..c {
        sum += term;
        term *= offered / f64::from(k + 1);
    }
    let last = term / (1.0 - offered / f64::from(c));
    last / (sum + last)
}

#[test]
fn shared_cores_are_as_slow_as_theory_says() {
    // M/M/c-PS has the mean latency of M/M/c (the number in the system is the same birth and death process), and that
    // of M/G/c-PS is insensitive as well: E[S] + C(c, a) · E[S] / (c (1 - rho)).
    let (c, rho, cpu) = (4, 0.8, 0.02);
    let (load, latency) = play(&alone(rho * f64::from(c) / cpu, cpu, 0.6, f64::from(c), Discipline::Sharing));
    near(load, rho, 0.02);
    let wait = erlang(c, rho * f64::from(c)) * cpu / (f64::from(c) * (1.0 - rho));
    near(latency, cpu + wait, 0.05);
}

#[test]
fn a_pool_of_one_thread_is_a_queue_in_order() {
    // M/G/1-FIFO (Pollaczek and Khinchine): wait = lambda · E[S²] / (2 (1 - rho)); E[S²] = E[S]² e^(sigma²).
    let (rho, cpu, sigma) = (0.7_f64, 0.02_f64, 0.6_f64);
    let pool = Discipline::Pool { threads: 1, queue: 100_000 };
    let (load, latency) = play(&alone(rho / cpu, cpu, sigma, 1.0, pool));
    near(load, rho, 0.02);
    let squares = cpu * cpu * (sigma * sigma).exp();
    near(latency, cpu + rho / cpu * squares / (2.0 * (1.0 - rho)), 0.06);
}

#[test]
fn threads_that_only_wait_are_lost_at_the_rate_of_erlang() {
    // M/M/c/c with waiting alone: what finds every thread taken is refused (Erlang B).
    let (threads, offered) = (10_usize, 8.0_f64);
    let mut scenario = alone(100.0, 1e-6, 0.1, 64.0, Discipline::Pool { threads, queue: 0 });
    scenario.interfaces[0].io = offered / 100.0;
    let run = run(&scenario, 5, &mut Unlimited);
    let calls: u32 = run.seconds.iter().map(|s| s.offered[0]).sum();
    let blocked = (1..=threads).fold(1.0, |b, k| offered * b / (k as f64 + offered * b));
    near(run.refused as f64 / f64::from(calls), blocked, 0.05);
}

#[test]
fn callers_who_give_up_leave_their_work_behind() {
    // At twice the load it can take, and patience of a second, an unlimited server works on for nobody.
    let mut scenario = alone(100.0, 0.02, 0.5, 1.0, Discipline::Sharing);
    scenario.interfaces[0].timeout = 1.0;
    (scenario.warm, scenario.event, scenario.after) = (10.0, 60.0, 10.0);
    let run = run(&scenario, 5, &mut Unlimited);
    let late = &run.seconds[40..60];
    assert!(late.iter().all(|s| (s.busy - 1.0).abs() < 1e-6), "it is busy all the time");
    let good: u32 = late.iter().map(|s| s.good[0]).sum();
    assert!(good < 20, "{good} of about 2000 are answered in time");
    assert!(run.seconds[59].queue > 20.0, "work piles up: {}", run.seconds[59].queue);
}

#[test]
fn a_run_repeats_exactly() {
    let figures = |seed| {
        let scenario = crate::scenario::find("S6", seed).unwrap();
        let run = run(&scenario, seed, &mut Unlimited);
        run.seconds.iter().map(|s| (s.offered, s.good, s.busy.to_bits())).collect::<Vec<_>>()
    };
    assert_eq!(figures(3), figures(3));
    assert_ne!(figures(3), figures(4));
}
