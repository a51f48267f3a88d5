//! How fields are declared, decoded and documented: one declaration does all three.
//!
//! A kind is a function from [`Fields`] to a value: it asks for each field by name, with a [`Codec`] for its
//! type, a default and a sentence. Given a document, `Fields` decodes; given a page of the reference, it
//! writes the field down. So the reference cannot say what the decoder does not do.
mod address;
mod collections;
mod fields;
mod http;
mod units;
mod values;

pub(crate) use address::{Address, CidrText, Ip, Role};
pub(crate) use collections::{List, OneOrMany, Record, Spotted, TextMap};
pub(crate) use fields::{Fields, report_duplicates};
pub(crate) use http::{Authority, FilePath, HeaderMap, HeaderName, Host, UriPath};
pub(crate) use units::{DurationIn, Percent, Share, SizeIn};
pub(crate) use values::{Bool, Choice, Int, Number, Pattern, Text};

use crate::mistake::Mistake;
use crate::reference::Page;
use crate::yaml::{Node, Spot, Unreadable, Value};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::rc::Rc;

/// Reads and describes one type of value.
pub(crate) trait Codec {
    type Out;

    /// Decodes a node; `None` after at least one mistake was noted.
    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<Self::Out>;

    /// What is wanted, to follow "give": `a duration such as 250ms`.
    fn wanted(&self) -> String;

    /// The type as the reference names it.
    fn kind(&self) -> String;

    /// The unit the reference names; empty = none.
    fn unit(&self) -> &'static str {
        ""
    }

    /// A value as it would be written in a file, for defaults in the reference.
    fn show(&self, _: &Self::Out) -> String {
        String::from("see below")
    }

    /// Writes down the fields within, if there are any.
    fn document(&self, _: &mut Page) {}
}

/// Where in a document a value stands; a list on the stack, turned into text only for a mistake.
#[derive(Clone, Copy)]
pub(crate) struct At<'p> {
    parent: Option<&'p At<'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Root,
    Field(&'p str),
    Item(usize),
}

impl<'p> At<'p> {
    pub(crate) const ROOT: At<'static> = At { parent: None, step: Step::Root };

    pub(crate) fn field(&'p self, name: &'p str) -> At<'p> {
        At { parent: Some(self), step: Step::Field(name) }
    }

    pub(crate) fn item(&'p self, index: usize) -> At<'p> {
        At { parent: Some(self), step: Step::Item(index) }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        let within = self.parent.is_some_and(|p| !matches!(p.step, Step::Root));
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) => {
                let plain =
                    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-/".contains(c));
                match (plain, within) {
                    (true, true) => write!(f, ".{name}"),
                    (true, false) => f.write_str(name),
                    (false, _) => write!(f, "[{}]", quote(name)),
                }
            }
            Step::Item(index) => write!(f, "[{index}]"),
        }
    }
}

/// Something named in one document that another should declare.
#[derive(Debug)]
pub(crate) struct Reference {
    pub(crate) to: Referent,
    pub(crate) name: String,
    pub(crate) place: Mistake,
}

/// What a [`Reference`] names, and how bad it is if there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Referent {
    /// A service that must be declared.
    NeededService,
    /// A service that should be declared.
    Service,
    /// An app that should publish something.
    App,
    /// A group some endpoint should be in.
    Group,
    /// A certificate that must be declared.
    Certificate,
}

/// What decoding carries along: the file's name, and everything found so far.
pub(crate) struct Cx {
    file: Rc<str>,
    /// Position of the current document, for `Origin`.
    pub(crate) document: Spot,
    mistakes: Findings,
    warnings: Findings,
    pub(crate) references: Vec<Reference>,
    /// First declaration of each resource, by kind and name; also of those with mistakes in them.
    pub(crate) declared: HashMap<(&'static str, String), Declared>,
    /// Every Sidecar document so far.
    pub(crate) sidecars: Vec<Mistake>,
    /// Apps that publish a service.
    pub(crate) apps: HashSet<String>,
    /// A control plane serves more than the files hold: a name nothing here declares may be declared there.
    pub(crate) served: bool,
    /// Groups that endpoints are in.
    pub(crate) groups: HashSet<String>,
    /// Hosts that mean a service.
    hosts: HashMap<String, Declared>,
}

/// Where a resource was declared.
pub(crate) struct Declared {
    file: Rc<str>,
    spot: Spot,
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.spot.line, self.spot.column)
    }
}

struct Findings {
    kept: Vec<Mistake>,
    room: usize,
    left_out: usize,
}

impl Findings {
    fn new(room: usize) -> Findings {
        Findings { kept: Vec::new(), room, left_out: 0 }
    }

    fn add(&mut self, finding: impl FnOnce() -> Mistake) {
        if self.kept.len() < self.room { self.kept.push(finding()) } else { self.left_out += 1 }
    }

    /// What was kept, by file in the order given, line and column; then how much was not.
    fn finish(mut self, what: &str, order: &HashMap<&str, usize>) -> Vec<Mistake> {
        self.kept.sort_by_key(|m| (order.get(m.file.as_str()).copied(), m.line, m.column));
        if self.left_out > 0 {
            self.kept.push(Mistake {
                file: String::new(),
                line: 0,
                column: 0,
                path: String::new(),
                problem: format!("{} more {what} are not shown", self.left_out),
                remedy: "mend these first".into(),
            });
        }
        self.kept
    }
}

impl Cx {
    pub(crate) fn new(room: usize) -> Cx {
        Cx {
            file: Rc::from(""),
            document: Spot::default(),
            mistakes: Findings::new(room),
            warnings: Findings::new(room),
            references: Vec::new(),
            declared: HashMap::new(),
            sidecars: Vec::new(),
            apps: HashSet::new(),
            served: false,
            groups: HashSet::new(),
            hosts: HashMap::new(),
        }
    }

    /// What follows is in this file.
    pub(crate) fn open(&mut self, file: &str) {
        self.file = Rc::from(file);
    }

    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    pub(crate) fn mistake(&mut self, spot: Spot, at: &At<'_>, problem: String, remedy: String) {
        let file = &self.file;
        self.mistakes.add(|| place(file, spot, at, problem, remedy));
    }

    pub(crate) fn warning(&mut self, spot: Spot, at: &At<'_>, problem: String, remedy: String) {
        let file = &self.file;
        self.warnings.add(|| place(file, spot, at, problem, remedy));
    }

    /// How many mistakes were noted so far.
    pub(crate) fn count(&self) -> usize {
        self.mistakes.kept.len() + self.mistakes.left_out
    }

    /// Notes a mistake whose place is known already.
    pub(crate) fn mistake_at(&mut self, finding: Mistake) {
        self.mistakes.add(|| finding);
    }

    /// Notes a warning whose place is known already.
    pub(crate) fn warning_at(&mut self, finding: Mistake) {
        self.warnings.add(|| finding);
    }

    pub(crate) fn unreadable(&mut self, e: Unreadable) {
        self.mistake(e.spot, &At::ROOT, e.problem, e.remedy.to_owned());
    }

    /// Remembers that `name` should be declared somewhere; checked when all sources are read.
    pub(crate) fn refer(&mut self, to: Referent, name: &str, spot: Spot, at: &At<'_>) {
        let place = place(&self.file, spot, at, String::new(), String::new());
        self.references.push(Reference { to, name: name.to_owned(), place });
    }

    /// Notes that a resource is declared here; a mistake if there is one of that kind and name already.
    pub(crate) fn declare(&mut self, kind: &'static str, name: &str, spot: Spot) {
        let here = Declared { file: self.file.clone(), spot };
        match self.declared.entry((kind, name.to_owned())) {
            Entry::Vacant(entry) => {
                entry.insert(here);
            }
            Entry::Occupied(entry) => {
                let problem = format!("{kind} {} is declared at {} already", quote(name), entry.get());
                let at = At::ROOT.field("metadata");
                self.mistake(spot, &at.field("name"), problem, "give each its own name".into());
            }
        }
    }

    /// Notes that a host means the service declared here; a mistake if it means one already.
    pub(crate) fn claim_host(&mut self, host: &str, spot: Spot, at: &At<'_>) {
        let here = Declared { file: self.file.clone(), spot };
        match self.hosts.entry(host.to_owned()) {
            Entry::Vacant(entry) => {
                entry.insert(here);
            }
            Entry::Occupied(entry) => {
                let problem = format!("{host} is a host of the service at {} already", entry.get());
                self.mistake(spot, at, problem, "keep one of them".into());
            }
        }
    }

    /// An empty finding at this place, to be filled in later.
    pub(crate) fn place(&self, spot: Spot, at: &At<'_>) -> Mistake {
        place(&self.file, spot, at, String::new(), String::new())
    }

    /// Mistakes and warnings, sorted; `order` numbers the files.
    pub(crate) fn into_findings(self, order: &HashMap<&str, usize>) -> (Vec<Mistake>, Vec<Mistake>) {
        (self.mistakes.finish("mistakes", order), self.warnings.finish("warnings", order))
    }
}

fn place(file: &str, spot: Spot, at: &At<'_>, problem: String, remedy: String) -> Mistake {
    Mistake {
        file: file.to_owned(),
        line: spot.line,
        column: spot.column,
        path: at.to_string(),
        problem,
        remedy,
    }
}

/// The scalar's text, or a mistake that says what stands there instead.
pub(crate) fn scalar<'n, C: Codec>(
    codec: &C,
    node: &'n Node<'_>,
    at: &At<'_>,
    cx: &mut Cx,
) -> Option<(&'n str, bool)> {
    match &node.value {
        _ if node.is_null() => wrong(codec, node, at, cx, "is empty"),
        Value::Scalar { text, plain } => return Some((text, *plain)),
        Value::List(_) => wrong(codec, node, at, cx, "is a list"),
        Value::Map(_) => wrong(codec, node, at, cx, "is a mapping"),
    }
    None
}

/// Notes that a value is not of its codec's type.
pub(crate) fn wrong<C: Codec>(codec: &C, node: &Node<'_>, at: &At<'_>, cx: &mut Cx, problem: &str) {
    cx.mistake(node.spot, at, problem.to_owned(), format!("give {}", codec.wanted()));
}

/// Text from a file, fit for a message: quoted, without control characters, and not too long.
pub(crate) fn quote(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut short: String = text.chars().take(LONGEST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}
