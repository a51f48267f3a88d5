//! Promises for all frames, shown with random ones.
mod checks;

use proptest::collection::vec;
use proptest::prelude::*;
use raddle_wire::bolt::{Head, Kind, Limits, MalformedKind, Parsed, Variant, crc_mask, encode, patch_id};

type Pair = (Vec<u8>, Vec<u8>);

fn variants() -> impl Strategy<Value = Variant> {
    prop::sample::select(Variant::ALL.to_vec())
}

fn pairs() -> impl Strategy<Value = Vec<Pair>> {
    vec((vec(any::<u8>(), 0..20), vec(any::<u8>(), 0..60)), 0..8)
}

fn borrowed(pairs: &[Pair]) -> Vec<(&[u8], &[u8])> {
    pairs.iter().map(|(k, v)| (&k[..], &v[..])).collect()
}

fn parse(frame: &[u8]) -> Head {
    match Head::parse(frame, &Limits::default()) {
        Ok(Parsed::Head(head)) => head,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn a_request_says_what_it_was_made_of(
        variant in variants(), id: u32, codec: u8, timeout: i32, oneway: bool,
        class in vec(any::<u8>(), 0..80), pairs in pairs(), content in vec(any::<u8>(), 0..300),
    ) {
        let mut out = vec![0xAA; 3];
        encode::request(&mut out, variant, id, codec, timeout, oneway, &class, &borrowed(&pairs), &content);
        let frame = &out[3..];
        let head = parse(frame);
        prop_assert_eq!(head.kind, if oneway { Kind::OneWay } else { Kind::Request });
        prop_assert_eq!((head.variant, head.id, head.codec, head.timeout_ms), (variant, id, codec, timeout));
        prop_assert_eq!(head.frame_len(), frame.len());
        prop_assert_eq!(head.class(frame), &class[..]);
        prop_assert_eq!(head.content(frame), &content[..]);
        let read: Vec<_> = head.headers(frame).iter().map(|(k, v)| (k.unwrap(), v.unwrap())).collect();
        prop_assert_eq!(read, borrowed(&pairs));
    }

    #[test]
    fn a_response_says_what_it_was_made_of(
        variant in variants(), id: u32, status: u16, pairs in pairs(), content in vec(any::<u8>(), 0..300),
    ) {
        let mut out = Vec::new();
        encode::response(&mut out, variant, id, 1, status, b"C", &borrowed(&pairs), &content);
        let head = parse(&out);
        prop_assert_eq!((head.kind, head.variant, head.id, head.status), (Kind::Response, variant, id, status));
        prop_assert_eq!(head.content(&out), &content[..]);
    }

    #[test]
    fn patching_an_id_equals_encoding_with_it(
        variant in variants(), old: u32, new: u32, pairs in pairs(), content in vec(any::<u8>(), 0..3000),
    ) {
        let (mut patched, mut made) = (Vec::new(), Vec::new());
        encode::request(&mut patched, variant, old, 1, 9, false, b"C", &borrowed(&pairs), &content);
        encode::request(&mut made, variant, new, 1, 9, false, b"C", &borrowed(&pairs), &content);
        let head = parse(&patched);
        patch_id(&mut patched, &head, new);
        prop_assert_eq!(patched, made);
    }

    #[test]
    fn masks_add_up(a: u32, b: u32, c: u32, len in 0usize..(64 << 20)) {
        prop_assert_eq!(crc_mask(a, b, len) ^ crc_mask(b, c, len), crc_mask(a, c, len));
    }

    #[test]
    fn no_bytes_break_a_promise(bytes in vec(any::<u8>(), 0..400)) {
        for (_, check) in checks::ALL {
            check(&bytes);
        }
    }

    #[test]
    fn no_bytes_behind_a_plausible_head_break_a_promise(
        variant in variants(), response: bool, tail in vec(any::<u8>(), 0..200), lengths in any::<[u8; 4]>(),
    ) {
        let kind = if response { Kind::Response } else { Kind::Request };
        let base = parse(&{
            let mut out = Vec::new();
            encode::heartbeat(&mut out, variant, 1, 1, 0, &[]);
            out
        });
        let head = Head {
            kind,
            command: raddle_wire::bolt::Command::Request,
            class_len: u16::from(lengths[0] % 32),
            header_len: u16::from(lengths[1] % 64),
            content_len: u32::from(lengths[2]),
            ..base
        };
        let mut bytes = vec![lengths[3]; 4];
        encode::fixed(&mut bytes, &head);
        bytes.extend_from_slice(&tail);
        for (_, check) in checks::ALL {
            check(&bytes);
            check(&bytes[4..]);
        }
    }
}

#[test]
fn lengths_over_the_limits_are_refused_by_name() {
    let mut out = Vec::new();
    encode::request(&mut out, Variant::V1, 1, 1, 0, false, b"", &[(b"k", &[0; 91])], &[0; 100]);
    assert_eq!(out.len(), 22 + 100 + 100);
    let refused =
        |max_frame, max_header| Head::parse(&out, &Limits { max_frame, max_header }).map_err(|m| m.reason);
    assert!(refused(222, 100).is_ok());
    assert_eq!(refused(221, 100), Err(MalformedKind::FrameTooLarge));
    assert_eq!(refused(222, 99), Err(MalformedKind::HeaderTooLarge));
    out[18..22].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(
        Head::parse(&out, &Limits { max_frame: u32::MAX, max_header: u32::MAX }).map_err(|m| m.reason),
        Err(MalformedKind::FrameTooLarge)
    );
}

#[test]
fn what_is_no_frame_is_refused_at_the_byte_that_tells() {
    let refused = |bytes: &[u8]| Head::parse(bytes, &Limits::default()).unwrap_err();
    for (bytes, name) in [
        (&[0x16][..], "unknown_protocol"),
        (&[2, 3], "unknown_version"),
        (&[1, 9], "unknown_type"),
        (&[2, 1, 3], "unknown_type"),
    ] {
        assert_eq!(refused(bytes).reason.name(), name);
        assert!(!refused(bytes).to_string().is_empty());
    }
}
