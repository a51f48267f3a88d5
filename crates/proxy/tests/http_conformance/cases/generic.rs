//! `generic`: what any server takes.
use super::{SENT, bare, case};
use crate::case::{Case, Ctx, Want};
use raddle_testkit::h2::{flag, kind, setting};
use raddle_testkit::h2_hpack::Block;

/// POST with a body in some frames.
fn post(x: &mut Ctx, stream: u32, pieces: &[&[u8]]) {
    x.open(stream);
    for (i, p) in pieces.iter().enumerate() {
        x.p.data(stream, if i + 1 == pieces.len() { flag::END_STREAM } else { 0 }, p);
    }
}

/// PRIORITY: the stream depended on and the weight less one.
pub(super) fn priority(on: u32, weight: u8) -> Vec<u8> {
    [&on.to_be_bytes()[..], &[weight]].concat()
}

/// A GET whose fields `add` adds to.
fn with(x: &mut Ctx, add: fn(Block) -> Block) -> Result<(), String> {
    x.p.headers(1, flag::WHOLE, &add(Ctx::get()));
    SENT
}

pub(crate) fn cases() -> Vec<Case> {
    let mut all = starting();
    all.extend(frames());
    all.extend(messages());
    all
}

fn starting() -> Vec<Case> {
    vec![
        bare("generic/1/1", "client preface", Want::Seen, |x| {
            x.p.greet(&[(setting::INITIAL_WINDOW_SIZE, 65_535)])
        }),
        case("generic/2/1", "PRIORITY on an idle stream", Want::Lives, |x| {
            x.p.frame(kind::PRIORITY, 0, 1, &priority(0, 255));
            SENT
        }),
        case("generic/2/2", "WINDOW_UPDATE on a half-closed (remote) stream", Want::Ok(1), |x| {
            x.ask(1);
            x.p.frame(kind::WINDOW_UPDATE, 0, 1, &100_u32.to_be_bytes());
            SENT
        }),
        case("generic/2/3", "PRIORITY on a half-closed (remote) stream", Want::Ok(1), |x| {
            x.ask(1);
            x.p.frame(kind::PRIORITY, 0, 1, &priority(0, 255));
            SENT
        }),
        case("generic/2/4", "RST_STREAM on a half-closed (remote) stream", Want::Lives, |x| {
            x.ask(1);
            x.p.frame(kind::RST_STREAM, 0, 1, &8_u32.to_be_bytes());
            SENT
        }),
        case("generic/2/5", "PRIORITY on a closed stream", Want::Lives, |x| {
            x.exchange(1)?;
            x.p.frame(kind::PRIORITY, 0, 1, &priority(0, 255));
            SENT
        }),
    ]
}

fn frames() -> Vec<Case> {
    vec![
        case("generic/3.1/1", "DATA", Want::Ok(1), |x| {
            post(x, 1, &[b"test"]);
            SENT
        }),
        case("generic/3.1/2", "several DATA", Want::Ok(1), |x| {
            post(x, 1, &[b"te", b"", b"st"]);
            SENT
        }),
        case("generic/3.1/3", "DATA with padding", Want::Ok(1), |x| {
            x.open(1);
            x.p.data(1, flag::PADDED | flag::END_STREAM, b"\x05test\0\0\0\0\0");
            SENT
        }),
        case("generic/3.2/1", "HEADERS", Want::Ok(1), |x| {
            x.ask(1);
            SENT
        }),
        case("generic/3.2/2", "HEADERS with padding", Want::Ok(1), |x| {
            let padded = [&[3][..], &Ctx::get().0, &[0; 3]].concat();
            x.p.frame(kind::HEADERS, flag::WHOLE | flag::PADDED, 1, &padded);
            SENT
        }),
        case("generic/3.2/3", "HEADERS with priority", Want::Ok(1), |x| {
            let p = [&priority(0, 255)[..], &Ctx::get().0].concat();
            x.p.frame(kind::HEADERS, flag::WHOLE | flag::PRIORITY, 1, &p);
            SENT
        }),
        case("generic/3.3/1", "PRIORITY with weight 1", Want::Lives, |x| {
            x.p.frame(kind::PRIORITY, 0, 1, &priority(0, 0));
            SENT
        }),
        case("generic/3.3/2", "PRIORITY with weight 256", Want::Lives, |x| {
            x.p.frame(kind::PRIORITY, 0, 1, &priority(0, 255));
            SENT
        }),
        case("generic/3.3/3", "PRIORITY with a dependency", Want::Lives, |x| {
            x.p.frame(kind::PRIORITY, 0, 1, &priority(0, 255));
            x.p.frame(kind::PRIORITY, 0, 3, &priority(1, 255));
            SENT
        }),
        case("generic/3.3/4", "exclusive PRIORITY", Want::Lives, |x| {
            x.p.frame(kind::PRIORITY, 0, 1, &priority(0, 255));
            x.p.frame(kind::PRIORITY, 0, 3, &priority(0x8000_0001, 255));
            SENT
        }),
        case("generic/3.3/5", "PRIORITY on an idle stream, then HEADERS on a lower one", Want::Ok(1), |x| {
            x.p.frame(kind::PRIORITY, 0, 3, &priority(0, 255));
            x.ask(1);
            SENT
        }),
        case("generic/3.4/1", "RST_STREAM", Want::Lives, |x| {
            x.open(1);
            x.p.frame(kind::RST_STREAM, 0, 1, &8_u32.to_be_bytes());
            SENT
        }),
        case("generic/3.5/1", "SETTINGS", Want::Lives, |x| {
            x.p.say_settings(&[(setting::MAX_CONCURRENT_STREAMS, 10)]);
            SENT
        }),
        case("generic/3.7/1", "PING", Want::Lives, |x| x.p.ping()),
        case("generic/3.8/1", "GOAWAY; a stream opened before is finished", Want::Ok(1), |x| {
            x.ask(1);
            x.p.frame(kind::GOAWAY, 0, 0, &[0; 8]);
            SENT
        }),
        case("generic/3.9/1", "WINDOW_UPDATE on the connection", Want::Lives, |x| {
            x.p.frame(kind::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes());
            SENT
        }),
        case("generic/3.9/2", "WINDOW_UPDATE on a stream", Want::Ok(1), |x| {
            x.open(1);
            x.p.frame(kind::WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes());
            x.p.data(1, flag::END_STREAM, b"x");
            SENT
        }),
        case("generic/3.10/1", "CONTINUATION", Want::Ok(1), |x| {
            x.p.headers(1, flag::END_STREAM, &Ctx::get());
            x.p.frame(kind::CONTINUATION, flag::END_HEADERS, 1, &Block::new().lit("x-a", "1").0);
            SENT
        }),
        case("generic/3.10/2", "several CONTINUATION", Want::Ok(1), |x| {
            x.p.headers(1, flag::END_STREAM, &Ctx::get());
            x.p.frame(kind::CONTINUATION, 0, 1, &Block::new().lit("x-a", "1").0);
            x.p.frame(kind::CONTINUATION, flag::END_HEADERS, 1, &Block::new().lit("x-b", "2").0);
            SENT
        }),
    ]
}

fn messages() -> Vec<Case> {
    vec![
        case("generic/4/1", "GET", Want::Ok(1), |x| {
            x.ask(1);
            SENT
        }),
        case("generic/4/2", "HEAD", Want::Ok(1), |x| {
            x.p.headers(1, flag::WHOLE, &Block::request("HEAD", "conform.test", "/"));
            SENT
        }),
        case("generic/4/3", "POST", Want::Ok(1), |x| {
            post(x, 1, &[b"test"]);
            SENT
        }),
        case("generic/4/4", "POST with trailers", Want::Ok(1), |x| {
            x.p.headers(1, flag::END_HEADERS, &Ctx::post().lit("trailer", "x-sum"));
            x.p.data(1, 0, b"test");
            x.p.headers(1, flag::WHOLE, &Block::new().lit("x-sum", "4"));
            SENT
        }),
        case("generic/5/1", "indexed field", Want::Ok(1), |x| with(x, |b| b.indexed(16))),
        case("generic/5/2", "literal, indexing, indexed name", Want::Ok(1), |x| {
            with(x, |b| b.named(0x40, 6, 58, "test"))
        }),
        case("generic/5/3", "literal, indexing, new name", Want::Ok(1), |x| {
            with(x, |b| b.lit_indexed("x-t", "1"))
        }),
        case("generic/5/4", "literal, no indexing, indexed name", Want::Ok(1), |x| {
            with(x, |b| b.named(0, 4, 58, "test"))
        }),
        case("generic/5/5", "literal, no indexing, new name", Want::Ok(1), |x| {
            with(x, |b| b.lit("x-t", "1"))
        }),
        case("generic/5/6", "literal, never indexed, indexed name", Want::Ok(1), |x| {
            with(x, |b| b.named(0x10, 4, 58, "test"))
        }),
        case("generic/5/7", "literal, never indexed, new name", Want::Ok(1), |x| {
            with(x, |b| b.lit_never("x-t", "1"))
        }),
        case("generic/5/8", "dynamic table size", Want::Ok(1), |x| {
            x.p.headers(1, flag::WHOLE, &Block::new().table_size(1).raw(&Ctx::get().0));
            SENT
        }),
        case("generic/5/9", "dynamic table size twice", Want::Ok(1), |x| {
            x.p.headers(1, flag::WHOLE, &Block::new().table_size(0).table_size(4096).raw(&Ctx::get().0));
            SENT
        }),
        case("generic/5/10", "literal, indexing, Huffman", Want::Ok(1), |x| {
            with(x, |b| b.byte(0x40).huffman(b"x-t").huffman(b"value"))
        }),
        case("generic/5/11", "literal, no indexing, Huffman", Want::Ok(1), |x| {
            with(x, |b| b.lit_huffman("x-t", "v"))
        }),
        case("generic/5/12", "literal, never indexed, Huffman", Want::Ok(1), |x| {
            with(x, |b| b.byte(0x10).huffman(b"x-t").huffman(b"value"))
        }),
        case("generic/5/13", "a field of the dynamic table, on the next stream", Want::Ok(3), |x| {
            x.p.headers(1, flag::WHOLE, &Ctx::get().lit_indexed("x-t", "1"));
            x.p.response(1)?;
            x.p.headers(3, flag::WHOLE, &Ctx::get().indexed(62));
            SENT
        }),
    ]
}
