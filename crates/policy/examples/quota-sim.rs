//! 5,000 sidecars and twenty rules at one quota server, in simulated time on one core: `cargo run --release -p
//! raddle-policy --example quota-sim [SIDECARS] [RULES] [SECONDS]`.
//!
//! Said are: real time for a second of simulated time, of the server alone; what passed in the worst ten seconds and in
//! all; how long it takes until demand that moves is served.
use raddle_core::Time;
use raddle_policy::Rng;
use raddle_policy::quota::{Client, Limit, REPORT, Server, TICK, Take, Tap, Wanted};
use std::sync::Arc;
use std::time::{Duration, Instant};

const STEP: Duration = Duration::from_millis(10);
/// Requests a second of each rule and sidecar that make leases worth while.
const EACH: f64 = 40.0;

struct Sidecar {
    client: Client,
    taps: Vec<Tap>,
    next: Vec<Time>,
    due: Time,
    poked: bool,
}

struct World {
    now: Time,
    rng: Rng,
    server: Server,
    sidecars: Vec<Sidecar>,
    limit: f64,
    passed: Vec<u64>,
    spent: Duration,
    reports: u64,
    ticked: Time,
}

impl World {
    fn new(sidecars: usize, rules: usize) -> World {
        let now = Time::from_millis(1_000);
        let (mut server, mut rng) = (Server::default(), Rng::new(1));
        let limit = EACH * sidecars as f64;
        let names: Vec<Arc<str>> = (0..rules).map(|r| format!("rule-{r}").into()).collect();
        for name in &names {
            server.set(name, Limit { per_second: limit, burst: limit as u32 }, false, now);
        }
        let wanted: Vec<Wanted> =
            names.iter().map(|n| Wanted { rule: n.clone(), per_second: limit }).collect();
        let sidecars = (0..sidecars).map(|_| {
            let mut client = Client::default();
            client.set(&wanted, now);
            let taps = names.iter().filter_map(|n| client.pot(n).cloned()).map(Tap::new).collect();
            let due = now + Duration::from_millis(u64::from(rng.below(1_000)));
            Sidecar { client, taps, next: vec![now; rules], due, poked: false }
        });
        let sidecars = sidecars.collect();
        let (spent, passed) = (Duration::ZERO, vec![0; rules]);
        World { now, rng, server, sidecars, limit, passed, spent, reports: 0, ticked: now }
    }

    /// Runs for a time; each sidecar has so many requests a second at each rule.
    fn run(&mut self, time: Duration, demand: impl Fn(usize, usize) -> f64) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + STEP;
            let mut poke = Vec::new();
            if self.now.since(self.ticked) >= TICK {
                self.ticked = self.now;
                let began = Instant::now();
                self.server.tick(self.now, &mut poke);
                self.spent += began.elapsed();
            }
            for client in poke {
                self.sidecars[client as usize].poked = true;
            }
            for i in 0..self.sidecars.len() {
                self.turn(i, &demand);
            }
        }
    }

    fn turn(&mut self, i: usize, demand: &impl Fn(usize, usize) -> f64) {
        let (now, sidecar) = (self.now, &mut self.sidecars[i]);
        for rule in 0..sidecar.taps.len() {
            let rate = demand(i, rule);
            if rate <= 0.0 {
                sidecar.next[rule] = now;
                continue;
            }
            while sidecar.next[rule] <= now {
                let gap = -(1.0 - self.rng.unit()).ln() / rate;
                sidecar.next[rule] = sidecar.next[rule] + Duration::from_secs_f64(gap);
                if sidecar.taps[rule].try_take(now) == Take::Taken {
                    self.passed[rule] += 1;
                }
            }
        }
        let report = if now >= sidecar.due || std::mem::take(&mut sidecar.poked) {
            sidecar.due = now + REPORT;
            Some(sidecar.client.report(now, |_| true))
        } else {
            sidecar.client.early(now, |_| true)
        };
        let Some((seq, items)) = report else { return };
        self.reports += 1;
        let began = Instant::now();
        let grants: Vec<_> =
            items.iter().filter_map(|item| self.server.on_item(i as u64, seq, item, now)).collect();
        self.spent += began.elapsed();
        for grant in &grants {
            sidecar.client.on_grant(seq, grant, now);
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|a| a.parse::<usize>().ok());
    let sidecars = arguments.next().unwrap_or(5_000);
    let rules = arguments.next().unwrap_or(20);
    let seconds = arguments.next().unwrap_or(15).max(11);
    let mut world = World::new(sidecars, rules);
    // Some want twice as much as others.
    let uneven = |i: usize, _: usize| 1.2 * EACH * if i.is_multiple_of(2) { 2.0 / 3.0 } else { 4.0 / 3.0 };
    world.run(Duration::from_secs(5), uneven);
    let began = Instant::now();
    let (spent, reports) = (world.spent, world.reports);
    let mut each: Vec<Vec<u64>> = Vec::new();
    for _ in 0..seconds {
        let before = world.passed.clone();
        world.run(Duration::from_secs(1), uneven);
        each.push(world.passed.iter().zip(before).map(|(now, before)| now - before).collect());
    }
    let spent = world.spent.saturating_sub(spent).as_secs_f64() / seconds as f64;
    println!("{sidecars} sidecars, {rules} rules: {spent:.3} s of the server's core for a second");
    println!("reports a second: {}", (world.reports - reports) / seconds as u64);
    println!("with the sidecars: {:.3} s", began.elapsed().as_secs_f64() / seconds as f64);
    let all =
        |rule: usize, from: usize, to: usize| each[from..to].iter().map(|s| s[rule]).sum::<u64>() as f64;
    let worst = (0..rules).flat_map(|r| (0..=seconds - 10).map(move |s| (r, s)));
    let worst = worst.map(|(r, s)| all(r, s, s + 10) / (10.0 * world.limit)).fold(0.0, f64::max);
    let least = (0..rules).map(|r| all(r, 0, seconds) / (seconds as f64 * world.limit)).fold(9.0, f64::min);
    println!("worst ten seconds: {worst:.4} of the limit; least used rule: {least:.4}");
    let half = sidecars / 2;
    let moved = |i: usize, _: usize| if i < half { 3.0 * EACH } else { 0.0 };
    let mut took = 0;
    loop {
        let before = world.passed[0];
        world.run(Duration::from_millis(250), moved);
        took += 250;
        if (world.passed[0] - before) as f64 >= 0.95 * world.limit / 4.0 || took > 10_000 {
            break;
        }
    }
    println!("demand that moved is served after {took} ms");
}
