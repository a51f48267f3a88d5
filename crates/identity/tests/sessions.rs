//! What [`TlsSession`] promises, with `rustls`' own buffered client at the other end.
mod common;

use common::{Made, Pair, client_config, make, name};
use raddle_identity::{ALPN_H1, ALPN_H2, ServerIdentity, TlsError, TlsSession};
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, Error, HandshakeKind, SupportedProtocolVersion};
use std::io::Write;
use std::sync::Arc;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

fn ready(m: &Made, version: &'static SupportedProtocolVersion) -> Pair {
    let mut p = Pair::new(m, &[ALPN_H2], version);
    p.pump().unwrap();
    assert!(!p.server.handshaking() && !p.client.is_handshaking());
    p
}

#[test]
fn a_message_goes_there_and_back_in_both_versions() {
    let m = make();
    for v in VERSIONS {
        let mut p = ready(&m, v);
        p.client.writer().write_all(b"ping").unwrap();
        p.pump().unwrap();
        assert_eq!(p.got, b"ping");
        p.server.seal(b"pong", &mut p.to_client).unwrap();
        p.pump().unwrap();
        assert_eq!(p.back, b"pong");
    }
}

#[test]
fn bytes_may_come_one_by_one() {
    let m = make();
    for v in VERSIONS {
        let mut p = Pair::new(&m, &[], v);
        p.step = 1;
        p.pump().unwrap();
        assert!(!p.server.handshaking());
        let text: Vec<u8> = (0..40_000_u32).map(|i| i as u8).collect();
        p.client.writer().write_all(&text).unwrap();
        p.pump().unwrap();
        assert_eq!(p.got, text);
    }
}

#[test]
fn a_mebibyte_comes_back_as_it_went_whatever_the_pieces() {
    let m = make();
    for (v, step) in [(&TLS12, 70_001), (&TLS13, 1_499), (&TLS13, 65_536)] {
        let mut p = ready(&m, v);
        p.client.set_buffer_limit(None);
        p.step = step;
        let text: Vec<u8> = (0..1_u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        p.client.writer().write_all(&text).unwrap();
        p.pump().unwrap();
        assert!(p.got == text);
        p.server.seal(&text, &mut p.to_client).unwrap();
        assert!(p.to_client.len() < text.len() + text.len() / 500 + 100, "records are large");
        p.pump().unwrap();
        assert!(p.back == text);
    }
}

#[test]
fn the_server_prefers_h2_and_takes_what_there_is() {
    let m = make();
    let check = |offered: &[&[u8]], agreed: Option<&[u8]>| {
        let mut p = Pair::new(&m, offered, &TLS13);
        p.pump().unwrap();
        assert_eq!((p.server.alpn(), p.client.alpn_protocol()), (agreed, agreed));
    };
    check(&[ALPN_H1, ALPN_H2], Some(ALPN_H2));
    check(&[ALPN_H1], Some(ALPN_H1));
    check(&[b"foo", ALPN_H1], Some(ALPN_H1));
    check(&[], None);
}

/// What the server still had to say.
fn alert(p: &mut Pair) -> Vec<u8> {
    let mut bytes = vec![];
    p.server.take_handshake_output(&mut bytes);
    bytes
}

#[test]
fn no_protocol_in_common_ends_with_its_alert() {
    let m = make();
    let mut p = Pair::new(&m, &[b"smtp"], &TLS12);
    let e = p.pump().unwrap_err();
    assert!(matches!(e, TlsError::Tls(_)), "{e}");
    // Alert, fatal, no_application_protocol (RFC 7301, 3.2).
    assert_eq!(alert(&mut p), [21, 3, 3, 0, 2, 2, 120]);
    let mut p = Pair::new(&m, &[b"smtp"], &TLS13);
    p.pump().unwrap_err();
    let bytes = alert(&mut p);
    p.client.read_tls(&mut &bytes[..]).unwrap();
    let e = p.client.process_new_packets().unwrap_err();
    assert_eq!(e, Error::AlertReceived(AlertDescription::NoApplicationProtocol));
}

#[test]
fn what_is_no_tls_fails_with_an_alert_once_and_for_all() {
    let m = make();
    let noise: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        &[22, 3, 1, 0xff, 0xff, 1],
        &[22, 3, 1, 0, 4, 9, 9, 9, 9],
        &[0xff; 64],
    ];
    for bytes in noise {
        let mut p = Pair::new(&m, &[], &TLS13);
        assert!(matches!(p.server.feed(&mut bytes.to_vec(), &mut p.got, 1), Err(TlsError::Tls(_))));
        let said = alert(&mut p);
        assert_eq!(said.get(..6), Some(&[21, 3, 3, 0, 2, 2][..]), "{bytes:?}");
        assert!(alert(&mut p).is_empty());
        assert!(matches!(p.server.feed(&mut bytes.to_vec(), &mut p.got, 1), Err(TlsError::Ended)));
        assert!(matches!(p.server.seal(b"x", &mut p.to_client), Err(TlsError::Ended)));
        assert!(p.got.is_empty() && p.to_client.is_empty());
        assert_eq!(p.server.buffered(), 0);
    }
}

#[test]
fn a_damaged_record_gives_nothing_but_an_alert() {
    let m = make();
    for v in VERSIONS {
        let mut p = ready(&m, v);
        p.client.writer().write_all(b"transfer 10").unwrap();
        let mut bytes = p.client_bytes();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(p.server.feed(&mut bytes, &mut p.got, 100).is_err());
        assert!(p.got.is_empty());
        let sealed = alert(&mut p);
        assert_eq!(sealed[0] == 23, v.version == TLS13.version, "TLS 1.3 encrypts its alerts");
        assert!(sealed.len() > 7);
    }
}

#[test]
fn nothing_can_be_sealed_before_the_handshake_is_over() {
    let m = make();
    let mut p = Pair::new(&m, &[], &TLS13);
    let mut out = vec![];
    assert!(matches!(p.server.seal(b"x", &mut out), Err(TlsError::NotReady)));
    assert!(matches!(p.server.close_notify(&mut out), Err(TlsError::NotReady)));
    // And it goes on as if nothing had been tried.
    p.to_client = out;
    p.pump().unwrap();
    assert!(!p.server.handshaking());
}

#[test]
fn an_announced_end_is_told_from_a_cut_one() {
    let m = make();
    for v in VERSIONS {
        let mut p = ready(&m, v);
        p.client.writer().write_all(b"all of it").unwrap();
        p.client.send_close_notify();
        p.client.writer().write_all(b"").unwrap();
        p.pump().unwrap();
        assert!(p.server.peer_closed());
        assert_eq!(p.got, b"all of it");
        // What follows is nothing.
        assert_eq!(p.server.feed(&mut [1, 2, 3], &mut p.got, 9).unwrap(), 3);
        // TLS 1.3 can still answer (RFC 8446, 6.1).
        p.server.seal(b"bye", &mut p.to_client).unwrap();
        p.deliver();
        assert_eq!(p.back, b"bye");

        let mut cut = ready(&m, v);
        cut.client.writer().write_all(b"half of it").unwrap();
        let mut bytes = cut.client_bytes();
        let most = bytes.len() - 1;
        assert_eq!(cut.server.feed(&mut bytes[..most], &mut cut.got, 100).unwrap(), most);
        assert!(!cut.server.peer_closed() && cut.got.is_empty());
    }
}

#[test]
fn after_close_notify_nothing_is_sealed_and_the_peer_may_go_on() {
    let m = make();
    let mut p = ready(&m, &TLS13);
    p.server.close_notify(&mut p.to_client).unwrap();
    let len = p.to_client.len();
    assert!(len > 0);
    p.server.close_notify(&mut p.to_client).unwrap();
    assert_eq!(p.to_client.len(), len);
    assert!(matches!(p.server.seal(b"x", &mut p.to_client), Err(TlsError::Ended)));
    p.client.writer().write_all(b"still here").unwrap();
    p.pump().unwrap();
    assert_eq!(p.got, b"still here");
}

#[test]
fn one_call_gives_no_more_than_asked_and_a_record() {
    let m = make();
    let mut p = ready(&m, &TLS13);
    p.client.set_buffer_limit(None);
    p.client.writer().write_all(&vec![7; 300_000]).unwrap();
    let mut bytes = p.client_bytes();
    let (mut at, mut calls) = (0, 0);
    while at < bytes.len() {
        let before = p.got.len();
        at += p.server.feed(&mut bytes[at..], &mut p.got, 20_000).unwrap();
        assert!(p.got.len() - before < 20_000 + 16_384);
        calls += 1;
    }
    assert!(calls >= 300_000 / 36_384, "{calls}");
    assert_eq!(p.got.len(), 300_000);
}

#[test]
fn an_idle_session_holds_no_buffer() {
    let m = make();
    for v in VERSIONS {
        let mut p = ready(&m, v);
        p.step = 10;
        p.client.set_buffer_limit(None);
        p.client.writer().write_all(&vec![7; 100_000]).unwrap();
        p.pump().unwrap();
        p.server.seal(&vec![7; 100_000], &mut p.to_client).unwrap();
        p.pump().unwrap();
        assert_eq!(p.server.buffered(), 0);
    }
}

#[test]
fn sealing_goes_on_while_half_a_record_waits() {
    let m = make();
    for v in VERSIONS {
        let mut p = ready(&m, v);
        p.client.writer().write_all(b"slow").unwrap();
        let bytes = p.client_bytes();
        for b in bytes {
            assert_eq!(p.server.feed(&mut [b], &mut p.got, 10).unwrap(), 1);
            p.server.seal(b"-", &mut p.to_client).unwrap();
        }
        p.deliver();
        assert_eq!(p.got, b"slow");
        assert!(p.back.len() > 20 && p.back.iter().all(|b| *b == b'-'));
    }
}

#[test]
fn new_keys_may_be_asked_for_at_any_time() {
    let m = make();
    let mut p = ready(&m, &TLS13);
    for i in 0..50_u8 {
        p.step = 1 + i as usize;
        p.client.refresh_traffic_keys().unwrap();
        p.client.writer().write_all(&[i]).unwrap();
        p.pump().unwrap();
        p.server.seal(&[i], &mut p.to_client).unwrap();
        p.pump().unwrap();
    }
    assert_eq!((p.got.len(), p.back.len()), (50, 50));
}

#[test]
fn a_hello_in_crumbs_is_bounded() {
    let m = make();
    let mut p = Pair::new(&m, &[], &TLS13);
    // A client hello of 60,000 bytes, one byte a record.
    let mut fed = 0;
    let mut crumb = |b: u8| p.server.feed(&mut [22, 3, 1, 0, 1, b], &mut Vec::new(), 1).map(|_| ());
    let head = [1, 0, 0xea, 0x60];
    let end = (0..60_000).map(|i| head.get(i).copied().unwrap_or(0)).try_for_each(|b| {
        fed += 1;
        crumb(b)
    });
    assert!(end.is_err());
    assert!(fed < 12_000, "{fed}");
    assert_eq!(alert(&mut p), [21, 3, 3, 0, 2, 2, 50]);
    assert_eq!(p.server.buffered(), 0);
}

#[test]
fn a_session_resumes_by_ticket_but_not_under_another_configuration() {
    let m = make();
    let id = ServerIdentity::load(&m.cert, &m.key).unwrap();
    let config = Arc::new(client_config(&m, &[], &TLS13));
    let kind = |id: &ServerIdentity| {
        let mut p = Pair::with(id, config.clone());
        p.pump().unwrap();
        p.server.state().handshake_kind().unwrap()
    };
    assert_eq!(kind(&id), HandshakeKind::Full);
    assert_eq!(kind(&id), HandshakeKind::Resumed);
    let again = ServerIdentity::load(&m.cert, &m.key).unwrap();
    assert_eq!(kind(&again), HandshakeKind::Full);
}

#[test]
fn our_own_client_and_server_understand_each_other() {
    let m = make();
    for v in VERSIONS {
        let id = ServerIdentity::load(&m.cert, &m.key).unwrap();
        let mut server = TlsSession::server(id.config().clone()).unwrap();
        let mut client = TlsSession::client(Arc::new(client_config(&m, &[ALPN_H2], v)), name()).unwrap();
        let (mut got, mut back) = (vec![], vec![]);
        while client.handshaking() || server.handshaking() {
            let mut bytes = vec![];
            client.take_handshake_output(&mut bytes);
            server.feed(&mut bytes, &mut got, 1).unwrap();
            bytes.clear();
            server.take_handshake_output(&mut bytes);
            client.feed(&mut bytes, &mut back, 1).unwrap();
        }
        let mut bytes = vec![];
        client.seal(b"hello", &mut bytes).unwrap();
        server.feed(&mut bytes, &mut got, 100).unwrap();
        assert_eq!((&got[..], server.alpn()), (&b"hello"[..], Some(ALPN_H2)));
        assert!(server.state().negotiated_cipher_suite().is_some());
    }
}

#[test]
fn debug_output_says_nothing_of_keys_or_content() {
    let m = make();
    let mut p = ready(&m, &TLS13);
    p.client.writer().write_all(b"secret").unwrap();
    p.pump().unwrap();
    assert_eq!(
        format!("{:?}", p.server),
        r#"TlsSession { handshaking: false, alpn: Some("h2"), peer_closed: false, .. }"#
    );
}
