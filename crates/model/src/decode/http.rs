//! Texts that go into HTTP messages: header names and values, paths, hosts.
//!
//! What is taken here can neither end a line nor begin another field, whichever way it is written out:
//! names are RFC 9110 tokens, values are visible ASCII with spaces and tabs inside, paths are RFC 3986
//! paths, hosts are names or addresses.
use super::fields::report_duplicates;
use super::{At, Codec, Cx, Text, quote, scalar, wrong};
use crate::yaml::{Node, Value};
use std::collections::HashMap;
use std::net::Ipv6Addr;

/// Headers that say how a message is framed or belong to one connection: the sidecar writes them.
const OWN: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Bound of one header value or path, bytes.
const LONGEST: usize = 8 << 10;

/// Why a text was refused: what is wrong, what would be right.
type Refused = (String, String);

/// A header's name, in lower case.
pub(crate) struct HeaderName;

impl Codec for HeaderName {
    type Out = String;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<String> {
        let (text, _) = scalar(self, node, at, cx)?;
        told(header_name(text), node, at, cx)
    }

    fn wanted(&self) -> String {
        "a header's name such as x-env".into()
    }

    fn kind(&self) -> String {
        "text".into()
    }

    fn show(&self, out: &String) -> String {
        format!("`{out}`")
    }
}

/// Headers as a mapping of names to values, in the order of the file; names in lower case.
pub(crate) struct HeaderMap {
    /// Whether a list of values may stand for a header that occurs more than once.
    pub(crate) lists: bool,
}

impl Codec for HeaderMap {
    type Out = Vec<(String, String)>;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<Self::Out> {
        let Value::Map(entries) = &node.value else {
            let found = if matches!(node.value, Value::List(_)) { "is a list" } else { "is a single value" };
            wrong(self, node, at, cx, found);
            return None;
        };
        report_duplicates(entries, at, cx);
        let mut out: Vec<(String, String)> = Vec::with_capacity(entries.len());
        let mut first: HashMap<String, &str> = HashMap::with_capacity(entries.len());
        for (key, node) in entries {
            let at = at.field(&key.text);
            let name = match header_name(&key.text) {
                Ok(name) => name,
                Err((problem, remedy)) => {
                    cx.mistake(key.spot, &at, problem, remedy);
                    continue;
                }
            };
            // The same letters twice have been reported already.
            if first.entry(name.clone()).or_insert(&key.text) != &&*key.text {
                let problem = format!("{name} is given twice, in other letters");
                cx.mistake(key.spot, &at, problem, "keep one of them".into());
            }
            match &node.value {
                Value::List(values) if self.lists => {
                    for (i, value) in values.iter().enumerate() {
                        let value = HeaderValue.decode(value, &at.item(i), cx);
                        out.extend(value.map(|value| (name.clone(), value)));
                    }
                }
                _ => out.extend(HeaderValue.decode(node, &at, cx).map(|value| (name, value))),
            }
        }
        Some(out)
    }

    fn wanted(&self) -> String {
        "a mapping of header names to values".into()
    }

    fn kind(&self) -> String {
        if self.lists { "map of text, or of lists of text".into() } else { "map of text".into() }
    }

    fn show(&self, _: &Self::Out) -> String {
        "`{}`".into()
    }
}

struct HeaderValue;

impl Codec for HeaderValue {
    type Out = String;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<String> {
        let (text, _) = scalar(self, node, at, cx)?;
        told(header_value(text), node, at, cx)
    }

    fn wanted(&self) -> String {
        "a header's value; write \"\" for an empty one".into()
    }

    fn kind(&self) -> String {
        "text".into()
    }
}

/// The path of a URI, without query.
pub(crate) struct UriPath {
    /// Whether a query may follow.
    pub(crate) query: bool,
}

impl Codec for UriPath {
    type Out = String;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<String> {
        let (text, _) = scalar(self, node, at, cx)?;
        told(uri_path(text, self.query), node, at, cx)
    }

    fn wanted(&self) -> String {
        "a path such as /orders".into()
    }

    fn kind(&self) -> String {
        "path".into()
    }

    fn show(&self, out: &String) -> String {
        format!("`{out}`")
    }
}

/// A host, or host:port, as `Host` and `:authority` carry it.
pub(crate) struct Authority;

impl Codec for Authority {
    type Out = String;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<String> {
        let (text, _) = scalar(self, node, at, cx)?;
        told(authority(text), node, at, cx)
    }

    fn wanted(&self) -> String {
        "a host such as orders.internal, or host:port".into()
    }

    fn kind(&self) -> String {
        "host[:port]".into()
    }
}

/// A host without port that requests may name: lower-case; `*.` may lead.
pub(crate) struct Host;

impl Codec for Host {
    type Out = String;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<String> {
        let (text, _) = scalar(self, node, at, cx)?;
        told(host_pattern(text), node, at, cx)
    }

    fn wanted(&self) -> String {
        "a host such as orders.internal or *.orders.internal".into()
    }

    fn kind(&self) -> String {
        "host".into()
    }

    fn show(&self, out: &String) -> String {
        format!("`{out}`")
    }
}

/// A path of a file; relative ones are joined to the folder of the YAML file.
pub(crate) struct FilePath {
    pub(crate) what: &'static str,
}

impl Codec for FilePath {
    type Out = std::path::PathBuf;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<Self::Out> {
        let text = Text::any(self.what).decode(node, at, cx)?;
        let problem = if text.trim().is_empty() {
            "is empty".to_owned()
        } else if text.contains("-----BEGIN") {
            "is the content itself".to_owned()
        } else if text.contains(char::is_control) {
            format!("{} has a control character in it", quote(&text))
        } else {
            let folder = std::path::Path::new(cx.file()).parent();
            return Some(folder.map_or_else(|| (&text).into(), |folder| folder.join(&text)));
        };
        cx.mistake(node.spot, at, problem, format!("give {}", self.what));
        None
    }

    fn wanted(&self) -> String {
        self.what.into()
    }

    fn kind(&self) -> String {
        "file".into()
    }
}

fn told(read: Result<String, Refused>, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<String> {
    read.map_err(|(problem, remedy)| cx.mistake(node.spot, at, problem, remedy)).ok()
}

fn header_name(text: &str) -> Result<String, Refused> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let name = text.to_ascii_lowercase();
    if text.is_empty() || text.len() > 256 || !text.bytes().all(token) {
        let problem = format!("{} is no header name", quote(text));
        return Err((problem, "give letters, digits and - alone, such as x-env".into()));
    }
    if name == "host" {
        return Err(("the host is not changed here".into(), "write rewrite: {authority: HOST}".into()));
    }
    if OWN.contains(&name.as_str()) {
        let problem = format!("{name} belongs to the connection or the framing: the sidecar writes it");
        return Err((problem, "leave it out".into()));
    }
    Ok(name)
}

fn header_value(text: &str) -> Result<String, Refused> {
    let give = || "give visible ASCII text, with spaces only inside".to_owned();
    if text.len() > LONGEST {
        return Err((format!("is {} bytes long", text.len()), format!("give at most {LONGEST}")));
    }
    match text.bytes().find(|&b| !(b == b'\t' || (b' '..=b'~').contains(&b))) {
        Some(b) if b.is_ascii_control() => {
            Err((format!("{} has a control character in it", quote(text)), give()))
        }
        Some(_) => Err((format!("{} is not ASCII", quote(text)), "write other letters %-encoded".into())),
        None if text.trim() != text => Err((format!("{} has a space at an end", quote(text)), give())),
        None => Ok(text.to_owned()),
    }
}

fn uri_path(text: &str, query: bool) -> Result<String, Refused> {
    if !text.starts_with('/') {
        let problem = format!("{} does not begin with /", quote(text));
        return Err((
            problem,
            format!("write {}", quote(&format!("/{}", text.chars().take(60).collect::<String>()))),
        ));
    }
    if text.len() > LONGEST {
        return Err((format!("is {} bytes long", text.len()), format!("give at most {LONGEST}")));
    }
    // RFC 3986, 3.3: segments of unreserved, sub-delims, ":", "@" and percent-encoded bytes.
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&b);
    let (path, rest) = text.split_once('?').map_or((text, None), |(path, rest)| (path, Some(rest)));
    if rest.is_some() && !query {
        return Err((format!("{} has a query", quote(text)), "give the path alone; the query stays".into()));
    }
    let wrong = path
        .chars()
        .chain(rest.unwrap_or_default().chars())
        .find(|&c| !(u8::try_from(c).is_ok_and(allowed) || (c == '?' && rest.is_some())));
    match wrong {
        Some(c) => Err((format!("{c:?} may not stand in a path"), "write it %-encoded".into())),
        None if !encoding_is_whole(text) => {
            Err((format!("{} has a % that encodes nothing", quote(text)), "write %25 for a %".into()))
        }
        None => Ok(text.to_owned()),
    }
}

/// Whether every `%` is followed by two hexadecimal digits.
fn encoding_is_whole(text: &str) -> bool {
    let hex = |b: Option<&u8>| b.is_some_and(u8::is_ascii_hexdigit);
    let bytes = text.as_bytes();
    bytes.iter().enumerate().all(|(i, &b)| b != b'%' || (hex(bytes.get(i + 1)) && hex(bytes.get(i + 2))))
}

fn authority(text: &str) -> Result<String, Refused> {
    let give = || "give a host such as orders.internal, or host:port".to_owned();
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    if port.is_some_and(|port| port.starts_with('0') || port.parse::<u16>().is_err() || port.starts_with('+'))
    {
        return Err((format!("{} is not host:port", quote(text)), give()));
    }
    if !is_host(host) {
        return Err((format!("{} is no host", quote(host)), give()));
    }
    Ok(text.to_owned())
}

fn host_pattern(text: &str) -> Result<String, Refused> {
    let give = || "give a host such as orders.internal or *.orders.internal".to_owned();
    if text.contains("://") || text.contains('/') {
        return Err((format!("{} is a URL", quote(text)), give()));
    }
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        let lower: String = text.to_ascii_lowercase().chars().take(60).collect();
        return Err((format!("{} has capital letters", quote(text)), format!("write {lower}")));
    }
    let bare = text.strip_prefix("*.").unwrap_or(text);
    if bare.contains('*') {
        let problem = format!("{}: * stands for leading labels alone", quote(text));
        return Err((problem, "write *.SUFFIX, or the whole host".into()));
    }
    if let Some((host, port)) = bare.rsplit_once(':')
        && is_host(host)
        && !port.is_empty()
        && port.bytes().all(|b| b.is_ascii_digit())
    {
        let problem = format!("{} has a port", quote(text));
        return Err((problem, "leave the port out; the host is meant at every port".into()));
    }
    if !is_host(bare) || (bare.len() < text.len() && bare.starts_with('[')) {
        return Err((format!("{} is no host", quote(text)), give()));
    }
    Ok(text.to_owned())
}

/// A DNS name (or what resolvers take for one), an IPv4 address, or an IPv6 address in brackets.
fn is_host(text: &str) -> bool {
    if let Some(inside) = text.strip_prefix('[') {
        return inside.strip_suffix(']').is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok());
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(read: Result<String, Refused>) -> String {
        read.map_or_else(|(problem, _)| problem, |text| format!("ok {text}"))
    }

    #[test]
    fn a_header_name_is_a_token_and_not_the_sidecars_own() {
        assert_eq!(header_name("X-Env"), Ok("x-env".into()));
        for bad in ["", "a b", "a:b", ":path", "a\r\nb", "ä", "a\0", "(x)"] {
            assert!(problem(header_name(bad)).ends_with("is no header name"), "{bad:?}");
        }
        for own in ["Content-Length", "transfer-encoding", "Connection", "TE", "upgrade", "Host"] {
            assert!(header_name(own).is_err(), "{own}");
        }
    }

    #[test]
    fn a_header_value_cannot_end_its_line() {
        for good in ["", "a", "a b\tc", "~!"] {
            assert_eq!(header_value(good), Ok(good.into()));
        }
        for bad in ["a\r\nx: y", "a\n", "\0", "a\u{7f}", " a", "a ", "ä", &"x".repeat(9000)] {
            assert!(header_value(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_path_holds_what_a_uri_may_hold() {
        for good in ["/", "/a/b", "/a%20b", "/~x;v=1:@,"] {
            assert_eq!(uri_path(good, false), Ok(good.into()));
        }
        assert_eq!(uri_path("/a?b=c", true), Ok("/a?b=c".into()));
        for bad in ["", "a", "/a b", "/a\r\n", "/a#b", "/a?b", "/ä", "/%", "/%2", "/%zz", "/a\\b", "/\"x"] {
            assert!(uri_path(bad, false).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
        for good in ["a", "a.b:80", "10.0.0.1:8080", "[::1]", "[::1]:80", "A_b.c"] {
            assert_eq!(authority(good), Ok(good.into()));
        }
        for bad in
            ["", ":80", "a:", "a:x", "a:99999", "a:+1", "u@h", "a b", "::1", "[::1", "a/b", "-a", "a..b"]
        {
            assert!(authority(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_host_may_begin_with_a_wildcard_and_has_no_port() {
        for good in ["a", "a.b", "*.a.b", "10.0.0.1", "[::1]"] {
            assert_eq!(host_pattern(good), Ok(good.into()));
        }
        for (bad, told) in [
            ("a.b:80", "\"a.b:80\" has a port"),
            ("A.b", "\"A.b\" has capital letters"),
            ("a.*", "\"a.*\": * stands for leading labels alone"),
            ("*", "\"*\": * stands for leading labels alone"),
            ("http://a", "\"http://a\" is a URL"),
            ("*.[::1]", "\"*.[::1]\" is no host"),
            ("a b", "\"a b\" is no host"),
            ("", "\"\" is no host"),
        ] {
            assert_eq!(problem(host_pattern(bad)), told);
        }
    }
}
