//! What a request asks for: service and method, read from the beginning of its body.
use super::attachments::{self, Attachments};
use super::head::{Head, Kind};
use super::{SERIALIZER_FASTJSON, SERIALIZER_FASTJSON2, SERIALIZER_HESSIAN2, json, jsonb};
use crate::hessian::Stop;
use crate::hessian::v2::{Item, Strings, Value, Walker};

/// Bytes of body looked at for service and method, at most.
pub const PEEK_MAX: usize = 4096;
/// Bytes of body looked at for attachments, which lie behind the arguments, at most.
pub const ATTACHMENTS_MAX: usize = 64 << 10;

/// The method name of a generic call, whose first argument names the method really called.
const GENERIC: [&[u8]; 2] = [b"$invoke", b"$invokeAsync"];
/// The service version that means none.
const NO_VERSION: &[u8] = b"0.0.0";

/// The outcome of looking into a body.
#[derive(Clone, Debug)]
pub enum Peek<T> {
    /// It is this.
    Found(T),
    /// More of the frame has to arrive to tell.
    NeedMore,
    /// The frame does not say, says it in a serialisation that is not read, or not within [`PEEK_MAX`] or
    /// [`ATTACHMENTS_MAX`] bytes.
    Unknown,
}

impl<T> Peek<T> {
    /// What was found, if it was.
    pub fn found(self) -> Option<T> {
        match self {
            Peek::Found(found) => Some(found),
            Peek::NeedMore | Peek::Unknown => None,
        }
    }
}

/// The beginning of a request's body. Names are as the caller wrote them; a null reads as empty.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The version of the protocol, `2.0.2` from all callers of late.
    pub dubbo_version: &'a [u8],
    /// The interface, or the path it is published under if that is another.
    pub path: &'a [u8],
    /// The service's version; empty or `0.0.0` if it has none.
    pub version: &'a [u8],
    /// The method called. Of a generic call, the one it is meant for.
    pub method: &'a [u8],
    /// Whether it is a generic call (`$invoke`, `$invokeAsync`).
    pub generic: bool,
    /// The types of the parameters, as the JVM writes them: `Ljava/lang/String;I[B`.
    pub descriptor: &'a [u8],
    body: Body<'a>,
}

/// What has arrived of the body behind the five names, and how it is to be read.
#[derive(Clone, Copy, Debug)]
struct Body<'a> {
    format: Format,
    /// Bytes before the first argument.
    at: usize,
    /// From the first argument on.
    rest: &'a [u8],
    /// Whether no more of the body will be looked at than this.
    all: bool,
}

/// How a body is read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    Hessian,
    /// Fastjson: a line for each value.
    Json,
    /// Fastjson2: a length before each value.
    Jsonb,
}

impl Format {
    /// How a request's body is read; `None` if it is not, or this is no request.
    pub(super) fn of(head: &Head) -> Option<Format> {
        if head.kind == Kind::Response || head.event {
            return None;
        }
        match head.serializer {
            SERIALIZER_HESSIAN2 => Some(Format::Hessian),
            SERIALIZER_FASTJSON => Some(Format::Json),
            SERIALIZER_FASTJSON2 => Some(Format::Jsonb),
            _ => None,
        }
    }

    /// The five names a body begins with, and what follows them.
    pub(super) fn names(self, body: &[u8]) -> Result<([&[u8]; 5], &[u8]), Stop> {
        match self {
            Format::Hessian => names(body),
            Format::Json => json::names(body),
            Format::Jsonb => jsonb::names(body),
        }
    }
}

/// Reads the beginning of a request's body. `frame` begins with `head`'s frame and may be cut anywhere.
///
/// Hessian, fastjson and fastjson2 are read. The other serialisations are [`Peek::Unknown`], as are responses
/// and events.
pub fn peek<'a>(head: &Head, frame: &'a [u8]) -> Peek<Request<'a>> {
    let Some(format) = Format::of(head) else { return Peek::Unknown };
    let body = head.body(frame);
    let (window, all) = clip(body, head.body_len, PEEK_MAX);
    let read = format.names(window).and_then(|(names, rest)| {
        let called = called(names, format, rest)?;
        // The attachments' window is the wider one; both begin where the body does.
        let (wide, all) = clip(body, head.body_len, ATTACHMENTS_MAX);
        let at = window.len() - rest.len();
        Ok(Request::new(names, called, Body { format, at, rest: &wide[at..], all }))
    });
    outcome(read, all)
}

/// At most `max` bytes of a body, and whether more will never be looked at.
fn clip(body: &[u8], whole: u32, max: usize) -> (&[u8], bool) {
    let wanted = max.min(whole as usize);
    (&body[..body.len().min(wanted)], body.len() >= wanted)
}

fn outcome<T>(read: Result<T, Stop>, all: bool) -> Peek<T> {
    match read {
        Ok(found) => Peek::Found(found),
        Err(Stop::Cut) if !all => Peek::NeedMore,
        Err(Stop::Cut | Stop::Bad) => Peek::Unknown,
    }
}

/// The five names in Hessian, and what follows them.
fn names(body: &[u8]) -> Result<([&[u8]; 5], &[u8]), Stop> {
    let mut strings = Strings::new(body);
    let mut names: [&[u8]; 5] = [b""; 5];
    for name in &mut names {
        match strings.read() {
            Item::Text(text) => *name = text,
            Item::Null => {}
            Item::Cut => return Err(Stop::Cut),
            Item::Other => return Err(Stop::Bad),
        }
    }
    Ok((names, strings.rest()))
}

impl<'a> Request<'a> {
    fn new(names: [&'a [u8]; 5], called: Option<&'a [u8]>, body: Body<'a>) -> Request<'a> {
        let [dubbo_version, path, version, method, descriptor] = names;
        Request {
            dubbo_version,
            path,
            version,
            method: called.unwrap_or(method),
            generic: called.is_some(),
            descriptor,
            body,
        }
    }

    /// The number of arguments that the descriptor says; `None` if it is none.
    pub fn arguments(&self) -> Option<usize> {
        count_types(self.descriptor)
    }

    /// The attachments, behind the arguments. They are found once they have arrived whole.
    ///
    /// The arguments are stepped over, which takes time in their length.
    pub fn attachments(&self) -> Peek<Attachments<'a>> {
        let Some(arguments) = self.arguments() else { return Peek::Unknown };
        let Body { format, at, rest, all } = self.body;
        let read = match format {
            Format::Hessian => attachments::hessian(rest, arguments),
            Format::Json => attachments::json(rest, arguments),
            Format::Jsonb => attachments::jsonb(rest, arguments),
        };
        outcome(read.map(|attachments| attachments.behind(at)), all)
    }

    /// Appends the service's name to `name`: `interface`, then `:version` if it has one (`0.0.0` is none), and
    /// `:group` if `group` is not empty, behind an empty version if need be.
    ///
    /// The group is in the attachments ([`Attachments::group`]). The answer tells the shorter names from it.
    pub fn service_name(&self, group: &[u8], name: &mut Vec<u8>) -> ServiceName {
        let start = name.len();
        name.extend_from_slice(self.path);
        let interface = name.len() - start;
        if !self.version.is_empty() && self.version != NO_VERSION {
            name.push(b':');
            name.extend_from_slice(self.version);
        }
        let ungrouped = name.len() - start;
        if !group.is_empty() {
            name.extend_from_slice(if ungrouped == interface { b"::" } else { b":" });
            name.extend_from_slice(group);
        }
        ServiceName { full: name.len() - start, ungrouped, interface }
    }

    /// Whether the attachments name another path or version than the body begins with.
    ///
    /// A provider in Java goes by the attachments then. Honest callers differ there only in a service that is
    /// published under another path than its interface; a rule that forbids a service has to look.
    pub fn differs_from(&self, attachments: &Attachments<'_>) -> bool {
        let [path, version] = attachments.get_all(&[b"path", b"version"]);
        let same = |attached: Option<Value<'_>>, own: &[u8]| match attached {
            None | Some(Value::Null) => true,
            Some(Value::Text(text)) => text == own || (own.is_empty() && text == NO_VERSION),
            Some(_) => false,
        };
        !same(path, self.path) || !same(version, self.version)
    }
}

/// The method that a generic call is meant for: its first argument, which `rest` begins with.
fn called<'a>(names: [&'a [u8]; 5], format: Format, mut rest: &'a [u8]) -> Result<Option<&'a [u8]>, Stop> {
    let [_, _, _, method, descriptor] = names;
    if !GENERIC.contains(&method) || !descriptor.starts_with(b"Ljava/lang/String;") {
        return Ok(None);
    }
    match format {
        Format::Json => json::string(json::line(&mut rest)?).map(Some),
        Format::Jsonb => jsonb::string(jsonb::item(&mut rest)?).map(Some),
        Format::Hessian => match Walker::new(rest).value()? {
            Value::Text(text) => Ok(Some(text)),
            _ => Err(Stop::Bad),
        },
    }
}

/// Where names end in what [`Request::service_name`] wrote. To look a service up, try the longest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceName {
    /// Bytes of `interface:version:group`, or of what there is of it.
    pub full: usize,
    /// Bytes of it without the group.
    pub ungrouped: usize,
    /// Bytes of the interface alone.
    pub interface: usize,
}

impl ServiceName {
    /// The names, the longest first, none twice. `name` begins with what was written.
    pub fn candidates(self, name: &[u8]) -> impl Iterator<Item = &[u8]> {
        let ungrouped = (self.ungrouped < self.full).then_some(self.ungrouped);
        let interface = (self.interface < self.ungrouped).then_some(self.interface);
        [Some(self.full), ungrouped, interface].into_iter().flatten().filter_map(|len| name.get(..len))
    }
}

/// The number of types in a descriptor.
pub(super) fn count_types(mut types: &[u8]) -> Option<usize> {
    let mut count = 0;
    while let Some((first, rest)) = types.split_first() {
        types = match first {
            b'[' if rest.is_empty() => return None,
            b'[' => {
                types = rest;
                continue;
            }
            b'V' | b'Z' | b'B' | b'C' | b'D' | b'F' | b'I' | b'J' | b'S' => rest,
            b'L' => &rest[rest.iter().position(|b| *b == b';')? + 1..],
            _ => return None,
        };
        count += 1;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_counted() {
        for (types, count) in [
            ("", Some(0)),
            ("II", Some(2)),
            ("Ljava/lang/String;I[B", Some(3)),
            ("[[Ljava/lang/Object;ZJ", Some(3)),
            ("L", None),
            ("[", None),
            ("Lx;[", None),
            ("java.lang.String", None),
        ] {
            assert_eq!(count_types(types.as_bytes()), count, "{types}");
        }
    }
}
