//! Fastjson's bodies: one JSON value a line. Strings with escapes in them are not followed.
use crate::hessian::Stop;
use crate::hessian::v2::Value;

/// The longest string written, in characters.
const MAX_STRING: usize = 4096;

/// The five names a request begins with, and what follows them.
pub(super) fn names(body: &[u8]) -> Result<([&[u8]; 5], &[u8]), Stop> {
    let mut rest = body;
    let mut names: [&[u8]; 5] = [b""; 5];
    for name in &mut names {
        *name = string(line(&mut rest)?)?;
    }
    Ok((names, rest))
}

/// Takes the next line, without its end: of whichever kind, as Java's `BufferedReader` takes it.
pub(super) fn line<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Stop> {
    let end = rest.iter().position(|b| matches!(b, b'\n' | b'\r')).ok_or(Stop::Cut)?;
    let (line, tail) = rest.split_at(end);
    *rest = match tail {
        [b'\r'] => return Err(Stop::Cut),
        [b'\r', b'\n', tail @ ..] | [_, tail @ ..] => tail,
        [] => tail,
    };
    Ok(line)
}

/// The last line, which needs no end.
pub(super) fn last_line(rest: &[u8]) -> &[u8] {
    rest.split(|b| matches!(b, b'\n' | b'\r')).next().unwrap_or(rest)
}

/// A line that is a string; a null reads as empty.
pub(super) fn string(line: &[u8]) -> Result<&[u8], Stop> {
    if line == b"null" {
        return Ok(b"");
    }
    let text = line.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).ok_or(Stop::Bad)?;
    if text.iter().any(|b| matches!(b, b'"' | b'\\')) { Err(Stop::Bad) } else { Ok(text) }
}

/// Appends a line that is the string `text`, cut as the ones in Hessian are.
pub(super) fn push_line(out: &mut Vec<u8>, text: &str) {
    push_string(out, text);
    out.push(b'\n');
}

/// Appends the string `text`, cut likewise.
pub(super) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for c in text.chars().take(MAX_STRING) {
        match c {
            // No escapes, so that what is read here without them can be read.
            '"' => out.push(b'\''),
            '\\' => out.push(b'/'),
            c if c.is_control() => out.push(b' '),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// Appends a pair to an object, behind a comma if it is not the first.
pub(super) fn push_pair(out: &mut Vec<u8>, first: &mut bool, pair: impl FnOnce(&mut Vec<u8>)) {
    if !std::mem::replace(first, false) {
        out.push(b',');
    }
    pair(out);
}

/// The pairs of a line that is an object, as keys without their quotes and values as they are written: those that
/// every reader takes for the same. Fastjson reads much more than JSON (other quotes, none, comments), by which one
/// pair can look like part of another; such are left out, as is a key with an escape in it.
pub(super) fn sound_pairs(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let object = line.trim_ascii().strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}"));
    let mut rest = object.unwrap_or_default();
    let pairs = std::iter::from_fn(move || {
        let (key, behind) = written(rest, b':')?;
        let (value, behind) = written(behind.strip_prefix(b":")?, b',')?;
        rest = behind.strip_prefix(b",").unwrap_or(behind);
        Some((key, value))
    });
    pairs.filter_map(|(key, value)| match scalar(key) {
        Value::Text(key) if is_sound(value) => Some((key, value)),
        _ => None,
    })
}

/// Whether this is one value in plain JSON, as far as its extent goes.
fn is_sound(value: &[u8]) -> bool {
    let (mut depth, mut quoted, mut escaped) = (0u32, false, false);
    for (at, byte) in value.iter().enumerate() {
        if escaped {
            escaped = false;
            continue;
        }
        match byte {
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return false,
            b'}' | b']' => depth -= 1,
            b':' | b',' | b' ' | b'\t' if depth > 0 => {}
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'+' | b'.' => {}
            _ => return false,
        }
        // A string or an object ends the value.
        let ends = depth == 0 && !quoted && matches!(byte, b'"' | b'}' | b']');
        let begins = at > 0 && depth == 0 && quoted;
        if (ends && at + 1 != value.len()) || (begins && value[0] != b'"') {
            return false;
        }
    }
    depth == 0 && !quoted && !value.is_empty()
}

/// The pairs of an object, in order.
#[derive(Clone, Debug)]
pub(super) struct Pairs<'a> {
    rest: &'a [u8],
}

impl<'a> Pairs<'a> {
    /// Reads a line that is an object, or a null, which has no pairs.
    pub(super) fn new(line: &'a [u8]) -> Result<Pairs<'a>, Stop> {
        let line = line.trim_ascii();
        if line == b"null" {
            return Ok(Pairs { rest: b"" });
        }
        let rest = line.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}")).ok_or(Stop::Bad)?;
        let mut pairs = Pairs { rest };
        while pairs.next().is_some() {}
        if pairs.rest.trim_ascii().is_empty() { Ok(Pairs { rest }) } else { Err(Stop::Bad) }
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (Value<'a>, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, rest) = value(self.rest, b':')?;
        let (value, rest) = value(rest.strip_prefix(b":")?, b',')?;
        self.rest = rest.strip_prefix(b",").unwrap_or(rest);
        Some((key, value))
    }
}

/// The value before `end`, and what follows it from that byte on.
fn value(bytes: &[u8], end: u8) -> Option<(Value<'_>, &[u8])> {
    written(bytes, end).map(|(value, rest)| (scalar(value), rest))
}

/// The same, as it is written.
fn written(bytes: &[u8], end: u8) -> Option<(&[u8], &[u8])> {
    let bytes = bytes.trim_ascii_start();
    if bytes.is_empty() {
        return None;
    }
    let (mut depth, mut quoted, mut escaped) = (0u32, false, false);
    let stop = bytes.iter().position(|b| {
        if escaped {
            escaped = false;
        } else if quoted {
            escaped = *b == b'\\';
            quoted = *b != b'"';
        } else {
            match b {
                b'"' => quoted = true,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                b if *b == end && depth == 0 => return true,
                _ => {}
            }
        }
        false
    });
    let (value, rest) = bytes.split_at(stop.unwrap_or(bytes.len()));
    Some((value.trim_ascii_end(), rest))
}

fn scalar(text: &[u8]) -> Value<'_> {
    match text {
        b"null" => Value::Null,
        b"true" => Value::Bool(true),
        b"false" => Value::Bool(false),
        [b'"', ..] => string(text).map_or(Value::Other, Value::Text),
        _ => std::str::from_utf8(text).ok().and_then(|n| n.parse().ok()).map_or(Value::Other, Value::Number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_every_kind_are_read() {
        let line = br#"{"a":"1", "b" : -2,"c":{"d":["}",",\""]},"e":"x\"y","f":null,"g":true,"h":1.5}"#;
        let pairs: Vec<_> = Pairs::new(line).unwrap().collect();
        let key = |k: &'static str| Value::Text(k.as_bytes());
        assert_eq!(
            pairs,
            [
                (key("a"), key("1")),
                (key("b"), Value::Number(-2)),
                (key("c"), Value::Other),
                (key("e"), Value::Other),
                (key("f"), Value::Null),
                (key("g"), Value::Bool(true)),
                (key("h"), Value::Other),
            ]
        );
        assert_eq!(Pairs::new(b"{}").unwrap().count(), 0);
        assert_eq!(Pairs::new(b"null").unwrap().count(), 0);
        assert_eq!(Pairs::new(br#"{"a""#).unwrap_err(), Stop::Bad);
        assert_eq!(Pairs::new(br#"{"a"}"#).unwrap_err(), Stop::Bad);
    }

    #[test]
    fn a_string_with_an_escape_is_not_followed() {
        assert_eq!(string(b"\"a\""), Ok(&b"a"[..]));
        assert_eq!(string(b"null"), Ok(&b""[..]));
        assert_eq!(string(br#""a\"b""#), Err(Stop::Bad));
        assert_eq!(string(b"\""), Err(Stop::Bad));
    }
}
