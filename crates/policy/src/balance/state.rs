//! What a worker remembers of a subset, and the balancers' own choices.
use crate::balance::alias::Alias;
use crate::balance::fair::Turns;
use crate::balance::{Load, Readiness};
use crate::hash;
use crate::rng::Rng;
use crate::slowstart;
use crate::snapshot::service::Service;
use crate::snapshot::subset::Subset;
use raddle_core::Time;
use raddle_model::{Balancer, SlowStart};

/// Endpoints once found ready by searching that are remembered.
const REMEMBERED: usize = 8;
/// While someone ramps, turns are set anew this often in a window.
const RAMP_STEPS: u32 = 32;
/// Weights are multiplied by this for turns while someone ramps, to be shared finely.
const RAMP_SCALE: f64 = 16.0;
/// Most points of the ring looked at for a candidate.
const RING_STEPS: usize = 256;
/// Draws before someone who ramps is taken although it should have been passed over.
const RAMP_DRAWS: u32 = 8;

/// One worker's state for one subset.
#[derive(Debug, Default)]
pub struct BalanceState {
    subset: u64,
    changes: u64,
    /// Indexes into the service's endpoints, ascending.
    candidates: Vec<u32>,
    panic: bool,
    mean_weight: f64,
    cursor: u32,
    turns: Option<Turns>,
    alias: Alias,
    ramp_until: Time,
    ramp_next: Time,
    seen_ready: [Option<u32>; REMEMBERED],
    seen_next: usize,
    search: u32,
}

impl BalanceState {
    /// A state for any subset; it becomes that of the subset it is first used with.
    pub fn new() -> BalanceState {
        BalanceState::default()
    }

    pub(super) fn candidates(&self) -> &[u32] {
        &self.candidates
    }

    /// Brings the state up to the subset and the hosts' health.
    pub(super) fn follow(&mut self, subset: &Subset, service: &Service, now: Time, rng: &mut Rng) {
        let changes = service.changes.count();
        if self.subset != subset.id || self.changes != changes {
            let anew = self.subset != subset.id;
            self.changes = changes;
            self.subset = subset.id;
            self.collect(subset, service, anew, now, rng);
        } else if self.ramp_next <= now && self.ramp_until > Time::ZERO {
            self.set_turns(subset, service, now, rng);
        }
    }

    fn collect(&mut self, subset: &Subset, service: &Service, anew: bool, now: Time, rng: &mut Rng) {
        let healthy = subset.counts(&service.endpoints, self.changes).healthy;
        let panic = subset.panics(healthy, service.policy.settings.panic_threshold);
        let candidate = |i: &u32| panic || service.endpoints[*i as usize].host.healthy();
        let ramped = self.ramp_until > Time::ZERO;
        self.panic = panic;
        // Most changes are of hosts of other subsets: turns then go on undisturbed.
        let same =
            !anew && subset.members.iter().copied().filter(candidate).eq(self.candidates.iter().copied());
        if !same {
            let next = self.candidates.get(self.cursor as usize).copied();
            self.candidates.clear();
            self.candidates.extend(subset.members.iter().copied().filter(candidate));
            self.cursor = match next {
                _ if anew => rng.below(self.candidates.len() as u32),
                Some(next) => self.candidates.partition_point(|&i| i < next) as u32,
                None => 0,
            };
            self.search = rng.below(self.candidates.len() as u32);
            self.seen_ready = [None; REMEMBERED];
            let weights = self.candidates.iter().map(|&i| f64::from(service.endpoints[i as usize].weight));
            self.mean_weight = weights.sum::<f64>() / self.candidates.len().max(1) as f64;
        }
        self.ramp_until = ramp_end(&self.candidates, service, now);
        if !same || ramped || self.ramp_until > Time::ZERO {
            self.set_turns(subset, service, now, rng);
        }
    }

    /// Sets up what the balancer needs to draw by weight.
    fn set_turns(&mut self, subset: &Subset, service: &Service, now: Time, rng: &mut Rng) {
        let ramp = service.policy.settings.slow_start.as_ref().filter(|_| self.ramp_until > now);
        self.ramp_next = match ramp {
            Some(ramp) => now + ramp.window / RAMP_STEPS,
            None => Time::ZERO,
        };
        if ramp.is_none() {
            self.ramp_until = Time::ZERO;
        }
        self.turns = None;
        if self.candidates.is_empty() || (subset.equal && ramp.is_none()) {
            return;
        }
        let weight = |&i: &u32| service.endpoints[i as usize].weight;
        match (&service.policy.settings.balancer, ramp) {
            (Balancer::RoundRobin, None) => {
                self.turns = Some(Turns::new(self.candidates.iter().map(weight), rng));
            }
            (Balancer::RoundRobin, Some(ramp)) => {
                let scaled = self.candidates.iter().map(|i| {
                    let share = slowstart::factor(ramp, service.endpoints[*i as usize].host.since(), now);
                    ((f64::from(weight(i)) * share * RAMP_SCALE).round() as u32).max(1)
                });
                self.turns = Some(Turns::new(scaled.collect::<Vec<_>>(), rng));
            }
            _ if !subset.equal => self.alias.rebuild(self.candidates.iter().map(weight)),
            _ => {}
        }
    }

    /// The balancer's own choice; `attempt` counts those of this request before.
    pub(super) fn choose(
        &mut self,
        subset: &Subset,
        service: &Service,
        load: &impl Load,
        req_hash: Option<u64>,
        attempt: u32,
        now: Time,
        rng: &mut Rng,
    ) -> u32 {
        if let [only] = *self.candidates {
            return only;
        }
        match (&service.policy.settings.balancer, req_hash) {
            (Balancer::RoundRobin, _) => self.in_turn(),
            (Balancer::ConsistentHash { .. }, Some(key)) => self.by_hash(subset, service, key, attempt, now),
            (Balancer::Random | Balancer::ConsistentHash { .. }, _) => self.draw(subset, service, now, rng),
            (Balancer::P2cEwma, _) => self.better_of_two(
                subset,
                service,
                now,
                rng,
                |i, queue| load.ewma_ns(i) * (1.0 + queue),
                load,
            ),
            (Balancer::LeastRequest, _) => {
                self.better_of_two(subset, service, now, rng, |_, queue| queue, load)
            }
        }
    }

    fn in_turn(&mut self) -> u32 {
        if let Some(turn) = self.turns.as_mut().and_then(Turns::next_turn) {
            return self.candidates[turn as usize];
        }
        if self.cursor as usize >= self.candidates.len() {
            self.cursor = 0;
        }
        let index = self.candidates[self.cursor as usize];
        self.cursor += 1;
        index
    }

    /// One at random by weight.
    fn draw(&self, subset: &Subset, service: &Service, now: Time, rng: &mut Rng) -> u32 {
        let ramp = self.ramp(service);
        for _ in 0..RAMP_DRAWS {
            let slot =
                if subset.equal { rng.below(self.candidates.len() as u32) } else { self.alias.draw(rng) };
            let index = self.candidates[slot as usize];
            let Some(ramp) = ramp else { return index };
            let share = slowstart::factor(ramp, service.endpoints[index as usize].host.since(), now);
            if share >= 1.0 || rng.unit() < share {
                return index;
            }
        }
        self.candidates[rng.below(self.candidates.len() as u32) as usize]
    }

    /// Two different ones by weight (the same one twice if chance insists, where weights differ).
    fn draw_two(&self, subset: &Subset, service: &Service, now: Time, rng: &mut Rng) -> (u32, u32) {
        if subset.equal && self.ramp_until == Time::ZERO {
            let n = self.candidates.len() as u32;
            let (a, b) = (rng.below(n), rng.below(n - 1));
            return (self.candidates[a as usize], self.candidates[(b + u32::from(b >= a)) as usize]);
        }
        let a = self.draw(subset, service, now, rng);
        let mut b = self.draw(subset, service, now, rng);
        for _ in 0..2 {
            if a != b {
                break;
            }
            b = self.draw(subset, service, now, rng);
        }
        (a, b)
    }

    /// Two drawn by weight, the one of lower cost; the first of equals, so that idle endpoints are used by
    /// weight too. Cost is made of the queue: requests in flight ÷ (weight ÷ mean weight).
    fn better_of_two(
        &self,
        subset: &Subset,
        service: &Service,
        now: Time,
        rng: &mut Rng,
        cost: impl Fn(u32, f64) -> f64,
        load: &impl Load,
    ) -> u32 {
        let (a, b) = self.draw_two(subset, service, now, rng);
        let cost = |i: u32| {
            let share = f64::from(service.endpoints[i as usize].weight) / self.mean_weight;
            cost(i, f64::from(load.active(i)) / share)
        };
        if cost(b) < cost(a) { b } else { a }
    }

    /// The `attempt`-th different candidate on the key's way around the ring.
    fn by_hash(&self, subset: &Subset, service: &Service, key: u64, attempt: u32, now: Time) -> u32 {
        let ramp = self.ramp(service);
        let all = self.candidates.len() == subset.members.len();
        let mut passed = [u32::MAX; super::REDRAWS as usize];
        let mut met = 0;
        for index in subset.ring(&service.endpoints).walk(key).take(RING_STEPS) {
            let host = || &service.endpoints[index as usize].host;
            // Asking the host is a cache miss among thousands: not where all are candidates.
            if !(all || host().healthy()) || passed[..met].contains(&index) {
                continue;
            }
            // While it ramps it gets a growing share of its keys, the same ones all the time.
            let share = ramp.map_or(1.0, |r| slowstart::factor(r, host().since(), now));
            if share < 1.0 && unit(hash::mix(key ^ u64::from(index))) >= share {
                continue;
            }
            if met == attempt as usize {
                return index;
            }
            passed[met] = index;
            met += 1;
        }
        self.candidates[(hash::mix(key ^ u64::from(attempt)) % self.candidates.len() as u64) as usize]
    }

    fn ramp<'s>(&self, service: &'s Service) -> Option<&'s SlowStart> {
        service.policy.settings.slow_start.as_ref().filter(|_| self.ramp_until > Time::ZERO)
    }

    /// The least busy of the ready endpoints remembered from searches.
    pub(super) fn ready_seen_before(&self, load: &impl Load, avoid: Option<u32>) -> Option<u32> {
        let ready = |i: &u32| Some(*i) != avoid && load.ready(*i) == Readiness::Ready;
        self.seen_ready.iter().flatten().copied().filter(ready).min_by_key(|&i| load.active(i))
    }

    pub(super) fn remember_ready(&mut self, index: u32) {
        self.seen_ready[self.seen_next] = Some(index);
        self.seen_next = (self.seen_next + 1) % REMEMBERED;
    }

    pub(super) fn search_next(&mut self) -> u32 {
        if self.search as usize >= self.candidates.len() {
            self.search = 0;
        }
        let index = self.candidates[self.search as usize];
        self.search += 1;
        index
    }
}

/// When the last ramp of a candidate ends; [`Time::ZERO`] = none ramps.
fn ramp_end(candidates: &[u32], service: &Service, now: Time) -> Time {
    let Some(ramp) = &service.policy.settings.slow_start else { return Time::ZERO };
    let since = candidates.iter().map(|&i| service.endpoints[i as usize].host.since()).max();
    match since {
        Some(since) if since > Time::ZERO && since + ramp.window > now => since + ramp.window,
        _ => Time::ZERO,
    }
}

fn unit(hash: u64) -> f64 {
    (hash >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}
