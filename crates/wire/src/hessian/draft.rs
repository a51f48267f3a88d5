//! SOFA's dialect: the draft of Hessian 2 that hessian 3.x implements.
//!
//! Source: `Hessian2Input` and `Hessian2Output` of `com.alipay.sofa:hessian` 3.5. An object is `O`, its class
//! name and field names, once for each class, and `o`, a number of a class so defined, and its fields'
//! values; lists run from `V` to `z`, maps from `M` to `z`.
mod write;

use super::Peek;
use super::cursor::{Cursor, Stop};
pub use write::{push_bool, push_class, push_empty_list, push_int, push_null, push_object, push_string};

/// Values nested deeper than this are not followed.
const MAX_DEPTH: u32 = 12;
/// Class definitions remembered; real requests need a handful before the method's name.
const MAX_CLASSES: usize = 16;
/// Fields of one class.
const MAX_FIELDS: i32 = 128;

/// The string field `methodName` of the object that `content` begins with: of a serialised `SofaRequest`.
///
/// The name is found only if written in one piece, as every name under 32768 characters is.
pub fn request_method(content: &[u8]) -> Peek<'_> {
    string_field(content, b"methodName")
}

/// The string field `name` of the object that `content` begins with.
pub fn string_field<'a>(content: &'a [u8], name: &[u8]) -> Peek<'a> {
    match Reader::new(content).string_field(name) {
        Ok(Some(value)) => Peek::Found(value),
        Ok(None) | Err(Stop::Bad) => Peek::Absent,
        Err(Stop::Cut) => Peek::Cut,
    }
}

struct Reader<'a> {
    at: Cursor<'a>,
    /// The field counts of the classes defined so far.
    fields: [u8; MAX_CLASSES],
    classes: usize,
}

impl<'a> Reader<'a> {
    const fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { at: Cursor::new(bytes), fields: [0; MAX_CLASSES], classes: 0 }
    }

    fn string_field(&mut self, name: &[u8]) -> Result<Option<&'a [u8]>, Stop> {
        if self.at.byte()? != b'O' {
            return Err(Stop::Bad);
        }
        let Some(before) = self.define_class(Some(name))? else { return Ok(None) };
        if self.at.byte()? != b'o' || self.int()? != 0 {
            return Err(Stop::Bad);
        }
        for _ in 0..before {
            self.skip(MAX_DEPTH)?;
        }
        match self.at.byte()? {
            b'N' => Ok(None),
            tag => self.string(tag).map(Some),
        }
    }

    /// Reads a class definition behind its `O`; answers the index of the field `wanted`.
    fn define_class(&mut self, wanted: Option<&[u8]>) -> Result<Option<u8>, Stop> {
        let name = self.int()?;
        self.at.chars(usize::try_from(name).map_err(|_| Stop::Bad)?)?;
        let count = self.int()?;
        if !(0..=MAX_FIELDS).contains(&count) || self.classes == MAX_CLASSES {
            return Err(Stop::Bad);
        }
        let mut found = None;
        for index in 0..count as u8 {
            let tag = self.at.byte()?;
            let field = self.string(tag)?;
            if found.is_none() && wanted == Some(field) {
                found = Some(index);
            }
        }
        self.fields[self.classes] = count as u8;
        self.classes += 1;
        Ok(found)
    }

    /// An int, compact or not.
    fn int(&mut self) -> Result<i32, Stop> {
        let tag = self.at.byte()?;
        let low = |hi: u8, zero: i32, rest: i32, bits: u32| ((i32::from(hi) - zero) << bits) + rest;
        Ok(match tag {
            0x80..=0xBF => i32::from(tag) - 0x90,
            0xC0..=0xCF => low(tag, 0xC8, i32::from(self.at.byte()?), 8),
            0xD0..=0xD7 => low(tag, 0xD4, i32::from(self.at.u16()?), 16),
            b'I' => self.at.i32()?,
            _ => return Err(Stop::Bad),
        })
    }

    /// A string in one piece, behind its tag.
    fn string(&mut self, tag: u8) -> Result<&'a [u8], Stop> {
        let units = match tag {
            0x00..=0x1F => usize::from(tag),
            b'S' | b'X' => usize::from(self.at.u16()?),
            _ => return Err(Stop::Bad),
        };
        self.at.chars(units)
    }

    /// A list's or map's type, if one is said.
    fn skip_type(&mut self) -> Result<(), Stop> {
        match self.at.peek()? {
            b't' => {
                self.at.byte()?;
                let units = self.at.u16()?;
                self.at.chars(usize::from(units))?;
            }
            b'T' | b'u' => {
                self.at.byte()?;
                self.int()?;
            }
            _ => {}
        }
        Ok(())
    }

    fn skip_until_end(&mut self, depth: u32) -> Result<(), Stop> {
        while self.at.peek()? != b'z' {
            self.skip(depth)?;
        }
        self.at.byte().map(|_| ())
    }

    /// Skips one value. Every value takes a byte at least, so the work is bounded by the bytes.
    fn skip(&mut self, depth: u32) -> Result<(), Stop> {
        let depth = depth.checked_sub(1).ok_or(Stop::Bad)?;
        let mut tag = self.at.byte()?;
        while tag == b'O' {
            self.define_class(None)?;
            tag = self.at.byte()?;
        }
        if let Some(len) = scalar_len(tag) {
            return self.at.take(len).map(|_| ());
        }
        match tag {
            0x00..=0x1F | b'S' | b'X' => self.string(tag).map(|_| ()),
            b's' | b'x' => self.skip_string_chunks(),
            b'B' | b'b' => self.skip_binary_chunks(tag),
            b'V' => {
                self.skip_type()?;
                match self.at.peek()? {
                    b'n' => self.at.take(2)?,
                    b'l' => self.at.take(5)?,
                    _ => &[],
                };
                self.skip_until_end(depth)
            }
            b'v' => {
                self.int()?;
                let len = self.int()?;
                (0..len).try_for_each(|_| self.skip(depth))
            }
            b'M' => {
                self.skip_type()?;
                self.skip_until_end(depth)
            }
            b'o' => {
                let class = usize::try_from(self.int()?).map_err(|_| Stop::Bad)?;
                if class >= self.classes {
                    return Err(Stop::Bad);
                }
                (0..self.fields[class]).try_for_each(|_| self.skip(depth))
            }
            _ => Err(Stop::Bad),
        }
    }

    fn skip_string_chunks(&mut self) -> Result<(), Stop> {
        loop {
            let units = self.at.u16()?;
            self.at.chars(usize::from(units))?;
            match self.at.byte()? {
                b's' | b'x' => {}
                last => return self.string(last).map(|_| ()),
            }
        }
    }

    fn skip_binary_chunks(&mut self, mut tag: u8) -> Result<(), Stop> {
        loop {
            match tag {
                b'b' | b'B' => {
                    let len = self.at.u16()?;
                    self.at.take(usize::from(len))?;
                }
                0x20..=0x2F => return self.at.take(usize::from(tag - 0x20)).map(|_| ()),
                _ => return Err(Stop::Bad),
            }
            if tag == b'B' {
                return Ok(());
            }
            tag = self.at.byte()?;
        }
    }
}

/// Bytes behind the tag of a value whose length the tag alone says.
const fn scalar_len(tag: u8) -> Option<usize> {
    Some(match tag {
        // null, booleans, direct ints and longs, doubles 0 and 1
        b'N' | b'T' | b'F' | 0x80..=0xBF | 0xD8..=0xEF | 0x67 | 0x68 => 0,
        // byte ints, longs and doubles, short references
        0xC0..=0xCF | 0xF0..=0xFF | 0x69 | b'J' => 1,
        0xD0..=0xD7 | 0x38..=0x3F | 0x6A | b'K' => 2,
        b'I' | b'w' | 0x6B | b'R' => 4,
        b'L' | b'D' | b'd' => 8,
        0x20..=0x2F => (tag - 0x20) as usize,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(fields: &[&str], values: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        push_class(&mut out, "C", fields);
        push_object(&mut out, 0);
        out.extend_from_slice(values);
        out
    }

    #[test]
    fn a_field_is_found_behind_values_of_every_kind() {
        let before: &[&[u8]] = &[
            b"N",
            b"T",
            b"\x90",
            b"\xC9\x01",
            b"\xD5\x01\x02",
            b"I\x00\x01\x02\x03",
            b"\xE0",
            b"\xF8\x01",
            b"\x3C\x01\x02",
            b"w\x01\x02\x03\x04",
            b"L\x01\x02\x03\x04\x05\x06\x07\x08",
            b"\x67",
            b"\x69\x01",
            b"\x6A\x01\x02",
            b"\x6B\x01\x02\x03\x04",
            b"D\x01\x02\x03\x04\x05\x06\x07\x08",
            b"d\x01\x02\x03\x04\x05\x06\x07\x08",
            b"\x03abc",
            b"S\x00\x01\xE4\xB8\xAD",
            b"s\x00\x01a\x01b",
            b"\x21z",
            b"b\x00\x01zB\x00\x01z",
            b"Vt\x00\x07[stringn\x02\x01a\x01bz",
            b"VT\x90l\x00\x00\x00\x01Nz",
            b"v\x90\x92NN",
            b"M\x01k\x01vz",
            b"Mt\x00\x01X\x01kM\x01k\x90zz",
            b"O\x91D\x91\x01fo\x91V\x90\x91z",
            b"J\x01",
            b"K\x00\x01",
            b"R\x00\x00\x00\x01",
        ];
        for skipped in before {
            let values = [skipped, &b"\x04ping"[..]].concat();
            let content = object(&["args", "methodName"], &values);
            assert_eq!(request_method(&content), Peek::Found(b"ping"), "behind {skipped:02x?}");
            for cut in 0..content.len() {
                assert_eq!(request_method(&content[..cut]), Peek::Cut, "{skipped:02x?} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_request_has_no_method() {
        assert_eq!(request_method(b"N"), Peek::Absent);
        assert_eq!(request_method(&object(&["x"], b"N")), Peek::Absent);
        assert_eq!(request_method(&object(&["methodName"], b"N")), Peek::Absent);
        assert_eq!(request_method(&object(&["methodName"], b"\x90")), Peek::Absent);
        assert_eq!(request_method(b"O\x8f"), Peek::Absent, "a negative length");
    }

    #[test]
    fn endless_nesting_is_given_up() {
        let content = object(&["a", "methodName"], &[b'V'; 1000]);
        assert_eq!(request_method(&content), Peek::Absent);
    }

    #[test]
    fn a_written_string_is_read_back() {
        for text in ["", "a", "é中", "😀 surrogates", &"x".repeat(31), &"x".repeat(32), &"中".repeat(4096)]
        {
            let mut out = Vec::new();
            push_string(&mut out, text);
            let mut reader = Reader::new(&out);
            let tag = reader.at.byte().unwrap();
            let read = reader.string(tag).unwrap();
            if !text.contains('😀') {
                assert_eq!(read, text.as_bytes());
            }
            assert_eq!(reader.at.byte(), Err(Stop::Cut), "all of it was read");
        }
    }

    #[test]
    fn ints_of_every_width_are_read_back() {
        for n in [0, -16, 47, -17, 48, -2048, 2047, 2048, -2049, i32::MAX, i32::MIN] {
            let mut out = Vec::new();
            push_int(&mut out, n);
            assert_eq!(Reader::new(&out).int(), Ok(n));
        }
        assert_eq!(Reader::new(b"\xD0\x00\x00").int(), Ok(-0x40000));
        assert_eq!(Reader::new(b"\xD7\xFF\xFF").int(), Ok(0x3FFFF));
    }
}
