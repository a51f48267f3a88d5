//! The fields of a mapping: decoded from a node, or written into the reference.
use super::{At, Codec, Cx, quote};
use crate::reference::{Page, Row};
use crate::suggest;
use crate::yaml::{Key, Node, Spot, Value};
use std::collections::HashSet;

/// What a record's function asks its fields of.
pub(crate) struct Fields<'c> {
    task: Task<'c>,
    /// Names asked for so far: what an unknown field is compared with.
    known: Vec<&'static str>,
    /// Names that were answered with a mistake of their own.
    refused: Vec<&'static str>,
}

enum Task<'c> {
    Read { spot: Spot, entries: &'c [(Key<'c>, Node<'c>)], at: &'c At<'c>, cx: &'c mut Cx },
    Write(&'c mut Page),
}

impl<'c> Fields<'c> {
    /// Fields of a node, which must be a mapping.
    pub(crate) fn read<T>(
        node: &Node<'_>,
        at: &At<'_>,
        cx: &mut Cx,
        record: impl FnOnce(&mut Fields<'_>) -> Option<T>,
    ) -> Option<T> {
        let Value::Map(entries) = &node.value else {
            let found = if matches!(node.value, Value::List(_)) { "is a list" } else { "is a single value" };
            cx.mistake(node.spot, at, found.into(), "give a mapping of fields".into());
            return None;
        };
        report_duplicates(entries, at, cx);
        let task = Task::Read { spot: node.spot, entries, at, cx };
        let mut fields = Fields { task, known: Vec::with_capacity(16), refused: Vec::new() };
        let out = record(&mut fields);
        fields.report_unknown();
        out
    }

    /// Writes the fields down instead of decoding them.
    pub(crate) fn write<T>(page: &mut Page, record: impl FnOnce(&mut Fields<'_>) -> Option<T>) {
        // Whatever the record makes of the defaults is of no interest.
        let _ = record(&mut Fields { task: Task::Write(page), known: Vec::new(), refused: Vec::new() });
    }

    /// A field that must be given.
    pub(crate) fn required<C: Codec>(
        &mut self,
        name: &'static str,
        codec: C,
        meaning: &str,
    ) -> Option<C::Out> {
        self.declare(name, &codec, "required", meaning);
        match self.given(name, &codec) {
            Given::Absent => {
                if let Task::Read { spot, at, cx, .. } = &mut self.task {
                    let (problem, remedy) = ("is missing".into(), format!("give {}", codec.wanted()));
                    cx.mistake(*spot, &at.field(name), problem, remedy);
                }
                None
            }
            Given::Wrong => None,
            Given::Value(value) => Some(value),
        }
    }

    /// A field whose absence has a meaning of its own.
    pub(crate) fn optional<C: Codec>(
        &mut self,
        name: &'static str,
        codec: C,
        absent: &str,
        meaning: &str,
    ) -> Option<C::Out> {
        self.declare(name, &codec, absent, meaning);
        match self.given(name, &codec) {
            Given::Value(value) => Some(value),
            Given::Absent | Given::Wrong => None,
        }
    }

    /// A field with a default value; also what a field with a mistake counts as, so that checks can go on.
    pub(crate) fn or<C: Codec>(
        &mut self,
        name: &'static str,
        codec: C,
        default: C::Out,
        meaning: &str,
    ) -> C::Out {
        if let Task::Write(_) = self.task {
            self.declare(name, &codec, &codec.show(&default), meaning);
        } else {
            self.known.push(name);
        }
        match self.given(name, &codec) {
            Given::Value(value) => value,
            Given::Absent | Given::Wrong => default,
        }
    }

    /// A field of other versions or places: if given, it is a mistake with words of its own.
    pub(crate) fn refuse(&mut self, name: &'static str, problem: &str, remedy: &str) {
        self.refused.push(name);
        if let Task::Read { entries, at, cx, .. } = &mut self.task
            && let Some((key, _)) = entries.iter().find(|(key, _)| key.text == name)
        {
            cx.mistake(key.spot, &at.field(name), problem.to_owned(), remedy.to_owned());
        }
    }

    /// Fields of the full system that this version does not know yet.
    pub(crate) fn not_yet(&mut self, names: &[&'static str]) {
        for name in names {
            self.refuse(name, "is not supported yet by this version", "leave it out");
        }
    }

    /// Whether the field is given (and not null).
    pub(crate) fn has(&self, name: &str) -> bool {
        self.spot(name).is_some()
    }

    /// Where the field's value stands, if it is given.
    pub(crate) fn spot(&self, name: &str) -> Option<Spot> {
        match &self.task {
            Task::Read { entries, .. } => find(entries, name).map(|node| node.spot),
            Task::Write(_) => None,
        }
    }

    /// Notes a mistake at a field, or at the whole mapping if the field is not given.
    pub(crate) fn mistake(&mut self, name: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        let spot = self.spot(name);
        if let Task::Read { spot: whole, at, cx, .. } = &mut self.task {
            cx.mistake(spot.unwrap_or(*whole), &at.field(name), problem.into(), remedy.into());
        }
    }

    /// Notes a mistake of the mapping as a whole.
    pub(crate) fn whole(&mut self, problem: impl Into<String>, remedy: impl Into<String>) {
        if let Task::Read { spot, at, cx, .. } = &mut self.task {
            cx.mistake(*spot, at, problem.into(), remedy.into());
        }
    }

    /// Notes a warning at a field, or at the whole mapping if the field is not given.
    pub(crate) fn warning(&mut self, name: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        let spot = self.spot(name);
        if let Task::Read { spot: whole, at, cx, .. } = &mut self.task {
            cx.warning(spot.unwrap_or(*whole), &at.field(name), problem.into(), remedy.into());
        }
    }

    /// How many mistakes were noted so far, anywhere.
    pub(crate) fn mistakes(&self) -> usize {
        match &self.task {
            Task::Read { cx, .. } => cx.count(),
            Task::Write(_) => 0,
        }
    }

    /// Decoding itself, for notes about a spot within a field; absent while the reference is written.
    pub(crate) fn context(&mut self) -> Option<(&mut Cx, &At<'c>)> {
        match &mut self.task {
            Task::Read { at, cx, .. } => Some((cx, at)),
            Task::Write(_) => None,
        }
    }

    fn declare<C: Codec>(&mut self, name: &'static str, codec: &C, default: &str, meaning: &str) {
        self.known.push(name);
        if let Task::Write(page) = &mut self.task {
            page.field(
                name,
                Row {
                    kind: codec.kind(),
                    unit: codec.unit(),
                    default: default.to_owned(),
                    meaning: meaning.to_owned(),
                },
                |page| codec.document(page),
            );
        }
    }

    fn given<C: Codec>(&mut self, name: &'static str, codec: &C) -> Given<C::Out> {
        let Task::Read { entries, at, cx, .. } = &mut self.task else { return Given::Absent };
        match find(entries, name) {
            None => Given::Absent,
            Some(node) => match codec.decode(node, &at.field(name), cx) {
                Some(value) => Given::Value(value),
                None => Given::Wrong,
            },
        }
    }

    fn report_unknown(&mut self) {
        let Task::Read { entries, at, cx, .. } = &mut self.task else { return };
        for (key, _) in *entries {
            let name = &*key.text;
            if self.known.contains(&name) || self.refused.contains(&name) {
                continue;
            }
            let remedy = match suggest::nearest(name, self.known.iter().copied()) {
                Some(meant) => format!("did you mean {meant}?"),
                None if name == "<<" => "merge keys are not YAML 1.2; write the fields out".into(),
                None => format!("the fields here are {}", self.known.join(", ")),
            };
            cx.mistake(key.spot, &at.field(name), "unknown field".into(), remedy);
        }
    }
}

enum Given<T> {
    Absent,
    Wrong,
    Value(T),
}

/// The field's value; null counts as not given.
fn find<'e>(entries: &'e [(Key<'_>, Node<'e>)], name: &str) -> Option<&'e Node<'e>> {
    entries.iter().find(|(key, _)| key.text == name).map(|(_, node)| node).filter(|node| !node.is_null())
}

/// Notes every key that stood before in the same mapping.
pub(crate) fn report_duplicates(entries: &[(Key<'_>, Node<'_>)], at: &At<'_>, cx: &mut Cx) {
    const FEW: usize = 24;
    let mut note = |key: &Key<'_>| {
        let problem = format!("{} is given twice", quote(&key.text));
        cx.mistake(key.spot, &at.field(&key.text), problem, "keep one of them".into());
    };
    if entries.len() <= FEW {
        for (i, (key, _)) in entries.iter().enumerate() {
            if entries[..i].iter().any(|(earlier, _)| earlier.text == key.text) {
                note(key);
            }
        }
        return;
    }
    let mut seen = HashSet::new();
    for (key, _) in entries {
        if !seen.insert(&*key.text) {
            note(key);
        }
    }
}
