//! Frames arrive as they were sent, replies find their callers, and requests their services.
use super::{SERVICE, outbound, started, two_hops};
use raddle_testkit::frame::noise;
use raddle_testkit::{
    Ask, BoltClient, BoltServer, Config, DubboAsk, DubboClient, DubboFrame, DubboServer, Load, PATIENCE,
    Running, Status, TcpServer, dubbo_load, free_addr, until,
};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// Ids at the edges of both halves of their 64 bits.
const IDS: [u64; 6] = [0, 1, 0x8000_0000, u32::MAX as u64 + 1, 0x8000_0000_0000_0000, u64::MAX];

fn recording() -> (DubboServer, Arc<Mutex<Vec<DubboFrame>>>) {
    let received = Arc::new(Mutex::new(Vec::new()));
    let r = received.clone();
    let server = DubboServer::start(move |c| {
        r.lock().unwrap().push(c.frame.clone());
        if c.frame.two_way() {
            c.echo();
        }
    });
    (server, received)
}

#[test]
fn frames_pass_two_sidecars_byte_for_byte_but_for_the_id_all_64_bits_of_which_come_back() {
    let (server, received) = recording();
    let (_in, _out, listen) = two_hops(server.addr);
    let mut c = DubboClient::connect(listen);
    for id in IDS {
        for len in [0, 1, 100, 70_000, 300_000] {
            let ask = DubboAsk::to(SERVICE).id(id).content(noise(id ^ len as u64, len));
            let reply = c.call(&ask);
            assert_eq!(reply.status(), Status::Ok as u8);
            assert_eq!(reply.content(), Some(ask.content.clone()), "{id:x}, {len} bytes");
            let got = received.lock().unwrap().pop().unwrap();
            assert!(
                got.without_id() == DubboFrame { bytes: ask.bytes() }.without_id(),
                "{id:x}, {len} bytes"
            );
        }
    }
}

#[test]
fn a_frame_cut_anywhere_arrives_whole() {
    let server = DubboServer::echo();
    let (_sidecar, listen) = outbound(server.addr);
    let bytes = DubboAsk::to(SERVICE).id(5).bytes();
    for cut in 1..bytes.len() {
        // The first bytes of a connection decide what it is, however few they are.
        let mut c = DubboClient::connect(listen);
        c.send(&bytes[..cut]);
        c.send(&bytes[cut..]);
        assert_eq!(c.frame().id(), 5, "cut at {cut}");
    }
}

#[test]
fn replies_out_of_order_go_to_the_request_they_answer() {
    let held = Arc::new(Mutex::new(Vec::new()));
    let h = held.clone();
    let server = DubboServer::start(move |c| {
        let mut held = h.lock().unwrap();
        held.push(c);
        if held.len() == 100 {
            for c in held.drain(..).rev() {
                c.echo();
            }
        }
    });
    let (_sidecar, listen) = outbound(server.addr);
    let mut c = DubboClient::connect(listen);
    for id in 0..1000u64 {
        c.ask(&DubboAsk::to(SERVICE).id(id << 33).content(id.to_be_bytes()));
    }
    let mut seen = HashSet::new();
    for _ in 0..1000 {
        let f = c.frame();
        assert_eq!(f.content().unwrap(), (f.id() >> 33).to_be_bytes());
        assert!(seen.insert(f.id()));
    }
}

#[test]
fn callers_that_use_the_same_ids_get_their_own_replies() {
    let server = DubboServer::echo();
    let (_in, _out, listen) = two_hops(server.addr);
    // Callers 7 apart use the same ids.
    let load =
        dubbo_load(listen, 16, 32, |c, n| DubboAsk::to(SERVICE).content(noise((c as u64) << 32 | n, 100)));
    load.goes_on(4_000);
    load.stop().expect_all_ok();
}

#[test]
fn bolt_and_dubbo_callers_share_a_port_and_never_a_connection() {
    let (bolt, dubbo) = (BoltServer::echo(), DubboServer::echo());
    let (sidecar, listen) =
        started(|c| c.service("com.test.Bolt:1.0", &[bolt.addr]).service(SERVICE, &[dubbo.addr]));
    let one = Load::on(listen, "com.test.Bolt:1.0", 8, 8);
    let other = dubbo_load(listen, 8, 8, |c, n| DubboAsk::to(SERVICE).content(noise(c as u64 ^ n, 80)));
    one.goes_on(2_000);
    other.goes_on(2_000);
    one.stop().expect_all_ok();
    other.stop().expect_all_ok();
    assert_eq!(dubbo.garbage() + bolt.garbage(), 0);
    let detected = |p| sidecar.admin.metric("raddle_connections_detected_total", &[p]);
    assert_eq!((detected("\"bolt\""), detected("\"dubbo\"")), (8, 8));
    let list = sidecar.admin.json("/connections");
    let lanes: HashSet<&str> = list.as_array().unwrap().iter().filter_map(|c| c["lane"].as_str()).collect();
    assert_eq!(lanes, HashSet::from(["bolt V1", "dubbo"]));
}

#[test]
fn one_service_may_be_called_in_both_protocols_on_connections_of_each() {
    // A server that speaks whatever the connection's first byte says.
    let (bolt, dubbo) = (BoltServer::echo(), DubboServer::echo());
    let front = either(bolt.addr, dubbo.addr);
    let (_sidecar, listen) = started(|c| c.service(SERVICE, &[front]));
    for round in 0..50 {
        let f = DubboClient::connect(listen).call(&DubboAsk::to(SERVICE).id(round));
        assert_eq!(f.status(), Status::Ok as u8);
        assert_eq!(BoltClient::connect(listen).call(&Ask::to(SERVICE).id(round as u32)).head.status, 0);
    }
}

/// Passes connections on by their first byte.
fn either(bolt: SocketAddr, dubbo: SocketAddr) -> SocketAddr {
    let addr = free_addr();
    let listener = std::net::TcpListener::bind(addr).unwrap();
    std::thread::spawn(move || {
        for s in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut first = [0];
                if s.peek(&mut first).unwrap_or(0) == 0 {
                    return;
                }
                let to = if first[0] == 0xDA { dubbo } else { bolt };
                let t = std::net::TcpStream::connect(to).unwrap();
                let (mut s2, mut t2) = (s.try_clone().unwrap(), t.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut s2, &mut t2));
                let (mut s, mut t) = (s, t);
                let _ = std::io::copy(&mut t, &mut s);
            });
        }
    });
    addr
}

#[test]
fn a_one_way_request_is_delivered_and_gets_no_reply() {
    let (server, received) = recording();
    let (_in, _out, listen) = two_hops(server.addr);
    let mut c = DubboClient::connect(listen);
    for id in 0..20 {
        c.ask(&DubboAsk::to(SERVICE).id(id).one_way().content("w"));
    }
    until(PATIENCE, "all arrive", || received.lock().unwrap().len() == 20);
    assert!(received.lock().unwrap().iter().all(|f| !f.two_way() && f.content().as_deref() == Some(b"w")));
    // What comes next is the reply to the next request and nothing else.
    assert_eq!(c.call(&DubboAsk::to(SERVICE).id(99)).id(), 99);
}

#[test]
fn a_wrong_reply_to_a_one_way_request_is_dropped() {
    let server = DubboServer::start(|c| {
        c.echo();
    });
    let (sidecar, listen) = outbound(server.addr);
    let mut c = DubboClient::connect(listen);
    for n in 0..50 {
        c.ask(&DubboAsk::to(SERVICE).id(n).one_way());
        assert_eq!(c.call(&DubboAsk::to(SERVICE).id(1000 + n)).id(), 1000 + n);
    }
    sidecar.admin.until_metric("raddle_unexpected_replies_total", &[], |n| n >= 50);
}

#[test]
fn a_reply_whose_id_has_bits_that_the_sidecar_never_wrote_is_dropped() {
    let server = DubboServer::start(|c| {
        for high in [1u64, 1 << 31, 0xFFFF_FFFF] {
            let mut stray = c.value_bytes(b"stray");
            let id = c.frame.id() | high << 32;
            stray[4..12].copy_from_slice(&id.to_be_bytes());
            c.peer.write(&stray);
        }
        c.echo();
    });
    let (_sidecar, listen) = outbound(server.addr);
    let mut c = DubboClient::connect(listen);
    for id in 0..100 {
        assert_eq!(c.call(&DubboAsk::to(SERVICE).id(id)).content().unwrap(), b"hello");
    }
}

#[test]
fn a_service_is_found_by_interface_version_and_group_or_less() {
    let named = |name: &'static str| {
        DubboServer::start(move |c| {
            c.value(name.as_bytes());
        })
    };
    let (full, versioned, bare) = (named("full"), named("versioned"), named("bare"));
    let (_sidecar, listen) = started(|c| {
        c.service("com.test.A:1.0:blue", &[full.addr])
            .service("com.test.A:1.0", &[versioned.addr])
            .service("com.test.A", &[bare.addr])
    });
    let mut c = DubboClient::connect(listen);
    let mut who = |service: &str| {
        let f = c.call(&DubboAsk::to(service));
        String::from_utf8(f.content().unwrap_or_default()).unwrap()
    };
    assert_eq!(who("com.test.A:1.0:blue"), "full");
    assert_eq!(who("com.test.A:1.0:green"), "versioned");
    assert_eq!(who("com.test.A:1.0"), "versioned");
    assert_eq!(who("com.test.A:2.0"), "bare");
    assert_eq!(who("com.test.A:0.0.0"), "bare");
    assert_eq!(who("com.test.A"), "bare");
}

#[test]
fn bodies_in_a_serialisation_that_nobody_reads_go_to_the_listeners_service() {
    let (server, received) = recording();
    let (plain, declared) = (free_addr(), free_addr());
    let listener =
        format!("outbound: [{{listen: \"{declared}\", service: \"{SERVICE}\"}}, {{listen: \"{plain}\"}}]");
    let config = Config::new().sidecar(&listener).service(SERVICE, &[server.addr]);
    let _sidecar = Running::start(&config);
    // Kryo, FST, protobuf, MessagePack, and a number that stands for nothing yet.
    for serializer in [8, 9, 21, 22, 27, 31] {
        let ask = DubboAsk::to(SERVICE).serializer(serializer).id(u64::from(serializer) << 50);
        assert_eq!(DubboClient::connect(declared).call(&ask).status(), Status::Ok as u8, "{serializer}");
        let got = received.lock().unwrap().pop().unwrap();
        assert_eq!(got.without_id(), DubboFrame { bytes: ask.bytes() }.without_id());
        let f = DubboClient::connect(plain).call(&ask);
        assert_eq!((f.status(), f.flag().as_deref()), (Status::ServiceNotFound as u8, Some("NC")));
    }
}

#[test]
fn a_dubbo_client_silent_beyond_the_detection_timeout_is_still_a_dubbo_client() {
    // What the listener would relay to says nothing first, either.
    let quiet = TcpServer::start(|mut s| drop(std::io::Read::read(&mut s, &mut [0; 16])));
    let server = DubboServer::echo();
    let listen = free_addr();
    let config = Config::new().outbound_tcp(listen, "com.test.Tcp", false);
    let config = config.service("com.test.Tcp", &[quiet.addr]).service(SERVICE, &[server.addr]);
    let _sidecar = Running::start(&config);
    let mut c = DubboClient::connect(listen);
    until(PATIENCE, "detection gives up", || quiet.accepted() == 1);
    assert_eq!(c.call(&DubboAsk::to(SERVICE).id(3)).content().unwrap(), b"hello");
}

#[test]
fn a_listener_declared_for_dubbo_takes_nothing_else_and_waits_for_a_silent_caller() {
    let server = DubboServer::echo();
    let (listen, admin_line) = (free_addr(), "limits: {detectTimeout: 20ms}");
    let listener = format!("outbound: [{{listen: \"{listen}\", service: \"{SERVICE}\", protocol: dubbo}}]");
    let config = Config::new().sidecar(&listener).sidecar(admin_line).service(SERVICE, &[server.addr]);
    let sidecar = Running::start(&config);
    let mut silent = DubboClient::connect(listen);
    let mut wrong = DubboClient::connect(listen);
    wrong.send(b"GET / HTTP/1.1\r\n\r\n");
    wrong.expect_end();
    assert_eq!(sidecar.admin.metric("raddle_malformed_frames_total", &["caller", "bad_magic"]), 1);
    let began = std::time::Instant::now();
    until(PATIENCE, "detection is long over", || began.elapsed().as_millis() > 150);
    assert_eq!(server.accepted(), 0, "silence is no reason to relay");
    assert_eq!(silent.call(&DubboAsk::to(SERVICE).id(3)).status(), Status::Ok as u8);
}

#[test]
fn rules_see_method_attachments_caller_and_load_test_mark() {
    let (v1, v2) = (DubboServer::echo(), DubboServer::echo());
    let ends = format!(
        "{{app: callee, endpoints: [{{address: \"{}\", labels: {{version: v1}}}}, \
         {{address: \"{}\", labels: {{version: v2}}}}]}}",
        v1.addr, v2.addr
    );
    let to_v2 = |when: &str| format!("{{when: {when}, send: {{labels: {{version: v2}}}}}}");
    let rules =
        ["{method: pay}", "{header: {tenant: gold}}", "{callerApp: shop}", "{loadTest: true}"].map(to_v2);
    let route = format!(
        "{{to: {{services: [\"{SERVICE}\"]}}, rules: [{}, {{send: {{labels: {{version: v1}}}}}}]}}",
        rules.join(", ")
    );
    let (_sidecar, listen) =
        started(|c| c.document("Service", SERVICE, &ends).document("Route", "r", &route));
    let mut c = DubboClient::connect(listen);
    let plain = DubboAsk::to(SERVICE);
    assert_eq!(c.call(&plain).status(), Status::Ok as u8);
    assert_eq!((v1.requests(), v2.requests()), (1, 0));
    let marked = [
        plain.clone().method("pay"),
        plain.clone().attachment("tenant", "gold"),
        plain.clone().attachment("remote.application", "shop"),
        plain.clone().attachment("application", "shop"),
        plain.clone().attachment("shadowTest", "T"),
    ];
    for (n, ask) in marked.iter().enumerate() {
        assert_eq!(c.call(ask).status(), Status::Ok as u8);
        assert_eq!((v1.requests(), v2.requests()), (1, n as u64 + 1), "{ask:?}");
    }
}
