//! Burning CPU time, by the thread's own clock: a thread that does not run does not burn.
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use std::time::Duration;

/// Rounds between two looks at the clock: a few microseconds.
const ROUNDS: u64 = 4096;

/// Keeps the calling thread busy until it has used so much CPU time.
pub fn spin(cpu: Duration) {
    let until = used().saturating_add(cpu);
    let mut state = 1_u64;
    while used() < until {
        for _ in 0..ROUNDS {
            state = black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}

/// CPU time of the calling thread.
pub(super) fn used() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_burnt_and_hardly_more() {
        let before = used();
        spin(Duration::from_millis(3));
        let burnt = used().saturating_sub(before);
        assert!((Duration::from_millis(3)..Duration::from_millis(4)).contains(&burnt), "{burnt:?}");
    }
}
