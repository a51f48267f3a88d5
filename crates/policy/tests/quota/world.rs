//! Sidecars and a quota server in simulated time, with a network that may do what it likes.
use raddle_core::Time;
use raddle_policy::Rng;
use raddle_policy::quota::{Client, Grant, Item, Limit, Pot, REPORT, Server, TICK, Take, Tap, Wanted};
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// What the network does to messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network {
    pub(crate) delay: (u64, u64),
    pub(crate) lost: f64,
    pub(crate) twice: f64,
}

pub(crate) const GOOD: Network = Network { delay: (0, 1), lost: 0.0, twice: 0.0 };

pub(crate) struct Sidecar {
    pub(crate) client: Client,
    pub(crate) taps: Vec<Tap>,
    /// Requests a second at each rule.
    pub(crate) demand: Vec<f64>,
    next: Vec<f64>,
    waits: VecDeque<(Time, usize)>,
    report: Time,
    /// Reports do not get through, nor answers.
    pub(crate) cut: bool,
    pub(crate) alive: bool,
    poked: bool,
}

enum Carried {
    Report(usize, u64, Vec<Item>),
    Answer(usize, u64, Vec<Grant>),
    Poke(usize),
}

struct Message {
    at: Time,
    order: u64,
    what: Carried,
}

impl PartialEq for Message {
    fn eq(&self, other: &Message) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Message {}
impl PartialOrd for Message {
    fn partial_cmp(&self, other: &Message) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Message {
    fn cmp(&self, other: &Message) -> std::cmp::Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) rng: Rng,
    pub(crate) server: Option<Server>,
    pub(crate) sidecars: Vec<Sidecar>,
    pub(crate) rules: Vec<Arc<str>>,
    pub(crate) limits: Vec<f64>,
    pub(crate) network: Network,
    mail: BinaryHeap<Message>,
    order: u64,
    ticked: Time,
    /// Requests let through and refused, by rule.
    pub(crate) passed: Vec<u64>,
    pub(crate) refused: Vec<u64>,
    pub(crate) step: Duration,
}

impl World {
    pub(crate) fn new(sidecars: usize, limits: &[f64], seed: u64) -> World {
        let rules: Vec<Arc<str>> = (0..limits.len()).map(|i| format!("rule-{i}").into()).collect();
        let mut world = World {
            now: Time::from_millis(10_000),
            rng: Rng::new(seed),
            server: None,
            sidecars: Vec::new(),
            rules,
            limits: limits.to_vec(),
            network: GOOD,
            mail: BinaryHeap::new(),
            order: 0,
            ticked: Time::ZERO,
            passed: vec![0; limits.len()],
            refused: vec![0; limits.len()],
            step: Duration::from_millis(1),
        };
        for _ in 0..sidecars {
            world.join();
        }
        world.start(false);
        world
    }

    /// Another sidecar.
    pub(crate) fn join(&mut self) -> usize {
        let mut client = Client::default();
        client.set(&self.wanted(), self.now);
        let pots: Vec<Arc<Pot>> = self.rules.iter().map(|r| client.pot(r).expect("set").clone()).collect();
        let first = Duration::from_millis(u64::from(self.rng.below(1000)));
        self.sidecars.push(Sidecar {
            client,
            taps: pots.into_iter().map(Tap::new).collect(),
            demand: vec![0.0; self.rules.len()],
            next: vec![0.0; self.rules.len()],
            waits: VecDeque::new(),
            report: self.now + first,
            cut: false,
            alive: true,
            poked: false,
        });
        self.sidecars.len() - 1
    }

    fn wanted(&self) -> Vec<Wanted> {
        let all = self.rules.iter().zip(&self.limits);
        all.map(|(rule, limit)| Wanted { rule: rule.clone(), per_second: *limit }).collect()
    }

    /// A server that begins.
    pub(crate) fn start(&mut self, learn: bool) {
        let mut server = Server::default();
        for (rule, limit) in self.rules.iter().zip(&self.limits) {
            server.set(rule, Limit { per_second: *limit, burst: *limit as u32 }, learn, self.now);
        }
        self.server = Some(server);
        // Who finds a server again reports at once.
        self.sidecars.iter_mut().for_each(|s| s.poked = learn);
    }

    pub(crate) fn limit(&mut self, rule: usize, per_second: f64) {
        self.limits[rule] = per_second;
        if let Some(server) = &mut self.server {
            let limit = Limit { per_second, burst: per_second as u32 };
            server.set(&self.rules[rule], limit, false, self.now);
        }
        let wanted = self.wanted();
        for sidecar in &mut self.sidecars {
            sidecar.client.set(&wanted, self.now);
        }
    }

    pub(crate) fn demand(&mut self, rule: usize, each: impl Fn(usize) -> f64) {
        for (i, sidecar) in self.sidecars.iter_mut().enumerate() {
            sidecar.demand[rule] = each(i);
            sidecar.next[rule] = 0.0;
        }
    }

    /// Requests that pass at a rule in a time.
    pub(crate) fn run(&mut self, time: Duration) -> Vec<u64> {
        let before = self.passed.clone();
        let end = self.now + time;
        while self.now < end {
            self.turn();
        }
        self.passed.iter().zip(before).map(|(now, before)| now - before).collect()
    }

    /// One step.
    pub(crate) fn turn(&mut self) {
        self.now = self.now + self.step;
        self.deliver();
        if self.now.since(self.ticked) >= TICK {
            self.ticked = self.now;
            let mut poke = Vec::new();
            if let Some(server) = &mut self.server {
                server.tick(self.now, &mut poke);
            }
            for client in poke {
                self.send(Carried::Poke(client as usize));
            }
        }
        for i in 0..self.sidecars.len() {
            self.requests(i);
            self.reports(i);
        }
    }

    fn reports(&mut self, i: usize) {
        let now = self.now;
        let sidecar = &mut self.sidecars[i];
        if !sidecar.alive {
            return;
        }
        let due = now >= sidecar.report || std::mem::take(&mut sidecar.poked);
        let report = if due {
            sidecar.report = now + REPORT;
            Some(sidecar.client.report(now, |_| true))
        } else {
            sidecar.client.early(now, |_| true)
        };
        if let Some((seq, items)) = report {
            if sidecar.cut || self.server.is_none() {
                sidecar.client.disconnected();
            }
            self.send(Carried::Report(i, seq, items));
        }
    }

    fn requests(&mut self, i: usize) {
        let sidecar = &mut self.sidecars[i];
        if !sidecar.alive {
            return;
        }
        let at = self.now.as_nanos() as f64 / 1e9;
        while let Some(&(until, rule)) = sidecar.waits.front()
            && (until <= self.now || sidecar.taps[rule].pot().decided(self.now))
        {
            sidecar.waits.pop_front();
            let passed = sidecar.taps[rule].settle(self.now);
            *if passed { &mut self.passed[rule] } else { &mut self.refused[rule] } += 1;
        }
        for rule in 0..sidecar.demand.len() {
            let demand = sidecar.demand[rule];
            if demand <= 0.0 {
                continue;
            }
            if sidecar.next[rule] == 0.0 {
                sidecar.next[rule] = at + gap(&mut self.rng, demand);
            }
            while sidecar.next[rule] <= at {
                sidecar.next[rule] += gap(&mut self.rng, demand);
                match sidecar.taps[rule].try_take(self.now) {
                    Take::Taken => self.passed[rule] += 1,
                    Take::Refused => self.refused[rule] += 1,
                    Take::Later(wait) => sidecar.waits.push_back((self.now + wait, rule)),
                }
            }
        }
    }

    fn deliver(&mut self) {
        while self.mail.peek().is_some_and(|m| m.at <= self.now) {
            let Some(message) = self.mail.pop() else { break };
            match message.what {
                Carried::Report(i, seq, items) => {
                    let Some(server) = &mut self.server else { continue };
                    let grants = items
                        .iter()
                        .filter_map(|item| server.on_item(i as u64, seq, item, self.now))
                        .collect();
                    self.send(Carried::Answer(i, seq, grants));
                }
                Carried::Answer(i, seq, grants) => {
                    let sidecar = &mut self.sidecars[i];
                    for grant in &grants {
                        sidecar.client.on_grant(seq, grant, self.now);
                    }
                }
                Carried::Poke(i) => self.sidecars[i].poked = true,
            }
        }
    }

    fn send(&mut self, what: Carried) {
        let (Carried::Report(i, ..) | Carried::Answer(i, ..) | Carried::Poke(i)) = &what;
        if self.sidecars[*i].cut || self.rng.unit() < self.network.lost {
            return;
        }
        let copy = (self.rng.unit() < self.network.twice).then(|| match &what {
            Carried::Report(i, seq, items) => Carried::Report(*i, *seq, items.clone()),
            Carried::Answer(i, seq, grants) => Carried::Answer(*i, *seq, grants.clone()),
            Carried::Poke(i) => Carried::Poke(*i),
        });
        for what in [Some(what), copy].into_iter().flatten() {
            let (least, most) = self.network.delay;
            let delay = least + u64::from(self.rng.below((most - least + 1) as u32));
            self.order += 1;
            self.mail.push(Message { at: self.now + Duration::from_millis(delay), order: self.order, what });
        }
    }

    /// Sum over the sidecars that live of what they may let through at a rule by lease.
    pub(crate) fn leased(&self, rule: usize) -> f64 {
        self.sum(rule, |v| if v.by == "lease" { v.lease } else { 0.0 })
    }

    /// The same by lease or safe share.
    pub(crate) fn allowed(&self, rule: usize) -> f64 {
        self.sum(rule, |v| match v.by {
            "lease" => v.lease,
            "gap" => v.lease.min(v.safe),
            "safe" => v.safe,
            _ => 0.0,
        })
    }

    fn sum(&self, rule: usize, of: impl Fn(raddle_policy::quota::PotView) -> f64) -> f64 {
        let live = self.sidecars.iter().filter(|s| s.alive);
        live.map(|s| of(s.taps[rule].pot().view(self.now))).sum()
    }
}

/// The time to the next request of a Poisson stream, seconds.
fn gap(rng: &mut Rng, rate: f64) -> f64 {
    -(1.0 - rng.unit()).ln() / rate
}
