//! A small app behind real gates, a real board and a real controller, on a clock of its own.
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use raddle_core::Time;
use raddle_model::{AdaptiveSettings, Priority};
use raddle_policy::Rng;
use raddle_policy::limit::adaptive::{Board, Controller, Event, Gate, Level, Sample, View, Why};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// The same cases in every run. Others: `PROPTEST_RNG_SEED`, and more: `PROPTEST_CASES`.
pub fn seeded(cases: u32) -> ProptestConfig {
    let own = ProptestConfig::default();
    let said = |name| std::env::var_os(name).is_some();
    ProptestConfig {
        cases: if said("PROPTEST_CASES") { own.cases } else { cases },
        rng_seed: if said("PROPTEST_RNG_SEED") { own.rng_seed } else { RngSeed::Fixed(6) },
        failure_persistence: None,
        ..own
    }
}

/// Steps of a second.
const STEPS: u32 = 50;
const CLASSES: [Priority; 4] = [Priority::LoadTest, Priority::Batch, Priority::Normal, Priority::Critical];

/// What is asked of an interface.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Requests a second.
    pub rate: f64,
    /// CPU seconds of a request.
    pub cost: f64,
    /// Seconds it waits for others.
    pub io: f64,
    /// Parts of the classes, the lowest first.
    pub mix: [f64; 4],
}

impl Asked {
    pub fn new(rate: f64, cost: f64, io: f64) -> Asked {
        Asked { rate, cost, io, mix: [0.0, 0.0, 1.0, 0.0] }
    }
}

/// What became of an interface's requests in a second, by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub offered: [u32; 4],
    pub passed: [u32; 4],
    /// By reason, then by class.
    pub refused: [[u32; 4]; 4],
}

impl Tally {
    pub fn offers(&self) -> u32 {
        self.offered.iter().sum()
    }

    pub fn passes(&self) -> u32 {
        self.passed.iter().sum()
    }

    pub fn held(&self, why: Why) -> u32 {
        self.refused[why as usize].iter().sum()
    }

    pub fn add(&mut self, other: &Tally) {
        let each = |a: &mut [u32; 4], b: &[u32; 4]| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        each(&mut self.offered, &other.offered);
        each(&mut self.passed, &other.passed);
        self.refused.iter_mut().zip(&other.refused).for_each(|(a, b)| each(a, b));
    }
}

/// A request that waits for its cores, and the work that must be done before it is.
#[derive(Debug)]
struct Waits {
    work: f64,
    began: u64,
    worker: usize,
    id: u32,
    kind: Asked,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct End {
    step: u64,
    worker: usize,
    id: u32,
    micros: u64,
    cost: Option<u64>,
}

/// The app: first come, first served on its cores; whoever waits for others holds none.
pub struct App {
    pub gates: Vec<Gate>,
    pub controller: Controller,
    pub rng: Rng,
    pub step: u64,
    pub cores: f64,
    pub kinds: Vec<Asked>,
    pub ids: Vec<u32>,
    /// In which order they are asked within a step.
    pub order: Vec<usize>,
    /// Part of the requests that each worker gets; by interface, if there are more than one.
    pub spread: Vec<Vec<f64>>,
    /// Whether the app says what its requests cost.
    pub says: bool,
    pub minute: Option<u32>,
    /// Whether requests come by chance rather than evenly.
    pub chance: bool,
    owed: Vec<f64>,
    /// Work taken in, and done, in CPU seconds.
    taken: f64,
    done: f64,
    line: VecDeque<Waits>,
    ends: BinaryHeap<Reverse<End>>,
    /// Of the last second, by interface.
    pub seen: Vec<Tally>,
    pub used: f64,
    pub events: Vec<Event>,
}

impl App {
    pub fn new(kinds: &[Asked], cores: f64, workers: usize, seed: u64) -> App {
        App::with(kinds, cores, workers, seed, &AdaptiveSettings::default())
    }

    pub fn with(kinds: &[Asked], cores: f64, workers: usize, seed: u64, settings: &AdaptiveSettings) -> App {
        let board = Arc::new(Board::new(workers, settings));
        App {
            ids: (0..kinds.len()).map(|i| board.id(&format!("i{i}"))).collect(),
            gates: (0..workers).map(|w| Gate::new(board.clone(), w)).collect(),
            controller: Controller::new(board, settings),
            order: (0..kinds.len()).collect(),
            rng: Rng::new(seed),
            step: u64::from(STEPS),
            cores,
            kinds: kinds.to_vec(),
            spread: vec![vec![1.0; workers]],
            says: false,
            minute: None,
            chance: false,
            owed: vec![0.0; kinds.len()],
            taken: 0.0,
            done: 0.0,
            line: VecDeque::new(),
            ends: BinaryHeap::new(),
            seen: vec![Tally::default(); kinds.len()],
            used: 0.0,
            events: Vec::new(),
        }
    }

    pub fn now(&self) -> Time {
        Time::from_nanos(self.step * (1_000_000_000 / u64::from(STEPS)))
    }

    fn pick(rng: &mut Rng, weights: &[f64]) -> usize {
        let mut at = rng.unit() * weights.iter().sum::<f64>();
        weights
            .iter()
            .position(|w| {
                at -= w;
                at < 0.0
            })
            .unwrap_or(0)
    }

    fn come(&mut self, i: usize) -> u32 {
        let mean = self.kinds[i].rate / f64::from(STEPS);
        if !self.chance {
            self.owed[i] += mean;
            let n = self.owed[i].floor();
            self.owed[i] -= n;
            return n as u32;
        }
        // Knuth's way to Poisson's distribution.
        let (least, mut product, mut n) = ((-mean).exp(), self.rng.unit(), 0);
        while product > least {
            product *= self.rng.unit();
            n += 1;
        }
        n
    }

    fn ask(&mut self, i: usize) {
        let kind = self.kinds[i];
        let spread = &self.spread[i % self.spread.len()];
        let worker = App::pick(&mut self.rng, spread);
        let class = App::pick(&mut self.rng, &kind.mix);
        let (now, id) = (self.now(), self.ids[i]);
        let tally = &mut self.seen[i];
        tally.offered[class] += 1;
        if let Err(why) = self.gates[worker].admit(id, CLASSES[class], now, &mut self.rng) {
            tally.refused[why as usize][class] += 1;
            return;
        }
        tally.passed[class] += 1;
        self.taken += kind.cost;
        self.line.push_back(Waits { work: self.taken, began: self.step, worker, id, kind });
    }

    /// A step of work; who is done with it, waits for others.
    fn work(&mut self) {
        let whole = self.cores / f64::from(STEPS);
        let work = (self.taken - self.done).clamp(0.0, whole);
        while let Some(first) = self.line.front().filter(|w| w.work <= self.done + work + 1e-9) {
            // One request has one core.
            let within =
                (first.work - self.done) / self.cores + first.kind.cost * (1.0 - 1.0 / self.cores).max(0.0);
            let latency = (self.step - first.began) as f64 / f64::from(STEPS) + within + first.kind.io;
            let end = End {
                step: self.step + ((within + first.kind.io) * f64::from(STEPS)).ceil() as u64,
                worker: first.worker,
                id: first.id,
                micros: (latency * 1e6) as u64,
                cost: self.says.then_some((first.kind.cost * 1e6) as u64),
            };
            self.ends.push(Reverse(end));
            self.line.pop_front();
        }
        (self.done, self.used) = (self.done + work, self.used + work);
    }

    /// A second of requests and their ends. Nobody has decided about it yet.
    pub fn serve(&mut self) -> Sample {
        self.seen.fill(Tally::default());
        self.used = 0.0;
        for _ in 0..STEPS {
            self.step += 1;
            for n in 0..self.kinds.len() {
                let i = self.order[n];
                for _ in 0..self.come(i) {
                    self.ask(i);
                }
            }
            self.work();
            while self.ends.peek().is_some_and(|e| e.0.step <= self.step) {
                let Some(Reverse(end)) = self.ends.pop() else { break };
                let took = Duration::from_micros(end.micros);
                self.gates[end.worker].complete(end.id, took, end.cost.map(Duration::from_micros), false);
            }
        }
        Sample { cpu: self.used, cores: self.cores, ..Sample::default() }
    }

    /// The app starts anew: all that it was asked for fails.
    pub fn restart(&mut self) {
        self.done = self.taken;
        for waits in self.line.drain(..) {
            let took = Duration::from_millis((self.step - waits.began) * 1000 / u64::from(STEPS));
            self.gates[waits.worker].complete(waits.id, took, None, true);
        }
    }

    pub fn tick(&mut self, sample: Option<&Sample>) -> View {
        self.events.extend(self.controller.tick(self.now(), self.minute, sample));
        self.controller.view()
    }

    pub fn second(&mut self) -> View {
        let sample = self.serve();
        self.tick(Some(&sample))
    }

    pub fn seconds(&mut self, n: u32) -> View {
        (0..n).map(|_| self.second()).last().expect("a second at least")
    }

    pub fn all(&self) -> Tally {
        let mut all = Tally::default();
        self.seen.iter().for_each(|t| all.add(t));
        all
    }
}

/// So many interfaces that use this part of the cores.
pub fn usual(interfaces: u32, cores: f64, part: f64) -> Vec<Asked> {
    let weight = |i: u32| 1.0 + f64::from(i % 5) * 0.3;
    let whole: f64 = (0..interfaces).map(|i| weight(i) * 20.0).sum();
    (0..interfaces).map(|i| Asked::new(20.0, part * cores * weight(i) / whole, 0.002)).collect()
}

pub fn held(view: &View) -> Vec<String> {
    let mut names: Vec<String> = view.culprits.iter().map(|c| c.name.to_string()).collect();
    names.sort();
    names
}

/// Whether there is little load, and no queue that has yet to be worked off.
pub fn calm(level: &Level) -> bool {
    level.cpu <= 0.9 * level.theta && level.q <= level.qref + 0.1
}

/// What must hold in every second, whatever happened: `before` is what was in force in it, `after` what was decided at
/// its end. `calm` counts seconds at up to nine tenths of the threshold.
#[derive(Debug, Default)]
pub struct Judge {
    calm: u32,
}

impl Judge {
    pub fn second(&mut self, app: &App, before: &View, after: &View) -> Result<(), TestCaseError> {
        requests(app, before)?;
        marks(before, after)?;
        limits(after)?;
        trim(before, after)?;
        self.calms(after)
    }

    /// After a minute of calm nothing is held, but for memory, whose calm is the hold's.
    fn calms(&mut self, after: &View) -> Result<(), TestCaseError> {
        let memory = after.level.memory > 0.0;
        let calm = after.signal != "stale" && !memory && calm(&after.level);
        self.calm = if calm { self.calm + 1 } else { 0 };
        prop_assert!(
            self.calm <= 61 || !after.active,
            "still active: {:?} {:?}",
            after.level,
            after.culprits
        );
        Ok(())
    }
}

/// Who is refused, and for what.
fn requests(app: &App, before: &View) -> Result<(), TestCaseError> {
    let names = held(before);
    for (i, tally) in app.seen.iter().enumerate() {
        let held = names.contains(&format!("i{i}"));
        let (culprit, overload) = (tally.held(Why::Culprit), tally.held(Why::Overload));
        prop_assert!(before.active || culprit + overload == 0, "i{i} held while nothing is short");
        prop_assert!(before.tier == 2 || overload == 0, "i{i} held with all in tier {}", before.tier);
        prop_assert!(culprit == 0 || (before.tier == 1 && held), "i{i} is not among {names:?}");
        prop_assert_eq!(tally.refused[Why::Marked as usize][1..].iter().sum::<u32>(), 0);
        let closed = before.active && before.level.mark_p <= 0.0;
        prop_assert!(!closed || tally.passed[0] == 0, "load tests of i{i} pass");
    }
    Ok(())
}

/// Load-test traffic is gone when anything begins, and comes back where there is room only.
fn marks(before: &View, after: &View) -> Result<(), TestCaseError> {
    let (was, is) = (before.level.mark_p, after.level.mark_p);
    if after.active && !before.active {
        prop_assert!(is <= 0.0, "load tests at {is} when all begins");
    } else if after.active && is > was {
        let level = after.level;
        let cost = after.top.iter().map(|t| t.cost_ms).fold(0.0, f64::max) / 1e3;
        let drained = level.q <= level.qref + 0.1 + 2.0 * cost / level.cores;
        let room = level.cpu < level.theta - 0.15 && drained;
        prop_assert!(is <= was + 0.0501 && room, "{was} to {is} at {level:?}");
    } else if !after.active {
        prop_assert!(is >= 1.0);
    }
    Ok(())
}

/// What culprits may have. Of a limitation for memory, shares are of memory: not judged here.
fn limits(after: &View) -> Result<(), TestCaseError> {
    let memory = after.activations.last().is_some_and(|a| a.cause.contains("memory"));
    if after.tier != 1 || after.signal == "stale" || after.culprits.is_empty() || memory {
        return Ok(());
    }
    let cores = after.level.cores;
    // What each may have, asks for, and has as usual; what a request costs as usual is what is shown among all.
    let mut shares = Vec::new();
    for c in &after.culprits {
        prop_assert!(c.limit.is_finite() && c.limit >= 0.0 && c.demand.is_finite(), "{c:?}");
        let Some(all) = after.top.iter().find(|t| t.name == c.name) else { return Ok(()) };
        let (now, usual) = (c.cost_ms / 1e3 / cores, all.cost_ms / 1e3 / cores);
        if now < 1e-9 {
            return Ok(());
        }
        shares.push((c.limit * now, c.demand, c.baseline * usual));
    }
    let room = after.level.room;
    let given: f64 = shares.iter().map(|s| s.0).sum();
    prop_assert!(given <= room * 1.001 + 1e-6, "{given} of {room}: {:?}", after.culprits);
    let normal: f64 = shares.iter().map(|s| s.1.min(s.2)).sum();
    for (c, (limit, demand, usual)) in after.culprits.iter().zip(&shares).filter(|_| normal <= room) {
        let least = demand.min(*usual);
        prop_assert!(*limit >= least * 0.999, "{normal} fits in {room}, yet {limit} of {least}: {c:?}");
    }
    Ok(())
}

/// −18 %/+5 % a second, but where it begins anew.
fn trim(before: &View, after: &View) -> Result<(), TestCaseError> {
    if before.tier == after.tier && before.active && after.active && (after.level.g - 1.0).abs() > 1e-9 {
        let Level { g, .. } = after.level;
        let ratio = g / before.level.g;
        prop_assert!(
            (0.8187..1.0513).contains(&ratio) || (before.tier == 2 && (g - 1.03).abs() < 1e-9),
            "{ratio}"
        );
    }
    Ok(())
}
