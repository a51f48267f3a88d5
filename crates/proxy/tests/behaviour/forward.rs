//! Frames arrive as they were sent, and replies find their callers.
use raddle_testkit::frame::noise;
use raddle_testkit::{
    Ask, BoltClient, BoltServer, Config, Load, PATIENCE, Running, Variant, free_addr, until,
};
use raddle_wire::bolt::{self, Command, Head, Kind};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

const SERVICE: &str = "com.test.Echo:1.0";

fn outbound(server: SocketAddr) -> (Running, SocketAddr) {
    let listen = free_addr();
    (Running::start(&Config::new().outbound(listen).service(SERVICE, &[server])), listen)
}

/// Caller → outbound sidecar → inbound sidecar → server.
fn two_hops(server: SocketAddr) -> (Running, Running, SocketAddr) {
    let middle = free_addr();
    let inbound = Running::start(&Config::new().inbound(middle, server));
    let (outbound, listen) = outbound(middle);
    (inbound, outbound, listen)
}

/// Every framing and edge id: what the server gets and the caller gets back differs from what was sent in
/// nothing but the id (and its checksum).
fn check_bytes(listen: SocketAddr, received: &Mutex<Vec<raddle_testkit::Frame>>) {
    for variant in Variant::ALL {
        let mut c = BoltClient::connect(listen);
        for id in [0, 1, 7, 0x8000_0000, u32::MAX] {
            for len in [0, 1, 100, 70_000] {
                let content = noise(u64::from(id) + len as u64, len);
                let ask =
                    Ask::to(SERVICE).variant(variant).id(id).header("traceparent", "x").content(content);
                let reply = c.call(&ask);
                assert_eq!(reply.head.status, 0);
                assert!(reply.crc_is_right(), "{variant:?} {id} {len}");
                assert_eq!(reply.content(), ask.content);
                let got = received.lock().unwrap().pop().unwrap();
                assert!(got.crc_is_right());
                let mut sent = got.clone();
                sent.bytes = ask.bytes();
                assert_eq!(got.without_id(), sent.without_id(), "{variant:?} {id} {len}");
                // The reply, too: the server's bytes with the caller's id.
                let mut expected = Vec::new();
                let class = bolt::CLASS_RESPONSE;
                bolt::encode::response(&mut expected, variant, id, ask.codec, 0, class, &[], &ask.content);
                assert_eq!(reply.bytes, expected);
            }
        }
    }
}

fn recording_server() -> (BoltServer, Arc<Mutex<Vec<raddle_testkit::Frame>>>) {
    let received = Arc::new(Mutex::new(Vec::new()));
    let r = received.clone();
    let server = BoltServer::start(move |c| {
        r.lock().unwrap().push(c.frame.clone());
        c.echo();
    });
    (server, received)
}

#[test]
fn every_framing_passes_an_outbound_sidecar_byte_for_byte_but_for_the_id() {
    let (server, received) = recording_server();
    let (_sidecar, listen) = outbound(server.addr);
    check_bytes(listen, &received);
}

#[test]
fn every_framing_passes_two_sidecars_byte_for_byte_but_for_the_id() {
    let (server, received) = recording_server();
    let (_in, _out, listen) = two_hops(server.addr);
    check_bytes(listen, &received);
}

#[test]
fn a_frame_cut_anywhere_arrives_whole() {
    let server = BoltServer::echo();
    let (_sidecar, listen) = outbound(server.addr);
    let mut c = BoltClient::connect(listen);
    let bytes = Ask::to(SERVICE).variant(Variant::V2Crc).id(5).bytes();
    for cut in 1..bytes.len() {
        c.send(&bytes[..cut]);
        c.send(&bytes[cut..]);
        assert_eq!(c.frame().head.id, 5, "cut at {cut}");
    }
}

#[test]
fn replies_out_of_order_go_to_the_request_they_answer() {
    // The server answers in batches, backwards.
    let held = Arc::new(Mutex::new(Vec::new()));
    let h = held.clone();
    let server = BoltServer::start(move |c| {
        let mut held = h.lock().unwrap();
        held.push(c);
        if held.len() == 100 {
            for c in held.drain(..).rev() {
                c.echo();
            }
        }
    });
    let (_sidecar, listen) = outbound(server.addr);
    let mut c = BoltClient::connect(listen);
    for id in 0..1000u32 {
        c.ask(&Ask::to(SERVICE).id(id).content(id.to_be_bytes()));
    }
    let mut seen = HashSet::new();
    for _ in 0..1000 {
        let f = c.frame();
        assert_eq!(f.content(), f.head.id.to_be_bytes());
        assert!(seen.insert(f.head.id));
    }
}

#[test]
fn callers_that_use_the_same_ids_get_their_own_replies() {
    let server = BoltServer::echo();
    let (_in, _out, listen) = two_hops(server.addr);
    // Load checks content: every connection counts its ids from 1.
    let load = Load::on(listen, SERVICE, 16, 32);
    load.goes_on(4_000);
    load.stop().expect_all_ok();
}

#[test]
fn the_same_id_twice_at_once_on_one_connection_gets_two_replies() {
    let server = BoltServer::echo();
    let (_sidecar, listen) = outbound(server.addr);
    let mut c = BoltClient::connect(listen);
    c.ask(&Ask::to(SERVICE).id(9).content("a"));
    c.ask(&Ask::to(SERVICE).id(9).content("b"));
    let mut got = [c.frame().content().to_vec(), c.frame().content().to_vec()];
    got.sort();
    assert_eq!(got, [b"a".to_vec(), b"b".to_vec()]);
}

#[test]
fn many_callers_share_few_connections() {
    let server = BoltServer::echo();
    let (_sidecar, listen) = outbound(server.addr);
    let load = Load::on(listen, SERVICE, 40, 8);
    load.goes_on(3_000);
    // One to an endpoint for each of two workers; more only when a queue builds, four at most.
    assert!(server.open() <= 8, "{} connections for 40 callers", server.open());
    load.stop().expect_all_ok();
    let usual = 2;
    assert!(server.accepted() >= usual, "both workers serve: {}", server.accepted());
}

#[test]
fn a_heartbeat_is_answered_by_the_sidecar_in_its_framing_and_id() {
    let server = BoltServer::echo();
    let (_sidecar, listen) = outbound(server.addr);
    for variant in Variant::ALL {
        let mut c = BoltClient::connect(listen);
        for id in [0, 5, u32::MAX] {
            let mut beat = Vec::new();
            bolt::encode::heartbeat(&mut beat, variant, id, bolt::CODEC_HESSIAN, 1000, &[]);
            c.send(&beat);
            let ack = c.frame();
            assert_eq!((ack.head.command, ack.head.kind), (Command::Heartbeat, Kind::Response));
            assert_eq!((ack.head.variant, ack.head.id, ack.head.status), (variant, id, 0));
            assert!(ack.crc_is_right());
        }
    }
    assert_eq!(server.requests(), 0);
}

#[test]
fn a_one_way_request_is_delivered_and_gets_no_reply() {
    let (server, received) = recording_one_ways(false);
    let (_in, _out, listen) = two_hops(server.addr);
    let mut c = BoltClient::connect(listen);
    for variant in Variant::ALL {
        c.ask(&Ask::to(SERVICE).variant(variant).id(3).one_way().content("w"));
    }
    until(PATIENCE, "all arrive", || received.lock().unwrap().len() == 4);
    assert!(received.lock().unwrap().iter().all(|f| f.head.kind == Kind::OneWay && f.content() == b"w"));
    // What comes next is the reply to the next request and nothing else.
    assert_eq!(c.call(&Ask::to(SERVICE).id(4)).head.id, 4);
}

#[test]
fn a_wrong_reply_to_a_one_way_request_is_dropped() {
    let (server, received) = recording_one_ways(true);
    let (sidecar, listen) = outbound(server.addr);
    let mut c = BoltClient::connect(listen);
    for n in 0..50 {
        c.ask(&Ask::to(SERVICE).id(n).one_way());
        assert_eq!(c.call(&Ask::to(SERVICE).id(1000 + n)).head.id, 1000 + n);
    }
    until(PATIENCE, "all arrive", || received.lock().unwrap().len() == 50);
    sidecar.admin.until_metric("raddle_unexpected_replies_total", &[], |n| n >= 50);
}

fn recording_one_ways(answer: bool) -> (BoltServer, Arc<Mutex<Vec<raddle_testkit::Frame>>>) {
    let received = Arc::new(Mutex::new(Vec::new()));
    let r = received.clone();
    let server = BoltServer::start(move |c| {
        if c.frame.head.kind == Kind::OneWay {
            r.lock().unwrap().push(c.frame.clone());
            if answer {
                c.echo();
            }
        } else {
            c.echo();
        }
    });
    (server, received)
}

#[test]
fn a_reply_nobody_asked_for_is_dropped_and_harms_nothing() {
    let server = BoltServer::start(|c| {
        for id in [c.frame.head.id.wrapping_add(1), c.frame.head.id ^ 0x8000_0000, u32::MAX, 0x000F_FFFF] {
            let mut stray = c.reply_bytes(0, &[], b"stray");
            let head = head_of(&stray);
            bolt::patch_id(&mut stray, &head, id);
            c.peer.write(&stray);
        }
        c.echo();
        // And once more, a duplicate.
        c.echo();
    });
    let (_sidecar, listen) = outbound(server.addr);
    let mut c = BoltClient::connect(listen);
    for id in 0..100 {
        let f = c.call(&Ask::to(SERVICE).id(id));
        assert_eq!(f.content(), b"hello");
    }
}

fn head_of(bytes: &[u8]) -> Head {
    match Head::parse(bytes, &bolt::Limits::default()) {
        Ok(bolt::Parsed::Head(h)) => h,
        other => panic!("{other:?}"),
    }
}

#[test]
fn late_replies_are_dropped_and_never_given_to_another_request() {
    // Requests say 1 to 20 ms, and the sidecar waits 50 more; the server answers some in time and most not.
    let held = Arc::new(Mutex::new(Vec::new()));
    let h = held.clone();
    let server = BoltServer::start(move |c| h.lock().unwrap().push((std::time::Instant::now(), c)));
    let (sidecar, listen) = outbound(server.addr);
    let (stop, h) = (Arc::new(std::sync::atomic::AtomicBool::new(false)), held.clone());
    let s = stop.clone();
    let answering = std::thread::spawn(move || {
        let mut n = 0u64;
        while !s.load(Ordering::Acquire) {
            let due: Vec<_> = {
                let mut h = h.lock().unwrap();
                let split = h.iter().position(|(t, _)| t.elapsed().as_millis() < 64).unwrap_or(h.len());
                h.drain(..split).collect()
            };
            for (_, c) in due {
                n += 1;
                // Every seventh is never answered at all.
                if !n.is_multiple_of(7) {
                    c.echo();
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    });
    let callers: Vec<_> = (0..6u32)
        .map(|k| {
            std::thread::spawn(move || {
                let mut c = BoltClient::connect(listen);
                let (mut ok, mut late) = (0, 0);
                for round in 0..20u32 {
                    for i in 0..20u32 {
                        let id = round * 20 + i;
                        let ask = Ask::to(SERVICE).id(id).timeout(1 + (i % 30) as i32);
                        c.ask(&ask.content(format!("{k}/{id}")));
                    }
                    let mut seen = HashSet::new();
                    for _ in 0..20 {
                        let f = c.frame();
                        assert!(seen.insert(f.head.id), "answered twice");
                        assert_eq!(f.head.id / 20, round, "a reply of an earlier round");
                        match f.head.status {
                            0 => {
                                assert_eq!(f.content(), format!("{k}/{}", f.head.id).as_bytes());
                                ok += 1;
                            }
                            7 => late += 1,
                            other => panic!("status {other}"),
                        }
                    }
                }
                (ok, late)
            })
        })
        .collect();
    let (mut ok, mut late) = (0, 0);
    for c in callers {
        let (o, l) = c.join().unwrap();
        ok += o;
        late += l;
    }
    stop.store(true, Ordering::Release);
    answering.join().unwrap();
    assert_eq!(ok + late, 6 * 400);
    assert!(late > 400, "the test must be late often: {late} late, {ok} in time");
    sidecar.admin.until_metric("raddle_late_replies_total", &[], |n| n > 100);
}
