//! Plays a scenario: callers, limiter and server, event by event.
mod arrivals;
mod callers;

use crate::chance::Chance;
use crate::limiter::{End, Limiter};
use crate::measure::Run;
use crate::scenario::Scenario;
use crate::server::{Job, JobId, Server};
pub(crate) use arrivals::Arrival;
use arrivals::Arrivals;
use raddle_policy::limit::adaptive::Sample;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Seconds until an app that died of its memory is back.
const RESTART: f64 = 5.0;

/// Something that will happen.
#[derive(Clone, Debug)]
enum Next {
    /// A call has waited for others long enough.
    Waited(JobId, u32),
    /// A caller tries again.
    Again(Arrival, Attempt),
    /// The limiter looks at the load.
    Tick,
    /// A new second begins.
    Second,
    /// The collector begins, ends.
    Pause(bool),
    /// The app is back.
    Up,
}

/// Which attempt it is, and when the first was.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    first: f64,
    number: u8,
}

#[derive(Clone, Debug)]
struct Due {
    at: f64,
    order: u64,
    next: Next,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    /// The greatest is the one that comes first.
    fn cmp(&self, other: &Due) -> Ordering {
        other.at.total_cmp(&self.at).then(other.order.cmp(&self.order))
    }
}

/// Plays a scenario with a limiter. The same scenario, seed and limiter give the same run.
pub fn run(scenario: &Scenario, seed: u64, limiter: &mut dyn Limiter) -> Run {
    let mut world = World::new(scenario, seed, limiter);
    world.play();
    world.run
}

/// What had been used at the last look at the load.
#[derive(Clone, Copy, Debug, Default)]
struct Looked {
    at: f64,
    busy: f64,
    pressed: f64,
    active: f64,
}

struct World<'a> {
    scenario: &'a Scenario,
    limiter: &'a mut dyn Limiter,
    now: f64,
    server: Server,
    due: BinaryHeap<Due>,
    order: u64,
    arrivals: Arrivals,
    timeouts: callers::Timeouts,
    /// Chance of what depends on the limiter: retries; the sensor's errors.
    backoffs: Chance,
    sensor: Chance,
    /// When looks at the load come within a second, and what was used at the last one.
    phase: f64,
    looked: Looked,
    down: bool,
    run: Run,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, seed: u64, limiter: &'a mut dyn Limiter) -> World<'a> {
        let mut sensor = Chance::new(seed, 12);
        let phase = sensor.unit();
        World {
            scenario,
            limiter,
            now: 0.0,
            server: Server::new(scenario.cores, scenario.discipline),
            due: BinaryHeap::new(),
            order: 0,
            arrivals: Arrivals::new(scenario, seed),
            timeouts: callers::Timeouts::new(scenario),
            backoffs: Chance::new(seed, 11),
            sensor,
            phase,
            looked: Looked::default(),
            down: false,
            run: Run::new(scenario),
        }
    }

    fn later(&mut self, at: f64, next: Next) {
        self.order += 1;
        self.due.push(Due { at, order: self.order, next });
    }

    fn play(&mut self) {
        let end = self.scenario.end();
        self.second();
        let first = self.limiter.period() * (1.0 + self.phase);
        self.later(first, Next::Tick);
        if let Some(pauses) = self.scenario.pauses {
            self.later(pauses.every * (0.3 + 0.5 * self.phase), Next::Pause(true));
        }
        loop {
            let due = self.due.peek().map_or(f64::INFINITY, |d| d.at);
            let (computed, arrives) = (self.server.next(), self.arrivals.next_at());
            let given_up = self.timeouts.next();
            let at = due.min(computed).min(arrives).min(given_up);
            if at >= end {
                break;
            }
            self.server.advance(at);
            self.now = at;
            if at == due {
                if let Some(due) = self.due.pop() {
                    self.happen(due.next);
                }
            } else if at == computed {
                self.computed();
            } else if at == arrives {
                let arrival = self.arrivals.take();
                self.run.offer(at, &arrival);
                self.attempt(arrival, Attempt { first: at, number: 0 });
            } else {
                self.give_up();
            }
        }
        self.server.advance(end);
        self.run.close(end, &self.server);
        self.run.notes.extend(self.limiter.notes());
    }

    fn happen(&mut self, next: Next) {
        match next {
            Next::Waited(job, generation) => {
                if self.server.jobs.same(job, generation) {
                    self.server.compute(job);
                }
            }
            Next::Again(arrival, attempt) => self.attempt(arrival, attempt),
            Next::Tick => self.tick(),
            Next::Second => self.second(),
            Next::Pause(begins) => {
                self.server.paused = begins;
                if let Some(pauses) = self.scenario.pauses {
                    let until = if begins { pauses.length } else { pauses.every - pauses.length };
                    self.later(self.now + until, Next::Pause(!begins));
                }
            }
            Next::Up => self.down = false,
        }
    }

    /// What changes with a new second: rates, cores, what the app does for itself.
    fn second(&mut self) {
        let t = self.now;
        self.run.close(t, &self.server);
        self.server.cores = self.scenario.cores_at(t);
        let event = usize::from(self.scenario.in_event(t));
        self.server.background = self.scenario.background[event] * self.scenario.cores;
        self.arrivals.second(self.scenario, t);
        self.later((t + 1.0).round(), Next::Second);
    }

    /// The limiter looks at the load.
    fn tick(&mut self) {
        let (period, sensor) = (self.limiter.period(), self.scenario.sensor);
        let last = self.looked;
        let passed = self.now - last.at;
        let error = 1.0 + sensor.error * self.sensor.normal();
        let sample = Sample {
            cpu: ((self.server.busy - last.busy) / passed * error).max(0.0),
            cores: self.server.cores * sensor.cores,
            memory: self.scenario.memory.map(|own| (own + self.server.jobs.memory).min(1.0)),
            pressure: Some(((self.server.pressed - last.pressed) / passed).min(1.0)),
            throttled: None,
        };
        let active = (self.server.active - last.active) / passed;
        let missing = self.sensor.unit() < sensor.missing;
        if !missing {
            let server = &self.server;
            self.looked =
                Looked { at: self.now, busy: server.busy, pressed: server.pressed, active: server.active };
        }
        self.limiter.tick(self.now, (!missing).then_some(&sample), active);
        let wobble = sensor.jitter * self.sensor.between(-1.0, 1.0);
        // Late looks do not move those after them: they come as if by a clock.
        let nominal = ((self.now - self.phase) / period).round() * period + self.phase;
        self.later((nominal + period * (1.0 + wobble)).max(self.now + 0.1 * period), Next::Tick);
    }

    /// A CPU phase has ended.
    fn computed(&mut self) {
        let Some(id) = self.server.ended() else { return };
        let job = &self.server.jobs[id];
        if job.waits() {
            let (until, generation) = (self.now + job.io, job.generation);
            self.later(until, Next::Waited(id, generation));
            return;
        }
        let job = self.server.jobs.remove(id);
        if job.aside {
            return;
        }
        self.server.release();
        self.finish(&job, false);
        if job.later > 0.0 {
            let rest = Job { cpu: [job.later, 0.0], aside: true, ..Job::default() };
            let id = self.server.jobs.insert(rest);
            self.server.compute_aside(id);
        }
    }

    /// A call has left the server: the limiter learns of it, and its caller, if it still waits.
    fn finish(&mut self, job: &Job, failed: bool) {
        let latency = self.now - job.sent;
        let queued = (latency - job.cpu[0] - job.cpu[1] - job.io).max(0.0);
        self.limiter.complete(&job.call, &End { latency, queued, failed, late: job.gone }, self.now);
        if job.gone {
            return;
        }
        if failed {
            self.failed(job.call, job_arrival(job), Attempt { first: job.first, number: job.attempt });
        } else {
            self.run.answered(self.now, job);
        }
    }

    /// The app's memory is used up: it dies, and everything in it.
    fn crash(&mut self) {
        self.run.crashes += 1;
        self.down = true;
        self.server.crash();
        for id in self.server.jobs.ids() {
            let job = self.server.jobs.remove(id);
            if !job.aside {
                self.finish(&job, true);
            }
        }
        self.later(self.now + RESTART, Next::Up);
    }
}

/// What a call asked for, for its caller to ask again.
fn job_arrival(job: &Job) -> Arrival {
    Arrival { call: job.call, cpu: job.cpu, io: job.io, later: job.later, memory: job.memory }
}
