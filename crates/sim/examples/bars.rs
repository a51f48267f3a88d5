//! The bars of ours, quickly:
//! `cargo run --release -p raddle-sim --example bars [SCENARIO,..|all] [SEEDS] [SCHEME] [--from SEED]`; seeds from 1, or
//! from the one named, so that what was tuned on some is judged on others.
use raddle_sim::bars::{self, Standing};
use raddle_sim::scenario::{ALL, find};
use raddle_sim::{Measures, Scheme, run};

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut from = 1u64;
    if let Some(at) = arguments.iter().position(|a| a == "--from") {
        let rest = arguments.split_off(at);
        from = rest.get(1).and_then(|s| s.parse().ok()).unwrap_or(from);
        arguments.extend(rest.into_iter().skip(2));
    }
    let wanted = arguments.first().map_or("S1", String::as_str);
    let seeds: u64 = arguments.get(1).and_then(|s| s.parse().ok()).unwrap_or(5);
    let scheme = arguments.get(2).and_then(|s| Scheme::named(s)).unwrap_or(Scheme::Raddle);
    for (name, about) in ALL {
        if wanted != "all" && !wanted.split(',').any(|w| w.eq_ignore_ascii_case(name)) {
            continue;
        }
        let began = std::time::Instant::now();
        let work = |seed| {
            let scenario = find(name, seed).expect("a scenario of the list");
            let mut limiter = scheme.build(scenario.interfaces.len(), seed);
            let run = run(&scenario, seed, limiter.as_mut());
            (Measures::of(&scenario, &run), scenario.end())
        };
        let (even, odd) = std::thread::scope(|s| {
            let odd = s.spawn(|| (from + 1..from + seeds).step_by(2).map(work).collect::<Vec<_>>());
            (
                (from..from + seeds).step_by(2).map(work).collect::<Vec<_>>(),
                odd.join().expect("it does not panic"),
            )
        });
        let simulated: f64 = even.iter().chain(&odd).map(|r| r.1).sum();
        let runs: Vec<Measures> = even.into_iter().chain(odd).map(|r| r.0).collect();
        let took = began.elapsed().as_secs_f64();
        println!("{name}: {about} ({seeds} seeds, {simulated:.0} s simulated in {took:.2} s)");
        for bar in bars::of(name) {
            let Some(verdict) = bar.judge(&runs) else { continue };
            let mark = if verdict.standing == Standing::Kept { "ok  " } else { "FAIL" };
            println!(
                "  {mark} {:32} {:>8} : {:.4}   worst seed {:.4}",
                bar.figure.name(),
                bar.text(),
                verdict.value,
                verdict.worst
            );
        }
    }
}
