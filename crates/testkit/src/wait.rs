//! Waiting: for a condition, with a deadline, never for a while.
use std::time::{Duration, Instant};

/// How long a test waits for what should come at once, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Returns once `f` holds; fails the test if it does not within `most`.
#[track_caller]
pub fn until(most: Duration, what: &str, mut f: impl FnMut() -> bool) {
    until_some(most, what, || f().then_some(()));
}

/// Returns what `f` gives once it gives something; fails the test if it does not within `most`.
#[track_caller]
pub fn until_some<T>(most: Duration, what: &str, mut f: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + most;
    loop {
        if let Some(v) = f() {
            return v;
        }
        assert!(Instant::now() < end, "not within {most:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
