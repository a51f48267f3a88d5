//! What is usual for an interface, and whether it asks for more.
//!
//! Three means of different memory, and what was usual at this time of the week before: a shortage is laid to those
//! who rose against the shortest memory that explains it, so that a slow burn is found as well as a surge.

/// Seconds that the three means remember.
pub(super) const MEMORIES: [f64; 3] = [120.0, 900.0, 7200.0];
/// Slots of the week, a quarter of an hour each.
const SLOTS: usize = 672;
/// Minutes of a slot.
const SLOT_MINUTES: u32 = 15;
/// Interfaces whose weeks are remembered at most: 672 bytes each.
pub(super) const WEEKS: usize = 512;

/// What is usual for an interface.
#[derive(Clone, Debug, Default)]
pub(super) struct Usual {
    /// Requests offered a second, by memory.
    means: [f64; 3],
    /// Variance of a second's count.
    variance: f64,
    seconds: f64,
    /// Latency in seconds, and requests in flight.
    pub latency: f64,
    pub inflight: f64,
    latencies: f64,
    week: Option<Box<[u8; SLOTS]>>,
    /// This minute: its sum and seconds; and of this slot the two highest minutes.
    minute: (u32, f64, f64),
    high: (u32, [f64; 2]),
}

impl Usual {
    /// Learns from a second.
    pub(super) fn learn(&mut self, rate: f64, inflight: f64, latency: Option<f64>, seconds: f64) {
        self.seconds += seconds;
        let pull = |memory: f64| seconds / memory.min(self.seconds);
        let off = rate - self.means[0];
        self.variance += (off * off - self.variance) * pull(MEMORIES[0]).min(0.5);
        for (mean, memory) in self.means.iter_mut().zip(MEMORIES) {
            *mean += (rate - *mean) * pull(memory).min(1.0);
        }
        self.inflight += (inflight - self.inflight) * pull(MEMORIES[0]).min(1.0);
        if let Some(latency) = latency {
            self.latencies += 1.0;
            self.latency += (latency - self.latency) / self.latencies.min(MEMORIES[0]);
        }
    }

    /// Learns what is usual at this minute of the week: of each slot's minutes the second highest (the 90th percentile
    /// of fifteen, near enough), a quarter of it new each week.
    pub(super) fn learn_week(&mut self, minute: u32, rate: f64, seconds: f64) {
        // It has its place from the first second on, not from the end of the first slot: who has one is counted.
        self.week.get_or_insert_with(|| Box::new([0; SLOTS]));
        if self.minute.0 != minute {
            let (before, sum, time) = std::mem::replace(&mut self.minute, (minute, 0.0, 0.0));
            if time > 0.0 {
                let slot = before / SLOT_MINUTES;
                if self.high.0 != slot {
                    self.high = (slot, [0.0; 2]);
                }
                let high = &mut self.high.1;
                let mean = sum / time;
                if mean > high[0] {
                    *high = [mean, high[0]];
                } else if mean > high[1] {
                    high[1] = mean;
                }
                if (before + 1).is_multiple_of(SLOT_MINUTES) {
                    self.keep_slot(slot as usize % SLOTS);
                }
            }
        }
        self.minute.1 += rate * seconds;
        self.minute.2 += seconds;
    }

    fn keep_slot(&mut self, slot: usize) {
        let seen = if self.high.1[1] > 0.0 { self.high.1[1] } else { self.high.1[0] };
        let week = self.week.get_or_insert_with(|| Box::new([0; SLOTS]));
        let old = decode(week[slot]);
        week[slot] = encode(if old > 0.0 { old + (seen - old) * 0.25 } else { seen });
    }

    /// Whether its weeks are remembered.
    pub(super) fn has_week(&self) -> bool {
        self.week.is_some()
    }

    /// Requests a second that are usual, by a memory (an index of [`MEMORIES`]) and by this minute of the week.
    pub(super) fn rate(&self, memory: usize, minute: Option<u32>) -> f64 {
        let week = self.week.as_ref().zip(minute);
        let week = week.map_or(0.0, |(w, m)| decode(w[(m / SLOT_MINUTES) as usize % SLOTS]));
        self.means[memory].max(week)
    }

    /// Whether it asks for more than chance explains: half more than usual, and by five deviations in one second, or by
    /// two (of one second) over some three.
    pub(super) fn rises(&self, rate: f64, smooth: f64, memory: usize, minute: Option<u32>) -> bool {
        let usual = self.rate(memory, minute);
        let deviation = usual.max(self.variance.min(usual * usual)).max(1.0).sqrt();
        let by = |rate: f64, times: f64| rate > 1.5 * usual && rate - usual > times * deviation;
        by(rate, 5.0) || by(smooth, 2.0)
    }
}

/// A rate in a byte: 255 steps of 6 % from 0.05 a second on; 0 = none.
fn encode(rate: f64) -> u8 {
    if rate < 0.05 { 0 } else { ((rate / 0.05).ln() / 1.06f64.ln()).round().min(254.0) as u8 + 1 }
}

fn decode(step: u8) -> f64 {
    if step == 0 { 0.0 } else { 0.05 * 1.06f64.powi(i32::from(step) - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_survive_their_byte_within_three_percent() {
        for rate in [0.1, 1.0, 33.0, 1000.0, 90_000.0] {
            assert!((decode(encode(rate)) / rate - 1.0).abs() < 0.03, "{rate}");
        }
        assert!(decode(encode(0.0)).abs() < 1e-9);
    }

    #[test]
    fn what_comes_each_week_at_that_time_is_usual() {
        let mut usual = Usual::default();
        for minute in 0..10_080u32 * 2 {
            let minute = minute % 10_080;
            let rate = if (600..660).contains(&minute) { 500.0 } else { 50.0 };
            usual.learn(rate, 1.0, None, 60.0);
            usual.learn_week(minute, rate, 60.0);
        }
        (0..40).for_each(|_| usual.learn(50.0, 1.0, None, 60.0));
        assert!(usual.rises(500.0, 50.0, 0, Some(30)));
        assert!(!usual.rises(500.0, 500.0, 0, Some(620)));
    }

    #[test]
    fn chance_is_no_rise() {
        let mut usual = Usual::default();
        (0..100).for_each(|i| usual.learn(f64::from(4 + i % 3), 1.0, None, 1.0));
        assert!(!usual.rises(15.0, 8.0, 0, None), "within five deviations of so few");
        assert!(usual.rises(25.0, 8.0, 0, None));
        assert!(usual.rises(10.0, 10.0, 0, None), "if it goes on");
    }
}
