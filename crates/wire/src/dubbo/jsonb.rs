//! Fastjson2's bodies: items of a length in four bytes and one value of JSONB, fastjson2's binary JSON.
//!
//! Source: `FastJson2ObjectOutput` of Dubbo 3.2, `JSONB.Constants` of fastjson2 2.0, and captured frames.
use crate::hessian::Stop;
use crate::hessian::v2::Value;

const OBJECT_BEGIN: u8 = 0xA6;
const OBJECT_END: u8 = 0xA5;
const NULL: u8 = 0xAF;

/// The five names a request begins with, and what follows them.
pub(super) fn names(body: &[u8]) -> Result<([&[u8]; 5], &[u8]), Stop> {
    let mut rest = body;
    let mut names: [&[u8]; 5] = [b""; 5];
    for name in &mut names {
        *name = string(item(&mut rest)?)?;
    }
    Ok((names, rest))
}

/// Takes the next item, without its length.
pub(super) fn item<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Stop> {
    let (len, tail) = rest.split_first_chunk::<4>().ok_or(Stop::Cut)?;
    let len = usize::try_from(i32::from_be_bytes(*len)).map_err(|_| Stop::Bad)?;
    let (item, tail) = tail.split_at_checked(len).ok_or(Stop::Cut)?;
    *rest = tail;
    Ok(item)
}

/// An item that is a string; a null reads as empty.
pub(super) fn string(item: &[u8]) -> Result<&[u8], Stop> {
    match value(item) {
        Some((Value::Text(text), [])) => Ok(text),
        Some((Value::Null, [])) => Ok(b""),
        _ => Err(Stop::Bad),
    }
}

/// Appends an item that is the object whose pairs `pairs` writes.
pub(super) fn push_object(out: &mut Vec<u8>, pairs: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, OBJECT_BEGIN]);
    pairs(out);
    out.push(OBJECT_END);
    let len = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

/// Appends a string.
pub(super) fn push_string(out: &mut Vec<u8>, text: &str) {
    match (text.is_ascii(), text.len()) {
        (true, len @ 0..=47) => out.push(0x49 + len as u8),
        (ascii, len) => {
            out.push(if ascii { 0x79 } else { 0x7A });
            out.push(0x48);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

/// The pairs of an object, in order.
#[derive(Clone, Debug)]
pub(super) struct Pairs<'a> {
    rest: &'a [u8],
}

impl<'a> Pairs<'a> {
    /// Reads an item that is an object of scalars, or a null, which has no pairs.
    pub(super) fn new(item: &'a [u8]) -> Result<Pairs<'a>, Stop> {
        let rest = match item {
            [NULL] => b"",
            [OBJECT_BEGIN, rest @ .., OBJECT_END] => rest,
            _ => return Err(Stop::Bad),
        };
        let mut pairs = Pairs { rest };
        while pairs.next().is_some() {}
        if pairs.rest.is_empty() { Ok(Pairs { rest }) } else { Err(Stop::Bad) }
    }

    /// The keys that are strings, and the pairs as they are written.
    pub(super) fn written(mut self) -> impl Iterator<Item = (Option<&'a [u8]>, &'a [u8])> {
        std::iter::from_fn(move || {
            let before = self.rest;
            let (key, _) = self.next()?;
            let key = if let Value::Text(text) = key { Some(text) } else { None };
            Some((key, &before[..before.len() - self.rest.len()]))
        })
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (Value<'a>, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, rest) = value(self.rest)?;
        let (value, rest) = value(rest)?;
        self.rest = rest;
        Some((key, value))
    }
}

/// A scalar, and what follows it.
fn value(bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    Some(match *tag {
        NULL => (Value::Null, rest),
        0xB0 => (Value::Bool(false), rest),
        0xB1 => (Value::Bool(true), rest),
        // ASCII, up to 47 bytes
        0x49..=0x78 => take_text(usize::from(tag - 0x49), rest)?,
        // ASCII and UTF-8, with a length
        0x79 | 0x7A => {
            let (Value::Number(len), rest) = int(rest)? else { return None };
            take_text(usize::try_from(len).ok()?, rest)?
        }
        _ => int(bytes)?,
    })
}

fn take_text(len: usize, rest: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let (text, rest) = rest.split_at_checked(len)?;
    Some((Value::Text(text), rest))
}

/// An int or a long.
fn int(bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let tagged = i64::from(*tag);
    // The upper bits, which the tag holds, and how many bytes follow with the lower ones.
    let (upper, width) = match tag {
        0xF0..=0xFF => (tagged - 0x100, 0),
        0x00..=0x2F => (tagged, 0),
        0x30..=0x3F => (tagged - 0x38, 1),
        0x40..=0x47 => (tagged - 0x44, 2),
        0xD8..=0xEF => (tagged - 0xE0, 0),
        0xC8..=0xD7 => (tagged - 0xD0, 1),
        0xC0..=0xC7 => (tagged - 0xC4, 2),
        0x48 | 0xBF => {
            let (bytes, rest) = rest.split_first_chunk::<4>()?;
            return Some((Value::Number(i64::from(i32::from_be_bytes(*bytes))), rest));
        }
        0xBE => {
            let (bytes, rest) = rest.split_first_chunk::<8>()?;
            return Some((Value::Number(i64::from_be_bytes(*bytes)), rest));
        }
        _ => return None,
    };
    let (lower, rest) = rest.split_at_checked(width)?;
    let number = lower.iter().fold(upper, |sum, byte| sum << 8 | i64::from(*byte));
    Some((Value::Number(number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_of_every_form_are_read() {
        let long = [b"\x79\x38\x80".as_slice(), &[b'a'; 128]].concat();
        let forms: &[(&[u8], Value<'_>)] = &[
            (b"\xAF", Value::Null),
            (b"\xB0", Value::Bool(false)),
            (b"\xB1", Value::Bool(true)),
            (b"\x49", Value::Text(b"")),
            (b"\x4Aa", Value::Text(b"a")),
            (b"\x79\x01a", Value::Text(b"a")),
            (&long, Value::Text(&[b'a'; 128])),
            (b"\x7A\x02\xC3\xA9", Value::Text("é".as_bytes())),
            (b"\xF0", Value::Number(-16)),
            (b"\x2F", Value::Number(47)),
            (b"\x30\x00", Value::Number(-2048)),
            (b"\x3F\xFF", Value::Number(2047)),
            (b"\x47\xFF\xFF", Value::Number(0x3FFFF)),
            (b"\x48\xFF\xFF\xFF\xFF", Value::Number(-1)),
            (b"\xEF", Value::Number(15)),
            (b"\xC8\x00", Value::Number(-2048)),
            (b"\xC0\x00\x00", Value::Number(-0x40000)),
            (b"\xBF\x80\x00\x00\x00", Value::Number(i64::from(i32::MIN))),
            (b"\xBE\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFE", Value::Number(-2)),
        ];
        for (form, wanted) in forms {
            assert_eq!(value(form), Some((*wanted, &b""[..])), "{form:02x?}");
            for cut in 0..form.len() {
                assert_eq!(value(&form[..cut]), None, "{form:02x?} cut at {cut}");
            }
        }
        for bad in [&b"\xA6\xA5"[..], b"\x92", b"\x7F", b"\x79\xFF", b"\x79\xAF"] {
            assert_eq!(value(bad), None, "{bad:02x?}");
        }
    }

    #[test]
    fn an_object_of_more_than_scalars_is_not_followed() {
        assert_eq!(Pairs::new(b"\xA6\xA5").unwrap().count(), 0);
        assert_eq!(Pairs::new(b"\xAF").unwrap().count(), 0);
        assert_eq!(Pairs::new(b"\xA6\x4Aa\x01\x4Ab\xB1\xA5").unwrap().count(), 2);
        for bad in [&b""[..], b"\xA6", b"\xA6\x4Aa\xA5", b"\xA6\x4Aa\xA6\xA5\xA5", b"\x01"] {
            assert_eq!(Pairs::new(bad).unwrap_err(), Stop::Bad, "{bad:02x?}");
        }
    }
}
