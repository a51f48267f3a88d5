//! Header compression (RFC 7541), as far as it is needed to find two statuses.
//!
//! Proxies compress what they answer with dynamic tables and Huffman codes, so the whole of the decoder's
//! state must be kept; but of an entry only what it says about the outcome, and its size.
use super::huffman;
use std::collections::VecDeque;

/// Bytes of dynamic table a peer may use: the default, as real clients have it.
const TABLE: usize = 4096;
/// What an entry counts for beside its text.
const ENTRY: usize = 32;

/// The bytes are no header block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What a header block says of the outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// `:status`.
    pub(crate) status: Option<u16>,
    /// `grpc-status`.
    pub(crate) grpc: Option<u16>,
}

/// A header's name, as far as it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Name {
    Status,
    Grpc,
    #[default]
    Other,
}

impl Name {
    fn of(text: &[u8]) -> Name {
        match text {
            b":status" => Name::Status,
            b"grpc-status" => Name::Grpc,
            _ => Name::Other,
        }
    }
}

/// A header, as far as it matters.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    name: Name,
    /// The number it has, if the name matters.
    value: u16,
    name_length: usize,
    value_length: usize,
}

impl Entry {
    fn size(self) -> usize {
        self.name_length + self.value_length + ENTRY
    }
}

/// `:status` in the static table, from index 8 on.
const STATUSES: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
/// Lengths of the names in the static table (appendix A), from index 1 on.
const STATIC_NAMES: [u8; 61] = [
    10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14, 16, 13,
    12, 6, 4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10, 25, 17, 10, 4, 3,
    16,
];

/// The decoder's end of a connection.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// Newest first.
    table: VecDeque<Entry>,
    size: usize,
    most: Option<usize>,
    text: Vec<u8>,
}

impl Decoder {
    /// Reads a whole header block.
    pub(crate) fn decode(&mut self, block: &[u8]) -> Result<Found, Malformed> {
        let mut found = Found::default();
        let mut rest = block;
        while let Some(&first) = rest.first() {
            let entry = match first {
                0x80.. => {
                    let index = integer(&mut rest, 7)?;
                    self.entry(index)?
                }
                0x40..=0x7f => {
                    let entry = self.literal(&mut rest, 6, true)?;
                    self.insert(entry);
                    entry
                }
                0x20..=0x3f => {
                    self.resize(integer(&mut rest, 5)?)?;
                    continue;
                }
                _ => self.literal(&mut rest, 4, false)?,
            };
            match entry.name {
                Name::Status => found.status = Some(entry.value),
                Name::Grpc => found.grpc = Some(entry.value),
                Name::Other => {}
            }
        }
        Ok(found)
    }

    fn entry(&self, index: usize) -> Result<Entry, Malformed> {
        match index {
            0 => Err(Malformed),
            1..=61 => Ok(Entry {
                name: if (8..=14).contains(&index) { Name::Status } else { Name::Other },
                value: index.checked_sub(8).and_then(|i| STATUSES.get(i)).copied().unwrap_or(0),
                name_length: usize::from(STATIC_NAMES[index - 1]),
                // Nobody asks for the size of a static entry's value.
                value_length: 0,
            }),
            _ => self.table.get(index - 62).copied().ok_or(Malformed),
        }
    }

    /// A header whose value, and maybe whose name, is written out.
    fn literal(&mut self, rest: &mut &[u8], bits: u32, kept: bool) -> Result<Entry, Malformed> {
        let index = integer(rest, bits)?;
        let mut entry = if index == 0 {
            self.string(rest)?;
            Entry { name: Name::of(&self.text), name_length: self.text.len(), ..Entry::default() }
        } else {
            self.entry(index)?
        };
        if entry.name == Name::Other && !kept {
            let (_, skipped) = raw_string(rest)?;
            *rest = skipped;
            return Ok(entry);
        }
        self.string(rest)?;
        entry.value_length = self.text.len();
        if entry.name != Name::Other {
            let text = std::str::from_utf8(&self.text).map_err(|_| Malformed)?;
            entry.value = text.parse().map_err(|_| Malformed)?;
        }
        Ok(entry)
    }

    /// Reads a string into `self.text`.
    fn string(&mut self, rest: &mut &[u8]) -> Result<(), Malformed> {
        let huffman = rest.first().is_some_and(|b| b & 0x80 != 0);
        let (bytes, after) = raw_string(rest)?;
        *rest = after;
        if huffman {
            return huffman::decode(bytes, &mut self.text).ok_or(Malformed);
        }
        self.text.clear();
        self.text.extend_from_slice(bytes);
        Ok(())
    }

    fn insert(&mut self, entry: Entry) {
        self.size += entry.size();
        self.table.push_front(entry);
        self.evict();
    }

    fn resize(&mut self, most: usize) -> Result<(), Malformed> {
        if most > TABLE {
            return Err(Malformed);
        }
        self.most = Some(most);
        self.evict();
        Ok(())
    }

    fn evict(&mut self) {
        while self.size > self.most.unwrap_or(TABLE) {
            let Some(oldest) = self.table.pop_back() else { break };
            self.size -= oldest.size();
        }
    }
}

/// The bytes of a string, as they are, and what follows it.
fn raw_string<'a>(rest: &mut &'a [u8]) -> Result<(&'a [u8], &'a [u8]), Malformed> {
    let length = integer(rest, 7)?;
    rest.split_at_checked(length).ok_or(Malformed)
}

/// An integer in the last `bits` of the first byte, and those after it if it is large.
fn integer(rest: &mut &[u8], bits: u32) -> Result<usize, Malformed> {
    let (first, mut after) = rest.split_first().ok_or(Malformed)?;
    let mask = (1_usize << bits) - 1;
    let mut value = usize::from(*first) & mask;
    if value == mask {
        for shift in [0, 7, 14, 21] {
            let (byte, more) = after.split_first().ok_or(Malformed)?;
            after = more;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *rest = after;
                return Ok(value);
            }
        }
        return Err(Malformed);
    }
    *rest = after;
    Ok(value)
}

/// Appends an integer in the last `bits` of a first byte that has `mark` before it.
pub(crate) fn put_integer(out: &mut Vec<u8>, mark: u8, bits: u32, value: usize) {
    let mask = (1_usize << bits) - 1;
    if value < mask {
        out.push(mark | value as u8);
        return;
    }
    out.push(mark | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Where a header's name comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NameAs<'a> {
    /// Index in the static table.
    Static(usize),
    /// Written out.
    Text(&'a str),
}

/// Appends a header written out; `kept` asks the peer to put it into its table.
pub(crate) fn put_literal(out: &mut Vec<u8>, name: NameAs<'_>, value: &str, kept: bool) {
    let (mark, bits) = if kept { (0x40, 6) } else { (0, 4) };
    match name {
        NameAs::Static(index) => put_integer(out, mark, bits, index),
        NameAs::Text(text) => {
            out.push(mark);
            put_string(out, text);
        }
    }
    put_string(out, value);
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    put_integer(out, 0, 7, text.len());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn responses_of_the_rfc_are_followed_through_table_and_eviction() {
        // RFC 7541, appendix C.6: with Huffman codes, in a table of 256 bytes.
        let blocks = [
            (
                "3fe101 488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
                302,
                222,
            ),
            ("4883640effc1c0bf", 307, 222),
            (
                "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
                200,
                215,
            ),
        ];
        let mut decoder = Decoder::default();
        for (block, status, size) in blocks {
            let found = decoder.decode(&hex(block)).unwrap();
            assert_eq!((found.status, decoder.size), (Some(status), size));
        }
    }

    #[test]
    fn the_status_of_a_call_is_found_however_it_is_written() {
        let mut decoder = Decoder::default();
        let mut block = Vec::new();
        put_literal(&mut block, NameAs::Text("grpc-status"), "0", true);
        put_literal(&mut block, NameAs::Text("grpc-message"), "fine", true);
        assert_eq!(decoder.decode(&block), Ok(Found { status: None, grpc: Some(0) }));
        // By index; then by the name's index, with another value.
        assert_eq!(decoder.decode(&[0x80 | 63]), Ok(Found { status: None, grpc: Some(0) }));
        let mut block = vec![0x88];
        put_literal(&mut block, NameAs::Static(63), "14", false);
        assert_eq!(decoder.decode(&block), Ok(Found { status: Some(200), grpc: Some(14) }));
    }

    #[test]
    fn damaged_blocks_are_refused() {
        for block in ["80", "be", "40", "400161", "7f ffffffffff00", "3fffff7f", "4803616263", "0085ff"] {
            assert_eq!(Decoder::default().decode(&hex(block)), Err(Malformed), "{block}");
        }
    }

    #[test]
    fn integers_are_written_as_they_are_read() {
        for value in [0, 9, 10, 30, 31, 127, 128, 1337, 70_000] {
            let mut out = Vec::new();
            put_integer(&mut out, 0x20, 5, value);
            assert_eq!(integer(&mut out.as_slice(), 5), Ok(value));
        }
    }
}
