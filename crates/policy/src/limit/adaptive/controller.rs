//! The part that decides, once a second.
use super::board::Board;
use super::cost::Costs;
use super::culprits::{Culprits, Demand};
use super::evidence::{Interface, Level};
use super::mark::Mark;
use super::meter::{Flow, Meter};
use super::orders::Tier;
use super::record::Recorder;
use super::rise::Usual;
use super::signal::{Reading, Signal, Work};
use super::slow::{Pile, Piles, Slowness, median};
use super::{Event, Sample, View};
use raddle_core::Time;
use raddle_model::{AdaptiveSettings, RuleMode};
use std::sync::Arc;

/// Seconds of life in which everything is new, and nobody rises.
pub(super) const INFANCY: f64 = 15.0;
/// Seconds after which costs are known well enough to hold things against them.
pub(super) const KNOWN: f64 = 60.0;
/// Share of the memory by which its level is looked ahead of at most.
const MOST_MOVED: f64 = 0.15;
/// Interfaces shown.
const TOP: usize = 20;

/// The part that decides, once a second.
#[derive(Debug)]
pub struct Controller {
    pub(super) board: Arc<Board>,
    pub(super) settings: AdaptiveSettings,
    pub(super) meter: Meter,
    pub(super) signal: Signal,
    pub(super) costs: Costs,
    pub(super) usual: Vec<Usual>,
    /// By interface: ticks in a row in which it seemed dearer than usual.
    pub(super) dear: Vec<u32>,
    pub(super) weeks: usize,
    pub(super) culprits: Culprits,
    pub(super) mark: Mark,
    pub(super) recorder: Recorder,
    pub(super) last: Option<Time>,
    pub(super) age: f64,
    /// When the orders before the last were given.
    pub(super) given: (Time, Time),
    pub(super) queue: Queue,
    pub(super) memory_usual: Option<f64>,
    /// Memory at the last tick, and how far it moves from one to the next, of late.
    memory_last: Option<f64>,
    memory_moves: f64,
    pub(super) shortage: f64,
    /// Ticks in a row in which something was short.
    pub(super) short: u32,
    pub(super) active: bool,
    /// Whether it was memory that was short when it began.
    pub(super) memory: bool,
    pub(super) tier: Tier,
    pub(super) ended: Option<Time>,
    /// When somebody was last found to blame.
    pub(super) blamed: Time,
    pub(super) trim: f64,
    pub(super) error: f64,
    pub(super) room: f64,
    pub(super) cores: f64,
    /// Ticks: nobody to blame; calm; everything fits.
    pub(super) blameless: u32,
    pub(super) calm: u32,
    pub(super) fits: u32,
}

/// The queue estimate over time, in seconds.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) now: f64,
    pub(super) before: f64,
    pub(super) usual: f64,
    pub(super) growing: u32,
}

impl Queue {
    pub(super) fn reference(&self) -> f64 {
        (3.0 * self.usual).max(0.05)
    }

    pub(super) fn drains(&self, one: f64) -> bool {
        self.now > self.reference() + 0.1 + 2.0 * one
    }
}

/// What is short this second, and how far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Share of it in use, on the scale of the CPU's threshold.
    pub(super) level: f64,
    pub(super) memory: bool,
}

impl Controller {
    /// A controller of this board.
    pub fn new(board: Arc<Board>, settings: &AdaptiveSettings) -> Controller {
        Controller {
            board,
            settings: settings.clone(),
            meter: Meter::default(),
            signal: Signal::default(),
            costs: Costs::default(),
            usual: Vec::new(),
            dear: Vec::new(),
            weeks: 0,
            culprits: Culprits::default(),
            mark: Mark::default(),
            recorder: Recorder::new(settings.mode == RuleMode::Observe),
            last: None,
            age: 0.0,
            given: (Time::ZERO, Time::ZERO),
            queue: Queue::default(),
            memory_usual: None,
            memory_last: None,
            memory_moves: 0.0,
            shortage: 0.0,
            short: 0,
            active: false,
            memory: false,
            tier: Tier::Idle,
            ended: None,
            blamed: Time::ZERO,
            trim: 1.0,
            error: 0.0,
            room: 0.0,
            cores: 0.0,
            blameless: 0,
            calm: 0,
            fits: 0,
        }
    }

    /// Goes on with other settings; what was learned stays. Another [`AdaptiveSettings::max_interfaces`] or
    /// [`AdaptiveSettings::by`] asks for another board.
    pub fn configure(&mut self, settings: &AdaptiveSettings) {
        self.board.set_observe(settings.mode == RuleMode::Observe);
        self.recorder.observe = settings.mode == RuleMode::Observe;
        self.settings = settings.clone();
    }

    /// Decides for the next second. `sample` is absent if nothing could be read. Minutes of the week since some Monday
    /// are `week_minute`, for what is usual at this time of the week; absent = not known.
    pub fn tick(&mut self, now: Time, week_minute: Option<u32>, sample: Option<&Sample>) -> Vec<Event> {
        let seconds = match self.last {
            // Twice for one second: what there was to learn is learned.
            Some(last) if now.since(last).as_secs_f64() < 0.2 => return Vec::new(),
            Some(last) => now.since(last).as_secs_f64(),
            None => 1.0,
        };
        self.last = Some(now);
        self.age += seconds;
        self.meter.read(&self.board, seconds);
        self.usual.resize_with(self.meter.flows.len(), Usual::default);
        let reading = self.sense(sample, seconds);
        self.cores = reading.cores;
        let load = self.load(&reading);
        let mut demands = self.demands(&reading, load, week_minute);
        self.confirm(&mut demands);
        self.mark.note(self.meter.flows.iter().map(|f| f.classes[0]).sum(), self.active);
        self.trigger(now, &reading, load, &demands);
        if self.active {
            self.regulate(now, &reading, load, &demands, seconds);
        }
        self.mark.tick(now, self.active, load.level, self.theta(), self.drains(reading.cores));
        self.learn(&reading, load, week_minute, seconds);
        self.give(now, &reading, week_minute);
        let level = self.level(now, &reading);
        self.recorder.second(now, level, reading.standing, &self.culprits, &demands, &self.board)
    }

    /// CPU seconds of a request, with what is only known since it is held.
    pub(super) fn cost(&self, i: usize) -> f64 {
        self.costs.of(i) * self.culprits.drift(i)
    }

    /// Whether the queue is so long that it must be worked off first: longer than a few requests of those held make it.
    pub(super) fn drains(&self, cores: f64) -> bool {
        let costs = self.culprits.members.iter().map(|m| self.costs.of(m.id as usize));
        self.queue.drains(costs.fold(0.0, f64::max) / cores)
    }

    pub(super) fn theta(&self) -> f64 {
        self.settings.threshold.clamp(0.5, 0.95)
    }

    /// What the sample says, held against what the flows say; and the queue.
    fn sense(&mut self, sample: Option<&Sample>, seconds: f64) -> Reading {
        let mut work = Work { done: self.costs.background, asked: self.costs.background, ..Work::default() };
        let mut slow = Vec::new();
        for (i, (flow, usual)) in self.meter.flows.iter().zip(&self.usual).enumerate() {
            let cost = self.cost(i);
            work.done += flow.completed / seconds * cost;
            work.asked += flow.admitted * cost;
            if let (Some(latency), true) = (flow.latency, usual.latency > 0.0 && flow.completed >= 3.0) {
                slow.push(latency / usual.latency);
            }
        }
        work.slow = median(&mut slow);
        work.queued = self.queue.now > self.queue.reference();
        let reading = self.signal.read(sample, self.settings.cores, &work, seconds);
        let wanted: f64 = self.meter.flows.iter().enumerate().map(|(i, f)| f.inflight * self.cost(i)).sum();
        let q = &mut self.queue;
        (q.before, q.now) = (q.now, wanted / reading.cores);
        q.growing = if q.now > q.before + 0.01 { q.growing + 1 } else { 0 };
        reading
    }

    /// Which is shorter, cores or memory.
    fn load(&mut self, reading: &Reading) -> Load {
        let cpu = Load { level: reading.cpu, memory: false };
        let Some(memory) = reading.memory else { return cpu };
        let usual = *self.memory_usual.get_or_insert(memory);
        // An app that always has most of its memory in use is not short of it: shortage begins with the last half of
        // what is usually left.
        let short = self.settings.memory_threshold.max(usual + 0.5 * (1.0 - usual)).max(1e-3);
        let moved = (memory - self.memory_last.replace(memory).unwrap_or(memory)).abs().min(MOST_MOVED);
        self.memory_moves += (moved - self.memory_moves) * 0.05;
        // Memory that is used up cannot be waited for: where it may be in a second is what counts.
        let ahead = memory + (3.0 * self.memory_moves).min(MOST_MOVED);
        let level = (self.theta() * ahead / short).clamp(0.0, 1.0);
        let goes_on = self.active && self.memory && reading.cpu < 0.95;
        if goes_on || (level > self.theta() && level > reading.cpu) {
            Load { level, memory: true }
        } else {
            cpu
        }
    }

    /// A pause of the app lets requests last longer in one second, by chance those of one interface more than others'.
    /// Where their pile does not say that it is this one's fault, who is dearer is so in the next second as well.
    fn confirm(&mut self, demands: &mut [Demand]) {
        self.dear.resize(demands.len(), 0);
        let known = self.age > KNOWN;
        for (seconds, d) in self.dear.iter_mut().zip(demands) {
            *seconds = if d.dearer > 0.0 || d.pile.share > 0.0 { *seconds + 1 } else { 0 };
            if *seconds < 2 {
                d.dearer = 0.0;
            }
            if !known {
                (d.pile.sure, d.pile.jam) = (false, false);
            }
            if *seconds < 2 && !d.pile.sure {
                d.pile = Pile::default();
            }
        }
    }

    /// What each interface asks for, as a share of what is short.
    fn demands(&self, reading: &Reading, load: Load, minute: Option<u32>) -> Vec<Demand> {
        let held: f64 = self.meter.flows.iter().map(|f| f.admitted * f.lately).sum();
        let slow = Slowness::of(&self.meter.flows, &self.usual, |i| self.costs.of(i));
        let piles = Piles::of(&self.meter.flows, &self.usual, |i| self.costs.of(i), reading.cores);
        let flows = self.meter.flows.iter().zip(&self.usual).enumerate();
        flows
            .map(|(i, (flow, usual))| {
                let cost = self.costs.of(i);
                let unit = if load.memory {
                    load.level * flow.lately / held.max(1e-9)
                } else {
                    cost / reading.cores
                };
                let infant = self.age < INFANCY;
                let held = self.culprits.holds(i);
                let rises =
                    std::array::from_fn(|m| !infant && usual.rises(flow.offered, flow.smooth, m, minute));
                let rate = if held || rises.contains(&true) { flow.offered } else { flow.smooth };
                Demand {
                    rate,
                    usual: std::array::from_fn(|m| usual.rate(m, minute)),
                    unit,
                    cost,
                    lasts: usual.latency,
                    rises,
                    dearer: if infant { 0.0 } else { self.dearer(flow, usual, cost, slow) },
                    pile: if infant || flow.said.is_some() { Pile::default() } else { piles.of[i] },
                }
            })
            .collect()
    }

    /// By how much more than usual an interface's requests cost, in units of that.
    fn dearer(&self, flow: &Flow, usual: &Usual, cost: f64, slow: Slowness) -> f64 {
        if let Some(said) = flow.said {
            // What the app says itself needs no guess, and who only waits for others is not dearer.
            return (said / cost.max(1e-9) - 1.0).max(0.0);
        }
        // A pause of the app delays whom it meets; they are gone when it is over.
        if flow.inflight < 4.0 * usual.inflight + 3.0 && self.short < 2 {
            return 0.0;
        }
        slow.dearer(flow, usual, cost)
    }

    pub(super) fn level(&self, now: Time, reading: &Reading) -> Level {
        Level {
            at_secs: now.as_nanos() as f64 * 1e-9,
            cpu: reading.cpu,
            theta: self.theta(),
            cores: reading.cores,
            memory: reading.memory.unwrap_or(0.0),
            q: self.queue.now,
            qref: self.queue.reference(),
            s: self.shortage,
            g: self.trim,
            mark_p: self.mark.pass,
            room: if self.active { self.room } else { 0.0 },
            tier: self.tier as u8,
            offered: self.meter.offered,
            refused: self.meter.refused,
        }
    }

    /// The interfaces that use most of the CPU.
    pub(super) fn top(&self, most: usize) -> Vec<Interface> {
        let used = |i: usize| self.meter.flows[i].smooth * self.costs.of(i);
        let mut order: Vec<usize> = (0..self.meter.flows.len()).filter(|i| used(*i) > 0.0).collect();
        order.sort_by(|a, b| used(*b).total_cmp(&used(*a)));
        order.truncate(most);
        let cores = self.cores.max(1e-6);
        let interface = |i: usize| {
            let flow = &self.meter.flows[i];
            Interface {
                name: self.board.name(i as u32),
                share: used(i) / cores,
                cost_ms: self.costs.of(i) * 1e3,
                offered: flow.smooth,
                baseline: self.usual.get(i).map_or(0.0, |u| u.rate(0, None)),
                inflight: flow.inflight as u32,
                latency_ms: flow.lately * 1e3,
            }
        };
        order.into_iter().map(interface).collect()
    }

    /// What it knows and does.
    pub fn view(&self) -> View {
        View {
            observe: self.board.observes(),
            top: self.top(TOP),
            interfaces: self.board.interfaces(),
            ..self.recorder.view()
        }
    }
}
