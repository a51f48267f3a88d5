//! YAML text to a small tree of nodes that know their line and column.
//!
//! One document is in memory at a time. Depth and size are bounded, aliases count as what they stand for, so
//! a hostile file costs no more than its limits. JSON is read too, being YAML.
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};
use std::borrow::Cow;
use std::collections::HashMap;

/// A 1-based position in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spot {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// A value and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct Node<'a> {
    pub(crate) spot: Spot,
    pub(crate) value: Value<'a>,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    /// Text as written; `plain` = not quoted, so that it may also be read as a number, boolean or null.
    Scalar {
        text: Cow<'a, str>,
        plain: bool,
    },
    List(Vec<Node<'a>>),
    /// In file order; a key may stand twice, which the decoder reports.
    Map(Vec<(Key<'a>, Node<'a>)>),
}

/// A mapping's key.
#[derive(Clone, Debug)]
pub(crate) struct Key<'a> {
    pub(crate) spot: Spot,
    pub(crate) text: Cow<'a, str>,
}

impl Node<'_> {
    /// Whether it is YAML's null: nothing, `~` or `null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(&**text, "" | "~" | "null"))
    }
}

/// Bounds on what a text may unfold to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Deepest nesting of lists and mappings.
    pub(crate) depth: usize,
    /// Values left for the rest of the load; counted down.
    pub(crate) nodes: usize,
}

/// Why a document could not be read; the rest of it is lost.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) spot: Spot,
    pub(crate) problem: String,
    pub(crate) remedy: &'static str,
}

/// Splits a file at its `---` lines, so that a syntax error costs one document and not the file.
///
/// A line that begins with `---` ends a document wherever it stands, even within quotes or a block scalar
/// (YAML 1.2, rule 206 `c-forbidden`). Yields the 0-based number of the first line of each part.
pub(crate) fn parts(text: &str) -> Vec<(u32, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parts = Vec::new();
    let (mut start, mut start_line, mut only_prelude) = (0, 0, true);
    let mut offset = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if is_marker(line) {
            // Comments and %directives before a marker belong to the document it opens.
            if !only_prelude {
                parts.push((start_line, &text[start..offset]));
                (start, start_line) = (offset, number as u32);
            }
            only_prelude = false;
        } else if !matches!(line.trim_start().as_bytes().first(), None | Some(b'#' | b'%')) {
            only_prelude = false;
        }
        offset += line.len();
    }
    parts.push((start_line, &text[start..]));
    parts
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Reads the documents of one part (more than one only if they are divided by `...`).
pub(crate) struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    first_line: u32,
    failed: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new((first_line, text): (u32, &'a str)) -> Reader<'a> {
        Reader { parser: Parser::new_from_str(text), first_line, failed: false }
    }

    /// The next document; `None` at the end or after an error.
    pub(crate) fn next(&mut self, bounds: &mut Bounds) -> Option<Result<Node<'a>, Unreadable>> {
        if self.failed {
            return None;
        }
        loop {
            match self.event() {
                Ok((Event::DocumentStart(_), _)) => break,
                Ok((Event::StreamEnd, _)) => return None,
                Ok(_) => {}
                Err(unreadable) => return Some(Err(self.fail(unreadable))),
            }
        }
        let mut builder = Builder { open: Vec::new(), anchors: HashMap::new(), bounds };
        loop {
            let step = self.event().and_then(|(event, spot)| builder.take(event, spot));
            match step {
                Ok(None) => {}
                Ok(Some(root)) => return Some(Ok(root)),
                Err(unreadable) => return Some(Err(self.fail(unreadable))),
            }
        }
    }

    fn fail(&mut self, unreadable: Unreadable) -> Unreadable {
        self.failed = true;
        unreadable
    }

    fn event(&mut self) -> Result<(Event<'a>, Spot), Unreadable> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, self.spot(span))),
            Some(Err(e)) => Err(self.syntax(&e)),
            // The stream's end is an event of its own, and nothing is read after it.
            None => Ok((Event::StreamEnd, Spot { line: self.first_line + 1, column: 1 })),
        }
    }

    fn spot(&self, span: Span) -> Spot {
        Spot { line: self.first_line + span.start.line() as u32, column: span.start.col() as u32 + 1 }
    }

    fn syntax(&self, e: &ScanError) -> Unreadable {
        Unreadable {
            spot: self.spot(Span::empty(*e.marker())),
            problem: format!("not YAML: {}", e.info()),
            remedy: "check the indentation and quotes on this line and the one before; \
                     the rest of this document was not checked",
        }
    }
}

/// A list or mapping whose end has not come yet.
enum Open<'a> {
    List { spot: Spot, anchor: usize, items: Vec<Node<'a>> },
    Map { spot: Spot, anchor: usize, entries: Vec<(Key<'a>, Node<'a>)>, key: Option<Key<'a>> },
}

/// Puts events together, with its own stack: nesting in the text never becomes nesting of calls.
struct Builder<'a, 'b> {
    open: Vec<Open<'a>>,
    anchors: HashMap<usize, Node<'a>>,
    bounds: &'b mut Bounds,
}

impl<'a> Builder<'a, '_> {
    /// Takes one event; returns the root when it is whole.
    fn take(&mut self, event: Event<'a>, spot: Spot) -> Result<Option<Node<'a>>, Unreadable> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                check_tag(tag.as_deref(), spot)?;
                self.spend(1, spot)?;
                let plain = style == ScalarStyle::Plain;
                self.put(Node { spot, value: Value::Scalar { text, plain } }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), spot)?;
                self.enter(Open::List { spot, anchor, items: Vec::new() }, spot)
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), spot)?;
                self.enter(Open::Map { spot, anchor, entries: Vec::new(), key: None }, spot)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { spot, anchor, items }) => {
                    self.put(Node { spot, value: Value::List(items) }, anchor)
                }
                Some(Open::Map { spot, anchor, entries, .. }) => {
                    self.put(Node { spot, value: Value::Map(entries) }, anchor)
                }
                None => Err(Unreadable {
                    spot,
                    problem: "an end without a beginning".into(),
                    remedy: "check the brackets",
                }),
            },
            Event::Alias(id) => self.alias(id, spot),
            Event::DocumentEnd | Event::StreamEnd => {
                Err(Unreadable { spot, problem: "ends too early".into(), remedy: "check the brackets" })
            }
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => Ok(None),
        }
    }

    fn enter(&mut self, open: Open<'a>, spot: Spot) -> Result<Option<Node<'a>>, Unreadable> {
        self.spend(1, spot)?;
        self.fits(1, spot)?;
        self.open.push(open);
        Ok(None)
    }

    /// Puts a whole node where it belongs; returns it if it is the root.
    fn put(&mut self, node: Node<'a>, anchor: usize) -> Result<Option<Node<'a>>, Unreadable> {
        if anchor > 0 {
            let (nodes, _) = measure(&node);
            self.spend(nodes, node.spot)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => return Ok(Some(node)),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, .. }) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => match node.value {
                    Value::Scalar { text, .. } => *key = Some(Key { spot: node.spot, text }),
                    Value::List(_) | Value::Map(_) => {
                        return Err(Unreadable {
                            spot: node.spot,
                            problem: "a list or mapping stands where a field name belongs".into(),
                            remedy: "write `name: value`; quote text that begins with [ or {",
                        });
                    }
                },
            },
        }
        Ok(None)
    }

    fn alias(&mut self, id: usize, spot: Spot) -> Result<Option<Node<'a>>, Unreadable> {
        let Some(meant) = self.anchors.get(&id) else {
            return Err(Unreadable {
                spot,
                problem: "an alias stands inside what it stands for".into(),
                remedy: "write the value out",
            });
        };
        let (nodes, depth) = measure(meant);
        self.spend(nodes, spot)?;
        self.fits(depth, spot)?;
        // `spend` needed the whole of self; the anchor is still there.
        let node = self.anchors.get(&id).cloned().map(|mut node| {
            node.spot = spot;
            node
        });
        node.map_or(Ok(None), |node| self.put(node, 0))
    }

    fn spend(&mut self, nodes: usize, spot: Spot) -> Result<(), Unreadable> {
        match self.bounds.nodes.checked_sub(nodes) {
            Some(left) => {
                self.bounds.nodes = left;
                Ok(())
            }
            None => {
                self.bounds.nodes = 0;
                Err(Unreadable {
                    spot,
                    problem: "too many values in all files together".into(),
                    remedy: "split the configuration, or write out aliases that multiply each other",
                })
            }
        }
    }

    fn fits(&self, more: usize, spot: Spot) -> Result<(), Unreadable> {
        if self.open.len() + more <= self.bounds.depth {
            return Ok(());
        }
        Err(Unreadable {
            spot,
            problem: format!("nested deeper than {} levels", self.bounds.depth),
            remedy: "no resource needs that; check the brackets and the indentation",
        })
    }
}

/// Nodes and depth of a tree. Recursion is safe: depth is bounded when trees are built.
fn measure(node: &Node<'_>) -> (usize, usize) {
    let inner: &mut dyn Iterator<Item = &Node<'_>> = match &node.value {
        Value::Scalar { .. } => return (1, 0),
        Value::List(items) => &mut items.iter(),
        Value::Map(entries) => &mut entries.iter().map(|(_, value)| value),
    };
    let (nodes, depth) = inner.map(measure).fold((1, 0), |(n, d), (m, e)| (n + 1 + m, d.max(e)));
    (nodes, depth + 1)
}

/// Tags of YAML's own schema say what the text says already; others would be lost silently.
fn check_tag(tag: Option<&Tag>, spot: Spot) -> Result<(), Unreadable> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() => Err(Unreadable {
            spot,
            problem: format!("the tag {} has no meaning here", crate::decode::quote(&tag.to_string())),
            remedy: "leave it out",
        }),
        _ => Ok(()),
    }
}
