//! Requests that end in every way there is: nothing they hold is lost.
use super::{Kept, Limited};
use raddle_testkit::h1::Client;
use raddle_testkit::http::{H2Side, h2_server, http_server};
use raddle_testkit::{Ask, BoltClient, BoltServer, DubboAsk, DubboClient, DubboServer};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const PAY: &str = "com.test.Pay:1.0";
const RULES: [(&str, &str, &str); 4] = [
    ("RateLimit", "all", "concurrency: 100000"),
    ("RateLimit", "rate", "rate: 300, burst: 20, maxWait: 200ms, when: {method: {regex: 'p.*|GET'}}"),
    ("RateLimit", "by", "rate: 100000, key: {by: callerIp}"),
    ("AdaptiveLimit", "app", "mode: enforce"),
];

/// All that was under way has ended, and a bound of one is free.
fn is_whole(limited: &Limited, mut works: impl FnMut() -> bool) {
    limited.settles();
    limited.rules(&[("RateLimit", "all", "concurrency: 1")]);
    assert!((0..5).all(|_| works()));
    limited.settles();
}

#[test]
fn of_bolt() {
    let n = AtomicU32::new(0);
    let server = BoltServer::start(move |c| {
        let _ = match n.fetch_add(1, Ordering::Relaxed) % 7 {
            0 => c.reply(1, b"failed"),
            1 => c.reply(4, b"busy"),
            2 => true,
            3 => {
                c.peer.end(true);
                true
            }
            _ => c.echo(),
        };
    });
    let limited = Limited::inbound_by(2, server.addr, &RULES);
    let end = Instant::now() + Duration::from_secs(3);
    std::thread::scope(|s| {
        for worker in 0..6u32 {
            let listen = limited.listen;
            s.spawn(move || {
                let mut round = worker;
                while Instant::now() < end {
                    round += 1;
                    let mut c = BoltClient::connect(listen);
                    for id in 1..=10 {
                        let method = ["pay", "list"][(id % 2) as usize];
                        let ask = Ask::to(PAY).method(method).id(id).timeout(100);
                        c.ask(&if id % 5 == 0 { ask.one_way() } else { ask });
                    }
                    if round % 3 != 0 {
                        (0..round % 8).for_each(|_| drop(c.try_next()));
                    }
                }
            });
        }
    });
    is_whole(&limited, || {
        let mut c = BoltClient::connect(limited.listen);
        c.call(&Ask::to(PAY).timeout(200)).flag().as_deref() != Some("RL")
    });
}

#[test]
fn of_dubbo() {
    let n = AtomicU32::new(0);
    let server = DubboServer::start(move |c| {
        let _ = match n.fetch_add(1, Ordering::Relaxed) % 5 {
            0 => c.throw("own"),
            1 => c.fail(70, "failed"),
            2 => true,
            _ => c.echo(),
        };
    });
    let limited = Limited::inbound_by(2, server.addr, &RULES);
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        let mut c = DubboClient::connect(limited.listen);
        for id in 1..=20 {
            c.ask(&DubboAsk::to(PAY).method("pay").id(id).timeout(50));
        }
        (0..10).for_each(|_| drop(c.try_next()));
    }
    is_whole(&limited, || {
        let mut c = DubboClient::connect(limited.listen);
        c.call(&DubboAsk::to(PAY).timeout(200)).flag().as_deref() != Some("RL")
    });
}

#[test]
fn of_http_one() {
    let n = AtomicU32::new(0);
    let server = http_server(move |mut c| {
        while c.request().is_some() {
            let on = match n.fetch_add(1, Ordering::Relaxed) % 6 {
                0 => c.send("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"),
                1 => {
                    c.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
                    false
                }
                2 => false,
                3 => c.send("garbage\r\n\r\n"),
                _ => c.ok("answer"),
            };
            if !on {
                return;
            }
        }
    });
    let limited = Limited::inbound_by(2, server.addr, &RULES);
    let end = Instant::now() + Duration::from_secs(3);
    let mut round = 0;
    while Instant::now() < end {
        round += 1;
        let mut c = Client::connect(limited.listen);
        for _ in 0..4 {
            c.send("GET /a HTTP/1.1\r\nHost: shop\r\n\r\n");
            if round % 2 == 0 && c.response("GET").is_err() {
                break;
            }
        }
    }
    is_whole(&limited, || {
        let mut c = Client::connect(limited.listen);
        assert!(c.send("GET /a HTTP/1.1\r\nHost: shop\r\n\r\n"));
        c.response("GET").map_or(true, |r| r.status() != 429)
    });
}

#[test]
fn of_http_two() {
    let n = AtomicU32::new(0);
    let server = h2_server(&[], move |mut side| {
        while let Some((stream, _)) = side.request() {
            match n.fetch_add(1, Ordering::Relaxed) % 4 {
                0 => side.answer(stream, "500", &[], b""),
                1 => {}
                _ => side.answer(stream, "200", &[("grpc-status", "0")], b""),
            }
        }
    });
    let limited = Limited::inbound_by(2, server.addr, &RULES);
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        let mut c = H2Side::connect(limited.listen, &[]);
        let streams: Vec<u32> = (0..8).map(|_| c.get("shop", "/a")).collect();
        let soon = Instant::now() + Duration::from_millis(30);
        while Instant::now() < soon && c.step(soon) {}
        drop((c, streams));
    }
    is_whole(&limited, || {
        let mut c = H2Side::connect(limited.listen, &[]);
        let stream = c.get("shop", "/a");
        let soon = Instant::now() + Duration::from_millis(100);
        while Instant::now() < soon && c.step(soon) {}
        let _ = stream;
        drop(c);
        limited.settles();
        limited.held("RateLimit/all") == 0
    });
}

#[test]
fn what_is_under_way_when_rules_go_and_come_back_is_forgotten_or_given_back() {
    let kept = Kept::default();
    let server = kept.server();
    let limited = Limited::inbound(server.addr, &RULES);
    let mut c = BoltClient::connect(limited.listen);
    (1..=3).for_each(|id| c.ask(&Ask::to(PAY).method("list").id(id)));
    kept.until(3);
    limited.rules(&[]);
    limited.rules(&[RULES[3]]);
    (4..=6).for_each(|id| c.ask(&Ask::to(PAY).method("list").id(id)));
    kept.until(6);
    kept.answer_all();
    assert!((0..6).all(|_| c.frame().head.status == 0));
    limited.settles();
}
