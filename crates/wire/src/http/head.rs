//! Heads of requests and responses, as both versions of HTTP know them.
use super::fields::Fields;

/// A request's head. Whatever HTTP/1.1 says by `Host` and HTTP/2 by `:authority` is in [`Request::authority`];
/// fields that are about one connection are not in [`Request::fields`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Method, authority, path, one after another.
    text: Vec<u8>,
    method: u32,
    authority: u32,
    /// It was written with an absolute URI, as to a forward proxy.
    pub absolute: bool,
    /// It came over TLS, or says so.
    pub https: bool,
    /// Its fields.
    pub fields: Fields,
}

impl Request {
    /// Gives the head new contents and forgets the fields.
    pub fn reset(&mut self, method: &[u8], authority: &[u8], path: &[u8]) {
        self.text.clear();
        self.text.extend_from_slice(method);
        self.text.extend_from_slice(authority);
        self.text.extend_from_slice(path);
        self.method = method.len() as u32;
        self.authority = authority.len() as u32;
        self.absolute = false;
        self.https = false;
        self.fields.clear();
    }

    /// The method.
    pub fn method(&self) -> &[u8] {
        &self.text[..self.method as usize]
    }

    /// The host the request is for, with its port if one is said; empty if none is.
    pub fn authority(&self) -> &[u8] {
        &self.text[self.method as usize..(self.method + self.authority) as usize]
    }

    /// Path and query; `*` for a request about the server as a whole; empty for CONNECT.
    pub fn target(&self) -> &[u8] {
        &self.text[(self.method + self.authority) as usize..]
    }

    /// The path without its query.
    pub fn path(&self) -> &[u8] {
        let target = self.target();
        &target[..target.iter().position(|b| *b == b'?').unwrap_or(target.len())]
    }

    /// The first value of a parameter in the query, as it is written there (not decoded).
    pub fn query(&self, name: &str) -> Option<&[u8]> {
        let target = self.target();
        let query = &target[target.iter().position(|b| *b == b'?')? + 1..];
        query.split(|b| *b == b'&').find_map(|pair| {
            let end = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
            (pair[..end] == *name.as_bytes()).then(|| pair.get(end + 1..).unwrap_or(b""))
        })
    }

    /// Whether it asks for a tunnel.
    pub fn is_connect(&self) -> bool {
        self.method() == b"CONNECT"
    }

    /// Whether it is gRPC's (Triple's too).
    pub fn is_grpc(&self) -> bool {
        self.fields.get("content-type").is_some_and(|v| {
            v.strip_prefix(b"application/grpc")
                .is_some_and(|r| matches!(r.first(), None | Some(b'+' | b';' | b' ')))
        })
    }

    /// Whether it may be repeated by its method's definition (RFC 9110, section 9.2.1).
    pub fn is_safe(&self) -> bool {
        matches!(self.method(), b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE")
    }

    /// Replaces path and query.
    pub fn set_target(&mut self, target: &[u8]) {
        self.text.truncate((self.method + self.authority) as usize);
        self.text.extend_from_slice(target);
    }

    /// Replaces the authority.
    pub fn set_authority(&mut self, authority: &[u8]) {
        let at = self.method as usize;
        self.text.splice(at..at + self.authority as usize, authority.iter().copied());
        self.authority = authority.len() as u32;
    }

    /// Bytes the head holds.
    pub fn bytes(&self) -> usize {
        self.text.len() + self.fields.bytes()
    }
}

/// A response's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Status, 100..=999.
    pub status: u16,
    /// The reason phrase; empty = the status's usual one.
    pub phrase: Vec<u8>,
    /// Its fields, without those about one connection.
    pub fields: Fields,
}

impl Response {
    /// A response with a status and nothing else.
    pub fn new(status: u16) -> Response {
        Response { status, ..Response::default() }
    }

    /// Whether another response to the same request follows.
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// Whether it never has a body, whatever its fields say (RFC 9112, section 6.3).
    pub fn is_bodiless(&self) -> bool {
        matches!(self.status, 100..=199 | 204 | 304)
    }
}

/// The usual phrase of a status.
pub(crate) fn phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &[u8]) -> Request {
        let mut r = Request::default();
        r.reset(b"GET", b"shop:80", target);
        r
    }

    #[test]
    fn parts_are_found_and_replaced_without_touching_the_others() {
        let mut r = request(b"/a/b?x=1&y=&z");
        assert_eq!((r.method(), r.authority(), r.path()), (&b"GET"[..], &b"shop:80"[..], &b"/a/b"[..]));
        assert_eq!(
            (r.query("x"), r.query("y"), r.query("z")),
            (Some(&b"1"[..]), Some(&b""[..]), Some(&b""[..]))
        );
        assert_eq!(r.query("q"), None);
        r.set_authority(b"another");
        r.set_target(b"/c");
        assert_eq!((r.method(), r.authority(), r.target()), (&b"GET"[..], &b"another"[..], &b"/c"[..]));
    }

    #[test]
    fn grpc_is_known_by_its_content_type() {
        for (value, grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let mut r = request(b"/");
            r.fields.push(b"Content-Type", value.as_bytes());
            assert_eq!(r.is_grpc(), grpc, "{value}");
        }
    }
}
