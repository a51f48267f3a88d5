//! What somebody on the network sees of the links between sidecars.
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What nobody on the network should be able to read: it is in a header of every request.
pub(super) const MARKER: &str = "card=4929-1234-5678-9012";
/// First byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;
/// A connection without a byte for so long is no link that is used.
const FRESH: Duration = Duration::from_millis(1500);
/// Bytes shown of a chunk.
pub(super) const SHOWN: usize = 128;
/// Bytes in a line of a dump.
const LINE: usize = 16;

/// All links.
#[derive(Debug, Default)]
pub(super) struct Wire {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    links: HashMap<u64, Link>,
    /// Newest bytes of a request in plaintext, and in TLS.
    plain: Vec<u8>,
    cipher: Vec<u8>,
    readable: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Link {
    tls: Option<bool>,
    used: Instant,
    /// The end of what was seen, in which a marker may have begun.
    tail: Vec<u8>,
}

/// What is seen at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// Links that are used: in plaintext, in TLS.
    pub(super) plain: usize,
    pub(super) tls: usize,
    /// How often the marker was read, and how many bytes passed, since the start.
    pub(super) readable: u64,
    pub(super) bytes: u64,
}

impl Look {
    /// The share of links that are encrypted; `None` = none is used.
    pub(super) fn share(&self) -> Option<f64> {
        let all = self.plain + self.tls;
        (all > 0).then(|| self.tls as f64 / all as f64)
    }
}

impl Wire {
    /// A connection was made.
    pub(super) fn connected(&self) -> Sight {
        let mut inner = lock(&self.inner);
        inner.next += 1;
        let number = inner.next;
        inner.links.insert(number, Link { tls: None, used: Instant::now(), tail: Vec::new() });
        Sight { inner: self.inner.clone(), number }
    }

    /// What is seen now.
    pub(super) fn look(&self) -> Look {
        let inner = lock(&self.inner);
        let used =
            |tls| inner.links.values().filter(|l| l.tls == Some(tls) && l.used.elapsed() < FRESH).count();
        Look { plain: used(false), tls: used(true), readable: inner.readable, bytes: inner.bytes }
    }

    /// The newest bytes of a request that passed: encrypted or not.
    pub(super) fn sample(&self, tls: bool) -> Vec<u8> {
        let inner = lock(&self.inner);
        if tls { inner.cipher.clone() } else { inner.plain.clone() }
    }
}

/// One connection, as it is seen.
#[derive(Debug)]
pub(super) struct Sight {
    inner: Arc<Mutex<Inner>>,
    number: u64,
}

impl Sight {
    /// Bytes went from caller to callee.
    pub(super) fn forth(&self, bytes: &[u8]) {
        let mut inner = lock(&self.inner);
        let Some(link) = inner.links.get_mut(&self.number) else { return };
        link.used = Instant::now();
        let tls = *link.tls.get_or_insert(bytes.first() == Some(&HANDSHAKE));
        let mut seen = std::mem::take(&mut link.tail);
        seen.extend_from_slice(bytes);
        let found: Vec<usize> = positions(&seen, MARKER.as_bytes());
        // What was counted is not counted again.
        let counted = found.last().map_or(0, |at| at + MARKER.len());
        link.tail = seen[counted.max(seen.len().saturating_sub(MARKER.len() - 1))..].to_vec();
        inner.bytes += bytes.len() as u64;
        inner.readable += found.len() as u64;
        if tls {
            inner.cipher = bytes[..bytes.len().min(SHOWN)].to_vec();
        } else if let Some(at) = found.first() {
            // Whole lines, with the marker in the middle.
            let start = at.saturating_sub(SHOWN / 2) / LINE * LINE;
            inner.plain = seen[start..seen.len().min(start + SHOWN)].to_vec();
        }
    }

    /// Bytes went back.
    pub(super) fn back(&self, bytes: &[u8]) {
        lock(&self.inner).bytes += bytes.len() as u64;
    }
}

impl Drop for Sight {
    /// The connection has ended.
    fn drop(&mut self) {
        lock(&self.inner).links.remove(&self.number);
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

fn positions(text: &[u8], word: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(step) = text[at..].iter().position(|b| *b == word[0]) {
        at += step;
        if text[at..].starts_with(word) {
            found.push(at);
            at += word.len();
        } else {
            at += 1;
        }
    }
    found
}

/// Bytes as capture tools show them: 16 a line, in hex and in text.
pub(super) fn dump(bytes: &[u8]) -> Vec<String> {
    let line = |(n, chunk): (usize, &[u8])| {
        let mut hex = String::new();
        for (i, b) in chunk.iter().enumerate() {
            // Writing to a String does not fail.
            let _ = write!(hex, "{b:02x}{}", if i == LINE / 2 - 1 { "  " } else { " " });
        }
        let text: String =
            chunk.iter().map(|b| if b.is_ascii_graphic() || *b == b' ' { *b as char } else { '.' }).collect();
        format!("{:04x}  {hex:49}  {text}", n * LINE)
    };
    bytes.chunks(LINE).enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_once_even_if_it_comes_in_pieces() {
        let wire = Wire::default();
        let link = wire.connected();
        let (first, second) = MARKER.split_at(9);
        link.forth(format!("to pay: {first}").as_bytes());
        assert_eq!(wire.look().readable, 0);
        link.forth(format!("{second}, and {MARKER}").as_bytes());
        link.forth(b"more");
        assert_eq!(wire.look().readable, 2);
        assert!(dump(&wire.sample(false)).join("\n").contains("card=4929"));
    }

    #[test]
    fn links_are_told_apart_by_their_first_byte() {
        let wire = Wire::default();
        let (plain, tls) = (wire.connected(), wire.connected());
        assert_eq!(wire.look().share(), None);
        plain.forth(b"\x01\x01");
        tls.forth(b"\x16\x03\x01");
        tls.forth(b"\x17\x03\x03\x00\x20");
        assert_eq!(wire.look().share(), Some(0.5));
        assert_eq!(wire.sample(true), b"\x17\x03\x03\x00\x20");
        drop(plain);
        assert_eq!(wire.look().share(), Some(1.0));
    }

    #[test]
    fn a_dump_has_hex_and_text() {
        let lines = dump(b"GET / HTTP/1.1\r\n+");
        assert_eq!(lines[0], "0000  47 45 54 20 2f 20 48 54  54 50 2f 31 2e 31 0d 0a   GET / HTTP/1.1..");
        assert!(lines[1].starts_with("0010  2b ") && lines[1].ends_with("  +"));
    }
}
