//! Large frames pass through, both ways, and their neighbours do not wait for them.
use super::{SERVICE, outbound, started, two_hops};
use raddle_testkit::frame::noise;
use raddle_testkit::{DubboAsk, DubboClient, DubboServer, Status, dubbo_load};
use std::sync::Arc;
use std::time::Duration;

const LARGE: usize = 16 << 20;
const STALL: Duration = Duration::from_millis(900);

/// Echo, but `give N` is answered with N bytes.
fn server() -> DubboServer {
    let blob = Arc::new(noise(3, LARGE));
    DubboServer::start(move |c| {
        let content = c.frame.content().unwrap_or_default();
        let asked = std::str::from_utf8(&content[..content.len().min(20)]).ok();
        match asked.and_then(|t| t.strip_prefix("give ")).and_then(|n| n.parse::<usize>().ok()) {
            Some(n) => c.value(&blob[..n]),
            None => c.echo(),
        };
    })
}

#[test]
fn sixteen_mebibytes_pass_both_ways_while_neighbours_go_on() {
    let server = server();
    let (_in, _out, listen) = two_hops(server.addr);
    let load = dubbo_load(listen, 3, 4, |c, n| DubboAsk::to(SERVICE).content(noise(c as u64 ^ n, 60)));
    load.goes_on(100);
    let mut c = DubboClient::connect(listen);
    let ask = DubboAsk::to(SERVICE).id(u64::MAX).content(noise(4, LARGE));
    let f = c.call(&ask);
    assert!(f.status() == Status::Ok as u8 && f.content() == Some(ask.content));
    let f = c.call(&DubboAsk::to(SERVICE).id(0).content(format!("give {LARGE}")).timeout(30_000));
    assert!(f.content() == Some(noise(3, LARGE)));
    assert_eq!(c.call(&DubboAsk::to(SERVICE).id(9)).content().unwrap(), b"hello");
    let report = load.stop();
    report.expect_all_ok();
    assert!(report.slowest < STALL, "{:?}", report.slowest);
}

#[test]
fn sizes_around_every_inner_bound_pass_both_ways() {
    let server = server();
    let (_in, _out, listen) = two_hops(server.addr);
    let mut c = DubboClient::connect(listen);
    let head = DubboAsk::to(SERVICE).content("").bytes().len();
    let near = |n: usize| (n - 3..=n + 3).collect::<Vec<_>>();
    let sizes = [
        near(4096),
        near((64 << 10) - head),
        near(64 << 10),
        near(128 << 10),
        near(256 << 10),
        vec![1 << 20],
    ];
    for n in sizes.concat() {
        let ask = DubboAsk::to(SERVICE).id(n as u64).content(noise(n as u64, n));
        assert!(c.call(&ask).content() == Some(ask.content), "{n} bytes");
    }
}

#[test]
fn large_and_small_requests_pipelined_on_one_connection_are_all_answered() {
    let server = server();
    let (_in, _out, listen) = two_hops(server.addr);
    let load = dubbo_load(listen, 4, 10, |c, n| {
        let len = if n.is_multiple_of(5) { 300_000 } else { 50 };
        DubboAsk::to(SERVICE).content(noise((c as u64) << 32 | n, len)).timeout(20_000)
    });
    load.goes_on(600);
    load.stop().expect_all_ok();
}

#[test]
fn a_frame_over_the_cap_ends_its_connection_and_no_other() {
    let server = server();
    let (sidecar, listen) =
        started(|c| c.service(SERVICE, &[server.addr]).sidecar("limits: {maxFrame: 1MiB}"));
    let mut neighbour = DubboClient::connect(listen);
    assert_eq!(neighbour.call(&DubboAsk::to(SERVICE)).status(), Status::Ok as u8);
    let mut c = DubboClient::connect(listen);
    // Its head is enough to refuse it.
    c.send(&DubboAsk::to(SERVICE).content(noise(1, 1 << 20)).bytes()[..200]);
    c.expect_end();
    assert_eq!(neighbour.call(&DubboAsk::to(SERVICE)).status(), Status::Ok as u8);
    assert_eq!(sidecar.admin.metric("raddle_malformed_frames_total", &["caller", "too_large"]), 1);
    // A reply over it ends the connection to its endpoint, and is told of.
    let f = neighbour.call(&DubboAsk::to(SERVICE).id(5).content("give 2000000"));
    assert_eq!((f.status(), f.flag().as_deref()), (Status::BadResponse as u8, Some("UPE")));
    assert_eq!(neighbour.call(&DubboAsk::to(SERVICE).id(6)).status(), Status::Ok as u8);
}

#[test]
fn an_endpoint_that_dies_in_the_middle_of_a_large_reply_resets_its_caller_only() {
    let server = DubboServer::start(|c| {
        if c.frame.content().as_deref() == Some(b"half") {
            let reply = c.value_bytes(&vec![1; 4 << 20]);
            c.peer.write(&reply[..2 << 20]);
            c.peer.end(true);
        } else {
            c.echo();
        }
    });
    let (_sidecar, listen) = outbound(server.addr);
    let mut neighbour = DubboClient::connect(listen);
    for _ in 0..5 {
        let mut c = DubboClient::connect(listen);
        c.ask(&DubboAsk::to(SERVICE).content("half"));
        assert!(c.try_next().is_err());
        assert_eq!(neighbour.call(&DubboAsk::to(SERVICE)).status(), Status::Ok as u8);
    }
}
