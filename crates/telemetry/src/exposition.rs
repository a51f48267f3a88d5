//! Writes the Prometheus text format, version 0.0.4.
use crate::cells::Family;
use std::fmt::{Display, Write};

/// A page being written.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    out: String,
    family: &'static str,
}

impl Exposition {
    /// Opens a family, unless it is the one that is open.
    pub(crate) fn family(&mut self, family: &Family) {
        self.open(family.name, family.kind.name(), family.help);
    }

    pub(crate) fn open(&mut self, name: &'static str, kind: &str, help: &str) {
        if self.family == name {
            return;
        }
        self.family = name;
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// One sample: `name` + `suffix`, with the labels of both texts.
    pub(crate) fn sample(&mut self, name: &str, suffix: &str, labels: &str, more: &str, value: impl Display) {
        match (labels, more) {
            ("", "") => self.line(format_args!("{name}{suffix} {value}")),
            (labels, "") | ("", labels) => self.line(format_args!("{name}{suffix}{{{labels}}} {value}")),
            _ => self.line(format_args!("{name}{suffix}{{{labels},{more}}} {value}")),
        }
    }

    /// One sample with one more label, whose value needs no escaping.
    pub(crate) fn labelled(&mut self, name: &str, labels: &str, key: &str, value: &str, sample: u64) {
        let comma = if labels.is_empty() { "" } else { "," };
        self.line(format_args!("{name}{{{labels}{comma}{key}=\"{value}\"}} {sample}"));
    }

    /// One sample of a duration, in seconds with all its nanoseconds.
    pub(crate) fn seconds(&mut self, name: &str, suffix: &str, labels: &str, ns: u64) {
        let (whole, part) = (ns / 1_000_000_000, ns % 1_000_000_000);
        self.sample(name, suffix, labels, "", format_args!("{whole}.{part:09}"));
    }

    pub(crate) fn finish(self) -> String {
        self.out
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "{text}");
    }
}

/// The longest label value shown, in bytes; names come from the network.
const MAX_LABEL: usize = 200;

/// The start of a name that a label has room for.
pub(crate) fn clip(name: &str) -> &str {
    let mut end = name.len().min(MAX_LABEL);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

/// Escapes a label value as the text format wants it.
pub(crate) fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_at_a_character() {
        let name = "é".repeat(MAX_LABEL);
        assert_eq!(clip(&name).len(), MAX_LABEL);
        let odd = format!("x{name}");
        assert_eq!(clip(&odd).len(), MAX_LABEL - 1);
        assert_eq!(clip("short"), "short");
    }

    #[test]
    fn a_hostile_name_stays_one_label_value() {
        assert_eq!(escape("a\"} 1\nb\\"), "a\\\"} 1\\nb\\\\");
    }
}
