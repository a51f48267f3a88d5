//! HTTP/1.1: what is read and written again means the same to any reader, and is never two messages.
use raddle_wire::http::fields::is_hop_by_hop;
use raddle_wire::http::h1::write::{self, Connection};
use raddle_wire::http::h1::{Decoder, Framing, Limits, Malformed, Parsed, Piece, request, response};
use raddle_wire::http::{Fields, Request, Response};

const LIMITS: Limits = Limits { max_head: 1 << 11 };

/// A request's head is found at one place only, and its canonical form reads alike and stays as it is.
pub(crate) fn http1_request(data: &[u8]) {
    let mut r = Request::default();
    let Ok(Parsed::Head(read)) = request(data, &LIMITS, &mut r) else { return };
    assert!(read.used <= data.len() && read.used <= LIMITS.max_head);
    for cut in 0..read.used {
        let short = request(&data[..cut], &LIMITS, &mut Request::default());
        assert!(!matches!(short, Ok(Parsed::Head(_))), "a head in {cut} of {} bytes", read.used);
    }
    let connection = if read.upgrade { Connection::Upgrade } else { Connection::Stays };
    let mut out = Vec::new();
    write::request(&mut out, &r, read.framing, connection);
    strict_head(&out, true);
    let mut again = Request::default();
    let Ok(Parsed::Head(second)) = request(&out, &Limits { max_head: 1 << 14 }, &mut again) else {
        panic!("{:?} became {:?}", text(data), text(&out));
    };
    assert_eq!(second.used, out.len());
    assert_eq!((r.method(), r.authority(), r.target()), (again.method(), again.authority(), again.target()));
    same_framing(read.framing, second.framing);
    assert_eq!(read.upgrade, second.upgrade);
    same_fields(&r.fields, &again.fields);
    let mut third = Vec::new();
    write::request(&mut third, &again, second.framing, connection);
    assert_eq!(text(&out), text(&third));
}

/// The same of a response's head. The first byte chooses the method it answers.
pub(crate) fn http1_response(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else { return };
    let method: &[u8] = [&b"GET"[..], b"HEAD", b"CONNECT"][usize::from(first) % 3];
    let mut r = Response::default();
    let Ok(Parsed::Head(read)) = response(data, &LIMITS, method, &mut r) else { return };
    for cut in 0..read.used {
        let short = response(&data[..cut], &LIMITS, method, &mut Response::default());
        assert!(!matches!(short, Ok(Parsed::Head(_))), "a head in {cut} of {} bytes", read.used);
    }
    let connection = if r.status == 101 { Connection::Upgrade } else { Connection::Stays };
    let mut out = Vec::new();
    write::response(&mut out, &r, read.framing, connection);
    strict_head(&out, false);
    let mut again = Response::default();
    let Ok(Parsed::Head(second)) = response(&out, &Limits { max_head: 1 << 14 }, method, &mut again) else {
        panic!("{:?} became {:?}", text(data), text(&out));
    };
    assert_eq!((second.used, r.status), (out.len(), again.status));
    same_framing(read.framing, second.framing);
    same_fields(&r.fields, &again.fields);
    if r.is_bodiless() || method == b"HEAD" {
        assert!(read.framing.is_empty());
    }
}

/// A chunked body is the same however its bytes are cut, and its canonical form is one body. The first byte
/// is the size of the pieces.
pub(crate) fn http1_body(data: &[u8]) {
    let Some((&step, data)) = data.split_first() else { return };
    let whole = decode(data, data.len().max(1));
    assert_eq!(whole, decode(data, usize::from(step).max(1)));
    let Ok(Some((body, trailers, used))) = whole else { return };
    assert!(body.len() <= used && used <= data.len());
    let mut out = Vec::new();
    for piece in body.chunks(usize::from(step).max(1)) {
        write::chunk(&mut out, piece);
    }
    write::last_chunk(&mut out, Some(&trailers));
    let len = out.len();
    assert_eq!(strict_chunks(&out), Some((body.clone(), len)));
    // What is behind it stays behind it.
    out.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(decode(&out, out.len()), Ok(Some((body, trailers, len))));
}

/// A connection's requests, passed on one by one: another reader finds as many, with the same bodies.
pub(crate) fn http1_messages(data: &[u8]) {
    let (mut at, mut out, mut sent) = (0, Vec::new(), Vec::new());
    let mut r = Request::default();
    while sent.len() < 8 {
        let Ok(Parsed::Head(read)) = request(&data[at..], &LIMITS, &mut r) else { break };
        let rest = &data[at + read.used..];
        let (body, trailers, used) = match read.framing {
            Framing::Chunked => match decode(rest, rest.len().max(1)) {
                Ok(Some(whole)) => whole,
                _ => break,
            },
            Framing::Length(n) => match rest.get(..n as usize) {
                Some(body) => (body.to_vec(), Fields::default(), n as usize),
                None => break,
            },
            Framing::None | Framing::UntilClose => (vec![], Fields::default(), 0),
        };
        write::request(&mut out, &r, read.framing, Connection::Stays);
        if read.framing == Framing::Chunked {
            write::chunk(&mut out, &body);
            write::last_chunk(&mut out, Some(&trailers));
        } else {
            out.extend_from_slice(&body);
        }
        sent.push(body);
        at += read.used + used;
        if !read.keep_alive || read.upgrade || r.is_connect() {
            break;
        }
    }
    assert_eq!(strict_messages(&out), sent, "{:?} became {:?}", text(data), text(&out));
}

type Body = (Vec<u8>, Fields, usize);

/// A chunked body of bytes that come in pieces. `None` if it is not whole.
fn decode(bytes: &[u8], step: usize) -> Result<Option<Body>, Malformed> {
    let (mut d, mut body, mut at, mut have) = (Decoder::new(Framing::Chunked), Vec::new(), 0, 0);
    loop {
        let (used, piece) = d.next(&bytes[at..have], &LIMITS)?;
        match piece {
            Piece::Data(r) => body.extend_from_slice(&bytes[at..have][r]),
            Piece::End(t) => return Ok(Some((body, t.map(|t| *t).unwrap_or_default(), at + used))),
            Piece::More if have == bytes.len() => return Ok(None),
            Piece::More => have = bytes.len().min(have + step),
        }
        at += used;
    }
}

fn same_framing(a: Framing, b: Framing) {
    assert!(a == b || (a.is_empty() && b.is_empty()), "{a:?} became {b:?}");
}

/// The fields that pass are the same; the framing is compared by itself.
fn same_fields(a: &Fields, b: &Fields) {
    let passing = |f: &Fields| {
        let own = |n: &[u8]| is_hop_by_hop(n) || n.eq_ignore_ascii_case(b"content-length");
        f.iter().filter(|(n, _)| !own(n)).map(|(n, v)| (n.to_vec(), v.to_vec())).collect::<Vec<_>>()
    };
    assert_eq!(passing(a), passing(b));
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|b| std::ascii::escape_default(*b)).map(char::from).collect()
}

fn position(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}

/// A reader of its own: lines end with CRLF, each field is `name: value`, and the framing is said once.
/// Gives the head's length and framing.
fn strict_head(bytes: &[u8], is_request: bool) -> (usize, Framing) {
    let end = position(bytes, b"\r\n\r\n").unwrap_or_else(|| panic!("no end: {:?}", text(bytes)));
    let mut lines = bytes[..end].split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l));
    let first = lines.next().unwrap_or_default();
    let words = first.split(|b| *b == b' ').count();
    assert!(if is_request { words == 3 } else { words >= 2 }, "{:?}", text(first));
    let (mut hosts, mut lengths, mut chunked) = (0, Vec::new(), 0);
    let count = |wanted: u8| bytes[..end].iter().fold(0, |n, b| n + usize::from(*b == wanted));
    let ends = count(b'\n');
    assert_eq!(ends, count(b'\r'), "{:?}", text(bytes));
    for line in lines {
        let colon = position(line, b": ").unwrap_or_else(|| panic!("{:?}", text(line)));
        let (name, value) = (&line[..colon], &line[colon + 2..]);
        assert!(
            !name.is_empty() && name.iter().all(|b| b.is_ascii_graphic() && *b != b':'),
            "{:?}",
            text(line)
        );
        assert!(value.iter().all(|b| *b == b'\t' || (*b >= 0x20 && *b != 0x7f)), "{:?}", text(line));
        match name.to_ascii_lowercase().as_slice() {
            b"host" => hosts += 1,
            b"content-length" => lengths.push(value.to_vec()),
            b"transfer-encoding" => {
                assert_eq!(value, b"chunked");
                chunked += 1;
            }
            _ => {}
        }
    }
    assert!(!is_request || hosts == 1, "{:?}", text(bytes));
    assert!(lengths.len() + chunked <= 1, "{:?}", text(bytes));
    let framing = match lengths.first() {
        Some(n) => {
            assert!(!n.is_empty() && n.iter().all(u8::is_ascii_digit), "{:?}", text(bytes));
            Framing::Length(text(n).parse().unwrap_or(u64::MAX))
        }
        None if chunked == 1 => Framing::Chunked,
        None => Framing::None,
    };
    (end + 4, framing)
}

/// A canonical chunked body in front, and its length.
fn strict_chunks(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut at, mut body) = (0, Vec::new());
    loop {
        let end = at + position(&bytes[at..], b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[at..end]).ok()?, 16).ok()?;
        at = end + 2;
        if size == 0 {
            break;
        }
        body.extend_from_slice(bytes.get(at..at + size)?);
        assert_eq!(bytes.get(at + size..at + size + 2), Some(&b"\r\n"[..]));
        at += size + 2;
    }
    while !bytes[at..].starts_with(b"\r\n") {
        at += position(&bytes[at..], b"\r\n")? + 2;
    }
    Some((body, at + 2))
}

/// The bodies of canonical requests that make up all of `bytes`.
fn strict_messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    while !bytes.is_empty() {
        let (head, framing) = strict_head(bytes, true);
        bytes = &bytes[head..];
        let (body, used) = match framing {
            Framing::Length(n) => (bytes[..n as usize].to_vec(), n as usize),
            Framing::Chunked => strict_chunks(bytes).unwrap_or_else(|| panic!("chunks: {:?}", text(bytes))),
            Framing::None | Framing::UntilClose => (vec![], 0),
        };
        bodies.push(body);
        bytes = &bytes[used..];
    }
    bodies
}
