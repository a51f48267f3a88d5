//! Frames up to the cap pass through, both ways, and their neighbours do not wait for them.
use raddle_testkit::frame::noise;
use raddle_testkit::{Ask, BoltClient, BoltServer, Config, Load, Running, Variant, free_addr};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const SERVICE: &str = "com.test.Blob:1.0";
/// The most a request's content can be under a cap of 64 MiB.
const CAP: usize = 64 << 20;
const STALL: Duration = Duration::from_millis(900);

/// Echo, but `give N` is answered with N bytes.
fn server() -> BoltServer {
    let blob = Arc::new(noise(3, CAP));
    BoltServer::start(move |c| match give(c.frame.content()) {
        Some(n) => {
            c.reply(0, &blob[..n]);
        }
        None => {
            c.echo();
        }
    })
}

fn give(content: &[u8]) -> Option<usize> {
    std::str::from_utf8(content.get(..content.len().min(20))?).ok()?.strip_prefix("give ")?.parse().ok()
}

fn two_hops(server: SocketAddr) -> (Running, Running, SocketAddr) {
    let (middle, listen) = (free_addr(), free_addr());
    let inbound = Running::start(&Config::new().inbound(middle, server));
    let outbound = Running::start(&Config::new().outbound(listen).service(SERVICE, &[middle]));
    (inbound, outbound, listen)
}

/// So much content makes a frame of exactly `CAP` bytes.
fn fill(ask: Ask) -> Ask {
    let room = CAP - ask.clone().content("").bytes().len();
    ask.content(noise(4, room))
}

fn cap_frames_pass(variant: Variant) {
    let server = server();
    let (_in, _out, listen) = two_hops(server.addr);
    let load = Load::on(listen, SERVICE, 3, 4);
    load.goes_on(100);
    let mut c = BoltClient::connect(listen);
    let ask = fill(Ask::to(SERVICE).variant(variant).id(u32::MAX).timeout(30_000));
    assert_eq!(ask.bytes().len(), CAP);
    // The echo of a request that is exactly at the cap is two bytes shorter, and carries a shorter class.
    let f = c.call(&ask);
    assert_eq!((f.head.status, f.flag()), (0, None));
    assert!(f.crc_is_right() && f.content() == ask.content, "{variant:?}");
    // And a large reply to a small request, then a small one on the same connection.
    let f = c.call(&Ask::to(SERVICE).variant(variant).id(0).content("give 60000000").timeout(30_000));
    assert!(f.crc_is_right() && f.content() == &noise(3, CAP)[..60_000_000]);
    assert_eq!(c.call(&Ask::to(SERVICE).variant(variant).id(9)).content(), b"hello");
    let report = load.stop();
    report.expect_all_ok();
    assert!(report.slowest < STALL, "{:?}", report.slowest);
}

#[test]
fn frames_at_the_cap_pass_both_ways_in_bolt_1_while_neighbours_go_on() {
    cap_frames_pass(Variant::V1);
}

#[test]
fn frames_at_the_cap_pass_both_ways_with_a_checksum_while_neighbours_go_on() {
    cap_frames_pass(Variant::V2Crc);
}

#[test]
fn a_frame_over_the_cap_ends_its_connection_and_no_other() {
    let server = server();
    let (_in, out, listen) = two_hops(server.addr);
    let mut neighbour = BoltClient::connect(listen);
    for variant in Variant::ALL {
        assert_eq!(neighbour.call(&Ask::to(SERVICE)).head.status, 0);
        let mut c = BoltClient::connect(listen);
        let mut ask = fill(Ask::to(SERVICE).variant(variant));
        ask.content.push(0);
        // Its head is enough to refuse it.
        c.send(&ask.bytes()[..200]);
        c.expect_end();
        assert_eq!(neighbour.call(&Ask::to(SERVICE)).head.status, 0);
    }
    assert_eq!(out.admin.metric("raddle_malformed_frames_total", &["caller", "too_large"]), 4);
    assert_eq!(server.requests(), 8);
}

#[test]
fn a_reply_over_the_cap_is_answered_upe_and_ends_the_connection_to_its_endpoint() {
    let server = BoltServer::start(|c| {
        if c.frame.content() == b"too much" {
            let reply = c.reply_bytes(0, &[], &vec![0; 2 << 20]);
            c.peer.write(&reply);
        } else {
            c.echo();
        }
    });
    let listen = free_addr();
    let config =
        Config::new().outbound(listen).service(SERVICE, &[server.addr]).sidecar("limits: {maxFrame: 1MiB}");
    let _sidecar = Running::start(&config);
    let mut c = BoltClient::connect(listen);
    for id in 0..5 {
        let f = c.call(&Ask::to(SERVICE).id(id).content("too much"));
        assert_eq!((f.head.status, f.flag().as_deref()), (9, Some("UPE")));
        assert_eq!(c.call(&Ask::to(SERVICE).id(100 + id)).head.status, 0);
    }
}

#[test]
fn sizes_around_every_inner_bound_pass_both_ways_in_every_framing() {
    let server = server();
    let (_in, _out, listen) = two_hops(server.addr);
    let near = |n: usize| (n - 3..=n + 3).collect::<Vec<_>>();
    for variant in Variant::ALL {
        let mut c = BoltClient::connect(listen);
        let head = Ask::to(SERVICE).variant(variant).content("").bytes().len();
        let mut sizes = near(4096);
        sizes.extend(near((64 << 10) - head));
        sizes.extend([near(64 << 10), near(128 << 10), near(256 << 10), vec![1 << 20]].concat());
        for n in sizes {
            let ask = Ask::to(SERVICE).variant(variant).id(n as u32).content(noise(n as u64, n));
            let f = c.call(&ask);
            assert!(f.crc_is_right() && f.content() == ask.content, "{variant:?}, {n} bytes");
        }
    }
}

#[test]
fn large_and_small_requests_pipelined_on_one_connection_are_all_answered() {
    let server = server();
    let (_in, _out, listen) = two_hops(server.addr);
    let make = |c: usize, n: u32| {
        let len = if n.is_multiple_of(5) { 300_000 } else { 50 };
        let variant = Variant::ALL[c % 4];
        Ask::to(SERVICE).variant(variant).content(noise((c as u64) << 32 | u64::from(n), len)).timeout(20_000)
    };
    // Few enough bytes a batch that a caller that writes before it reads cannot lock itself up.
    let load = Load::with(listen, 4, 10, Arc::new(make));
    load.goes_on(800);
    load.stop().expect_all_ok();
}

#[test]
fn large_replies_to_one_caller_from_several_endpoints_do_not_mix() {
    let servers: Vec<_> = (0..3).map(|_| server()).collect();
    let addrs: Vec<_> = servers.iter().map(|s| s.addr).collect();
    let listen = free_addr();
    let config = Config::new().outbound(listen).service(SERVICE, &addrs).policy("p", "balancer: roundRobin");
    let _sidecar = Running::start(&config);
    let mut c = BoltClient::connect(listen);
    let blob = noise(3, 2_000_000);
    for round in 0..5 {
        for id in 0..12usize {
            let n = if id.is_multiple_of(3) { 10 } else { 400_000 + id };
            c.ask(&Ask::to(SERVICE).id(id as u32).content(format!("give {n}")).timeout(20_000));
        }
        for _ in 0..12 {
            let f = c.frame();
            let id = f.head.id as usize;
            let n = if id.is_multiple_of(3) { 10 } else { 400_000 + id };
            assert!(
                f.head.status == 0 && f.content() == &blob[..n],
                "round {round}, request {id}: {:?}",
                f.flag()
            );
        }
    }
}

#[test]
fn an_endpoint_that_dies_in_the_middle_of_a_large_reply_resets_its_caller_only() {
    let server = BoltServer::start(|c| {
        if c.frame.content() == b"half" {
            let reply = c.reply_bytes(0, &[], &vec![1; 4 << 20]);
            c.peer.write(&reply[..2 << 20]);
            c.peer.end(true);
        } else {
            c.echo();
        }
    });
    let listen = free_addr();
    let _sidecar = Running::start(&Config::new().outbound(listen).service(SERVICE, &[server.addr]));
    let mut neighbour = BoltClient::connect(listen);
    for _ in 0..5 {
        let mut c = BoltClient::connect(listen);
        c.ask(&Ask::to(SERVICE).content("half"));
        // Half a frame cannot be taken back: the connection ends with an error.
        assert!(c.try_next().is_err());
        assert_eq!(neighbour.call(&Ask::to(SERVICE)).head.status, 0);
    }
}

#[test]
fn an_endpoint_that_dies_in_the_middle_of_a_large_request_has_it_answered_uc() {
    let server = BoltServer::echo();
    server.read_nothing(true);
    let listen = free_addr();
    let config = Config::new().outbound(listen).service(SERVICE, &[server.addr]);
    let sidecar = Running::start(&config);
    let mut c = BoltClient::connect(listen);
    let bytes = Ask::to(SERVICE).id(77).content(vec![1; 8 << 20]).timeout(20_000).bytes();
    c.send(&bytes[..200_000]);
    sidecar.admin.until_metric("raddle_requests_in_flight", &[], |n| n == 1);
    for p in server.peers() {
        p.end(true);
    }
    // The rest of the frame is taken and dropped, so that the connection can be used on.
    c.send(&bytes[200_000..]);
    let f = c.frame();
    assert_eq!((f.head.id, f.head.status, f.flag().as_deref()), (77, 0x10, Some("UC")));
    server.read_nothing(false);
    assert_eq!(c.call(&Ask::to(SERVICE).id(78)).head.status, 0);
}
