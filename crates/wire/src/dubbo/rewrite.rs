//! Telling the app who calls: pairs taken out of a request's attachments, and put into them.
use super::attachments::{Attachments, Place};
use super::head::Head;
use super::names::reserved_text;
use super::request::{Format, count_types};
use super::{Limits, json, jsonb};
use crate::caller::{Caller, is_reserved};
use crate::hessian::Stop;
use crate::hessian::v2::{self, Walker, short_string};

/// What stands for a reserved key whose value others may refer to.
const REMOVED: &str = "x-raddle-removed";

/// What [`tell`] wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The head of the frame written.
    pub head: Head,
    /// Whether the frame says who calls.
    pub added: bool,
}

/// Appends the frame as the app is to get it: without what others attached under reserved names, and with `caller`
/// attached under them. Where there is nothing to change it is a copy.
///
/// `attachments` are the frame's, if they were found. A frame is copied as it is that is not whole (attachments are at
/// the end), no request, or in a serialisation that is not read; so is one whose arguments cannot be stepped over.
#[inline]
pub fn tell(
    out: &mut Vec<u8>,
    head: &Head,
    frame: &[u8],
    attachments: Option<&Attachments<'_>>,
    limits: Limits,
    caller: Option<&Caller<'_>>,
) -> Told {
    let caller = caller.filter(|c| fits(head, c, limits));
    let suspect = attachments.is_none_or(Attachments::suspect);
    let format = if frame.len() < head.frame_len() { None } else { Format::of(head) };
    if let Some(format) = format
        && (suspect || caller.is_some())
    {
        let start = out.len();
        let sound = attachments.filter(|_| !suspect);
        if rewrite(out, format, head.body(frame), sound, caller, head) {
            // At most as long as it was, or as `fits` found.
            let told = Head { body_len: (out.len() - start - Head::LEN) as u32, ..*head };
            out[start + 12..start + 16].copy_from_slice(&told.body_len.to_be_bytes());
            return Told { head: told, added: caller.is_some() };
        }
        out.truncate(start);
    }
    out.extend_from_slice(frame);
    Told { head: *head, added: false }
}

/// Whether the frame has room.
fn fits(head: &Head, caller: &Caller<'_>, limits: Limits) -> bool {
    // No form takes more than this around a string.
    let more: usize = caller.pairs().iter().map(|(key, value)| 16 + key.len() + value.len()).sum();
    head.frame_len() as u64 + more as u64 <= u64::from(limits.max_frame)
}

/// Writes the whole frame; its length is still the former one's. False = it cannot be.
fn rewrite(
    out: &mut Vec<u8>,
    format: Format,
    body: &[u8],
    sound: Option<&Attachments<'_>>,
    caller: Option<&Caller<'_>>,
    head: &Head,
) -> bool {
    out.reserve(Head::LEN + body.len() + 128);
    out.extend_from_slice(&head.to_bytes());
    match sound {
        Some(attachments) => insert(out, format, body, attachments.place, caller),
        None => scrub(out, format, body, caller).is_ok(),
    }
}

/// Writes a body whose attachments lie at `place` and hold no reserved names, with `caller` attached.
fn insert(out: &mut Vec<u8>, format: Format, body: &[u8], place: Place, caller: Option<&Caller<'_>>) -> bool {
    let (Some(before), Some(map), Some(behind)) =
        (body.get(..place.start), body.get(place.start..place.end), body.get(place.end..))
    else {
        return false;
    };
    out.extend_from_slice(before);
    match format {
        Format::Hessian => {
            match map.split_last() {
                Some((b'Z', pairs)) => out.extend_from_slice(pairs),
                // A null.
                _ => out.push(b'H'),
            }
            push_hessian(out, caller);
            out.push(b'Z');
        }
        Format::Json => {
            let pairs = map.trim_ascii().strip_prefix(b"{").and_then(|map| map.strip_suffix(b"}"));
            let pairs = pairs.unwrap_or_default();
            out.push(b'{');
            out.extend_from_slice(pairs);
            push_json(out, pairs.trim_ascii().is_empty(), caller);
            out.push(b'}');
        }
        Format::Jsonb => {
            let pairs = map.get(5..map.len().saturating_sub(1)).unwrap_or_default();
            jsonb::push_object(out, |out| {
                out.extend_from_slice(pairs);
                push_jsonb(out, caller);
            });
        }
    }
    out.extend_from_slice(behind);
    true
}

/// Writes a body anew, without reserved names among its attachments and with `caller` attached.
fn scrub(out: &mut Vec<u8>, format: Format, body: &[u8], caller: Option<&Caller<'_>>) -> Result<(), Stop> {
    let ([.., descriptor], arguments) = format.names(body)?;
    let count = count_types(descriptor).ok_or(Stop::Bad)?;
    match format {
        Format::Hessian => scrub_hessian(out, body, arguments, count, caller),
        Format::Json => scrub_json(out, body, arguments, count, caller),
        Format::Jsonb => scrub_jsonb(out, body, arguments, count, caller),
    }
}

fn scrub_hessian(
    out: &mut Vec<u8>,
    body: &[u8],
    arguments: &[u8],
    count: usize,
    caller: Option<&Caller<'_>>,
) -> Result<(), Stop> {
    let mut walker = Walker::new(arguments);
    for _ in 0..count {
        walker.value()?;
    }
    let map = walker.rest();
    out.extend_from_slice(up_to(body, map));
    match map.first().ok_or(Stop::Cut)? {
        b'N' if caller.is_none() => {
            out.extend_from_slice(map);
            return Ok(());
        }
        b'N' => {
            walker.map()?;
            out.push(b'H');
        }
        b'H' | b'M' => {
            walker.map()?;
            out.extend_from_slice(up_to(map, walker.rest()));
            while !walker.end()? {
                copy_unreserved(out, &mut walker)?;
            }
        }
        // No attachments that an honest caller writes: a reference to an argument, for one, can be a map too. Java
        // reads nothing behind it.
        _ => {
            walker = Walker::new(b"");
            out.push(b'H');
        }
    }
    push_hessian(out, caller);
    out.push(b'Z');
    out.extend_from_slice(walker.rest());
    Ok(())
}

/// Copies a pair, unless its key is a reserved name.
fn copy_unreserved(out: &mut Vec<u8>, walker: &mut Walker<'_>) -> Result<(), Stop> {
    let pair = walker.rest();
    walker.definitions()?;
    let key = walker.rest();
    walker.value()?;
    let value = walker.rest();
    walker.value()?;
    let rest = walker.rest();
    if !short_string(key).is_some_and(|key| is_reserved(&key)) {
        out.extend_from_slice(up_to(pair, rest));
    } else if pair.len() != key.len() || v2::is_numbered(value) {
        // Others may refer to what is defined here, by its number: it stays, out of the way.
        out.extend_from_slice(up_to(pair, key));
        v2::push_string(out, REMOVED);
        out.extend_from_slice(up_to(value, rest));
    }
    Ok(())
}

fn scrub_json(
    out: &mut Vec<u8>,
    body: &[u8],
    mut arguments: &[u8],
    count: usize,
    caller: Option<&Caller<'_>>,
) -> Result<(), Stop> {
    for _ in 0..count {
        json::line(&mut arguments)?;
    }
    out.extend_from_slice(up_to(body, arguments));
    let line = json::last_line(arguments);
    if line.trim_ascii().is_empty() {
        return Err(Stop::Cut);
    }
    if line.trim_ascii() == b"null" && caller.is_none() {
        out.extend_from_slice(arguments);
        return Ok(());
    }
    out.push(b'{');
    let mut first = true;
    for (key, value) in json::sound_pairs(line).filter(|(key, _)| !reserved_text(key)) {
        json::push_pair(out, &mut first, |out| {
            out.push(b'"');
            out.extend_from_slice(key);
            out.extend_from_slice(b"\":");
            out.extend_from_slice(value);
        });
    }
    push_json(out, first, caller);
    out.push(b'}');
    out.extend_from_slice(&arguments[line.len()..]);
    Ok(())
}

fn scrub_jsonb(
    out: &mut Vec<u8>,
    body: &[u8],
    mut arguments: &[u8],
    count: usize,
    caller: Option<&Caller<'_>>,
) -> Result<(), Stop> {
    for _ in 0..count {
        jsonb::item(&mut arguments)?;
    }
    out.extend_from_slice(up_to(body, arguments));
    let pairs = jsonb::Pairs::new(jsonb::item(&mut arguments)?)?;
    jsonb::push_object(out, |out| {
        for (key, written) in pairs.written() {
            if !key.is_some_and(reserved_text) {
                out.extend_from_slice(written);
            }
        }
        push_jsonb(out, caller);
    });
    out.extend_from_slice(arguments);
    Ok(())
}

fn push_hessian(out: &mut Vec<u8>, caller: Option<&Caller<'_>>) {
    for (key, value) in caller.iter().flat_map(|c| c.pairs()) {
        v2::push_string(out, key);
        v2::push_string(out, value);
    }
}

fn push_json(out: &mut Vec<u8>, mut first: bool, caller: Option<&Caller<'_>>) {
    for (key, value) in caller.iter().flat_map(|c| c.pairs()) {
        json::push_pair(out, &mut first, |out| {
            json::push_string(out, key);
            out.push(b':');
            json::push_string(out, value);
        });
    }
}

fn push_jsonb(out: &mut Vec<u8>, caller: Option<&Caller<'_>>) {
    for (key, value) in caller.iter().flat_map(|c| c.pairs()) {
        jsonb::push_string(out, key);
        jsonb::push_string(out, value);
    }
}

/// What of `whole` comes before `rest`, its end.
fn up_to<'a>(whole: &'a [u8], rest: &[u8]) -> &'a [u8] {
    &whole[..whole.len() - rest.len()]
}
