//! W3C trace context: the `traceparent` header (<https://www.w3.org/TR/trace-context/#traceparent-header>).
use std::fmt;

/// The length of a version-00 header value.
pub const LEN: usize = 55;
/// Flag bits a sidecar may pass on: sampled (level 1) and random trace id (level 2).
const KNOWN_FLAGS: u8 = 0b11;

/// A parsed `traceparent`: which trace a request belongs to, and which call it came from.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace: u128,
    parent: u64,
    flags: u8,
}

impl TraceParent {
    /// Reads a header value, as strictly as the specification says: lower-case hexadecimal, no zero
    /// ids, version 00 of exactly 55 bytes. Of a later version the known part is taken.
    pub fn parse(value: &[u8]) -> Option<TraceParent> {
        let head = value.first_chunk::<LEN>()?;
        let dashes = [head[2], head[35], head[52]] == [b'-'; 3];
        let version = hex(&head[..2])?;
        let whole = match version {
            0 => value.len() == LEN,
            0xff => false,
            _ => value.get(LEN).is_none_or(|next| *next == b'-'),
        };
        let trace = hex(&head[3..35])?;
        let parent = hex(&head[36..52])? as u64;
        let flags = hex(&head[53..55])? as u8;
        (dashes && whole && trace != 0 && parent != 0).then_some(TraceParent { trace, parent, flags })
    }

    /// A new trace. `random` is 192 random bits; a zero id, which the format forbids, becomes 1.
    pub fn generate(random: [u64; 3], sampled: bool) -> TraceParent {
        let trace = (u128::from(random[0]) << 64 | u128::from(random[1])).max(1);
        TraceParent { trace, parent: random[2].max(1), flags: KNOWN_FLAGS & (0b10 | u8::from(sampled)) }
    }

    /// The same trace seen from the call this sidecar makes: a new parent id of 64 random bits.
    pub fn child(self, random: u64) -> TraceParent {
        TraceParent { parent: random.max(1), flags: self.flags & KNOWN_FLAGS, ..self }
    }

    /// The trace id.
    pub fn trace_id(self) -> u128 {
        self.trace
    }

    /// The id of the call the request came from.
    pub fn parent_id(self) -> u64 {
        self.parent
    }

    /// Whether the caller asks for the trace to be recorded.
    pub fn sampled(self) -> bool {
        self.flags & 1 != 0
    }

    /// The header value, of version 00.
    pub fn format(self) -> [u8; LEN] {
        let mut out = *b"00-00000000000000000000000000000000-0000000000000000-00";
        put_hex(&mut out[3..35], self.trace);
        put_hex(&mut out[36..52], u128::from(self.parent));
        put_hex(&mut out[53..55], u128::from(self.flags));
        out
    }
}

fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0u128, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

fn put_hex(out: &mut [u8], mut value: u128) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 0xf) as usize];
        value >>= 4;
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.format().iter().try_for_each(|b| fmt::Write::write_char(f, char::from(*b)))
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_specifications_example_is_read_and_written_back() {
        let t = TraceParent::parse(EXAMPLE.as_bytes()).expect("valid");
        assert_eq!(t.trace_id(), 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!((t.parent_id(), t.sampled()), (0x00f0_67aa_0ba9_02b7, true));
        assert_eq!(t.to_string(), EXAMPLE);
        assert_eq!(&t.format(), EXAMPLE.as_bytes());
    }

    #[test]
    fn what_the_specification_forbids_is_not_read() {
        let bad = [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
        ];
        for value in bad {
            assert_eq!(TraceParent::parse(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn a_later_version_is_passed_on_as_version_00() {
        let t = TraceParent::parse(b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more")
            .expect("valid");
        assert_eq!(t.to_string(), EXAMPLE);
    }

    #[test]
    fn a_child_stays_in_its_trace_and_drops_flags_it_does_not_know() {
        let t =
            TraceParent::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-fd").expect("valid");
        let child = t.child(0);
        assert_eq!(child.trace_id(), t.trace_id());
        assert_eq!(child.to_string(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000001-01");
    }

    proptest! {
        #[test]
        fn every_generated_value_is_valid(random: [u64; 3], sampled: bool) {
            let t = TraceParent::generate(random, sampled);
            prop_assert_eq!(t.sampled(), sampled);
            prop_assert_eq!(TraceParent::parse(&t.format()), Some(t));
        }

        #[test]
        fn no_bytes_make_it_panic(value in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = TraceParent::parse(&value);
        }
    }
}
