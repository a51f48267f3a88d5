//! The plain scheme, as Ant Group's account of MOSN describes it in words: above a threshold for N seconds the
//! baseline is computed: of the interfaces that use most, those whose traffic has clearly risen; what they have then is
//! their baseline. Each second it is multiplied down while the machine is above the threshold, and up while it is
//! below. Load tests are rejected meanwhile.
//!
//! The article gives no figures. Ours: threshold 0.8, N = 5; what an interface uses is its calls in flight; those that
//! use most are the greatest that together have 80 %; risen is 1.5 times the calls a second of the minute before; the
//! baseline is calls a second; down by `threshold / cpu`, at least by 5 %, up by 5 %; it is over when nothing was
//! rejected for 10 s.
use super::{Call, End, Limiter};
use raddle_model::Priority;
use raddle_policy::limit::adaptive::Sample;

const THRESHOLD: f64 = 0.8;
const SECONDS: u32 = 5;
const GREATEST: f64 = 0.8;
const RISEN: f64 = 1.5;
const RESTORE: f64 = 1.05;
const QUIET: u32 = 10;

#[derive(Clone, Debug, Default)]
struct Interface {
    flying: f64,
    /// Calls of this second.
    came: f64,
    /// Calls in flight and calls a second, of the last seconds; calls a second of the minute before them.
    using: f64,
    rate: f64,
    usual: f64,
    /// Calls a second that may pass, and what has not been used of it.
    baseline: Option<f64>,
    tokens: f64,
    filled: f64,
}

impl Interface {
    fn passes(&mut self, now: f64) -> bool {
        let Some(baseline) = self.baseline else { return true };
        let burst = 1.0 + baseline * 0.1;
        self.tokens = (self.tokens + (now - self.filled) * baseline).min(burst);
        self.filled = now;
        let passes = self.tokens >= 1.0;
        self.tokens -= f64::from(u8::from(passes));
        passes
    }
}

/// The article's scheme.
#[derive(Debug)]
pub struct Seed {
    interfaces: Vec<Interface>,
    above: u32,
    active: bool,
    quiet: u32,
    rejected: bool,
}

impl Seed {
    /// For so many interfaces.
    pub fn new(interfaces: usize) -> Seed {
        let interfaces = vec![Interface::default(); interfaces];
        Seed { interfaces, above: 0, active: false, quiet: 0, rejected: false }
    }

    /// Of those that use most, those whose traffic has risen, with what it is.
    fn baselines(&self) -> Vec<(usize, f64)> {
        let mut order: Vec<usize> = (0..self.interfaces.len()).collect();
        order.sort_by(|&a, &b| self.interfaces[b].using.total_cmp(&self.interfaces[a].using));
        let whole: f64 = self.interfaces.iter().map(|i| i.using).sum();
        let mut seen = 0.0;
        let mut found = Vec::new();
        for n in order {
            if seen >= GREATEST * whole {
                break;
            }
            let i = &self.interfaces[n];
            seen += i.using;
            if i.rate > RISEN * i.usual {
                found.push((n, i.rate));
            }
        }
        found
    }

    /// A second's counts become averages.
    fn count(&mut self) {
        for i in &mut self.interfaces {
            i.using += (i.flying - i.using) / 3.0;
            i.rate += (i.came - i.rate) / 3.0;
            if !self.active {
                i.usual += (i.rate - i.usual) / 60.0;
            }
            i.came = 0.0;
        }
    }
}

/// A baseline's next value.
fn adjusted(baseline: f64, cpu: f64) -> f64 {
    if cpu > THRESHOLD { baseline * (THRESHOLD / cpu).min(0.95) } else { baseline * RESTORE }
}

impl Limiter for Seed {
    fn admit(&mut self, call: &Call, now: f64) -> bool {
        let interface = &mut self.interfaces[call.interface as usize];
        let marked = self.active && call.priority == Priority::LoadTest;
        interface.came += 1.0;
        if marked || !interface.passes(now) {
            self.rejected = true;
            return false;
        }
        interface.flying += 1.0;
        true
    }

    fn complete(&mut self, call: &Call, _: &End, _: f64) {
        self.interfaces[call.interface as usize].flying -= 1.0;
    }

    fn tick(&mut self, now: f64, sample: Option<&Sample>, _: f64) {
        self.count();
        let Some(sample) = sample else { return };
        let cpu = sample.cpu / sample.cores;
        self.above = if cpu > THRESHOLD { self.above + 1 } else { 0 };
        if !self.active && self.above >= SECONDS {
            self.active = true;
            self.quiet = 0;
            for (n, baseline) in self.baselines() {
                let interface = &mut self.interfaces[n];
                (interface.baseline, interface.filled) = (Some(baseline), now);
            }
        } else if self.active {
            for baseline in self.interfaces.iter_mut().filter_map(|i| i.baseline.as_mut()) {
                *baseline = adjusted(*baseline, cpu);
            }
            self.quiet = if self.rejected { 0 } else { self.quiet + 1 };
            if self.quiet >= QUIET && cpu <= THRESHOLD {
                self.active = false;
                self.interfaces.iter_mut().for_each(|i| i.baseline = None);
            }
        }
        self.rejected = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_baseline_goes_down_by_the_load_and_up_slowly() {
        assert!((adjusted(10.0, 1.0) - 8.0).abs() < 1e-9);
        assert!((adjusted(10.0, 0.81) - 9.5).abs() < 1e-9);
        assert!((adjusted(10.0, 0.7) - 10.5).abs() < 1e-9);
    }

    #[test]
    fn it_takes_of_the_greatest_those_that_have_risen() {
        let mut seed = Seed::new(4);
        let (using, usual) = ([10.0, 9.0, 0.5, 0.5], [20.0, 90.0, 9.0, 1.0]);
        for (n, i) in seed.interfaces.iter_mut().enumerate() {
            (i.using, i.usual, i.rate) = (using[n], usual[n], 100.0);
        }
        // 10 and 9 of 20 are enough; the second has not risen; the last has, but is small.
        assert_eq!(seed.baselines(), [(0, 100.0)]);
    }

    #[test]
    fn what_is_held_passes_at_its_baseline() {
        let mut i = Interface { baseline: Some(50.0), ..Interface::default() };
        let passed = (0..1000).filter(|&n| i.passes(10.0 + f64::from(n) * 0.01)).count();
        assert!((500..=506).contains(&passed), "50 a second for 10 s: {passed}");
    }

    #[test]
    fn it_waits_for_five_seconds() {
        let mut seed = Seed::new(1);
        let full = Sample { cpu: 1.0, cores: 1.0, ..Sample::default() };
        (0..4).for_each(|_| seed.tick(0.0, Some(&full), 0.0));
        assert!(!seed.active);
        seed.tick(0.0, Some(&full), 0.0);
        assert!(seed.active);
    }
}
