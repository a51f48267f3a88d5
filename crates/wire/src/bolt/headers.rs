//! The header map: (i32 length, key, i32 length, value) repeated, a negative length meaning null.

/// A header map as it lies in a frame. Reading it copies nothing.
///
/// A garbled map reads as far as it makes sense, and says so with [`HeaderMap::is_well_formed`]. Peers differ
/// there: SOFABolt throws, MOSN up to 1.6 panics when fewer than four bytes trail.
#[derive(Clone, Copy, Debug)]
pub struct HeaderMap<'a> {
    bytes: &'a [u8],
}

impl<'a> HeaderMap<'a> {
    /// Reads `bytes` as a header map.
    #[inline]
    pub const fn new(bytes: &'a [u8]) -> HeaderMap<'a> {
        HeaderMap { bytes }
    }

    /// The bytes it lies in.
    #[inline]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The last non-null value under `key`: the one that Java and Node peers take too, so that a key sent
    /// twice cannot show the sidecar's rules one service and the application another.
    #[inline]
    pub fn get(self, key: &[u8]) -> Option<&'a [u8]> {
        self.get_all(&[key])[0]
    }

    /// [`HeaderMap::get`] of several keys in one pass.
    #[inline]
    pub fn get_all<const N: usize>(self, keys: &[&[u8]; N]) -> [Option<&'a [u8]>; N] {
        let mut found = [None; N];
        for (key, value) in self {
            let (Some(key), Some(value)) = (key, value) else { continue };
            for (slot, wanted) in found.iter_mut().zip(keys) {
                if key == *wanted {
                    *slot = Some(value);
                }
            }
        }
        found
    }

    /// The pairs, in order; ends early at the first one that is cut or garbled.
    #[inline]
    pub const fn iter(self) -> Headers<'a> {
        Headers { rest: self.bytes }
    }

    /// Whether the pairs fill the bytes exactly.
    pub fn is_well_formed(self) -> bool {
        let mut pairs = self.iter();
        while pairs.next().is_some() {}
        pairs.rest.is_empty()
    }
}

impl<'a> IntoIterator for HeaderMap<'a> {
    type Item = (Option<&'a [u8]>, Option<&'a [u8]>);
    type IntoIter = Headers<'a>;

    fn into_iter(self) -> Headers<'a> {
        self.iter()
    }
}

/// The pairs of a [`HeaderMap`]; `None` is a null.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    rest: &'a [u8],
}

impl<'a> Headers<'a> {
    /// What has not been read; after the last pair, what is garbled.
    #[inline]
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (Option<&'a [u8]>, Option<&'a [u8]>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (key, rest) = field(self.rest)?;
        let (value, rest) = field(rest)?;
        self.rest = rest;
        Some((key, value))
    }
}

/// One length-prefixed field, and what follows it.
#[inline]
fn field(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let Ok(len) = usize::try_from(i32::from_be_bytes(*len)) else { return Some((None, rest)) };
    let (field, rest) = rest.split_at_checked(len)?;
    Some((Some(field), rest))
}

/// Appends one pair to a header map.
pub(super) fn push_pair(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    for field in [key, value] {
        out.extend_from_slice(&(field.len() as u32).to_be_bytes());
        out.extend_from_slice(field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (k, v) in pairs {
            push_pair(&mut out, k.as_bytes(), v.as_bytes());
        }
        out
    }

    #[test]
    fn a_key_is_found_wherever_it_stands() {
        let bytes = map(&[("a", "1"), ("service", "x:1.0"), ("b", "")]);
        let m = HeaderMap::new(&bytes);
        assert_eq!(m.get(b"service"), Some(&b"x:1.0"[..]));
        assert_eq!(m.get(b"b"), Some(&b""[..]));
        assert_eq!(m.get(b"serv"), None);
        assert!(m.is_well_formed());
        assert_eq!(m.iter().count(), 3);
    }

    #[test]
    fn trailing_bytes_too_few_for_a_length_end_it_without_a_panic() {
        for trailing in 1..4 {
            let mut bytes = map(&[("a", "1")]);
            bytes.extend(vec![0; trailing]);
            let m = HeaderMap::new(&bytes);
            assert_eq!(m.get(b"a"), Some(&b"1"[..]));
            assert_eq!(m.get(b"z"), None);
            assert_eq!(m.iter().count(), 1);
            assert!(!m.is_well_formed());
        }
    }

    #[test]
    fn nulls_are_told_from_empty_strings() {
        let bytes = [&[0, 0, 0, 1, b'k'][..], &[0xFF; 4], &[0xFF; 4], &[0, 0, 0, 0]].concat();
        let m = HeaderMap::new(&bytes);
        let pairs: Vec<_> = m.iter().collect();
        assert_eq!(pairs, [(Some(&b"k"[..]), None), (None, Some(&b""[..]))]);
        assert!(m.is_well_formed());
        assert_eq!(m.get(b"k"), None);
    }

    #[test]
    fn the_last_of_two_values_counts_as_with_the_peers() {
        let bytes = map(&[("service", "allowed"), ("x", "1"), ("service", "used")]);
        let m = HeaderMap::new(&bytes);
        assert_eq!(m.get(b"service"), Some(&b"used"[..]));
        assert_eq!(m.get_all(&[b"x", b"service", b"y"]), [Some(&b"1"[..]), Some(&b"used"[..]), None]);
    }

    #[test]
    fn a_length_beyond_the_bytes_ends_it() {
        let bytes = [0x7F, 0xFF, 0xFF, 0xFF, b'a'];
        assert!(!HeaderMap::new(&bytes).is_well_formed());
        assert_eq!(HeaderMap::new(&bytes).get(b"a"), None);
    }
}
