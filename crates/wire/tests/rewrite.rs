//! Telling the app who calls: what gets into a frame, and what does not get past.
mod common;

use proptest::collection::vec;
use proptest::prelude::*;
use raddle_wire::bolt::{self, Limits, Variant};
use raddle_wire::caller::Caller;
use raddle_wire::dubbo::{self, Peek, SERIALIZER_FASTJSON, SERIALIZER_FASTJSON2, SERIALIZER_HESSIAN2, Value};
use raddle_wire::hessian::v2;

const PAY: Caller<'_> = Caller { app: "pay", id: "spiffe://mesh.local/unit/u1/app/pay" };
const LIMITS: Limits = Limits { max_frame: 64 << 20, max_header: 64 << 10 };

fn bolt_head(frame: &[u8]) -> bolt::Head {
    match bolt::Head::parse(frame, &LIMITS) {
        Ok(bolt::Parsed::Head(head)) => head,
        other => panic!("{other:?}"),
    }
}

fn tell_bolt(frame: &[u8], caller: Option<&Caller<'_>>) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    let told = bolt::tell(&mut out, &bolt_head(frame), frame, LIMITS, caller);
    assert_eq!((told.head, told.crc_mask), (bolt_head(&out), 0));
    (out, told.added)
}

fn dubbo_head(frame: &[u8]) -> dubbo::Head {
    match dubbo::Head::parse(frame, &LIMITS) {
        Ok(dubbo::Parsed::Head(head)) => head,
        other => panic!("{other:?}"),
    }
}

fn tell_dubbo(frame: &[u8], caller: Option<&Caller<'_>>) -> (Vec<u8>, bool) {
    let head = dubbo_head(frame);
    let request = dubbo::peek(&head, frame).found();
    let attachments = request.and_then(|r| r.attachments().found());
    let mut out = Vec::new();
    let told = dubbo::tell(&mut out, &head, frame, attachments.as_ref(), LIMITS, caller);
    assert_eq!((told.head, told.head.frame_len()), (dubbo_head(&out), out.len()));
    (out, told.added)
}

/// The attachments of a request, as text.
fn attached(frame: &[u8]) -> Vec<(String, String)> {
    let Peek::Found(request) = dubbo::peek(&dubbo_head(frame), frame) else { panic!("a request") };
    let Peek::Found(attachments) = request.attachments() else { panic!("attachments") };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let pairs = attachments.iter().map(|(key, value)| match value {
        Value::Text(value) => (text(key), text(value)),
        other => (text(key), format!("{other:?}")),
    });
    pairs.collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn told(before: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs(&[before, &[("x-raddle-caller", PAY.app), ("x-raddle-caller-id", PAY.id)]].concat())
}

fn request(serializer: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    dubbo::encode::request(&mut out, 1, serializer, false, body);
    out
}

fn text(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    v2::push_string(&mut out, text);
    out
}

/// A request in Hessian with these parameter types, and all that stands behind them.
fn hessian(types: &str, rest: &[u8]) -> Vec<u8> {
    let names = ["2.0.2", "shop.Orders", "1.0", "get", types].map(text).concat();
    request(SERIALIZER_HESSIAN2, &[&names, rest].concat())
}

fn json(rest: &str) -> Vec<u8> {
    let names = "\"2.0.2\"\n\"shop.Orders\"\n\"1.0\"\n\"get\"\n\"I\"\n7\n";
    request(SERIALIZER_FASTJSON, &[names, rest].concat().into_bytes())
}

#[test]
fn a_real_frame_without_anything_to_change_is_copied_byte_by_byte() {
    for frame in common::frames("req") {
        let same = match frame.bytes[0] {
            0xDA => tell_dubbo(&frame.bytes, None).0,
            _ => tell_bolt(&frame.bytes, None).0,
        };
        assert_eq!(same, frame.bytes, "{}", frame.name);
    }
}

#[test]
fn a_real_frame_says_who_calls_and_is_itself_again_without_it() {
    for frame in common::frames("req") {
        let name = &frame.name;
        if frame.bytes[0] == 0xDA {
            let (written, added) = tell_dubbo(&frame.bytes, Some(&PAY));
            let before = attached(&frame.bytes);
            let before: Vec<_> = before.iter().map(|(k, v)| (&k[..], &v[..])).collect();
            assert!(added, "{name}");
            assert_eq!(attached(&written), told(&before), "{name}");
            assert_eq!(tell_dubbo(&written, None).0, frame.bytes, "{name}");
        } else {
            let (written, added) = tell_bolt(&frame.bytes, Some(&PAY));
            assert!(added, "{name}");
            let headers = bolt_head(&written).headers(&written);
            assert_eq!(headers.get(b"x-raddle-caller"), Some(PAY.app.as_bytes()), "{name}");
            assert_eq!(headers.get(b"x-raddle-caller-id"), Some(PAY.id.as_bytes()), "{name}");
            assert_eq!(tell_bolt(&written, None).0, frame.bytes, "{name}");
        }
    }
}

#[test]
fn a_bolt_header_that_others_wrote_does_not_get_past() {
    let headers: [(&[u8], &[u8]); 4] =
        [(b"X-Raddle-Caller", b"bank"), (b"service", b"s:1.0"), (b"x_raddle_caller_id", b"x"), (b"z", b"")];
    for variant in Variant::ALL {
        let mut frame = Vec::new();
        bolt::encode::request(&mut frame, variant, 7, 1, 3000, false, b"C", &headers, b"content");
        let (written, _) = tell_bolt(&frame, None);
        let mut wanted = Vec::new();
        let kept = [headers[1], headers[3]];
        bolt::encode::request(&mut wanted, variant, 7, 1, 3000, false, b"C", &kept, b"content");
        assert_eq!(written, wanted);
        let told =
            [kept[0], kept[1], (b"x-raddle-caller", b"pay"), (b"x-raddle-caller-id", PAY.id.as_bytes())];
        wanted.clear();
        bolt::encode::request(&mut wanted, variant, 7, 1, 3000, false, b"C", &told, b"content");
        assert_eq!(tell_bolt(&frame, Some(&PAY)), (wanted, true));
    }
}

#[test]
fn a_full_or_garbled_bolt_map_goes_without_and_still_loses_what_others_wrote() {
    let long = vec![b'v'; i16::MAX as usize - 60];
    let headers: [(&[u8], &[u8]); 2] = [(b"x-raddle-caller", b"bank"), (b"long", &long)];
    let mut full = Vec::new();
    bolt::encode::request(&mut full, Variant::V2Crc, 7, 1, 0, false, b"", &headers, b"c");
    let mut wanted = Vec::new();
    bolt::encode::request(&mut wanted, Variant::V2Crc, 7, 1, 0, false, b"", &headers[1..], b"c");
    assert_eq!(tell_bolt(&full, Some(&PAY)), (wanted, false));

    let mut garbled = Vec::new();
    bolt::encode::request(&mut garbled, Variant::V1, 7, 1, 0, false, b"", &headers[..1], b"ab");
    // Two bytes of the content become a map's beginning.
    let at = garbled.len() - 2 - 27 - 6;
    let map = bolt_head(&garbled).header_len + 2;
    garbled[at..at + 2].copy_from_slice(&map.to_be_bytes());
    garbled[at + 2..at + 6].copy_from_slice(&0u32.to_be_bytes());
    let (written, added) = tell_bolt(&garbled, Some(&PAY));
    assert_eq!((added, bolt_head(&written).header_len), (false, 2));
    assert!(written.ends_with(b"ab"));
}

#[test]
fn an_attachment_that_others_wrote_does_not_get_past_however_it_is_encoded() {
    let evil = text("bank");
    let keys: [Vec<u8>; 7] = [
        text("x-raddle-caller"),
        text("X-RADDLE-CALLER-ID"),
        b"S\0\x0Fx-raddle-caller".to_vec(),
        b"\x30\x0Fx_raddle_caller".to_vec(),
        b"R\0\x05x-radR\0\x03dle\x07-caller".to_vec(),
        // an overlong x
        b"\x0F\xC1\xB8-raddle-caller".to_vec(),
        b"\x0F\xE0\x81\xB8-raddle-caller".to_vec(),
    ];
    for key in keys {
        let map = [b"H", &text("a")[..], &text("1"), &key, &evil, &text("b"), &text("2"), b"Z"].concat();
        let frame = hessian("I", &[b"\x91", &map[..]].concat());
        let (written, _) = tell_dubbo(&frame, None);
        assert_eq!(attached(&written), pairs(&[("a", "1"), ("b", "2")]), "{key:02x?}");
        let (written, added) = tell_dubbo(&frame, Some(&PAY));
        assert!(added);
        assert_eq!(attached(&written), told(&[("a", "1"), ("b", "2")]), "{key:02x?}");
    }
}

#[test]
fn a_value_that_others_may_refer_to_keeps_its_number() {
    // An object of a class that is defined here, a list, and a later reference to the object.
    let values = [text("x-raddle-caller"), b"C\x01P\x91\x01x\x60\x91".to_vec()].concat();
    let list = [text("x-raddle-caller-id"), b"\x79\x91".to_vec()].concat();
    let map = [b"H", &values[..], &list, &text("a"), b"Q\x91", &text("b"), b"\x60\x92Z"].concat();
    let frame = hessian("", &map);
    let (written, _) = tell_dubbo(&frame, None);
    let other = "Other";
    let removed = "x-raddle-removed";
    assert_eq!(attached(&written), pairs(&[(removed, other), (removed, other), ("a", other), ("b", other)]));
    assert!(written.ends_with(&map[map.len() - 8..]));
}

#[test]
fn attachments_that_are_no_map_are_replaced() {
    // Java would follow the reference to the argument, a map.
    let argument = [b"H", &text("x-raddle-caller")[..], &text("bank"), b"Z"].concat();
    let frame = hessian("Ljava/util/Map;", &[&argument[..], b"Q\x90"].concat());
    assert_eq!(attached(&tell_dubbo(&frame, None).0), pairs(&[]));
    assert_eq!(attached(&tell_dubbo(&frame, Some(&PAY)).0), told(&[]));
    // A null is no attachments.
    let frame = hessian("", b"N");
    assert_eq!(tell_dubbo(&frame, None).0, frame);
    assert_eq!(attached(&tell_dubbo(&frame, Some(&PAY)).0), told(&[]));
    // A type stays.
    let frame = hessian("", b"M\x01t\x01a\x01bZ");
    let (written, _) = tell_dubbo(&frame, Some(&PAY));
    assert_eq!(attached(&written), told(&[("a", "b")]));
    assert!(written.windows(7).any(|w| w == b"M\x01t\x01a\x01b"));
}

#[test]
fn fastjson_reads_more_than_json_and_still_nothing_gets_past() {
    for (line, kept) in [
        (r#"{"a":"1","b":2}"#, &[("a", "1"), ("b", "Number(2)")][..]),
        (r#"{"x-raddle-caller":"bank","a":"1"}"#, &[("a", "1")]),
        (r#"{"a":"1","X-Raddle-Caller-Id":{"b":[1,2]}}"#, &[("a", "1")]),
        (r#"{"\u0078-raddle-caller":"bank","a":"1"}"#, &[("a", "1")]),
        (r#"{x-raddle-caller:"bank","a":"1"}"#, &[("a", "1")]),
        (r#"{'x-raddle-caller':"bank","a":"1"}"#, &[("a", "1")]),
        (r#"{"a":"1",,"x-raddle-caller":"bank"}"#, &[("a", "1")]),
        (r#"{"a":1/*"*/,"x-raddle-caller":"bank"/*"*/}"#, &[]),
        (r#"{"a":'"',"x-raddle-caller":'"'}"#, &[]),
        (r#"{"a":1 "x-raddle-caller":"bank"}"#, &[]),
        (r#"{"a":{} "x-raddle-caller":"bank"}"#, &[]),
        (r#"{"x-raddle-caller":"bank"}//}"#, &[]),
        (r#"{"o":{"k":["}",",\""]},"a":"1"}"#, &[("o", "Other"), ("a", "1")]),
        (r#"{"a":"x\"y"}"#, &[("a", "Other")]),
        ("{}", &[]),
    ] {
        for end in ["\n", "\r\n", "\r", ""] {
            let frame = json(&[line, end].concat());
            let (written, added) = tell_dubbo(&frame, Some(&PAY));
            assert!(added, "{line}");
            let written = [&written[..], b"\n"].concat();
            let tail = String::from_utf8(written[16..].to_vec()).expect("it is text");
            let tail = tail.lines().nth(6).expect("seven lines").to_owned();
            assert_eq!(attached(&json(&[&tail, "\n"].concat())), told(kept), "{line}");
        }
    }
    // To Java, a carriage return alone ends a line.
    let names = "\"2.0.2\"\n\"shop.Orders\"\n\"1.0\"\n\"get\"\n\"I\"\n";
    let frame = [names, "7\r{\"x-raddle-caller\":\"bank\"}\n{}\n"].concat();
    let (written, _) = tell_dubbo(&request(SERIALIZER_FASTJSON, frame.as_bytes()), None);
    assert_eq!(String::from_utf8_lossy(&written[16..]), [names, "7\r{}\n{}\n"].concat());
}

#[test]
fn fastjson2_says_who_calls() {
    let item = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat();
    let string = |text: &str| [&[0x49 + text.len() as u8], text.as_bytes()].concat();
    let names = ["2.0.2", "shop.Orders", "1.0", "get", ""].map(|name| item(&string(name))).concat();
    let pair = |key: &str, value: &str| [string(key), string(value)].concat();
    let map = [b"\xA6", &pair("x-raddle-caller", "bank")[..], &pair("a", "1"), b"\xA5"].concat();
    let frame = request(SERIALIZER_FASTJSON2, &[&names[..], &item(&map)].concat());
    assert_eq!(attached(&tell_dubbo(&frame, None).0), pairs(&[("a", "1")]));
    assert_eq!(attached(&tell_dubbo(&frame, Some(&PAY)).0), told(&[("a", "1")]));
    let null = request(SERIALIZER_FASTJSON2, &[&names[..], &item(b"\xAF")].concat());
    assert_eq!(attached(&tell_dubbo(&null, Some(&PAY)).0), told(&[]));
    let long = Caller { app: "pay", id: &["spiffe://m/", &"p".repeat(300)].concat() };
    let (written, _) = tell_dubbo(&null, Some(&long));
    assert_eq!(attached(&written)[1].1, long.id);
}

#[test]
fn a_frame_that_is_not_read_passes_as_it_is() {
    let kryo = request(8, b"whatever");
    assert_eq!(tell_dubbo(&kryo, Some(&PAY)), (kryo.clone(), false));
    let without = json("");
    assert_eq!(tell_dubbo(&without, Some(&PAY)), (without.clone(), false));
    let deep = hessian("I", &[&[0x79; 60][..], b"NHZ"].concat());
    assert_eq!(tell_dubbo(&deep, Some(&PAY)), (deep.clone(), false));
    let mut out = Vec::new();
    let whole = hessian("", b"HZ");
    let cut = &whole[..whole.len() - 1];
    let told = dubbo::tell(&mut out, &dubbo_head(&whole), cut, None, LIMITS, Some(&PAY));
    assert_eq!((&out[..], told.added), (cut, false));
}

#[test]
fn names_of_any_length_before_the_attachments_hide_nothing() {
    // Longer than is looked into to route.
    let types = "Ljava/lang/String;".repeat(400);
    let arguments = b"N".repeat(400);
    let map = [b"H", &text("x-raddle-caller")[..], &text("bank"), b"Z"].concat();
    let mut body = ["2.0.2", "shop.Orders", "1.0", "get"].map(text).concat();
    body.push(b'S');
    body.extend_from_slice(&(types.len() as u16).to_be_bytes());
    body.extend_from_slice(types.as_bytes());
    let frame = request(SERIALIZER_HESSIAN2, &[&body[..], &arguments, &map].concat());
    let (written, added) = tell_dubbo(&frame, Some(&PAY));
    assert!(added && !written.windows(4).any(|w| w == b"bank"));
}

proptest! {
    #[test]
    fn any_bolt_frame_keeps_all_but_reserved_headers(
        variant in prop::sample::select(Variant::ALL.to_vec()),
        headers in vec(("[a-z]{0,6}|x-raddle-caller(-id)?", "[ -~]{0,20}"), 0..8),
        content in vec(any::<u8>(), 0..300),
        from: bool,
    ) {
        let borrowed: Vec<(&[u8], &[u8])> =
            headers.iter().map(|(k, v)| (k.as_bytes(), v.as_bytes())).collect();
        let mut frame = Vec::new();
        bolt::encode::request(&mut frame, variant, 1, 1, 0, false, b"Class", &borrowed, &content);
        let mut wanted: Vec<(&[u8], &[u8])> =
            borrowed.iter().filter(|(k, _)| !k.starts_with(b"x-")).copied().collect();
        if from {
            wanted.push((b"x-raddle-caller", PAY.app.as_bytes()));
            wanted.push((b"x-raddle-caller-id", PAY.id.as_bytes()));
        }
        let mut anew = Vec::new();
        bolt::encode::request(&mut anew, variant, 1, 1, 0, false, b"Class", &wanted, &content);
        let (written, added) = tell_bolt(&frame, from.then_some(&PAY));
        prop_assert_eq!(written, anew);
        prop_assert_eq!(added, from);
    }

    #[test]
    fn any_dubbo_request_keeps_all_but_reserved_attachments(
        attachments in vec(("[a-z]{0,6}|x-raddle-caller(-id)?", "[a-z]{0,20}"), 0..8),
        serializer in prop::sample::select(vec![SERIALIZER_HESSIAN2, SERIALIZER_FASTJSON]),
        from: bool,
    ) {
        let frame = if serializer == SERIALIZER_HESSIAN2 {
            let pairs: Vec<u8> =
                attachments.iter().flat_map(|(k, v)| [text(k), text(v)].concat()).collect();
            hessian("I", &[b"\x91H", &pairs[..], b"Z"].concat())
        } else {
            let pairs: Vec<String> =
                attachments.iter().map(|(k, v)| format!("\"{k}\":\"{v}\"")).collect();
            json(&format!("{{{}}}\n", pairs.join(",")))
        };
        let mut wanted: Vec<_> =
            attachments.iter().filter(|(k, _)| !k.starts_with("x-")).cloned().collect();
        if from {
            wanted.extend(told(&[]));
        }
        let (written, added) = tell_dubbo(&frame, from.then_some(&PAY));
        prop_assert_eq!(attached(&written), wanted);
        prop_assert_eq!(added, from);
        if !from && attachments.iter().all(|(k, _)| !k.starts_with("x-")) {
            prop_assert_eq!(written, frame);
        }
    }
}
