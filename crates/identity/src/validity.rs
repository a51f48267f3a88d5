//! From when until when a certificate is valid: the one thing about it that `rustls` does not tell of its own.
use std::fmt;
use std::time::Duration;

/// The time a certificate is valid, as seconds since 1970 (RFC 5280, 4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub not_before: i64,
    /// The last second.
    pub not_after: i64,
}

/// How long before its end a certificate is worth a warning.
const SOON: Duration = Duration::from_secs(7 * 24 * 3600);

impl Validity {
    /// Reads it from a certificate. `None` if that is no X.509 certificate.
    pub fn of(certificate: &[u8]) -> Option<Validity> {
        let (certificate, _) = take(certificate, SEQUENCE)?;
        let (mut tbs, _) = take(certificate, SEQUENCE)?;
        if let Some((_, rest)) = take(tbs, VERSION) {
            tbs = rest;
        }
        // Serial number, signature algorithm, issuer.
        for tag in [INTEGER, SEQUENCE, SEQUENCE] {
            tbs = take(tbs, tag)?.1;
        }
        let (validity, _) = take(tbs, SEQUENCE)?;
        let (not_before, rest) = time(validity)?;
        let (not_after, _) = time(rest)?;
        Some(Validity { not_before, not_after })
    }

    /// What a person should know at this time (seconds since 1970), if anything.
    pub fn warning(&self, now: i64) -> Option<Warning> {
        if now > self.not_after {
            Some(Warning::Expired(now - self.not_after))
        } else if now < self.not_before {
            Some(Warning::NotYet(self.not_before - now))
        } else if self.not_after - now < SOON.as_secs() as i64 {
            Some(Warning::Soon(self.not_after - now))
        } else {
            None
        }
    }
}

/// A certificate that clients will not take, or soon not; seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warning {
    /// It expired so long ago.
    Expired(i64),
    /// It becomes valid in so long.
    NotYet(i64),
    /// It expires in so long.
    Soon(i64),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::Expired(s) => {
                write!(f, "the certificate expired {} ago; clients refuse it, renew it", Span(*s))
            }
            Warning::NotYet(s) => {
                write!(f, "the certificate becomes valid in {}; clients refuse it, check the clock", Span(*s))
            }
            Warning::Soon(s) => write!(f, "the certificate expires in {}; renew it", Span(*s)),
        }
    }
}

/// A span of seconds in its largest unit.
struct Span(i64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            s if s >= 2 * 86400 => write!(f, "{} days", s / 86400),
            s if s >= 2 * 3600 => write!(f, "{} hours", s / 3600),
            s if s >= 120 => write!(f, "{} minutes", s / 60),
            s => write!(f, "{s} s"),
        }
    }
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// The content of the DER element in front, if it has this tag, and what is behind it.
pub(crate) fn take(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.split_first()?;
    let (&short, rest) = rest.split_first()?;
    if first != tag {
        return None;
    }
    let (len, rest) = match short {
        0..=0x7f => (short as usize, rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked((short & 0x7f) as usize)?;
            (bytes.iter().fold(0, |n, b| n << 8 | *b as usize), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(len)
}

/// The time in front, and what is behind it. DER allows one form of each kind, which ends with `Z`.
fn time(der: &[u8]) -> Option<(i64, &[u8])> {
    if let Some((text, rest)) = take(der, UTC_TIME) {
        let year = number(text.get(..2)?)?;
        let century = if year < 50 { 2000 } else { 1900 };
        return Some((seconds(century + year, text.get(2..)?)?, rest));
    }
    let (text, rest) = take(der, GENERALIZED_TIME)?;
    Some((seconds(number(text.get(..4)?)?, text.get(4..)?)?, rest))
}

/// Seconds since 1970 of a year and `MMDDHHMMSSZ`.
fn seconds(year: i64, text: &[u8]) -> Option<i64> {
    let (&z, digits) = text.split_last()?;
    if z != b'Z' || digits.len() != 10 {
        return None;
    }
    let mut part = digits.chunks(2).map(number);
    let mut next = || part.next().flatten();
    let (month, day, hour, minute, second) = (next()?, next()?, next()?, next()?, next()?);
    if !(1..=12).contains(&month) {
        return None;
    }
    // Days from the civil calendar; years begin in March, so that the leap day is the last one.
    let y = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * y + y / 4 - y / 100 + y / 400 + day_of_year - 719_468;
    Some(days * 86400 + hour * 3600 + minute * 60 + second)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |n, d| d.is_ascii_digit().then(|| n * 10 + (d - b'0') as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_counted_over_leap_years_and_centuries() {
        assert_eq!(seconds(1970, b"0101000000Z"), Some(0));
        assert_eq!(seconds(2000, b"0229235959Z"), Some(951_868_799));
        assert_eq!(seconds(2026, b"0301000000Z"), Some(1_772_323_200));
        assert_eq!(seconds(9999, b"1231235959Z"), Some(253_402_300_799));
        assert_eq!(seconds(2026, b"1301000000Z"), None);
        assert_eq!(seconds(2026, b"0101000000"), None);
    }

    #[test]
    fn what_is_no_certificate_has_no_validity() {
        for der in
            [&b""[..], b"\x30", b"\x30\x80", b"\x30\x83\xff\xff\xff", b"\x30\x02\x30\x00", &[0x30; 300]]
        {
            assert_eq!(Validity::of(der), None);
        }
    }

    #[test]
    fn warnings_come_before_the_end_and_after_it() {
        let v = Validity { not_before: 1_000_000, not_after: 3_000_000 };
        assert_eq!(v.warning(2_000_000), None);
        assert_eq!(v.warning(2_999_990), Some(Warning::Soon(10)));
        assert_eq!(v.warning(3_000_001), Some(Warning::Expired(1)));
        assert_eq!(v.warning(999_999), Some(Warning::NotYet(1)));
        let text = Warning::Expired(3 * 86400).to_string();
        assert_eq!(text, "the certificate expired 3 days ago; clients refuse it, renew it");
    }
}
