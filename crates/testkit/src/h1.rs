//! HTTP/1.1 byte by byte (RFC 9112), for tests: a client that sends anything, and a reader that takes nothing
//! but the canonical form.
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A message's head: its first line and its fields, exactly as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The first line, without its end.
    pub line: String,
    /// Names and values.
    pub fields: Vec<(String, Vec<u8>)>,
}

impl Head {
    /// Values of a name in any case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| &v[..])
    }

    /// The first value of a name, as text.
    pub fn get(&self, name: &str) -> Option<String> {
        self.all(name).next().map(|v| String::from_utf8_lossy(v).into_owned())
    }

    /// The status, of a response.
    pub fn status(&self) -> u16 {
        self.line.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
    }
}

/// How a message's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// After so many bytes.
    Length(usize),
    /// With its last chunk.
    Chunked,
    /// With the connection.
    Close,
}

/// Reads a head in front of `bytes`, strictly: every line ends with CRLF, `name: value` and nothing fancier.
///
/// # Errors
/// The first thing that is not canonical.
pub fn head(bytes: &[u8]) -> Result<Option<(Head, usize)>, String> {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return match bytes.len() > 1 << 20 {
            true => Err("a head of more than 1 MiB".into()),
            false => Ok(None),
        };
    };
    let text = &bytes[..end + 2];
    let (first, rest) = text.split_at(find(text, b"\r\n").map_or(0, |at| at + 2));
    let first = &first[..first.len().saturating_sub(2)];
    let mut out = Head::default();
    if first.iter().any(|b| *b < 0x20 || *b == 0x7f) {
        return Err(format!("a control character in the first line {}", show(first)));
    }
    out.line = String::from_utf8_lossy(first).into_owned();
    for line in rest.split_inclusive(|b| *b == b'\n') {
        out.fields.push(field(line)?);
    }
    Ok(Some((out, end + 4)))
}

/// A field's line with its end.
fn field(line: &[u8]) -> Result<(String, Vec<u8>), String> {
    let wrong = |what: &str| Err(format!("{what} in field {}", show(line)));
    let Some(text) = line.strip_suffix(b"\r\n") else { return wrong("no CRLF") };
    let Some(colon) = text.iter().position(|b| *b == b':') else { return wrong("no colon") };
    let (name, value) = (&text[..colon], &text[colon + 1..]);
    let value = value.strip_prefix(b" ").unwrap_or(value);
    if name.is_empty() || !name.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b)) {
        return wrong("a name that is no token");
    }
    if value.iter().any(|b| (*b < 0x20 && *b != b'\t') || *b == 0x7f) {
        return wrong("a control character");
    }
    if value.trim_ascii().len() != value.len() {
        return wrong("space around the value");
    }
    Ok((String::from_utf8_lossy(name).into_owned(), value.to_vec()))
}

/// The one meaning of the fields that frame a message; `None` if there are none.
///
/// # Errors
/// There are two meanings.
pub fn framing(h: &Head) -> Result<Option<Body>, String> {
    let lengths: Vec<_> = h.all("content-length").collect();
    let codings: Vec<_> = h.all("transfer-encoding").collect();
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(None),
        ([], [one]) if *one == b"chunked" => Ok(Some(Body::Chunked)),
        ([n], []) if !n.is_empty() && n.len() < 16 && n.iter().all(u8::is_ascii_digit) => {
            // Digits only, and few.
            Ok(Some(Body::Length(String::from_utf8_lossy(n).parse().unwrap_or(0))))
        }
        _ => Err(format!(
            "framed by lengths {:?} and codings {:?}",
            lengths.iter().map(|l| show(l)).collect::<Vec<_>>(),
            codings.iter().map(|l| show(l)).collect::<Vec<_>>()
        )),
    }
}

/// A decoded chunked body: data, trailers, bytes used.
pub type Chunked = (Vec<u8>, Vec<(String, Vec<u8>)>, usize);

/// Reads a whole chunked body in front of `bytes`, strictly: no extensions, no leading zeros.
///
/// # Errors
/// The first thing that is not canonical.
pub fn chunked(bytes: &[u8]) -> Result<Option<Chunked>, String> {
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else {
            return match bytes.len() - at > 20 {
                true => Err(format!("a chunk's size {}", show(&bytes[at..at + 20]))),
                false => Ok(None),
            };
        };
        let digits = &bytes[at..at + end];
        let plain = digits == b"0" || (digits.len() < 9 && !digits.is_empty() && digits[0] != b'0');
        if !plain || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(format!("a chunk's size {}", show(digits)));
        }
        let size = usize::from_str_radix(&String::from_utf8_lossy(digits), 16).map_err(|e| e.to_string())?;
        at += end + 2;
        if size == 0 {
            break;
        }
        let Some(chunk) = bytes.get(at..at + size + 2) else { return Ok(None) };
        if !chunk.ends_with(b"\r\n") {
            return Err("a chunk that does not end where it says".into());
        }
        data.extend_from_slice(&chunk[..size]);
        at += size + 2;
    }
    if bytes[at..].starts_with(b"\r\n") {
        return Ok(Some((data, vec![], at + 2)));
    }
    let Some(end) = find(&bytes[at..], b"\r\n\r\n") else { return Ok(None) };
    let lines = bytes[at..at + end + 2].split_inclusive(|b| *b == b'\n');
    let trailers = lines.map(field).collect::<Result<_, _>>()?;
    Ok(Some((data, trailers, at + end + 4)))
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its head.
    pub head: Head,
    /// Its body.
    pub body: Vec<u8>,
    /// Its trailers.
    pub trailers: Vec<(String, Vec<u8>)>,
}

impl Response {
    /// Its status.
    pub fn status(&self) -> u16 {
        self.head.status()
    }
}

/// A client that sends what it is told.
pub struct Client {
    stream: TcpStream,
    buf: Vec<u8>,
    closed: bool,
}

impl Client {
    /// Connects.
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> Client {
        let stream = TcpStream::connect(addr).unwrap_or_else(|e| panic!("connecting to {addr}: {e}"));
        let _ = stream.set_nodelay(true);
        let _ = stream.set_write_timeout(Some(crate::PATIENCE));
        Client { stream, buf: Vec::new(), closed: false }
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends bytes. False if the other end has closed.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads more. False if there is nothing until the deadline, or the connection has ended.
    fn more(&mut self, end: Instant) -> bool {
        while !self.closed {
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let _ = self.stream.set_read_timeout(Some(left));
            let mut room = [0; 16 << 10];
            match self.stream.read(&mut room) {
                Ok(0) => self.closed = true,
                Ok(n) => {
                    self.buf.extend_from_slice(&room[..n]);
                    return true;
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if Instant::now() >= end {
                        return false;
                    }
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.closed = true,
            }
        }
        false
    }

    /// The next final response, to a request with this method. Interim ones are skipped.
    ///
    /// # Errors
    /// It is not canonical, or does not come; with what came.
    pub fn response(&mut self, method: &str) -> Result<Response, String> {
        loop {
            let r = self.any_response(method)?;
            if r.status() >= 200 || r.status() == 101 {
                return Ok(r);
            }
        }
    }

    /// The next response, interim or not.
    ///
    /// # Errors
    /// It is not canonical, or does not come; with what came.
    pub fn any_response(&mut self, method: &str) -> Result<Response, String> {
        let end = Instant::now() + crate::PATIENCE;
        let (h, used) = loop {
            match head(&self.buf)? {
                Some(h) => break h,
                None if self.more(end) => {}
                None => return Err(self.instead()),
            }
        };
        let status = h.status();
        if !h.line.starts_with("HTTP/1.1 ") || !(100..1000).contains(&status) {
            return Err(format!("status line {:?}", h.line));
        }
        let declared = framing(&h)?;
        if matches!(status, 100..=199 | 204) && declared.is_some() {
            return Err(format!("a body declared with {status}"));
        }
        let body = match declared {
            _ if method == "HEAD" || matches!(status, 100..=199 | 204 | 304) => Body::Length(0),
            Some(b) => b,
            None if method == "CONNECT" && (200..300).contains(&status) => Body::Length(0),
            None => Body::Close,
        };
        let (body, trailers, used) = loop {
            let rest = &self.buf[used..];
            let whole = match body {
                Body::Length(n) => (rest.len() >= n).then(|| (rest[..n].to_vec(), vec![], n)),
                Body::Chunked => chunked(rest)?,
                Body::Close => self.closed.then(|| (rest.to_vec(), vec![], rest.len())),
            };
            match whole {
                Some((b, t, n)) => break (b, t, used + n),
                None if self.more(end) || (body == Body::Close && self.closed) => {}
                None => return Err(self.instead()),
            }
        };
        self.buf.drain(..used);
        Ok(Response { head: h, body, trailers })
    }

    fn instead(&self) -> String {
        let how = if self.closed { "the connection's end" } else { "silence" };
        format!("no response, but {how} after {}", show(&self.buf))
    }

    /// Whether the other end closes, and says nothing more, within `most`.
    ///
    /// # Errors
    /// What it does instead.
    pub fn closes(&mut self, most: Duration) -> Result<(), String> {
        let end = Instant::now() + most;
        while self.more(end) {}
        match (self.closed, &self.buf[..]) {
            (true, []) => Ok(()),
            (true, more) => Err(format!("more bytes before the end: {}", show(more))),
            (false, more) => Err(format!("it stays open, {} unread", more.len())),
        }
    }

    /// Everything that comes until the end of the connection or of the time, and whether it ended.
    pub fn rest(&mut self, most: Duration) -> (Vec<u8>, bool) {
        let end = Instant::now() + most;
        while self.more(end) {}
        (std::mem::take(&mut self.buf), self.closed)
    }
}

/// Bytes for people.
pub fn show(bytes: &[u8]) -> String {
    let cut = bytes.len() > 400;
    let text: String =
        bytes.iter().take(400).flat_map(|b| std::ascii::escape_default(*b)).map(char::from).collect();
    if cut { format!("\"{text}\"... ({} bytes)", bytes.len()) } else { format!("\"{text}\"") }
}

pub(crate) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_is_taken() {
        let (h, used) = head(b"GET / HTTP/1.1\r\nHost: a\r\nB: c d\r\n\r\nrest").unwrap().unwrap();
        assert_eq!((h.line.as_str(), h.fields.len(), used), ("GET / HTTP/1.1", 2, 35));
        assert_eq!(head(b"GET / HTTP/1.1\r\n\r\n").unwrap().unwrap().0.fields, []);
        for bad in [
            &b"GET / HTTP/1.1\r\nA : b\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
            b"GET / HTTP/1.1\nA: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: b\rC: d\r\n\r\n",
            b"GET / HTTP/1.1\r\nA:  b\r\n\r\n",
        ] {
            assert!(head(bad).is_err(), "{}", show(bad));
        }
        assert_eq!(chunked(b"3\r\nabc\r\n0\r\n\r\n").unwrap().unwrap(), (b"abc".to_vec(), vec![], 13));
        assert!(chunked(b"3;x\r\nabc\r\n0\r\n\r\n").is_err());
        assert!(chunked(b"03\r\nabc\r\n0\r\n\r\n").is_err());
        assert_eq!(chunked(b"3\r\nab").unwrap(), None);
    }
}
