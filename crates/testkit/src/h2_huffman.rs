//! HPACK's Huffman code (RFC 7541, appendix B), for tests: slow and plain.
use std::collections::HashMap;
use std::sync::OnceLock;

/// The end-of-string symbol: thirty ones. It must never occur in a string.
pub const EOS: (u32, u8) = (0x3fff_ffff, 30);

/// Code and its length in bits, of every byte.
pub fn code(b: u8) -> (u32, u8) {
    (CODES[usize::from(b)], LENGTHS[usize::from(b)])
}

/// Packs codes; `pad` fills the last byte, from its left.
pub fn pack(codes: impl IntoIterator<Item = (u32, u8)>, pad: u8) -> Vec<u8> {
    let (mut out, mut acc, mut bits) = (Vec::new(), 0_u64, 0_u32);
    for (code, len) in codes {
        acc = acc << len | u64::from(code);
        bits += u32::from(len);
        while bits >= 8 {
            bits -= 8;
            out.push((acc >> bits) as u8);
        }
    }
    if bits > 0 {
        out.push((acc << (8 - bits)) as u8 | pad >> bits);
    }
    out
}

/// Encodes as everybody does: padded with ones.
pub fn encode(text: &[u8]) -> Vec<u8> {
    pack(text.iter().map(|b| code(*b)), 0xff)
}

/// Decodes. `None` if it is not what an encoder makes.
pub fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    static TABLE: OnceLock<HashMap<(u32, u8), u8>> = OnceLock::new();
    let table = TABLE.get_or_init(|| (0..=255).map(|b| (code(b), b)).collect());
    let (mut out, mut acc, mut len) = (Vec::new(), 0_u32, 0_u8);
    for byte in bytes {
        for i in (0..8).rev() {
            acc = acc << 1 | u32::from(byte >> i & 1);
            len += 1;
            if let Some(b) = table.get(&(acc, len)) {
                out.push(*b);
                (acc, len) = (0, 0);
            } else if len >= 30 {
                return None;
            }
        }
    }
    (len < 8 && acc == (1 << len) - 1).then_some(out)
}

#[rustfmt::skip]
const CODES: [u32; 256] = [
    0x1ff8, 0x7f_ffd8, 0xfff_ffe2, 0xfff_ffe3, 0xfff_ffe4, 0xfff_ffe5, 0xfff_ffe6, 0xfff_ffe7, 0xfff_ffe8,
    0xff_ffea, 0x3fff_fffc, 0xfff_ffe9, 0xfff_ffea, 0x3fff_fffd, 0xfff_ffeb, 0xfff_ffec, 0xfff_ffed,
    0xfff_ffee, 0xfff_ffef, 0xfff_fff0, 0xfff_fff1, 0xfff_fff2, 0x3fff_fffe, 0xfff_fff3, 0xfff_fff4,
    0xfff_fff5, 0xfff_fff6, 0xfff_fff7, 0xfff_fff8, 0xfff_fff9, 0xfff_fffa, 0xfff_fffb, 0x14, 0x3f8, 0x3f9,
    0xffa, 0x1ff9, 0x15, 0xf8, 0x7fa, 0x3fa, 0x3fb, 0xf9, 0x7fb, 0xfa, 0x16, 0x17, 0x18, 0x0, 0x1, 0x2,
    0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f, 0x5c, 0xfb, 0x7ffc, 0x20, 0xffb, 0x3fc, 0x1ffa, 0x21, 0x5d,
    0x5e, 0x5f, 0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e,
    0x6f, 0x70, 0x71, 0x72, 0xfc, 0x73, 0xfd, 0x1ffb, 0x7_fff0, 0x1ffc, 0x3ffc, 0x22, 0x7ffd, 0x3, 0x23,
    0x4, 0x24, 0x5, 0x25, 0x26, 0x27, 0x6, 0x74, 0x75, 0x28, 0x29, 0x2a, 0x7, 0x2b, 0x76, 0x2c, 0x8, 0x9,
    0x2d, 0x77, 0x78, 0x79, 0x7a, 0x7b, 0x7ffe, 0x7fc, 0x3ffd, 0x1ffd, 0xfff_fffc, 0xf_ffe6, 0x3f_ffd2,
    0xf_ffe7, 0xf_ffe8, 0x3f_ffd3, 0x3f_ffd4, 0x3f_ffd5, 0x7f_ffd9, 0x3f_ffd6, 0x7f_ffda, 0x7f_ffdb,
    0x7f_ffdc, 0x7f_ffdd, 0x7f_ffde, 0xff_ffeb, 0x7f_ffdf, 0xff_ffec, 0xff_ffed, 0x3f_ffd7, 0x7f_ffe0,
    0xff_ffee, 0x7f_ffe1, 0x7f_ffe2, 0x7f_ffe3, 0x7f_ffe4, 0x1f_ffdc, 0x3f_ffd8, 0x7f_ffe5, 0x3f_ffd9,
    0x7f_ffe6, 0x7f_ffe7, 0xff_ffef, 0x3f_ffda, 0x1f_ffdd, 0xf_ffe9, 0x3f_ffdb, 0x3f_ffdc, 0x7f_ffe8,
    0x7f_ffe9, 0x1f_ffde, 0x7f_ffea, 0x3f_ffdd, 0x3f_ffde, 0xff_fff0, 0x1f_ffdf, 0x3f_ffdf, 0x7f_ffeb,
    0x7f_ffec, 0x1f_ffe0, 0x1f_ffe1, 0x3f_ffe0, 0x1f_ffe2, 0x7f_ffed, 0x3f_ffe1, 0x7f_ffee, 0x7f_ffef,
    0xf_ffea, 0x3f_ffe2, 0x3f_ffe3, 0x3f_ffe4, 0x7f_fff0, 0x3f_ffe5, 0x3f_ffe6, 0x7f_fff1, 0x3ff_ffe0,
    0x3ff_ffe1, 0xf_ffeb, 0x7_fff1, 0x3f_ffe7, 0x7f_fff2, 0x3f_ffe8, 0x1ff_ffec, 0x3ff_ffe2, 0x3ff_ffe3,
    0x3ff_ffe4, 0x7ff_ffde, 0x7ff_ffdf, 0x3ff_ffe5, 0xff_fff1, 0x1ff_ffed, 0x7_fff2, 0x1f_ffe3, 0x3ff_ffe6,
    0x7ff_ffe0, 0x7ff_ffe1, 0x3ff_ffe7, 0x7ff_ffe2, 0xff_fff2, 0x1f_ffe4, 0x1f_ffe5, 0x3ff_ffe8, 0x3ff_ffe9,
    0xfff_fffd, 0x7ff_ffe3, 0x7ff_ffe4, 0x7ff_ffe5, 0xf_ffec, 0xff_fff3, 0xf_ffed, 0x1f_ffe6, 0x3f_ffe9,
    0x1f_ffe7, 0x1f_ffe8, 0x7f_fff3, 0x3f_ffea, 0x3f_ffeb, 0x1ff_ffee, 0x1ff_ffef, 0xff_fff4, 0xff_fff5,
    0x3ff_ffea, 0x7f_fff4, 0x3ff_ffeb, 0x7ff_ffe6, 0x3ff_ffec, 0x3ff_ffed, 0x7ff_ffe7, 0x7ff_ffe8,
    0x7ff_ffe9, 0x7ff_ffea, 0x7ff_ffeb, 0xfff_fffe, 0x7ff_ffec, 0x7ff_ffed, 0x7ff_ffee, 0x7ff_ffef,
    0x7ff_fff0, 0x3ff_ffee,
];

#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8,
    7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7,
    7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23,
    24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22,
    23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25,
    26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24,
    20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27,
    27, 27, 27, 26,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rfcs_examples_are_coded_and_read() {
        // RFC 7541, C.4.1 and C.6.1.
        let coded = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(encode(b"www.example.com"), coded);
        assert_eq!(decode(&coded).unwrap(), b"www.example.com");
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)).unwrap(), all);
        assert_eq!(decode(&pack([code(b'a'), EOS], 0xff)), None);
    }
}
