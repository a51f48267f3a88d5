//! What gRPC says in headers (the gRPC over HTTP/2 protocol document).
use std::time::Duration;

/// The time a `grpc-timeout` value gives: at most eight digits and a unit.
pub fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let n = digits.iter().try_fold(0u64, |n, d| d.is_ascii_digit().then(|| n * 10 + u64::from(d - b'0')))?;
    Some(match unit {
        b'H' => Duration::from_secs(n * 3600),
        b'M' => Duration::from_secs(n * 60),
        b'S' => Duration::from_secs(n),
        b'm' => Duration::from_millis(n),
        b'u' => Duration::from_micros(n),
        b'n' => Duration::from_nanos(n),
        _ => return None,
    })
}

/// Writes a `grpc-timeout` value, rounded up to what eight digits can say.
pub fn format_timeout(d: Duration) -> String {
    let most = 99_999_999;
    let units =
        [(d.as_nanos(), 'n'), (d.as_micros(), 'u'), (d.as_millis(), 'm'), (u128::from(d.as_secs()), 'S')];
    let (n, unit) = units.into_iter().find(|(n, _)| *n <= most).unwrap_or((most, 'S'));
    format!("{n}{unit}")
}

/// Service and method of a path `/package.Service/Method`.
pub fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = path.strip_prefix(b"/")?;
    let at = rest.iter().rposition(|b| *b == b'/')?;
    let (service, method) = (&rest[..at], &rest[at + 1..]);
    (!service.is_empty() && !method.is_empty()).then_some((service, method))
}

/// Appends text to `out` as `grpc-message` wants it: percent-encoded outside printable ASCII.
pub fn encode_message(text: &str, out: &mut Vec<u8>) {
    for b in text.bytes() {
        if (0x20..0x7F).contains(&b) && b != b'%' {
            out.push(b);
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            out.extend_from_slice(&[b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_and_written() {
        assert_eq!(parse_timeout(b"250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse_timeout(b"1H"), Some(Duration::from_secs(3600)));
        for bad in [&b"m"[..], b"", b"123456789S", b"1s", b"-1S", b"1.5S"] {
            assert_eq!(parse_timeout(bad), None);
        }
        assert_eq!(format_timeout(Duration::from_millis(1500)), "1500000u");
        for ms in [1u64, 999, 100_000, 1_000_000_000] {
            let d = Duration::from_millis(ms);
            assert_eq!(parse_timeout(format_timeout(d).as_bytes()), Some(d));
        }
    }

    #[test]
    fn a_path_names_service_and_method() {
        assert_eq!(split_path(b"/a.B/C"), Some((&b"a.B"[..], &b"C"[..])));
        assert_eq!(split_path(b"/a"), None);
        assert_eq!(split_path(b"//x"), None);
    }

    #[test]
    fn messages_are_percent_encoded() {
        let mut out = Vec::new();
        encode_message("100% \u{e9}", &mut out);
        assert_eq!(out, b"100%25 %C3%A9");
    }
}
