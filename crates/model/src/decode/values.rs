//! Text, whole numbers, booleans, words from a list, regular expressions.
use super::{At, Codec, Cx, quote, scalar};
use crate::suggest;
use crate::yaml::Node;
use regex::{Regex, RegexBuilder};
use std::fmt::Display;

/// Text. Unquoted numbers and booleans count as the text they are written as.
pub(crate) struct Text {
    what: &'static str,
    name: bool,
}

impl Text {
    /// Text that may hold anything, even nothing.
    pub(crate) const fn any(what: &'static str) -> Text {
        Text { what, name: false }
    }

    /// A name: not empty, no spaces or control characters, at most 512 bytes.
    pub(crate) const fn name(what: &'static str) -> Text {
        Text { what, name: true }
    }

    /// Longest name in bytes.
    const LONGEST: usize = 512;
}

impl Codec for Text {
    type Out = String;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<String> {
        let (text, _) = scalar(self, node, at, cx)?;
        if self.name {
            let problem = if text.is_empty() {
                "is empty".to_owned()
            } else if text.len() > Text::LONGEST {
                format!("is {} bytes long", text.len())
            } else if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
                format!("{} has a space or control character in it", quote(text))
            } else {
                return Some(text.to_owned());
            };
            let remedy = format!("give {} of 1..={} bytes without spaces", self.what, Text::LONGEST);
            cx.mistake(node.spot, at, problem, remedy);
            return None;
        }
        Some(text.to_owned())
    }

    fn wanted(&self) -> String {
        self.what.into()
    }

    fn kind(&self) -> String {
        "text".into()
    }

    fn show(&self, out: &String) -> String {
        format!("`{out}`")
    }
}

/// A whole number within inclusive bounds.
pub(crate) struct Int<T> {
    min: T,
    max: T,
    unit: &'static str,
}

impl<T> Int<T> {
    pub(crate) const fn new(min: T, max: T, unit: &'static str) -> Int<T> {
        Int { min, max, unit }
    }
}

impl<T: Copy + Display + Into<i64>> Int<T> {
    /// The bounds, as far as they bound anything.
    fn range(&self) -> String {
        if (self.min.into(), self.max.into()) == (i64::MIN, i64::MAX) {
            return "of 64 bits".into();
        }
        format!("{}..={}", self.min, self.max)
    }
}

impl<T: Copy + Display + Into<i64> + TryFrom<i64>> Codec for Int<T> {
    type Out = T;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<T> {
        let (text, plain) = scalar(self, node, at, cx)?;
        let (min, max, range) = (self.min, self.max, self.range());
        let digits = text.strip_prefix('-').unwrap_or(text);
        let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let (problem, remedy) = if !number {
            (format!("{} is not a whole number", quote(text)), format!("give {range}"))
        } else if !plain {
            (format!("{} is text", quote(text)), format!("give {range} without quotes"))
        } else {
            match text.parse::<i64>() {
                Ok(n) if n < min.into() => (format!("{n} is under {min}"), format!("give {range}")),
                Ok(n) if n <= max.into() => return T::try_from(n).ok(),
                _ => (format!("{} is over {max}", shorten(text)), format!("give {range}")),
            }
        };
        cx.mistake(node.spot, at, problem, remedy);
        None
    }

    fn wanted(&self) -> String {
        format!("a whole number {}", self.range())
    }

    fn kind(&self) -> String {
        format!("integer {}", self.range())
    }

    fn unit(&self) -> &'static str {
        self.unit
    }

    fn show(&self, out: &T) -> String {
        format!("`{out}`")
    }
}

/// Digits too many to repeat in a message.
fn shorten(digits: &str) -> String {
    if digits.len() > 24 { format!("a number of {} digits", digits.len()) } else { digits.to_owned() }
}

/// A number within inclusive bounds, whole or not.
pub(crate) struct Number {
    min: f64,
    max: f64,
    unit: &'static str,
}

impl Number {
    pub(crate) const fn new(min: f64, max: f64, unit: &'static str) -> Number {
        Number { min, max, unit }
    }
}

impl Codec for Number {
    type Out = f64;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<f64> {
        let (text, plain) = scalar(self, node, at, cx)?;
        let digits = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
        let (problem, remedy) = match text.parse::<f64>() {
            Ok(n) if digits && plain && (self.min..=self.max).contains(&n) => return Some(n),
            Ok(_) if digits && plain => {
                let range = format!("{}..={}", self.min, self.max);
                (format!("{} is outside {range}", shorten(text)), format!("give {range}"))
            }
            Ok(_) if digits => (format!("{} is text", quote(text)), "give it without quotes".into()),
            _ => (format!("{} is not a number", quote(text)), format!("give {}", self.wanted())),
        };
        cx.mistake(node.spot, at, problem, remedy);
        None
    }

    fn wanted(&self) -> String {
        format!("a number {}..={}", self.min, self.max)
    }

    fn kind(&self) -> String {
        format!("number {}..={}", self.min, self.max)
    }

    fn unit(&self) -> &'static str {
        self.unit
    }

    fn show(&self, out: &f64) -> String {
        format!("`{out}`")
    }
}

/// `true` or `false`.
pub(crate) struct Bool;

impl Codec for Bool {
    type Out = bool;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<bool> {
        let (text, plain) = scalar(self, node, at, cx)?;
        match text {
            "true" if plain => return Some(true),
            "false" if plain => return Some(false),
            _ => {}
        }
        let problem = format!("{} is not a boolean", quote(text));
        cx.mistake(node.spot, at, problem, "give true or false, without quotes".into());
        None
    }

    fn wanted(&self) -> String {
        "true or false".into()
    }

    fn kind(&self) -> String {
        "boolean".into()
    }

    fn show(&self, out: &bool) -> String {
        format!("`{out}`")
    }
}

/// One of a list of words.
pub(crate) struct Choice<T: 'static>(pub(crate) &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Codec for Choice<T> {
    type Out = T;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<T> {
        let (text, _) = scalar(self, node, at, cx)?;
        if let Some((_, value)) = self.0.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let remedy = match suggest::nearest(text, self.0.iter().map(|(word, _)| *word)) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("give {}", self.wanted()),
        };
        cx.mistake(node.spot, at, format!("{} is not known here", quote(text)), remedy);
        None
    }

    fn wanted(&self) -> String {
        let words: Vec<&str> = self.0.iter().map(|(word, _)| *word).collect();
        match words.as_slice() {
            [only] => (*only).to_owned(),
            _ => format!("one of {}", words.join(", ")),
        }
    }

    fn kind(&self) -> String {
        let words: Vec<String> = self.0.iter().map(|(word, _)| format!("`{word}`")).collect();
        words.join(" \\| ")
    }

    fn show(&self, out: &T) -> String {
        self.0.iter().find(|(_, value)| value == out).map_or(String::new(), |(word, _)| format!("`{word}`"))
    }
}

/// A regular expression that the whole value must match; kept as it is written.
pub(crate) struct Pattern;

impl Pattern {
    /// Bound of a compiled expression, bytes: a rule file must not eat the sidecar's memory.
    const LARGEST: usize = 2 << 20;
}

impl Codec for Pattern {
    type Out = Regex;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<Regex> {
        let (text, _) = scalar(self, node, at, cx)?;
        // Whoever matches anchors it, so it must bear that too: `(?x)a #` would comment the anchor out.
        let compiled = compile(text).and_then(|regex| compile(&format!("^(?:{text})$")).map(|_| regex));
        match compiled {
            Ok(regex) => Some(regex),
            Err(e) => {
                let remedy = "give an expression of Rust's regex syntax (no look-around, no backreferences)";
                cx.mistake(node.spot, at, problem(&e), remedy.into());
                None
            }
        }
    }

    fn wanted(&self) -> String {
        "a regular expression".into()
    }

    fn kind(&self) -> String {
        "regex".into()
    }
}

fn compile(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text).size_limit(Pattern::LARGEST).build()
}

/// The crate's syntax errors are drawn over several lines; the last one says it.
fn problem(e: &regex::Error) -> String {
    match e {
        regex::Error::CompiledTooBig(limit) => format!("the expression compiles to more than {limit} bytes"),
        e => {
            let text = e.to_string();
            let last = text.lines().last().unwrap_or_default();
            format!("not a regular expression: {}", last.trim_start_matches("error: "))
        }
    }
}
