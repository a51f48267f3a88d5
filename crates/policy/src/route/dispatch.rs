//! Finds the few rules of a service that can match a request, however many it has, in their order.
use crate::route::Attributes;
use crate::route::matcher::value;
use crate::route::plan::Slot;
use ahash::RandomState;
use raddle_model::Subject;
use std::collections::HashMap;

/// Fewer rules that look at a subject are tested one by one.
const WORTH_HASHING: usize = 16;
/// Most subjects that are hashed; each costs one look-up a request.
const MAX_TABLES: usize = 4;
/// Most subjects considered, so that compiling stays linear in the rules.
const MAX_SUBJECTS: usize = 64;

/// Rules by the exact value they demand of a subject, beside those that demand none.
#[derive(Debug, Default)]
pub(crate) struct Dispatch {
    tables: Vec<Table>,
    rest: Box<[u32]>,
}

#[derive(Debug)]
struct Table {
    subject: Subject,
    rules: HashMap<Box<[u8]>, Vec<u32>, RandomState>,
}

impl Dispatch {
    pub(crate) fn new(slots: &[Slot]) -> Dispatch {
        let mut left: Vec<u32> = (0..slots.len() as u32).collect();
        let mut tables = Vec::new();
        while tables.len() < MAX_TABLES {
            let Some(subject) = most_demanded(slots, &left) else { break };
            let mut rules: HashMap<Box<[u8]>, Vec<u32>, RandomState> = HashMap::default();
            left.retain(|&i| match demands(&slots[i as usize], &subject) {
                Some(values) => {
                    for value in values {
                        let list = rules.entry(value.as_bytes().into()).or_default();
                        if list.last() != Some(&i) {
                            list.push(i);
                        }
                    }
                    false
                }
                None => true,
            });
            tables.push(Table { subject, rules });
        }
        Dispatch { tables, rest: left.into_boxed_slice() }
    }

    /// The rules that can match, in order.
    pub(crate) fn candidates(&self, req: &impl Attributes) -> Candidates<'_> {
        let mut lists: [&[u32]; MAX_TABLES + 1] = [&[]; MAX_TABLES + 1];
        lists[0] = &self.rest;
        for (list, table) in lists[1..].iter_mut().zip(&self.tables) {
            if let Some(rules) = value(&table.subject, req).and_then(|v| table.rules.get(v)) {
                *list = rules;
            }
        }
        Candidates { lists, used: self.tables.len() + 1 }
    }
}

/// Merges ascending lists of rules.
pub(crate) struct Candidates<'d> {
    lists: [&'d [u32]; MAX_TABLES + 1],
    used: usize,
}

impl Iterator for Candidates<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let list = self.lists[..self.used].iter_mut().filter(|l| !l.is_empty()).min_by_key(|l| l[0])?;
        let (&first, rest) = list.split_first()?;
        *list = rest;
        Some(first)
    }
}

/// The values the rule demands of the subject, if it demands exact ones.
fn demands<'s>(slot: &'s Slot, subject: &Subject) -> Option<&'s [String]> {
    slot.rule().conds.iter().filter(|c| c.source.subject == *subject).find_map(|c| c.exact_values())
}

fn most_demanded(slots: &[Slot], left: &[u32]) -> Option<Subject> {
    if left.len() < WORTH_HASHING {
        return None;
    }
    let mut count: Vec<(&Subject, usize)> = Vec::new();
    for &i in left {
        for cond in &slots[i as usize].rule().conds {
            if cond.exact_values().is_some() {
                if let Some((_, n)) = count.iter_mut().find(|(s, _)| **s == cond.source.subject) {
                    *n += 1;
                } else if count.len() < MAX_SUBJECTS {
                    count.push((&cond.source.subject, 1));
                }
            }
        }
    }
    let (subject, n) = count.into_iter().max_by_key(|(_, n)| *n)?;
    (n >= WORTH_HASHING).then(|| subject.clone())
}
