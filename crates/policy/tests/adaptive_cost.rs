//! What a decision costs: allocations are judged, nanoseconds are printed (they mean something with
//! `CARGO_PROFILE_TEST_OPT_LEVEL=3 cargo test -p raddle-policy --test adaptive_cost -- --nocapture`).
use allocation_counter::measure;
use raddle_core::Time;
use raddle_model::{AdaptiveSettings, Priority};
use raddle_policy::Rng;
use raddle_policy::limit::adaptive::{Board, Controller, Gate, Sample};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Requests of these interfaces for some seconds; then what one of them costs, and a tick.
fn cost(interfaces: u32, workers: usize) {
    let board = Arc::new(Board::new(workers, &AdaptiveSettings::default()));
    let ids: Vec<u32> = (0..interfaces).map(|i| board.id(&format!("i{i}"))).collect();
    let mut gates: Vec<Gate> = (0..workers).map(|w| Gate::new(board.clone(), w)).collect();
    let mut controller = Controller::new(board, &AdaptiveSettings::default());
    let mut rng = Rng::new(1);
    let mut now = 1_000_000_000u64;
    let mut requests = |gates: &mut [Gate], now: &mut u64, n: u32| {
        for i in 0..n {
            *now += 1000;
            let (gate, id) = (&mut gates[i as usize % workers], ids[(i * 7919 % interfaces) as usize]);
            if gate.admit(id, Priority::Normal, Time::from_nanos(*now), &mut rng).is_ok() {
                gate.complete(id, Duration::from_micros(900), None, false);
            }
        }
    };
    let sample = Sample { cpu: 2.0, cores: 4.0, ..Sample::default() };
    let mut ticks = Duration::ZERO;
    for _ in 0..40 {
        requests(&mut gates, &mut now, 4 * interfaces);
        now += 1_000_000_000;
        let began = Instant::now();
        controller.tick(Time::from_nanos(now), Some(3), Some(&sample));
        ticks += began.elapsed();
    }
    requests(&mut gates, &mut now, 100);
    let seen = measure(|| requests(&mut gates, &mut now, 10_000));
    assert_eq!(seen.count_total, 0, "a decision allocates nothing");
    let best = (0..10)
        .map(|_| {
            let began = Instant::now();
            requests(&mut gates, &mut now, 10_000);
            began.elapsed()
        })
        .min()
        .expect("ten rounds");
    println!(
        "{interfaces} interfaces, {workers} workers: admit and complete {} ns; a tick {} µs",
        best.as_nanos() / 10_000,
        ticks.as_micros() / 40
    );
}

#[test]
fn a_decision_allocates_nothing() {
    cost(100, 2);
    cost(2000, 2);
    cost(100, 16);
}
