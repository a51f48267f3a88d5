//! `http2/8`: messages.
use super::{SENT, case};
use crate::case::{Case, Ctx, Want};
use raddle_testkit::h2::{code, flag, kind};
use raddle_testkit::h2_hpack::Block;

fn ask(x: &mut Ctx, b: Block) -> Result<(), String> {
    x.p.headers(1, flag::WHOLE, &b);
    SENT
}

fn pseudo(fields: &[(&str, &str)]) -> Block {
    fields.iter().fold(Block::new(), |b, (n, v)| b.lit(n, v))
}

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "http");
const PATH: (&str, &str) = (":path", "/");
const HOST: (&str, &str) = (":authority", "conform.test");

pub(crate) fn cases() -> Vec<Case> {
    let mut all = fields();
    all.extend(bodies());
    all
}

fn fields() -> Vec<Case> {
    vec![
        case("http2/8.1/1", "a second HEADERS without END_STREAM", Want::Malformed, |x| {
            x.open(1);
            x.p.headers(1, flag::END_HEADERS, &Block::new().lit("x", "1"));
            SENT
        }),
        case("http2/8.1.2/1", "a name in upper case", Want::Malformed, |x| {
            ask(x, Ctx::get().lit("X-TEST", "1"))
        }),
        case("http2/8.1.2.1/1", "an unknown pseudo-header field", Want::Malformed, |x| {
            ask(x, Ctx::get().lit(":test", "1"))
        }),
        case("http2/8.1.2.1/2", "a response's pseudo-header field", Want::Malformed, |x| {
            ask(x, Ctx::get().lit(":status", "200"))
        }),
        case("http2/8.1.2.1/3", "a pseudo-header field in trailers", Want::Malformed, |x| {
            x.open(1);
            x.p.data(1, 0, b"test");
            x.p.headers(1, flag::WHOLE, &Block::new().lit(":method", "GET"));
            SENT
        }),
        case("http2/8.1.2.1/4", "a pseudo-header field behind others", Want::Malformed, |x| {
            ask(x, pseudo(&[METHOD, SCHEME, ("x-t", "1"), PATH, HOST]))
        }),
        case("http2/8.1.2.2/1", "Connection", Want::Malformed, |x| {
            ask(x, Ctx::get().lit("connection", "keep-alive"))
        }),
        case("http2/8.1.2.2/2", "TE other than trailers", Want::Malformed, |x| {
            ask(x, Ctx::get().lit("te", "trailers, deflate"))
        }),
        case("http2/8.1.2.3/1", "an empty :path", Want::Malformed, |x| {
            ask(x, pseudo(&[METHOD, SCHEME, (":path", ""), HOST]))
        }),
        case("http2/8.1.2.3/2", "no :method", Want::Malformed, |x| ask(x, pseudo(&[SCHEME, PATH, HOST]))),
        case("http2/8.1.2.3/3", "no :scheme", Want::Malformed, |x| ask(x, pseudo(&[METHOD, PATH, HOST]))),
        case("http2/8.1.2.3/4", "no :path", Want::Malformed, |x| ask(x, pseudo(&[METHOD, SCHEME, HOST]))),
        case("http2/8.1.2.3/5", "two :method", Want::Malformed, |x| {
            ask(x, pseudo(&[METHOD, METHOD, SCHEME, PATH, HOST]))
        }),
        case("http2/8.1.2.3/6", "two :scheme", Want::Malformed, |x| {
            ask(x, pseudo(&[METHOD, SCHEME, SCHEME, PATH, HOST]))
        }),
        case("http2/8.1.2.3/7", "two :path", Want::Malformed, |x| {
            ask(x, pseudo(&[METHOD, SCHEME, PATH, PATH, HOST]))
        }),
        case("more/8.1.2.3/1", "two :authority", Want::Malformed, |x| {
            ask(x, pseudo(&[METHOD, SCHEME, PATH, HOST, (":authority", "other.test")]))
        }),
        case("more/8.1.2.2/1", "Transfer-Encoding", Want::Malformed, |x| {
            ask(x, Ctx::get().lit("transfer-encoding", "chunked"))
        }),
        case("more/8.1.2.2/2", "Upgrade", Want::Malformed, |x| {
            ask(x, Ctx::get().lit("upgrade", "websocket"))
        }),
        case("more/8.1.2.2/3", "Keep-Alive", Want::Malformed, |x| {
            ask(x, Ctx::get().lit("keep-alive", "timeout=5"))
        }),
        case("more/8.1.2.2/4", "Proxy-Connection", Want::Malformed, |x| {
            ask(x, Ctx::get().lit("proxy-connection", "keep-alive"))
        }),
        case("more/8.1.2.2/5", "TE: trailers", Want::Ok(1), |x| ask(x, Ctx::get().lit("te", "trailers"))),
        case("more/8.1.2.2/6", "Connection in trailers", Want::Malformed, |x| {
            x.open(1);
            x.p.data(1, 0, b"test");
            x.p.headers(1, flag::WHOLE, &Block::new().lit("connection", "close"));
            SENT
        }),
    ]
}

fn bodies() -> Vec<Case> {
    vec![
        case("http2/8.1.2.6/1", "content-length is not the sum of one DATA", Want::Malformed, |x| {
            x.p.headers(1, flag::END_HEADERS, &Ctx::post().lit("content-length", "1"));
            x.p.data(1, flag::END_STREAM, b"test");
            SENT
        }),
        case("http2/8.1.2.6/2", "content-length is not the sum of several DATA", Want::Malformed, |x| {
            x.p.headers(1, flag::END_HEADERS, &Ctx::post().lit("content-length", "1"));
            x.p.data(1, 0, b"test");
            x.p.data(1, flag::END_STREAM, b"test");
            SENT
        }),
        case("more/8.1.2.6/1", "content-length is more than the body", Want::Malformed, |x| {
            x.p.headers(1, flag::END_HEADERS, &Ctx::post().lit("content-length", "10"));
            x.p.data(1, flag::END_STREAM, b"test");
            SENT
        }),
        case("more/8.1.2.6/2", "content-length without a body", Want::Malformed, |x| {
            ask(x, Ctx::get().lit("content-length", "10"))
        }),
        case("more/8.1.2.6/3", "two content-lengths", Want::Malformed, |x| {
            x.p.headers(
                1,
                flag::END_HEADERS,
                &Ctx::post().lit("content-length", "4").lit("content-length", "5"),
            );
            x.p.data(1, flag::END_STREAM, b"test");
            SENT
        }),
        case("more/8.1.2.6/4", "content-length is no number", Want::Malformed, |x| {
            x.p.headers(1, flag::END_HEADERS, &Ctx::post().lit("content-length", "+4"));
            x.p.data(1, flag::END_STREAM, b"test");
            SENT
        }),
        case("more/8.1.2.6/5", "content-length and trailers end too early", Want::Malformed, |x| {
            x.p.headers(1, flag::END_HEADERS, &Ctx::post().lit("content-length", "10"));
            x.p.data(1, 0, b"test");
            x.p.headers(1, flag::WHOLE, &Block::new().lit("x-sum", "4"));
            SENT
        }),
        case("http2/8.2/1", "PUSH_PROMISE", Want::Connection(&[code::PROTOCOL_ERROR]), |x| {
            let p = [&2_u32.to_be_bytes()[..], &Ctx::get().0].concat();
            x.open(1);
            x.p.frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &p);
            SENT
        }),
    ]
}
