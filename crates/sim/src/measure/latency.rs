//! A histogram of latencies with a fixed relative error.

/// Buckets grow by 2 %: quantiles are off by 1 % at most.
const GROWTH: f64 = 1.02;
/// What is shorter counts as this, in seconds.
const LEAST: f64 = 1e-4;

/// Latencies, counted by size.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    counts: Vec<u64>,
    total: u64,
    sum: f64,
}

impl Latencies {
    /// Counts one, in seconds.
    pub(crate) fn add(&mut self, seconds: f64) {
        let place = ((seconds / LEAST).max(1.0).ln() / GROWTH.ln()) as usize;
        if place >= self.counts.len() {
            self.counts.resize(place + 1, 0);
        }
        self.counts[place] += 1;
        self.total += 1;
        self.sum += seconds;
    }

    /// Their mean, in seconds; 0 if there are none.
    pub fn mean(&self) -> f64 {
        if self.total == 0 { 0.0 } else { self.sum / self.total as f64 }
    }

    /// How many there are.
    pub fn count(&self) -> f64 {
        self.total as f64
    }

    /// What this share of them does not exceed, in seconds; 0 if there are none.
    pub fn quantile(&self, share: f64) -> f64 {
        Latencies::quantile_of(&[(self, 1.0)], share)
    }

    /// What this share of several, each with its weight, does not exceed, in seconds; 0 if there are none.
    pub fn quantile_of(parts: &[(&Latencies, f64)], share: f64) -> f64 {
        let mut counts = vec![0.0; parts.iter().map(|p| p.0.counts.len()).max().unwrap_or(0)];
        for (part, weight) in parts {
            for (sum, n) in counts.iter_mut().zip(&part.counts) {
                *sum += *n as f64 * weight;
            }
        }
        let wanted = share * counts.iter().sum::<f64>();
        let mut seen = 0.0;
        let place = counts.iter().position(|c| {
            seen += c;
            *c > 0.0 && seen >= wanted - 1e-6
        });
        place.map_or(0.0, |p| LEAST * GROWTH.powf(p as f64 + 0.5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_percent() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.99), 0.0);
        (1..=1000).for_each(|ms| latencies.add(f64::from(ms) / 1000.0));
        let mut long = Latencies::default();
        long.add(5.0);
        let mixed = Latencies::quantile_of(&[(&latencies, 0.97), (&long, 30.0)], 0.98);
        assert!((mixed - 5.0).abs() < 0.06, "thirty in a thousand are long: {mixed}");
        for (share, expected) in [(0.5, 0.5), (0.99, 0.99), (1.0, 1.0)] {
            let found = latencies.quantile(share);
            assert!((found / expected - 1.0_f64).abs() < 0.011, "{share}: {found}");
        }
    }
}
