//! What rules may look at in a request, and what of it can be told for sure.
use raddle_model::AuthSubject;
use std::net::IpAddr;

/// What is known of a request, or of a TCP connection.
pub trait Facts {
    /// Who asks, as a verified certificate says; `None` in plaintext. Never what the request says of itself.
    fn caller(&self) -> Option<Caller<'_>>;
    /// The address the connection came from; never what the request says of it.
    fn source(&self) -> Option<IpAddr>;
    /// Calls `f` with every value that the request has of `subject`: with none if it has none, with several if a
    /// header came several times or a service goes by several names. Not asked for what the certificate says.
    /// Hosts come in lower case.
    fn values(&self, subject: &AuthSubject, f: &mut dyn FnMut(&[u8]));
    /// Whether service and method are what the application will run.
    fn names(&self) -> Names {
        Names::Clear
    }
}

/// A caller with a certificate. Empty parts are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller<'a> {
    /// Its app.
    pub app: &'a str,
    /// Its unit.
    pub unit: &'a str,
    /// Its SPIFFE id.
    pub id: &'a str,
}

impl<'a> Caller<'a> {
    /// The part a condition looks at; `None` if the certificate does not say it.
    pub(super) fn part(&self, subject: &AuthSubject) -> Option<&'a str> {
        let part = match subject {
            AuthSubject::CallerApp => self.app,
            AuthSubject::CallerUnit => self.unit,
            AuthSubject::CallerId => self.id,
            _ => "",
        };
        Some(part).filter(|p| !p.is_empty())
    }
}

/// What is known of a request's service and method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// They are what the application will run, or the protocol has none.
    #[default]
    Clear,
    /// The service is; the method cannot be read.
    NoMethod,
    /// They cannot be read, or not for sure.
    Hidden,
    /// The request names them twice, and differently: what is judged would not be what is run.
    Differ,
}

/// Why a request cannot be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclear {
    /// See [`Names::Hidden`] and [`Names::NoMethod`].
    Hidden,
    /// See [`Names::Differ`].
    Differ,
    /// See [`is_plain`].
    Path,
    /// Headers that rules look at came so often that looking at each in all combinations would cost too much.
    TooMany,
}

impl Unclear {
    /// In words.
    pub const fn describe(self) -> &'static str {
        match self {
            Unclear::Hidden => "its service or method cannot be read, and rules look at it",
            Unclear::Differ => "it names its service or method twice, and differently",
            Unclear::Path => "its path can be read in more than one way, and rules look at it",
            Unclear::TooMany => "headers that rules look at come too often in it",
        }
    }

    /// As logs name what refused the request.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Unclear::Hidden => "Authorization (names hidden)",
            Unclear::Differ => "Authorization (names differ)",
            Unclear::Path => "Authorization (path unclear)",
            Unclear::TooMany => "Authorization (too many headers)",
        }
    }
}

/// Whether a path (without its query) can be read in one way only.
///
/// Rules compare paths as they were sent, and an application may not: it may decode `%2e%2e` and step up, merge `//`,
/// cut `;v=1` off, take `\` for `/`. Such a path is none that a rule could speak of, so it is refused where a rule looks
/// at paths, rather than passed by an `allow` that meant another one or past a `deny` that meant this one. Refused are
/// empty segments, `.` and `..`, `;`, `\`, and escapes of characters that could stand for themselves (`%61`, `%2F`) or
/// of controls; escapes in small letters (`%c3`), since they have capital twins; `%25`, since some decode twice. Escapes
/// of what a path cannot hold otherwise (a space, letters beyond ASCII) are fine. See RFC 3986, sections 2.3 and 6.2.2.
pub fn is_plain(path: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(b"/") else {
        // `*`, or CONNECT's empty one.
        return path.is_empty() || path == b"*";
    };
    let mut segments = rest.split(|b| *b == b'/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        if segment.is_empty() && !last || matches!(segment, b"." | b"..") || !is_plain_segment(segment) {
            return false;
        }
    }
    true
}

fn is_plain_segment(segment: &[u8]) -> bool {
    let mut bytes = segment.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b';' | b'\\' | 0..=b' ' | 0x7f.. => return false,
            b'%' => {
                let (Some(high), Some(low)) = (bytes.next().and_then(hex), bytes.next().and_then(hex)) else {
                    return false;
                };
                if !must_be_escaped(high << 4 | low) {
                    return false;
                }
            }
            _ => {}
        }
    }
    true
}

/// A hexadecimal digit, in capitals.
fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Whether a path can hold the byte as an escape only.
const fn must_be_escaped(byte: u8) -> bool {
    matches!(
        byte,
        b' ' | b'"' | b'#' | b'<' | b'>' | b'?' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80..
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_two_readers_could_read_differently_is_not_plain() {
        for plain in ["/", "/a", "/a/b/", "/a%20b", "/%E4%B8%AD", "/a.b/c..d/...", "/~u/a:b@c,d=e", "", "*"] {
            assert!(is_plain(plain.as_bytes()), "{plain}");
        }
        for odd in [
            "//a",
            "/a//b",
            "/a//",
            "/./a",
            "/a/..",
            "/a/../b",
            "/a/.",
            "/%2e%2e/b",
            "/%2E%2E/b",
            "/a%2Fb",
            "/a%2fb",
            "/%61dmin",
            "/a;v=1/b",
            "/a\\b",
            "/a%5Cb",
            "/a%00",
            "/a%252e",
            "/%e4",
            "/a%2",
            "/a%zz",
            "/a b",
            "/a\u{e4}",
            "a/b",
            "/a%0Ab",
            "/a%7F",
        ] {
            assert!(!is_plain(odd.as_bytes()), "{odd}");
        }
    }
}
