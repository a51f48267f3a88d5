//! Promises kept for any bytes whatever: the fuzz targets and the corpus replay call the same functions.
mod dubbo;
mod http;
mod rewrite;

pub(crate) use dubbo::{dubbo_head, dubbo_peek, dubbo_reply, dubbo_stream, hessian_walk};
pub(crate) use http::{http1_body, http1_messages, http1_request, http1_response};
use raddle_wire::bolt::{
    CODEC_HESSIAN, Head, HeaderMap, Limits, Malformed, Method, Parsed, encode, method, patch_id,
};
use raddle_wire::hessian::{Peek, draft, v2};
use raddle_wire::sniff::{Sniff, sniff};
pub(crate) use rewrite::{bolt_rewrite, dubbo_rewrite};

/// A check of one input.
pub(crate) type Check = fn(&[u8]);

/// Every check, by the name of its fuzz target.
pub(crate) const ALL: [(&str, Check); 18] = [
    ("bolt_head", bolt_head),
    ("bolt_headers", bolt_headers),
    ("bolt_method", bolt_method),
    ("bolt_patch", bolt_patch),
    ("bolt_rewrite", bolt_rewrite),
    ("bolt_stream", bolt_stream),
    ("dubbo_head", dubbo_head),
    ("dubbo_peek", dubbo_peek),
    ("dubbo_reply", dubbo_reply),
    ("dubbo_rewrite", dubbo_rewrite),
    ("dubbo_stream", dubbo_stream),
    ("hessian_peek", hessian_peek),
    ("hessian_walk", hessian_walk),
    ("http1_body", http1_body),
    ("http1_messages", http1_messages),
    ("http1_request", http1_request),
    ("http1_response", http1_response),
    ("sniff", sniffs),
];

fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    Head::parse(bytes, &Limits::default())
}

/// A head parses alike from its fixed part and from more, never from less, and is within the limits.
pub(crate) fn bolt_head(data: &[u8]) {
    let limits = Limits { max_frame: 1 << 20, max_header: 1 << 12 };
    let Ok(Parsed::Head(head)) = Head::parse(data, &limits) else { return };
    assert!(head.frame_len() <= 1 << 20 && head.header_len <= 1 << 12);
    assert!(head.id_offset() + 4 < head.fixed_len() && head.fixed_len() <= head.head_len());
    assert!(head.head_len() <= head.frame_len() && head.fixed_len() <= Head::MAX_FIXED);
    let fixed = &data[..head.fixed_len()];
    assert_eq!(Head::parse(fixed, &limits), Ok(Parsed::Head(head)));
    for cut in 0..fixed.len() {
        assert_eq!(Head::parse(&fixed[..cut], &limits), Ok(Parsed::Incomplete));
    }
    let mut again = Vec::new();
    encode::fixed(&mut again, &head);
    assert_eq!(Head::parse(&again, &limits), Ok(Parsed::Head(head)));
    let _ = (head.class(data), head.content(data), head.headers(data).is_well_formed());
}

/// Looking a key up finds the last value that reading all pairs finds.
pub(crate) fn bolt_headers(data: &[u8]) {
    let map = HeaderMap::new(data);
    let read: usize = map.iter().map(|(k, v)| 8 + k.map_or(0, <[u8]>::len) + v.map_or(0, <[u8]>::len)).sum();
    assert!(read <= data.len());
    assert_eq!(map.is_well_formed(), read == data.len());
    for (key, _) in map.iter().take(16) {
        let Some(key) = key else { continue };
        let last = map.iter().filter(|(k, v)| *k == Some(key) && v.is_some()).last();
        assert_eq!(map.get(key), last.and_then(|(_, v)| v));
    }
}

/// A whole frame needs no more bytes, and a cut one never names another method than the whole one.
pub(crate) fn bolt_method(data: &[u8]) {
    let Ok(Parsed::Head(head)) = parse(data) else { return };
    let whole = method(&head, data);
    if data.len() >= head.frame_len() {
        assert_ne!(whole, Method::NeedMore);
    }
    for cut in [data.len() / 4, data.len() / 2, data.len().saturating_sub(1)] {
        let part = method(&head, &data[..cut]);
        assert!(part == Method::NeedMore || part == whole, "{part:?} then {whole:?}");
    }
}

/// Patching an id equals writing it and computing the CRC anew; a wrong CRC stays as wrong as it was.
pub(crate) fn bolt_patch(data: &[u8]) {
    let Some((new_id, data)) = data.split_first_chunk::<4>() else { return };
    let new_id = u32::from_be_bytes(*new_id);
    let Ok(Parsed::Head(head)) = parse(data) else { return };
    let Some(frame) = data.get(..head.frame_len()) else { return };
    let mut patched = frame.to_vec();
    patch_id(&mut patched, &head, new_id);
    let mut written = frame.to_vec();
    written[head.id_offset()..head.id_offset() + 4].copy_from_slice(&new_id.to_be_bytes());
    if head.variant.crc() {
        let body = frame.len() - 4;
        let wrong_before = crc(&frame[..body]) ^ trailer(frame);
        let wrong_after = crc(&patched[..body]) ^ trailer(&patched);
        assert_eq!(wrong_before, wrong_after);
        written.truncate(body);
        patched.truncate(body);
    }
    assert_eq!(patched, written);
    assert_eq!(parse(&patched), Ok(Parsed::Head(Head { id: new_id, ..head })));
}

fn crc(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

fn trailer(frame: &[u8]) -> u32 {
    let (_, last) = frame.split_last_chunk::<4>().expect("a frame with a CRC is longer than it");
    u32::from_be_bytes(*last)
}

/// However a stream is cut into reads, the same frames come out of it.
pub(crate) fn bolt_stream(data: &[u8]) {
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

/// Bytes that end early are cut, or answer what all of them answer.
pub(crate) fn hessian_peek(data: &[u8]) {
    let whole = draft::request_method(data);
    let strings = v2::strings::<5>(data);
    for cut in [data.len() / 3, data.len() / 2, data.len().saturating_sub(1)] {
        let part = draft::request_method(&data[..cut]);
        assert!(part == Peek::Cut || part == whole, "{part:?} then {whole:?}");
        let part = v2::strings::<5>(&data[..cut]);
        assert!(part == Err(v2::Item::Cut) || part == strings, "{part:?} then {strings:?}");
    }
    if let Peek::Found(name) = whole {
        let mut out = Vec::new();
        encode::request(&mut out, raddle_wire::bolt::Variant::V1, 1, CODEC_HESSIAN, 0, false, b"", &[], data);
        let Ok(Parsed::Head(head)) = parse(&out) else { panic!("an encoded frame parses") };
        let found = method(&head, &out);
        assert!(found == Method::Found(name) || data.len() > raddle_wire::bolt::PEEK_MAX);
    }
}

/// An answer stands when more bytes follow, save Bolt's one; and thirty bytes always have one.
pub(crate) fn sniffs(data: &[u8]) {
    let whole = sniff(data);
    assert!(whole != Sniff::NeedMore || data.len() < 30);
    for cut in 0..data.len().min(32) {
        match sniff(&data[..cut]) {
            Sniff::NeedMore => {}
            Sniff::Bolt => assert!(matches!(whole, Sniff::Bolt | Sniff::Unknown)),
            decided => assert_eq!(decided, whole),
        }
    }
}
