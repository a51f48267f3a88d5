//! An app that costs CPU: a hundred interfaces, each with its own price, and a pool of threads that really pay it.
//!
//! It is what limiting is shown on. [`menu`] says what an interface costs, the pool ([`Pool`]) works, [`spin`](spin())
//! burns; the sockets are those of [`serve`](mod@crate::serve).
mod pool;
mod spin;

pub(crate) use pool::{Desk, Done, Job, Pool, message};
pub use spin::spin;

use std::time::Duration;

/// Interfaces of the app.
pub const INTERFACES: usize = 100;
const NOUNS: [&str; 10] =
    ["cart", "order", "item", "stock", "price", "user", "coupon", "review", "parcel", "invoice"];
const VERBS: [&str; 10] =
    ["get", "list", "add", "update", "remove", "search", "count", "check", "export", "sync"];
/// Half of the interfaces cost less.
const MEDIAN: f64 = 1.5e-3;
/// Of the logarithm of the cost.
const SIGMA: f64 = 0.9;
const CHEAPEST: f64 = 0.5e-3;
const DEAREST: f64 = 20e-3;
/// Every tenth interface waits for something, too.
const WAIT: Duration = Duration::from_millis(40);

/// How the app works.
#[derive(Clone, Debug)]
pub struct BurnOptions {
    /// Threads that work. Of fewer than eight none waits for anything: interfaces cost CPU alone then.
    pub pool: usize,
    /// Requests that may wait for a thread; more are answered 503 at once.
    pub queue: usize,
    /// Multiplies what every interface costs.
    pub scale: f64,
    /// Header of replies with the CPU time the request took, in microseconds; `None` = it is not told.
    pub cost_header: Option<String>,
    /// Cores the app says it has, where it is asked for its load.
    pub cores: f64,
}

impl Default for BurnOptions {
    fn default() -> BurnOptions {
        BurnOptions { pool: 64, queue: 1024, scale: 1.0, cost_header: None, cores: 1.0 }
    }
}

/// One interface of the app.
#[derive(Clone, Debug, PartialEq)]
pub struct Interface {
    /// Where it is asked: `/cart/get`. No part of it looks like an id, which a sidecar would take for any other.
    pub path: String,
    /// CPU time of a request.
    pub cpu: Duration,
    /// Time a request waits for something that costs no CPU.
    pub wait: Duration,
}

/// The app's interfaces with what they cost, always the same: log-normal from 0.5 to 20 ms, 1.5 ms in the middle, times
/// `scale`.
pub fn menu(scale: f64) -> Vec<Interface> {
    let interface = |index: usize| {
        // Steps of the golden ratio: any first few of the interfaces are cheap and dear in turn.
        let share = ((index + 1) as f64 * 0.618_033_988_749_895).fract();
        let cpu = (MEDIAN * (SIGMA * normal(share)).exp()).clamp(CHEAPEST, DEAREST);
        Interface {
            path: format!("/{}/{}", NOUNS[index / 10 % 10], VERBS[index % 10]),
            cpu: Duration::from_secs_f64(cpu * scale),
            wait: if index % 10 == 3 { WAIT } else { Duration::ZERO },
        }
    };
    (0..INTERFACES).map(interface).collect()
}

/// The quantile of the normal distribution, right to 0.02 between -2.5 and 2.5: Tukey's lambda.
fn normal(share: f64) -> f64 {
    4.91 * (share.powf(0.14) - (1.0 - share).powf(0.14))
}

/// Which interface a request line's target asks for: by its path, or by its number (`/api/07`).
pub(crate) fn interface(menu: &[Interface], target: &str) -> Option<usize> {
    let path = target.split(['?', '#']).next().unwrap_or(target);
    if let Some(number) = path.strip_prefix("/api/") {
        return number.parse().ok().filter(|n| *n < menu.len());
    }
    menu.iter().position(|i| i.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_differ_in_path_and_cost_and_the_spread_is_as_promised() {
        let menu = menu(1.0);
        let mut paths: Vec<_> = menu.iter().map(|i| i.path.clone()).collect();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), INTERFACES);
        let mut costs: Vec<f64> = menu.iter().map(|i| i.cpu.as_secs_f64() * 1e3).collect();
        costs.sort_by(f64::total_cmp);
        assert!((costs[50] - 1.5).abs() < 0.1, "{}", costs[50]);
        assert!((costs[0], costs[99]) >= (0.5, 8.0) && costs[99] <= 20.0, "{costs:?}");
        assert_eq!(menu.iter().filter(|i| !i.wait.is_zero()).count(), 10);
    }

    #[test]
    fn the_quantile_is_that_of_the_normal_distribution() {
        for (share, z) in [(0.5, 0.0), (0.841_345, 1.0), (0.158_655, -1.0), (0.977_25, 2.0)] {
            assert!((normal(share) - z).abs() < 0.03, "{share}: {}", normal(share));
        }
    }

    #[test]
    fn an_interface_is_found_by_path_and_by_number() {
        let menu = menu(1.0);
        assert_eq!(interface(&menu, "/order/get?id=7"), Some(10));
        assert_eq!(interface(&menu, "/api/07"), Some(7));
        for wrong in ["/api/100", "/api/-1", "/order", "/", ""] {
            assert_eq!(interface(&menu, wrong), None, "{wrong}");
        }
    }
}
