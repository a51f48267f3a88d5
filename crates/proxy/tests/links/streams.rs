//! Bytes of no known protocol, upgrades and CONNECT: those that are go on as they are, new ones are as wanted.
use crate::mesh::{Pair, SECRET, Work};
use raddle_testkit::h1::Client;
use raddle_testkit::http::http_server;
use raddle_testkit::{PATIENCE, TcpServer, until};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

fn echo() -> TcpServer {
    TcpServer::start(|mut s| {
        let mut b = [0; 4096];
        while let Ok(n @ 1..) = s.read(&mut b) {
            if s.write_all(&b[..n]).is_err() {
                return;
            }
        }
    })
}

fn talk(s: &mut TcpStream) -> Result<(), String> {
    let mut got = vec![0; SECRET.len()];
    s.write_all(SECRET).and_then(|()| s.read_exact(&mut got)).map_err(|e| e.to_string())?;
    if got == SECRET { Ok(()) } else { Err("other bytes".into()) }
}

fn connected(listen: SocketAddr) -> TcpStream {
    let s = TcpStream::connect(listen).unwrap();
    s.set_read_timeout(Some(PATIENCE)).unwrap();
    s
}

#[test]
fn a_tcp_relay_goes_on_as_it_is_and_new_ones_are_as_wanted() {
    let app = echo();
    let pair = Pair::new("tcp", app.addr);
    let mut old = connected(pair.listen);
    talk(&mut old).unwrap();
    pair.want("true");
    let mut new = connected(pair.listen);
    talk(&mut new).unwrap();
    talk(&mut old).unwrap();
    assert_eq!((pair.tap.open(true), pair.tap.open(false)), (1, 1));
    pair.caller.admin.until_metric("raddle_link_stale_connections", &[], |n| n == 1);
    pair.tap.expect_unreadable();
    drop(old);
    until(PATIENCE, "it ends with its caller", || pair.tap.open(false) == 0);
    pair.caller.admin.until_metric("raddle_link_stale_connections", &[], |n| n == 0);
}

#[test]
fn tcp_connections_made_all_the_time_lose_nothing() {
    let app = echo();
    let pair = Pair::new("tcp", app.addr);
    let listen = pair.listen;
    let ask = move |(): &mut (), _: u64| {
        let mut s = connected(listen);
        talk(&mut s)?;
        talk(&mut s)
    };
    let work = Work::start(3, || (), ask);
    work.goes_on(20);
    for tls in [true, false, true, false] {
        pair.want(if tls { "true" } else { "false" });
        work.goes_on(20);
    }
    work.expect_none_failed();
    pair.tap.expect_unreadable();
    assert!(pair.tap.count(super::mesh::Tapped::is_tls) >= 20);
}

#[test]
fn a_whole_stream_passes_an_encrypted_relay_and_its_end_too() {
    let app = TcpServer::start(|mut s| {
        let mut all = Vec::new();
        let _ = s.read_to_end(&mut all);
        let _ = s.write_all(&all);
    });
    let pair = Pair::new("tcp", app.addr);
    pair.want("true");
    let said: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut c = connected(pair.listen);
    let mut write = c.try_clone().unwrap();
    let all = said.clone();
    let writer = std::thread::spawn(move || {
        write.write_all(&all).unwrap();
        write.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut got = Vec::new();
    c.read_to_end(&mut got).unwrap();
    writer.join().unwrap();
    assert!(got == said, "{} of {}", got.len(), said.len());
    assert_eq!(pair.tap.count(|t| !t.is_tls()), 0);
}

#[test]
fn connect_leads_through_an_encrypted_link() {
    let app = echo();
    let pair = Pair::new("tcp", app.addr);
    for tls in ["false", "true", "false"] {
        pair.want(tls);
        let mut c = Client::connect(pair.listen);
        c.send("CONNECT shop:80 HTTP/1.1\r\nHost: shop:80\r\n\r\n");
        assert_eq!(c.response("CONNECT").unwrap().status(), 200);
        let mut s = c.socket().try_clone().unwrap();
        talk(&mut s).unwrap();
    }
    assert_eq!(pair.tap.count(super::mesh::Tapped::is_tls), 1);
    pair.tap.expect_unreadable();
}

/// Agrees to every upgrade, then echoes.
fn upgrading() -> TcpServer {
    http_server(|mut c| {
        if c.head().is_none() {
            return;
        }
        c.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
        loop {
            let b = c.take(1);
            if b.is_empty() || !c.send(&b) {
                return;
            }
        }
    })
}

#[test]
fn an_upgraded_connection_goes_on_over_the_switch() {
    let app = upgrading();
    let pair = Pair::new("http", app.addr);
    let upgraded = || {
        let mut c = Client::connect(pair.listen);
        c.send("GET /chat HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
        assert_eq!(c.response("GET").unwrap().status(), 101);
        c.socket().try_clone().unwrap()
    };
    let mut all = vec![upgraded()];
    talk(&mut all[0]).unwrap();
    for tls in ["true", "false", "true"] {
        pair.want(tls);
        all.push(upgraded());
        for s in &mut all {
            talk(s).unwrap();
        }
    }
    assert_eq!((pair.tap.open(true), pair.tap.open(false)), (2, 2));
    pair.tap.expect_unreadable();
}
