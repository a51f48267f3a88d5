//! `http2/6` and `http2/7`: the frames one by one.
use super::{SENT, case};
use crate::case::{Case, Ctx, Want};
use raddle_testkit::h2::{Event, brief, code, encode_as, flag, kind, setting};
use raddle_testkit::h2_hpack::Block;

const WRONG: &[u32] = &[code::PROTOCOL_ERROR];
const SIZE: &[u32] = &[code::FRAME_SIZE_ERROR];
const FLOW: &[u32] = &[code::FLOW_CONTROL_ERROR];

fn settings(x: &mut Ctx, id: u16, value: u32) -> Result<(), String> {
    x.p.say_settings(&[(id, value)]);
    SENT
}

fn window(x: &mut Ctx, stream: u32, n: u32) -> Result<(), String> {
    x.p.frame(kind::WINDOW_UPDATE, 0, stream, &n.to_be_bytes());
    SENT
}

/// A GET for so many bytes.
fn large(x: &mut Ctx, n: usize) {
    x.p.headers(1, flag::WHOLE, &Block::request("GET", "conform.test", &format!("/size/{n}")));
}

/// The next DATA frame has so many bytes.
fn data(x: &mut Ctx, n: usize) -> Result<(), String> {
    loop {
        match x.next() {
            Event::Frame(f) if f.kind == kind::DATA && f.payload.len() == n => return Ok(()),
            Event::Frame(f) if f.kind == kind::HEADERS => {}
            other => return Err(format!("{} instead of {n} bytes of DATA", brief(&other))),
        }
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let mut all = data_and_headers();
    all.extend(small());
    all.extend(settings_frames());
    all.extend(windows());
    all.extend(continuation());
    all
}

fn data_and_headers() -> Vec<Case> {
    vec![
        case("http2/6.1/1", "DATA on stream 0", Want::Connection(WRONG), |x| {
            x.p.data(0, flag::END_STREAM, b"test");
            SENT
        }),
        case("http2/6.1/2", "DATA on a stream that is not open", Want::Stream(&[code::STREAM_CLOSED]), |x| {
            x.ask(1);
            x.p.data(1, flag::END_STREAM, b"test");
            SENT
        }),
        case("http2/6.1/3", "DATA with more padding than payload", Want::Connection(WRONG), |x| {
            x.open(1);
            x.p.data(1, flag::PADDED | flag::END_STREAM, b"\x06test");
            SENT
        }),
        case("http2/6.2/1", "HEADERS without END_HEADERS, then PRIORITY", Want::Connection(WRONG), |x| {
            x.p.headers(1, flag::END_STREAM, &Ctx::get());
            x.p.frame(kind::PRIORITY, 0, 1, &super::generic::priority(0, 255));
            SENT
        }),
        case("http2/6.2/2", "HEADERS on another stream within a block", Want::Connection(WRONG), |x| {
            x.p.headers(1, flag::END_STREAM, &Ctx::get());
            x.ask(3);
            SENT
        }),
        case("http2/6.2/3", "HEADERS on stream 0", Want::Connection(WRONG), |x| {
            x.ask(0);
            SENT
        }),
        case("http2/6.2/4", "HEADERS with more padding than payload", Want::Connection(WRONG), |x| {
            let b = Ctx::get().0;
            let padded = [&[b.len() as u8 + 2][..], &b].concat();
            x.p.frame(kind::HEADERS, flag::WHOLE | flag::PADDED, 1, &padded);
            SENT
        }),
    ]
}

fn small() -> Vec<Case> {
    vec![
        case("http2/6.3/1", "PRIORITY on stream 0", Want::Connection(WRONG), |x| {
            x.p.frame(kind::PRIORITY, 0, 0, &super::generic::priority(0, 255));
            SENT
        }),
        case("http2/6.3/2", "PRIORITY of 4 bytes", Want::Stream(SIZE), |x| {
            x.open(1);
            x.p.frame(kind::PRIORITY, 0, 1, b"\x80\0\0\x01");
            SENT
        }),
        case("http2/6.4/1", "RST_STREAM on stream 0", Want::Connection(WRONG), |x| {
            x.p.frame(kind::RST_STREAM, 0, 0, &code::CANCEL.to_be_bytes());
            SENT
        }),
        case("http2/6.4/2", "RST_STREAM on an idle stream", Want::Connection(WRONG), |x| {
            x.p.frame(kind::RST_STREAM, 0, 1, &code::CANCEL.to_be_bytes());
            SENT
        }),
        case("http2/6.4/3", "RST_STREAM of 3 bytes", Want::Connection(SIZE), |x| {
            x.open(1);
            x.p.frame(kind::RST_STREAM, 0, 1, b"\0\0\0");
            SENT
        }),
        case("http2/6.7/1", "PING", Want::Lives, |x| x.p.ping()),
        case("http2/6.7/2", "PING with ACK is not answered", Want::Seen, |x| {
            x.p.frame(kind::PING, flag::ACK, 0, b"unasked!");
            x.p.frame(kind::PING, 0, 0, b"asked!!!");
            match x.next() {
                Event::Frame(f) if f.kind == kind::PING && f.payload == b"asked!!!" => SENT,
                other => Err(brief(&other)),
            }
        }),
        case("http2/6.7/3", "PING on a stream", Want::Connection(WRONG), |x| {
            x.p.frame(kind::PING, 0, 1, &[0; 8]);
            SENT
        }),
        case("http2/6.7/4", "PING of 6 bytes", Want::Connection(SIZE), |x| {
            x.p.send(&encode_as(6, kind::PING, 0, 0, &[0; 6]));
            SENT
        }),
        case("http2/6.8/1", "GOAWAY on a stream", Want::Connection(WRONG), |x| {
            x.p.frame(kind::GOAWAY, 0, 1, &[0; 8]);
            SENT
        }),
        case("http2/7/1", "GOAWAY with an unknown code", Want::Seen, |x| {
            x.p.frame(kind::GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\xff");
            // It may answer, or end the connection.
            x.p.frame(kind::PING, 0, 0, &[0; 8]);
            match x.next() {
                Event::Frame(f) if f.kind == kind::PING => SENT,
                Event::Frame(f) if f.kind == kind::GOAWAY && f.code() == code::NO_ERROR => SENT,
                Event::Closed => SENT,
                other => Err(brief(&other)),
            }
        }),
        case("http2/7/2", "RST_STREAM with an unknown code", Want::Lives, |x| {
            x.open(1);
            x.p.frame(kind::RST_STREAM, 0, 1, b"\0\0\0\xff");
            SENT
        }),
    ]
}

fn settings_frames() -> Vec<Case> {
    vec![
        case("http2/6.5/1", "SETTINGS with ACK and a payload", Want::Connection(SIZE), |x| {
            x.p.frame(kind::SETTINGS, flag::ACK, 0, b"\0");
            SENT
        }),
        case("http2/6.5/2", "SETTINGS on a stream", Want::Connection(WRONG), |x| {
            x.p.frame(kind::SETTINGS, 0, 1, b"\0\x03\0\0\0\x64");
            SENT
        }),
        case("http2/6.5/3", "SETTINGS of 3 bytes", Want::Connection(SIZE), |x| {
            x.p.frame(kind::SETTINGS, 0, 0, b"\0\x03\0");
            SENT
        }),
        case("http2/6.5.2/1", "ENABLE_PUSH of 2", Want::Connection(WRONG), |x| {
            settings(x, setting::ENABLE_PUSH, 2)
        }),
        case("http2/6.5.2/2", "INITIAL_WINDOW_SIZE of 2^31", Want::Connection(FLOW), |x| {
            settings(x, setting::INITIAL_WINDOW_SIZE, 1 << 31)
        }),
        case("http2/6.5.2/3", "MAX_FRAME_SIZE of 2^14 - 1", Want::Connection(WRONG), |x| {
            settings(x, setting::MAX_FRAME_SIZE, (1 << 14) - 1)
        }),
        case("http2/6.5.2/4", "MAX_FRAME_SIZE of 2^24", Want::Connection(WRONG), |x| {
            settings(x, setting::MAX_FRAME_SIZE, 1 << 24)
        }),
        case("http2/6.5.2/5", "an unknown setting", Want::Lives, |x| settings(x, 0xff, 1)),
        case("http2/6.5.3/1", "one setting twice: the last counts", Want::Seen, |x| {
            x.p.say_settings(&[(setting::INITIAL_WINDOW_SIZE, 100), (setting::INITIAL_WINDOW_SIZE, 1)]);
            large(x, 100);
            data(x, 1)
        }),
        case("http2/6.5.3/2", "SETTINGS are acknowledged", Want::Seen, |x| {
            x.p.say_settings(&[]);
            match x.p.next_but(&[kind::WINDOW_UPDATE]) {
                Event::Frame(f) if f.kind == kind::SETTINGS && f.has(flag::ACK) => SENT,
                other => Err(brief(&other)),
            }
        }),
    ]
}

fn windows() -> Vec<Case> {
    const MOST: u32 = (1 << 31) - 1;
    vec![
        case("http2/6.9/1", "WINDOW_UPDATE of 0 on the connection", Want::Connection(WRONG), |x| {
            window(x, 0, 0)
        }),
        case("http2/6.9/2", "WINDOW_UPDATE of 0 on a stream", Want::Stream(WRONG), |x| {
            x.open(1);
            window(x, 1, 0)
        }),
        case("http2/6.9/3", "WINDOW_UPDATE of 3 bytes", Want::Connection(SIZE), |x| {
            x.p.frame(kind::WINDOW_UPDATE, 0, 0, b"\0\0\x01");
            SENT
        }),
        case("http2/6.9.1/1", "a window of 1 byte: 1 byte comes", Want::Seen, |x| {
            settings(x, setting::INITIAL_WINDOW_SIZE, 1)?;
            large(x, 100);
            data(x, 1)
        }),
        case("http2/6.9.1/2", "the connection's window over 2^31 - 1", Want::Connection(FLOW), |x| {
            window(x, 0, MOST)?;
            window(x, 0, MOST)
        }),
        case("http2/6.9.1/3", "a stream's window over 2^31 - 1", Want::Stream(FLOW), |x| {
            x.open(1);
            window(x, 1, MOST)?;
            window(x, 1, MOST)
        }),
        case("http2/6.9.2/1", "the initial window grows under a stream", Want::Seen, |x| {
            settings(x, setting::INITIAL_WINDOW_SIZE, 0)?;
            large(x, 100);
            settings(x, setting::INITIAL_WINDOW_SIZE, 1)?;
            data(x, 1)
        }),
        case("http2/6.9.2/2", "a stream's window falls below 0, and grows", Want::Seen, |x| {
            settings(x, setting::INITIAL_WINDOW_SIZE, 3)?;
            large(x, 100);
            data(x, 3)?;
            settings(x, setting::INITIAL_WINDOW_SIZE, 2)?;
            window(x, 1, 2)?;
            data(x, 1)
        }),
        case("http2/6.9.2/3", "the initial window over 2^31 - 1", Want::Connection(FLOW), |x| {
            x.open(1);
            settings(x, setting::INITIAL_WINDOW_SIZE, u32::MAX)
        }),
    ]
}

fn continuation() -> Vec<Case> {
    fn go_on(x: &mut Ctx, flags: u8) {
        x.p.frame(kind::CONTINUATION, flags, 1, &Block::new().lit("x", "1").0);
    }
    vec![
        case("http2/6.10/1", "several CONTINUATION behind HEADERS", Want::Ok(1), |x| {
            x.p.headers(1, flag::END_STREAM, &Ctx::get());
            go_on(x, 0);
            go_on(x, flag::END_HEADERS);
            SENT
        }),
        case("http2/6.10/2", "DATA behind an unfinished CONTINUATION", Want::Connection(WRONG), |x| {
            x.p.headers(1, 0, &Ctx::post());
            go_on(x, 0);
            x.p.data(1, flag::END_STREAM, b"test");
            SENT
        }),
        case("http2/6.10/3", "CONTINUATION on stream 0", Want::Connection(WRONG), |x| {
            x.p.headers(1, flag::END_STREAM, &Ctx::get());
            x.p.frame(kind::CONTINUATION, flag::END_HEADERS, 0, &Block::new().lit("x", "1").0);
            SENT
        }),
        case("http2/6.10/4", "CONTINUATION behind finished HEADERS", Want::Connection(WRONG), |x| {
            x.open(1);
            go_on(x, flag::END_HEADERS);
            SENT
        }),
        case("http2/6.10/5", "CONTINUATION behind a finished CONTINUATION", Want::Connection(WRONG), |x| {
            x.p.headers(1, 0, &Ctx::post());
            go_on(x, flag::END_HEADERS);
            go_on(x, flag::END_HEADERS);
            SENT
        }),
        case("http2/6.10/6", "CONTINUATION behind DATA", Want::Connection(WRONG), |x| {
            x.open(1);
            x.p.data(1, 0, b"test");
            go_on(x, flag::END_HEADERS);
            SENT
        }),
    ]
}
