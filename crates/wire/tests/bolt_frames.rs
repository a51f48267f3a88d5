//! Frames captured from real clients and servers.
mod common;

use common::{Captured, frames};
use raddle_wire::bolt::{
    Command, HEADER_METHOD, HEADER_SERVICE, Head, Kind, Limits, Method, Parsed, Variant, encode, method,
    patch_id,
};
use raddle_wire::sniff::{Sniff, sniff};

fn head(frame: &Captured) -> Head {
    match Head::parse(&frame.bytes, &Limits::default()) {
        Ok(Parsed::Head(head)) => head,
        other => panic!("{}: {other:?}", frame.name),
    }
}

fn only(name: &str) -> Captured {
    frames(name).into_iter().find(|f| f.name == name).unwrap()
}

fn crc_is_right(frame: &[u8], head: &Head) -> bool {
    !head.variant.crc()
        || frame.split_last_chunk::<4>().is_some_and(|(f, c)| crc32fast::hash(f).to_be_bytes() == *c)
}

#[test]
fn every_bolt_frame_parses_to_its_whole_length_and_kind() {
    for frame in frames("bolt") {
        let (name, head) = (&frame.name, head(&frame));
        assert_eq!(head.frame_len(), frame.bytes.len(), "{name}");
        assert!(head.headers(&frame.bytes).is_well_formed(), "{name}");
        assert!(crc_is_right(&frame.bytes, &head), "{name}");
        let heartbeat = name.contains("heartbeat");
        let response = name.ends_with("-ack") || name.contains("-res");
        let command = match (heartbeat, response) {
            (true, _) => Command::Heartbeat,
            (false, true) => Command::Response,
            (false, false) => Command::Request,
        };
        assert_eq!(head.command, command, "{name}");
        assert_eq!(head.kind == Kind::Response, response, "{name}");
        let failed = ["boom", "nosuch", "no-processor"].iter().any(|s| name.contains(s)) && response;
        assert_eq!(head.status, if failed { 2 } else { 0 }, "{name}");
        assert_eq!(head.codec, if name.contains("protobuf") { 11 } else { 1 }, "{name}");
        assert_eq!(sniff(&frame.bytes), Sniff::Bolt, "{name}");
    }
}

#[test]
fn variants_are_told_apart() {
    for (name, variant) in [
        ("bolt1-heartbeat", Variant::V1),
        ("bolt2-ver1-nocrc-req", Variant::V2),
        ("java-bolt2-string-req", Variant::V2), // its switch byte says CRC, and there is none
        ("java-bolt2-plain-heartbeat", Variant::V2Plain),
        ("bolt2-ver2-crc-req", Variant::V2Crc),
        ("java-bolt2-crc-string-req", Variant::V2Crc),
    ] {
        assert_eq!(head(&only(name)).variant, variant, "{name}");
    }
    assert_eq!(head(&only("bolt1-oneway-req")).kind, Kind::OneWay);
    assert_eq!(head(&only("java-bolt1-heartbeat")).timeout_ms, -1);
}

#[test]
fn every_frame_encoded_again_is_the_same_bytes() {
    for frame in frames("bolt") {
        // SOFABolt sets version 1's switch byte although it means nothing there.
        if frame.name.starts_with("java-bolt2-string") {
            continue;
        }
        let h = head(&frame);
        let pairs: Vec<(&[u8], &[u8])> =
            h.headers(&frame.bytes).iter().map(|(k, v)| (k.unwrap(), v.unwrap())).collect();
        let (class, content) = (h.class(&frame.bytes), h.content(&frame.bytes));
        let mut out = Vec::new();
        match (h.command, h.kind) {
            (Command::Heartbeat, Kind::Response) => {
                encode::heartbeat_ack(&mut out, &Head { kind: Kind::Request, ..h });
            }
            (Command::Heartbeat, _) => {
                encode::heartbeat(&mut out, h.variant, h.id, h.codec, h.timeout_ms, &[]);
            }
            (_, Kind::Response) => {
                encode::response(&mut out, h.variant, h.id, h.codec, h.status, class, &pairs, content);
            }
            (_, kind) => {
                let oneway = kind == Kind::OneWay;
                encode::request(
                    &mut out,
                    h.variant,
                    h.id,
                    h.codec,
                    h.timeout_ms,
                    oneway,
                    class,
                    &pairs,
                    content,
                );
            }
        }
        assert!(out == frame.bytes, "{}", frame.name);
    }
}

#[test]
fn a_patched_frame_differs_in_its_id_and_crc_only() {
    for frame in frames("bolt") {
        let before = head(&frame);
        for id in [0, 1, 0x0102_0304, u32::MAX] {
            let mut bytes = frame.bytes.clone();
            patch_id(&mut bytes, &before, id);
            let after = head(&Captured { name: frame.name.clone(), bytes: bytes.clone() });
            assert_eq!(after, Head { id, ..before }, "{}", frame.name);
            assert!(crc_is_right(&bytes, &after), "{}", frame.name);
            patch_id(&mut bytes, &after, before.id);
            assert!(bytes == frame.bytes, "{}", frame.name);
        }
    }
}

#[test]
fn a_frame_cut_anywhere_is_incomplete_or_known_as_short() {
    for frame in frames("bolt") {
        let whole = head(&frame);
        for cut in 0..frame.bytes.len() {
            match Head::parse(&frame.bytes[..cut], &Limits::default()) {
                Ok(Parsed::Incomplete) => assert!(cut < whole.fixed_len()),
                Ok(Parsed::Head(head)) => assert!(cut >= whole.fixed_len() && head == whole),
                Err(malformed) => panic!("{}: {malformed}", frame.name),
            }
        }
    }
}

#[test]
fn the_service_and_the_method_are_found_in_every_request() {
    for (name, service, called) in [
        ("bolt1-hessian-req-plus-int-int", "com.nodejs.test.TestService:1.0", "plus"),
        ("bolt1-hessian-req-echo-utf8-string", "com.nodejs.test.TestService:1.0", "echo"),
        ("bolt1-hessian-req-nosuch-method", "com.nodejs.test.TestService:1.0", "nosuch"),
        ("bolt1-oneway-req", "com.nodejs.test.TestService:1.0", "plus"),
        ("bolt2-ver1-nocrc-req", "com.nodejs.test.TestService:1.0", "plus"),
        ("bolt2-ver2-crc-req", "com.nodejs.test.TestService:1.0", "plus"),
        ("bolt1-protobuf-req", "com.alipay.sofa.rpc.test.ProtoService:1.0", "echoObj"),
        ("java-bolt1-hessian-req", "Svc:1.0", "dump"),
    ] {
        let frame = only(name);
        let h = head(&frame);
        assert_eq!(h.headers(&frame.bytes).get(HEADER_SERVICE), Some(service.as_bytes()), "{name}");
        assert_eq!(method(&h, &frame.bytes), Method::Found(called.as_bytes()), "{name}");
        for cut in 0..frame.bytes.len() {
            let found = method(&h, &frame.bytes[..cut]);
            assert!(
                found == Method::NeedMore || found == Method::Found(called.as_bytes()),
                "{name} cut at {cut}"
            );
        }
    }
    for name in ["bolt1-heartbeat", "bolt1-hessian-res-plus-int-int", "java-bolt1-string-req"] {
        assert_eq!(method(&head(&only(name)), &only(name).bytes), Method::Unknown, "{name}");
    }
}

#[test]
fn javas_body_names_the_method_too_as_its_header_map_does() {
    let frame = only("java-bolt1-hessian-req");
    let h = head(&frame);
    assert_eq!(h.headers(&frame.bytes).get(HEADER_METHOD), Some(&b"dump"[..]));
    let content = h.content(&frame.bytes);
    let mut bare = Vec::new();
    encode::request(&mut bare, h.variant, 1, h.codec, 0, false, h.class(&frame.bytes), &[], content);
    let bare = Captured { name: "bare".into(), bytes: bare };
    assert_eq!(method(&head(&bare), &bare.bytes), Method::Found(b"dump"));
}
