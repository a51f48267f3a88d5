//! Characters as both dialects write them.

/// The longest string written, in Java's 16-bit characters: replies stay small whatever they quote.
const MAX_STRING: usize = 4096;

/// How many 16-bit characters of `text` are written: all, or at most 4096 whole ones.
pub(super) fn units(text: &str) -> usize {
    let ends = text.chars().map(char::len_utf16).scan(0, |sum, n| {
        *sum += n;
        Some(*sum)
    });
    ends.take_while(|n| *n <= MAX_STRING).last().unwrap_or(0)
}

/// Appends the first `units` characters, as Java reads them: those outside the basic plane go as two
/// surrogates of three bytes each.
pub(super) fn push_units(out: &mut Vec<u8>, text: &str, units: usize) {
    for unit in text.encode_utf16().take(units) {
        match unit {
            0..0x80 => out.push(unit as u8),
            0x80..0x800 => out.extend_from_slice(&[0xC0 | (unit >> 6) as u8, 0x80 | (unit & 0x3F) as u8]),
            _ => out.extend_from_slice(&[
                0xE0 | (unit >> 12) as u8,
                0x80 | ((unit >> 6) & 0x3F) as u8,
                0x80 | (unit & 0x3F) as u8,
            ]),
        }
    }
}

/// Appends an int; both dialects write it alike.
pub(super) fn push_int(out: &mut Vec<u8>, n: i32) {
    match n {
        -0x10..=0x2F => out.push((n + 0x90) as u8),
        -0x800..=0x7FF => out.extend_from_slice(&[((n >> 8) + 0xC8) as u8, n as u8]),
        _ => {
            out.push(b'I');
            out.extend_from_slice(&n.to_be_bytes());
        }
    }
}
