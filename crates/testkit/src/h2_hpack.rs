//! HPACK for tests (RFC 7541): blocks put together piece by piece, wrong ones too, and a strict decoder.
use crate::h2_huffman as huffman;
use std::collections::VecDeque;

/// A header block under construction. Nothing is checked: that is what it is for.
#[derive(Clone, Debug, Default)]
pub struct Block(pub Vec<u8>);

impl Block {
    /// An empty one.
    pub fn new() -> Block {
        Block::default()
    }

    /// A request's four pseudo-header fields.
    pub fn request(method: &str, authority: &str, path: &str) -> Block {
        Block::new()
            .lit(":method", method)
            .lit(":scheme", "http")
            .lit(":path", path)
            .lit(":authority", authority)
    }

    /// A literal without indexing, both parts plain.
    pub fn lit(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Block {
        self.byte(0x00).string(name.as_ref()).string(value.as_ref())
    }

    /// A literal with incremental indexing.
    pub fn lit_indexed(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Block {
        self.byte(0x40).string(name.as_ref()).string(value.as_ref())
    }

    /// A literal that is never indexed.
    pub fn lit_never(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Block {
        self.byte(0x10).string(name.as_ref()).string(value.as_ref())
    }

    /// A literal without indexing, both parts Huffman-coded.
    pub fn lit_huffman(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Block {
        self.byte(0x00).huffman(name.as_ref()).huffman(value.as_ref())
    }

    /// A field of the static or dynamic table.
    pub fn indexed(self, index: usize) -> Block {
        self.int(0x80, 7, index)
    }

    /// A literal whose name is of a table: with incremental indexing (0x40, 6), without (0, 4), never (0x10, 4).
    pub fn named(self, first: u8, prefix: u8, index: usize, value: &str) -> Block {
        self.int(first, prefix, index).string(value.as_bytes())
    }

    /// A change of the dynamic table's size.
    pub fn table_size(self, size: usize) -> Block {
        self.int(0x20, 5, size)
    }

    /// An integer with so many bits in the first byte (RFC 7541, 5.1).
    pub fn int(mut self, first: u8, prefix: u8, n: usize) -> Block {
        let most = (1 << prefix) - 1;
        if n < most {
            self.0.push(first | n as u8);
            return self;
        }
        self.0.push(first | most as u8);
        let mut n = n - most;
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
        self
    }

    /// A plain string with its length.
    pub fn string(self, s: &[u8]) -> Block {
        self.int(0, 7, s.len()).raw(s)
    }

    /// A Huffman-coded string with its length.
    pub fn huffman(self, s: &[u8]) -> Block {
        let coded = huffman::encode(s);
        self.coded(&coded)
    }

    /// Bytes as a Huffman-coded string's, whatever they are.
    pub fn coded(self, coded: &[u8]) -> Block {
        self.int(0x80, 7, coded.len()).raw(coded)
    }

    /// One byte as it is.
    pub fn byte(mut self, b: u8) -> Block {
        self.0.push(b);
        self
    }

    /// Bytes as they are.
    pub fn raw(mut self, bytes: &[u8]) -> Block {
        self.0.extend_from_slice(bytes);
        self
    }
}

/// Names and values of a block.
pub type Headers = Vec<(Vec<u8>, Vec<u8>)>;

/// Fields for people.
pub fn shown(h: &Headers) -> Vec<String> {
    h.iter().map(|(n, v)| format!("{}: {}", String::from_utf8_lossy(n), String::from_utf8_lossy(v))).collect()
}

/// Reads blocks of one direction of a connection.
#[derive(Debug)]
pub struct Decoder {
    table: VecDeque<(Vec<u8>, Vec<u8>)>,
    size: usize,
    most: usize,
    /// What this end allows: `SETTINGS_HEADER_TABLE_SIZE`.
    pub allowed: usize,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { table: VecDeque::new(), size: 0, most: 4096, allowed: 4096 }
    }
}

impl Decoder {
    /// Reads a whole block.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(&mut self, block: &[u8]) -> Result<Headers, String> {
        let (mut b, mut out) = (block, Vec::new());
        while let Some(&first) = b.first() {
            if first & 0x80 != 0 {
                let i = int(&mut b, 7)?;
                out.push(self.at(i)?);
            } else if first & 0xe0 == 0x20 {
                if !out.is_empty() {
                    return Err("a table size behind a field".into());
                }
                self.most = int(&mut b, 5)?;
                if self.most > self.allowed {
                    return Err(format!("table size {} of {}", self.most, self.allowed));
                }
                self.shrink();
            } else {
                let indexing = first & 0x40 != 0;
                let i = int(&mut b, if indexing { 6 } else { 4 })?;
                let name = if i == 0 { string(&mut b)? } else { self.at(i)?.0 };
                let value = string(&mut b)?;
                if indexing {
                    self.size += name.len() + value.len() + 32;
                    self.table.push_front((name.clone(), value.clone()));
                    self.shrink();
                }
                out.push((name, value));
            }
        }
        Ok(out)
    }

    fn at(&self, i: usize) -> Result<(Vec<u8>, Vec<u8>), String> {
        let owned = |(n, v): (&str, &str)| (n.as_bytes().to_vec(), v.as_bytes().to_vec());
        match i {
            0 => Err("index 0".into()),
            1..=61 => Ok(owned(STATIC[i - 1])),
            _ => self.table.get(i - 62).cloned().ok_or_else(|| format!("index {i} is not in the table")),
        }
    }

    fn shrink(&mut self) {
        while self.size > self.most {
            let Some((n, v)) = self.table.pop_back() else { return };
            self.size -= n.len() + v.len() + 32;
        }
    }
}

fn int(b: &mut &[u8], prefix: u8) -> Result<usize, String> {
    let most = (1_usize << prefix) - 1;
    let (&first, rest) = b.split_first().ok_or("a cut integer")?;
    *b = rest;
    let mut n = first as usize & most;
    if n < most {
        return Ok(n);
    }
    for shift in [0, 7, 14, 21] {
        let (&next, rest) = b.split_first().ok_or("a cut integer")?;
        *b = rest;
        n += (next as usize & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Ok(n);
        }
    }
    Err("an integer beyond all measure".into())
}

fn string(b: &mut &[u8]) -> Result<Vec<u8>, String> {
    let coded = b.first().is_some_and(|f| f & 0x80 != 0);
    let len = int(b, 7)?;
    let (text, rest) = b.split_at_checked(len).ok_or("a cut string")?;
    *b = rest;
    if coded { huffman::decode(text).ok_or_else(|| "a bad Huffman code".into()) } else { Ok(text.to_vec()) }
}

/// The static table (RFC 7541, appendix A).
pub const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_together_is_read() {
        let mut d = Decoder::default();
        let b = Block::request("GET", "a", "/")
            .indexed(2)
            .lit_indexed("x", "1")
            .indexed(62)
            .lit_huffman("y", "2")
            .named(0x40, 6, 58, "me")
            .lit_never("z", "3");
        let read = d.read(&b.0).unwrap();
        assert_eq!(read[4], (b":method".to_vec(), b"GET".to_vec()));
        assert_eq!(read[5], read[6]);
        assert_eq!(read[8], (b"user-agent".to_vec(), b"me".to_vec()));
        assert_eq!(d.read(&Block::new().indexed(62).0).unwrap()[0].0, b"user-agent");
        assert!(d.read(&Block::new().table_size(0).indexed(62).0).is_err());
        assert!(d.read(&Block::new().table_size(5000).0).is_err());
        assert!(d.read(&Block::new().indexed(0).0).is_err());
    }
}
