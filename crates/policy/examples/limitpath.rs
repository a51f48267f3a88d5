//! A limited request without its sockets, for counting instructions: an adaptive limit, a rate for all, and one for its
//! method. `scripts/icount` runs it under callgrind with two numbers of requests and divides the difference.
use raddle_core::Time;
use raddle_model::{AdaptiveSettings, LoadOptions, Priority, Side, Source, load};
use raddle_policy::limit::adaptive::{Board, Controller, Gate, Sample};
use raddle_policy::limit::{Local, Rules, Verdict};
use raddle_policy::{Asked, Rng};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

const RULES: &str = r"
apiVersion: raddle.io/v1
kind: RateLimit
metadata: {name: all}
spec: {rate: 1000000}
---
apiVersion: raddle.io/v1
kind: RateLimit
metadata: {name: pay}
spec: {rate: 500000, when: {method: pay}}
";

fn main() {
    let n: u32 = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(1000);
    let source = Source { name: "limits.yaml".into(), text: RULES.into() };
    let Ok((resources, _)) = load(&[source], LoadOptions::rules_only()) else {
        return eprintln!("bad configuration");
    };
    let rates: Vec<_> = resources.rates.iter().collect();
    let mut local = Local::new(0, 2);
    local.sync(&Arc::new(Rules::new(None, &rates, &[], None)));
    let settings = AdaptiveSettings::default();
    let board = Arc::new(Board::new(2, &settings));
    let ids: Vec<u32> = (0..100).map(|i| board.id(&format!("shop.Order:1.0.m{i}"))).collect();
    let mut gate = Gate::new(board.clone(), 0);
    let mut controller = Controller::new(board, &settings);
    let sample = Sample { cpu: 2.0, cores: 4.0, ..Sample::default() };
    let mut rng = Rng::new(7);
    let asked = Asked { service: "shop.Order:1.0".into(), method: Some("pay".into()), ..Asked::default() };
    let mut now = Time::from_nanos(1_000_000_000);
    // The orders of a calm second, whatever the number of requests.
    for _ in 0..30 {
        now = now + Duration::from_secs(1);
        controller.tick(now, None, Some(&sample));
    }
    for i in 0..n {
        now = now + Duration::from_micros(50);
        let id = ids[i as usize % ids.len()];
        if gate.admit(id, Priority::Normal, now, &mut rng).is_err() {
            return eprintln!("nothing is short");
        }
        match local.judge(Side::Inbound, black_box(&asked), now, true) {
            Verdict::Pass { ticket, wait, .. } => {
                black_box(wait);
                local.done(ticket, now);
                gate.complete(id, Duration::from_micros(900), None, false);
            }
            Verdict::Refuse(_) => return eprintln!("the rates are high enough"),
        }
    }
}
