//! Dubbo's dialect: Hessian 2.0, of hessian 4.x.
//!
//! A Dubbo request begins with strings (its version, path, service version, method, parameter types), which is
//! all that most routing needs: [`Strings`] reads those. Behind them lie the arguments and then the attachments,
//! a map: [`Walker`] steps over the ones to read the other.
mod key;
mod walk;
mod write;

use super::cursor::{Cursor, Stop};
pub use key::{ascii, short_string};
pub use walk::{Value, Walker, is_numbered};
pub use write::{push_class, push_empty_list, push_int, push_null, push_object, push_string};

/// What [`Strings`] found next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A string.
    Text(&'a [u8]),
    /// A null.
    Null,
    /// The bytes end before it does.
    Cut,
    /// Something else, or a string in several pieces (over 32767 characters).
    Other,
}

/// The strings a body begins with, one by one.
///
/// ```
/// use raddle_wire::hessian::v2::{Item, Strings};
/// let mut strings = Strings::new(b"\x052.0.2N\x03abc\x91");
/// assert_eq!(strings.read(), Item::Text(b"2.0.2"));
/// assert_eq!(strings.read(), Item::Null);
/// assert_eq!(strings.read(), Item::Text(b"abc"));
/// assert_eq!(strings.read(), Item::Other);
/// ```
#[derive(Clone, Debug)]
pub struct Strings<'a> {
    at: Cursor<'a>,
}

impl<'a> Strings<'a> {
    /// Reads from the beginning of `body`, which may be cut anywhere.
    pub const fn new(body: &'a [u8]) -> Strings<'a> {
        Strings { at: Cursor::new(body) }
    }

    /// The next item. After [`Item::Cut`] or [`Item::Other`] there is no reading on.
    pub fn read(&mut self) -> Item<'a> {
        match self.try_read() {
            Ok(item) => item,
            Err(Stop::Cut) => Item::Cut,
            Err(Stop::Bad) => Item::Other,
        }
    }

    /// What has not been read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.at.rest()
    }

    fn try_read(&mut self) -> Result<Item<'a>, Stop> {
        let units = match self.at.byte()? {
            b'N' => return Ok(Item::Null),
            tag @ 0x00..=0x1F => usize::from(tag),
            tag @ 0x30..=0x33 => usize::from(tag - 0x30) << 8 | usize::from(self.at.byte()?),
            b'S' => usize::from(self.at.u16()?),
            _ => return Err(Stop::Bad),
        };
        self.at.chars(units).map(Item::Text)
    }
}

/// The `N` strings that `body` begins with, or which item spoiled it. A null reads as empty.
///
/// # Errors
/// [`Item::Cut`] or [`Item::Other`].
pub fn strings<const N: usize>(body: &[u8]) -> Result<[&[u8]; N], Item<'_>> {
    let mut reader = Strings::new(body);
    let mut texts: [&[u8]; N] = [b""; N];
    for text in &mut texts {
        match reader.read() {
            Item::Text(bytes) => *text = bytes,
            Item::Null => {}
            spoiled => return Err(spoiled),
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_every_form_are_read() {
        let body = [&b"\x01a\x30\x21"[..], &[b'b'; 33], b"S\x00\x01c", b"\x33\x00", &[b'd'; 768]].concat();
        let [a, b, c, d] = strings::<4>(&body).unwrap();
        assert_eq!((a, b.len(), c, d.len()), (&b"a"[..], 33, &b"c"[..], 768));
        for cut in 0..body.len() {
            assert_eq!(strings::<4>(&body[..cut]), Err(Item::Cut), "cut at {cut}");
        }
    }

    #[test]
    fn a_string_in_pieces_is_not_followed() {
        assert_eq!(strings::<1>(b"R\x00\x01a\x01b"), Err(Item::Other));
    }
}
