//! Where a worker leaves its lines for the writer: bounded, and never waited for.
use super::logger::CAPACITY;
use std::sync::{Mutex, PoisonError, TryLockError};

/// Tells the writer that there is something to do.
#[derive(Debug)]
pub(super) struct Bell;

/// Whole lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) bytes: Vec<u8>,
    pub(super) count: u64,
}

impl Lines {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }
}

/// One worker's lines on their way. Both sides hold the lock for a swap or a copy of what a turn wrote.
#[derive(Debug, Default)]
pub(super) struct Mailbox(Mutex<Lines>);

impl Mailbox {
    /// Moves the lines in, if there is room and the writer is not taking lines out at this moment.
    pub(super) fn post(&self, lines: &mut Lines) -> bool {
        let mut inside = match self.0.try_lock() {
            Ok(inside) => inside,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        if inside.bytes.is_empty() {
            std::mem::swap(&mut *inside, lines);
        } else if inside.bytes.len() + lines.bytes.len() <= CAPACITY {
            inside.bytes.extend_from_slice(&lines.bytes);
            inside.count += lines.count;
        } else {
            return false;
        }
        lines.clear();
        true
    }

    /// Takes the lines out, leaving an empty buffer for the next.
    pub(super) fn take(&self, empty: &mut Lines) {
        empty.clear();
        std::mem::swap(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), empty);
    }
}
