//! The part that decides, once a second.
use super::board::Board;
use super::cost::{self, Costs};
use super::culprits::{Culprits, Demand};
use super::evidence::{Interface, Level};
use super::give::GATE_QUEUE;
use super::mark::Mark;
use super::meter::{Flow, Meter};
use super::orders::Tier;
use super::record::Recorder;
use super::rise::{self, Usual};
use super::signal::{RELEASE, Reading, Signal, Standing, Work};
use super::slow::{Slowness, median};
use super::{Event, Sample, View};
use raddle_core::Time;
use raddle_model::{AdaptiveSettings, RuleMode};
use std::sync::Arc;

/// Seconds of life in which everything is new, and nobody rises.
pub(super) const INFANCY: f64 = 15.0;
/// Share of the cores below which what others use leaves room for culprits.
const FITS: f64 = 0.78;
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
    weeks: usize,
    pub(super) culprits: Culprits,
    pub(super) mark: Mark,
    recorder: Recorder,
    last: Option<Time>,
    pub(super) age: f64,
    /// When the orders before the last were given.
    pub(super) given: (Time, Time),
    pub(super) queue: Queue,
    memory_usual: Option<f64>,
    shortage: f64,
    /// Ticks in a row in which something was short.
    short: u32,
    active: bool,
    /// Whether it was memory that was short when it began.
    memory: bool,
    pub(super) tier: Tier,
    ended: Option<Time>,
    /// When somebody was last found to blame.
    blamed: Time,
    trim: f64,
    error: f64,
    pub(super) room: f64,
    cores: f64,
    /// Ticks: nobody to blame; calm; everything fits.
    blameless: u32,
    calm: u32,
    fits: u32,
}

/// The queue estimate over time, in seconds.
#[derive(Debug, Default)]
pub(super) struct Queue {
    now: f64,
    before: f64,
    pub(super) usual: f64,
    growing: u32,
}

impl Queue {
    fn reference(&self) -> f64 {
        (3.0 * self.usual).max(0.05)
    }

    fn drains(&self, one: f64) -> bool {
        self.now > self.reference() + 0.1 + 2.0 * one
    }
}

/// What is short this second, and how far.
#[derive(Clone, Copy, Debug)]
struct Load {
    /// Share of it in use, on the scale of the CPU's threshold.
    level: f64,
    memory: bool,
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
            weeks: 0,
            culprits: Culprits::default(),
            mark: Mark::default(),
            recorder: Recorder::default(),
            last: None,
            age: 0.0,
            given: (Time::ZERO, Time::ZERO),
            queue: Queue::default(),
            memory_usual: None,
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
        let demands = self.demands(&reading, load, week_minute);
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
    fn drains(&self, cores: f64) -> bool {
        let costs = self.culprits.members.iter().map(|m| self.costs.of(m.id as usize));
        self.queue.drains(costs.fold(0.0, f64::max) / cores)
    }

    fn theta(&self) -> f64 {
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
        let level = (self.theta() * memory / short).clamp(0.0, 1.0);
        let goes_on = self.active && self.memory && reading.cpu <= self.theta();
        if goes_on || (level > self.theta() && level > reading.cpu) {
            Load { level, memory: true }
        } else {
            cpu
        }
    }

    /// What each interface asks for, as a share of what is short.
    fn demands(&self, reading: &Reading, load: Load, minute: Option<u32>) -> Vec<Demand> {
        let held: f64 = self.meter.flows.iter().map(|f| f.admitted * f.lately).sum();
        let slow = Slowness::of(&self.meter.flows, &self.usual, |i| self.costs.of(i));
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
                    rises,
                    // A pause of the app delays whom it meets; they are gone when it is over.
                    dearer: if infant || flow.inflight < 4.0 * usual.inflight + 3.0 && self.short < 2 {
                        0.0
                    } else {
                        slow.dearer(flow, usual, cost)
                    },
                }
            })
            .collect()
    }

    /// Adds up shortage; begins, if there is somebody to hold.
    fn trigger(&mut self, now: Time, reading: &Reading, load: Load, demands: &[Demand]) {
        if reading.standing == Standing::Stale {
            return;
        }
        let theta = self.theta();
        let q = &self.queue;
        let queued = q.now > q.reference();
        let over = (load.level / theta - 1.0).min(0.5);
        let severe = if load.memory && load.level > theta {
            1.0
        } else if reading.cpu > 0.95 {
            (0.25 * (q.now / q.reference() - 1.0)).clamp(0.0, 0.75)
        } else {
            0.0
        };
        // Cores whose number is in doubt are short only if requests wait.
        let over = if over > 0.0 && reading.doubtful && !queued && !load.memory { 0.0 } else { over };
        self.shortage = (self.shortage + over + severe).clamp(0.0, 3.0);
        let short = load.level > 0.95 || (load.level > theta && (queued || load.memory));
        self.short = if short { self.short + 1 } else { 0 };
        let again = self.ended.is_some_and(|t| now.since(t).as_secs() < 60);
        if self.active || self.age < INFANCY {
            return;
        }
        let background = self.background(reading, load);
        let asked = demands.iter().map(Demand::share).sum::<f64>() + background;
        let marked = self.meter.flows.iter().enumerate();
        let marked: f64 = marked.map(|(i, f)| f.classes[0] * self.costs.of(i) / reading.cores).sum();
        let plain = load.level > 0.95 && asked > 1.0;
        let enough = self.shortage >= if again { 0.4 } else { 0.999 };
        if !enough && load.level <= 0.95 {
            return;
        }
        let added = self.blame(now, reading, load, demands);
        if !added.is_empty() && (plain || self.culprits.members.iter().any(|m| m.dearer)) {
            // All of it is used, and it is known by whom: nothing to wait for.
            self.shortage = self.shortage.max(1.0);
        } else if !enough {
            self.culprits.members.clear();
            return;
        }
        // A pause of the app looks like a shortage for a second or two; nothing that is asked explains it.
        let steady: f64 = demands.iter().zip(&self.meter.flows).map(|(d, f)| d.unit * f.smooth).sum();
        let known = self.age > 4.0 * INFANCY;
        let lasting = self.short >= 3 || (queued && known && steady + background > 0.97);
        let tested = marked > 0.01 && (asked + marked > theta || self.short >= 2);
        if added.is_empty() && !lasting && !tested {
            return;
        }
        (self.active, self.memory) = (true, load.memory);
        self.tier = Tier::Culprits;
        (self.trim, self.error, self.blameless, self.calm, self.fits) = (1.0, 0.0, 0, 0, 0);
        self.mark.begin(now);
        let level = self.level(now, reading);
        self.recorder.begin(now, load.memory, &level, &self.top(5));
        self.recorder.added(now, &added, demands, &self.culprits, &self.board);
    }

    /// Adds those to the culprits who are to blame.
    fn blame(
        &mut self,
        now: Time,
        reading: &Reading,
        load: Load,
        demands: &[Demand],
    ) -> Vec<super::InterfaceId> {
        let hidden = self.hidden(reading, load, demands);
        let own = self.background(reading, load);
        let fits = FITS.min(self.theta() - 0.02);
        let added = self.culprits.find(demands, own, hidden, self.short >= 2, fits, &self.board);
        if !added.is_empty() {
            self.blamed = now;
        }
        added
    }

    /// Everything is held: whether by now it is known whose fault it is.
    fn look_again(&mut self, now: Time, reading: &Reading, load: Load, demands: &[Demand]) {
        self.culprits.members.clear();
        let added = self.blame(now, reading, load, demands);
        let others = self.culprits.others(demands) + self.background(reading, load);
        if !added.is_empty() && (others <= 0.85 || self.culprits.members.iter().any(|m| m.dearer)) {
            self.tier = Tier::Culprits;
            (self.trim, self.error, self.blameless) = (1.0, 0.0, 0);
            self.recorder.added(now, &added, demands, &self.culprits, &self.board);
        } else {
            self.culprits.members.clear();
        }
    }

    fn regulate(&mut self, now: Time, reading: &Reading, load: Load, demands: &[Demand], seconds: f64) {
        if reading.standing == Standing::Stale {
            if self.signal.blind() >= 3.0 + RELEASE {
                self.end(now, "no sample of the app's load came for 30 s");
            }
            return;
        }
        let theta = self.theta();
        let draining = self.drains(reading.cores);
        if !draining && reading.cpu < 0.93 && !load.memory {
            self.learn_drift(reading, demands);
        }
        let worsens = load.level > 0.95 && self.queue.growing >= 2;
        let stays = load.level > 0.95 && self.short >= 3 && self.short.is_multiple_of(2);
        let worsens = worsens || stays;
        let nobody = load.level > theta && self.culprits.members.is_empty();
        // What requests cost that cost more is known a little later.
        let learning = self.culprits.members.iter().any(|m| m.dearer);
        let settled = !learning || now.since(self.blamed).as_secs_f64() > 2.5;
        if (worsens || nobody) && settled && self.tier == Tier::Culprits {
            let added = self.blame(now, reading, load, demands);
            self.recorder.added(now, &added, demands, &self.culprits, &self.board);
        }
        if self.tier == Tier::All && self.short.is_multiple_of(3) {
            self.look_again(now, reading, load, demands);
        }
        let others = self.culprits.others(demands) + self.background(reading, load);
        let hidden = self.hidden(reading, load, demands);
        let too_much = others > 0.85 || (self.culprits.members.is_empty() && others + hidden > 0.85);
        let blameless = load.level > 0.85 && too_much && (self.short > 0) && self.mark.closed();
        self.blameless = if blameless { self.blameless + 1 } else { 0 };
        if self.tier == Tier::Culprits && (self.blameless >= 2 || (self.blameless >= 1 && draining)) {
            self.tier = Tier::All;
            self.culprits.members.clear();
            (self.trim, self.fits) = (1.0, 0);
            self.recorder.everything(now, load.level, self.queue.now);
        }
        match self.tier {
            Tier::All => self.regulate_all(now, reading, load, demands),
            _ => self.regulate_culprits(now, load, demands, others, draining),
        }
        self.finish(now, reading, load, seconds);
    }

    /// Share in use that neither what is asked of anybody nor what is usual explains.
    fn hidden(&self, reading: &Reading, load: Load, demands: &[Demand]) -> f64 {
        if load.memory {
            return 0.0;
        }
        let of = |(i, d): (usize, &Demand)| self.meter.flows[i].admitted * d.unit * self.culprits.drift(i);
        let explained: f64 = demands.iter().enumerate().map(of).sum();
        (reading.cpu - explained - self.background(reading, load)).max(0.0)
    }

    fn background(&self, reading: &Reading, load: Load) -> f64 {
        if load.memory { 0.0 } else { self.costs.background / reading.cores }
    }

    fn learn_drift(&mut self, reading: &Reading, demands: &[Demand]) {
        let flows = &self.meter.flows;
        let others: f64 = demands
            .iter()
            .enumerate()
            .filter(|(i, _)| !self.culprits.holds(*i))
            .map(|(i, d)| flows[i].admitted * d.unit)
            .sum();
        let used = reading.cpu - others - self.costs.background / reading.cores;
        self.culprits.learn_drift(used, |i| flows[i].admitted, demands);
    }

    /// Tier 1: culprits get what the others leave, trimmed by how far the load is off.
    fn regulate_culprits(&mut self, now: Time, load: Load, demands: &[Demand], others: f64, draining: bool) {
        // Memory that is used up is not slow but gone: it keeps more distance.
        let margin = if load.memory { 0.1 } else { 0.01 };
        let target = self.theta() - margin - if draining { 0.12 } else { 0.0 };
        let error = 1.0 - load.level / target;
        let mut step = 0.3 * (error - self.error) + 0.15 * error;
        self.error = error;
        if error.abs() < 0.03 {
            step = 0.0;
        }
        if draining {
            step = step.min(if self.queue.growing > 0 { -0.1 } else { 0.0 });
        } else if !self.culprits.binding(demands) {
            step = step.min(0.0);
        }
        self.trim = (self.trim * step.clamp(-0.2, 0.05).exp()).clamp(0.2, 1.6);
        let usual = self.culprits.usual(demands);
        let mut room = (target - others).max(0.0) * self.trim;
        if !draining {
            room = room.max(usual.min((0.95 - others).max(0.0)));
        }
        self.room = room;
        self.culprits.share_out(demands, room);
        let gone = self.culprits.let_go(demands);
        self.recorder.let_go(now, &gone, &self.board);
    }

    /// Tier 2: everything shares what there is; the queue, bounded by the gates, says whether that is too much.
    fn regulate_all(&mut self, now: Time, reading: &Reading, load: Load, demands: &[Demand]) {
        let target = (self.theta() + 0.17).min(0.97);
        let over = self.queue.now - self.queue.usual;
        // A little more than fits: the gates hold back what would queue, the moment it would.
        let free = target + 0.015 - load.level;
        let step = if free > 0.0 { 0.5 * free } else { -0.02 };
        let all: f64 = demands.iter().map(Demand::share).sum::<f64>() + self.background(reading, load);
        self.trim = (self.trim * step.clamp(-0.2, 0.05).exp()).clamp(1.03, 1.6);
        self.room = (target - self.background(reading, load)).max(0.0) * self.trim;
        let fits = all <= self.room && over < 0.5 * GATE_QUEUE;
        self.fits = if fits { self.fits + 1 } else { 0 };
        if self.fits >= 5 {
            self.tier = Tier::Culprits;
            (self.trim, self.error) = (1.0, 0.0);
            self.recorder.fits(now, all);
        }
    }

    /// Ends when nobody is held any more and nothing is short, or when it has been calm for long.
    fn finish(&mut self, now: Time, reading: &Reading, load: Load, seconds: f64) {
        let theta = self.theta();
        // Of memory, the level where it is held is calm already.
        let kept = load.memory && !self.culprits.members.is_empty();
        let calm = load.level <= 0.9 * theta && !self.drains(reading.cores) && !kept;
        self.calm = if calm { self.calm + 1 } else { 0 };
        let free = self.tier == Tier::Culprits && self.culprits.members.is_empty();
        if free && self.mark.open() && load.level < theta && self.recorder.seconds(now) >= 5 {
            self.end(now, "nobody asks for more than there is");
        } else if f64::from(self.calm) * seconds >= 60.0 {
            self.end(now, "it was calm for 60 s");
        }
    }

    fn end(&mut self, now: Time, why: &str) {
        self.active = false;
        self.tier = Tier::Idle;
        self.culprits.members.clear();
        (self.shortage, self.ended) = (0.0, Some(now));
        self.mark.end();
        self.recorder.end(now, why);
    }

    /// Learns what is usual, while it is.
    fn learn(&mut self, reading: &Reading, load: Load, minute: Option<u32>, seconds: f64) {
        if reading.standing == Standing::Latency {
            self.costs.assume(self.usual.iter().map(|u| u.latency));
        }
        if reading.standing == Standing::Stale {
            return;
        }
        let held = self.tier == Tier::All || !self.culprits.members.is_empty();
        if let Some(used) = reading.used
            && ((load.level <= 0.9 && !self.drains(reading.cores) && !held) || self.age < INFANCY)
        {
            let usual = self.usual.iter();
            let work: Vec<cost::Work> = self.meter.flows.iter().zip(usual).map(|(f, u)| work(f, u)).collect();
            self.costs.learn(used * seconds, &work, seconds);
        }
        let odd = load.level > 0.9 || (self.shortage > 0.9 && self.drains(reading.cores));
        if held || (odd && self.age >= INFANCY) {
            return;
        }
        let pull = 1.0 / self.age.clamp(1.0, 60.0);
        self.queue.usual += (self.queue.now - self.queue.usual) * pull;
        if let Some(memory) = reading.memory {
            let usual = self.memory_usual.get_or_insert(memory);
            *usual += (memory - *usual) * (seconds / 300.0).min(0.5);
        }
        for (flow, usual) in self.meter.flows.iter().zip(&mut self.usual) {
            usual.learn(flow.offered, flow.inflight, flow.latency, seconds);
            if let Some(minute) = minute {
                if !usual.has_week() {
                    if self.weeks >= rise::WEEKS {
                        continue;
                    }
                    self.weeks += 1;
                }
                usual.learn_week(minute, flow.offered, seconds);
            }
        }
    }

    fn level(&self, now: Time, reading: &Reading) -> Level {
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
    fn top(&self, most: usize) -> Vec<Interface> {
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

fn work(flow: &Flow, usual: &Usual) -> cost::Work {
    let latency = if usual.latency > 0.0 { usual.latency } else { flow.lately };
    cost::Work { completed: flow.completed, latency, said: flow.said }
}
