//! Finds the few clauses that can take a request, however many there are.
//!
//! Tuple space search (Srinivasan, Suri, Varghese: "Packet Classification using Tuple Space Search", SIGCOMM 1999):
//! clauses that ask exact things of the same subjects share a table, keyed by what they ask. A request costs one look-up
//! for each table, and the tables are as many as there are *forms* of clauses, not clauses. A prefix of each length is a
//! form, and so is a block of addresses of each length.
use super::clause::{Asked, Clause, Cond};
use super::facts::{Facts, Unclear};
use ahash::RandomState;
use raddle_core::hash;
use raddle_model::{AuthSubject, Cidr, Matcher};
use std::collections::HashMap;
use std::net::IpAddr;

/// Most forms of several subjects that get a table.
const FORMS_MOST: usize = 48;
/// Most tables of clauses whose form is too rare for one of its own.
const SINGLES_MOST: usize = 16;
/// Fewer clauses are tested one by one.
const WORTH_HASHING: usize = 8;
/// Most keys one clause is filed under, where it asks for several things.
const KEYS_MOST: usize = 64;
/// The same where it asks for one thing in many values.
const VALUES_MOST: usize = 4096;
/// Most look-ups in one table for one request: its headers may have several values each.
const LOOKUPS_MOST: u32 = 256;

/// What judging a request cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Look-ups in tables.
    pub lookups: u32,
    /// Clauses tested.
    pub clauses: u32,
}

/// A part of a key: something exact that clauses ask for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Part {
    Whole(AuthSubject),
    /// The first so many bytes.
    Prefix(AuthSubject, usize),
    /// The block of this length that the source lies in; of IPv4 or not.
    Block(bool, u8),
}

/// Clauses, and where those are that can take a request.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) clauses: Box<[Clause]>,
    tables: Box<[Table]>,
    /// Clauses in no table.
    rest: Box<[u32]>,
    state: RandomState,
    /// Whether any clause looks at the service.
    pub(super) service: bool,
    /// Whether any clause looks at the method.
    pub(super) method: bool,
    /// Whether any clause looks at the path.
    pub(super) path: bool,
}

#[derive(Debug)]
struct Table {
    parts: Box<[Part]>,
    clauses: HashMap<u64, Vec<u32>, RandomState>,
}

/// What a clause asks of one part, by hashes of the values.
struct Ask {
    part: Part,
    values: Vec<u64>,
}

impl Index {
    pub(super) fn new(clauses: Vec<Clause>) -> Index {
        let looks = |at: &AuthSubject| {
            let mut conds = clauses.iter().flat_map(|c| &*c.conds);
            conds.any(|c| matches!(c, Cond::Text { subject, .. } if subject == at))
        };
        let mut index = Index {
            service: looks(&AuthSubject::Service),
            method: looks(&AuthSubject::Method),
            path: looks(&AuthSubject::Path),
            ..Index::default()
        };
        let mut left: Vec<u32> = (0..clauses.len() as u32).collect();
        if clauses.len() >= WORTH_HASHING {
            let mut asks: Vec<Vec<Ask>> = clauses.iter().map(|c| asks(c, &index.state)).collect();
            let mut tables = file(&asks, &mut left, FORMS_MOST);
            for asks in &mut asks {
                asks.sort_by_key(|a| a.values.len());
                asks.truncate(1);
            }
            tables.extend(file(&asks, &mut left, SINGLES_MOST));
            index.tables = tables.into();
        }
        index.rest = left.into();
        index.clauses = clauses.into();
        index
    }

    /// The first clause, in order, that takes the request.
    ///
    /// # Errors
    /// It has so many values of what rules look at that not all combinations were looked at.
    pub(super) fn first(
        &self,
        asked: &Asked<'_, impl Facts>,
        cost: &mut Cost,
    ) -> Result<Option<&Clause>, Unclear> {
        let mut best = u32::MAX;
        let mut all = true;
        self.scan(&self.rest, asked, &mut best, cost);
        for table in &self.tables {
            let mut left = LOOKUPS_MOST;
            self.keys(&table.parts, 0, asked, &mut |key| {
                if left == 0 {
                    all = false;
                    return;
                }
                left -= 1;
                cost.lookups += 1;
                if let Some(list) = table.clauses.get(&key) {
                    self.scan(list, asked, &mut best, cost);
                }
            });
        }
        match self.clauses.get(best as usize) {
            None if !all => Err(Unclear::TooMany),
            found => Ok(found),
        }
    }

    /// Looks through an ascending list for a clause before `best`.
    fn scan(&self, list: &[u32], asked: &Asked<'_, impl Facts>, best: &mut u32, cost: &mut Cost) {
        for &i in list {
            if i >= *best {
                return;
            }
            cost.clauses += 1;
            if self.clauses[i as usize].takes(asked) {
                *best = i;
                return;
            }
        }
    }

    /// Calls `f` with every key that the request has for these parts.
    fn keys(&self, parts: &[Part], so_far: u64, asked: &Asked<'_, impl Facts>, f: &mut dyn FnMut(u64)) {
        let Some((part, rest)) = parts.split_first() else { return f(so_far) };
        match part {
            Part::Whole(subject) => asked.each(subject, &mut |value| {
                self.keys(rest, joined(so_far, self.state.hash_one(value)), asked, f);
            }),
            Part::Prefix(subject, len) => asked.each(subject, &mut |value| {
                if let Some(begin) = value.get(..*len) {
                    self.keys(rest, joined(so_far, self.state.hash_one(begin)), asked, f);
                }
            }),
            Part::Block(v4, prefix) => {
                let ip = asked.facts.source().map(|ip| ip.to_canonical()).filter(|ip| ip.is_ipv4() == *v4);
                if let Some(block) = ip.and_then(|ip| Cidr::new(ip, *prefix)) {
                    self.keys(rest, joined(so_far, self.state.hash_one(block)), asked, f);
                }
            }
        }
    }
}

fn joined(so_far: u64, value: u64) -> u64 {
    hash::mix(so_far.rotate_left(23) ^ value)
}

/// Files clauses under the commonest of their forms, at most so many; what finds no place stays in `left`.
fn file(asks: &[Vec<Ask>], left: &mut Vec<u32>, most: usize) -> Vec<Table> {
    let mut forms: HashMap<Vec<&Part>, usize, RandomState> = HashMap::default();
    for &i in &*left {
        *forms.entry(form(&asks[i as usize])).or_default() += 1;
    }
    let mut forms: Vec<_> = forms.into_iter().filter(|(form, _)| !form.is_empty()).collect();
    forms.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
    forms.truncate(most);
    let number: HashMap<&[&Part], usize, RandomState> =
        forms.iter().enumerate().map(|(n, (form, _))| (form.as_slice(), n)).collect();
    let mut tables: Vec<Table> = forms
        .iter()
        .map(|(form, _)| Table {
            parts: form.iter().map(|p| (*p).clone()).collect(),
            clauses: HashMap::default(),
        })
        .collect();
    left.retain(|&i| {
        let asks = &asks[i as usize];
        let Some(&n) = number.get(form(asks).as_slice()) else { return true };
        let mut keys = vec![0];
        for ask in asks {
            keys = keys.iter().flat_map(|k| ask.values.iter().map(|v| joined(*k, *v))).collect();
        }
        for key in keys {
            let list = tables[n].clauses.entry(key).or_default();
            if list.last() != Some(&i) {
                list.push(i);
            }
        }
        false
    });
    tables
}

fn form(asks: &[Ask]) -> Vec<&Part> {
    asks.iter().map(|a| &a.part).collect()
}

/// The exact things a clause asks for, as many as its keys may be; in the parts' order.
fn asks(clause: &Clause, state: &RandomState) -> Vec<Ask> {
    let mut all: Vec<Ask> = clause.conds.iter().filter_map(|c| ask(c, state)).collect();
    all.sort_by_key(|a| a.values.len());
    let mut keys = 1;
    let mut first = true;
    all.retain(|a| {
        let most = if first { VALUES_MOST } else { KEYS_MOST };
        let fits = keys * a.values.len() <= most;
        if fits {
            keys *= a.values.len();
            first = false;
        }
        fits
    });
    all.sort_by(|a, b| a.part.cmp(&b.part));
    all
}

fn ask(cond: &Cond, state: &RandomState) -> Option<Ask> {
    let mut found = match cond {
        Cond::Text { subject, matcher, .. } => {
            let whole = || Part::Whole(subject.clone());
            match matcher {
                Matcher::Equals(v) => Ask { part: whole(), values: vec![state.hash_one(v.as_bytes())] },
                Matcher::In(vs) => {
                    Ask { part: whole(), values: vs.iter().map(|v| state.hash_one(v.as_bytes())).collect() }
                }
                Matcher::Prefix(v) if !v.is_empty() => Ask {
                    part: Part::Prefix(subject.clone(), v.len()),
                    values: vec![state.hash_one(v.as_bytes())],
                },
                _ => return None,
            }
        }
        Cond::Source { blocks, inside: true } => {
            let (base, prefix) = shape(blocks.first()?);
            if blocks.iter().any(|b| shape(b) != (base, prefix)) {
                return None;
            }
            Ask {
                part: Part::Block(base, prefix),
                values: blocks.iter().map(|b| state.hash_one(b)).collect(),
            }
        }
        Cond::Source { .. } => return None,
    };
    found.values.sort_unstable();
    found.values.dedup();
    (!found.values.is_empty()).then_some(found)
}

/// Whether a block is of IPv4, and its length.
fn shape(block: &Cidr) -> (bool, u8) {
    (matches!(block.base(), IpAddr::V4(_)), block.prefix())
}
