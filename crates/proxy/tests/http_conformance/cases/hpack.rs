//! `hpack`: header compression.
use super::{SENT, case};
use crate::case::{Case, Ctx, Want};
use raddle_testkit::h2::{code, flag, setting};
use raddle_testkit::h2_hpack::Block;
use raddle_testkit::h2_huffman::{EOS, code as huffman, encode, pack};

const BAD: Want = Want::Connection(&[code::COMPRESSION_ERROR]);

fn ask(x: &mut Ctx, b: Block) -> Result<(), String> {
    x.p.headers(1, flag::WHOLE, &b);
    SENT
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("hpack/2.3.3/1", "an indexed field that is not there", BAD, |x| ask(x, Ctx::get().indexed(70))),
        case("hpack/2.3.3/2", "a literal whose name is not there", BAD, |x| {
            ask(x, Ctx::get().named(0x40, 6, 70, "v"))
        }),
        case("hpack/4.2/1", "a dynamic table size behind a field", BAD, |x| ask(x, Ctx::get().table_size(1))),
        case("hpack/5.2/1", "a Huffman string padded by more than 7 bits", BAD, |x| {
            let coded = [&encode(b"value")[..], &[0xff, 0xff]].concat();
            ask(x, Ctx::get().byte(0).string(b"x-t").coded(&coded))
        }),
        case("hpack/5.2/2", "a Huffman string padded with zeros", BAD, |x| {
            let coded = pack([huffman(b'a'), huffman(b'b')], 0);
            ask(x, Ctx::get().byte(0).string(b"x-t").coded(&coded))
        }),
        case("hpack/5.2/3", "a Huffman string that holds EOS", BAD, |x| {
            let coded = pack([huffman(b'a'), EOS, huffman(b'b')], 0xff);
            ask(x, Ctx::get().byte(0).string(b"x-t").coded(&coded))
        }),
        case("hpack/6.1/1", "index 0", BAD, |x| ask(x, Ctx::get().indexed(0))),
        case("hpack/6.3/1", "a dynamic table larger than allowed", BAD, |x| {
            let most = x.p.setting(setting::HEADER_TABLE_SIZE).unwrap_or(4096) as usize;
            ask(x, Block::new().table_size(most + 1).raw(&Ctx::get().0))
        }),
        case("more/hpack/1", "an integer without end", BAD, |x| {
            ask(x, Ctx::get().raw(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x0f"))
        }),
        case("more/hpack/2", "a string longer than its block", BAD, |x| {
            ask(x, Ctx::get().raw(b"\x00\x03x-t\x7fabc"))
        }),
        case("more/hpack/3", "a block cut within an integer", BAD, |x| ask(x, Ctx::get().raw(b"\xff\x80"))),
        case("more/hpack/4", "a field with an empty name", Want::Malformed, |x| {
            ask(x, Ctx::get().lit("", "v"))
        }),
        case(
            "more/hpack/5",
            "the dynamic table is one for all streams, rejected ones too",
            Want::Ok(3),
            |x| {
                x.p.headers(1, flag::WHOLE, &Ctx::get().lit_indexed("x-t", "1").lit("connection", "close"));
                x.p.headers(3, flag::WHOLE, &Ctx::get().indexed(62));
                SENT
            },
        ),
    ]
}
