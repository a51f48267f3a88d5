//! Which protocol a connection speaks, from as few of its first bytes as will tell.
//!
//! TLS is known from one byte, and so is Bolt: a client whose first message is four bytes long must not wait
//! for a fifth one that never comes. HTTP needs a whole method word; until then the answer is
//! [`Sniff::NeedMore`], and the caller's detection timeout decides.

/// What the first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sniff {
    /// SOFARPC's Bolt, version 1 or 2.
    Bolt,
    /// Dubbo 2.
    Dubbo,
    /// A TLS handshake record.
    Tls,
    /// HTTP/1.x.
    Http1,
    /// The HTTP/2 connection preface.
    Http2,
    /// None of the above: plain TCP.
    Unknown,
    /// Every byte so far fits more than one answer.
    NeedMore,
}

const TLS_HANDSHAKE: u8 = 0x16;
const DUBBO_MAGIC: [u8; 2] = [0xDA, 0xBB];
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The longest method word taken for HTTP/1: `UNSUBSCRIBE` and the `WebDAV` ones are shorter.
const METHOD_MAX: usize = 20;

/// Decides what `first` begins with.
///
/// Only [`Sniff::NeedMore`] ever changes when more bytes follow, with one exception made on purpose: a lone
/// 0x01 or 0x02 is [`Sniff::Bolt`], and [`Sniff::Unknown`] once the following bytes cannot be Bolt's.
///
/// ```
/// use raddle_wire::sniff::{sniff, Sniff};
/// assert_eq!(sniff(&[0x16]), Sniff::Tls);
/// assert_eq!(sniff(b"GE"), Sniff::NeedMore);
/// assert_eq!(sniff(b"GET / HTTP/1.1\r\n"), Sniff::Http1);
/// ```
pub fn sniff(first: &[u8]) -> Sniff {
    match first {
        [] => Sniff::NeedMore,
        [TLS_HANDSHAKE, ..] => Sniff::Tls,
        [1, rest @ ..] => bolt(rest),
        [2, rest @ ..] => match rest {
            [] => Sniff::Bolt,
            [1 | 2, rest @ ..] => bolt(rest),
            _ => Sniff::Unknown,
        },
        [0xDA] => Sniff::NeedMore,
        [a, b, ..] if [*a, *b] == DUBBO_MAGIC => Sniff::Dubbo,
        [b'A'..=b'Z' | b'a'..=b'z', ..] => http(first),
        _ => Sniff::Unknown,
    }
}

/// Whether a few first bytes are, as far as they go, those of a protocol known here: who sends just these and
/// waits must not be taken for something else. A word in small letters is no method of HTTP in use, and may be
/// the whole of what a client of some other protocol has to say.
///
/// ```
/// use raddle_wire::sniff::begins_something;
/// assert!(begins_something(b"GE") && begins_something(b"PRI * HT"));
/// assert!(!begins_something(b"ping") && !begins_something(b""));
/// ```
pub fn begins_something(first: &[u8]) -> bool {
    let word = first.split(|b| *b == b' ').next().unwrap_or_default();
    !word.is_empty() && sniff(first) == Sniff::NeedMore && !word.iter().any(u8::is_ascii_lowercase)
}

/// `rest` starts at the type byte. Command codes in use are 0, 1, 2 and 100: the high byte is always zero.
fn bolt(rest: &[u8]) -> Sniff {
    match rest {
        [] | [0..=2] | [0..=2, 0, ..] => Sniff::Bolt,
        _ => Sniff::Unknown,
    }
}

fn http(first: &[u8]) -> Sniff {
    let known = first.len().min(HTTP2_PREFACE.len());
    if first[..known] == HTTP2_PREFACE[..known] {
        // "PRI" and a space is no HTTP/1 method, so five bytes would do; the whole preface costs nothing
        // more, as its sender always sends all of it at once.
        return if known == HTTP2_PREFACE.len() { Sniff::Http2 } else { Sniff::NeedMore };
    }
    // RFC 9110 tokens have more characters than these, but no method in use has.
    let word = first.iter().position(|b| !(b.is_ascii_alphabetic() || *b == b'-'));
    match word {
        Some(end) if end <= METHOD_MAX && first[end] == b' ' => target(&first[..end], &first[end + 1..]),
        None if first.len() <= METHOD_MAX => Sniff::NeedMore,
        _ => Sniff::Unknown,
    }
}

/// A request target begins with `/`, `*`, a scheme or an authority. Other text protocols begin with a word and
/// a space too (memcached's `get key`, NATS's `CONNECT {`, a mail server's `EHLO name`), so only after methods
/// of HTTP's own is anything a target that is no control byte or space, and then wrong in HTTP's own terms.
fn target(method: &[u8], rest: &[u8]) -> Sniff {
    const SCHEME: &[u8] = b"http";
    let own = matches!(
        method,
        b"GET" | b"HEAD" | b"POST" | b"PUT" | b"DELETE" | b"CONNECT" | b"OPTIONS" | b"TRACE" | b"PATCH"
    );
    match rest {
        [] => Sniff::NeedMore,
        [b'/' | b'*', ..] => Sniff::Http1,
        [b'{', ..] if method == b"CONNECT" => Sniff::Unknown,
        [b'!'..=b'~', ..] if own => Sniff::Http1,
        _ => {
            let known = rest.len().min(SCHEME.len());
            match rest[..known].eq_ignore_ascii_case(&SCHEME[..known]) {
                true if known == SCHEME.len() => Sniff::Http1,
                true => Sniff::NeedMore,
                false => Sniff::Unknown,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_decides_tls_and_bolt() {
        assert_eq!(sniff(&[0x16]), Sniff::Tls);
        assert_eq!(sniff(&[1]), Sniff::Bolt);
        assert_eq!(sniff(&[2]), Sniff::Bolt);
        assert_eq!(sniff(&[2, 2]), Sniff::Bolt);
        assert_eq!(sniff(&[2, 2, 1, 0, 100]), Sniff::Bolt);
    }

    #[test]
    fn bytes_that_cannot_be_bolt_take_the_answer_back() {
        assert_eq!(sniff(&[1, 3]), Sniff::Unknown);
        assert_eq!(sniff(&[1, 1, 7]), Sniff::Unknown);
        assert_eq!(sniff(&[2, 3]), Sniff::Unknown);
    }

    #[test]
    fn dubbo_needs_both_magic_bytes() {
        assert_eq!(sniff(&[0xDA]), Sniff::NeedMore);
        assert_eq!(sniff(&[0xDA, 0xBB]), Sniff::Dubbo);
        assert_eq!(sniff(&[0xDA, 0xBC]), Sniff::Unknown);
    }

    #[test]
    fn http_is_told_from_words_that_only_look_like_it() {
        assert_eq!(sniff(b"G"), Sniff::NeedMore);
        assert_eq!(sniff(b"GET "), Sniff::NeedMore);
        assert_eq!(sniff(b"GET /"), Sniff::Http1);
        assert_eq!(sniff(b"M-SEARCH * HTTP/1.1"), Sniff::Http1);
        assert_eq!(sniff(b"PRI"), Sniff::NeedMore);
        assert_eq!(sniff(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Sniff::Http2);
        assert_eq!(sniff(b"PROPFIND /x"), Sniff::Http1);
        assert_eq!(sniff(b"hello\r\n"), Sniff::Unknown);
        assert_eq!(sniff(b"abcdefghijklmnopqrstuvwxyz"), Sniff::Unknown);
        assert_eq!(sniff(b"GET \r\n"), Sniff::Unknown);
    }

    #[test]
    fn words_of_other_text_protocols_are_not_taken_for_methods() {
        for other in
            ["get key\r\n", "CONNECT {\"verbose\":false}", "EHLO example.com\r\n", "SET name value\r\n"]
        {
            assert_eq!(sniff(other.as_bytes()), Sniff::Unknown, "{other}");
        }
        assert_eq!(sniff(b"CONNECT example.com:443"), Sniff::Http1);
        assert_eq!(sniff(b"SEARCH HTTP://a/"), Sniff::Http1);
        assert_eq!(sniff(b"SEARCH ht"), Sniff::NeedMore);
    }

    #[test]
    fn server_first_and_binary_protocols_stay_unknown() {
        assert_eq!(sniff(&[0]), Sniff::Unknown);
        assert_eq!(sniff(b"*1\r\n$4\r\nPING\r\n"), Sniff::Unknown);
        assert_eq!(sniff(&[0xFF, 1]), Sniff::Unknown);
    }
}
