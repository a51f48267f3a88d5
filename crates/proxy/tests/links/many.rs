//! Many endpoints at once, and second connections to one.
use crate::mesh::{SECRET, ca, identity, take_on};
use raddle_identity::{Clients, PeerRule};
use raddle_testkit::h1::Client;
use raddle_testkit::h1_upstream::{H1Upstream, Reply};
use raddle_testkit::{Ask, BoltServer, Config, Load, PATIENCE, Running, TcpServer, free_addr, until};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

const MANY: usize = 200;

fn service(app: &str, at: &[SocketAddr], tls: bool) -> String {
    let list: Vec<String> = at.iter().map(|a| format!("{{address: \"{a}\", tls: {tls}}}")).collect();
    format!("{{app: {app}, hosts: [shop], endpoints: [{}]}}", list.join(", "))
}

#[test]
fn two_hundred_endpoints_switch_within_seconds_and_nothing_is_lost() {
    let server = BoltServer::echo();
    let ca = ca();
    let mut at = BTreeSet::new();
    while at.len() < MANY {
        at.insert(free_addr());
    }
    let at: Vec<SocketAddr> = at.into_iter().collect();
    let callee = at.iter().fold(Config::new().workers(1), |c, a| c.inbound(*a, server.addr));
    let callee = Running::start(&callee);
    take_on(&callee, Some(identity(&ca, "callee")));
    let (listen, admin) = (free_addr(), free_addr());
    let config = |tls: bool| {
        let mut c =
            Config::new().workers(1).outbound(listen).document("Service", "s", &service("callee", &at, tls));
        c.admin = admin;
        c
    };
    let caller = Running::start(&config(false));
    let load = Load::on(listen, "s", 2, 8);
    let is = |e: &str| caller.admin.metric("raddle_link_connections", &["outbound", e]);
    until(PATIENCE * 3, "all are connected", || is("\"false\"") >= MANY as i64);
    for tls in [true, false] {
        let began = Instant::now();
        caller.apply(&config(tls));
        if tls {
            // Files do not say who the caller is; so it is said again after each reload.
            take_on(&caller, Some(identity(&ca, "caller")));
        }
        let (new, old) = if tls { ("\"true\"", "\"false\"") } else { ("\"false\"", "\"true\"") };
        until(PATIENCE * 2, "all have switched", || is(new) >= MANY as i64 && is(old) == 0);
        // Within 5 s on a machine that does nothing else, unoptimised code included.
        println!("{MANY} endpoints in {:?}", began.elapsed());
        load.goes_on(200);
    }
    load.stop().expect_all_ok();
    assert_eq!(caller.admin.metric("raddle_upstream_connections_lost_total", &[]), 0);
}

#[test]
fn a_second_connection_to_an_endpoint_resumes_the_first() {
    let ca = ca();
    let mut config =
        identity(&ca, "callee").server_config(PeerRule::Member, Clients::Required, None).unwrap();
    config.session_storage = rustls::server::ServerSessionMemoryCache::new(64);
    config.send_tls13_tickets = 2;
    let config = Arc::new(config);
    let app = TcpServer::start(move |stream| {
        let Ok(session) = rustls::ServerConnection::new(config.clone()) else { return };
        let mut tls = rustls::StreamOwned::new(session, stream);
        let mut got = vec![0; SECRET.len()];
        while std::io::Read::read_exact(&mut tls, &mut got).is_ok() {
            if std::io::Write::write_all(&mut tls, &got).is_err() {
                return;
            }
        }
    });
    let (listen, admin) = (free_addr(), free_addr());
    let mut c = Config::new().workers(1).outbound_tcp(listen, "s", true).document(
        "Service",
        "s",
        &service("callee", &[app.addr], true),
    );
    c.admin = admin;
    let caller = Running::start(&c);
    take_on(&caller, Some(identity(&ca, "caller")));
    for _ in 0..5 {
        let mut s = std::net::TcpStream::connect(listen).unwrap();
        s.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut got = vec![0; SECRET.len()];
        std::io::Write::write_all(&mut s, SECRET).unwrap();
        std::io::Read::read_exact(&mut s, &mut got).unwrap();
        assert_eq!(got, SECRET);
    }
    let made = |r: &str| caller.admin.metric("raddle_link_handshakes_total", &["\"caller\"", r]);
    assert_eq!((made("\"full\""), made("\"resumed\""), made("\"failed\"")), (1, 4, 0));
}

#[test]
fn the_admin_page_says_of_every_endpoint_what_is_wanted_and_what_is() {
    let app = H1Upstream::start(|_| Reply::ok(SECRET));
    let pair = crate::mesh::Pair::new("http", app.addr());
    pair.want("{required: true}");
    let mut c = Client::connect(pair.listen);
    c.send("GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
    assert_eq!(c.response("GET").unwrap().body, SECRET);
    let e = pair.caller.admin.json("/clusters")[0]["endpoints"][0]["encryption"].clone();
    assert_eq!(
        (&e["wanted"], &e["required"], &e["connections"]),
        (&true.into(), &true.into(), &1.into()),
        "{e}"
    );
    assert_eq!(e["whom"], "app callee");
    let all = pair.caller.admin.get("/connections");
    assert!(all.contains("spiffe://mesh.local/app/callee") || all.contains("/app/callee"), "{all}");
}

#[test]
fn several_workers_switch_and_lose_nothing() {
    let server = BoltServer::echo();
    let ca = ca();
    let inbound = free_addr();
    let callee = Running::start(&Config::new().workers(2).inbound(inbound, server.addr));
    take_on(&callee, Some(identity(&ca, "callee")));
    let (listen, admin) = (free_addr(), free_addr());
    let config = |tls: bool| {
        let mut c = Config::new()
            .workers(3)
            .outbound(listen)
            .document("Service", "s", &service("callee", &[inbound], tls))
            .policy("all", "pool: {connections: 3, maxConnections: 4}");
        c.admin = admin;
        c
    };
    let caller = Running::start(&config(false));
    let ask = |c: usize, n: u32| Ask::to("s").content([SECRET, format!("{c}/{n}").as_bytes()].concat());
    let load = Load::with(listen, 9, 4, Arc::new(ask));
    for tls in [true, false, true] {
        load.goes_on(300);
        caller.apply(&config(tls));
        take_on(&caller, Some(identity(&ca, "caller")));
        let (new, old) = if tls { ("\"true\"", "\"false\"") } else { ("\"false\"", "\"true\"") };
        let is = |e: &str| caller.admin.metric("raddle_link_connections", &["outbound", e]);
        until(PATIENCE, "all have switched", || is(new) > 0 && is(old) == 0);
    }
    load.stop().expect_all_ok();
}
