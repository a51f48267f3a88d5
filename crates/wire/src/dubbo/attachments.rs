//! The attachments of a request: a map of headers behind its arguments.
use super::{json, jsonb, names};
use crate::hessian::Stop;
use crate::hessian::v2::{Value, Walker};

/// Keys under which callers send their application's name.
const APPLICATIONS: [&[u8]; 2] = [b"remote.application", b"application"];

/// The attachments of a request, whole. Reading them copies nothing.
#[derive(Clone, Debug)]
pub struct Attachments<'a> {
    pairs: Kind<'a>,
    usual: Usual<'a>,
    /// Where they are.
    pub(super) place: Place,
}

/// Where a map lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Bytes before it.
    pub(super) start: usize,
    /// Bytes up to its end, its end mark included.
    pub(super) end: usize,
}

impl Place {
    /// The same place, where so many bytes more come before it.
    fn behind(self, bytes: usize) -> Place {
        Place { start: self.start + bytes, end: self.end + bytes }
    }
}

/// What every request is asked for, found in the pass that finds the map sound.
#[derive(Clone, Copy, Debug, Default)]
struct Usual<'a> {
    group: Option<Value<'a>>,
    timeouts: [Option<Value<'a>>; 2],
    /// There may be a reserved name among the keys.
    suspect: bool,
}

impl<'a> Usual<'a> {
    fn note(&mut self, key: Value<'a>, value: Value<'a>) {
        self.suspect |= names::suspicious(key);
        match key {
            Value::Text(b"group") => self.group = Some(value),
            // All up to Dubbo 2.7 the one, Dubbo 3 the other too.
            Value::Text(b"timeout") => self.timeouts[0] = Some(value),
            Value::Text(b"_TO") => self.timeouts[1] = Some(value),
            _ => {}
        }
    }
}

#[derive(Clone, Debug)]
enum Kind<'a> {
    None,
    /// Stands before the map's first pair; the map is known to be sound.
    Hessian(Walker<'a>),
    Json(json::Pairs<'a>),
    Jsonb(jsonb::Pairs<'a>),
}

/// Behind `arguments` values in Hessian.
pub(super) fn hessian(rest: &[u8], arguments: usize) -> Result<Attachments<'_>, Stop> {
    let mut walker = Walker::new(rest);
    for _ in 0..arguments {
        walker.value()?;
    }
    let at = |walker: &Walker<'_>| rest.len() - walker.rest().len();
    let start = at(&walker);
    let (mut pairs, mut usual) = (Kind::None, Usual::default());
    if walker.map()? {
        pairs = Kind::Hessian(walker.clone());
        while !walker.end()? {
            let key = walker.value()?;
            usual.note(key, walker.value()?);
        }
    }
    let place = Place { start, end: at(&walker) };
    Ok(Attachments { pairs, usual, place })
}

/// Behind `arguments` lines of JSON.
pub(super) fn json(mut rest: &[u8], arguments: usize) -> Result<Attachments<'_>, Stop> {
    let whole = rest.len();
    for _ in 0..arguments {
        json::line(&mut rest)?;
    }
    let start = whole - rest.len();
    let line = json::line(&mut rest)?;
    let place = Place { start, end: start + line.trim_ascii_end().len() };
    let attachments = Attachments::of(Kind::Json(json::Pairs::new(line)?), place);
    // What is no scalar may be something that others read otherwise.
    let odd = attachments.pairs.clone().any(|(_, value)| value == Value::Other);
    Ok(attachments.suspect_if(odd))
}

/// Behind `arguments` items of JSONB.
pub(super) fn jsonb(mut rest: &[u8], arguments: usize) -> Result<Attachments<'_>, Stop> {
    let whole = rest.len();
    for _ in 0..arguments {
        jsonb::item(&mut rest)?;
    }
    let start = whole - rest.len();
    let item = jsonb::item(&mut rest)?;
    let place = Place { start, end: whole - rest.len() };
    Ok(Attachments::of(Kind::Jsonb(jsonb::Pairs::new(item)?), place))
}

impl<'a> Attachments<'a> {
    fn of(pairs: Kind<'a>, place: Place) -> Attachments<'a> {
        let mut usual = Usual::default();
        pairs.clone().for_each(|(key, value)| usual.note(key, value));
        Attachments { pairs, usual, place }
    }

    fn suspect_if(mut self, odd: bool) -> Attachments<'a> {
        self.usual.suspect |= odd;
        self
    }

    /// The same, where so many bytes more come before them.
    pub(super) fn behind(self, bytes: usize) -> Attachments<'a> {
        Attachments { place: self.place.behind(bytes), ..self }
    }

    /// Whether there may be a reserved name among the keys.
    pub(super) fn suspect(&self) -> bool {
        self.usual.suspect
    }

    /// The last value under `key`, the one that the peers take too, if it is a string (and in Hessian one of
    /// a single piece, as those under 32768 characters are). For others see [`Attachments::value`].
    pub fn get(&self, key: &[u8]) -> Option<&'a [u8]> {
        match self.value(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The last value under `key`, whatever it is.
    pub fn value(&self, key: &[u8]) -> Option<Value<'a>> {
        self.get_all(&[key])[0]
    }

    /// [`Attachments::value`] of several keys in one pass.
    pub fn get_all<const N: usize>(&self, keys: &[&[u8]; N]) -> [Option<Value<'a>>; N] {
        let mut found = [None; N];
        for (key, value) in self.iter() {
            for (slot, wanted) in found.iter_mut().zip(keys) {
                if key == *wanted {
                    *slot = Some(value);
                }
            }
        }
        found
    }

    /// The pairs whose key is a string, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Value<'a>)> + use<'a> {
        self.pairs.clone().filter_map(|(key, value)| match key {
            Value::Text(key) => Some((key, value)),
            _ => None,
        })
    }

    /// How long the caller waits, in milliseconds, if it says so with a positive number.
    pub fn timeout_ms(&self) -> Option<u32> {
        self.usual.timeouts.into_iter().flatten().find_map(millis)
    }

    /// The caller's application, if it is said.
    pub fn application(&self) -> Option<&'a [u8]> {
        let texts = self.get_all(&APPLICATIONS).into_iter().flatten();
        texts.filter_map(text).find(|name| !name.is_empty())
    }

    /// The service's group; empty if it has none.
    pub fn group(&self) -> &'a [u8] {
        self.usual.group.and_then(text).unwrap_or_default()
    }

    /// The tag that chooses among the providers (`dubbo.tag`), if there is one.
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.get(b"dubbo.tag").filter(|tag| !tag.is_empty())
    }
}

fn text(value: Value<'_>) -> Option<&[u8]> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// A number, or a string that is one.
fn millis(value: Value<'_>) -> Option<u32> {
    let number = match value {
        Value::Number(number) => number,
        Value::Text(text) => std::str::from_utf8(text).ok()?.trim().parse().ok()?,
        _ => return None,
    };
    u32::try_from(number).ok().filter(|ms| *ms > 0)
}

impl<'a> Iterator for Kind<'a> {
    type Item = (Value<'a>, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Kind::None => None,
            Kind::Json(pairs) => pairs.next(),
            Kind::Jsonb(pairs) => pairs.next(),
            Kind::Hessian(walker) => {
                if walker.end() != Ok(false) {
                    *self = Kind::None;
                    return None;
                }
                let key = walker.value().ok()?;
                Some((key, walker.value().ok()?))
            }
        }
    }
}
