//! Telling the app who calls: pairs taken out of a frame's header map, and put into it.
use super::Limits;
use super::crc::crc_shift;
use super::head::Head;
use super::headers::push_pair;
use crate::caller::{Caller, is_reserved};

/// Peers written in Java read the map's length as a signed 16-bit number.
const MAX_MAP: u32 = i16::MAX as u32;

/// What [`tell`] wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The head of the frame written.
    pub head: Head,
    /// What the checksum that is still to come is to be XORed with; 0 if it was written.
    pub crc_mask: u32,
    /// Whether the frame says who calls.
    pub added: bool,
}

/// Appends the frame as the app is to get it: without what others wrote under reserved names, and with `caller` under
/// them. Where there is nothing to change it is a copy.
///
/// `frame` is what `head` was parsed from: all of it, or its beginning up to the content at least. A checksum stays as
/// right or as wrong as it was. The caller is left out ([`Told::added`]) if the map is garbled, or would be longer than
/// `limits` or Java peers allow.
#[inline]
pub fn tell(
    out: &mut Vec<u8>,
    head: &Head,
    frame: &[u8],
    limits: Limits,
    caller: Option<&Caller<'_>>,
) -> Told {
    let mut pairs = head.headers(frame).iter();
    let mut spoofed = false;
    for (key, _) in pairs.by_ref() {
        spoofed |= key.is_some_and(is_reserved);
    }
    let caller = caller.filter(|c| pairs.rest().is_empty() && fits(head, c, limits));
    if (caller.is_none() && !spoofed) || frame.len() < head.head_len() {
        out.extend_from_slice(frame);
        return Told { head: *head, crc_mask: 0, added: false };
    }
    rewrite(out, head, frame, spoofed, caller)
}

/// Whether the map has room. What is taken out of it does not count: who sends reserved names gets no favours.
fn fits(head: &Head, caller: &Caller<'_>, limits: Limits) -> bool {
    let more: usize = caller.pairs().iter().map(|(key, value)| 8 + key.len() + value.len()).sum();
    let map = usize::from(head.header_len) + more;
    map <= limits.max_header.min(MAX_MAP) as usize
        && head.frame_len() as u64 + more as u64 <= u64::from(limits.max_frame)
}

fn rewrite(out: &mut Vec<u8>, head: &Head, frame: &[u8], spoofed: bool, caller: Option<&Caller<'_>>) -> Told {
    let start = out.len();
    let (opening, rest) = frame.split_at(head.head_len());
    let (fixed_and_class, map) = opening.split_at(head.fixed_len() + usize::from(head.class_len));
    out.reserve(frame.len() + 128);
    out.extend_from_slice(fixed_and_class);
    let map_at = out.len();
    if spoofed {
        copy_unreserved(out, head, frame);
    } else {
        out.extend_from_slice(map);
    }
    for (key, value) in caller.iter().flat_map(|c| c.pairs()) {
        push_pair(out, key.as_bytes(), value.as_bytes());
    }
    // At most as long as it was, or as `fits` found.
    let told = Head { header_len: (out.len() - map_at) as u16, ..*head };
    // The map's length is the two bytes before the content's length.
    let at = start + head.fixed_len() - 6;
    out[at..at + 2].copy_from_slice(&told.header_len.to_be_bytes());
    let mut crc_mask = 0;
    if head.variant.crc() {
        let change = crc32fast::hash(opening) ^ crc32fast::hash(&out[start..]);
        crc_mask = crc_shift(change, head.content_len as usize);
    }
    out.extend_from_slice(rest);
    if crc_mask != 0 && out.len() - start >= told.frame_len() {
        let end = start + told.frame_len();
        for (byte, mask) in out[end - 4..end].iter_mut().zip(crc_mask.to_be_bytes()) {
            *byte ^= mask;
        }
        crc_mask = 0;
    }
    Told { head: told, crc_mask, added: caller.is_some() }
}

/// The pairs of a map but for the reserved ones; what is garbled behind them stays.
fn copy_unreserved(out: &mut Vec<u8>, head: &Head, frame: &[u8]) {
    let mut pairs = head.headers(frame).iter();
    let mut from = pairs.rest();
    while let Some((key, _)) = pairs.next() {
        if !key.is_some_and(is_reserved) {
            out.extend_from_slice(&from[..from.len() - pairs.rest().len()]);
        }
        from = pairs.rest();
    }
    out.extend_from_slice(from);
}
