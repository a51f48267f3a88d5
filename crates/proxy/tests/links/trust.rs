//! Whom one trusts changes: connections that stay good are not touched, others are replaced.
use crate::mesh::{Pair, SERVICE, ca, identity, identity_at, now, take_on};
use raddle_testkit::{BoltServer, Load, PATIENCE, until};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn a_ca_is_replaced_with_an_overlap_and_nothing_is_cut() {
    let server = BoltServer::echo();
    let pair = Pair::new("bolt", server.addr);
    let load = Load::on(pair.listen, SERVICE, 2, 4);
    load.goes_on(50);
    pair.switch(true);
    let made = pair.tap.count(|_| true);
    let new = ca();
    // Both roots are trusted, first by the caller.
    take_on(&pair.caller, Some(identity_at(&pair.ca, &[&pair.ca, &new], "caller", DAY, now())));
    take_on(&pair.callee, Some(identity_at(&pair.ca, &[&pair.ca, &new], "callee", DAY, now())));
    load.goes_on(500);
    assert_eq!(pair.tap.count(|_| true), made, "connections that stay good stay");
    // Certificates of the new one; then the old root goes.
    take_on(&pair.callee, Some(identity_at(&new, &[&pair.ca, &new], "callee", DAY, now())));
    take_on(&pair.caller, Some(identity_at(&new, &[&pair.ca, &new], "caller", DAY, now())));
    load.goes_on(200);
    take_on(&pair.caller, Some(identity_at(&new, &[&new], "caller", DAY, now())));
    until(PATIENCE, "it is replaced", || pair.tap.count(|_| true) > made && pair.tap.open(true) == 1);
    load.goes_on(200);
    load.stop().expect_all_ok();
    assert!(pair.caller.admin.has_event("link_distrusted"));
    assert_eq!(pair.caller.admin.metric("raddle_upstream_connections_lost_total", &[]), 0);
}

#[test]
fn a_connection_whose_peers_certificate_expires_is_replaced_by_one_with_the_next() {
    let server = BoltServer::echo();
    // Long enough to be had under load, short enough to wait for.
    let brief = |ca: &_| Some(identity_at(ca, &[ca], "callee", DAY, now() - 86_400 + 6));
    let pair = Pair::started("bolt", server.addr, brief, true);
    let load = Load::on(pair.listen, SERVICE, 2, 4);
    load.goes_on(50);
    pair.switch(true);
    take_on(&pair.callee, Some(identity(&pair.ca, "callee")));
    let made = pair.tap.count(|_| true);
    until(Duration::from_secs(20), "it expires", || {
        pair.tap.count(|_| true) > made && pair.tap.open(true) == 1
    });
    load.goes_on(200);
    load.stop().expect_all_ok();
}

#[test]
fn a_link_is_encrypted_both_ways_from_the_first_connection_where_it_is_wanted_from_the_start() {
    let server = BoltServer::echo();
    let pair = Pair::new("bolt", server.addr);
    pair.want("{required: true}");
    let load = Load::on(pair.listen, SERVICE, 4, 4);
    load.goes_on(200);
    load.stop().expect_all_ok();
    assert_eq!(pair.tap.count(|t| !t.is_tls()), 0);
}
