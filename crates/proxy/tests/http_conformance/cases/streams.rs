//! `http2/5`: streams.
use super::generic::priority;
use super::{SENT, case};
use crate::case::{Case, Ctx, Want};
use raddle_testkit::h2::{code, encode_as, flag, kind, setting};
use raddle_testkit::h2_hpack::Block;

const CLOSED: &[u32] = &[code::STREAM_CLOSED];
const CLOSED_OR_WRONG: &[u32] = &[code::STREAM_CLOSED, code::PROTOCOL_ERROR];
const WRONG: &[u32] = &[code::PROTOCOL_ERROR];

/// A stream that was reset by the caller.
fn reset(x: &mut Ctx) {
    x.open(1);
    x.p.frame(kind::RST_STREAM, 0, 1, &code::CANCEL.to_be_bytes());
}

fn more_headers(x: &mut Ctx) -> Result<(), String> {
    x.p.frame(kind::CONTINUATION, flag::END_HEADERS, 1, &Block::new().lit("x", "1").0);
    SENT
}

pub(crate) fn cases() -> Vec<Case> {
    let mut all = states();
    all.extend(ids());
    all
}

fn states() -> Vec<Case> {
    vec![
        case("http2/5.1/1", "idle: DATA", Want::Connection(WRONG), |x| {
            x.p.data(1, flag::END_STREAM, b"test");
            SENT
        }),
        case("http2/5.1/2", "idle: RST_STREAM", Want::Connection(WRONG), |x| {
            x.p.frame(kind::RST_STREAM, 0, 1, &code::CANCEL.to_be_bytes());
            SENT
        }),
        case("http2/5.1/3", "idle: WINDOW_UPDATE", Want::Connection(WRONG), |x| {
            x.p.frame(kind::WINDOW_UPDATE, 0, 1, &100_u32.to_be_bytes());
            SENT
        }),
        case("http2/5.1/4", "idle: CONTINUATION", Want::Connection(WRONG), more_headers),
        case("http2/5.1/5", "half closed (remote): DATA", Want::Stream(CLOSED), |x| {
            x.p.headers(1, flag::WHOLE, &Block::request("GET", "conform.test", "/slow"));
            x.p.data(1, flag::END_STREAM, b"test");
            SENT
        }),
        case("http2/5.1/6", "half closed (remote): HEADERS", Want::Stream(CLOSED_OR_WRONG), |x| {
            x.ask(1);
            x.ask(1);
            SENT
        }),
        case("http2/5.1/7", "half closed (remote): CONTINUATION", Want::Connection(CLOSED_OR_WRONG), |x| {
            x.ask(1);
            more_headers(x)
        }),
        case("http2/5.1/8", "closed by RST_STREAM: DATA", Want::Stream(CLOSED), |x| {
            reset(x);
            x.p.data(1, flag::END_STREAM, b"test");
            SENT
        }),
        case("http2/5.1/9", "closed by RST_STREAM: HEADERS", Want::Stream(CLOSED_OR_WRONG), |x| {
            reset(x);
            x.ask(1);
            SENT
        }),
        case("http2/5.1/10", "closed by RST_STREAM: CONTINUATION", Want::Connection(CLOSED_OR_WRONG), |x| {
            reset(x);
            more_headers(x)
        }),
        case("http2/5.1/11", "closed: DATA", Want::Stream(CLOSED), |x| {
            x.exchange(1)?;
            x.p.data(1, flag::END_STREAM, b"test");
            SENT
        }),
        case("http2/5.1/12", "closed: HEADERS", Want::Stream(CLOSED_OR_WRONG), |x| {
            x.exchange(1)?;
            x.ask(1);
            SENT
        }),
        case("http2/5.1/13", "closed: CONTINUATION", Want::Connection(CLOSED_OR_WRONG), |x| {
            x.exchange(1)?;
            more_headers(x)
        }),
    ]
}

fn ids() -> Vec<Case> {
    vec![
        case("http2/5.1.1/1", "an even stream id", Want::Connection(WRONG), |x| {
            x.ask(2);
            SENT
        }),
        case(
            "http2/5.1.1/2",
            "a lower id than before",
            Want::Connection(&[code::PROTOCOL_ERROR, code::STREAM_CLOSED]),
            |x| {
                x.exchange(5)?;
                x.ask(3);
                SENT
            },
        ),
        case(
            "http2/5.1.2/1",
            "more streams than allowed",
            Want::Stream(&[code::PROTOCOL_ERROR, code::REFUSED_STREAM]),
            |x| {
                let most = x.p.setting(setting::MAX_CONCURRENT_STREAMS).ok_or("streams have no bound")?;
                for i in 0..=most {
                    x.open(1 + 2 * i);
                }
                SENT
            },
        ),
        case("http2/5.3.1/1", "HEADERS that depend on themselves", Want::StreamOrNothing(WRONG), |x| {
            let p = [&priority(1, 255)[..], &Ctx::get().0].concat();
            x.p.frame(kind::HEADERS, flag::WHOLE | flag::PRIORITY, 1, &p);
            SENT
        }),
        case("http2/5.3.1/2", "PRIORITY that depends on itself", Want::StreamOrNothing(WRONG), |x| {
            x.p.frame(kind::PRIORITY, 0, 1, &priority(1, 255));
            SENT
        }),
        case(
            "http2/5.4.1/1",
            "a PING of 6 bytes: the connection ends",
            Want::Connection(&[code::FRAME_SIZE_ERROR]),
            |x| {
                x.p.send(&encode_as(6, kind::PING, 0, 0, &[0; 6]));
                SENT
            },
        ),
        case("http2/5.4.1/2", "the same says GOAWAY", Want::Connection(&[code::FRAME_SIZE_ERROR]), |x| {
            x.exchange(1)?;
            x.p.send(&encode_as(6, kind::PING, 0, 0, &[0; 6]));
            SENT
        }),
        case("http2/5.5/1", "an unknown frame", Want::Lives, |x| {
            x.p.frame(0xff, 0xff, 0, b"\0");
            SENT
        }),
        case("http2/5.5/2", "an unknown frame within a header block", Want::Connection(WRONG), |x| {
            x.p.headers(1, flag::END_STREAM, &Ctx::get());
            x.p.frame(0xff, 0, 1, b"\0");
            more_headers(x)
        }),
    ]
}
