//! What the sidecar promises as a process: memory, descriptors, CPU time, full disks, signals.
//!
//! The sidecars here are child processes. Each bound on memory is far above what is seen and far below what
//! a leak or an unbounded queue would take.
use raddle_testkit::frame::noise;
use raddle_testkit::{
    Admin, Ask, BoltClient, BoltServer, Child, Config, Load, PATIENCE, Running, Variant, child, free_addr,
    until,
};
use rustix::process::Signal;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SERVICE: &str = "com.test.Process:1.0";
const MIB: u64 = 1 << 20;

/// Not a test: the child processes of the others.
#[test]
fn sidecar_process() {
    child::entry();
}

fn config(listen: SocketAddr, server: SocketAddr) -> Config {
    Config::new().outbound(listen).service(SERVICE, &[server])
}

// ---- memory ----

#[test]
fn frames_at_the_cap_both_ways_take_little_memory() {
    let server = BoltServer::echo();
    let listen = free_addr();
    let sidecar = Child::start(&config(listen, server.addr));
    let before = sidecar.rss();
    let (ok, peak) = sidecar.peak_rss_during(move || {
        let callers: Vec<_> = [Variant::V1, Variant::V2Crc]
            .map(|v| {
                std::thread::spawn(move || {
                    let mut c = BoltClient::connect(listen);
                    let ask = Ask::to(SERVICE).variant(v).timeout(30_000).content(noise(2, (64 << 20) - 500));
                    let f = c.call(&ask);
                    f.head.status == 0 && f.content() == ask.content
                })
            })
            .into_iter()
            .collect();
        callers.into_iter().all(|c| c.join().unwrap())
    });
    assert!(ok);
    assert!(peak - before < 24 * MIB, "{} MiB for two frames of 64 MiB", (peak - before) / MIB);
}

#[test]
fn callers_that_do_not_read_take_bounded_memory() {
    let content = noise(1, 100_000);
    let server = BoltServer::start(move |c| {
        c.reply(0, &content);
    });
    let listen = free_addr();
    let config = config(listen, server.addr).sidecar("limits: {bufferHard: 2MiB, bufferSoft: 128KiB}");
    let sidecar = Child::start(&config);
    let (before, admin) = (sidecar.rss(), sidecar.admin);
    let ((), peak) = sidecar.peak_rss_during(move || {
        let mut slow = Vec::new();
        for _ in 0..20 {
            let mut s = TcpStream::connect(listen).unwrap();
            s.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
            for id in 0..200 {
                // It is held back or reset.
                if s.write_all(&Ask::to(SERVICE).id(id).timeout(20_000).bytes()).is_err() {
                    break;
                }
            }
            slow.push(s);
        }
        let mut c = BoltClient::connect(listen);
        for id in 0..20 {
            let f = c.call(&Ask::to(SERVICE).id(id).timeout(20_000));
            assert_eq!(f.head.status, 0, "{:?} {}", f.flag(), admin.get("/events").replace('\n', " "));
        }
    });
    // 20 callers, 2 MiB each and what vectors grow by; 400 MB of replies were asked for.
    assert!(peak - before < 100 * MIB, "{} MiB", (peak - before) / MIB);
}

#[test]
fn a_server_that_does_not_read_takes_bounded_memory() {
    let server = BoltServer::echo();
    server.read_nothing(true);
    let listen = free_addr();
    let config = config(listen, server.addr)
        .sidecar("limits: {bufferHard: 4MiB}")
        .policy("p", "timeouts: {deadPeer: 60s}");
    let sidecar = Child::start(&config);
    let before = sidecar.rss();
    let ((), peak) = sidecar.peak_rss_during(move || {
        let mut c = BoltClient::connect(listen);
        let (mut writer, content) = (c.stream.clone(), noise(2, 50_000));
        let asking = std::thread::spawn(move || {
            // 250 MB.
            for id in 0..5_000 {
                let bytes = Ask::to(SERVICE).id(id).timeout(60_000).content(content.clone()).bytes();
                writer.write_all(&bytes).unwrap();
            }
        });
        let mut over = 0;
        while over < 3_000 {
            over += u32::from(c.frame().flag().as_deref() == Some("UO"));
        }
        asking.join().unwrap();
    });
    // Two workers, four connections each, 4 MiB each.
    assert!(peak - before < 70 * MIB, "{} MiB", (peak - before) / MIB);
}

#[test]
fn after_a_storm_of_malformed_frames_and_ten_thousand_connections_memory_is_back() {
    let server = BoltServer::echo();
    let listen = free_addr();
    let sidecar = Child::start(&config(listen, server.addr));
    let mut c = BoltClient::connect(listen);
    let storm = |rounds: usize| {
        for round in 0..rounds {
            let mut live: Vec<TcpStream> = (0..500).map(|_| TcpStream::connect(listen).unwrap()).collect();
            for (n, s) in live.iter_mut().enumerate() {
                let seed = (round * 500 + n) as u64;
                let good = Ask::to(SERVICE).content(noise(seed, 500)).bytes();
                let cut = 1 + seed as usize % good.len();
                let _ = s.write_all(&[&good[..], &good[..cut], &noise(seed, 300)].concat());
            }
        }
        until(PATIENCE, "attackers are gone", || {
            sidecar.admin.metric("raddle_connections_active", &["caller"]) < 3
        });
    };
    // What the first ones leave (pools, tables) may stay.
    storm(4);
    assert_eq!(c.call(&Ask::to(SERVICE)).head.status, 0);
    let before = sidecar.rss();
    storm(16);
    assert_eq!(c.call(&Ask::to(SERVICE)).head.status, 0);
    // Memory is given back every few seconds.
    until(PATIENCE, "memory is given back", || sidecar.rss() < before + 4 * MIB);
}

// ---- descriptors ----

#[test]
fn without_descriptors_connections_are_turned_away_orderly_and_accepting_resumes() {
    let server = BoltServer::echo();
    let listen = free_addr();
    let sidecar = Child::start_limited(&config(listen, server.addr), Some(64));
    let mut first = BoltClient::connect(listen);
    assert_eq!(first.call(&Ask::to(SERVICE)).head.status, 0);
    let mut more: Vec<BoltClient> = Vec::new();
    let mut turned_away = 0;
    for id in 0..120 {
        let mut c = BoltClient::connect(listen);
        // A connection that is turned away ends at once; it does not hang in a queue.
        if c.stream.write_all(&Ask::to("unknown").id(id).bytes()).is_ok()
            && matches!(c.try_next(), Ok(Some(_)))
        {
            more.push(c);
        } else {
            turned_away += 1;
        }
    }
    assert!(turned_away >= 60 && more.len() >= 15, "{turned_away} turned away, {} in", more.len());
    assert_eq!(first.call(&Ask::to(SERVICE).id(2)).head.status, 0, "those that are in are served");
    for c in &mut more {
        assert_eq!(c.call(&Ask::to("unknown").id(3)).flag().as_deref(), Some("NC"));
    }
    // It does not spin meanwhile, though callers keep knocking.
    let (cpu, began) = (sidecar.cpu(), Instant::now());
    let mut knocking = Vec::new();
    while began.elapsed() < Duration::from_millis(500) {
        knocking.push(TcpStream::connect(listen).unwrap());
        std::thread::sleep(Duration::from_millis(25));
    }
    let used = sidecar.cpu().checked_sub(cpu).unwrap();
    assert!(used < Duration::from_millis(150), "{used:?} of CPU in half a second");
    drop((more, knocking));
    until(PATIENCE, "new ones are served", || {
        let Ok(mut c) = BoltClient::try_connect(listen) else { return false };
        c.stream.write_all(&Ask::to(SERVICE).bytes()).is_ok()
            && matches!(c.try_next(), Ok(Some(f)) if f.head.status == 0)
    });
    assert!(sidecar.admin.metric("raddle_accept_errors_total", &["emfile"]) >= 60);
    assert!(sidecar.admin.has_event("no_descriptors"));
}

#[test]
fn an_idle_sidecar_with_connections_uses_next_to_no_cpu() {
    let server = BoltServer::echo();
    let listen = free_addr();
    let sidecar = Child::start(&config(listen, server.addr));
    let mut all: Vec<_> = (0..100).map(|_| BoltClient::connect(listen)).collect();
    for c in &mut all {
        assert_eq!(c.call(&Ask::to(SERVICE)).head.status, 0);
    }
    // One that has ended its side, and waits for a reply that never comes.
    let cpu = sidecar.cpu();
    let began = Instant::now();
    until(PATIENCE, "a second passes", || began.elapsed() > Duration::from_secs(1));
    let used = sidecar.cpu().checked_sub(cpu).unwrap();
    assert!(used <= Duration::from_millis(50), "{used:?} of CPU in a second");
}

#[test]
fn a_half_closed_relay_uses_no_cpu_while_it_waits() {
    use std::io::Read;
    let release = Arc::new(Mutex::new(()));
    let hold = release.lock().unwrap();
    let r = release.clone();
    // Sends much and ends while the caller, who has ended its side too, does not read.
    let server = raddle_testkit::TcpServer::start(move |mut s| {
        let _ = s.read_to_end(&mut Vec::new());
        let _ = s.write_all(&vec![1; 12 << 20]);
        drop(s);
        drop(r.lock());
    });
    let listen = free_addr();
    let sidecar = Child::start(&Config::new().outbound_tcp(listen, "db", true).service("db", &[server.addr]));
    let mut s = TcpStream::connect(listen).unwrap();
    s.set_read_timeout(Some(PATIENCE)).unwrap();
    s.write_all(b"get").unwrap();
    s.shutdown(std::net::Shutdown::Write).unwrap();
    until(PATIENCE, "replies pile up", || sidecar.admin.metric("raddle_held_back_total", &[]) >= 1);
    let (cpu, began) = (sidecar.cpu(), Instant::now());
    until(PATIENCE, "a moment passes", || began.elapsed() > Duration::from_millis(600));
    let used = sidecar.cpu().checked_sub(cpu).unwrap();
    assert!(used <= Duration::from_millis(100), "{used:?} of CPU in 0.6 s");
    drop(hold);
    let mut all = Vec::new();
    s.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), 12 << 20);
}

// ---- logs ----

#[test]
fn a_full_disk_under_the_access_log_costs_no_request_is_counted_and_told_of() {
    let server = BoltServer::echo();
    let listen = free_addr();
    let config = config(listen, server.addr).sidecar("accessLog: {path: /dev/full, sample: 1}");
    let sidecar = Child::start(&config);
    let load = Load::on(listen, SERVICE, 4, 8);
    load.goes_on(2_000);
    sidecar.admin.until_metric("raddle_access_log_write_errors_total", &["enospc"], |n| n >= 1);
    sidecar.admin.until_metric("raddle_access_log_dropped_lines_total", &[], |n| n >= 1);
    load.goes_on(500);
    let report = load.stop();
    report.expect_all_ok();
    let events = sidecar.admin.get("/events");
    assert!(events.contains("access_log") || events.contains("log"), "{events}");
}

#[test]
fn an_access_log_has_a_line_for_each_failure_and_for_sampled_successes() {
    let server = BoltServer::echo();
    let listen = free_addr();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let line = format!("accessLog: {{path: \"{}\", format: json, sample: 1}}", path.display());
    let sidecar = Child::start(&config(listen, server.addr).sidecar(&line));
    let mut c = BoltClient::connect(listen);
    for id in 0..50 {
        c.call(&Ask::to(SERVICE).id(id).method("query"));
        c.call(&Ask::to("unknown").id(1000 + id));
    }
    until(PATIENCE, "the lines are there", || {
        std::fs::read_to_string(&path).is_ok_and(|t| t.lines().count() >= 100)
    });
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 100);
    assert_eq!(text.lines().filter(|l| l.contains("\"NC\"")).count(), 50);
    assert_eq!(text.lines().filter(|l| l.contains("query")).count(), 50);
    drop(sidecar);
}

// ---- signals ----

/// Two instances of a callee behind inbound sidecars of their own, and an outbound sidecar in front.
fn behind_two(drain: &str) -> (BoltServer, Child, Child, Running, SocketAddr) {
    let server = BoltServer::echo();
    let instance = |listen| {
        Child::start(
            &Config::new().inbound(listen, server.addr).sidecar(&format!("drain: {{timeout: {drain}}}")),
        )
    };
    let (a, b, listen) = (free_addr(), free_addr(), free_addr());
    let (first, second) = (instance(a), instance(b));
    let front = Running::start(&Config::new().outbound(listen).service(SERVICE, &[a, b]));
    (server, first, second, front, listen)
}

#[test]
fn draining_one_of_two_instances_under_load_loses_nothing_and_exits_zero() {
    let (_server, mut first, second, front, listen) = behind_two("10s");
    let load = Load::on(listen, SERVICE, 6, 8);
    load.goes_on(1_000);
    first.signal(Signal::TERM);
    until(PATIENCE, "it says so", || {
        first.exited().is_some() || first.admin.try_get("/ready").is_some_and(|(s, _)| s == 503)
    });
    let status = first.wait(Duration::from_secs(8));
    assert_eq!(status.code(), Some(0));
    load.goes_on(1_000);
    load.stop().expect_all_ok();
    assert!(front.admin.metric("raddle_goaways_total", &["received"]) >= 1);
    drop(second);
}

#[test]
fn a_request_in_flight_at_sigterm_is_answered_before_the_process_ends() {
    let held = Arc::new(Mutex::new(Vec::new()));
    let h = held.clone();
    let server = BoltServer::start(move |c| h.lock().unwrap().push(c));
    let listen = free_addr();
    let mut sidecar = Child::start(&config(listen, server.addr));
    let mut c = BoltClient::connect(listen);
    c.ask(&Ask::to(SERVICE).id(5).timeout(20_000));
    until(PATIENCE, "it arrives", || held.lock().unwrap().len() == 1);
    sidecar.signal(Signal::TERM);
    until(PATIENCE, "it accepts no more", || TcpStream::connect(listen).is_err());
    let began = Instant::now();
    until(PATIENCE, "longer than a quiet caller is given", || began.elapsed() > Duration::from_millis(900));
    assert!(sidecar.exited().is_none());
    held.lock().unwrap().pop().unwrap().echo();
    assert_eq!((c.frame().head.id, 5), (5, 5));
    assert_eq!(sidecar.wait(Duration::from_secs(5)).code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_now_and_answers_what_is_in_flight() {
    let server = BoltServer::start(|_| {});
    let listen = free_addr();
    let mut sidecar = Child::start(&config(listen, server.addr));
    let mut c = BoltClient::connect(listen);
    c.ask(&Ask::to(SERVICE).id(5).timeout(60_000));
    until(PATIENCE, "it arrives", || server.requests() == 1);
    sidecar.signal(Signal::TERM);
    until(PATIENCE, "it accepts no more", || TcpStream::connect(listen).is_err());
    sidecar.signal(Signal::TERM);
    let f = c.frame();
    assert_eq!((f.head.status, f.flag().as_deref()), (0x10, Some("DR")));
    assert_eq!(sidecar.wait(Duration::from_secs(1)).code(), Some(0));
}

#[test]
fn when_drain_time_is_over_what_is_in_flight_is_answered_and_the_process_ends() {
    let server = BoltServer::start(|_| {});
    let listen = free_addr();
    let mut sidecar = Child::start(&config(listen, server.addr).sidecar("drain: {timeout: 700ms}"));
    let mut c = BoltClient::connect(listen);
    c.ask(&Ask::to(SERVICE).id(5).timeout(60_000));
    until(PATIENCE, "it arrives", || server.requests() == 1);
    sidecar.signal(Signal::TERM);
    assert_eq!(c.frame().flag().as_deref(), Some("DR"));
    assert_eq!(sidecar.wait(Duration::from_secs(2)).code(), Some(0));
}

#[test]
fn a_peer_that_is_stopped_is_given_up_in_dead_peer_time_and_used_again_when_it_goes_on() {
    let server = BoltServer::echo();
    let (middle, listen) = (free_addr(), free_addr());
    let peer = Child::start(&Config::new().inbound(middle, server.addr));
    let config = config(listen, middle).policy("p", "timeouts: {deadPeer: 1s}");
    let front = Running::start(&config);
    let mut c = BoltClient::connect(listen);
    assert_eq!(c.call(&Ask::to(SERVICE)).head.status, 0);
    peer.signal(Signal::STOP);
    let began = Instant::now();
    for id in 0..10 {
        c.ask(&Ask::to(SERVICE).id(id).timeout(30_000));
    }
    for _ in 0..10 {
        assert_eq!(c.frame().flag().as_deref(), Some("UC"));
    }
    assert!(began.elapsed() < Duration::from_millis(1_700), "{:?}", began.elapsed());
    peer.signal(Signal::CONT);
    until(Duration::from_secs(3), "it is used again", || c.call(&Ask::to(SERVICE).id(99)).head.status == 0);
    assert!(front.admin.has_event("dead_peer"));
}

#[test]
fn sighup_reads_the_configuration_again() {
    let server = BoltServer::echo();
    let listen = free_addr();
    let start = Config::new().outbound(listen);
    let sidecar = Child::start(&start);
    sidecar.file.write(&start.clone().service(SERVICE, &[server.addr]).yaml());
    sidecar.signal(Signal::HUP);
    let mut c = BoltClient::connect(listen);
    until(PATIENCE, "it is in force", || c.call(&Ask::to(SERVICE)).head.status == 0);
}

#[test]
fn a_sidecar_killed_hard_resets_nothing_but_itself() {
    let (server, mut first, _second, _front, listen) = behind_two("1s");
    let load = Load::on(listen, SERVICE, 4, 4);
    load.goes_on(500);
    first.signal(Signal::KILL);
    first.wait(PATIENCE);
    load.goes_on(1_000);
    let report = load.stop();
    let lost: u64 = report.failed.values().sum();
    assert!(lost <= 16 && report.failed.keys().all(|k| k == "16/UC"), "{report:?}");
    assert!(server.garbage() == 0);
}

#[test]
fn a_taken_port_is_a_clear_error_and_no_start() {
    let listen = free_addr();
    let _holder = std::net::TcpListener::bind(listen).unwrap();
    let file = raddle_testkit::sidecar::ConfigFile::new(&Config::new().outbound(listen));
    let options = raddle_proxy::Options { paths: vec![file.path()], ..Default::default() };
    let error = raddle_proxy::Sidecar::start(options, None).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.contains(&listen.port().to_string()) && error.contains("pid"), "{error}");
    let _ = Admin(listen);
}
