//! The promises of telling the app who calls, for any frame whatever.
use raddle_wire::bolt;
use raddle_wire::caller::{Caller, is_reserved};
use raddle_wire::dubbo::{self, Attachments, MAGIC, Peek, Value};

const LIMITS: bolt::Limits = bolt::Limits { max_frame: 1 << 20, max_header: 1 << 12 };
const PAY: Caller<'_> = Caller { app: "pay", id: "spiffe://mesh.local/unit/u1/app/pay" };

/// The map written is the one read without reserved pairs and with the caller's; all else stays as it was, the checksum
/// as right or wrong as it was, whether the frame is whole or its content is still to come.
pub(crate) fn bolt_rewrite(data: &[u8]) {
    let Ok(bolt::Parsed::Head(head)) = bolt::Head::parse(data, &LIMITS) else { return };
    let frame = &data[..data.len().min(head.frame_len())];
    for caller in [None, Some(&PAY)] {
        let mut out = b"before".to_vec();
        let told = bolt::tell(&mut out, &head, frame, LIMITS, caller);
        let written = &out.split_off(6)[..];
        if frame.len() < head.head_len() {
            assert_eq!((written, told.head, told.added), (frame, head, false));
            continue;
        }
        bolt_told(&head, frame, &told, written, caller);
        let mut again = Vec::new();
        let twice = bolt::tell(&mut again, &told.head, written, LIMITS, None);
        assert!(twice.head.headers(&again).iter().all(|(key, _)| !key.is_some_and(is_reserved)));
        if told.added && frame.len() == head.frame_len() {
            let mut same = Vec::new();
            bolt::tell(&mut same, &twice.head, &again, LIMITS, caller);
            assert_eq!(same, written);
        }
    }
}

fn bolt_told(
    head: &bolt::Head,
    frame: &[u8],
    told: &bolt::Told,
    written: &[u8],
    caller: Option<&Caller<'_>>,
) {
    assert_eq!(bolt::Head::parse(written, &LIMITS), Ok(bolt::Parsed::Head(told.head)));
    assert_eq!(bolt::Head { header_len: head.header_len, ..told.head }, *head);
    assert_eq!(told.head.class(written), head.class(frame));
    assert_eq!(told.head.content(written), head.content(frame));
    let (map, new) = (head.headers(frame), told.head.headers(written));
    assert_eq!(map.is_well_formed(), new.is_well_formed());
    let mut pairs: Vec<_> = map.iter().filter(|(key, _)| !key.is_some_and(is_reserved)).collect();
    if pairs.len() == map.iter().count() && !told.added {
        assert_eq!(written, frame);
    }
    if told.added {
        let caller = caller.expect("one that was given");
        pairs.push((Some(&b"x-raddle-caller"[..]), Some(caller.app.as_bytes())));
        pairs.push((Some(&b"x-raddle-caller-id"[..]), Some(caller.id.as_bytes())));
    } else {
        let full = usize::from(head.header_len) > LIMITS.max_header as usize - 200;
        assert!(caller.is_none() || full || !map.is_well_formed() || head.frame_len() > (1 << 20) - 200);
    }
    assert_eq!(new.iter().collect::<Vec<_>>(), pairs);
    if head.variant.crc() {
        // Zeros for what is still to come.
        let (mut was, mut is) = (frame.to_vec(), written.to_vec());
        was.resize(head.frame_len(), 0);
        is.resize(told.head.frame_len(), 0);
        let wrong = |frame: &[u8]| {
            let (body, sum) = frame.split_last_chunk::<4>().expect("it has a checksum");
            crc32fast::hash(body) ^ u32::from_be_bytes(*sum)
        };
        assert_eq!(wrong(&was), wrong(&is) ^ told.crc_mask);
        assert!(told.crc_mask == 0 || frame.len() < head.frame_len());
    }
}

/// The attachments written are the ones read without reserved names and with the caller's; all else stays as it was.
/// What is no frame is taken for the body of one, behind a byte that chooses its serialiser.
pub(crate) fn dubbo_rewrite(data: &[u8]) {
    if !data.starts_with(&MAGIC) {
        let Some((serializer, body)) = data.split_first() else { return };
        let mut frame = Vec::new();
        dubbo::encode::request(&mut frame, 1, [2, 6, 23][usize::from(serializer % 3)], false, body);
        return dubbo_rewrite(&frame);
    }
    let Ok(dubbo::Parsed::Head(head)) = dubbo::Head::parse(data, &LIMITS) else { return };
    let frame = &data[..data.len().min(head.frame_len())];
    let attachments = attachments(&head, frame);
    for caller in [None, Some(&PAY)] {
        let mut out = b"before".to_vec();
        let told = dubbo::tell(&mut out, &head, frame, attachments.as_ref(), LIMITS, caller);
        let written = &out.split_off(6)[..];
        assert!(told.added || told.head.body_len <= head.body_len.max(2) + 1);
        assert!(!told.added || caller.is_some());
        if frame.len() < head.frame_len() {
            assert_eq!((written, told.head), (frame, head));
            continue;
        }
        assert_eq!(dubbo::Head::parse(written, &LIMITS), Ok(dubbo::Parsed::Head(told.head)));
        assert_eq!(dubbo::Head { body_len: head.body_len, ..told.head }, head);
        assert_eq!(written.len(), told.head.frame_len());
        if let Some(attachments) = &attachments {
            dubbo_told(&head, frame, attachments, &told, written, caller);
        }
    }
}

fn attachments<'a>(head: &dubbo::Head, frame: &'a [u8]) -> Option<Attachments<'a>> {
    let Peek::Found(request) = dubbo::peek(head, frame) else { return None };
    request.attachments().found()
}

fn dubbo_told(
    head: &dubbo::Head,
    frame: &[u8],
    was: &Attachments<'_>,
    told: &dubbo::Told,
    written: &[u8],
    caller: Option<&Caller<'_>>,
) {
    let json = head.serializer == dubbo::SERIALIZER_FASTJSON;
    let plain = |(key, _): &(&[u8], Value<'_>)| !is_reserved(key) && *key != b"x-raddle-removed";
    let Some(is) = attachments(&told.head, written) else { panic!("attachments are found again") };
    let (mut before, after): (Vec<_>, Vec<_>) =
        (was.iter().filter(plain).collect(), is.iter().filter(|p| p.0 != b"x-raddle-removed").collect());
    if let (Some(caller), true) = (caller, told.added) {
        before.push((b"x-raddle-caller", Value::Text(caller.app.as_bytes())));
        before.push((b"x-raddle-caller-id", Value::Text(caller.id.as_bytes())));
    }
    if json {
        // What some readers could take for something else is left out.
        assert!(after.iter().all(|pair| before.contains(pair)));
        assert!(before.iter().filter(|(_, v)| !matches!(v, Value::Other)).all(|pair| after.contains(pair)));
    } else {
        assert_eq!(after, before);
        if !told.added && was.iter().all(|pair| plain(&pair)) && was.iter().all(|(key, _)| key.is_ascii()) {
            // A key that is not read in one piece may have been a name.
            assert!(written == frame || written.len() < frame.len() + 16);
        }
    }
    assert_eq!(caller.is_some(), told.added);
}
