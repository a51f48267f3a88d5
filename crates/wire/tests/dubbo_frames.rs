//! Frames captured from real Dubbo clients and servers.
mod common;

use common::{Captured, frames};
use raddle_wire::dubbo::{Head, Kind, Limits, Parsed, SERIALIZER_HESSIAN2, STATUS_OK, encode, patch_id};
use raddle_wire::sniff::{Sniff, sniff};

fn head(frame: &Captured) -> Head {
    match Head::parse(&frame.bytes, &Limits::default()) {
        Ok(Parsed::Head(head)) => head,
        other => panic!("{}: {other:?}", frame.name),
    }
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
        assert_eq!(head.serializer, SERIALIZER_HESSIAN2, "{name}");
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
