//! Promises for all Dubbo frames, shown with random ones.
mod checks;

use proptest::collection::vec;
use proptest::prelude::*;
use raddle_core::Reason;
use raddle_wire::dubbo::{
    ATTACHMENTS_MAX, Form, Head, Kind, Limits, MalformedKind, PEEK_MAX, Parsed, Peek, Reply,
    SERIALIZER_FASTJSON, SERIALIZER_HESSIAN2, Value, encode, patch_id, peek, reason_of,
};
use raddle_wire::hessian::v2;

fn parse(frame: &[u8]) -> Head {
    match Head::parse(frame, &Limits::default()) {
        Ok(Parsed::Head(head)) => head,
        other => panic!("{other:?}"),
    }
}

/// A value in Hessian that is no string: what stands between the names and the attachments.
fn argument() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        any::<i32>().prop_map(|n| written(|out| v2::push_int(out, n))),
        ".{0,40}".prop_map(|text| written(|out| v2::push_string(out, &text))),
        any::<i64>().prop_map(|n| [b"L".as_slice(), &n.to_be_bytes()].concat()),
        any::<u64>().prop_map(|n| [b"D".as_slice(), &n.to_be_bytes()].concat()),
        vec(any::<u8>(), 0..300)
            .prop_map(|b| [b"B", &(b.len() as u16).to_be_bytes()[..], b.as_slice()].concat()),
        Just(b"N".to_vec()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8)
                .prop_map(|items| { [&[0x78 + items.len() as u8], items.concat().as_slice()].concat() }),
            vec(inner.clone(), 0..6).prop_map(|items| [b"W".as_slice(), &items.concat(), b"Z"].concat()),
            vec((inner.clone(), inner.clone()), 0..4).prop_map(|pairs| {
                let pairs: Vec<u8> = pairs.into_iter().flat_map(|(k, v)| [k, v].concat()).collect();
                [b"H".as_slice(), &pairs, b"Z"].concat()
            }),
        ]
    })
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

type Texts = Vec<(String, String)>;

fn hessian_body(names: [&str; 5], arguments: &[Vec<u8>], attachments: &Texts) -> Vec<u8> {
    let mut out = Vec::new();
    for name in names {
        v2::push_string(&mut out, name);
    }
    out.extend_from_slice(&arguments.concat());
    out.push(b'H');
    for (key, value) in attachments {
        v2::push_string(&mut out, key);
        v2::push_string(&mut out, value);
    }
    out.push(b'Z');
    out
}

fn request(serializer: u8, body: &[u8]) -> Vec<u8> {
    written(|out| encode::request(out, 1, serializer, false, body))
}

proptest! {
    #[test]
    fn a_dubbo_frame_says_what_it_was_made_of(
        id: u64, new: u64, serializer in 0u8..32, status: u8, oneway: bool, body in vec(any::<u8>(), 0..300),
    ) {
        let mut out = vec![0xAA; 3];
        encode::request(&mut out, id, serializer, oneway, &body);
        let frame = &mut out[3..];
        let head = parse(frame);
        prop_assert_eq!(head.kind, if oneway { Kind::OneWay } else { Kind::Request });
        prop_assert_eq!((head.id, head.serializer, head.event), (id, serializer, false));
        prop_assert_eq!((head.frame_len(), head.body(frame)), (frame.len(), &body[..]));
        patch_id(frame, new);
        prop_assert_eq!(parse(frame), Head { id: new, ..head });
        let mut out = Vec::new();
        encode::response(&mut out, id, serializer, status, &body);
        let head = parse(&out);
        prop_assert_eq!((head.kind, head.id, head.status), (Kind::Response, id, status));
        prop_assert_eq!(head.body(&out), &body[..]);
    }

    #[test]
    fn names_and_attachments_are_read_back_behind_any_arguments(
        path in "[a-z.]{0,80}", version in "[0-9.]{0,6}", method in "[a-zA-Z]{1,70}", group in "[a-z]{0,9}",
        arguments in vec(argument(), 0..5), mut attachments in vec((".{0,20}", ".{0,80}"), 0..6),
    ) {
        attachments.push(("group".to_owned(), group.clone()));
        let types = "Ljava/lang/Object;".repeat(arguments.len());
        let body = hessian_body(["2.0.2", &path, &version, &method, &types], &arguments, &attachments);
        let frame = request(SERIALIZER_HESSIAN2, &body);
        let read = peek(&parse(&frame), &frame).found().unwrap();
        prop_assert_eq!(read.path, path.as_bytes());
        prop_assert_eq!((read.version, read.method), (version.as_bytes(), method.as_bytes()));
        prop_assert_eq!(read.arguments(), Some(arguments.len()));
        let found = read.attachments().found().unwrap();
        prop_assert_eq!(found.iter().count(), attachments.len());
        prop_assert_eq!(found.group(), group.as_bytes());
        for cut in (0..frame.len()).step_by(7) {
            checks::dubbo_peek(&frame[..cut]);
        }
    }

    #[test]
    fn a_replys_reason_and_rule_are_known_again(
        reason in prop::sample::select(Reason::ALL.to_vec()), rule in "[ -~]{1,60}", detail in ".{0,300}",
        serializer in 0u8..32, exception: bool,
    ) {
        prop_assume!(!rule.contains("(rule ") && !rule.contains(['"', '\\']));
        let form = if exception { Form::Exception } else { Form::Status };
        let mut out = Vec::new();
        let head = parse(&request(serializer, b""));
        encode::reply(&mut out, &head, &Reply { reason, rule: Some(&rule), detail: &detail, form });
        prop_assert_eq!(reason_of(&parse(&out), &out), Some((reason, Some(&rule[..]))));
    }

    #[test]
    fn no_bytes_behind_a_plausible_dubbo_head_break_a_promise(
        flag: u8, tail in vec(any::<u8>(), 0..200), short in 0u32..100,
    ) {
        let mut bytes = vec![flag, 0xDA, 0xBB, flag, 20, 1, 2, 3, 4, 5, 6, 7, 8];
        bytes.extend_from_slice(&(tail.len() as u32).saturating_sub(short).to_be_bytes());
        bytes.extend_from_slice(&tail);
        for (_, check) in checks::ALL {
            check(&bytes);
            check(&bytes[1..]);
        }
    }
}

#[test]
fn a_dubbo_frame_over_the_limit_is_refused_by_name() {
    let mut out = request(SERIALIZER_HESSIAN2, &[0; 84]);
    let refused =
        |out: &[u8], max_frame| Head::parse(out, &Limits { max_frame, max_header: 0 }).map_err(|m| m.reason);
    assert!(refused(&out, 100).is_ok());
    assert_eq!(refused(&out, 99), Err(MalformedKind::FrameTooLarge));
    out[12..16].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(refused(&out, u32::MAX), Err(MalformedKind::FrameTooLarge));
}

#[test]
fn what_is_no_dubbo_frame_is_refused_at_the_byte_that_tells() {
    for bytes in [&b"\x16"[..], b"\xDA\xBC", b"\xDA\xBC0123456789abcdef", b"GET / HTTP/1.1\r\n\r\n"] {
        let malformed = Head::parse(bytes, &Limits::default()).unwrap_err();
        assert_eq!(malformed.reason.name(), "unknown_protocol");
        assert!(!malformed.to_string().is_empty());
    }
    assert_eq!(Head::parse(b"", &Limits::default()), Ok(Parsed::Incomplete));
    assert_eq!(Head::parse(b"\xDA", &Limits::default()), Ok(Parsed::Incomplete));
}

#[test]
fn what_lies_beyond_the_windows_is_unknown_and_not_waited_for() {
    let names = ["2.0.2", "a.B", "1.0", "m", "[B"];
    // 65535 bytes in one piece: the attachments begin beyond the window.
    let big = [b"B\xFF\xFF".as_slice(), &vec![0; 0xFFFF]].concat();
    let frame = request(SERIALIZER_HESSIAN2, &hessian_body(names, &[big], &vec![]));
    let head = parse(&frame);
    let read = peek(&head, &frame).found().unwrap();
    assert!(matches!(read.attachments(), Peek::Unknown));
    let window = &frame[..Head::LEN + ATTACHMENTS_MAX];
    assert!(matches!(peek(&head, window).found().unwrap().attachments(), Peek::Unknown));
    let part = &window[..window.len() - 1];
    assert!(matches!(peek(&head, part).found().unwrap().attachments(), Peek::NeedMore));

    let path = "p".repeat(PEEK_MAX);
    let frame = request(SERIALIZER_HESSIAN2, &hessian_body(["2.0.2", &path, "", "m", ""], &[], &vec![]));
    let head = parse(&frame);
    assert!(matches!(peek(&head, &frame[..Head::LEN + PEEK_MAX - 1]), Peek::NeedMore));
    assert!(matches!(peek(&head, &frame[..Head::LEN + PEEK_MAX]), Peek::Unknown));
    assert!(matches!(peek(&head, &frame), Peek::Unknown));
}

#[test]
fn a_generic_call_names_the_method_it_is_meant_for() {
    let types = "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;";
    let arguments = [b"\x03pay".to_vec(), b"\x78".to_vec(), b"\x78".to_vec()];
    let body = hessian_body(["2.0.2", "a.B", "", "$invokeAsync", types], &arguments, &vec![]);
    let frame = request(SERIALIZER_HESSIAN2, &body);
    let head = parse(&frame);
    let read = peek(&head, &frame).found().unwrap();
    assert_eq!((read.method, read.generic), (&b"pay"[..], true));
    let at = frame.windows(4).position(|w| w == b"\x03pay").unwrap();
    assert!(matches!(peek(&head, &frame[..at + 3]), Peek::NeedMore));
    // A method of that name that is none.
    let frame =
        request(SERIALIZER_HESSIAN2, &hessian_body(["", "a.B", "", "$invoke", "I"], &[vec![0x91]], &vec![]));
    assert_eq!(peek(&parse(&frame), &frame).found().unwrap().method, b"$invoke");
}

#[test]
fn fastjson_is_read_line_by_line() {
    let body = b"\"2.0.2\"\r\n\"a.B\"\n null\n\"$invoke\"\n\"Ljava/lang/String;I\"\n\"pay\"\n[1,\n";
    let frame = request(SERIALIZER_FASTJSON, body);
    assert!(matches!(peek(&parse(&frame), &frame), Peek::Unknown), "a blank before a null");
    let body = b"\"2.0.2\"\r\n\"a.B\"\nnull\n\"$invoke\"\n\"Ljava/lang/String;I\"\n\"pay\"\n[1,{\"a\":2}]\n\
        {\"path\":\"a.B\",\"version\":\"2\",\"timeout\":700,\"group\":\"g\"}\n";
    let frame = request(SERIALIZER_FASTJSON, body);
    let read = peek(&parse(&frame), &frame).found().unwrap();
    assert_eq!(
        (read.path, read.version, read.method, read.generic),
        (&b"a.B"[..], &b""[..], &b"pay"[..], true)
    );
    let attachments = read.attachments().found().unwrap();
    assert_eq!((attachments.timeout_ms(), attachments.group()), (Some(700), &b"g"[..]));
    assert_eq!(attachments.value(b"version"), Some(Value::Text(b"2")));
    assert!(read.differs_from(&attachments), "the version");
}

#[test]
fn a_services_name_leaves_out_what_it_has_not() {
    let name = |version: &str, group: &str| {
        let body = hessian_body(["2.0.2", "a.B", version, "m", ""], &[], &vec![]);
        let frame = request(SERIALIZER_HESSIAN2, &body);
        let mut name = Vec::new();
        let ends = peek(&parse(&frame), &frame).found().unwrap().service_name(group.as_bytes(), &mut name);
        let name = String::from_utf8(name).unwrap();
        let candidates: Vec<_> =
            ends.candidates(name.as_bytes()).map(|n| std::str::from_utf8(n).unwrap().to_owned()).collect();
        candidates.join(" ")
    };
    assert_eq!(name("1.0", "g"), "a.B:1.0:g a.B:1.0 a.B");
    assert_eq!(name("1.0", ""), "a.B:1.0 a.B");
    assert_eq!(name("0.0.0", ""), "a.B");
    assert_eq!(name("", ""), "a.B");
    assert_eq!(name("", "g"), "a.B::g a.B");
}
