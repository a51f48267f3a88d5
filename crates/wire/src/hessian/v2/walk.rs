//! Stepping over values.
//!
//! Source: the Hessian 2.0 serialisation draft of 2007, and `Hessian2Input` of Dubbo's hessian-lite 4.0.
use super::super::cursor::{Cursor, Stop};

/// Values nested deeper than this are not followed.
const MAX_DEPTH: usize = 48;
/// Class definitions remembered; a request that sends more has objects of very many kinds.
const MAX_CLASSES: usize = 64;
/// Values stepped over by one [`Walker`], those inside of others included.
const MAX_VALUES: u32 = 1 << 15;

/// A value, read as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A string written in one piece.
    Text(&'a [u8]),
    /// An int or a long.
    Number(i64),
    /// A boolean.
    Bool(bool),
    /// A null.
    Null,
    /// Anything else; it has been stepped over.
    Other,
}

/// Steps over the values of a body, one by one, remembering the classes they define.
///
/// It does work linear in the bytes, allocates nothing, and does not recurse. It gives up ([`Stop::Bad`]) on
/// values nested deeper than 48, on more than 64 classes, on classes of more than 255 fields, and after 32768
/// values. References are not followed, only stepped over.
///
/// ```
/// use raddle_wire::hessian::v2::{Value, Walker};
/// let mut walker = Walker::new(b"C\x01P\x92\x01x\x01y\x60\x91\x92\x04text");
/// assert_eq!(walker.value(), Ok(Value::Other)); // an object of a class with two fields
/// assert_eq!(walker.value(), Ok(Value::Text(b"text")));
/// ```
#[derive(Clone, Debug)]
pub struct Walker<'a> {
    at: Cursor<'a>,
    /// The field counts of the classes defined so far.
    fields: [u8; MAX_CLASSES],
    classes: u8,
    /// Values that may still be stepped over.
    left: u32,
}

/// What lies inside of a value.
enum Inside<'a> {
    /// Nothing: it was this.
    Nothing(Value<'a>),
    /// So many values.
    Count(u32),
    /// Values up to an end mark.
    UntilEnd,
}

/// [`Walker::skip_inside`]'s count for a value that has an end mark instead.
const UNTIL_END: u32 = u32::MAX;

impl<'a> Walker<'a> {
    /// Begins at the beginning of `body`, which may be cut anywhere.
    pub const fn new(body: &'a [u8]) -> Walker<'a> {
        Walker { at: Cursor::new(body), fields: [0; MAX_CLASSES], classes: 0, left: MAX_VALUES }
    }

    /// What has not been stepped over yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.at.rest()
    }

    /// Reads a value, or steps over it.
    ///
    /// # Errors
    /// [`Stop::Cut`] where the bytes end within it, [`Stop::Bad`] where they are no Hessian or where it gives
    /// up. There is no walking on then.
    #[inline]
    pub fn value(&mut self) -> Result<Value<'a>, Stop> {
        // Nearly all values that are looked at are short names.
        if self.left > 0
            && let Some(text) = self.at.short_name()
        {
            self.left -= 1;
            return Ok(Value::Text(text));
        }
        self.any_value()
    }

    fn any_value(&mut self) -> Result<Value<'a>, Stop> {
        match self.enter()? {
            Inside::Nothing(value) => return Ok(value),
            Inside::Count(count) => self.skip_inside(count)?,
            Inside::UntilEnd => self.skip_inside(UNTIL_END)?,
        }
        Ok(Value::Other)
    }

    /// Enters a map: its pairs are read with [`Walker::value`] until [`Walker::end`] says that they end.
    /// `false` says that it is a null, of which there is nothing to read.
    ///
    /// # Errors
    /// As [`Walker::value`]; [`Stop::Bad`] too if the value is neither.
    pub fn map(&mut self) -> Result<bool, Stop> {
        match self.at.byte()? {
            b'N' => return Ok(false),
            b'H' => {}
            b'M' => self.type_name()?,
            _ => return Err(Stop::Bad),
        }
        Ok(true)
    }

    /// Whether the map entered ends here; steps over its end mark if so.
    ///
    /// # Errors
    /// [`Stop::Cut`].
    pub fn end(&mut self) -> Result<bool, Stop> {
        let end = self.at.peek()? == b'Z';
        if end {
            self.at.byte()?;
        }
        Ok(end)
    }

    /// Steps over the definitions of classes that stand before a value.
    ///
    /// # Errors
    /// As [`Walker::value`].
    pub fn definitions(&mut self) -> Result<(), Stop> {
        while self.at.peek()? == b'C' {
            self.at.byte()?;
            self.define_class()?;
        }
        Ok(())
    }

    /// Steps over what is inside of a value just entered.
    fn skip_inside(&mut self, count: u32) -> Result<(), Stop> {
        // How many values are still to come at each depth.
        let mut open = [0u32; MAX_DEPTH];
        let mut depth = 0;
        open[0] = count;
        loop {
            let left = &mut open[depth];
            let done = match *left {
                UNTIL_END => self.end()?,
                left => left == 0,
            };
            if done {
                match depth.checked_sub(1) {
                    Some(outer) => depth = outer,
                    None => return Ok(()),
                }
                continue;
            }
            if *left != UNTIL_END {
                *left -= 1;
            }
            let count = match self.enter()? {
                Inside::Nothing(_) => continue,
                Inside::Count(count) => count,
                Inside::UntilEnd => UNTIL_END,
            };
            depth += 1;
            *open.get_mut(depth).ok_or(Stop::Bad)? = count;
        }
    }

    /// Reads a value up to what is inside of it.
    fn enter(&mut self) -> Result<Inside<'a>, Stop> {
        self.left = self.left.checked_sub(1).ok_or(Stop::Bad)?;
        let mut tag = self.at.byte()?;
        while tag == b'C' {
            self.define_class()?;
            tag = self.at.byte()?;
        }
        let value = match tag {
            b'N' => Value::Null,
            b'T' => Value::Bool(true),
            b'F' => Value::Bool(false),
            0x00..=0x1F | 0x30..=0x33 | b'S' => Value::Text(self.string(tag)?),
            b'R' => self.string_chunks()?,
            0x20..=0x2F | 0x34..=0x37 | b'A' | b'B' => self.binary(tag)?,
            0x80..=0xD7 | b'I' => Value::Number(i64::from(self.int(tag)?)),
            0xD8..=0xFF | 0x38..=0x3F | b'Y' | b'L' => Value::Number(self.long(tag)?),
            // doubles, dates, a reference
            0x5B | 0x5C => Value::Other,
            0x5D => self.take(1)?,
            0x5E => self.take(2)?,
            0x5F | b'K' => self.take(4)?,
            b'D' | b'J' => self.take(8)?,
            b'Q' => {
                self.size()?;
                Value::Other
            }
            _ => return self.enter_compound(tag),
        };
        Ok(Inside::Nothing(value))
    }

    fn enter_compound(&mut self, tag: u8) -> Result<Inside<'a>, Stop> {
        Ok(match tag {
            b'H' | b'W' => Inside::UntilEnd,
            b'M' | b'U' => {
                self.type_name()?;
                Inside::UntilEnd
            }
            0x70..=0x77 => {
                self.type_name()?;
                Inside::Count(u32::from(tag - 0x70))
            }
            0x78..=0x7F => Inside::Count(u32::from(tag - 0x78)),
            b'V' => {
                self.type_name()?;
                Inside::Count(self.size()?)
            }
            b'X' => Inside::Count(self.size()?),
            0x60..=0x6F => self.object(u32::from(tag - 0x60))?,
            b'O' => {
                let class = self.size()?;
                self.object(class)?
            }
            _ => return Err(Stop::Bad),
        })
    }

    fn object(&self, class: u32) -> Result<Inside<'a>, Stop> {
        let known = &self.fields[..usize::from(self.classes)];
        let fields = known.get(class as usize).ok_or(Stop::Bad)?;
        Ok(Inside::Count(u32::from(*fields)))
    }

    /// Reads a class definition behind its `C`.
    fn define_class(&mut self) -> Result<(), Stop> {
        let tag = self.at.byte()?;
        self.string(tag)?;
        let fields = u8::try_from(self.size()?).map_err(|_| Stop::Bad)?;
        for _ in 0..fields {
            let tag = self.at.byte()?;
            self.string(tag)?;
        }
        *self.fields.get_mut(usize::from(self.classes)).ok_or(Stop::Bad)? = fields;
        self.classes += 1;
        Ok(())
    }

    /// A list's or map's type: a name, or the number of one said before.
    fn type_name(&mut self) -> Result<(), Stop> {
        match self.at.byte()? {
            tag @ (0x80..=0xD7 | b'I') => self.int(tag).map(|_| ()),
            tag => self.string(tag).map(|_| ()),
        }
    }

    /// An int that counts or numbers something.
    fn size(&mut self) -> Result<u32, Stop> {
        let tag = self.at.byte()?;
        u32::try_from(self.int(tag)?).map_err(|_| Stop::Bad)
    }

    fn take(&mut self, len: usize) -> Result<Value<'a>, Stop> {
        self.at.take(len).map(|_| Value::Other)
    }

    fn int(&mut self, tag: u8) -> Result<i32, Stop> {
        let tagged = i32::from(tag);
        Ok(match tag {
            0x80..=0xBF => tagged - 0x90,
            0xC0..=0xCF => ((tagged - 0xC8) << 8) + i32::from(self.at.byte()?),
            0xD0..=0xD7 => ((tagged - 0xD4) << 16) + i32::from(self.at.u16()?),
            b'I' => self.at.i32()?,
            _ => return Err(Stop::Bad),
        })
    }

    fn long(&mut self, tag: u8) -> Result<i64, Stop> {
        let tagged = i64::from(tag);
        Ok(match tag {
            0xD8..=0xEF => tagged - 0xE0,
            0xF0..=0xFF => ((tagged - 0xF8) << 8) + i64::from(self.at.byte()?),
            0x38..=0x3F => ((tagged - 0x3C) << 16) + i64::from(self.at.u16()?),
            b'Y' => i64::from(self.at.i32()?),
            b'L' => i64::from(self.at.i32()?) << 32 | i64::from(self.at.i32()? as u32),
            _ => return Err(Stop::Bad),
        })
    }

    /// A string in one piece, behind its tag.
    fn string(&mut self, tag: u8) -> Result<&'a [u8], Stop> {
        let units = match tag {
            0x00..=0x1F => usize::from(tag),
            0x30..=0x33 => usize::from(tag - 0x30) << 8 | usize::from(self.at.byte()?),
            b'S' => usize::from(self.at.u16()?),
            _ => return Err(Stop::Bad),
        };
        self.at.chars(units)
    }

    /// A string in several pieces, behind the first one's tag.
    fn string_chunks(&mut self) -> Result<Value<'a>, Stop> {
        loop {
            let units = self.at.u16()?;
            self.at.chars(usize::from(units))?;
            match self.at.byte()? {
                b'R' => {}
                last => return self.string(last).map(|_| Value::Other),
            }
        }
    }

    /// Binary data in one or more pieces, behind the first one's tag.
    fn binary(&mut self, mut tag: u8) -> Result<Value<'a>, Stop> {
        loop {
            let len = match tag {
                0x20..=0x2F => usize::from(tag - 0x20),
                0x34..=0x37 => usize::from(tag - 0x34) << 8 | usize::from(self.at.byte()?),
                b'A' | b'B' => usize::from(self.at.u16()?),
                _ => return Err(Stop::Bad),
            };
            self.at.take(len)?;
            if tag != b'A' {
                return Ok(Value::Other);
            }
            tag = self.at.byte()?;
        }
    }
}

/// Whether what `value` begins with takes a number by which others may refer to it, or defines what does: a list, a map,
/// an object, a class.
pub fn is_numbered(value: &[u8]) -> bool {
    matches!(
        value.first(),
        Some(b'C' | b'H' | b'W' | b'M' | b'U' | b'V' | b'X' | b'O' | 0x60..=0x6F | 0x70..=0x7F)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every form a value takes, and what is read of it.
    const FORMS: &[(&[u8], Value<'_>)] = &[
        (b"N", Value::Null),
        (b"T", Value::Bool(true)),
        (b"F", Value::Bool(false)),
        (b"\x80", Value::Number(-16)),
        (b"\xC0\x00", Value::Number(-2048)),
        (b"\xD7\xFF\xFF", Value::Number(0x3FFFF)),
        (b"I\xFF\xFF\xFF\xFF", Value::Number(-1)),
        (b"\xD8", Value::Number(-8)),
        (b"\xF0\x00", Value::Number(-2048)),
        (b"\x38\x00\x00", Value::Number(-0x40000)),
        (b"Y\x80\x00\x00\x00", Value::Number(i32::MIN as i64)),
        (b"L\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFE", Value::Number(-2)),
        (b"\x5B", Value::Other),
        (b"\x5C", Value::Other),
        (b"\x5D\x01", Value::Other),
        (b"\x5E\x01\x02", Value::Other),
        (b"\x5F\x01\x02\x03\x04", Value::Other),
        (b"D\x01\x02\x03\x04\x05\x06\x07\x08", Value::Other),
        (b"J\x01\x02\x03\x04\x05\x06\x07\x08", Value::Other),
        (b"K\x01\x02\x03\x04", Value::Other),
        (b"\x00", Value::Text(b"")),
        (b"\x03abc", Value::Text(b"abc")),
        (b"\x30\x01a", Value::Text(b"a")),
        (b"S\x00\x01\xE4\xB8\xAD", Value::Text("中".as_bytes())),
        (b"R\x00\x01aR\x00\x01b\x01c", Value::Other),
        (b"R\x00\x01aS\x00\x01b", Value::Other),
        (b"\x21z", Value::Other),
        (b"\x34\x01z", Value::Other),
        (b"A\x00\x01zB\x00\x01z", Value::Other),
        (b"A\x00\x01z\x21z", Value::Other),
        (b"Q\x91", Value::Other),
        (b"H\x01k\x01vZ", Value::Other),
        (b"M\x01t\x01kH\x90NZZ", Value::Other),
        (b"M\x90Z", Value::Other),
        (b"U\x01t\x90\x91Z", Value::Other),
        (b"W\x90Z", Value::Other),
        (b"V\x01t\x92NN", Value::Other),
        (b"V\xC8\x01\x90", Value::Other),
        (b"X\x92\x90X\x90", Value::Other),
        (b"\x72\x01t\x90\x91", Value::Other),
        (b"\x7A\x90\x91", Value::Other),
        (b"C\x01c\x92\x01a\x01b\x60\x91\x78", Value::Other),
        (b"C\x01c\x91\x01aC\x01d\x90\x60\x61", Value::Other),
        (b"C\x01c\x91\x01aO\x90C\x01d\x90O\x91", Value::Other),
    ];

    #[test]
    fn a_value_of_every_form_is_stepped_over_whole() {
        for (form, value) in FORMS {
            let body = [form, &b"\x04ping"[..]].concat();
            let mut walker = Walker::new(&body);
            assert_eq!(walker.value(), Ok(*value), "{form:02x?}");
            assert_eq!(walker.value(), Ok(Value::Text(b"ping")), "behind {form:02x?}");
            assert!(walker.rest().is_empty());
            for cut in 0..form.len() {
                assert_eq!(Walker::new(&form[..cut]).value(), Err(Stop::Cut), "{form:02x?} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_hessian_is_given_up() {
        for bad in [
            &b"\x40"[..],
            b"Z",
            b"\x60",
            b"O\x91",
            b"X\x8F",
            b"C\x90",
            b"C\x01c\xC9\x00",
            b"R\x00\x00N",
            b"A\x00\x00N",
            b"H\x90\x40",
            b"V\x5B",
            b"\x01\xFF",
        ] {
            assert_eq!(Walker::new(bad).value(), Err(Stop::Bad), "{bad:02x?}");
        }
    }

    #[test]
    fn depth_classes_and_values_are_bounded() {
        let nested = [&[0x79; MAX_DEPTH][..], b"N"].concat();
        assert_eq!(Walker::new(&nested).value(), Ok(Value::Other));
        assert_eq!(Walker::new(&[0x79; MAX_DEPTH + 1]).value(), Err(Stop::Bad));
        let classes = [&b"C\x00\x90".repeat(MAX_CLASSES)[..], b"\x60"].concat();
        assert_eq!(Walker::new(&classes).value(), Ok(Value::Other));
        assert_eq!(Walker::new(&b"C\x00\x90".repeat(MAX_CLASSES + 1)).value(), Err(Stop::Bad));
        let many = [b"W", &vec![b'N'; MAX_VALUES as usize][..], b"Z"].concat();
        assert_eq!(Walker::new(&many).value(), Err(Stop::Bad));
        assert_eq!(Walker::new(&[&many[2..], b"N"].concat()).value(), Ok(Value::Null));
        // A count says nothing that the bytes do not bear out.
        assert_eq!(Walker::new(b"XI\x7F\xFF\xFF\xFF").value(), Err(Stop::Cut));
        assert_eq!(Walker::new(b"XI\xFF\xFF\xFF\xFF").value(), Err(Stop::Bad));
    }

    #[test]
    fn a_maps_pairs_are_read_one_by_one() {
        let mut walker = Walker::new(b"M\x01t\x01k\x91\x01l\x78ZN");
        assert_eq!(walker.map(), Ok(true));
        assert_eq!((walker.end(), walker.value()), (Ok(false), Ok(Value::Text(b"k"))));
        assert_eq!((walker.value(), walker.end()), (Ok(Value::Number(1)), Ok(false)));
        assert_eq!((walker.value(), walker.value()), (Ok(Value::Text(b"l")), Ok(Value::Other)));
        assert_eq!((walker.end(), walker.map()), (Ok(true), Ok(false)));
        assert_eq!(walker.end(), Err(Stop::Cut));
    }
}
