//! The sidecar's own replies in Dubbo, and what is made of a body by hand.
use raddle_core::Reason;
use raddle_wire::dubbo::{
    Form, Head, Kind, Limits, Parsed, Reply, ResponseKind, SERIALIZER_FASTJSON, SERIALIZER_FASTJSON2,
    SERIALIZER_HESSIAN2, STATUS_OK, encode, is_readonly, reason_of, response_kind,
};
use raddle_wire::hessian::v2::{Value, Walker};

const SERIALIZERS: [u8; 4] = [SERIALIZER_HESSIAN2, SERIALIZER_FASTJSON, SERIALIZER_FASTJSON2, 8];

fn parse(frame: &[u8]) -> Head {
    match Head::parse(frame, &Limits::default()) {
        Ok(Parsed::Head(head)) => head,
        other => panic!("{other:?}"),
    }
}

fn answer(serializer: u8, reply: &Reply<'_>) -> (Head, Vec<u8>) {
    let mut request = Vec::new();
    encode::request(&mut request, 77, serializer, false, b"x");
    let mut out = Vec::new();
    encode::reply(&mut out, &parse(&request), reply);
    let head = parse(&out);
    assert_eq!(head.frame_len(), out.len());
    (head, out)
}

#[test]
fn every_reply_keeps_the_requests_id_and_says_why_to_people_and_to_sidecars() {
    for serializer in SERIALIZERS {
        for reason in Reason::ALL {
            for form in [Form::Status, Form::Exception] {
                let reply = Reply { reason, rule: Some("pay-qps"), detail: "10/s", form };
                let (head, frame) = answer(serializer, &reply);
                assert_eq!((head.id, head.kind, head.event), (77, Kind::Response, false));
                let exception = form == Form::Exception && serializer == SERIALIZER_HESSIAN2;
                assert_eq!(head.status, if exception { STATUS_OK } else { reason.dubbo_status() });
                let kind = if exception { ResponseKind::Exception } else { ResponseKind::Unknown };
                assert_eq!(response_kind(&head, &frame), kind);
                let message = reply.message();
                assert!(
                    head.body(&frame).windows(message.len()).any(|w| w == message.as_bytes()),
                    "{message}"
                );
                assert_eq!(reason_of(&head, &frame), Some((reason, Some("pay-qps"))), "{message}");
            }
        }
    }
}

#[test]
fn a_failed_replys_body_is_one_string() {
    let reply = Reply { rule: Some("r1"), ..Reply::new(Reason::RateLimited, "10/s") };
    let text = "raddle RL: a local limit holds the request: 10/s (rule r1)";
    for serializer in [SERIALIZER_HESSIAN2, SERIALIZER_FASTJSON2] {
        let (head, frame) = answer(serializer, &reply);
        assert_eq!((head.status, head.serializer), (100, SERIALIZER_HESSIAN2));
        let mut body = Walker::new(head.body(&frame));
        assert_eq!(body.value(), Ok(Value::Text(text.as_bytes())));
        assert!(body.rest().is_empty());
    }
    let (head, frame) = answer(SERIALIZER_FASTJSON, &reply);
    assert_eq!((head.status, head.serializer), (100, SERIALIZER_FASTJSON));
    assert_eq!(head.body(&frame), format!("\"{text}\"\n").as_bytes());
}

#[test]
fn an_exception_is_one_object() {
    let reply = Reply { form: Form::Exception, ..Reply::new(Reason::NoRoute, "") };
    let (head, frame) = answer(SERIALIZER_HESSIAN2, &reply);
    let mut body = Walker::new(head.body(&frame));
    assert_eq!((body.value(), body.value()), (Ok(Value::Number(0)), Ok(Value::Other)));
    assert!(body.rest().is_empty());
    assert_eq!(reason_of(&head, &frame), Some((Reason::NoRoute, None)));
}

#[test]
fn a_reply_cut_short_or_of_others_is_no_sidecars() {
    let reply = Reply { rule: Some("r1"), form: Form::Exception, ..Reply::new(Reason::Denied, "") };
    let (head, frame) = answer(SERIALIZER_HESSIAN2, &reply);
    for cut in 0..frame.len() - 33 {
        assert_eq!(reason_of(&head, &frame[..cut]), None);
    }
    for body in [&b"\x07raddle "[..], b"\x0Eraddle XX: what", b"\x0Ca failure: x", b"N", b""] {
        let mut out = Vec::new();
        encode::response(&mut out, 1, SERIALIZER_HESSIAN2, 80, body);
        assert_eq!(reason_of(&parse(&out), &out), None, "{body:?}");
    }
}

#[test]
fn a_huge_detail_makes_a_small_reply() {
    let detail = "中".repeat(1 << 20);
    for serializer in SERIALIZERS {
        for form in [Form::Status, Form::Exception] {
            let reply = Reply { form, ..Reply::new(Reason::Timeout, &detail) };
            let (head, frame) = answer(serializer, &reply);
            assert!(frame.len() < 16 << 10);
            assert_eq!(reason_of(&head, &frame), Some((Reason::Timeout, None)));
        }
    }
}

#[test]
fn a_readonly_notice_is_known_again_and_asks_for_no_reply() {
    let mut out = Vec::new();
    encode::readonly(&mut out, 9);
    let head = parse(&out);
    assert!(is_readonly(&head, &out) && !head.wants_reply() && !head.is_heartbeat());
    assert_eq!(out, b"\xDA\xBB\xA2\0\0\0\0\0\0\0\0\x09\0\0\0\x02\x01R");
    assert!(!is_readonly(&head, &out[..17]), "cut");
    out.clear();
    encode::heartbeat(&mut out, 9);
    assert!(!is_readonly(&parse(&out), &out));
}

#[test]
fn a_heartbeat_is_acknowledged_in_its_own_serialisation() {
    // fastjson2's null: a length of four bytes and one of JSONB.
    let beat = b"\xDA\xBB\xF7\0\0\0\0\0\0\0\0\x09\0\0\0\x05\0\0\0\x01\xAF";
    let mut ack = Vec::new();
    encode::heartbeat_ack(&mut ack, &parse(beat), beat);
    assert_eq!(ack, b"\xDA\xBB\x37\x14\0\0\0\0\0\0\0\x09\0\0\0\x05\0\0\0\x01\xAF");
    ack.clear();
    encode::heartbeat_ack(&mut ack, &parse(beat), &beat[..17]);
    assert_eq!(ack, b"\xDA\xBB\x22\x14\0\0\0\0\0\0\0\x09\0\0\0\x01N");
}
