//! The bars of ours, quickly:
//! `cargo run --release -p raddle-sim --example bars [SCENARIO,..|all] [SEEDS] [SCHEME] [--from SEED] [--variants] [--each]`;
//! seeds from 1, or from the one named, so that what was tuned on some is judged on others. With `--variants` each seed
//! is another app as well (other cores, interfaces, costs, times and surges); with `--each` each seed's figures that are
//! beyond a bar are named.
use raddle_sim::bars::{self, Bar, Standing};
use raddle_sim::scenario::{ALL, find, variant};
use raddle_sim::{Measures, Scheme, run};

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut from = 1u64;
    if let Some(at) = arguments.iter().position(|a| a == "--from") {
        let rest = arguments.split_off(at);
        from = rest.get(1).and_then(|s| s.parse().ok()).unwrap_or(from);
        arguments.extend(rest.into_iter().skip(2));
    }
    let mut flag = |name: &str| {
        let before = arguments.len();
        arguments.retain(|a| a != name);
        arguments.len() < before
    };
    let (variants, each) = (flag("--variants"), flag("--each"));
    let wanted = arguments.first().map_or("S1", String::as_str);
    let seeds: u64 = arguments.get(1).and_then(|s| s.parse().ok()).unwrap_or(5);
    let scheme = arguments.get(2).and_then(|s| Scheme::named(s)).unwrap_or(Scheme::Raddle);
    for (name, about) in ALL {
        if wanted != "all" && !wanted.split(',').any(|w| w.eq_ignore_ascii_case(name)) {
            continue;
        }
        let began = std::time::Instant::now();
        let work = |seed| {
            let scenario = if variants { variant(name, seed, seed) } else { find(name, seed) };
            let scenario = scenario.expect("a scenario of the list");
            let mut limiter = scheme.build(scenario.interfaces.len(), seed);
            let run = run(&scenario, seed, limiter.as_mut());
            (seed, Measures::of(&scenario, &run), scenario.end())
        };
        let (mut runs, odd) = std::thread::scope(|s| {
            let odd = s.spawn(|| (from + 1..from + seeds).step_by(2).map(work).collect::<Vec<_>>());
            (
                (from..from + seeds).step_by(2).map(work).collect::<Vec<_>>(),
                odd.join().expect("it does not panic"),
            )
        });
        runs.extend(odd);
        runs.sort_by_key(|r| r.0);
        let simulated: f64 = runs.iter().map(|r| r.2).sum();
        let took = began.elapsed().as_secs_f64();
        println!("{name}: {about} ({seeds} seeds, {simulated:.0} s simulated in {took:.2} s)");
        let measures: Vec<Measures> = runs.iter().map(|r| r.1).collect();
        for bar in bars::of(name) {
            let Some(verdict) = bar.judge(&measures) else { continue };
            let mark = if verdict.standing == Standing::Kept { "ok  " } else { "FAIL" };
            let beyond = if each { beyond(&bar, &runs) } else { String::new() };
            println!(
                "  {mark} {:32} {:>8} : {:.4}   worst seed {:.4}{beyond}",
                bar.figure.name(),
                bar.text(),
                verdict.value,
                verdict.worst
            );
        }
    }
}

/// The seeds that alone would not keep a bar.
fn beyond(bar: &Bar, runs: &[(u64, Measures, f64)]) -> String {
    let values = runs.iter().filter_map(|(seed, m, _)| Some((seed, bar.figure.of(m)?)));
    let out = values.filter(|(_, v)| bar.standing(*v) != Standing::Kept);
    out.fold(String::new(), |all, (seed, v)| format!("{all}  {seed}:{v:.3}"))
}
