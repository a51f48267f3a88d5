//! The generator's own, minimal HTTP/1.1 framing: heads, bodies by length or in chunks.
//!
//! Strict where it matters to a measurement (where a message ends), indifferent to everything else.
use std::borrow::Cow;

/// Bytes of a head, most.
const MAX_HEAD: usize = 64 << 10;
/// Bytes of a message, most.
const MAX_MESSAGE: usize = 64 << 20;

/// The bytes are not HTTP/1.1, or not as much of it as is understood here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Bytes(usize),
    Chunked,
}

/// What of a message's head matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Of a response; 0 for requests.
    pub(crate) status: u16,
    /// Whether the connection ends after this message.
    pub(crate) close: bool,
    /// Whether a client waits for `100 Continue` before it sends the body.
    pub(crate) waits: bool,
    bytes: usize,
    length: Length,
}

/// A whole message.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    pub(crate) head: Head,
    pub(crate) body: Cow<'a, [u8]>,
    /// Bytes of head and body as they were sent.
    pub(crate) total: usize,
}

impl Head {
    /// Reads a head from the front of `buf`; `None` while it is not whole.
    pub(crate) fn parse(buf: &[u8]) -> Result<Option<Head>, Malformed> {
        let mut lines = Lines { buf, at: 0 };
        let Some(start) = lines.next()? else { return Ok(None) };
        let (status, minor) = if let Some(rest) = start.strip_prefix(b"HTTP/1.") {
            let digits = rest.get(2..5).ok_or(Malformed("status line cut short"))?;
            (decimal(digits).ok_or(Malformed("status is no number"))? as u16, rest[0])
        } else {
            let at = start.len().checked_sub(9).ok_or(Malformed("request line cut short"))?;
            let minor = start[at..].strip_prefix(b" HTTP/1.").ok_or(Malformed("not HTTP/1"))?;
            (0, minor[0])
        };
        let mut head =
            Head { status, close: minor == b'0', waits: false, bytes: 0, length: Length::Bytes(0) };
        let mut length = None;
        loop {
            let Some(line) = lines.next()? else { return Ok(None) };
            if line.is_empty() {
                break;
            }
            let colon = line.iter().position(|b| *b == b':').ok_or(Malformed("header without a colon"))?;
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"content-length") {
                let bytes = decimal(value).ok_or(Malformed("content-length is no number"))?;
                if length.replace(Length::Bytes(bytes)).is_some() {
                    return Err(Malformed("length given twice"));
                }
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Malformed("transfer-encoding other than chunked"));
                }
                if length.replace(Length::Chunked).is_some() {
                    return Err(Malformed("length given twice"));
                }
            } else if name.eq_ignore_ascii_case(b"connection") {
                head.close |= value.eq_ignore_ascii_case(b"close");
                head.close &= !value.eq_ignore_ascii_case(b"keep-alive");
            } else if name.eq_ignore_ascii_case(b"expect") {
                head.waits = value.eq_ignore_ascii_case(b"100-continue");
            }
        }
        head.bytes = lines.at;
        let bodyless = status == 0 || matches!(status, 100..=199 | 204 | 304);
        head.length = match length {
            _ if bodyless && status != 0 => Length::Bytes(0),
            Some(length) => length,
            None if bodyless => Length::Bytes(0),
            None => return Err(Malformed("a response that ends with its connection")),
        };
        match head.length {
            Length::Bytes(n) if n > MAX_MESSAGE => Err(Malformed("message over 64 MiB")),
            _ => Ok(Some(head)),
        }
    }

    /// Whether `buf` ends with the head: nothing of the body has come.
    pub(crate) fn is_all(&self, buf: &[u8]) -> bool {
        buf.len() == self.bytes
    }
}

/// The target of a request whose line is whole.
pub(crate) fn target(buf: &[u8]) -> Option<&str> {
    let line = buf.split(|b| *b == b'\r' || *b == b'\n').next()?;
    std::str::from_utf8(line).ok()?.split(' ').nth(1)
}

/// Reads a message from the front of `buf`; `None` while it is not whole.
pub(crate) fn message(buf: &[u8]) -> Result<Option<Message<'_>>, Malformed> {
    let Some(head) = Head::parse(buf)? else { return Ok(None) };
    let after = &buf[head.bytes..];
    Ok(match head.length {
        Length::Bytes(n) => after.get(..n).map(|body| (Cow::Borrowed(body), n)),
        Length::Chunked => chunks(after)?.map(|(body, n)| (Cow::Owned(body), n)),
    }
    .map(|(body, n)| Message { head, body, total: head.bytes + n }))
}

/// Reads a body in chunks; returns it and how many bytes it took.
fn chunks(buf: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Malformed> {
    let mut lines = Lines { buf, at: 0 };
    let mut body = Vec::new();
    loop {
        let Some(line) = lines.next()? else { return Ok(None) };
        let digits = line.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        let text = std::str::from_utf8(digits).ok();
        let size = text.and_then(|t| usize::from_str_radix(t, 16).ok()).filter(|n| *n <= MAX_MESSAGE);
        let size = size.ok_or(Malformed("chunk size is no number"))?;
        if size == 0 {
            break;
        }
        let Some(chunk) = buf.get(lines.at..lines.at + size) else { return Ok(None) };
        body.extend_from_slice(chunk);
        if body.len() > MAX_MESSAGE {
            return Err(Malformed("message over 64 MiB"));
        }
        lines.at += size;
        match lines.next()? {
            None => return Ok(None),
            Some([]) => {}
            Some(_) => return Err(Malformed("chunk longer than it said")),
        }
    }
    // Trailers, up to the empty line.
    loop {
        match lines.next()? {
            None => return Ok(None),
            Some([]) => return Ok(Some((body, lines.at))),
            Some(_) => {}
        }
    }
}

struct Lines<'a> {
    buf: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    /// The next line without its end; `None` while it is not whole.
    fn next(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let rest = &self.buf[self.at..];
        let searched = &rest[..rest.len().min(MAX_HEAD)];
        let Some(end) = searched.iter().position(|b| *b == b'\n') else {
            return if rest.len() >= MAX_HEAD { Err(Malformed("line over 64 KiB")) } else { Ok(None) };
        };
        self.at += end + 1;
        let line = &rest[..end];
        line.strip_suffix(b"\r").map(Some).ok_or(Malformed("line without a carriage return"))
    }
}

fn decimal(digits: &[u8]) -> Option<usize> {
    let all = !digits.is_empty() && digits.len() < 16 && digits.iter().all(u8::is_ascii_digit);
    all.then(|| digits.iter().fold(0, |n, d| n * 10 + usize::from(d - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(u16, bool, Vec<u8>, usize)> {
        let message = message(text.as_bytes()).unwrap()?;
        Some((message.head.status, message.head.close, message.body.into_owned(), message.total))
    }

    #[test]
    fn a_message_ends_where_its_length_says_however_it_arrives() {
        let length = "POST / HTTP/1.1\r\nHost: a\r\nContent-LENGTH:  5 \r\n\r\nhello";
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\na: b\r\n\r\n";
        for (text, status) in [(length, 0), (chunked, 200)] {
            for cut in 0..text.len() {
                assert_eq!(read(&text[..cut]), None, "{cut}");
            }
            let more = format!("{text}GET");
            assert_eq!(read(&more), Some((status, false, b"hello".to_vec(), text.len())));
        }
    }

    #[test]
    fn bodyless_messages_have_no_body_and_close_is_seen() {
        assert_eq!(read("GET / HTTP/1.1\r\n\r\n").unwrap(), (0, false, vec![], 18));
        assert!(read("GET / HTTP/1.0\r\n\r\n").unwrap().1);
        assert!(!read("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").unwrap().1);
        assert!(read("HTTP/1.1 204 No\r\nconnection: close\r\n\r\n").unwrap().1);
        assert_eq!(read("HTTP/1.1 100 Continue\r\n\r\n").unwrap().0, 100);
        let waits = Head::parse(b"PUT / HTTP/1.1\r\nexpect: 100-Continue\r\ncontent-length: 9\r\n\r\n");
        assert!(waits.unwrap().unwrap().waits);
    }

    #[test]
    fn what_is_not_http_is_told() {
        for text in [
            "\u{1}\u{2}\n\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 2x0 OK\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc\r\n",
        ] {
            assert!(message(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
