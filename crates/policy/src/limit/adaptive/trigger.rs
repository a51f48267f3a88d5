//! Whether something is short, and whose fault it is: the sum that begins a limitation, and those blamed.
use super::controller::{Controller, INFANCY, KNOWN, Load};
use super::culprits::Demand;
use super::orders::Tier;
use super::signal::{Reading, Standing};
use super::{InterfaceId, Why};
use raddle_core::Time;

/// Share of the cores below which what others use leaves room for culprits.
const FITS: f64 = 0.78;
/// Share of the cores in use at which requests wait for one, whatever the queue is estimated to be.
const HARM: f64 = 0.97;

impl Controller {
    /// Adds up shortage; begins, if there is somebody to hold.
    pub(super) fn trigger(&mut self, now: Time, reading: &Reading, load: Load, demands: &[Demand]) {
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
        // What the guard holds back is not seen in what is in use, nor in the queue.
        let guarded = self.meter.refused[Why::Guard as usize] > 0;
        let plain = load.level > 0.95 && (asked > 1.0 || guarded);
        let enough = self.shortage >= if again { 0.4 } else { 0.999 };
        // What was in use over a second that was well until a moment ago says little.
        let jammed = !load.memory && demands.iter().any(|d| d.pile.jam);
        if !(self.harmed(load) || jammed) || !(enough || jammed || load.level > 0.95) {
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
        let known = self.age > KNOWN;
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

    /// Whether anybody feels the shortage: many cores in use are what they are for, as long as nobody waits for one.
    pub(super) fn harmed(&self, load: Load) -> bool {
        let full = load.level >= HARM.min(1.2 * self.theta());
        load.memory || full || self.queue.now > self.queue.reference() + 0.1
    }

    /// Adds those to the culprits who are to blame.
    pub(super) fn blame(
        &mut self,
        now: Time,
        reading: &Reading,
        load: Load,
        demands: &[Demand],
    ) -> Vec<InterfaceId> {
        let hidden = self.hidden(reading, load, demands);
        let own = self.background(reading, load);
        let fits = FITS.min(self.theta() - 0.02);
        let added = self.culprits.find(demands, own, hidden, self.short >= 2, fits, &self.board);
        if !added.is_empty() {
            self.blamed = now;
        }
        added
    }

    /// Share in use that neither what is asked of anybody nor what is usual explains.
    pub(super) fn hidden(&self, reading: &Reading, load: Load, demands: &[Demand]) -> f64 {
        if load.memory {
            return 0.0;
        }
        let of = |(i, d): (usize, &Demand)| self.meter.flows[i].admitted * d.unit * self.culprits.drift(i);
        let explained: f64 = demands.iter().enumerate().map(of).sum();
        (reading.cpu - explained - self.background(reading, load)).max(0.0)
    }

    pub(super) fn background(&self, reading: &Reading, load: Load) -> f64 {
        if load.memory { 0.0 } else { self.costs.background / reading.cores }
    }
}
