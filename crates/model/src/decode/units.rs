//! Numbers with a unit: durations, sizes, percentages, shares.
use super::{At, Codec, Cx, quote, scalar};
use crate::yaml::Node;
use std::time::Duration;

/// A duration within inclusive bounds: `250ms`, `1.5s`, `1m30s`.
pub(crate) struct DurationIn {
    min: Duration,
    max: Duration,
}

/// Unit suffixes and their nanoseconds; a suffix that is a prefix of another comes after it.
const TIMES: [(&str, u64); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl DurationIn {
    /// Milliseconds as bounds.
    pub(crate) const fn millis(min: u64, max: u64) -> DurationIn {
        DurationIn { min: Duration::from_millis(min), max: Duration::from_millis(max) }
    }

    /// One millisecond to one day: what most time bounds take.
    pub(crate) const fn usual() -> DurationIn {
        DurationIn::millis(1, 86_400_000)
    }

    fn range(&self) -> String {
        format!("{}..={}", text_of(self.min), text_of(self.max))
    }
}

impl Codec for DurationIn {
    type Out = Duration;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<Duration> {
        let (text, _) = scalar(self, node, at, cx)?;
        let (problem, remedy) = match nanos(text) {
            Ok(n) => {
                let duration = Duration::from_nanos(n);
                if duration < self.min {
                    (format!("{text} is under {}", text_of(self.min)), format!("give {}", self.range()))
                } else if duration > self.max {
                    (format!("{text} is over {}", text_of(self.max)), format!("give {}", self.range()))
                } else {
                    return Some(duration);
                }
            }
            Err(NoTime::Unitless) => {
                (format!("{} has no unit", short(text)), format!("write {0}ms or {0}s", short(text)))
            }
            Err(NoTime::Other) => {
                (format!("{} is not a duration", quote(text)), format!("give {}", self.wanted()))
            }
        };
        cx.mistake(node.spot, at, problem, remedy);
        None
    }

    fn wanted(&self) -> String {
        "a duration such as 250ms, 5s or 1m".into()
    }

    fn kind(&self) -> String {
        format!("duration {}", self.range())
    }

    fn unit(&self) -> &'static str {
        "us, ms, s, m, h"
    }

    fn show(&self, out: &Duration) -> String {
        format!("`{}`", text_of(*out))
    }
}

enum NoTime {
    Unitless,
    Other,
}

/// Sums `number unit` pairs; more than 584 years saturate and are then over any bound.
fn nanos(text: &str) -> Result<u64, NoTime> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(NoTime::Unitless);
    }
    let (mut rest, mut sum) = (text, 0u64);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let (_, each) = TIMES.iter().find(|(suffix, _)| *suffix == unit).ok_or(NoTime::Other)?;
        sum = sum.saturating_add(scaled(number, *each).ok_or(NoTime::Other)?);
        rest = tail;
    }
    if text.is_empty() { Err(NoTime::Other) } else { Ok(sum) }
}

/// A decimal number times a factor, exactly, cut off below 1; `None` = not a number. Saturates.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 12 {
        return None;
    }
    let whole: u64 = whole.parse().unwrap_or(u64::MAX);
    let parts: u128 = fraction.parse().ok()?;
    let below = parts * u128::from(factor) / 10u128.pow(fraction.len() as u32);
    Some(whole.saturating_mul(factor).saturating_add(u64::try_from(below).unwrap_or(u64::MAX)))
}

/// The shortest text that reads back as the duration.
fn text_of(duration: Duration) -> String {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    if nanos == 0 {
        return "0s".into();
    }
    TIMES
        .iter()
        .rev()
        .find(|(_, each)| nanos.is_multiple_of(*each))
        .map_or_else(String::new, |(unit, each)| format!("{}{unit}", nanos / each))
}

fn short(text: &str) -> &str {
    text.get(..20).unwrap_or(text)
}

/// A number of bytes within inclusive bounds: `64KiB`, `16MiB`.
pub(crate) struct SizeIn {
    min: u32,
    max: u32,
}

const SIZES: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

impl SizeIn {
    pub(crate) const fn new(min: u32, max: u32) -> SizeIn {
        SizeIn { min, max }
    }

    fn range(&self) -> String {
        format!("{}..={}", size_text(self.min), size_text(self.max))
    }
}

impl Codec for SizeIn {
    type Out = u32;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<u32> {
        let (text, _) = scalar(self, node, at, cx)?;
        let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, unit) = text.split_at(digits);
        let (problem, remedy) = match SIZES.iter().find(|(suffix, _)| *suffix == unit) {
            Some((_, each)) => match scaled(number, *each) {
                Some(bytes) if bytes < u64::from(self.min) => {
                    (format!("{text} is under {}", size_text(self.min)), format!("give {}", self.range()))
                }
                Some(bytes) if bytes <= u64::from(self.max) => return u32::try_from(bytes).ok(),
                Some(_) => (
                    format!("{} is over {}", short(text), size_text(self.max)),
                    format!("give {}", self.range()),
                ),
                None => (format!("{} is not a size", quote(text)), format!("give {}", self.wanted())),
            },
            None if unit.is_empty() && !number.is_empty() => {
                (format!("{} has no unit", short(text)), format!("write {0}B, {0}KiB or {0}MiB", short(text)))
            }
            None => (format!("{} is not a size", quote(text)), format!("give {}", self.wanted())),
        };
        cx.mistake(node.spot, at, problem, remedy);
        None
    }

    fn wanted(&self) -> String {
        "a size such as 512B, 64KiB or 16MiB".into()
    }

    fn kind(&self) -> String {
        format!("size {}", self.range())
    }

    fn unit(&self) -> &'static str {
        "B, KiB, MiB, GiB"
    }

    fn show(&self, out: &u32) -> String {
        format!("`{}`", size_text(*out))
    }
}

fn size_text(bytes: u32) -> String {
    let bytes = u64::from(bytes);
    let fitting = SIZES.iter().rev().find(|(_, each)| bytes > 0 && bytes.is_multiple_of(*each));
    fitting.map_or_else(|| format!("{bytes}B"), |(unit, each)| format!("{}{unit}", bytes / each))
}

/// A percentage down to a thousandth of a percent, held as millionths: `0.1` is 1000 of them.
pub(crate) struct Percent;

impl Codec for Percent {
    type Out = u32;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<u32> {
        const WHOLE: u64 = 1_000_000;
        let (text, _) = scalar(self, node, at, cx)?;
        let number = text.strip_suffix('%').unwrap_or(text);
        let decimals = number.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        let (problem, remedy) = match scaled(number, WHOLE / 100) {
            None => (format!("{} is not a percentage", quote(text)), self.wanted()),
            Some(_) if decimals > 3 => (
                format!("{} is finer than a thousandth of a percent", short(text)),
                "at most 3 decimals".into(),
            ),
            Some(ppm) if ppm > WHOLE => (format!("{} is over 100", short(text)), "0..=100".into()),
            Some(ppm) => return u32::try_from(ppm).ok(),
        };
        cx.mistake(node.spot, at, problem, format!("give {remedy}"));
        None
    }

    fn wanted(&self) -> String {
        "a percentage 0..=100 such as 5 or 0.1".into()
    }

    fn kind(&self) -> String {
        "number 0..=100".into()
    }

    fn unit(&self) -> &'static str {
        "percent, steps of 0.001"
    }

    fn show(&self, ppm: &u32) -> String {
        format!("`{}`", f64::from(*ppm) / 10_000.0)
    }
}

/// A share 0..=1.
pub(crate) struct Share;

impl Codec for Share {
    type Out = f64;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<f64> {
        let (text, plain) = scalar(self, node, at, cx)?;
        let number = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
        let (problem, remedy) = match text.parse::<f64>() {
            Ok(share) if number && plain && (0.0..=1.0).contains(&share) => return Some(share),
            Ok(share) if number && plain && share > 1.0 && share <= 100.0 => (
                format!("{} is over 1", short(text)),
                format!("give 0..=1; {share} percent is {}", share / 100.0),
            ),
            Ok(_) if number && plain => (format!("{} is outside 0..=1", short(text)), "give 0..=1".into()),
            Ok(_) if number => (format!("{} is text", quote(text)), "give 0..=1 without quotes".into()),
            _ => (format!("{} is not a number", quote(text)), format!("give {}", self.wanted())),
        };
        cx.mistake(node.spot, at, problem, remedy);
        None
    }

    fn wanted(&self) -> String {
        "a share 0..=1 such as 0.3".into()
    }

    fn kind(&self) -> String {
        "number 0..=1".into()
    }

    fn unit(&self) -> &'static str {
        "share"
    }

    fn show(&self, out: &f64) -> String {
        format!("`{out}`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> Option<u128> {
        nanos(text).ok().map(|n| Duration::from_nanos(n).as_millis())
    }

    #[test]
    fn durations_read_as_people_write_them() {
        assert_eq!(millis("250ms"), Some(250));
        assert_eq!(millis("1.5s"), Some(1500));
        assert_eq!(millis("1m30s"), Some(90_000));
        assert_eq!(millis("24h"), Some(86_400_000));
        for bad in ["", "5", "s", "5 s", "-5s", "5sec", "1..5s", "5d", "١s", "1e3s"] {
            assert_eq!(millis(bad), None, "{bad}");
        }
        assert_eq!(nanos("99999999999999999999999h").ok(), Some(u64::MAX));
    }

    #[test]
    fn a_shown_duration_reads_back_as_itself() {
        for ms in [1u64, 90, 999, 1000, 1001, 60_000, 90_000, 3_600_000, 86_400_000] {
            assert_eq!(millis(&text_of(Duration::from_millis(ms))), Some(u128::from(ms)));
        }
    }

    #[test]
    fn percent_is_exact_where_floats_are_not() {
        assert_eq!(scaled("0.1", 10_000), Some(1000));
        assert_eq!(scaled("0.001", 10_000), Some(10));
        assert_eq!(scaled("29.29", 10_000), Some(292_900));
    }
}
