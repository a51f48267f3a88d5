//! Bolt's header maps and Dubbo's attachments.
use crate::callee::{Callee, Got, Pairs, ask, shop};
use raddle_testkit::frame::noise;
use raddle_testkit::{Ask, BoltServer, DubboAsk, DubboServer, Variant};
use raddle_wire::dubbo::{Head, Limits, Parsed, Peek, Value, peek};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An app that speaks Bolt, what it got, and how many frames came whole and with the right checksum.
fn bolt_app() -> (BoltServer, Got, Arc<AtomicUsize>) {
    let (got, right) = (Got::default(), Arc::new(AtomicUsize::new(0)));
    let (keep, count) = (got.clone(), right.clone());
    let server = BoltServer::start(move |call| {
        let frame = &call.frame;
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let headers = frame.head.headers(&frame.bytes);
        assert!(headers.is_well_formed());
        count.fetch_add(usize::from(frame.crc_is_right()), Ordering::SeqCst);
        keep.push(headers.iter().map(|(k, v)| (text(k), text(v))).collect());
        call.echo();
    });
    (server, got, right)
}

fn bolt_ask(variant: Variant) -> Ask {
    Ask::to("com.test.Pay:1.0")
        .variant(variant)
        .header("x-raddle-caller", "bank")
        .header("trace", "1")
        .header("X-Raddle-Caller-Id", "spiffe://mesh.local/unit/u1/app/bank")
}

#[test]
fn a_bolt_app_is_told_who_calls_in_every_framing_and_never_by_the_caller() {
    let (app, got, right) = bolt_app();
    let callee = Callee::of(app.addr);
    for variant in Variant::ALL {
        let bytes = bolt_ask(variant).bytes();
        ask(callee.tls(&[]), &bytes, b"hello");
        assert_eq!(got.reserved(), shop(), "{variant:?}");
        ask(callee.plain(), &bytes, b"hello");
        assert_eq!(got.reserved(), [], "{variant:?}");
    }
    assert_eq!(right.load(Ordering::SeqCst), 8);
    assert_eq!(callee.sidecar.admin.metric("raddle_link_identity_skipped_total", &[]), 0);
}

#[test]
fn a_bolt_frame_too_large_to_be_held_says_who_calls_and_its_checksum_stays_right() {
    let (app, got, right) = bolt_app();
    let callee = Callee::of(app.addr);
    for variant in [Variant::V1, Variant::V2Crc] {
        let content = noise(7, 300 << 10);
        let bytes = bolt_ask(variant).content(content.clone()).bytes();
        ask(callee.tls(&[]), &bytes, &content[content.len() - 8..]);
        assert_eq!(got.reserved(), shop(), "{variant:?}");
        ask(callee.plain(), &bytes, &content[content.len() - 8..]);
        assert_eq!(got.reserved(), [], "{variant:?}");
    }
    assert_eq!(right.load(Ordering::SeqCst), 4);
}

#[test]
fn a_bolt_app_that_is_not_to_be_told_is_not_and_hears_nobody_else_either() {
    let (app, got, _) = bolt_app();
    let callee = Callee::with(app.addr, ", callerIdentity: none");
    ask(callee.tls(&[]), &bolt_ask(Variant::V1).bytes(), b"hello");
    assert_eq!(got.reserved(), []);
    assert_eq!(callee.sidecar.admin.metric("raddle_link_identity_skipped_total", &[]), 0);
}

#[test]
fn a_bolt_header_map_without_room_goes_without_and_is_counted() {
    let (app, got, _) = bolt_app();
    let callee = Callee::of(app.addr);
    let full = "v".repeat(32_700);
    ask(callee.tls(&[]), &Ask::to("com.test.Pay:1.0").header("long", &full).bytes(), b"hello");
    assert_eq!(got.reserved(), []);
    callee.sidecar.admin.until_metric("raddle_link_identity_skipped_total", &[], |n| n == 1);
}

fn attachments(frame: &[u8]) -> Pairs {
    let Ok(Parsed::Head(head)) = Head::parse(frame, &Limits::default()) else { panic!("a frame") };
    let Peek::Found(request) = peek(&head, frame) else { return Vec::new() };
    let Peek::Found(attachments) = request.attachments() else { return Vec::new() };
    let pairs = attachments.iter().map(|(key, value)| match value {
        Value::Text(value) => (text(key), text(value)),
        other => (text(key), format!("{other:?}")),
    });
    pairs.collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn dubbo_app() -> (DubboServer, Got) {
    let got = Got::default();
    let keep = got.clone();
    let server = DubboServer::start(move |call| {
        keep.push(attachments(&call.frame.bytes));
        call.echo();
    });
    (server, got)
}

#[test]
fn a_dubbo_app_is_told_who_calls_and_never_by_the_caller() {
    let (app, got) = dubbo_app();
    let callee = Callee::of(app.addr);
    let asked = DubboAsk::to("com.test.Pay:1.0");
    ask(callee.tls(&[]), &asked.bytes(), b"hello");
    assert_eq!(got.reserved(), shop());
    let spoofed = asked.attachment("x-raddle-caller", "bank").attachment("z", "1");
    ask(callee.tls(&[]), &spoofed.bytes(), b"hello");
    assert_eq!(got.reserved(), shop());
    ask(callee.plain(), &spoofed.bytes(), b"hello");
    assert_eq!(got.reserved(), []);
    assert_eq!(callee.sidecar.admin.metric("raddle_link_identity_skipped_total", &[]), 0);
}

#[test]
fn a_dubbo_frame_too_large_to_be_held_passes_as_it_is_and_is_counted() {
    let (app, got) = dubbo_app();
    let callee = Callee::of(app.addr);
    let content = noise(7, 300 << 10);
    let large = DubboAsk::to("com.test.Pay:1.0").content(content.clone());
    ask(callee.tls(&[]), &large.bytes(), &content[content.len() - 8..]);
    assert_eq!(got.reserved(), []);
    callee.sidecar.admin.until_metric("raddle_link_identity_skipped_total", &[], |n| n == 1);
}
