//! Safe shares: what each sidecar may use without the server. Their sum never passes the limit.

/// A share of `limit` for one of `members`, that needs `want` of `wants` in all: half of it is divided evenly, half by
/// what is needed.
pub(super) fn share(limit: f64, members: usize, want: f64, wants: f64) -> f64 {
    if members == 0 {
        return 0.0;
    }
    let even = 1.0 / members as f64;
    let needed = if wants > 0.0 { want / wants } else { even };
    limit * (0.5 * even + 0.5 * needed.min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        a.total_cmp(&b).is_eq() || (a - b).abs() < 1e-9
    }

    #[test]
    fn shares_are_the_limit_together() {
        let wants = [0.0, 10.0, 90.0, 300.0];
        let all: f64 = wants.iter().sum();
        let sum: f64 = wants.iter().map(|w| share(1000.0, wants.len(), *w, all)).sum();
        assert!((sum - 1000.0).abs() < 1e-9, "{sum}");
        assert!(close(share(1000.0, 4, 0.0, 0.0), 250.0));
        assert!(close(share(1000.0, 0, 1.0, 1.0), 0.0));
    }
}
