//! What is held while something is short, and when it ends.
use super::controller::{Controller, Load};
use super::culprits::Demand;
use super::give::GATE_QUEUE;
use super::orders::Tier;
use super::signal::{RELEASE, Reading, Standing};
use raddle_core::Time;

impl Controller {
    pub(super) fn regulate(
        &mut self,
        now: Time,
        reading: &Reading,
        load: Load,
        demands: &[Demand],
        seconds: f64,
    ) {
        if reading.standing == Standing::Stale {
            if self.signal.blind() >= 3.0 + RELEASE {
                self.end(now, "no sample of the app's load came for 30 s");
            }
            return;
        }
        let theta = self.theta();
        let draining = self.drains(reading.cores);
        if !draining && !load.memory {
            self.learn_drift(reading, demands);
        }
        let worsens = load.level > 0.95 && self.queue.growing >= 2;
        let stays = load.level > 0.95 && self.short >= 3 && self.short.is_multiple_of(2);
        let worsens = worsens || stays;
        let nobody = load.level > theta && self.harmed(load) && self.culprits.members.is_empty();
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

    /// Everything is held: whether by now it is known whose fault it is.
    pub(super) fn look_again(&mut self, now: Time, reading: &Reading, load: Load, demands: &[Demand]) {
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

    pub(super) fn learn_drift(&mut self, reading: &Reading, demands: &[Demand]) {
        let flows = &self.meter.flows;
        let others: f64 = demands
            .iter()
            .enumerate()
            .filter(|(i, _)| !self.culprits.holds(*i))
            .map(|(i, d)| flows[i].admitted * d.unit)
            .sum();
        let used = reading.cpu - others - self.costs.background / reading.cores;
        // When all is in use, what was asked for may be more than that, but not less.
        let full = reading.cpu >= 0.93;
        self.culprits.learn_drift(used, full, |i| flows[i].admitted, demands);
    }

    /// Tier 1: culprits get what the others leave, trimmed by how far the load is off.
    pub(super) fn regulate_culprits(
        &mut self,
        now: Time,
        load: Load,
        demands: &[Demand],
        others: f64,
        draining: bool,
    ) {
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
        if self.culprits.members.is_empty() {
            // Of nobody there is nothing to trim, nor to be learned for who comes next.
            self.trim = 1.0;
        }
        let usual = self.culprits.usual(demands);
        let mut room = (target - others).max(0.0) * self.trim;
        if !draining {
            room = room.max(usual.min((0.95 - others).max(0.0)));
        }
        self.room = room;
        // An app that died of its memory has plenty of it, until it is back.
        let growth = if self.memory { 1.03 } else { f64::INFINITY };
        self.culprits.share_out(demands, room, growth);
        let gone = self.culprits.let_go(demands);
        self.recorder.let_go(now, &gone, &self.board);
    }

    /// Tier 2: everything shares what there is; the queue, bounded by the gates, says whether that is too much.
    pub(super) fn regulate_all(&mut self, now: Time, reading: &Reading, load: Load, demands: &[Demand]) {
        let target = (self.theta() + 0.17).min(0.97);
        let over = self.queue.now - self.queue.usual;
        // A little more than fits: the gates hold back what would queue, the moment it would.
        let free = target + 0.015 - load.level;
        let step = if free > 0.0 { 0.5 * free } else { -0.02 };
        let all: f64 = demands.iter().map(Demand::share).sum::<f64>() + self.background(reading, load);
        self.trim = (self.trim * step.clamp(-0.2, 0.05).exp()).clamp(1.03, 1.6);
        self.room = (target - self.background(reading, load)).max(0.0) * self.trim;
        let fits = all <= self.room && (over < 0.5 * GATE_QUEUE || load.level < 0.9 * self.theta());
        self.fits = if fits { self.fits + 1 } else { 0 };
        if self.fits >= 5 {
            self.tier = Tier::Culprits;
            (self.trim, self.error) = (1.0, 0.0);
            self.recorder.fits(now, all);
        }
    }

    /// Ends when nobody is held any more and nothing is short, or when it has been calm for long.
    pub(super) fn finish(&mut self, now: Time, reading: &Reading, load: Load, seconds: f64) {
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

    pub(super) fn end(&mut self, now: Time, why: &str) {
        self.active = false;
        self.tier = Tier::Idle;
        self.culprits.members.clear();
        (self.shortage, self.ended) = (0.0, Some(now));
        self.mark.end();
        self.recorder.end(now, why);
    }
}
