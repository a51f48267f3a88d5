//! Limits that hold for all sidecars together: what workers make of the quota client's word.
use super::Limited;
use raddle_core::Time;
use raddle_proxy::limits::{Quota, Take};
use raddle_testkit::{Ask, BoltClient, BoltServer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const PAY: &str = "com.test.Pay:1.0";
const ALL: &str = "rate: 100, reach: cluster";

/// Says of the first so many that they pass, of the next that it does not know yet, and then that they do not.
struct Few {
    passes: u32,
    asked: AtomicU32,
}

impl Quota for Few {
    fn try_take(&self, _: usize, rule: &str, _: Option<&[u8]>, now: Time) -> Take {
        assert_eq!(rule, "RateLimit/all");
        match self.asked.fetch_add(1, Ordering::Relaxed) {
            n if n < self.passes => Take::Taken,
            n if n == self.passes => Take::Later(now + Duration::from_millis(20)),
            n if n == self.passes + 1 => Take::Taken,
            _ => Take::Refused,
        }
    }
}

#[test]
fn a_request_waits_for_the_servers_word_and_is_held_by_it() {
    let server = BoltServer::echo();
    let limited = Limited::inbound(server.addr, &[("RateLimit", "all", ALL)]);
    let quota = Arc::new(Few { passes: 2, asked: AtomicU32::new(0) });
    assert!(limited.running.sidecar().shared().quota.set(quota.clone()).is_ok());
    let mut c = BoltClient::connect(limited.listen);
    let mut flag = || c.call(&Ask::to(PAY)).flag();
    assert_eq!((flag(), flag(), flag()), (None, None, None));
    assert_eq!(quota.asked.load(Ordering::Relaxed), 4, "the third was asked about twice");
    assert_eq!(flag().as_deref(), Some("CL"));
    assert_eq!(limited.held("RateLimit/all"), 1);
    limited.settles();
}

/// Never knows.
#[derive(Default)]
struct Unsure(AtomicU32);

impl Quota for Unsure {
    fn try_take(&self, _: usize, _: &str, _: Option<&[u8]>, now: Time) -> Take {
        self.0.fetch_add(1, Ordering::Relaxed);
        Take::Later(now + Duration::from_millis(20))
    }
}

#[test]
fn an_observed_rule_keeps_nobody_waiting_and_holds_nobody_while_its_quota_is_not_known() {
    let server = BoltServer::echo();
    let watch = [("RateLimit", "all", "mode: observe, rate: 100, reach: cluster")];
    let limited = Limited::inbound(server.addr, &watch);
    let quota = Arc::new(Unsure::default());
    assert!(limited.running.sidecar().shared().quota.set(quota.clone()).is_ok());
    let mut c = BoltClient::connect(limited.listen);
    assert!((0..3).all(|_| c.call(&Ask::to(PAY)).flag().is_none()));
    assert_eq!(quota.0.load(Ordering::Relaxed), 3, "each was asked about once");
    assert_eq!((limited.observed("RateLimit/all"), limited.held("RateLimit/all")), (3, 0));
    assert_eq!(limited.admin().metric("raddle_limit_waited_total", &[]), 0);
    limited.line("observed:RateLimit/all");
    limited.settles();

    // Nor one that cannot wait.
    let (server, _) = super::tcp::echo();
    let limited = super::tcp::plain(server.addr, &watch);
    assert!(limited.running.sidecar().shared().quota.set(quota).is_ok());
    assert!((0..3).all(|_| super::tcp::works(&mut super::tcp::connect(limited.listen))));
    assert_eq!((limited.observed("RateLimit/all"), limited.held("RateLimit/all")), (3, 0));
    limited.settles();
}

#[test]
fn without_a_quota_server_all_pass() {
    let server = BoltServer::echo();
    let limited = Limited::inbound(server.addr, &[("RateLimit", "all", ALL)]);
    let mut c = BoltClient::connect(limited.listen);
    assert!((0..300).all(|_| c.call(&Ask::to(PAY)).flag().is_none()));
    limited.settles();
}
