//! Requests for services that are not known yet wait for them, within bounds, whatever they speak.
use crate::{denies, orphan, says};
use raddle_testkit::h1::Client;
use raddle_testkit::h2_hpack::Block;
use raddle_testkit::http::{H2Side, h2_server, http_server};
use raddle_testkit::{
    Ask, BoltClient, BoltServer, DubboAsk, DubboClient, DubboServer, PATIENCE, Running, Status, until,
};
use std::time::{Duration, Instant};

const SERVICE: &str = "com.test.Echo:1.0";
const HOST: &str = "shop.mesh";

fn waiting(sidecar: &Running, n: i64) {
    sidecar.admin.until_metric("raddle_on_demand_requests_total", &["waited"], |have| have >= n);
}

#[test]
fn bolt_requests_wait_for_their_service_and_are_answered_in_order() {
    let server = BoltServer::echo();
    let (sidecar, listen) = orphan("20s");
    let mut c = BoltClient::connect(listen);
    for id in 1..=20 {
        c.ask(&Ask::to(SERVICE).id(id).content(format!("{id}")));
    }
    waiting(&sidecar, 20);
    assert!(sidecar.sidecar().feed(says(SERVICE, Some(&[server.addr]))).is_empty());
    let mut seen: Vec<u32> = (0..20).map(|_| c.frame().head.id).collect();
    seen.sort_unstable();
    assert_eq!(seen, (1..=20).collect::<Vec<_>>());
    sidecar.admin.until_metric("raddle_requests_total", &[SERVICE, "ok"], |n| n == 20);
}

#[test]
fn a_frame_too_large_to_be_held_waits_with_its_caller() {
    let server = BoltServer::echo();
    let (sidecar, listen) = orphan("20s");
    let content = raddle_testkit::frame::noise(1, 300_000);
    let mut c = BoltClient::connect(listen);
    c.ask(&Ask::to(SERVICE).id(7).content(content.clone()));
    waiting(&sidecar, 1);
    sidecar.sidecar().feed(says(SERVICE, Some(&[server.addr])));
    let reply = c.frame();
    assert!(reply.content() == content, "the large frame came back whole");
}

#[test]
fn a_large_frame_for_a_service_nobody_answers_for_is_refused_in_time() {
    let (_sidecar, listen) = orphan("300ms");
    let mut c = BoltClient::connect(listen);
    let began = Instant::now();
    c.ask(&Ask::to(SERVICE).id(7).content(raddle_testkit::frame::noise(1, 300_000)));
    assert_eq!(c.frame().flag().as_deref(), Some("NC"));
    assert!(began.elapsed() < PATIENCE / 2);
    // The connection goes on.
    c.ask(&Ask::to(SERVICE).id(8));
    assert_eq!(c.frame().flag().as_deref(), Some("NC"));
}

#[test]
fn dubbo_requests_wait_for_any_of_the_names_their_service_may_have() {
    let server = DubboServer::echo();
    let (sidecar, listen) = orphan("20s");
    let mut c = DubboClient::connect(listen);
    c.ask(&DubboAsk::to(SERVICE).id(3));
    waiting(&sidecar, 1);
    sidecar.sidecar().feed(says(SERVICE, Some(&[server.addr])));
    let reply = c.frame();
    assert_eq!((reply.id(), reply.status()), (3, Status::Ok as u8));
}

#[test]
fn http_requests_wait_for_the_service_of_their_host() {
    let one = http_server(|mut c| {
        while c.request().is_some() {
            c.ok(b"one");
        }
    });
    let (sidecar, listen) = orphan("20s");
    let mut c = Client::connect(listen);
    assert!(c.send(format!("POST / HTTP/1.1\r\nhost: {HOST}:80\r\ncontent-length: 4\r\n\r\nbody")));
    waiting(&sidecar, 1);
    sidecar.sidecar().feed(says(HOST, Some(&[one.addr])));
    assert_eq!(c.response("POST").unwrap().body, b"one");
}

#[test]
fn http2_requests_wait_for_the_service_of_their_host() {
    let two = h2_server(&[], |mut side| {
        while let Some((id, r)) = side.request() {
            side.answer(id, "200", &[], &r.body);
        }
    });
    let (sidecar, listen) = orphan("20s");
    let mut c = H2Side::connect(listen, &[]);
    let a = c.ask(&Block::request("POST", HOST, "/"), false);
    c.data(a, b"first", true);
    let b = c.ask(&Block::request("GET", HOST, "/"), true);
    waiting(&sidecar, 2);
    sidecar.sidecar().feed(says(HOST, Some(&[two.addr])));
    assert_eq!((c.done(a).status(), c.done(b).status()), (200, 200));
}

#[test]
fn tcp_connections_wait_for_the_listeners_service() {
    use std::io::{Read, Write};
    let server = raddle_testkit::TcpServer::start(|mut s| {
        let mut got = [0; 5];
        if s.read_exact(&mut got).is_ok() {
            let _ = s.write_all(&got);
        }
    });
    let (listen, control) = (raddle_testkit::free_addr(), raddle_testkit::refused_addr());
    let line = format!("controlPlane: {{addresses: [\"{control}\"], wait: 20s}}");
    let config = raddle_testkit::Config::new().outbound_tcp(listen, "db:1", true).sidecar(&line);
    let sidecar = Running::start(&config);
    let mut c = std::net::TcpStream::connect(listen).unwrap();
    c.set_read_timeout(Some(PATIENCE)).unwrap();
    c.write_all(b"hello").unwrap();
    waiting(&sidecar, 1);
    sidecar.sidecar().feed(says("db:1", Some(&[server.addr])));
    let mut back = [0; 5];
    c.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello");
}

#[test]
fn an_unknown_service_is_refused_at_once_when_the_control_plane_says_so() {
    let (sidecar, listen) = orphan("20s");
    let began = Instant::now();
    let mut c = BoltClient::connect(listen);
    c.ask(&Ask::to("com.test.Nobody:1.0").id(1));
    let mut h = Client::connect(listen);
    assert!(h.send("GET / HTTP/1.1\r\nhost: nobody.mesh\r\n\r\n"));
    waiting(&sidecar, 2);
    sidecar.sidecar().feed(denies("com.test.Nobody:1.0"));
    sidecar.sidecar().feed(denies("nobody.mesh"));
    assert_eq!(c.frame().flag().as_deref(), Some("NC"));
    let response = h.response("GET").unwrap();
    let body = String::from_utf8_lossy(&response.body).into_owned();
    assert!(body.contains("service nobody.mesh: not known to the control plane"), "{body}");
    // Remembered: the next one does not wait.
    c.ask(&Ask::to("com.test.Nobody:1.0").id(2));
    assert_eq!(c.frame().flag().as_deref(), Some("NC"));
    assert!(began.elapsed() < Duration::from_secs(15));
    assert_eq!(sidecar.admin.metric("raddle_on_demand_requests_total", &["waited"]), 2);
}

#[test]
fn a_control_plane_that_is_away_is_named_after_the_wait() {
    let (_sidecar, listen) = orphan("200ms");
    let mut h = Client::connect(listen);
    assert!(h.send(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n")));
    let response = h.response("GET").unwrap();
    assert_eq!(response.status(), 503);
    let body = String::from_utf8_lossy(&response.body).into_owned();
    assert!(body.contains("control plane not reachable since"), "{body}");
}

#[test]
fn a_request_is_not_kept_longer_than_its_own_time() {
    let (_sidecar, listen) = orphan("30s");
    let mut c = BoltClient::connect(listen);
    let began = Instant::now();
    c.ask(&Ask::to(SERVICE).id(1).timeout(100));
    assert_eq!(c.frame().flag().as_deref(), Some("UT"));
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn what_a_caller_asked_for_is_given_up_with_it() {
    let (sidecar, listen) = orphan("30s");
    let waiting_now = |n: i64| sidecar.admin.until_metric("raddle_on_demand_waiting", &[], |have| have == n);
    let mut c = BoltClient::connect(listen);
    for id in 0..10 {
        c.ask(&Ask::to(SERVICE).id(id).content(vec![0; 1000]));
    }
    waiting(&sidecar, 10);
    waiting_now(10);
    // It is gone for good (an orderly end could be of its sending side only): nothing of its requests is left.
    socket2::SockRef::from(&*c.stream.0).set_linger(Some(Duration::ZERO)).unwrap();
    drop(c);
    let _other = BoltClient::connect(listen);
    waiting_now(0);
}

#[test]
fn names_made_up_do_not_fill_the_memory() {
    let (sidecar, listen) = orphan("30s");
    let mut c = BoltClient::connect(listen);
    let long = "x".repeat(600);
    c.ask(&Ask::to(&long).id(1));
    assert_eq!(c.frame().flag().as_deref(), Some("NC"), "a name too long is not asked for");
    for id in 0..12_000 {
        c.ask(&Ask::to(&format!("made.up.Name{id}:1.0")).id(id).timeout(60_000));
    }
    // Beyond the bound they are refused at once, those before still wait.
    for _ in 0..2_000 {
        assert_eq!(c.frame().flag().as_deref(), Some("NC"));
    }
    until(PATIENCE, "the others wait", || sidecar.admin.metric("raddle_on_demand_waiting", &[]) == 10_000);
}

#[test]
fn an_update_keeps_what_it_does_not_name() {
    let (one, two) = (BoltServer::echo(), BoltServer::echo());
    let (sidecar, listen) = orphan("5s");
    sidecar.sidecar().feed(says("a:1.0", Some(&[one.addr])));
    let mut c = BoltClient::connect(listen);
    assert_eq!(c.call(&Ask::to("a:1.0").id(1)).head.status, 0);
    sidecar.sidecar().feed(says("b:1.0", Some(&[two.addr])));
    assert_eq!(c.call(&Ask::to("b:1.0").id(2)).head.status, 0);
    assert_eq!(c.call(&Ask::to("a:1.0").id(3)).head.status, 0);
    assert_eq!(one.accepted(), 1, "the connection to what did not change stayed");
}
