//! Reading heads.
use super::Framing;
use crate::http::fields::{Fields, is_token, tokens};
use crate::http::{Request, Response};
use std::mem::MaybeUninit;

/// Most fields a head may have.
const FIELDS_MOST: usize = 128;

/// Bounds of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes from the first line to the empty one.
    pub max_head: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { max_head: 64 << 10 }
    }
}

/// What was found at the beginning of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    /// A whole head.
    Head(T),
    /// Not all of it is there yet.
    Incomplete,
}

/// Bytes that are not a head one could act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The status to answer with.
    pub status: u16,
    /// What is wrong, as a sentence's end.
    pub what: &'static str,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.what)
    }
}

impl std::error::Error for Malformed {}

const fn bad(what: &'static str) -> Malformed {
    Malformed { status: 400, what }
}

/// What a request's head says about its connection and body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadRequest {
    /// Bytes of the head.
    pub used: usize,
    /// How its body comes.
    pub framing: Framing,
    /// The connection may carry another request.
    pub keep_alive: bool,
    /// It is HTTP/1.0's.
    pub old: bool,
    /// It waits for `100 Continue` before its body.
    pub expects_continue: bool,
    /// It asks to change the protocol; the field `Upgrade` is kept.
    pub upgrade: bool,
}

/// What a response's head says about its connection and body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadResponse {
    /// Bytes of the head.
    pub used: usize,
    /// How its body comes.
    pub framing: Framing,
    /// The connection may carry another request.
    pub keep_alive: bool,
}

/// Reads a request's head from the beginning of `bytes` into `to`.
///
/// # Errors
/// What makes it unacceptable, with the status to answer.
pub fn request(bytes: &[u8], limits: &Limits, to: &mut Request) -> Result<Parsed<ReadRequest>, Malformed> {
    let mut room = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FIELDS_MOST];
    let mut head = httparse::Request::new(&mut []);
    let looked_at = &bytes[..bytes.len().min(limits.max_head + 1)];
    let used = match head.parse_with_uninit_headers(looked_at, &mut room) {
        Ok(httparse::Status::Complete(n)) if n <= limits.max_head => n,
        Ok(httparse::Status::Partial) if bytes.len() <= limits.max_head => return Ok(Parsed::Incomplete),
        Ok(_) => return Err(too_large(&looked_at)),
        Err(e) => return Err(refused(e)),
    };
    only_whole_line_ends(&bytes[..used])?;
    let (Some(method), Some(target), Some(version)) = (head.method, head.path, head.version) else {
        return Err(bad("the request line is not complete"));
    };
    let mut read = ReadRequest { used, old: version == 0, ..ReadRequest::default() };
    if method.len() > 64 {
        return Err(bad("the method is too long"));
    }
    let target = Target::parse(method.as_bytes(), target.as_bytes())?;
    let fixed = scan(head.headers)?;
    let host = one_host(head.headers, read.old)?;
    let authority = target.authority.unwrap_or(host.unwrap_or(b""));
    check_authority(authority)?;
    to.reset(method.as_bytes(), authority, target.target);
    to.absolute = target.absolute;
    to.https = target.https;
    read.framing = match fixed.framing()? {
        Some(Framing::Chunked) if read.old => return Err(bad("HTTP/1.0 has no chunked bodies")),
        Some(f) => f,
        None => Framing::None,
    };
    read.upgrade = fixed.upgrade && fixed.connection_upgrade && !fixed.h2c && !read.old;
    read.keep_alive =
        if read.old { fixed.connection_keep && !fixed.connection_close } else { !fixed.connection_close };
    read.expects_continue = fixed.expects_continue && !read.old;
    copy(head.headers, &fixed, read.upgrade, &mut to.fields);
    Ok(Parsed::Head(read))
}

/// Reads a response's head. `method` is its request's: it decides whether there is a body.
///
/// # Errors
/// What makes it unacceptable; the status is the one to tell the caller (502).
pub fn response(
    bytes: &[u8],
    limits: &Limits,
    method: &[u8],
    to: &mut Response,
) -> Result<Parsed<ReadResponse>, Malformed> {
    let mut room = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FIELDS_MOST];
    let mut head = httparse::Response::new(&mut []);
    let looked_at = &bytes[..bytes.len().min(limits.max_head + 1)];
    let config = httparse::ParserConfig::default();
    let gateway = |m: Malformed| Malformed { status: 502, ..m };
    let used = match config.parse_response_with_uninit_headers(&mut head, looked_at, &mut room) {
        Ok(httparse::Status::Complete(n)) if n <= limits.max_head => n,
        Ok(httparse::Status::Partial) if bytes.len() <= limits.max_head => return Ok(Parsed::Incomplete),
        Ok(_) => return Err(Malformed { status: 502, what: "the response's head is too large" }),
        Err(e) => return Err(gateway(refused(e))),
    };
    only_whole_line_ends(&bytes[..used]).map_err(gateway)?;
    let (Some(status), Some(version)) = (head.code, head.version) else {
        return Err(gateway(bad("the status line is not complete")));
    };
    if !(100..=999).contains(&status) {
        return Err(gateway(bad("the status is out of range")));
    }
    let fixed = scan(head.headers).map_err(gateway)?;
    to.status = status;
    to.phrase.clear();
    to.phrase.extend_from_slice(head.reason.unwrap_or("").as_bytes());
    to.fields.clear();
    let declared = fixed.framing().map_err(gateway)?;
    let bodiless = to.is_bodiless() || method == b"HEAD";
    let tunnel = status == 101 || (method == b"CONNECT" && (200..300).contains(&status));
    let framing = match declared {
        _ if bodiless || tunnel => Framing::None,
        Some(Framing::Chunked) if version == 0 => return Err(gateway(bad("HTTP/1.0 has no chunked bodies"))),
        Some(f) => f,
        None => Framing::UntilClose,
    };
    let keeps =
        if version == 0 { fixed.connection_keep && !fixed.connection_close } else { !fixed.connection_close };
    copy(head.headers, &fixed, status == 101, &mut to.fields);
    if matches!(status, 100..=199 | 204) {
        // It says nothing there, and a reader may take it for a body's.
        to.fields.remove("content-length");
    }
    let keep_alive = keeps && framing != Framing::UntilClose && !tunnel;
    Ok(Parsed::Head(ReadResponse { used, framing, keep_alive }))
}

/// Reads a trailer section: field lines up to an empty one.
///
/// # Errors
/// What makes it unacceptable.
pub fn trailers(bytes: &[u8], limits: &Limits, to: &mut Fields) -> Result<Parsed<usize>, Malformed> {
    if bytes.starts_with(b"\r\n") {
        return Ok(Parsed::Head(2));
    }
    let mut room = [httparse::EMPTY_HEADER; 32];
    let looked_at = &bytes[..bytes.len().min(limits.max_head + 1)];
    match httparse::parse_headers(looked_at, &mut room) {
        Ok(httparse::Status::Complete((used, fields))) if used <= limits.max_head => {
            only_whole_line_ends(&bytes[..used])?;
            for f in fields {
                // What frames, routes or authenticates a message may not come after it (RFC 9110, 6.5.1).
                if !forbidden_in_trailers(f.name.as_bytes()) {
                    to.push(f.name.as_bytes(), f.value);
                }
            }
            Ok(Parsed::Head(used))
        }
        Ok(httparse::Status::Partial) if bytes.len() <= limits.max_head => Ok(Parsed::Incomplete),
        Ok(_) => Err(too_large(&looked_at)),
        Err(e) => Err(refused(e)),
    }
}

/// Fields that never pass in a trailer section.
pub fn forbidden_in_trailers(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 12] = [
        b"content-length",
        b"transfer-encoding",
        b"host",
        b"connection",
        b"content-encoding",
        b"content-type",
        b"content-range",
        b"te",
        b"trailer",
        b"upgrade",
        b"authorization",
        b"set-cookie",
    ];
    NAMES.iter().any(|n| n.eq_ignore_ascii_case(name))
}

/// What the fields about connection and framing say.
#[derive(Default)]
struct Fixed<'a> {
    lengths: u32,
    length: &'a [u8],
    codings: u32,
    chunked: bool,
    connection: bool,
    connection_close: bool,
    connection_keep: bool,
    connection_upgrade: bool,
    connection_names: bool,
    upgrade: bool,
    h2c: bool,
    expects_continue: bool,
    trailers: bool,
}

impl Fixed<'_> {
    fn framing(&self) -> Result<Option<Framing>, Malformed> {
        match (self.codings, self.lengths) {
            (0, 0) => Ok(None),
            (0, 1) => Ok(Some(Framing::Length(length(self.length)?))),
            (0, _) => Err(bad("more than one Content-Length")),
            (_, 1..) => Err(bad("Content-Length beside Transfer-Encoding")),
            (1, 0) if self.chunked => Ok(Some(Framing::Chunked)),
            (1, 0) => Err(Malformed { status: 501, what: "Transfer-Encoding other than chunked" }),
            (_, 0) => Err(bad("more than one Transfer-Encoding")),
        }
    }
}

fn length(value: &[u8]) -> Result<u64, Malformed> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return Err(bad("Content-Length is not a number"));
    }
    Ok(value.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0')))
}

fn scan<'a>(fields: &[httparse::Header<'a>]) -> Result<Fixed<'a>, Malformed> {
    let mut x = Fixed::default();
    for f in fields {
        let name = f.name.as_bytes();
        let is = |n: &[u8]| name.eq_ignore_ascii_case(n);
        match name.len() {
            2 if is(b"te") => x.trailers |= tokens(f.value).any(|t| t.eq_ignore_ascii_case(b"trailers")),
            6 if is(b"expect") => {
                if !f.value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Malformed { status: 417, what: "Expect other than 100-continue" });
                }
                x.expects_continue = true;
            }
            7 if is(b"upgrade") => {
                x.upgrade = true;
                x.h2c |= tokens(f.value).any(|t| t.eq_ignore_ascii_case(b"h2c"));
            }
            10 if is(b"connection") => {
                x.connection = true;
                for t in tokens(f.value) {
                    x.connection_option(t)?;
                }
            }
            14 if is(b"content-length") => {
                x.lengths += 1;
                x.length = f.value;
            }
            17 if is(b"transfer-encoding") => {
                x.codings += 1;
                x.chunked = f.value.eq_ignore_ascii_case(b"chunked");
            }
            _ => {}
        }
    }
    Ok(x)
}

impl Fixed<'_> {
    fn connection_option(&mut self, t: &[u8]) -> Result<(), Malformed> {
        let is = |n: &[u8]| t.eq_ignore_ascii_case(n);
        if is(b"close") {
            self.connection_close = true;
        } else if is(b"keep-alive") {
            self.connection_keep = true;
        } else if is(b"upgrade") {
            self.connection_upgrade = true;
        } else if is(b"te") || is(b"http2-settings") {
        } else if is(b"content-length") || is(b"transfer-encoding") || is(b"host") {
            return Err(bad("Connection names a field that every connection needs"));
        } else if !is_token(t) {
            return Err(bad("Connection holds something that is no token"));
        } else {
            self.connection_names = true;
        }
        Ok(())
    }
}

/// Copies the fields that pass.
fn copy(fields: &[httparse::Header<'_>], fixed: &Fixed<'_>, upgrade: bool, to: &mut Fields) {
    for f in fields {
        let name = f.name.as_bytes();
        let is = |n: &[u8]| name.eq_ignore_ascii_case(n);
        let stays = match name.len() {
            2 => !is(b"te"),
            4 => !is(b"host"),
            6 => !is(b"expect"),
            7 => upgrade || !is(b"upgrade"),
            10 => !is(b"connection") && !is(b"keep-alive"),
            14 => !is(b"http2-settings"),
            16 => !is(b"proxy-connection"),
            17 => !is(b"transfer-encoding"),
            _ => true,
        };
        if stays {
            to.push(name, f.value);
        }
    }
    if fixed.trailers {
        to.push(b"te", b"trailers");
    }
    if fixed.connection_names {
        let lists = fields.iter().filter(|f| f.name.eq_ignore_ascii_case("connection"));
        for t in lists.flat_map(|f| tokens(f.value)) {
            let known: [&[u8]; 5] = [b"close", b"keep-alive", b"upgrade", b"te", b"http2-settings"];
            if !known.iter().any(|k| t.eq_ignore_ascii_case(k)) {
                to.remove_bytes(t);
            }
        }
    }
}

fn one_host<'a>(fields: &[httparse::Header<'a>], old: bool) -> Result<Option<&'a [u8]>, Malformed> {
    let mut hosts = fields.iter().filter(|f| f.name.eq_ignore_ascii_case("host"));
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => Err(bad("more than one Host")),
        (None, _) if !old => Err(bad("Host is missing")),
        (h, None) => Ok(h.map(|h| h.value)),
        (None, Some(_)) => Ok(None),
    }
}

/// A request target's parts.
struct Target<'a> {
    authority: Option<&'a [u8]>,
    target: &'a [u8],
    absolute: bool,
    https: bool,
}

impl<'a> Target<'a> {
    fn parse(method: &[u8], t: &'a [u8]) -> Result<Target<'a>, Malformed> {
        if t.iter().any(|b| *b == b'#' || *b <= b' ' || *b == 0x7F) {
            return Err(bad("the request target holds a byte no target has"));
        }
        let part = |authority, target| Target { authority, target, absolute: false, https: false };
        if method == b"CONNECT" {
            return match t.contains(&b'/') || t.is_empty() {
                true => Err(bad("CONNECT wants host:port")),
                false => Ok(part(Some(t), b"")),
            };
        }
        if t.starts_with(b"/") {
            return Ok(part(None, t));
        }
        if t == b"*" {
            return match method {
                b"OPTIONS" => Ok(part(None, t)),
                _ => Err(bad("only OPTIONS may ask for *")),
            };
        }
        let (https, rest) = match (scheme(t, b"http://"), scheme(t, b"https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(bad("the request target is neither a path nor an http URI")),
        };
        let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.is_empty() {
            return Err(bad("the request target names no host"));
        }
        if target.starts_with(b"?") {
            return Err(bad("the request target has a query without a path"));
        }
        let target: &[u8] = match (target.is_empty(), method) {
            (true, b"OPTIONS") => b"*",
            (true, _) => b"/",
            _ => target,
        };
        Ok(Target { authority: Some(authority), target, absolute: true, https })
    }
}

fn scheme<'a>(t: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = t.split_at_checked(scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// An authority is host and port (RFC 3986, section 3.2), and nothing of a path or of credentials.
pub fn check_authority(a: &[u8]) -> Result<(), Malformed> {
    let fits = |b: &u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(b);
    if a.len() <= 512 && a.iter().all(fits) { Ok(()) } else { Err(bad("Host is not a host")) }
}

/// httparse takes a lone line feed for a line's end; others do not, and so there would be two readings.
fn only_whole_line_ends(head: &[u8]) -> Result<(), Malformed> {
    let mut before = 0;
    for &b in head {
        if b == b'\n' && before != b'\r' {
            return Err(bad("a line ends without a carriage return"));
        }
        before = b;
    }
    Ok(())
}

fn too_large(bytes: &&[u8]) -> Malformed {
    let line = bytes.iter().position(|b| *b == b'\n');
    match line {
        None => Malformed { status: 414, what: "the request line is too long" },
        Some(_) => Malformed { status: 431, what: "the head is too large" },
    }
}

fn refused(e: httparse::Error) -> Malformed {
    match e {
        httparse::Error::HeaderName => bad("a field's name is not a token"),
        httparse::Error::HeaderValue => bad("a field's value holds a control character"),
        httparse::Error::NewLine => bad("a line does not end as lines do"),
        httparse::Error::Status => bad("the status is not a number"),
        httparse::Error::Token => bad("the first line is not HTTP's"),
        httparse::Error::TooManyHeaders => Malformed { status: 431, what: "there are too many fields" },
        httparse::Error::Version => {
            Malformed { status: 505, what: "the version is not HTTP/1.0 or HTTP/1.1" }
        }
    }
}
