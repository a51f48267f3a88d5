//! Short strings, read as leniently as Java reads them.
use super::super::cursor::Cursor;

/// Characters of the longest string read.
const MAX: usize = 32;

/// The characters of `text` if they are ASCII and at most 32, however many bytes each is written in: Java's reader of
/// Hessian takes overlong encodings for what they say.
pub fn ascii(text: &[u8]) -> Option<Vec<u8>> {
    let mut read = Vec::new();
    decode(text, &mut read)?;
    Some(read)
}

/// The characters of a string in Hessian, be it in several pieces: `written` begins with its tag. `None` if it is no
/// string, or none of at most 32 ASCII characters.
pub fn short_string(written: &[u8]) -> Option<Vec<u8>> {
    let mut at = Cursor::new(written);
    let mut read = Vec::new();
    loop {
        let tag = at.byte().ok()?;
        let units = match tag {
            0x00..=0x1F => usize::from(tag),
            0x30..=0x33 => usize::from(tag - 0x30) << 8 | usize::from(at.byte().ok()?),
            b'R' | b'S' => usize::from(at.u16().ok()?),
            _ => return None,
        };
        decode(at.chars(units).ok()?, &mut read)?;
        if tag != b'R' {
            return Some(read);
        }
    }
}

fn decode(mut text: &[u8], read: &mut Vec<u8>) -> Option<()> {
    while let [lead, rest @ ..] = text {
        let (bits, more) = match lead {
            0..0x80 => (*lead, 0),
            0xC0..0xE0 => (lead & 0x1F, 1),
            0xE0..0xF0 => (lead & 0x0F, 2),
            0xF0..0xF8 => (lead & 0x07, 3),
            _ => return None,
        };
        let (tail, rest) = rest.split_at_checked(more)?;
        let char = tail.iter().fold(u32::from(bits), |sum, b| sum << 6 | u32::from(b & 0x3F));
        read.push(u8::try_from(char).ok().filter(u8::is_ascii)?);
        if read.len() > MAX {
            return None;
        }
        text = rest;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_string_is_read_however_it_is_written() {
        for written in
            [&b"\x03abc"[..], b"\x30\x03abc", b"S\0\x03abc", b"R\0\x01aR\0\0\x02bc", b"\x03a\xC1\xA2c"]
        {
            assert_eq!(short_string(written).as_deref(), Some(&b"abc"[..]), "{written:02x?}");
        }
        assert_eq!(ascii(b"a\xE0\x81\xA2\xF0\x80\x81\xA3").as_deref(), Some(&b"abc"[..]));
    }

    #[test]
    fn what_is_no_short_string_is_none() {
        for written in [&b""[..], b"N", b"\x90", b"\x03ab", b"R\0\x01a", b"\x01\xC3\xA9", b"\x01\xFF"] {
            assert_eq!(short_string(written), None, "{written:02x?}");
        }
        assert_eq!(ascii(&[b'a'; 33]), None);
    }
}
