//! Callers that mean harm: they are answered or ended, the sidecar's memory stays bounded, and live traffic
//! beside them does not notice.
//!
//! The sidecars here are child processes, so that their memory can be measured. The bounds are far above what
//! is seen and far below what the abuse would take; what is seen is printed (`--nocapture`).
mod floods;
mod headers;
mod slow;
mod traffic;

use crate::{answer1, answer2};
use raddle_testkit::h1_upstream::H1Upstream;
use raddle_testkit::h2_upstream::H2Upstream;
use raddle_testkit::{Child, Config, free_addr};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use traffic::Traffic;

const MIB: u64 = 1 << 20;

/// A sidecar of its own in front of an HTTP/1.1 server.
struct Victim {
    child: Child,
    listen: SocketAddr,
    up: H1Upstream,
    _alone: MutexGuard<'static, ()>,
}

/// One abuse at a time: each keeps the machine busy, and what live traffic notices is judged.
static ALONE: Mutex<()> = Mutex::new(());

impl Victim {
    #[track_caller]
    fn start(limits: &str) -> Victim {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let up = H1Upstream::start(answer1);
        let (child, listen) = start(up.addr(), "http", limits);
        Victim { child, listen, up, _alone: alone }
    }

    /// Runs `f` beside live traffic. Fails if that suffers, or if memory grows by more than `most` bytes.
    #[track_caller]
    fn endures<T: Send>(&self, what: &str, most: u64, f: impl FnOnce() -> T + Send) -> T {
        // Caches and pools are filled once.
        Traffic::start(self.listen).finish();
        let before = self.child.rss();
        let traffic = Traffic::start(self.listen);
        let (value, peak) = self.child.peak_rss_during(f);
        let seen = traffic.finish();
        let grown = peak.saturating_sub(before);
        println!("{what}: memory grew by {} KiB; beside it {seen}", grown >> 10);
        assert!(grown < most, "{what}: memory grew by {} KiB", grown >> 10);
        seen.expect_undisturbed(what);
        assert_eq!(self.up.take_wrong(), Vec::<String>::new());
        value
    }
}

fn start(forward: SocketAddr, app: &str, limits: &str) -> (Child, SocketAddr) {
    let listen = free_addr();
    let line = format!("inbound: [{{listen: \"{listen}\", forward: \"{forward}\", appProtocol: {app}}}]");
    let config = Config::new().workers(1).sidecar(&line).sidecar(&format!("limits: {{{limits}}}"));
    (Child::start(&config), listen)
}

/// In front of an HTTP/2 server.
#[track_caller]
fn before_http2() -> (Child, SocketAddr, H2Upstream) {
    let up = H2Upstream::start(answer2);
    let (child, listen) = start(up.addr(), "http2", "");
    (child, listen, up)
}
