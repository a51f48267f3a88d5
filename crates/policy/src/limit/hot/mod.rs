//! A bound for each value of a parameter by itself (hotspot limits).
pub(super) mod table;

use super::Again;
use super::program::{over_at_once, over_rate};
use super::rate::{Bare, Pace};
use crate::rng::Rng;
use crate::route::Attributes;
use ahash::RandomState;
use raddle_core::Time;
use raddle_model::{Bound, KeyBy, LimitKey, Rate};
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use table::Table;

/// The bound of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Each {
    Rate(Pace),
    AtOnce(u32),
}

/// What a rule says of values.
#[derive(Debug)]
pub(super) struct Hot {
    pub(super) by: KeyBy,
    pub(super) each: Each,
    pub(super) table: Arc<Table>,
    /// Values may be secrets: people are shown something else.
    hides: bool,
    own: HashMap<Box<[u8]>, Own, RandomState>,
    by_id: HashMap<u32, Arc<Exact>, RandomState>,
}

/// A value with a bound of its own.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) each: Each,
    pub(super) detail: Arc<str>,
    pub(super) exact: Arc<Exact>,
}

/// What was counted for it, exactly.
#[derive(Debug)]
pub(super) struct Exact {
    id: u32,
    /// A bucket's word, or requests in flight.
    word: AtomicU64,
    pub(super) held: AtomicU64,
}

/// What a request took of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Took {
    /// Nothing: there is no place to count it.
    Nothing,
    /// Of a place.
    Place { slot: u32, hash: u64 },
    /// Of a value with a bound of its own.
    Own(u32),
}

impl Hot {
    pub(super) fn new(key: &LimitKey, bound: &Bound, prev: Option<&Hot>) -> Hot {
        let prev = prev.filter(|p| p.by == key.by && p.each.is_rate() == matches!(bound, Bound::Rate(_)));
        let table = prev.map(|p| &p.table).filter(|t| t.most == key.most);
        let table = table.cloned().unwrap_or_else(|| Arc::new(Table::new(key.most)));
        let mut id = prev.and_then(|p| p.by_id.keys().max()).map_or(0, |id| id + 1);
        let mut exact = |value: &[u8]| {
            let old = prev.and_then(|p| p.own.get(value)).map(|own| own.exact.clone());
            old.unwrap_or_else(|| {
                id += 1;
                Arc::new(Exact { id: id - 1, word: AtomicU64::new(0), held: AtomicU64::new(0) })
            })
        };
        let own: HashMap<Box<[u8]>, Own, RandomState> = key
            .overrides
            .iter()
            .map(|(value, number)| {
                let value: Box<[u8]> = value.as_bytes().into();
                let exact = exact(&value);
                let (each, detail) = Each::own(bound, *number);
                (value, Own { each, detail: detail.into(), exact })
            })
            .collect();
        let by_id = own.values().map(|own| (own.exact.id, own.exact.clone())).collect();
        Hot { by: key.by.clone(), each: Each::of(bound), table, hides: hides(&key.by), own, by_id }
    }

    /// Whether values have the places that they had before.
    pub(super) fn same_places(&self, before: &Hot) -> bool {
        Arc::ptr_eq(&self.table, &before.table)
    }

    /// Asks for a request with this value. The error is the bound of its own that holds it, if it has one, and when
    /// another may pass.
    pub(super) fn take(&self, value: &[u8], now: Time, rng: &mut Rng) -> Result<Took, (Option<&Own>, Again)> {
        if let Some(own) = self.own.get(value) {
            if own.each.take(&own.exact.word, now) {
                return Ok(Took::Own(own.exact.id));
            }
            own.exact.held.fetch_add(1, Ordering::Relaxed);
            return Err((Some(own), own.each.again(&own.exact.word, now)));
        }
        if self.each.never() {
            return Err((None, Again::Never));
        }
        let hash = self.table.hash(value);
        let Some(i) = self.table.find(hash).or_else(|| self.enter(hash, value, now, rng)) else {
            return Ok(Took::Nothing);
        };
        let slot = self.table.slot(i);
        let passes = self.each.take(&slot.word, now);
        if !self.table.holds(i, hash) {
            // Another value got the place meanwhile, so what was counted is not this one's.
            if let (true, Each::AtOnce(_)) = (passes, self.each) {
                end(&slot.word);
            }
            return Ok(Took::Nothing);
        }
        slot.touch(now, !passes, rng);
        if passes { Ok(Took::Place { slot: i, hash }) } else { Err((None, self.each.again(&slot.word, now))) }
    }

    fn enter(&self, hash: u64, value: &[u8], now: Time, rng: &mut Rng) -> Option<u32> {
        let chance = rng.next_u64();
        let veil = veil(hash);
        let value = if self.hides { &veil[..] } else { value };
        match self.each {
            Each::Rate(_) => self.table.enter(hash, value, now, |w| Bare(w).is_full(now), true, chance),
            // What is in flight ends at its place, so nobody else gets that.
            Each::AtOnce(_) => {
                self.table.enter(hash, value, now, |w| w.load(Ordering::Relaxed) == 0, false, chance)
            }
        }
    }

    /// The request was refused after all.
    pub(super) fn undo(&self, took: Took) {
        match took {
            Took::Nothing => {}
            Took::Place { slot, hash } if self.holds() || self.table.holds(slot, hash) => {
                self.each.give(&self.table.slot(slot).word);
            }
            Took::Place { .. } => {}
            Took::Own(id) => {
                if let Some(own) = self.own.values().find(|own| own.exact.id == id) {
                    own.each.give(&own.exact.word);
                }
            }
        }
    }

    /// The request has ended: of bounds at the same time, its place is free again.
    pub(super) fn done(&self, took: Took) {
        match took {
            Took::Nothing => {}
            // The place is still its value's, for it is not free; its mark need not say so at this instant, in which
            // another worker may be looking whether it is.
            Took::Place { slot, .. } if self.holds() => end(&self.table.slot(slot).word),
            Took::Place { .. } => {}
            Took::Own(id) => {
                if let Some(exact) = self.by_id.get(&id) {
                    end(&exact.word);
                }
            }
        }
    }

    /// A value as people are shown it: its beginning, or what tells it from others if it may be a secret.
    pub(super) fn shown(&self, value: &[u8]) -> String {
        if self.hides {
            return String::from_utf8_lossy(&veil(self.table.hash(value))).into_owned();
        }
        let mut text = String::from_utf8_lossy(&value[..value.len().min(table::SHOWN)]).into_owned();
        if value.len() > table::SHOWN {
            text.push('…');
        }
        text
    }

    /// Whether what a request took ends with it.
    pub(super) fn holds(&self) -> bool {
        !self.each.is_rate()
    }

    /// The values with a bound of their own.
    pub(super) fn own(&self) -> impl Iterator<Item = (&[u8], &Own)> {
        self.own.iter().map(|(value, own)| (&**value, own))
    }

    /// Whether a request with this value would pass now.
    pub(super) fn would_pass(&self, value: &[u8], now: Time) -> bool {
        if let Some(own) = self.own.get(value) {
            return own.each.would_pass(&own.exact.word, now);
        }
        let empty = AtomicU64::new(0);
        match self.table.find(self.table.hash(value)) {
            Some(i) => self.each.would_pass(&self.table.slot(i).word, now),
            // A value that is not kept has used nothing.
            None => self.each.would_pass(&empty, now),
        }
    }

    /// What there is of a value's bound: its level (of a rate) or requests in flight; `None` = it is not kept.
    pub(super) fn state(&self, value: &[u8], now: Time) -> Option<f64> {
        if let Some(own) = self.own.get(value) {
            return Some(own.each.state(&own.exact.word, now));
        }
        self.table.find(self.table.hash(value)).map(|i| self.each.state(&self.table.slot(i).word, now))
    }
}

impl Own {
    pub(super) fn state(&self, now: Time) -> f64 {
        self.each.state(&self.exact.word, now)
    }
}

impl Each {
    fn of(bound: &Bound) -> Each {
        match bound {
            Bound::Rate(r) => Each::Rate(Pace::new(r.per_second, r.burst, None)),
            Bound::Concurrency(n) => Each::AtOnce(*n),
        }
    }

    /// A bound of a value's own: a burst that is as much longer as the rate is higher.
    fn own(bound: &Bound, number: f64) -> (Each, String) {
        match bound {
            Bound::Rate(Rate { per_second, burst, .. }) => {
                let whole = if *per_second > 0.0 { number * f64::from(*burst) / per_second } else { number };
                (Each::Rate(Pace::new(number, whole.ceil() as u32, None)), over_rate(number))
            }
            Bound::Concurrency(_) => (Each::AtOnce(number as u32), over_at_once(number.floor())),
        }
    }

    fn is_rate(&self) -> bool {
        matches!(self, Each::Rate(_))
    }

    /// Whether nothing ever passes: then nothing needs to be kept.
    fn never(&self) -> bool {
        match self {
            Each::Rate(pace) => pace.never(),
            Each::AtOnce(n) => *n == 0,
        }
    }

    fn take(&self, word: &AtomicU64, now: Time) -> bool {
        match self {
            Each::Rate(pace) => Bare(word).take(pace, now),
            Each::AtOnce(most) => {
                let more = |n: u64| (n < u64::from(*most)).then_some(n + 1);
                word.fetch_update(Ordering::SeqCst, Ordering::Relaxed, more).is_ok()
            }
        }
    }

    fn again(&self, word: &AtomicU64, now: Time) -> Again {
        match self {
            Each::Rate(pace) => Bare(word).again(pace, now),
            Each::AtOnce(0) => Again::Never,
            Each::AtOnce(_) => Again::Unknown,
        }
    }

    fn would_pass(&self, word: &AtomicU64, now: Time) -> bool {
        match self {
            Each::Rate(pace) => Bare(word).again(pace, now) == Again::In(Duration::ZERO),
            Each::AtOnce(most) => word.load(Ordering::Relaxed) < u64::from(*most),
        }
    }

    fn give(&self, word: &AtomicU64) {
        match self {
            Each::Rate(pace) => Bare(word).give(pace),
            Each::AtOnce(_) => end(word),
        }
    }

    pub(super) fn state(&self, word: &AtomicU64, now: Time) -> f64 {
        match self {
            Each::Rate(pace) => Bare(word).level(pace, now),
            Each::AtOnce(_) => word.load(Ordering::Relaxed) as f64,
        }
    }
}

fn end(in_flight: &AtomicU64) {
    let _ = in_flight.fetch_update(Ordering::SeqCst, Ordering::Relaxed, |n| n.checked_sub(1));
}

/// Calls `f` with the value of a request that counts, if it has one.
pub(super) fn with_value<R>(by: &KeyBy, req: &impl Attributes, f: impl FnOnce(&[u8]) -> R) -> Option<R> {
    match by {
        KeyBy::Header(name) => req.header(name).map(f),
        KeyBy::Query(name) => req.query(name).map(f),
        KeyBy::PathPart(n) => path_part(req.path()?, *n).map(f),
        KeyBy::CallerApp => req.caller_app().map(f),
        KeyBy::Method => req.method().map(f),
        KeyBy::CallerIp => {
            let mut text = Short { buffer: [0; 48], used: 0 };
            write!(text, "{}", req.caller_ip()?.to_canonical()).ok()?;
            Some(f(text.bytes()))
        }
    }
}

/// A part of a path, counted from 0 after the slash it begins with.
fn path_part(path: &[u8], n: u8) -> Option<&[u8]> {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    path.split(|b| *b == b'/').nth(usize::from(n)).filter(|part| !part.is_empty())
}

/// Room for the text of an address.
struct Short {
    buffer: [u8; 48],
    used: usize,
}

impl Short {
    fn bytes(&self) -> &[u8] {
        &self.buffer[..self.used]
    }
}

impl Write for Short {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        let end = self.used + s.len();
        self.buffer.get_mut(self.used..end).ok_or(std::fmt::Error)?.copy_from_slice(s.as_bytes());
        self.used = end;
        Ok(())
    }
}

/// Whether a parameter's values let somebody in, by its name.
fn hides(by: &KeyBy) -> bool {
    let (KeyBy::Header(name) | KeyBy::Query(name)) = by else { return false };
    let name = name.to_ascii_lowercase();
    ["auth", "cookie", "token", "secret", "passw", "key", "session", "signature", "credential"]
        .iter()
        .any(|word| name.contains(word))
}

/// What is shown in place of a value that may be a secret: a part of its hash, which is another one in each process.
fn veil(hash: u64) -> [u8; 9] {
    let mut text = *b"#00000000";
    for (i, digit) in text[1..].iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(hash >> (4 * i) & 15) as usize];
    }
    text
}

/// What a parameter is called.
pub(super) fn describe(by: &KeyBy) -> String {
    match by {
        KeyBy::Header(name) => format!("header {name}"),
        KeyBy::Query(name) => format!("query parameter {name}"),
        KeyBy::PathPart(n) => format!("part {n} of the path"),
        KeyBy::CallerApp => "the caller's app".into(),
        KeyBy::CallerIp => "the caller's address".into(),
        KeyBy::Method => "the method".into(),
    }
}

#[cfg(test)]
mod tests;
