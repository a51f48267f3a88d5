//! The configuration changes under load: nothing is lost, and a bad one changes nothing.
use raddle_testkit::{
    Ask, BoltClient, BoltServer, Config, Load, PATIENCE, Running, TcpServer, free_addr, refused_addr, until,
};
use std::net::SocketAddr;
use std::time::Duration;

const SERVICE: &str = "com.test.Change:1.0";

#[test]
fn a_hundred_reloads_under_load_cost_no_request() {
    let servers: Vec<_> = (0..4).map(|_| BoltServer::echo()).collect();
    let addrs: Vec<SocketAddr> = servers.iter().map(|s| s.addr).collect();
    let (listen, second) = (free_addr(), free_addr());
    let base = || Config::new().outbound(listen);
    let mut config = base().service(SERVICE, &addrs);
    let admin = config.admin;
    let sidecar = Running::start(&config);
    let load = Load::on(listen, SERVICE, 6, 8);
    load.goes_on(300);
    for round in 0..100usize {
        // Weights, endpoints, services, policies and listeners come and go.
        let left = round % 4;
        let ends: Vec<_> = addrs
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != left)
            .map(|(i, a)| (*a, 1 + ((round * 7 + i) % 9) as u32))
            .collect();
        config = base().weighted(SERVICE, &ends);
        config.admin = admin;
        if round % 2 == 0 {
            config =
                config.service(&format!("other-{round}"), &[addrs[left], refused_addr()]).outbound(second);
        }
        if round % 3 == 0 {
            config = config.policy(
                "p",
                ["balancer: roundRobin", "pool: {connections: 2}", "balancer: random"][round / 3 % 3],
            );
        }
        sidecar.apply(&config);
        if round % 10 == 0 {
            let mut c = BoltClient::connect(second);
            let f = c.call(&Ask::to(&format!("other-{round}")));
            assert_eq!(f.head.status, 0, "a service that was added is served: {:?}", f.flag());
            load.goes_on(20);
        }
    }
    load.goes_on(100);
    load.stop().expect_all_ok();
    let stats = sidecar.admin.json("/stats");
    // The file watch may have seen some of them, too.
    assert!(stats["config"]["generation"].as_u64().unwrap() >= 101);
    assert_eq!(stats["config"]["refused"], 0);
}

#[test]
fn requests_in_flight_to_an_endpoint_that_is_removed_are_answered_by_it() {
    let held = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let h = held.clone();
    let old = BoltServer::start(move |c| h.lock().unwrap().push(c));
    let new = BoltServer::echo();
    let listen = free_addr();
    let config = Config::new().outbound(listen);
    let sidecar = Running::start(&config.clone().service(SERVICE, &[old.addr]));
    let mut c = BoltClient::connect(listen);
    for id in 0..20 {
        c.ask(&Ask::to(SERVICE).id(id).timeout(20_000).content("old"));
    }
    until(PATIENCE, "all arrive", || held.lock().unwrap().len() == 20);
    sidecar.apply(&config.clone().service(SERVICE, &[new.addr]));
    assert_eq!(c.call(&Ask::to(SERVICE).id(99).content("new")).content(), b"new");
    // Even its service may go.
    sidecar.apply(&config);
    assert_eq!(c.call(&Ask::to(SERVICE).id(98)).flag().as_deref(), Some("NC"));
    held.lock().unwrap().drain(..).for_each(|c| {
        c.echo();
    });
    for _ in 0..20 {
        assert_eq!(c.frame().content(), b"old");
    }
    until(PATIENCE, "the connections to it end", || old.open() == 0);
}

#[test]
fn a_listener_that_is_removed_accepts_no_more_and_its_connections_live_on() {
    let server = BoltServer::echo();
    let (stays, goes) = (free_addr(), free_addr());
    let config = Config::new().service(SERVICE, &[server.addr]).outbound(stays);
    let sidecar = Running::start(&config.clone().outbound(goes));
    let mut c = BoltClient::connect(goes);
    assert_eq!(c.call(&Ask::to(SERVICE)).head.status, 0);
    sidecar.apply(&config);
    until(PATIENCE, "it accepts no more", || std::net::TcpStream::connect(goes).is_err());
    for id in 0..100 {
        assert_eq!(c.call(&Ask::to(SERVICE).id(id)).head.status, 0);
    }
    // And it may come back.
    sidecar.apply(&config.clone().outbound(goes));
    assert_eq!(BoltClient::connect(goes).call(&Ask::to(SERVICE)).head.status, 0);
}

#[test]
fn a_tcp_relay_lives_on_when_its_listener_and_service_are_removed() {
    use std::io::{Read, Write};
    let server = TcpServer::start(|mut s| {
        let mut b = [0; 16];
        while let Ok(n @ 1..) = s.read(&mut b) {
            if s.write_all(&b[..n]).is_err() {
                return;
            }
        }
    });
    let (listen, other) = (free_addr(), free_addr());
    let config = Config::new().outbound(other);
    let sidecar =
        Running::start(&config.clone().outbound_tcp(listen, "db", true).service("db", &[server.addr]));
    let mut s = std::net::TcpStream::connect(listen).unwrap();
    s.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut back = [0; 4];
    for round in 0..10 {
        s.write_all(b"ping").unwrap();
        s.read_exact(&mut back).unwrap();
        if round == 3 {
            sidecar.apply(&config);
        }
    }
}

#[test]
fn a_bad_configuration_is_refused_whole_told_of_and_changes_nothing() {
    let server = BoltServer::echo();
    let (listen, taken) = (free_addr(), free_addr());
    let _holder = std::net::TcpListener::bind(taken).unwrap();
    let good = Config::new().outbound(listen).service(SERVICE, &[server.addr]);
    let sidecar = Running::start(&good);
    let load = Load::on(listen, SERVICE, 2, 4);
    let bad = [
        ("{{{ no yaml", None),
        ("", None),
        ("unknown field", Some(good.clone().sidecar("colour: red"))),
        ("bad value", Some(good.clone().policy("p", "timeouts: {request: -3s}"))),
        ("twice the same service", Some(good.clone().service(SERVICE, &[]))),
        ("taken port", Some(good.clone().outbound(taken).service("new", &[server.addr]))),
    ];
    for (n, (what, config)) in bad.iter().enumerate() {
        sidecar.file.write(&config.as_ref().map_or_else(|| (*what).to_owned(), Config::yaml));
        sidecar.sidecar().reload();
        let status = &sidecar.admin.json("/stats")["config"];
        assert!(status["refused"].as_u64().unwrap() > n as u64, "{what}: {status}");
        assert_eq!(status["generation"], 1, "{what}");
        assert!(!status["mistakes"].as_array().unwrap().is_empty(), "{what}");
        load.goes_on(20);
    }
    assert!(sidecar.admin.has_event("config_refused"));
    assert_eq!(BoltClient::connect(listen).call(&Ask::to("new")).flag().as_deref(), Some("NC"));
    // The next good one is taken, and the mistakes are history.
    sidecar.apply(&good.clone().service("new", &[server.addr]));
    assert_eq!(sidecar.admin.json("/stats")["config"]["mistakes"].as_array().unwrap().len(), 0);
    assert_eq!(BoltClient::connect(listen).call(&Ask::to("new")).head.status, 0);
    load.stop().expect_all_ok();
}

#[test]
fn a_changed_file_is_noticed_without_being_told() {
    let server = BoltServer::echo();
    let listen = free_addr();
    let config = Config::new().outbound(listen);
    let sidecar = Running::start(&config);
    let mut c = BoltClient::connect(listen);
    assert_eq!(c.call(&Ask::to(SERVICE)).flag().as_deref(), Some("NC"));
    sidecar.file.write(&config.clone().service(SERVICE, &[server.addr]).yaml());
    until(Duration::from_secs(3), "it is in force", || c.call(&Ask::to(SERVICE)).head.status == 0);
}
