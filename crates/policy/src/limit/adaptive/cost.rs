//! What CPU time a request of each interface takes, learned from how the app's CPU moves with what it completes.
//!
//! A decayed ridge regression of CPU seconds on completions, `0 ≤ c ≤ W` (a request on one core works no longer than
//! it lasts), drawn to the prior `φ·W`: all requests' CPU spread by the time they last. The normal equations are kept
//! for the [`HEAVY`] interfaces that use most, and solved by a few rounds of coordinate descent from the last answer;
//! the others keep their prior. A second costs at most `(ROUNDS + 1)·HEAVY²` multiplications, however many
//! interfaces there are.

/// Interfaces told apart by the regression.
const HEAVY: usize = 128;
/// Rounds of coordinate descent a second.
const ROUNDS: usize = 3;
/// Seconds after which an observation weighs a third.
const MEMORY: f64 = 300.0;
/// The prior's standard deviation, as a share of the latency.
const DOUBT: f64 = 0.5;
/// Seconds that the mean of what the app says remembers.
const TOLD: f64 = 60.0;
/// Seconds after which it is known how far off a second usually is.
const SETTLED: u32 = 20;
/// Part of the prior that a request costs at least: nothing is free, and of what is thought to be free no rise in cost
/// can be measured.
const LEAST: f64 = 0.005;
/// Seconds between choices of who is heavy.
const CHOOSE_EVERY: u32 = 30;

/// What one second says of an interface.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work {
    /// Requests completed.
    pub completed: f64,
    /// Their mean latency in seconds, of late.
    pub latency: f64,
    /// CPU seconds of a request, if the app says so.
    pub said: Option<f64>,
}

/// The estimates.
#[derive(Debug, Default)]
pub(super) struct Costs {
    /// By interface, CPU seconds of a request.
    cost: Vec<f64>,
    /// By interface, requests a second of late.
    rate: Vec<f64>,
    /// By interface, seconds in which the app said its cost.
    told: Vec<f64>,
    /// CPU seconds a second that no request causes.
    pub background: f64,
    /// Heavy interfaces; their place is their row, after that of the background.
    heavy: Vec<usize>,
    /// Rows of the decayed normal equations, `HEAVY + 1` long; the first is the background's.
    gram: Vec<f64>,
    moment: Vec<f64>,
    /// Decayed sums of CPU seconds, of latency seconds, and of the regression's squared error.
    used: f64,
    lasted: f64,
    error: f64,
    weight: f64,
    /// Mean size of a second's error, those far out cut.
    off: f64,
    age: u32,
}

const ROW: usize = HEAVY + 1;

impl Costs {
    /// CPU seconds of a request of this interface.
    pub(super) fn of(&self, id: usize) -> f64 {
        self.cost.get(id).copied().unwrap_or_else(|| self.typical())
    }

    /// CPU seconds of a request of an interface nothing is known of: the mean of all.
    pub(super) fn typical(&self) -> f64 {
        let (work, requests) =
            self.cost.iter().zip(&self.rate).fold((0.0, 0.0), |(w, n), (c, r)| (w + c * r, n + r));
        if requests > 0.0 { work / requests } else { 0.0 }
    }

    /// CPU seconds of latency seconds, over all.
    pub(super) fn phi(&self) -> f64 {
        if self.lasted > 0.0 { (self.used / self.lasted).min(1.0) } else { 1.0 }
    }

    /// Takes latencies for costs, where no CPU can be read.
    pub(super) fn assume(&mut self, latencies: impl Iterator<Item = f64>) {
        self.cost.clear();
        self.cost.extend(latencies);
        self.rate.resize(self.cost.len(), 0.0);
    }

    /// Learns from a second in which the app used `cpu` CPU seconds.
    pub(super) fn learn(&mut self, cpu: f64, work: &[Work], seconds: f64) {
        let keep = (-seconds / MEMORY).exp();
        self.used = self.used * keep + cpu;
        self.lasted = self.lasted * keep + work.iter().map(|w| w.completed * w.latency).sum::<f64>();
        self.weight = self.weight * keep + 1.0;
        self.rate.resize(work.len(), 0.0);
        self.told.resize(work.len(), 0.0);
        for (rate, w) in self.rate.iter_mut().zip(work) {
            *rate += (w.completed / seconds - *rate) * (1.0 - keep).max(1.0 / f64::from(self.age + 1));
        }
        let phi = self.phi();
        for w in &work[self.cost.len().min(work.len())..] {
            self.cost.push(phi * w.latency);
        }
        if self.age.is_multiple_of(CHOOSE_EVERY) {
            self.choose();
        }
        self.age = self.age.saturating_add(1);
        let light = self.priors(work, phi, seconds);
        self.observe(cpu - light, work, keep, seconds);
        for _ in 0..ROUNDS {
            self.descend(work, phi);
        }
    }

    /// Gives those not in the regression their prior, those who say their cost what they say; returns what these use.
    fn priors(&mut self, work: &[Work], phi: f64, seconds: f64) -> f64 {
        let mut light = 0.0;
        let mut row = vec![false; work.len()];
        self.heavy.iter().filter(|i| **i < work.len()).for_each(|&i| row[i] = true);
        for (i, w) in work.iter().enumerate() {
            if let Some(said) = w.said {
                // Not at once: whose requests cost more than usual is found by what is usual.
                self.told[i] = (self.told[i] + seconds).min(TOLD);
                self.cost[i] += (said - self.cost[i]) * (seconds / self.told[i]).min(1.0);
            } else if !row[i] && w.latency > 0.0 {
                self.cost[i] = phi * w.latency;
            }
            if !row[i] {
                light += self.cost[i] * w.completed;
            }
        }
        light
    }

    /// Chooses anew who is heavy. Those who stay keep their rows.
    fn choose(&mut self) {
        let mut order: Vec<usize> = (0..self.cost.len()).filter(|&i| self.rate[i] > 0.0).collect();
        let use_of = |i: usize| self.cost[i] * self.rate[i];
        if order.len() > HEAVY {
            order.sort_by(|a, b| use_of(*b).total_cmp(&use_of(*a)));
            order.truncate(HEAVY);
        }
        order.sort_unstable();
        if order == self.heavy {
            return;
        }
        let old = |i: &usize| self.heavy.iter().position(|h| h == i).map(|p| p + 1);
        let from: Vec<Option<usize>> = std::iter::once(Some(0)).chain(order.iter().map(old)).collect();
        let had = !self.gram.is_empty();
        let mut gram = vec![0.0; ROW * ROW];
        let mut moment = vec![0.0; ROW];
        for (a, row) in from.iter().enumerate().filter(|_| had) {
            let Some(row) = row else { continue };
            moment[a] = self.moment[*row];
            for (b, column) in from.iter().enumerate() {
                gram[a * ROW + b] = column.map_or(0.0, |c| self.gram[row * ROW + c]);
            }
        }
        (self.heavy, self.gram, self.moment) = (order, gram, moment);
    }

    fn observe(&mut self, cpu: f64, work: &[Work], keep: f64, seconds: f64) {
        if self.gram.is_empty() {
            return;
        }
        let mut x = [0.0; ROW];
        x[0] = seconds;
        for (x, &i) in x[1..].iter_mut().zip(&self.heavy) {
            *x = work.get(i).map_or(0.0, |w| w.completed);
        }
        let n = self.heavy.len() + 1;
        let guess = self.background * x[0]
            + self.heavy.iter().zip(&x[1..]).map(|(&i, x)| self.cost[i] * x).sum::<f64>();
        // Collectors and compilers use CPU that nobody asked for, for a second: that says nothing of those who asked.
        let (error, usual) = (cpu - guess, self.off);
        self.off += (error.abs().min(3.0 * usual.max(1e-3)) - usual) * (1.0 / f64::from(self.age)).max(0.02);
        let cpu = if self.age > SETTLED { guess + error.clamp(-2.5 * usual, 2.5 * usual) } else { cpu };
        self.error = self.error * keep + (cpu - guess).powi(2);
        for a in 0..n {
            let row = &mut self.gram[a * ROW..a * ROW + n];
            for (g, b) in row.iter_mut().zip(&x[..n]) {
                *g = *g * keep + x[a] * b;
            }
            self.moment[a] = self.moment[a] * keep + x[a] * cpu;
        }
    }

    /// One round over all coordinates: each goes to its best place in its box while the others stay.
    fn descend(&mut self, work: &[Work], phi: f64) {
        if self.gram.is_empty() {
            return;
        }
        let mean = self.used / self.weight.max(1.0);
        let noise = (self.error / self.weight.max(1.0)).max(1e-4 * mean * mean).max(1e-12);
        let row = |gram: &[f64], cost: &[f64], heavy: &[usize], background: f64, a: usize| {
            let row = &gram[a * ROW..][..=heavy.len()];
            row[0] * background + heavy.iter().zip(&row[1..]).map(|(&i, g)| cost[i] * g).sum::<f64>()
        };
        let tight = 1.0 / (0.1 * mean).powi(2).max(1e-18);
        let own = self.gram[0];
        let others = row(&self.gram, &self.cost, &self.heavy, self.background, 0) - own * self.background;
        self.background = ((self.moment[0] - others) / noise / (own / noise + tight)).clamp(0.0, 0.5 * mean);
        for at in 0..self.heavy.len() {
            let i = self.heavy[at];
            let Some(w) = work.get(i).filter(|w| w.latency > 0.0 && w.said.is_none()) else { continue };
            let (prior, doubt) = (phi * w.latency, 1.0 / (DOUBT * w.latency).powi(2));
            let own = self.gram[(at + 1) * ROW + at + 1];
            let others =
                row(&self.gram, &self.cost, &self.heavy, self.background, at + 1) - own * self.cost[i];
            let best = ((self.moment[at + 1] - others) / noise + prior * doubt) / (own / noise + doubt);
            self.cost[i] = best.clamp(LEAST * prior, w.latency);
        }
    }
}
