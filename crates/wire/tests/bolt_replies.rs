//! The sidecar's own replies. What real clients show of them is written in `bolt::Form`.
use raddle_core::Reason;
use raddle_wire::bolt::{
    CLASS_REQUEST, CODEC_PROTOBUF, Form, HEADER_REASON, HEADER_RULE, Head, Kind, Limits, Parsed, Reply,
    Variant, encode,
};
use raddle_wire::hessian::{Peek, draft};

fn parse(frame: &[u8]) -> Head {
    match Head::parse(frame, &Limits::default()) {
        Ok(Parsed::Head(head)) => head,
        other => panic!("{other:?}"),
    }
}

fn answer(variant: Variant, reply: &Reply<'_>) -> (Head, Vec<u8>) {
    let mut request = Vec::new();
    encode::request(&mut request, variant, 77, CODEC_PROTOBUF, 3000, false, CLASS_REQUEST, &[], b"x");
    let mut out = Vec::new();
    encode::reply(&mut out, &parse(&request), reply);
    let head = parse(&out);
    assert_eq!(head.frame_len(), out.len());
    if variant.crc() {
        let (body, crc) = out.split_last_chunk::<4>().unwrap();
        assert_eq!(crc32fast::hash(body).to_be_bytes(), *crc);
    }
    (head, out)
}

#[test]
fn every_reply_keeps_the_requests_id_and_variant_and_says_why() {
    for variant in Variant::ALL {
        for reason in Reason::ALL {
            for form in [Form::Status, Form::ServerException, Form::SofaException] {
                let reply = Reply { reason, rule: Some("pay-qps"), detail: "10/s", form };
                let (head, frame) = answer(variant, &reply);
                assert_eq!((head.variant, head.id, head.kind), (variant, 77, Kind::Response));
                let headers = head.headers(&frame);
                assert!(headers.is_well_formed());
                assert_eq!(headers.get(HEADER_REASON), Some(reason.flag().as_bytes()));
                assert_eq!(headers.get(HEADER_RULE), Some(&b"pay-qps"[..]));
                let status = match form {
                    Form::Status => reason.bolt_status(),
                    Form::ServerException => 2,
                    Form::SofaException => 0,
                };
                assert_eq!(head.status, status);
                let message = reply.message();
                let content = head.content(&frame);
                assert!(content.windows(message.len()).any(|w| w == message.as_bytes()), "{message}");
            }
        }
    }
}

#[test]
fn a_failed_replys_content_is_an_exception_with_the_message() {
    let reply = Reply { rule: Some("r1"), ..Reply::new(Reason::RateLimited, "10/s") };
    let (head, frame) = answer(Variant::V1, &reply);
    let message = draft::string_field(head.content(&frame), b"detailMessage");
    assert_eq!(message, Peek::Found(b"raddle RL: a local limit holds the request: 10/s (rule r1)"));
    assert_eq!(head.class(&frame), b"com.alipay.remoting.rpc.exception.RpcServerException");
}

#[test]
fn without_a_rule_there_is_no_rule_header() {
    let (head, frame) = answer(Variant::V1, &Reply::new(Reason::NoRoute, ""));
    assert_eq!(head.headers(&frame).get(HEADER_RULE), None);
    assert_eq!(head.headers(&frame).iter().count(), 1);
}

#[test]
fn the_readable_form_follows_the_callers_class() {
    assert_eq!(Form::readable(CLASS_REQUEST), Form::SofaException);
    assert_eq!(Form::readable(b"java.lang.String"), Form::ServerException);
}

#[test]
fn a_huge_detail_makes_a_small_reply() {
    let detail = "中".repeat(1 << 20);
    let (_, frame) = answer(Variant::V2Crc, &Reply::new(Reason::Timeout, &detail));
    assert!(frame.len() < 16 << 10);
}

#[test]
fn a_rule_name_that_does_not_fit_is_left_out_and_the_frame_stays_sound() {
    let rule = "r".repeat(70_000);
    let (head, frame) = answer(Variant::V1, &Reply { rule: Some(&rule), ..Reply::new(Reason::Denied, "") });
    assert!(head.headers(&frame).is_well_formed());
    assert_eq!(head.headers(&frame).get(HEADER_REASON), Some(&b"RBAC"[..]));
}
