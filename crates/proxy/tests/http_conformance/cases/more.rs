//! What h2spec does not ask: requests that would be others in HTTP/1.1, and floods.
use super::{SENT, case};
use crate::case::{Case, Ctx, Want};
use raddle_testkit::h2::flag;
use raddle_testkit::h2_hpack::Block;

fn ask(x: &mut Ctx, b: Block) -> Result<(), String> {
    x.p.headers(1, flag::WHOLE, &b);
    SENT
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("more/value/1", "CRLF and a field in a value", Want::Malformed, |x| {
            ask(x, Ctx::get().lit("x-t", "a\r\nx-injected: 1"))
        }),
        case("more/value/2", "CRLF and a request in a value", Want::Malformed, |x| {
            ask(x, Ctx::get().lit("x-t", "a\r\n\r\nGET /evil HTTP/1.1\r\nhost: b\r\n\r\n"))
        }),
        case("more/value/3", "LF in a value", Want::Malformed, |x| ask(x, Ctx::get().lit("x-t", "a\nb: c"))),
        case("more/value/4", "CR in a value", Want::Malformed, |x| ask(x, Ctx::get().lit("x-t", "a\rb: c"))),
        case("more/value/5", "NUL in a value", Want::Malformed, |x| ask(x, Ctx::get().lit("x-t", "a\0b"))),
        case("more/name/1", "a colon in a name", Want::Malformed, |x| ask(x, Ctx::get().lit("x-t: a", "b"))),
        case("more/name/2", "CRLF in a name", Want::Malformed, |x| {
            ask(x, Ctx::get().lit("x-t: a\r\nx-u", "b"))
        }),
        case("more/name/3", "a space in a name", Want::Malformed, |x| ask(x, Ctx::get().lit("x t", "b"))),
        case("more/name/4", "a byte over 0x7f in a name", Want::Malformed, |x| {
            ask(x, Ctx::get().lit(b"x-\xe9", "b"))
        }),
        case("more/method/1", "a space in :method", Want::Malformed, |x| {
            ask(x, Block::request("GET /evil", "conform.test", "/"))
        }),
        case("more/method/2", "CRLF in :method", Want::Malformed, |x| {
            ask(x, Block::request("GET / HTTP/1.1\r\nhost: evil\r\n\r\nGET", "conform.test", "/"))
        }),
        case("more/path/1", "a space in :path", Want::Malformed, |x| {
            ask(x, Block::request("GET", "conform.test", "/a HTTP/1.1"))
        }),
        case("more/path/2", "CRLF in :path", Want::Malformed, |x| {
            ask(x, Block::request("GET", "conform.test", "/ HTTP/1.1\r\nx: y\r\n\r\n"))
        }),
        case("more/path/3", "a fragment in :path", Want::Malformed, |x| {
            ask(x, Block::request("GET", "conform.test", "/a#b"))
        }),
        case("more/path/4", ":path that is no path", Want::Malformed, |x| {
            ask(x, Block::request("GET", "conform.test", "evil"))
        }),
        case("more/path/5", ":path that is an absolute URI", Want::Malformed, |x| {
            ask(x, Block::request("GET", "conform.test", "http://evil.test/"))
        }),
        case("more/authority/1", "a path in :authority", Want::Malformed, |x| {
            ask(x, Block::request("GET", "conform.test/evil", "/"))
        }),
        case("more/authority/2", "CRLF in :authority", Want::Malformed, |x| {
            ask(x, Block::request("GET", "conform.test\r\nx-injected: 1", "/"))
        }),
        case("more/authority/3", "credentials in :authority", Want::Malformed, |x| {
            ask(x, Block::request("GET", "user@conform.test", "/"))
        }),
        case("more/authority/4", "host differs from :authority", Want::Malformed, |x| {
            ask(x, Ctx::get().lit("host", "evil.test"))
        }),
        case("more/authority/5", "host equals :authority", Want::Ok(1), |x| {
            ask(x, Ctx::get().lit("host", "conform.test"))
        }),
        case("more/authority/6", "two host", Want::Malformed, |x| {
            ask(x, Ctx::get().lit("host", "conform.test").lit("host", "evil.test"))
        }),
        case("more/scheme/1", ":scheme that holds a URI", Want::Malformed, |x| {
            let b = Block::new().lit(":method", "GET").lit(":scheme", "http://evil.test/?");
            ask(x, b.lit(":path", "/").lit(":authority", "conform.test"))
        }),
        case("more/expect/1", "expect: 100-continue", Want::Ok(1), |x| {
            x.p.headers(1, flag::END_HEADERS, &Ctx::post().lit("expect", "100-continue"));
            x.p.data(1, flag::END_STREAM, b"test");
            SENT
        }),
        case("more/cookie/1", "cookies in pieces", Want::Ok(1), |x| {
            ask(x, Ctx::get().lit("cookie", "a=1").lit("cookie", "b=2"))
        }),
        case("more/trailer/1", "content-length in trailers", Want::Seen, |x| {
            x.open(1);
            x.p.data(1, 0, b"test");
            x.p.headers(1, flag::WHOLE, &Block::new().lit("content-length", "1").lit("host", "evil.test"));
            // Refused or left out; what is behind checks that it does not come through.
            x.p.response(1).map(|_| ()).or(SENT)
        }),
        case("more/data/1", "many small DATA", Want::Ok(1), |x| {
            x.open(1);
            for _ in 0..200 {
                x.p.data(1, 0, b"x");
            }
            x.p.data(1, flag::END_STREAM, b"");
            SENT
        }),
    ]
}
