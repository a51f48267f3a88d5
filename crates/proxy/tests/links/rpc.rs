//! Bolt and Dubbo: the switch under load, and requests that outlast it.
use crate::mesh::{Gate, Pair, SECRET, SERVICE};
use raddle_testkit::{
    Ask, BoltClient, BoltServer, DubboAsk, DubboClient, DubboServer, Load, PATIENCE, Status, dubbo_load,
    until,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SLOW: &[u8] = b"slow";

fn content(n: u64) -> Vec<u8> {
    [SECRET, n.to_string().as_bytes()].concat()
}

fn bolt_app() -> (BoltServer, Gate) {
    let gate = Gate::default();
    let held = gate.clone();
    let server = BoltServer::start(move |call| {
        if call.frame.content() == SLOW {
            let held = held.clone();
            std::thread::spawn(move || {
                held.pass();
                call.echo();
            });
        } else {
            call.echo();
        }
    });
    (server, gate)
}

fn bolt_load(pair: &Pair) -> Load {
    Load::with(
        pair.listen,
        3,
        8,
        Arc::new(|c, n| Ask::to(SERVICE).content(content((c as u64) << 32 | u64::from(n)))),
    )
}

#[test]
fn bolt_loses_nothing_while_tls_goes_on_and_off() {
    let (server, _gate) = bolt_app();
    let pair = Pair::new("bolt", server.addr);
    let load = bolt_load(&pair);
    pair.toggle(|| load.goes_on(300));
    load.stop().expect_all_ok();
    let encrypted = |e| pair.caller.admin.metric("raddle_link_requests_total", &["outbound", e]);
    assert!(encrypted("\"true\"") >= 600 && encrypted("\"false\"") >= 900);
}

#[test]
fn a_bolt_request_that_outlasts_the_switch_is_answered_on_the_connection_it_went_by() {
    let (server, gate) = bolt_app();
    let pair = Pair::new("bolt", server.addr);
    let mut c = BoltClient::connect(pair.listen);
    assert_eq!(c.call(&Ask::to(SERVICE).content(content(1))).content(), content(1));
    c.ask(&Ask::to(SERVICE).id(77).timeout(60_000).content(SLOW));
    until(PATIENCE, "it is there", || server.requests() == 2);
    pair.want("true");
    until(PATIENCE, "both", || pair.tap.open(true) == 1 && pair.tap.open(false) == 1);
    // Silent for a while, and others pass it.
    let end = Instant::now() + Duration::from_millis(1500);
    for n in 0.. {
        if Instant::now() > end {
            break;
        }
        assert_eq!(
            c.call(&Ask::to(SERVICE).id(1000 + n).content(content(n.into()))).content(),
            content(n.into())
        );
    }
    assert_eq!(pair.tap.open(false), 1, "idle means no request in flight");
    gate.open();
    let reply = c.frame();
    assert_eq!((reply.head.id, reply.content()), (77, SLOW));
    until(PATIENCE, "then the old one ends", || pair.tap.open(false) == 0);
    assert_eq!(pair.tap.open(true), 1);
}

#[test]
fn large_bolt_frames_on_connections_of_their_own_switch_too() {
    let (server, _gate) = bolt_app();
    let pair = Pair::new("bolt", server.addr);
    let large = move |c: usize, n: u32| {
        let mut all = content((c as u64) << 32 | u64::from(n));
        all.resize(200 << 10, n as u8);
        Ask::to(SERVICE).content(all)
    };
    let load = Load::with(pair.listen, 2, 2, Arc::new(large));
    pair.toggle(|| load.goes_on(20));
    load.stop().expect_all_ok();
}

#[test]
fn dubbo_loses_nothing_while_tls_goes_on_and_off() {
    let server = DubboServer::echo();
    let pair = Pair::new("dubbo", server.addr);
    let load =
        dubbo_load(pair.listen, 3, 8, |c, n| DubboAsk::to(SERVICE).content(content((c as u64) << 32 | n)));
    pair.toggle(|| load.goes_on(300));
    load.stop().expect_all_ok();
}

#[test]
fn a_dubbo_request_that_outlasts_the_switch_is_answered() {
    let gate = Gate::default();
    let held = gate.clone();
    let server = DubboServer::start(move |call| {
        let slow = call.frame.content().as_deref() == Some(SLOW);
        let held = held.clone();
        std::thread::spawn(move || {
            if slow {
                held.pass();
            }
            call.echo();
        });
    });
    let pair = Pair::new("dubbo", server.addr);
    let mut c = DubboClient::connect(pair.listen);
    c.ask(&DubboAsk::to(SERVICE).id(77).timeout(60_000).content(SLOW));
    until(PATIENCE, "it is there", || server.requests() == 1);
    pair.want("true");
    until(PATIENCE, "both", || pair.tap.open(true) == 1 && pair.tap.open(false) == 1);
    let reply = c.call(&DubboAsk::to(SERVICE).id(5).content(content(5)));
    assert_eq!(reply.content(), Some(content(5)));
    gate.open();
    let reply = c.frame();
    assert_eq!((reply.id(), reply.status(), reply.content().as_deref()), (77, Status::Ok as u8, Some(SLOW)));
    until(PATIENCE, "then the old one ends", || pair.tap.open(false) == 0);
}

#[test]
fn connections_without_a_request_switch_by_themselves() {
    let (server, _gate) = bolt_app();
    let pair = Pair::new("bolt", server.addr);
    let mut c = BoltClient::connect(pair.listen);
    c.call(&Ask::to(SERVICE).content(content(1)));
    for tls in [true, false, true] {
        pair.switch(tls);
    }
    assert_eq!(server.requests(), 1);
    pair.caller.admin.until_metric("raddle_link_connections", &["outbound", "\"true\""], |n| n == 1);
}
