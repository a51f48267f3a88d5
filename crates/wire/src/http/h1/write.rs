//! Writing messages, in one canonical form.
use super::Framing;
use crate::http::fields::{Fields, is_hop_by_hop};
use crate::http::{Request, Response, head};
use std::io::Write;

/// What a head says about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// Nothing: it stays, as HTTP/1.1 has it.
    Stays,
    /// It stays, said explicitly to a peer that speaks HTTP/1.0.
    KeepAlive,
    /// It ends after this message.
    Close,
    /// The protocol changes.
    Upgrade,
}

impl Connection {
    fn write(self, out: &mut Vec<u8>) {
        let line: &[u8] = match self {
            Connection::Stays => return,
            Connection::KeepAlive => b"connection: keep-alive\r\n",
            Connection::Close => b"connection: close\r\n",
            Connection::Upgrade => b"connection: upgrade\r\n",
        };
        out.extend_from_slice(line);
    }
}

/// Appends a request's head in origin form.
pub fn request(out: &mut Vec<u8>, r: &Request, framing: Framing, connection: Connection) {
    out.reserve(r.bytes() + r.fields.len() * 4 + 64);
    out.extend_from_slice(r.method());
    out.push(b' ');
    out.extend_from_slice(if r.is_connect() { r.authority() } else { r.target() });
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(r.authority());
    out.extend_from_slice(b"\r\n");
    fields(out, &r.fields, framing, connection == Connection::Upgrade);
    if framing == Framing::None
        && !r.fields.has("content-length")
        && matches!(r.method(), b"POST" | b"PUT" | b"PATCH")
    {
        // Said, so that no server waits for a body (RFC 9110, section 8.6).
        out.extend_from_slice(b"content-length: 0\r\n");
    }
    connection.write(out);
    out.extend_from_slice(b"\r\n");
}

/// Appends a response's head.
pub fn response(out: &mut Vec<u8>, r: &Response, framing: Framing, connection: Connection) {
    out.reserve(r.fields.bytes() + r.fields.len() * 4 + 64);
    // A write to a Vec does not fail.
    let _ = write!(out, "HTTP/1.1 {} ", r.status);
    match r.phrase.is_empty() {
        true => out.extend_from_slice(head::phrase(r.status).as_bytes()),
        false => out.extend_from_slice(&r.phrase),
    }
    out.extend_from_slice(b"\r\n");
    fields(out, &r.fields, framing, connection == Connection::Upgrade);
    connection.write(out);
    out.extend_from_slice(b"\r\n");
}

/// Field lines; the framing is said by `framing` alone.
fn fields(out: &mut Vec<u8>, fields: &Fields, framing: Framing, upgrade: bool) {
    let mut length_said = false;
    for (name, value) in fields.iter() {
        if name.len() == 14 && name.eq_ignore_ascii_case(b"content-length") {
            // Kept where it stands if it is the body's, and where there is no body (an answer to HEAD).
            let keeps = match framing {
                Framing::Length(_) | Framing::None => !length_said,
                Framing::Chunked | Framing::UntilClose => false,
            };
            if !keeps {
                continue;
            }
            length_said = true;
            if let Framing::Length(n) = framing {
                out.extend_from_slice(name);
                let _ = write!(out, ": {n}\r\n");
                continue;
            }
        } else if is_hop_by_hop(name) && !(upgrade && name.eq_ignore_ascii_case(b"upgrade")) {
            continue;
        }
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    match framing {
        Framing::Length(n) if !length_said => {
            let _ = write!(out, "content-length: {n}\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        _ => {}
    }
}

/// Appends a piece of a chunked body as one chunk; nothing for no bytes, because an empty chunk ends it.
pub fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let _ = write!(out, "{:x}\r\n", data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a chunked body, with its trailers.
pub fn last_chunk(out: &mut Vec<u8>, trailers: Option<&Fields>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.iter().flat_map(|t| t.iter()) {
        if !super::read::forbidden_in_trailers(name) {
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
}
