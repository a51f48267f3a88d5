//! What the samples say, what of it may be believed, and what stands in for them when there are none.
//!
//! Cores are as the sample says until it is proven wrong: by more cores in use than there are said to be, or by
//! requests that wait while cores are said to be free. From then on cores in doubt count as short only if requests
//! wait. Without any sample, work completed stands in for cores in use.
use super::Sample;

/// Samples may be absent so long before nothing more is cut.
const STALE: f64 = 3.0;
/// What was held when samples went away is let go in this time.
pub(super) const RELEASE: f64 = 30.0;

/// What the controller goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Standing {
    /// Samples of the app's load.
    Load,
    /// Samples came, but none of late.
    Stale,
    /// Latency alone: no sample ever came.
    #[default]
    Latency,
}

/// One second of the app's load, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    pub standing: Standing,
    /// CPU seconds a second, if they were measured.
    pub used: Option<f64>,
    /// Cores counted with.
    pub cores: f64,
    /// Share of them in use, at most 1.
    pub cpu: f64,
    /// Whether the number of cores is known not to be what is said.
    pub doubtful: bool,
    pub memory: Option<f64>,
}

/// What the flows say, for comparison.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work {
    /// CPU seconds a second that completed requests took, by the estimates.
    pub done: f64,
    /// The same of admitted ones.
    pub asked: f64,
    /// How many times as long as usual requests take: the median interface.
    pub slow: f64,
    /// Whether the queue is longer than usual.
    pub queued: bool,
}

impl Work {
    fn waits(&self) -> bool {
        self.queued || self.slow > 2.0
    }

    /// Whether less is completed than comes, all of it far slower than usual.
    fn falls_behind(&self) -> bool {
        self.slow > 2.5 && self.done < 0.92 * self.asked
    }
}

/// What is known of the app's cores.
#[derive(Debug, Default)]
pub(super) struct Signal {
    ever: bool,
    blind: f64,
    said: f64,
    /// Cores are what is said times this; 0 = 1.
    factor: f64,
    over: u32,
    behind: u32,
    last_cpu: f64,
}

impl Signal {
    /// Takes a sample, if there is one.
    pub(super) fn read(
        &mut self,
        sample: Option<&Sample>,
        cores: Option<f64>,
        work: &Work,
        seconds: f64,
    ) -> Reading {
        let sane = |s: &&Sample| s.cpu.is_finite() && s.cpu >= 0.0 && s.cores.is_finite();
        let sample = sample.filter(sane).filter(|s| cores.is_some() || s.cores > 0.0);
        if self.factor <= 0.0 {
            self.factor = 1.0;
        }
        let Some(sample) = sample else { return self.without(work, seconds) };
        (self.ever, self.blind) = (true, 0.0);
        let said = cores.unwrap_or(sample.cores).max(1e-3);
        // Cores taken away within the time of the sample were there for a part of it.
        let most = if self.said > 0.0 { said.max(self.said) } else { said };
        self.said = said;
        let waiting = sample.pressure.is_some_and(|p| p > 0.5) || sample.throttled.is_some_and(|t| t > 0.5);
        let free = sample.pressure.is_some_and(|p| p < 0.1) && !waiting;
        self.weigh(sample.cpu * said / most, work, waiting, free);
        let share = |v: Option<f64>| v.filter(|v| v.is_finite() && *v >= 0.0);
        let mut reading = self.reading(Standing::Load, sample.cpu);
        (reading.used, reading.memory) = (Some(sample.cpu), share(sample.memory));
        reading
    }

    fn reading(&mut self, standing: Standing, used: f64) -> Reading {
        let cores = (self.said * self.factor).max(1e-6);
        let cpu = (used / cores).clamp(0.0, 1.0);
        self.last_cpu = cpu;
        let doubtful = standing != Standing::Load || (self.factor - 1.0).abs() > 0.02;
        Reading { standing, used: None, cores, cpu, doubtful, memory: None }
    }

    /// Without a sample, work completed stands in for what it would say.
    fn without(&mut self, work: &Work, seconds: f64) -> Reading {
        self.blind += seconds;
        if self.ever {
            let standing = if self.blind >= STALE { Standing::Stale } else { Standing::Load };
            let done =
                if standing == Standing::Stale { self.last_cpu * self.said * self.factor } else { work.done };
            return self.reading(standing, done);
        }
        let most = 2.0 * work.done;
        self.said = if most > self.said { most } else { self.said.max(1e-3) };
        self.weigh(work.done, work, false, false);
        self.reading(Standing::Latency, work.done)
    }

    /// Learns how many cores there really are.
    fn weigh(&mut self, used: f64, work: &Work, waiting: bool, free: bool) {
        let share = used / (self.said * self.factor).max(1e-6);
        self.over = if share > 1.03 { self.over + 1 } else { 0 };
        let behind = share < 0.93 && !free && (work.falls_behind() || (waiting && work.slow > 2.0));
        self.behind = if behind { self.behind + 1 } else { 0 };
        if share > 1.1 || self.over >= 3 {
            self.factor *= share;
        } else if self.behind >= 2 && used > 0.0 {
            self.factor *= share.max(0.05);
            self.behind = 0;
        } else if (self.factor - 1.0).abs() > 0.02 && !work.waits() && share > 0.75 {
            // Nobody waits though most of them are in use: there are more.
            self.factor *= 1.02;
            if self.factor > 0.98 && self.factor < 1.04 {
                self.factor = 1.0;
            }
        }
        self.factor = self.factor.clamp(0.02, 50.0);
    }

    /// Seconds without a sample after some came.
    pub(super) fn blind(&self) -> f64 {
        if self.ever { self.blind } else { 0.0 }
    }
}
