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

#[test]
fn without_a_quota_server_all_pass() {
    let server = BoltServer::echo();
    let limited = Limited::inbound(server.addr, &[("RateLimit", "all", ALL)]);
    let mut c = BoltClient::connect(limited.listen);
    assert!((0..300).all(|_| c.call(&Ask::to(PAY)).flag().is_none()));
    limited.settles();
}
