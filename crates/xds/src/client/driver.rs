//! The task that ties the machine to the sockets.
use super::handle::{Handle, Shared};
use super::{Options, Sink};
use std::sync::Arc;
use tokio::sync::watch;

/// Starts a client on the current tokio runtime.
///
/// # Panics
///
/// Outside of a tokio runtime.
pub fn spawn(options: Options, sink: impl Sink) -> Handle {
    let shared = Arc::new(Shared::default());
    let (closed, closes) = watch::channel(false);
    let handle = Handle::new(Arc::clone(&shared), closes);
    tokio::spawn(async move {
        let _ = (options, sink);
        while shared.take().is_some() {
            shared.woken().await;
        }
        let _ = closed.send(true);
    });
    handle
}
