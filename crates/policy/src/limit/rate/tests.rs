use super::*;
use proptest::prelude::*;

fn at(seconds: f64) -> Time {
    Time::from_nanos((seconds * 1e9) as u64)
}

/// Workers that share a rate.
struct Crew {
    meter: Meter,
    pace: Pace,
    workers: Vec<Kept>,
}

impl Crew {
    fn new(pace: Pace, workers: usize) -> Crew {
        let worker = |_| {
            let mut kept = Kept::default();
            kept.follow(&pace, workers as u32);
            kept
        };
        Crew { meter: Meter::default(), pace, workers: (0..workers).map(worker).collect() }
    }

    fn take(&mut self, worker: usize, now: Time) -> bool {
        let worker = worker % self.workers.len();
        self.workers[worker].take(&self.meter, &self.pace, now)
    }
}

proptest! {
    #[test]
    fn never_over_rate_times_time_plus_burst_in_any_window_over_all_workers(
        rate in 0.5f64..200_000.0, burst in 1u32..50_000, workers in 1usize..9,
        steps in prop::collection::vec((0usize..9, 0u64..3_000_000, 1u32..200), 1..300),
    ) {
        let mut crew = Crew::new(Pace::new(rate, burst, None), workers);
        let (mut now, mut passed) = (1_000u64, Vec::new());
        for (worker, pause, n) in steps {
            now += pause;
            for _ in 0..n {
                if crew.take(worker, Time::from_nanos(now)) {
                    passed.push(now);
                }
            }
        }
        // Of all windows the ones from a request to a request say most; of these a sample.
        for i in (0..passed.len()).step_by(1 + passed.len() / 60) {
            for j in (i..passed.len()).step_by(1 + passed.len() / 60) {
                let t = (passed[j] - passed[i]) as f64 / 1e9;
                let bound = rate * t + f64::from(burst) + 1e-6;
                prop_assert!((j - i + 1) as f64 <= bound, "{} in {t} s, {bound} allowed", j - i + 1);
            }
        }
    }

    #[test]
    fn what_is_asked_for_without_end_is_given_to_the_full(
        rate in 10f64..20_000.0, workers in 1usize..9, seed in any::<u64>(),
    ) {
        let burst = rate.ceil() as u32;
        let mut crew = Crew::new(Pace::new(rate, burst, None), workers);
        let mut rng = crate::Rng::new(seed);
        let mut passed = 0u32;
        let tick = (0.25 / rate).min(0.01);
        let ticks = (3.0 / tick) as u32;
        for i in 0..ticks {
            let now = at(1.0 + f64::from(i) * tick);
            while crew.take(rng.below(8) as usize, now) {
                passed += 1;
            }
        }
        let whole = rate * 3.0 + f64::from(burst);
        let kept = f64::from(crew.workers[0].all);
        prop_assert!(f64::from(passed) >= whole - kept - 2.0 - whole * 0.001, "{passed} of {whole}");
        prop_assert!(kept <= f64::from(burst) / 16.0);
    }

    #[test]
    fn paced_requests_leave_evenly_over_all_workers(
        rate in 1f64..5000.0, steps in prop::collection::vec(0u64..2_000_000, 2..400),
    ) {
        let (meter, pace) = (Meter::default(), Pace::new(rate, 1, None));
        let (mut now, mut leave) = (5_000u64, Vec::new());
        for pause in steps {
            now += pause;
            if let Some(slot) = meter.reserve(&pace, Time::from_nanos(now), Duration::from_millis(500)) {
                prop_assert!(slot.wait <= Duration::from_millis(500) + Duration::from_nanos(1));
                leave.push(now + slot.wait.as_nanos() as u64);
            }
        }
        for pair in leave.windows(2) {
            prop_assert!((pair[1] - pair[0]) as f64 + 2.0 >= 1e9 / rate, "{pair:?}");
        }
    }

    #[test]
    fn time_that_goes_backwards_gives_nothing_twice(
        steps in prop::collection::vec((0u64..1_000_000_000, 0usize..4), 1..2000),
    ) {
        let mut crew = Crew::new(Pace::new(100.0, 10, None), 4);
        let mut passed = 0;
        for (now, worker) in steps {
            passed += u32::from(crew.take(worker, Time::from_nanos(now)));
        }
        prop_assert!(passed <= 110, "{passed} in a second");
    }
}

#[test]
fn a_rate_of_none_gives_none_and_the_extremes_do_not_overflow() {
    let meter = Meter::default();
    for (rate, burst) in [(0.0, 100), (1e-300, 1), (1e-9, u32::MAX), (1e7, u32::MAX), (1e7, 1)] {
        let pace = Pace::new(rate, burst, None);
        for now in [Time::ZERO, at(1.0), Time::MAX] {
            let n = meter.take(&pace, now, u32::MAX, 0);
            assert!(rate > 0.0 || n == 0);
            let _ = (meter.reserve(&pace, now, Duration::MAX), meter.level(&pace, now), meter.queue(now));
            meter.give(&pace, u32::MAX);
        }
    }
    assert_eq!(Meter::default().take(&Pace::new(1e7, 10_000_000, None), at(1.0), u32::MAX, 0), 10_000_000);
}

#[test]
fn a_cold_rate_begins_at_a_third_and_rises_to_the_whole_in_its_time() {
    let (rate, warm_up) = (1000.0, 10.0);
    let mut crew = Crew::new(Pace::new(rate, 1000, Some(Duration::from_secs_f64(warm_up))), 2);
    let in_second = |crew: &mut Crew, second: u32| {
        let mut passed = 0;
        for ms in 0..1000 {
            let now = at(100.0 + f64::from(second) + f64::from(ms) / 1000.0);
            while crew.take(ms as usize, now) {
                passed += 1;
            }
        }
        passed
    };
    let seconds: Vec<u32> = (0..14).map(|s| in_second(&mut crew, s)).collect();
    assert!((300..=480).contains(&seconds[0]), "{seconds:?}");
    assert!(seconds[..10].windows(2).skip(1).all(|w| w[1] + 2 >= w[0]), "{seconds:?}");
    assert!(seconds[5] < 750, "{seconds:?}");
    assert!(seconds[11..].iter().all(|n| (990..=1001).contains(n)), "{seconds:?}");
    assert!(crew.meter.warmth(&crew.pace, at(114.0)) > 0.99);
    assert!(crew.meter.warmth(&crew.pace, at(125.0)) < 0.34, "idle for its time, it is cold again");
    let again = in_second(&mut crew, 30);
    assert!((300..=480).contains(&again), "{again}");
}

#[test]
fn a_rate_in_steady_use_above_its_half_stays_warm() {
    let pace = Pace::new(1000.0, 1000, Some(Duration::from_secs(10)));
    let meter = Meter::default();
    for i in 0..60_000u32 {
        let now = at(100.0 + f64::from(i) / 700.0);
        meter.take(&pace, now, 1, 0);
    }
    assert!(meter.warmth(&pace, at(100.0 + 60_000.0 / 700.0)) > 0.99);
}

#[test]
fn changing_the_rate_keeps_what_was_used() {
    let meter = Meter::default();
    let old = Pace::new(1.0, 100, None);
    meter.adopt(&old, 1, at(10.0), Duration::ZERO);
    assert_eq!(meter.take(&old, at(10.0), 60, 0), 60);
    let new = Pace::new(100.0, 100, None);
    meter.adopt(&new, 2, at(10.0), Duration::ZERO);
    meter.adopt(&new, 2, at(10.0), Duration::ZERO);
    meter.adopt(&old, 1, at(10.0), Duration::ZERO);
    assert_eq!(meter.take(&new, at(10.0), 100, 0), 40, "60 of 100 are used, whatever the rate");
    assert_eq!(meter.take(&new, at(11.0), 200, 0), 100);
    let slow = Pace::new(0.1, 10, None);
    meter.adopt(&slow, 3, at(11.0), Duration::ZERO);
    assert_eq!(meter.take(&slow, at(11.0), 10, 0), 0);
    assert_eq!(meter.take(&slow, at(21.0), 10, 0), 1, "no more than all is used");
}

#[test]
fn a_slot_given_back_is_the_next_ones() {
    let (meter, pace) = (Meter::default(), Pace::new(10.0, 1, None));
    let wait = Duration::from_secs(1);
    let first = meter.reserve(&pace, at(1.0), wait).unwrap();
    let second = meter.reserve(&pace, at(1.0), wait).unwrap();
    meter.unreserve(first);
    meter.unreserve(second);
    let next = meter.reserve(&pace, at(1.0), wait).unwrap();
    assert_eq!((first.wait, next.wait), (Duration::ZERO, Duration::from_millis(100)));
}

#[test]
fn a_worker_that_falls_idle_leaves_its_chunk_to_others() {
    let pace = Pace::new(10_000.0, 1000, None);
    let (meter, mut idle, mut busy) = (Meter::default(), Kept::default(), Kept::default());
    idle.follow(&pace, 2);
    busy.follow(&pace, 2);
    let now = Time::from_millis(1000);
    assert!(idle.take(&meter, &pace, now));
    let kept = idle.tokens;
    assert!(kept > 0, "it took more than one");
    let mut passed = 0;
    while busy.take(&meter, &pace, now) {
        passed += 1;
    }
    idle.flush(&meter, &pace);
    let mut more = 0;
    while busy.take(&meter, &pace, now) {
        more += 1;
    }
    assert_eq!((more, idle.tokens), (kept, 0));
    assert!(passed + more < 1000, "never more than the burst at once");
    idle.flush(&meter, &pace);
    assert!(!busy.take(&meter, &pace, now), "nothing is given back twice");
}

#[test]
fn it_is_known_when_there_is_a_token_again() {
    let pace = Pace::new(2.0, 1, None);
    let (meter, mut kept) = (Meter::default(), Kept::default());
    kept.follow(&pace, 1);
    let at = |ms: u64| Time::from_millis(1000 + ms);
    assert!(kept.take(&meter, &pace, at(0)));
    assert!(!kept.take(&meter, &pace, at(100)));
    assert_eq!(kept.again(&meter, &pace, at(100)), Again::In(Duration::from_millis(400)));
    assert!(!kept.take(&meter, &pace, at(499)));
    assert_eq!(kept.again(&meter, &pace, at(500)), Again::In(Duration::ZERO));
    assert!(kept.take(&meter, &pace, at(500)));
    assert_eq!(meter.slot_again(&Pace::new(0.0, 1, None), at(0), Duration::ZERO), Again::Never);
    let word = AtomicU64::new(0);
    assert!(Bare(&word).take(&pace, at(0)));
    assert_eq!(Bare(&word).again(&pace, at(0)), Again::In(Duration::from_millis(500)));
}

#[test]
fn a_process_that_runs_for_years_goes_on() {
    let mut crew = Crew::new(Pace::new(10.0, 10, None), 1);
    for days in [1u64, 209, 300, 1_600] {
        let then = Time::from_nanos(days * 86_400 * 1_000_000_000);
        let passed = |crew: &mut Crew, at| (0..100).filter(|_| crew.take(0, at)).count();
        assert_eq!(passed(&mut crew, then), 10, "day {days}");
        assert_eq!(passed(&mut crew, then + Duration::from_secs(1)), 10, "day {days}, a second later");
    }
}
