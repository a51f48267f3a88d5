//! Bytes that are no frames: counted by reason, their connection closed, and nobody else notices.
use raddle_testkit::frame::noise;
use raddle_testkit::{
    Ask, BoltClient, BoltServer, Config, Load, PATIENCE, Running, Variant, free_addr, until,
};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};

const SERVICE: &str = "com.test.Safe:1.0";

fn started(server: SocketAddr) -> (Running, SocketAddr) {
    let listen = free_addr();
    (Running::start(&Config::new().outbound(listen).service(SERVICE, &[server])), listen)
}

/// A good frame with one of its bytes changed.
fn with(variant: Variant, at: usize, byte: u8) -> Vec<u8> {
    let mut b = Ask::to(SERVICE).variant(variant).bytes();
    b[at] = byte;
    b
}

#[test]
fn each_kind_of_malformed_frame_ends_its_connection_and_is_counted_by_reason() {
    let server = BoltServer::echo();
    let (sidecar, listen) = started(server.addr);
    let mut long = Ask::to(SERVICE).bytes();
    long[18..22].fill(0xFF);
    let kinds = [
        ("bad_magic", with(Variant::V1, 0, 9)),
        ("bad_version", with(Variant::V2, 1, 3)),
        ("bad_type", with(Variant::V1, 1, 7)),
        ("too_large", long),
    ];
    for (reason, bytes) in kinds {
        // As the second frame: as the first bytes of a connection they might be another protocol's.
        let mut c = BoltClient::connect(listen);
        assert_eq!(c.call(&Ask::to(SERVICE)).head.status, 0);
        c.send(&bytes);
        c.expect_end();
        let n = sidecar.admin.metric("raddle_malformed_frames_total", &["caller", &format!("\"{reason}\"")]);
        assert_eq!(n, 1, "{reason}");
    }
}

#[test]
fn replies_written_before_a_malformed_frame_still_arrive() {
    let server = BoltServer::echo();
    let (_sidecar, listen) = started(server.addr);
    let mut c = BoltClient::connect(listen);
    for id in 0..50 {
        assert_eq!(c.call(&Ask::to(SERVICE).id(id)).head.id, id);
    }
    c.send(&[Ask::to("unknown").id(50).bytes(), vec![9; 100]].concat());
    // The answer was there before the garbage was.
    assert_eq!(c.frame().head.id, 50);
    c.expect_end();
}

#[test]
fn a_garbled_header_map_is_answered_and_the_connection_lives_on() {
    let server = BoltServer::echo();
    let (_sidecar, listen) = started(server.addr);
    let good = Ask::to(SERVICE).id(5).bytes();
    let map_at = 22 + raddle_wire::bolt::CLASS_REQUEST.len();
    let mut c = BoltClient::connect(listen);
    for lie in [[0x7F, 0xFF, 0xFF, 0xFF], [0xFF; 4], [0, 0, 0xFF, 0], [0, 0, 0, 0]] {
        let mut b = good.clone();
        b[map_at..map_at + 4].copy_from_slice(&lie);
        c.send(&b);
        let f = c.frame();
        assert_eq!((f.head.id, f.flag().as_deref()), (5, Some("NC")), "{lie:?}");
    }
    assert_eq!(c.call(&Ask::to(SERVICE).id(6)).head.status, 0);
}

#[test]
fn frames_that_make_no_sense_where_they_come_are_dropped_and_counted() {
    let server = BoltServer::echo();
    let (sidecar, listen) = started(server.addr);
    let mut c = BoltClient::connect(listen);
    let mut reply = Vec::new();
    raddle_wire::bolt::encode::response(&mut reply, Variant::V1, 3, 1, 0, b"", &[], b"x");
    let mut odd = Ask::to(SERVICE).bytes();
    odd[2..4].copy_from_slice(&77u16.to_be_bytes());
    // And one that is passed over piece by piece.
    let mut huge = Ask::to(SERVICE).content(noise(1, 500_000)).bytes();
    huge[2..4].copy_from_slice(&78u16.to_be_bytes());
    for b in [reply, odd, huge] {
        c.send(&b);
    }
    assert_eq!(c.call(&Ask::to(SERVICE).id(6)).head.status, 0);
    assert!(sidecar.admin.metric("raddle_unexpected_frames_total", &[]) >= 2);
    assert_eq!(server.requests(), 1);
}

/// What the `n`th attacker sends.
fn garbage(n: usize) -> Vec<u8> {
    let good =
        Ask::to(SERVICE).variant(Variant::ALL[n % 4]).id(n as u32).content(noise(n as u64, 300)).bytes();
    let mut b = good.clone();
    match n % 8 {
        0 => noise(n as u64, 2_000),
        1 => good[..n % good.len()].to_vec(),
        2 => {
            let r = noise(n as u64, 64);
            for pair in r.chunks(4) {
                let at = usize::from(u16::from_le_bytes([pair[0], pair[1]])) % b.len();
                b[at] ^= pair[2];
            }
            b
        }
        3 => {
            // Lengths of nonsense.
            b[14..22].copy_from_slice(&noise(n as u64, 8));
            b
        }
        4 => [&good[..], &noise(n as u64, 500)].concat(),
        5 => {
            b[1] = n as u8;
            b
        }
        6 => {
            // A header map of random bytes.
            let at = 24 + raddle_wire::bolt::CLASS_REQUEST.len();
            b[at..at + 20].copy_from_slice(&noise(n as u64, 20));
            b
        }
        _ => {
            // A huge frame begun and never gone on with.
            b[18..22].copy_from_slice(&(60u32 << 20).to_be_bytes());
            b
        }
    }
}

#[test]
fn a_storm_of_malformed_frames_on_hundreds_of_connections_harms_no_neighbour() {
    let server = BoltServer::echo();
    let (sidecar, listen) = started(server.addr);
    let load = Load::on(listen, SERVICE, 4, 8);
    load.goes_on(200);
    for round in 0..6 {
        // Each begins with a good request, so that the garbage meets a live Bolt connection.
        let mut live: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(listen).unwrap()).collect();
        for (n, s) in live.iter_mut().enumerate() {
            s.write_all(&Ask::to(SERVICE).bytes()).unwrap();
            // It may be closed already.
            let _ = s.write_all(&garbage(round * 300 + n));
        }
        load.goes_on(100);
    }
    load.goes_on(300);
    let report = load.stop();
    report.expect_all_ok();
    for reason in ["bad_magic", "bad_version", "bad_type", "too_large"] {
        assert!(sidecar.admin.metric("raddle_malformed_frames_total", &["caller", reason]) >= 1, "{reason}");
    }
    until(PATIENCE, "attackers are gone", || {
        sidecar.admin.metric("raddle_connections_active", &["caller"]) < 5
    });
}

#[test]
fn random_bytes_from_an_endpoint_harm_no_other_service() {
    let evil = BoltServer::start(|c| {
        let n = c.frame.head.id as usize;
        let mut b = c.reply_bytes(0, &[], &noise(n as u64, 100));
        let at = n % b.len();
        b[at] ^= 0x55;
        c.peer.write(&b);
    });
    let server = BoltServer::echo();
    let listen = free_addr();
    let _sidecar = Running::start(
        &Config::new().outbound(listen).service(SERVICE, &[server.addr]).service("evil", &[evil.addr]),
    );
    let load = Load::on(listen, SERVICE, 2, 8);
    let mut c = BoltClient::connect(listen);
    for id in 0..300 {
        c.ask(&Ask::to("evil").id(id).timeout(200));
    }
    // Each gets exactly one answer, whatever became of it.
    let mut seen = std::collections::HashSet::new();
    for _ in 0..300 {
        assert!(seen.insert(c.frame().head.id));
    }
    load.goes_on(100);
    load.stop().expect_all_ok();
}
