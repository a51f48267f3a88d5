//! Wakers for h2 without a runtime: what is woken is put on a list, which the worker's turn works off.
use raddle_net::Key;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// What is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A connection that speaks HTTP/2.
    Conn(Key),
    /// An exchange.
    Exchange(Key),
}

/// The list. Only its worker's thread touches it, so the lock is never waited for; wakers have to be
/// `Sync` whether they are shared or not.
#[derive(Clone, Default)]
pub(crate) struct Ready(Arc<Mutex<Vec<Arc<Task>>>>);

struct Task {
    token: Token,
    listed: AtomicBool,
    ready: Ready,
}

impl Ready {
    /// A waker that lists `token`.
    pub(crate) fn waker(&self, token: Token) -> Waker {
        Waker::from(Arc::new(Task { token, listed: AtomicBool::new(false), ready: self.clone() }))
    }

    /// Takes what is listed.
    pub(crate) fn take(&self, into: &mut Vec<Token>) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        into.extend(list.drain(..).map(|t| {
            t.listed.store(false, Ordering::Relaxed);
            t.token
        }));
    }

    /// Whether something is listed.
    pub(crate) fn any(&self) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if !self.listed.swap(true, Ordering::Relaxed) {
            let ready = self.ready.clone();
            ready.0.lock().unwrap_or_else(PoisonError::into_inner).push(self);
        }
    }
}
