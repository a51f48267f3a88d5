//! A place in a Hessian body.

/// Why reading on is not possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The bytes end here.
    Cut,
    /// The bytes are not Hessian, or a form of it that is not followed.
    Bad,
}

/// Reads forward only; a failed read leaves it anywhere.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { rest: bytes }
    }

    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn byte(&mut self) -> Result<u8, Stop> {
        let (first, rest) = self.rest.split_first().ok_or(Stop::Cut)?;
        self.rest = rest;
        Ok(*first)
    }

    /// A string of up to 1023 ASCII characters in Hessian 2.0's short forms, if that is what comes next.
    #[inline]
    pub(super) fn short_name(&mut self) -> Option<&'a [u8]> {
        let (len, head) = match *self.rest {
            [tag @ 0x00..=0x1F, ..] => (usize::from(tag), 1),
            [tag @ 0x30..=0x33, low, ..] => (usize::from(tag - 0x30) << 8 | usize::from(low), 2),
            _ => return None,
        };
        let (text, rest) = self.rest[head..].split_at_checked(len)?;
        if !text.is_ascii() {
            return None;
        }
        self.rest = rest;
        Some(text)
    }

    pub(super) fn peek(&self) -> Result<u8, Stop> {
        self.rest.first().copied().ok_or(Stop::Cut)
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Stop> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Stop::Cut)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Stop> {
        Ok(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    pub(super) fn i32(&mut self) -> Result<i32, Stop> {
        Ok(i32::from_be_bytes([self.byte()?, self.byte()?, self.byte()?, self.byte()?]))
    }

    /// The bytes of `units` characters. Hessian counts Java's 16-bit ones: those outside the basic plane
    /// are two, whether written as two three-byte sequences (Java) or as one four-byte one (others).
    pub(super) fn chars(&mut self, units: usize) -> Result<&'a [u8], Stop> {
        // Nearly all text is names: there a character is a byte.
        if self.rest.get(..units).is_some_and(<[u8]>::is_ascii) {
            return self.take(units);
        }
        let (mut at, mut left) = (0, units);
        while left > 0 {
            let lead = *self.rest.get(at).ok_or(Stop::Cut)?;
            let (width, count) = match lead {
                0..0x80 => (1, 1),
                0xC0..0xE0 => (2, 1),
                0xE0..0xF0 => (3, 1),
                0xF0..0xF8 => (4, 2),
                _ => return Err(Stop::Bad),
            };
            at += width;
            left = left.checked_sub(count).ok_or(Stop::Bad)?;
        }
        self.take(at)
    }
}
