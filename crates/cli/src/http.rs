//! A small blocking HTTP/1.1 client: one request, one connection, one deadline. For the sidecar's admin port, and over
//! TLS or not for the control plane ([`client`]).
pub(crate) mod client;

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Most bytes of an answer that are read.
const MOST: usize = 64 << 20;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// The body, as text.
    pub(crate) body: String,
    /// Headers, names in small letters.
    pub(crate) headers: Vec<(String, String)>,
}

impl Answer {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Error {
    /// No connection, or it broke, or it took too long.
    Io(io::Error),
    /// What answers does not speak HTTP.
    NotHttp,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                f.write_str("no answer in time")
            }
            Error::Io(e) => e.fmt(f),
            Error::NotHttp => f.write_str("the answer is not HTTP"),
        }
    }
}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Error {
        Error::Io(e)
    }
}

/// GETs `path` within `timeout`, connecting included.
pub(crate) fn get(addr: SocketAddr, path: &str, timeout: Duration) -> Result<Answer, Error> {
    let deadline = Instant::now() + timeout;
    let mut tcp = TcpStream::connect_timeout(&addr, timeout)?;
    tcp.set_write_timeout(Some(timeout))?;
    write!(tcp, "GET {path} HTTP/1.1\r\nHost: {addr}\r\nAccept: */*\r\nConnection: close\r\n\r\n")?;
    let raw = read_all(&mut tcp, |tcp, left| tcp.set_read_timeout(Some(left)), deadline)?;
    parse(&raw)
}

/// Reads to the end; `patience` sets how long the next read may take.
fn read_all<S: Read>(
    stream: &mut S,
    patience: impl Fn(&S, Duration) -> io::Result<()>,
    deadline: Instant,
) -> Result<Vec<u8>, Error> {
    let mut raw = Vec::new();
    let mut chunk = [0; 16 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::Io(io::ErrorKind::TimedOut.into()));
        }
        patience(stream, left)?;
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(raw),
            Ok(n) if raw.len() + n <= MOST => raw.extend_from_slice(&chunk[..n]),
            Ok(_) => return Err(Error::Io(io::Error::other("the answer is over 64 MiB"))),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // A TLS peer that closes without saying so; lengths are checked.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof && !raw.is_empty() => return Ok(raw),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Splits a whole answer; `Connection: close` ends it, so lengths are only checked where chunks need it.
fn parse(raw: &[u8]) -> Result<Answer, Error> {
    let end = raw.windows(4).position(|w| w == b"\r\n\r\n").ok_or(Error::NotHttp)?;
    let head = std::str::from_utf8(&raw[..end]).map_err(|_| Error::NotHttp)?;
    let body = &raw[end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .filter(|line| line.starts_with("HTTP/1."))
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .ok_or(Error::NotHttp)?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut answer = Answer { status, body: String::new(), headers };
    let chunked = answer.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
    let length = answer.header("content-length").and_then(|v| v.parse::<usize>().ok());
    if !chunked && length.is_some_and(|n| n > body.len()) {
        return Err(Error::Io(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer breaks off")));
    }
    let body = if chunked { dechunk(body).ok_or(Error::NotHttp)? } else { body.to_vec() };
    answer.body = String::from_utf8_lossy(&body).into_owned();
    Ok(answer)
}

fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let line = rest.windows(2).position(|w| w == b"\r\n")?;
        let text = std::str::from_utf8(&rest[..line]).ok()?;
        let size = usize::from_str_radix(text.split(';').next()?.trim(), 16).ok()?;
        rest = &rest[line + 2..];
        if size == 0 {
            return Some(out);
        }
        out.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size.checked_add(2)?..)?;
    }
}

/// A value as a part of a URL's query.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn plain_and_chunked_answers_are_read() {
        let plain = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").unwrap();
        assert_eq!((plain.status, plain.body.as_str()), (200, "hi"));
        let chunked =
            parse(b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n2;x=1\r\nhi\r\n1\r\n!\r\n0\r\n\r\n");
        let chunked = chunked.unwrap();
        assert_eq!((chunked.status, chunked.body.as_str()), (404, "hi!"));
        assert_eq!(chunked.header("transfer-encoding"), Some("chunked"));
        assert!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi").is_err(), "it breaks off");
    }

    #[test]
    fn bytes_that_are_not_http_are_an_error_and_never_a_panic() {
        let bad: [&[u8]; 5] = [
            b"",
            b"\x01\x02\r\n\r\n",
            b"HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhi",
        ];
        for raw in bad {
            assert!(matches!(parse(raw), Err(Error::NotHttp)), "{raw:?}");
        }
    }

    #[test]
    fn a_server_that_says_nothing_is_given_up_in_time() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let start = Instant::now();
        let error = get(silent.local_addr().unwrap(), "/stats", Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.to_string(), "no answer in time");
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn query_values_are_escaped() {
        assert_eq!(escape("a:1 0&ü"), "a%3A1%200%26%C3%BC");
    }
}
