//! Lists, mappings and records of other values.
use super::fields::report_duplicates;
use super::{At, Codec, Cx, Fields, Text, wrong};
use crate::reference::Page;
use crate::resources::Labels;
use crate::yaml::{Node, Spot, Value};

/// A list.
pub(crate) struct List<C>(pub(crate) C);

impl<C: Codec> Codec for List<C> {
    type Out = Vec<C::Out>;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<Vec<C::Out>> {
        match &node.value {
            Value::List(items) => {
                let mut out = Vec::with_capacity(items.len());
                for (i, item) in items.iter().enumerate() {
                    out.extend(self.0.decode(item, &at.item(i), cx));
                }
                Some(out)
            }
            Value::Scalar { .. } => {
                wrong(self, node, at, cx, "is a single value");
                None
            }
            Value::Map(_) => {
                wrong(self, node, at, cx, "is a mapping");
                None
            }
        }
    }

    fn wanted(&self) -> String {
        "a list: [a, b], or lines that begin with \"- \"".into()
    }

    fn kind(&self) -> String {
        format!("list of {}", self.0.kind())
    }

    fn unit(&self) -> &'static str {
        self.0.unit()
    }

    fn show(&self, out: &Vec<C::Out>) -> String {
        let items: Vec<String> = out.iter().map(|item| self.0.show(item).replace('`', "")).collect();
        format!("`[{}]`", items.join(", "))
    }

    fn document(&self, page: &mut Page) {
        page.within("[]", |page| self.0.document(page));
    }
}

/// A list, or a single item that stands for a list of one.
pub(crate) struct OneOrMany<C>(pub(crate) C);

impl<C: Codec> Codec for OneOrMany<C> {
    type Out = Vec<C::Out>;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<Vec<C::Out>> {
        let Value::List(items) = &node.value else {
            return self.0.decode(node, at, cx).map(|only| vec![only]);
        };
        let mut out = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            out.extend(self.0.decode(item, &at.item(i), cx));
        }
        Some(out)
    }

    fn wanted(&self) -> String {
        format!("{} or a list of them", self.0.wanted())
    }

    fn kind(&self) -> String {
        format!("{0}, or list of {0}", self.0.kind())
    }

    fn show(&self, _: &Vec<C::Out>) -> String {
        "`[]`".into()
    }

    fn document(&self, page: &mut Page) {
        page.within("[]", |page| self.0.document(page));
    }
}

/// A value together with where it stands.
pub(crate) struct Spotted<C>(pub(crate) C);

impl<C: Codec> Codec for Spotted<C> {
    type Out = (C::Out, Spot);

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<Self::Out> {
        self.0.decode(node, at, cx).map(|value| (value, node.spot))
    }

    fn wanted(&self) -> String {
        self.0.wanted()
    }

    fn kind(&self) -> String {
        self.0.kind()
    }

    fn unit(&self) -> &'static str {
        self.0.unit()
    }

    fn show(&self, out: &Self::Out) -> String {
        self.0.show(&out.0)
    }

    fn document(&self, page: &mut Page) {
        self.0.document(page);
    }
}

/// A mapping with fields of its own.
pub(crate) struct Record<T>(pub(crate) fn(&mut Fields<'_>) -> Option<T>);

impl<T> Codec for Record<T> {
    type Out = T;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<T> {
        Fields::read(node, at, cx, self.0)
    }

    fn wanted(&self) -> String {
        "a mapping of fields".into()
    }

    fn kind(&self) -> String {
        "object".into()
    }

    fn document(&self, page: &mut Page) {
        Fields::write(page, self.0);
    }
}

/// A mapping of names to text.
pub(crate) struct TextMap;

impl Codec for TextMap {
    type Out = Labels;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<Labels> {
        let Value::Map(entries) = &node.value else {
            let found = if matches!(node.value, Value::List(_)) { "is a list" } else { "is a single value" };
            wrong(self, node, at, cx, found);
            return None;
        };
        report_duplicates(entries, at, cx);
        let mut out = Labels::new();
        for (key, node) in entries {
            let at = at.field(&key.text);
            if key.text.is_empty() {
                cx.mistake(key.spot, &at, "a label without a name".into(), "write name: value".into());
            } else if let Some((text, _)) =
                super::scalar(&Text::any("text; write \"\" for none"), node, &at, cx)
            {
                out.insert(key.text.clone().into_owned(), text.to_owned());
            }
        }
        Some(out)
    }

    fn wanted(&self) -> String {
        "name: value".into()
    }

    fn kind(&self) -> String {
        "map of text".into()
    }

    fn show(&self, _: &Labels) -> String {
        "`{}`".into()
    }
}
