//! One condition of a rule, compiled so that testing a request allocates nothing.
use crate::route::Attributes;
use ahash::RandomState;
use raddle_model::{Condition, Matcher, Subject};
use std::collections::HashSet;

/// Longer lists are hashed, shorter ones compared one by one.
const LINEAR: usize = 8;

/// A compiled condition.
#[derive(Debug)]
pub(crate) struct Cond {
    pub(crate) source: Condition,
    test: Test,
}

/// What a value must be, compiled.
#[derive(Debug)]
pub(crate) enum Test {
    OneOf(Values),
    NoneOf(Values),
    Prefix(Box<[u8]>),
    Regex(Whole),
    Range { min: i64, max: i64 },
    Exists(bool),
}

#[derive(Debug)]
pub(crate) enum Values {
    Few(Box<[Box<[u8]>]>),
    Many(HashSet<Box<[u8]>, RandomState>),
}

/// A regular expression that must match the whole value.
#[derive(Debug)]
pub(crate) enum Whole {
    Bytes(regex::bytes::Regex),
    /// The expression cannot be wrapped (for example it ends in a comment): matches are checked for length.
    Text(regex::Regex),
}

impl Cond {
    pub(crate) fn new(source: &Condition) -> Cond {
        Cond { source: source.clone(), test: Test::new(&source.matcher) }
    }

    pub(crate) fn holds(&self, req: &impl Attributes) -> bool {
        self.test(value(&self.source.subject, req))
    }

    pub(crate) fn test(&self, value: Option<&[u8]>) -> bool {
        self.test.passes(value)
    }

    /// The values that alone can make it hold, if it is such a condition.
    pub(crate) fn exact_values(&self) -> Option<&[String]> {
        match &self.source.matcher {
            Matcher::Equals(v) => Some(std::slice::from_ref(v)),
            Matcher::In(vs) => Some(vs),
            _ => None,
        }
    }
}

impl Test {
    pub(crate) fn new(matcher: &Matcher) -> Test {
        match matcher {
            Matcher::Equals(v) => Test::OneOf(Values::new(std::slice::from_ref(v))),
            Matcher::NotEquals(v) => Test::NoneOf(Values::new(std::slice::from_ref(v))),
            Matcher::In(vs) => Test::OneOf(Values::new(vs)),
            Matcher::NotIn(vs) => Test::NoneOf(Values::new(vs)),
            Matcher::Prefix(v) => Test::Prefix(v.as_bytes().into()),
            Matcher::Regex(re) => Test::Regex(Whole::new(re)),
            Matcher::Range { min, max } => Test::Range { min: *min, max: *max },
            Matcher::Exists(exists) => Test::Exists(*exists),
        }
    }

    /// Whether a value, or its absence, is what is wanted.
    pub(crate) fn passes(&self, value: Option<&[u8]>) -> bool {
        match (self, value) {
            (Test::NoneOf(_), None) => true,
            (Test::Exists(wanted), value) => *wanted == value.is_some(),
            (_, None) => false,
            (Test::OneOf(values), Some(v)) => values.contain(v),
            (Test::NoneOf(values), Some(v)) => !values.contain(v),
            (Test::Prefix(prefix), Some(v)) => v.starts_with(prefix),
            (Test::Regex(whole), Some(v)) => whole.matches(v),
            (Test::Range { min, max }, Some(v)) => integer(v).is_some_and(|n| (*min..=*max).contains(&n)),
        }
    }
}

/// What a condition looks at in a request.
pub(crate) fn value<'r>(subject: &Subject, req: &'r impl Attributes) -> Option<&'r [u8]> {
    match subject {
        Subject::Header(name) => req.header(name),
        Subject::Method => req.method(),
        Subject::Path => req.path(),
        Subject::Authority => req.authority(),
        Subject::Query(name) => req.query(name),
        Subject::Service => Some(req.service()),
        Subject::CallerApp => req.caller_app(),
        Subject::LoadTest => Some(if req.load_test() { b"true" } else { b"false" }),
    }
}

impl Values {
    fn new(values: &[String]) -> Values {
        let bytes = values.iter().map(|v| Box::from(v.as_bytes()));
        if values.len() <= LINEAR { Values::Few(bytes.collect()) } else { Values::Many(bytes.collect()) }
    }

    fn contain(&self, value: &[u8]) -> bool {
        match self {
            Values::Few(values) => values.iter().any(|v| **v == *value),
            Values::Many(values) => values.contains(value),
        }
    }
}

impl Whole {
    fn new(re: &regex::Regex) -> Whole {
        match regex::bytes::Regex::new(&format!("^(?:{})$", re.as_str())) {
            Ok(bytes) => Whole::Bytes(bytes),
            Err(_) => Whole::Text(re.clone()),
        }
    }

    fn matches(&self, value: &[u8]) -> bool {
        match self {
            Whole::Bytes(re) => re.is_match(value),
            Whole::Text(re) => std::str::from_utf8(value)
                .is_ok_and(|text| re.find(text).is_some_and(|m| m.start() == 0 && m.end() == text.len())),
        }
    }
}

/// A decimal integer and nothing else.
fn integer(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(matcher: Matcher, value: Option<&str>) -> bool {
        Cond::new(&Condition { subject: Subject::Method, matcher }).test(value.map(str::as_bytes))
    }

    #[test]
    fn every_matcher_says_what_its_documentation_says() {
        let s = |v: &str| v.to_owned();
        assert!(test(Matcher::Equals(s("a")), Some("a")) && !test(Matcher::Equals(s("a")), Some("A")));
        assert!(test(Matcher::NotEquals(s("a")), Some("b")) && !test(Matcher::NotEquals(s("a")), Some("a")));
        assert!(
            test(Matcher::In(vec![s("a"), s("b")]), Some("b")) && !test(Matcher::In(vec![s("a")]), Some("b"))
        );
        assert!(test(Matcher::Prefix(s("ab")), Some("abc")) && !test(Matcher::Prefix(s("ab")), Some("a")));
        let range = Matcher::Range { min: -3, max: 5 };
        for (value, holds) in
            [("-3", true), ("5", true), ("6", false), ("x", false), ("", false), (" 1", false)]
        {
            assert_eq!(test(range.clone(), Some(value)), holds, "{value:?}");
        }
        assert!(test(Matcher::Exists(true), Some("")) && !test(Matcher::Exists(false), Some("")));
    }

    #[test]
    fn an_absent_subject_is_unequal_to_everything_and_nothing_else() {
        for (matcher, holds) in [
            (Matcher::Equals(String::new()), false),
            (Matcher::NotEquals("a".into()), true),
            (Matcher::In(vec![String::new()]), false),
            (Matcher::NotIn(vec!["a".into()]), true),
            (Matcher::Prefix(String::new()), false),
            (Matcher::Range { min: i64::MIN, max: i64::MAX }, false),
            (Matcher::Exists(true), false),
            (Matcher::Exists(false), true),
        ] {
            assert_eq!(test(matcher.clone(), None), holds, "{matcher:?}");
        }
    }

    #[test]
    fn a_regex_must_match_the_whole_value() {
        let re = |p: &str| Matcher::Regex(regex::Regex::new(p).unwrap());
        assert!(test(re("a|ab"), Some("ab")), "the longer alternative counts too");
        assert!(!test(re("a"), Some("ab")) && !test(re("b"), Some("ab")));
        assert!(!test(re("a"), Some("a\n")));
        assert!(test(re("(?x) a b # comment"), Some("ab")));
        assert!(test(re("^ab$"), Some("ab")));
    }

    #[test]
    fn long_lists_hold_the_same_values_as_short_ones() {
        let many: Vec<String> = (0..100).map(|i| format!("v{i}")).collect();
        assert!(
            test(Matcher::In(many.clone()), Some("v99")) && !test(Matcher::In(many.clone()), Some("v100"))
        );
        assert!(!test(Matcher::NotIn(many), Some("v0")));
    }
}
