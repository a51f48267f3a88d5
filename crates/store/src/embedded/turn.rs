//! Whether those who keep leases had their turn.
//!
//! Leases are kept by tasks. If their runtime is so busy that a task waits longer than a lease lives, the lease's time is
//! over although nothing is wrong with its owner: ending it would remove all that is bound to it, and make still more
//! work. So the runtime is given a task of the store's own, behind all that waits. When that is done, so is whatever
//! should have kept the lease.
use super::writer::{Job, Task};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;

/// Timers that were due before one of this length began fire before it.
const BEAT: Duration = Duration::from_millis(10);
/// How often the task goes behind all others that are ready.
const YIELDS: usize = 4;

/// The runtime whose tasks keep leases.
#[derive(Debug)]
pub(super) struct Turns {
    runtime: Mutex<Option<Handle>>,
    jobs: Sender<Job>,
}

/// Tells the writer when the task is done, also if it ends with its runtime.
struct Tell(Sender<Job>);

impl Drop for Tell {
    fn drop(&mut self) {
        // A writer that has ended needs no word.
        let _ = self.0.send(Job { task: Task::Turn, room: None });
    }
}

impl Turns {
    /// Turns that the writer behind `jobs` is told of.
    pub(super) fn new(jobs: Sender<Job>) -> Turns {
        Turns { runtime: Mutex::new(None), jobs }
    }

    /// Leases are kept from the caller's runtime, if it is in one.
    pub(super) fn here(&self) {
        if let Ok(handle) = Handle::try_current() {
            *self.runtime.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
        }
    }

    /// Asks for a turn; false if there is no runtime to ask.
    pub(super) fn ask(&self) -> bool {
        let Some(runtime) = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).clone() else {
            return false;
        };
        let tell = Tell(self.jobs.clone());
        runtime.spawn(async move {
            let _tell = tell;
            tokio::time::sleep(BEAT).await;
            for _ in 0..YIELDS {
                tokio::task::yield_now().await;
            }
        });
        true
    }
}
