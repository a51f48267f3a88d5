//! Frames captured from real Dubbo clients and servers.
mod common;

use common::{Captured, frames};
use raddle_wire::dubbo::{
    Head, Kind, Limits, Parsed, Peek, Request, ResponseKind, SERIALIZER_FASTJSON2, SERIALIZER_HESSIAN2,
    STATUS_OK, Value, encode, is_readonly, patch_id, peek, reason_of, response_attachments, response_kind,
};
use raddle_wire::sniff::{Sniff, sniff};

fn head(frame: &Captured) -> Head {
    match Head::parse(&frame.bytes, &Limits::default()) {
        Ok(Parsed::Head(head)) => head,
        other => panic!("{}: {other:?}", frame.name),
    }
}

/// The frames of the Node and Python peers.
fn scripted(part: &str) -> impl Iterator<Item = Captured> {
    frames(part).into_iter().filter(|f| f.name.starts_with("dubbo2"))
}

fn only(name: &str) -> Captured {
    frames(name).into_iter().find(|f| f.name == name).unwrap()
}

fn request(frame: &Captured) -> Request<'_> {
    peek(&head(frame), &frame.bytes).found().unwrap_or_else(|| panic!("{}", frame.name))
}

#[test]
fn every_dubbo_frame_parses_to_its_whole_length_and_kind() {
    for frame in frames("dubbo2") {
        let (name, head) = (&frame.name, head(&frame));
        assert_eq!(head.frame_len(), frame.bytes.len(), "{name}");
        let response = name.contains("-res");
        assert_eq!(head.kind, if response { Kind::Response } else { Kind::Request }, "{name}");
        assert_eq!(head.wants_reply(), !response, "{name}");
        assert_eq!(head.is_heartbeat(), name.contains("heartbeat"), "{name}");
        let serializer = if name.contains("fastjson2") { SERIALIZER_FASTJSON2 } else { SERIALIZER_HESSIAN2 };
        assert_eq!(head.serializer, serializer, "{name}");
        if response && !head.event {
            assert_eq!(head.status, if name.contains("nosuch") { 60 } else { STATUS_OK }, "{name}");
        }
        assert_eq!(sniff(&frame.bytes), Sniff::Dubbo, "{name}");
    }
}

#[test]
fn every_dubbo_frame_encoded_again_is_the_same_bytes() {
    for frame in frames("dubbo2") {
        let h = head(&frame);
        let mut out = Vec::new();
        encode::fixed(&mut out, &h);
        out.extend_from_slice(h.body(&frame.bytes));
        if h.kind == Kind::Response {
            out[2] |= frame.bytes[2] & 0x40; // Node leaves the two-way bit in its answers to heartbeats
        }
        assert_eq!(out, frame.bytes, "{}", frame.name);
        patch_id(&mut out, u64::MAX - 1);
        assert_eq!(Head::parse(&out, &Limits::default()), Ok(Parsed::Head(Head { id: u64::MAX - 1, ..h })));
        assert_eq!(out[12..], frame.bytes[12..], "{}", frame.name);
    }
}

#[test]
fn a_dubbo_heartbeat_is_made_and_answered_as_java_does() {
    let asked = &frames("dubbo2-heartbeat")[0];
    assert_eq!(asked.name, "dubbo2-heartbeat");
    let mut made = Vec::new();
    encode::heartbeat(&mut made, 0);
    assert_eq!(made, asked.bytes);
    patch_id(&mut made, 7);
    let Ok(Parsed::Head(h)) = Head::parse(&made, &Limits::default()) else { panic!() };
    let mut ack = Vec::new();
    encode::heartbeat_ack(&mut ack, &h, &made);
    assert_eq!(ack, b"\xDA\xBB\x22\x14\0\0\0\0\0\0\0\x07\0\0\0\x01N");
}

#[test]
fn a_captured_requests_names_and_attachments_are_read() {
    for frame in scripted("dubbo2-req") {
        let (name, request) = (&frame.name, request(&frame));
        let method =
            ["boom", "nosuch", "plus", "user"].into_iter().find(|m| name.contains(m)).unwrap_or("echo");
        assert_eq!(request.dubbo_version, b"2.0.2", "{name}");
        assert_eq!(request.path, b"org.apache.dubbo.demo.EchoService", "{name}");
        assert_eq!((request.version, request.generic), (&b"0.0.0"[..], false), "{name}");
        assert_eq!(request.method, method.as_bytes(), "{name}");
        let arguments = match method {
            "boom" | "nosuch" => 0,
            "plus" => 2,
            _ => 1,
        };
        assert_eq!(request.arguments(), Some(arguments), "{name}");
        let attachments = request.attachments().found().unwrap_or_else(|| panic!("{name}"));
        assert_eq!(attachments.get(b"path"), Some(request.path), "{name}");
        assert_eq!(attachments.group(), b"", "{name}");
        assert!(!request.differs_from(&attachments), "{name}");
        if !name.contains("python") {
            assert_eq!(attachments.application(), Some(&b"dubbo-js"[..]), "{name}");
            assert_eq!(attachments.value(b"timeout"), Some(Value::Number(5)), "{name}");
            assert_eq!(attachments.timeout_ms(), Some(5), "{name}");
            assert_eq!(attachments.iter().count(), 5, "{name}");
        }
    }
}

#[test]
fn a_captured_request_cut_anywhere_is_waited_for() {
    for frame in frames("dubbo2-req") {
        let h = head(&frame);
        for cut in Head::LEN..frame.bytes.len() {
            match peek(&h, &frame.bytes[..cut]) {
                Peek::NeedMore => assert!(cut < 160, "{} at {cut}", frame.name),
                Peek::Found(request) => assert!(matches!(request.attachments(), Peek::NeedMore)),
                Peek::Unknown => panic!("{} cut at {cut}", frame.name),
            }
        }
    }
}

#[test]
fn captured_responses_say_what_they_bring() {
    for (name, kind) in [
        ("dubbo2-res-echo", ResponseKind::Value),
        ("dubbo2-res-plus", ResponseKind::Value),
        ("dubbo2-res-user-object", ResponseKind::Value),
        ("dubbo2-res-boom", ResponseKind::Exception),
        ("dubbo2-res-nosuch", ResponseKind::Unknown),
        ("dubbo2-heartbeat-res", ResponseKind::Unknown),
        ("dubbo2-req-echo", ResponseKind::Unknown),
    ] {
        let frame = only(name);
        assert_eq!(response_kind(&head(&frame), &frame.bytes), kind, "{name}");
        assert_eq!(reason_of(&head(&frame), &frame.bytes), None, "{name}");
        assert!(!is_readonly(&head(&frame), &frame.bytes), "{name}");
        assert!(name.contains("req") || peek(&head(&frame), &frame.bytes).found().is_none(), "{name}");
    }
}

#[test]
fn a_java_callers_names_and_attachments_are_read_in_either_serialisation() {
    for frame in frames("java-dubbo2-req") {
        let (name, request) = (&frame.name, request(&frame));
        let method = if name.contains("item") { "item" } else { "echo" };
        assert_eq!((request.path, request.version), (&b"Peer$Svc"[..], &b"1.2"[..]), "{name}");
        assert_eq!(
            (request.method, request.generic),
            (method.as_bytes(), name.contains("generic")),
            "{name}"
        );
        let attachments = request.attachments().found().unwrap_or_else(|| panic!("{name}"));
        assert_eq!(attachments.value(b"timeout"), Some(Value::Text(b"1500")), "{name}");
        assert_eq!(attachments.timeout_ms(), Some(1500), "{name}");
        assert_eq!(attachments.application(), Some(&b"caller-app"[..]), "{name}");
        assert_eq!((attachments.tag(), attachments.get(b"none")), (None, None), "{name}");
        assert!(!request.differs_from(&attachments), "{name}");
        let mut service = Vec::new();
        let ends = request.service_name(attachments.group(), &mut service);
        let candidates: Vec<&[u8]> = ends.candidates(&service).collect();
        let names: &[&[u8]] = &[b"Peer$Svc:1.2:blue", b"Peer$Svc:1.2", b"Peer$Svc"];
        assert_eq!(candidates, if request.generic { &names[1..] } else { names }, "{name}");
    }
}

#[test]
fn captured_responses_attachments_are_found_behind_the_value_and_in_no_part_of_it() {
    for name in ["dubbo2-res-echo", "dubbo2-res-plus", "dubbo2-res-user-object", "dubbo2-res-boom"] {
        let frame = only(name);
        let h = head(&frame);
        let all = response_attachments(&h, &frame.bytes).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(all.get(b"dubbo"), Some(&b"2.0.2"[..]), "{name}");
        for cut in 0..frame.bytes.len() {
            assert!(response_attachments(&h, &frame.bytes[..cut]).is_none(), "{name} at {cut}");
        }
    }
    assert!(
        response_attachments(&head(&only("dubbo2-res-nosuch")), &only("dubbo2-res-nosuch").bytes).is_none()
    );
    assert!(response_attachments(&head(&only("dubbo2-req-echo")), &only("dubbo2-req-echo").bytes).is_none());
}
