//! Weighted max-min: everybody gets what they want, or as much as everybody else who wants more.

/// The level up to which `wants` (what is wanted, and its weight) fit into `capacity`: each gets `min(want, level ·
/// weight)`. Infinite if everything fits. `wants` are put in another order.
///
/// Bertsekas and Gallager, *Data Networks*, section 6.5.2, for one link.
pub fn level(wants: &mut [(f64, f64)], capacity: f64) -> f64 {
    let sum: f64 = wants.iter().map(|(want, _)| want).sum();
    if sum <= capacity {
        return f64::INFINITY;
    }
    wants.sort_unstable_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
    let mut left = capacity.max(0.0);
    let mut weight: f64 = wants.iter().map(|(_, weight)| weight).sum();
    for &(want, of) in wants.iter() {
        if want * weight > left * of {
            return left / weight;
        }
        left -= want;
        weight -= of;
    }
    // Rounding: everything fits but for the last bits.
    f64::INFINITY
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(a: f64, b: f64) -> bool {
        a.total_cmp(&b).is_eq() || (a - b).abs() < 1e-9
    }

    #[test]
    fn who_wants_less_than_the_others_gets_it_all() {
        assert!(close(level(&mut [(10.0, 1.0), (100.0, 1.0), (100.0, 1.0)], 110.0), 50.0));
        assert!(close(level(&mut [(100.0, 1.0), (100.0, 3.0)], 100.0), 25.0));
        assert!(close(level(&mut [(10.0, 1.0)], 10.0), f64::INFINITY));
        assert!(close(level(&mut [(10.0, 1.0)], 0.0), 0.0));
    }

    proptest! {
        #[test]
        fn the_level_uses_the_capacity_and_no_more(
            mut wants in prop::collection::vec((0.0f64..1000.0, 0.1f64..5.0), 1..50), capacity in 0.0f64..20_000.0,
        ) {
            let all = wants.clone();
            let level = level(&mut wants, capacity);
            let given: f64 = all.iter().map(|(want, weight)| want.min(level * weight)).sum();
            let wanted: f64 = all.iter().map(|(want, _)| want).sum();
            prop_assert!((given - wanted.min(capacity)).abs() < 1e-6 * (1.0 + wanted), "{given} of {capacity}");
        }
    }
}
