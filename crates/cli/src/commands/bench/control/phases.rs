//! What is done to the control plane, and measured.
use super::mesh::Shape;
use super::plane::{self, Plane, Usage};
use super::report::{Changes, Phase, Report, Vanished};
use super::sidecar::{Event, MARK, Order, Sidecar, What};
use crate::exit::Failure;
use crate::output::progress;
use hdrhistogram::Histogram;
use raddle_bench::compare::Machine;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::time::timeout_at;

/// What is measured, and how patiently.
pub(super) struct Plan {
    pub(super) changes: usize,
    pub(super) vanish: u32,
    pub(super) grace: Duration,
    pub(super) patience: Duration,
    pub(super) idle: Duration,
    /// Files this process may open.
    pub(super) files: u64,
}

/// What is changed, to see it spread.
#[derive(Clone, Copy)]
enum Act {
    /// The endpoint that this instance is, of this service.
    Endpoint { service: usize, instance: usize },
    /// A rule for everybody.
    Rule,
}

/// All phases, one after the other.
pub(super) async fn run(plane: &Plane, shape: Shape, plan: &Plan) -> Result<Report, Failure> {
    let Shape { streams, services, instances, apps, subscribe } = shape;
    let machine = Some(Machine::describe(plan.files));
    let mut report = Report { machine, streams, services, instances, apps, subscribe, ..Report::default() };
    report.phases.push(idle("idle, nobody connected", plane, plan.idle).await);
    let mut bench = Bench::start(plane, shape, plan.patience);
    bench.report = report;
    bench.phase("first connection of all", |b| b.all(|s| s.whole)).await;
    bench.rest().await;
    let endpoint = |service| Act::Endpoint { service, instance: shape.app(service) };
    bench.changes("endpoint of a service all have", endpoint(0), plan.changes).await?;
    let other = (1..services).find(|s| shape.subscribers(*s) > 0).unwrap_or(0);
    bench.changes("endpoint of another service", endpoint(other), plan.changes).await?;
    bench.changes("one rule to all", Act::Rule, plan.changes).await?;
    bench.rest().await;
    bench.report.phases.push(idle("idle, all connected", plane, plan.idle).await);
    bench.order_all(Order::Drop, streams).await;
    bench.phase("all connections dropped at once", |b| b.all(|s| s.whole)).await;
    bench.rest().await;
    if plan.vanish > 0 {
        bench.vanish(streams * plan.vanish as usize / 100, plan).await?;
    }
    Ok(bench.report)
}

/// What is known of a sidecar.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    whole: bool,
    /// Endpoints of the service everybody has.
    endpoints: usize,
    fewest: usize,
    weight: u32,
    rule: u32,
}

struct Bench<'a> {
    plane: &'a Plane,
    shape: Shape,
    patience: Duration,
    orders: Vec<mpsc::Sender<Order>>,
    events: UnboundedReceiver<Event>,
    states: Vec<State>,
    failed: usize,
    next_mark: u32,
    report: Report,
}

impl<'a> Bench<'a> {
    fn start(plane: &'a Plane, shape: Shape, patience: Duration) -> Bench<'a> {
        let (tell, events) = mpsc::unbounded_channel();
        let orders = (0..shape.streams).map(|number| {
            let (order, orders) = mpsc::channel(16);
            let weights = HashMap::new();
            tokio::spawn(
                Sidecar { number, shape, target: plane.grpc, orders, events: tell.clone(), weights }.live(),
            );
            order
        });
        let states = vec![State::default(); shape.streams];
        let orders = orders.collect();
        Bench {
            plane,
            shape,
            patience,
            orders,
            events,
            states,
            failed: 0,
            next_mark: MARK,
            report: Report::default(),
        }
    }

    fn take(&mut self, event: Event) {
        let Some(state) = self.states.get_mut(event.stream) else { return };
        match event.what {
            What::Whole => state.whole = true,
            What::Weight(weight) => state.weight = weight,
            What::Endpoints(n) => {
                state.endpoints = n;
                state.fewest = state.fewest.min(n);
            }
            What::Rule(mark) => state.rule = mark,
            What::Failed => self.failed += 1,
        }
    }

    fn endpoints(&self) -> usize {
        (0..self.shape.instances).filter(|n| self.shape.app(*n) == 0).count()
    }

    /// Whether something holds for every sidecar, and each sees all endpoints.
    fn all(&self, holds: impl Fn(&State) -> bool) -> bool {
        let endpoints = self.endpoints();
        self.states.iter().all(|s| holds(s) && s.endpoints == endpoints)
    }

    async fn order_all(&mut self, order: Order, first: usize) {
        for (state, to) in self.states.iter_mut().zip(&self.orders).take(first) {
            *state = State::default();
            let _ = to.send(order).await;
        }
    }

    /// Waits until it is done, and notes what it took.
    async fn phase(&mut self, name: &'static str, done: impl Fn(&Bench<'_>) -> bool) -> bool {
        progress(name);
        let (began, before, failed) = (Instant::now(), self.plane.usage(), self.failed);
        let until = began + self.patience;
        let mut last = began;
        let mut is = done(self);
        while !is {
            let Ok(Some(event)) = timeout_at(until.into(), self.events.recv()).await else { break };
            last = event.at;
            self.take(event);
            // Looking at all of them is dear: only when nothing waits.
            is = self.events.is_empty() && done(self);
        }
        let seconds = if is { last.saturating_duration_since(began) } else { began.elapsed() }.as_secs_f64();
        let after = self.plane.usage();
        let failed = self.failed - failed;
        self.report.phases.push(phase(name, seconds, before, after, failed, is));
        is
    }

    /// Takes what is still coming, until nothing has come for a second.
    async fn rest(&mut self) {
        while let Ok(Some(event)) = tokio::time::timeout(Duration::from_secs(1), self.events.recv()).await {
            self.take(event);
        }
    }

    /// Changes something so many times, and waits each time until all who subscribed have it.
    async fn changes(&mut self, what: &'static str, act: Act, changes: usize) -> Result<(), Failure> {
        progress(what);
        let concerned = |s| match act {
            Act::Endpoint { service, .. } => self.shape.subscriptions(s).contains(&service),
            Act::Rule => true,
        };
        let subscribers: Vec<bool> = (0..self.shape.streams).map(concerned).collect();
        let count = subscribers.iter().filter(|s| **s).count();
        let (began, before, failed) = (Instant::now(), self.plane.usage(), self.failed);
        // Three digits of microseconds, up to a minute: the bounds are constants that fit.
        let Ok(mut times) = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3) else { return Ok(()) };
        let mut missed = 0;
        for _ in 0..changes {
            let sent = Instant::now();
            let mark = self.change(act).await?;
            let until = sent + Duration::from_secs(10);
            let mut owed = count;
            while owed > 0 {
                let Ok(Some(event)) = timeout_at(until.into(), self.events.recv()).await else { break };
                let news = self.states.get(event.stream).is_some_and(|s| match act {
                    Act::Endpoint { .. } => event.what == What::Weight(mark) && s.weight != mark,
                    Act::Rule => event.what == What::Rule(mark) && s.rule != mark,
                });
                self.take(event);
                if news && subscribers.get(event.stream) == Some(&true) {
                    owed -= 1;
                    let us = event.at.saturating_duration_since(sent).as_micros() as u64;
                    times.saturating_record(us);
                }
            }
            missed += owed;
            // Changes that come one by one, not a storm: the next one finds the merging window open again.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let ms = |us: u64| us as f64 / 1000.0;
        self.report.changes.push(Changes {
            what,
            changes,
            subscribers: count,
            missed,
            p50_ms: ms(times.value_at_quantile(0.5)),
            p99_ms: ms(times.value_at_quantile(0.99)),
            max_ms: ms(times.max()),
        });
        let (took, failed) = (began.elapsed().as_secs_f64(), self.failed - failed);
        self.report.phases.push(phase(what, took, before, self.plane.usage(), failed, true));
        Ok(())
    }

    /// Makes the next change; the mark by which it is known.
    async fn change(&mut self, act: Act) -> Result<u32, Failure> {
        self.next_mark += 1;
        let mark = self.next_mark;
        match act {
            Act::Endpoint { instance, .. } => {
                if let Some(order) = self.orders.get(instance % self.shape.streams) {
                    let _ = order.send(Order::Publish(instance, mark)).await;
                }
            }
            Act::Rule => {
                let rest = self.plane.rest;
                let applied = tokio::task::spawn_blocking(move || plane::apply_rule(rest, mark)).await;
                applied.map_err(|e| Failure::new(format!("a rule was not applied: {e}")))??;
            }
        }
        Ok(mark)
    }

    /// Ends so many sidecars without a word, looks at what the others see, and lets them come back.
    async fn vanish(&mut self, dead: usize, plan: &Plan) -> Result<(), Failure> {
        for state in &mut self.states {
            state.fewest = state.endpoints;
        }
        let gone: usize = (0..dead).map(|s| self.shape.published(s).count()).sum();
        let (began, before) = (Instant::now(), self.plane.usage());
        progress("a share of all vanishes at once");
        for order in self.orders.iter().take(dead) {
            let _ = order.send(Order::Die).await;
        }
        let mut kept = 0;
        while began.elapsed() < plan.grace + Duration::from_secs(20) && kept < gone {
            self.rest().await;
            kept = self.plane.metric("raddle_control_instances{state=\"kept\"}")? as usize;
        }
        // What comes late would be a mistake of protection: it is waited for.
        tokio::time::sleep(Duration::from_secs(3)).await;
        self.rest().await;
        kept = self.plane.metric("raddle_control_instances{state=\"kept\"}")? as usize;
        let mesh_protected = self.plane.metric("raddle_control_mesh_protected")? > 0.0;
        let fewest = self.states.iter().skip(dead).map(|s| s.fewest).min().unwrap_or_default();
        let took = began.elapsed().as_secs_f64();
        self.report.phases.push(phase(
            "a share vanished, until kept",
            took,
            before,
            self.plane.usage(),
            0,
            kept == gone,
        ));
        self.order_all(Order::Live, dead).await;
        self.phase("they are back", |b| b.states.iter().all(|s| s.whole)).await;
        self.rest().await;
        let kept_after = self.plane.metric("raddle_control_instances{state=\"kept\"}")? as usize;
        self.report.vanished = Some(Vanished {
            sidecars: dead,
            instances: gone,
            kept,
            mesh_protected,
            fewest_endpoints: fewest,
            endpoints: self.endpoints(),
            kept_after,
        });
        Ok(())
    }
}

/// Does nothing for so long.
async fn idle(name: &'static str, plane: &Plane, long: Duration) -> Phase {
    progress(name);
    let (began, before) = (Instant::now(), plane.usage());
    tokio::time::sleep(long).await;
    phase(name, began.elapsed().as_secs_f64(), before, plane.usage(), 0, true)
}

fn phase(name: &'static str, seconds: f64, before: Usage, after: Usage, failed: usize, done: bool) -> Phase {
    let (cpu, own) = (after.cpu - before.cpu, after.own - before.own);
    // The phase's end as it is measured may be a little before its CPU is read.
    let long = seconds.max(0.001);
    Phase {
        name,
        seconds,
        cpu_seconds: cpu,
        cpu_percent: cpu / long * 100.0,
        sidecars_cpu_seconds: own,
        others_cores: ((after.machine - before.machine - cpu - own) / long).max(0.0),
        resident_mib: after.resident,
        peak_mib: after.peak,
        failed,
        done,
    }
}
