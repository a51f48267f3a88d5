//! `http2/3` and `http2/4`: starting, frames, header blocks.
use super::{SENT, bare, case};
use crate::case::{Case, Ctx, Want};
use raddle_testkit::h2::{PREFACE, code, encode, flag, kind};
use raddle_testkit::h2_hpack::Block;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        bare("http2/3.5/1", "client preface", Want::Seen, |x| x.p.greet(&[])),
        bare("http2/3.5/2", "a preface that is none", Want::Connection(&[code::PROTOCOL_ERROR]), |x| {
            x.p.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX");
            x.p.say_settings(&[]);
            SENT
        }),
        case("http2/4.1/1", "a frame of unknown type", Want::Lives, |x| {
            x.p.frame(0x16, 0, 0, b"\0\0\0\0\0\0\0\0");
            SENT
        }),
        case("http2/4.1/2", "a flag that is not defined", Want::Seen, |x| {
            x.p.frame(kind::PING, 0x16, 0, b"\0\0\0\0\0\0\0\0");
            x.p.ping()
        }),
        case("http2/4.1/3", "the reserved bit set", Want::Lives, |x| {
            x.p.frame(kind::PING, 0, 0x8000_0000, b"\0\0\0\0\0\0\0\0");
            SENT
        }),
        case("http2/4.2/1", "DATA of 2^14 bytes", Want::Ok(1), |x| {
            x.open(1);
            x.p.data(1, flag::END_STREAM, &[0; 1 << 14]);
            SENT
        }),
        case("http2/4.2/2", "DATA larger than allowed", Want::Stream(&[code::FRAME_SIZE_ERROR]), |x| {
            x.open(1);
            let most = x.p.setting(5).unwrap_or(1 << 14) as usize;
            x.p.data(1, flag::END_STREAM, &vec![0; most + 1]);
            SENT
        }),
        case(
            "http2/4.2/3",
            "HEADERS larger than allowed",
            Want::Connection(&[code::FRAME_SIZE_ERROR]),
            |x| {
                let most = x.p.setting(5).unwrap_or(1 << 14) as usize;
                x.p.headers(1, flag::WHOLE, &Ctx::get().lit("x-large", vec![b'x'; most]));
                SENT
            },
        ),
        case(
            "http2/4.3/1",
            "a header block that is none",
            Want::Connection(&[code::COMPRESSION_ERROR]),
            |x| {
                // A literal with indexing whose value is cut.
                x.p.headers(1, flag::WHOLE, &Block::new().raw(b"\x40\x01"));
                SENT
            },
        ),
        case(
            "http2/4.3/2",
            "PRIORITY within a header block",
            Want::Connection(&[code::PROTOCOL_ERROR]),
            |x| {
                x.p.headers(1, flag::END_STREAM, &Ctx::get());
                x.p.frame(kind::PRIORITY, 0, 1, &super::generic::priority(0, 255));
                x.p.frame(kind::CONTINUATION, flag::END_HEADERS, 1, &Block::new().lit("x", "1").0);
                SENT
            },
        ),
        case(
            "http2/4.3/3",
            "another stream's HEADERS within a block",
            Want::Connection(&[code::PROTOCOL_ERROR]),
            |x| {
                x.p.headers(1, flag::END_STREAM, &Ctx::get());
                x.ask(3);
                SENT
            },
        ),
        bare("more/preface/1", "everything in one write", Want::Ok(1), |x| {
            let all =
                [PREFACE, &encode(kind::SETTINGS, 0, 0, &[]), &encode(1, flag::WHOLE, 1, &Ctx::get().0)];
            x.p.send(&all.concat());
            SENT
        }),
        bare("more/preface/2", "byte by byte", Want::Ok(1), |x| {
            let all =
                [PREFACE, &encode(kind::SETTINGS, 0, 0, &[]), &encode(1, flag::WHOLE, 1, &Ctx::get().0)];
            for b in all.concat() {
                x.p.send(&[b]);
            }
            SENT
        }),
        bare(
            "more/preface/3",
            "no SETTINGS behind the preface",
            Want::Connection(&[code::PROTOCOL_ERROR]),
            |x| {
                x.p.send(PREFACE);
                x.p.ping().or(SENT)
            },
        ),
    ]
}
