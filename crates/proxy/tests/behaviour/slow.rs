//! Callers that do not read and servers that do not read: bounded, told, and nobody else's trouble.
use raddle_testkit::frame::noise;
use raddle_testkit::{Ask, BoltClient, BoltServer, Config, Load, PATIENCE, Running, free_addr, until};
use std::net::SocketAddr;
use std::time::Duration;

const BIG: &str = "com.test.Report:1.0";
const SMALL: &str = "com.test.Ping:1.0";

/// Answers with `len` bytes.
fn giving(len: usize) -> BoltServer {
    let content = noise(1, len);
    BoltServer::start(move |c| {
        if c.frame.content() == b"big" {
            c.reply(0, &content);
        } else {
            c.echo();
        }
    })
}

fn started(config: impl FnOnce(Config) -> Config) -> (Running, SocketAddr) {
    let listen = free_addr();
    (Running::start(&config(Config::new().outbound(listen))), listen)
}

/// Neighbours' worst latency is measured while machines are busy: a stall, not a busy turn, must show.
const STALL: Duration = Duration::from_millis(700);

fn a_caller_that_does_not_read(reply: usize, requests: u32) {
    let server = giving(reply);
    let (sidecar, listen) =
        started(|c| c.service(BIG, &[server.addr]).sidecar("limits: {bufferHard: 2MiB, bufferSoft: 128KiB}"));
    // Neighbours call the same service: they share its connections.
    let load = Load::on(listen, BIG, 4, 8);
    load.goes_on(200);
    let mut slow = BoltClient::connect(listen).patience(Duration::from_secs(2));
    let mut all = Vec::new();
    for id in 0..requests {
        all.extend(Ask::to(BIG).id(id).content("big").timeout(30_000).bytes());
    }
    // It may be reset while it sends.
    let sent = std::io::Write::write_all(&mut slow.stream, &all);
    let admin = sidecar.admin;
    until(PATIENCE, "it is held back or reset", || {
        admin.metric("raddle_held_back_total", &[]) + admin.metric("raddle_slow_callers_closed_total", &[])
            >= 1
            || admin.get("/connections").contains("replies unread")
    });
    load.goes_on(1_000);
    let report = load.stop();
    report.expect_all_ok();
    assert!(report.slowest < STALL, "{:?}", report.slowest);
    drop(sent);
}

#[test]
fn a_caller_that_does_not_read_small_replies_harms_no_neighbour() {
    a_caller_that_does_not_read(10_000, 3_000);
}

#[test]
fn a_caller_that_does_not_read_large_replies_harms_no_neighbour() {
    a_caller_that_does_not_read(1 << 20, 60);
}

#[test]
fn a_caller_that_never_reads_on_is_reset_after_the_idle_time_and_its_connections_end() {
    let server = giving(30 << 20);
    let (sidecar, listen) = started(|c| c.service(BIG, &[server.addr]).sidecar("limits: {idleTimeout: 1s}"));
    let mut slow = BoltClient::connect(listen);
    slow.ask(&Ask::to(BIG).content("big").timeout(60_000));
    sidecar.admin.until_metric("raddle_slow_callers_closed_total", &[], |n| n == 1);
    until(PATIENCE, "nothing is left of it", || {
        !sidecar.admin.get("/connections").contains("receiver full")
            && sidecar.admin.metric("raddle_connections_active", &["caller"]) == 0
    });
    assert_eq!(BoltClient::connect(listen).call(&Ask::to(BIG)).head.status, 0);
}

#[test]
fn a_caller_that_reads_slowly_but_reads_gets_every_reply() {
    let server = giving(100_000);
    let (sidecar, listen) = started(|c| c.service(BIG, &[server.addr]));
    let mut c = BoltClient::connect(listen);
    // 60 MB of replies, never more than a few requests' worth of room: its requests are held back.
    let mut writer = c.stream.clone();
    let asking = std::thread::spawn(move || {
        for id in 0..600 {
            let ask = Ask::to(BIG).id(id).content("big").timeout(60_000);
            std::io::Write::write_all(&mut writer, &ask.bytes()).unwrap();
        }
    });
    let want = noise(1, 100_000);
    for n in 0..600 {
        let f = c.frame();
        assert!(f.head.status == 0 && f.content() == want, "reply {n}: {} {:?}", f.head.status, f.flag());
        if n % 50 == 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    asking.join().unwrap();
    assert_eq!(sidecar.admin.metric("raddle_slow_callers_closed_total", &[]), 0);
}

#[test]
fn a_server_that_does_not_read_gets_a_bounded_queue_and_other_services_go_on() {
    let fine = BoltServer::echo();
    // Long requests, short replies: the caller's own bound is not the subject.
    let stuck = BoltServer::start(|c| {
        c.reply(0, b"done");
    });
    stuck.read_nothing(true);
    let (sidecar, listen) = started(|c| {
        c.workers(1)
            .service("stuck", &[stuck.addr])
            .service(SMALL, &[fine.addr])
            .policy("p", "timeouts: {deadPeer: 60s}")
            .sidecar("limits: {bufferHard: 2MiB}")
    });
    let mut c = BoltClient::connect(listen);
    c.ask(&Ask::to("stuck").id(0).timeout(60_000));
    // The same caller's other calls are answered while the stuck queue builds, and the queue has an end.
    let (mut over, mut pings) = (0, 0);
    for round in 1..3_000u32 {
        c.ask(&Ask::to("stuck").id(round).timeout(60_000).content(noise(7, 30_000)));
        if round % 10 == 0 {
            c.ask(&Ask::to(SMALL).id(1_000_000 + round));
            loop {
                let f = c.frame();
                if f.head.id >= 1_000_000 {
                    assert_eq!(f.head.status, 0);
                    pings += 1;
                    break;
                }
                assert_eq!((f.head.status, f.flag().as_deref()), (4, Some("UO")));
                over += 1;
            }
        }
        if over > 100 {
            break;
        }
    }
    assert!(over > 100 && pings > 10, "{over} refused, {pings} pings");
    sidecar.admin.until_metric("raddle_requests_total", &["UO"], |n| n > 100);
    let list = sidecar.admin.json("/connections");
    let unsent: u64 = list.as_array().unwrap().iter().filter_map(|c| c["unsent_bytes"].as_u64()).sum();
    assert!(unsent < 9 << 20, "{unsent} bytes wait for at most four connections of 2 MiB");
    // It reads again: everything that was taken is answered.
    let taken = sidecar.admin.metric("raddle_requests_in_flight", &[]) as usize;
    stuck.read_nothing(false);
    let mut answered = 0;
    while answered < taken {
        answered += usize::from(c.frame().head.status == 0);
    }
    assert_eq!(c.call(&Ask::to("stuck").id(2_000_000)).head.status, 0);
}

#[test]
fn a_server_that_does_not_read_lets_callers_of_it_time_out_in_their_time() {
    let stuck = BoltServer::echo();
    stuck.read_nothing(true);
    let (_sidecar, listen) = started(|c| c.service("stuck", &[stuck.addr]));
    let mut c = BoltClient::connect(listen);
    for id in 0..50 {
        c.ask(&Ask::to("stuck").id(id).timeout(150));
    }
    for _ in 0..50 {
        assert_eq!(c.frame().flag().as_deref(), Some("UT"));
    }
}

#[test]
fn a_caller_that_leaves_with_requests_in_flight_harms_nobody() {
    let held = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let h = held.clone();
    let server = BoltServer::start(move |c| h.lock().unwrap().push(c));
    let (sidecar, listen) = started(|c| c.workers(1).service(BIG, &[server.addr]));
    let mut stays = BoltClient::connect(listen);
    for round in 0..20u32 {
        let mut leaves = BoltClient::connect(listen);
        leaves.ask(&Ask::to(BIG).id(round).content("leaves"));
        stays.ask(&Ask::to(BIG).id(round).content("stays"));
        until(PATIENCE, "both arrive", || held.lock().unwrap().len() == 2);
        drop(leaves);
        held.lock().unwrap().drain(..).for_each(|c| {
            c.echo();
        });
        assert_eq!(stays.frame().content(), b"stays");
    }
    sidecar.admin.until_metric("raddle_requests_in_flight", &[], |n| n == 0);
    assert_eq!(server.accepted(), 1);
}
