//! How what there is gets shared out.

/// The level up to which demands are met such that they sum to `room`; infinite if all of them fit.
///
/// Max-min fair: nobody gets more than asked for, and nobody who gets less than asked for gets less than another.
pub(super) fn level(demands: &[f64], room: f64) -> f64 {
    let mut sorted: Vec<f64> = demands.iter().copied().filter(|d| *d > 0.0).collect();
    sorted.sort_by(f64::total_cmp);
    let mut left = room.max(0.0);
    for (i, demand) in sorted.iter().enumerate() {
        let even = left / (sorted.len() - i) as f64;
        if *demand > even {
            return even;
        }
        left -= demand;
    }
    f64::INFINITY
}

/// Each one's part of `room`: what is usual for it first, then of the rest in proportion to what it asks beyond that.
/// If even what is usual does not fit, all get the same part of it. Never more than `room` in all, unless all that is
/// asked for fits.
pub(super) fn by_excess(demands: &[f64], usual: &[f64], room: f64) -> Vec<f64> {
    let room = room.max(0.0);
    let base = |d: f64, u: f64| d.min(u).max(0.0);
    let pairs = || demands.iter().copied().zip(usual.iter().copied());
    let needed: f64 = pairs().map(|(d, u)| base(d, u)).sum();
    if needed >= room {
        let part = if needed > 0.0 { room / needed } else { 0.0 };
        return pairs().map(|(d, u)| base(d, u) * part).collect();
    }
    let excess: f64 = pairs().map(|(d, u)| d.max(0.0) - base(d, u)).sum();
    let part = if excess > 0.0 { (room - needed) / excess } else { 0.0 };
    pairs().map(|(d, u)| base(d, u) + (d.max(0.0) - base(d, u)) * part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shares(demands: &[f64], room: f64) -> Vec<f64> {
        let level = level(demands, room);
        demands.iter().map(|d| d.min(level)).collect()
    }

    proptest! {
        #[test]
        fn allocations_never_exceed_the_room(
            demands in proptest::collection::vec(0.0..2.0f64, 0..60),
            usual in proptest::collection::vec(0.0..1.0f64, 60),
            room in 0.0..3.0f64,
        ) {
            let all: f64 = demands.iter().sum();
            prop_assert!(shares(&demands, room).iter().sum::<f64>() <= room + 1e-9);
            let parts = by_excess(&demands, &usual[..demands.len()], room);
            prop_assert!(parts.iter().sum::<f64>() <= room.max(all) + 1e-9);
            if all > room {
                prop_assert!(parts.iter().sum::<f64>() <= room + 1e-9);
            }
        }

        #[test]
        fn raising_one_demand_never_raises_anothers_share(
            demands in proptest::collection::vec(0.0..1.0f64, 2..40),
            more in 0.0..1.0f64,
            room in 0.0..3.0f64,
        ) {
            let before = shares(&demands, room);
            let mut raised = demands.clone();
            raised[0] += more;
            let after = shares(&raised, room);
            for (b, a) in before.iter().zip(&after).skip(1) {
                prop_assert!(a <= &(b + 1e-9));
            }
        }

        #[test]
        fn what_is_usual_is_given_first_if_it_fits(
            pairs in proptest::collection::vec((0.0..1.0f64, 0.0..0.1f64), 1..20),
        ) {
            let (demands, usual): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let room = usual.iter().sum::<f64>() + 0.01;
            for ((d, u), got) in demands.iter().zip(&usual).zip(by_excess(&demands, &usual, room)) {
                prop_assert!(got >= d.min(*u) - 1e-9);
            }
        }
    }

    #[test]
    fn the_level_meets_small_demands_whole() {
        assert!((level(&[0.1, 0.5, 0.9], 0.9) - 0.4).abs() < 1e-12);
        assert!(level(&[0.1, 0.2], 0.3 + 1e-12).is_infinite());
        assert!(level(&[1.0], 0.0).abs() < 1e-12);
    }
}
