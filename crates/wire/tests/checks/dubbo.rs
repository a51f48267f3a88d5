//! The promises of `dubbo` and of what it reads bodies with.
use raddle_core::Reason;
use raddle_wire::dubbo::{
    Form, Head, Kind, Limits, MAGIC, Malformed, Parsed, Peek, Reply, Value, encode, is_readonly, patch_id,
    peek, reason_of, response_attachments, response_kind,
};
use raddle_wire::hessian::{Stop, v2};

fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    Head::parse(bytes, &Limits::default())
}

/// A head parses alike from its fixed part and from more, never from less, and is within the limits.
pub(crate) fn dubbo_head(data: &[u8]) {
    let limits = Limits { max_frame: 1 << 20, max_header: 0 };
    let Ok(Parsed::Head(head)) = Head::parse(data, &limits) else { return };
    assert!(head.frame_len() <= 1 << 20 && head.id_offset() + 8 <= head.head_len());
    let fixed = &data[..head.head_len()];
    assert_eq!(Head::parse(fixed, &limits), Ok(Parsed::Head(head)));
    for cut in 0..fixed.len() {
        assert_eq!(Head::parse(&fixed[..cut], &limits), Ok(Parsed::Incomplete));
    }
    let mut again = Vec::new();
    encode::fixed(&mut again, &head);
    assert_eq!(Head::parse(&again, &limits), Ok(Parsed::Head(head)));
    if head.kind == Kind::Response {
        again[2] |= fixed[2] & 0x40; // the one bit that is not kept
    }
    assert_eq!(again, fixed);
    patch_id(&mut again, !head.id);
    assert_eq!(Head::parse(&again, &limits), Ok(Parsed::Head(Head { id: !head.id, ..head })));
    let mut ack = Vec::new();
    encode::heartbeat_ack(&mut ack, &head, data);
    let Ok(Parsed::Head(acked)) = parse(&ack) else { panic!("an acknowledgement parses") };
    assert!(acked.frame_len() == ack.len() && ack.len() <= 48 && acked.id == head.id);
    assert!(acked.event && acked.kind == Kind::Response);
}

/// What a peek found, as far as it can be compared: names, attachments.
type Facts = (Option<(Vec<Vec<u8>>, bool)>, Option<Vec<(Vec<u8>, String)>>);

/// `None` stands for more being needed: of names, of attachments.
fn facts(head: &Head, frame: &[u8]) -> (Option<Facts>, bool) {
    let request = match peek(head, frame) {
        Peek::NeedMore => return (None, false),
        Peek::Unknown => return (Some((None, None)), true),
        Peek::Found(request) => request,
    };
    let names = [request.dubbo_version, request.path, request.version, request.method, request.descriptor];
    let names = Some((names.map(<[u8]>::to_vec).to_vec(), request.generic));
    let attachments = match request.attachments() {
        Peek::NeedMore => return (Some((names, None)), false),
        Peek::Unknown => return (Some((names, None)), true),
        Peek::Found(attachments) => attachments,
    };
    let pairs: Vec<(&[u8], Value<'_>)> = attachments.iter().collect();
    for (key, _) in pairs.iter().take(8) {
        let last = pairs.iter().rfind(|(k, _)| k == key);
        assert_eq!(attachments.value(key), last.map(|(_, value)| *value));
    }
    let mut name = b"before".to_vec();
    let ends = request.service_name(attachments.group(), &mut name);
    let name = name.split_off(6);
    assert_eq!((ends.full, &name[..ends.interface]), (name.len(), request.path));
    let candidates: Vec<&[u8]> = ends.candidates(&name).collect();
    assert!(candidates.windows(2).all(|w| w[0].len() > w[1].len()));
    let _ = (request.differs_from(&attachments), attachments.timeout_ms(), attachments.application());
    let pairs = pairs.iter().map(|(key, value)| (key.to_vec(), format!("{value:?}"))).collect();
    (Some((names, Some(pairs))), true)
}

/// A whole frame needs no more bytes, and a cut one never says another thing than the whole one. What is no
/// frame is taken for the body of one, behind a byte that chooses its serialiser.
pub(crate) fn dubbo_peek(data: &[u8]) {
    if !data.starts_with(&MAGIC) {
        let Some((serializer, body)) = data.split_first() else { return };
        let mut frame = Vec::new();
        encode::request(&mut frame, 1, [2, 6, 23][usize::from(serializer % 3)], false, body);
        return dubbo_peek(&frame);
    }
    let Ok(Parsed::Head(head)) = parse(data) else { return };
    let (whole, settled) = facts(&head, data);
    assert!(settled || data.len() < head.frame_len());
    for cut in [data.len() / 4, data.len() / 2, data.len().saturating_sub(9), data.len().saturating_sub(1)] {
        let (part, part_settled) = facts(&head, &data[..cut]);
        if part_settled {
            assert_eq!(part, whole);
        } else if let (Some((names, _)), Some((all, _))) = (part, &whole) {
            assert_eq!(names, *all);
        }
    }
}

/// A reply to whatever head is a frame of bounded size that says the reason, however it is told.
pub(crate) fn dubbo_reply(data: &[u8]) {
    if let Ok(Parsed::Head(head)) = parse(data) {
        let _ = (response_kind(&head, data), is_readonly(&head, data), reason_of(&head, data));
        let _ = response_attachments(&head, data).map(|all| all.iter().count());
    }
    let Some(([reason, form, flag, split], text)) = data.split_first_chunk::<4>() else { return };
    let mut request = Vec::new();
    encode::request(&mut request, 7, flag & 0x1F, false, b"");
    let Ok(Parsed::Head(request)) = parse(&request) else { panic!("an encoded frame parses") };
    let text = String::from_utf8_lossy(text);
    let (rule, detail) = text.split_at(text.floor_char_boundary(usize::from(*split)));
    let rule = (!rule.is_empty()).then_some(rule);
    let form = if form & 1 == 0 { Form::Status } else { Form::Exception };
    let reply = Reply { reason: Reason::ALL[usize::from(*reason) % Reason::ALL.len()], rule, detail, form };
    let mut out = Vec::new();
    encode::reply(&mut out, &request, &reply);
    let Ok(Parsed::Head(head)) = parse(&out) else { panic!("a reply parses") };
    assert_eq!((head.frame_len(), head.id, head.kind), (out.len(), 7, Kind::Response));
    assert!(out.len() < 16 << 10);
    let Some((read, named)) = reason_of(&head, &out) else { panic!("a reply is known again") };
    assert_eq!(read, reply.reason);
    if text.len() < 2048 && text.chars().all(|c| c.is_ascii_alphanumeric()) {
        assert_eq!(named, rule);
    }
}

/// However a stream is cut into reads, the same frames come out of it.
pub(crate) fn dubbo_stream(data: &[u8]) {
    let Some((seed, stream)) = data.split_first() else { return };
    let whole = feed(stream, std::iter::once(stream.len()));
    let mut state = u32::from(*seed) + 1;
    let sizes = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        1 + (state >> 16) as usize % 40
    });
    assert_eq!(whole, feed(stream, sizes));
}

type Heads = (Vec<Head>, Option<Malformed>);

fn feed(mut stream: &[u8], sizes: impl Iterator<Item = usize>) -> Heads {
    let (mut buf, mut heads) = (Vec::new(), Vec::new());
    for size in sizes {
        let (read, rest) = stream.split_at(size.min(stream.len()));
        buf.extend_from_slice(read);
        stream = rest;
        loop {
            match parse(&buf) {
                Err(malformed) => return (heads, Some(malformed)),
                Ok(Parsed::Head(head)) if head.frame_len() <= buf.len() => {
                    heads.push(head);
                    buf.drain(..head.frame_len());
                }
                Ok(_) => break,
            }
        }
        if stream.is_empty() {
            break;
        }
    }
    (heads, None)
}

/// Values are stepped over alike whether the bytes go on behind them or not, and cut ones are known as cut.
pub(crate) fn hessian_walk(data: &[u8]) {
    let mut walker = v2::Walker::new(data);
    let mut values = 0;
    let stop = loop {
        let before = walker.rest().len();
        match walker.value() {
            Ok(_) => values += 1,
            Err(stop) => break stop,
        }
        assert!(walker.rest().len() < before, "every value takes a byte");
    };
    for cut in [data.len() / 3, data.len() / 2, data.len().saturating_sub(1)] {
        let mut part = v2::Walker::new(&data[..cut]);
        let mut seen = 0;
        let ended = loop {
            match part.value() {
                Ok(_) => seen += 1,
                Err(ended) => break ended,
            }
        };
        assert!(seen <= values);
        assert!(ended == Stop::Cut || (seen, ended) == (values, stop), "{ended:?} then {stop:?}");
    }
}
