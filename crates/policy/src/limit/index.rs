//! Finds the few rules that can take a request, however many there are, in their order.
use crate::route::Attributes;
use crate::route::matcher::{Cond, value};
use ahash::RandomState;
use raddle_model::{Condition, Subject};
use std::collections::HashMap;

/// Fewer rules that look at a subject are tested one by one.
const WORTH_HASHING: usize = 8;
/// What rules are found by, the more telling first: a rule is entered under the first it demands exact values of.
const TABLES: [Subject; 3] = [Subject::Method, Subject::Service, Subject::CallerApp];

/// Rules by the exact value they demand of a subject, beside those that demand none; and their conditions.
#[derive(Debug, Default)]
pub(super) struct Index {
    rules: Vec<Entry>,
    tables: [Option<Table>; TABLES.len()],
    rest: Box<[u32]>,
}

/// A rule: its number, and what must hold.
#[derive(Debug)]
struct Entry {
    rule: u32,
    conds: Box<[Cond]>,
}

type Table = HashMap<Box<[u8]>, Vec<u32>, RandomState>;

impl Index {
    /// Of rules with their numbers, ascending.
    pub(super) fn new<'r>(rules: impl Iterator<Item = (u32, &'r [Condition])>) -> Index {
        let rules: Vec<_> =
            rules.map(|(rule, when)| Entry { rule, conds: when.iter().map(Cond::new).collect() }).collect();
        let mut left: Vec<u32> = (0..rules.len() as u32).collect();
        let mut tables = [const { None }; TABLES.len()];
        for (table, subject) in tables.iter_mut().zip(&TABLES) {
            let demanding = left.iter().filter(|&&i| rules[i as usize].demands(subject).is_some()).count();
            if demanding < WORTH_HASHING {
                continue;
            }
            let mut map = Table::default();
            left.retain(|&i| {
                let Some(values) = rules[i as usize].demands(subject) else { return true };
                for value in values {
                    let list = map.entry(value.as_bytes().into()).or_default();
                    if list.last() != Some(&i) {
                        list.push(i);
                    }
                }
                false
            });
            *table = Some(map);
        }
        Index { rules, tables, rest: left.into() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Enters the numbers of the rules that take a request, ascending.
    pub(super) fn taking(&self, req: &impl Attributes, out: &mut Vec<u32>) {
        let mut hold = |list: &[u32]| {
            let rules = list.iter().map(|&i| &self.rules[i as usize]);
            out.extend(rules.filter(|e| e.conds.iter().all(|c| c.holds(req))).map(|e| e.rule));
        };
        hold(&self.rest);
        for (table, subject) in self.tables.iter().zip(&TABLES) {
            if let Some(table) = table
                && let Some(list) = value(subject, req).and_then(|v| table.get(v))
            {
                hold(list);
            }
        }
        if self.tables.iter().any(Option::is_some) {
            out.sort_unstable();
        }
    }
}

impl Entry {
    /// The values the rule demands of the subject, if it demands exact ones.
    fn demands(&self, subject: &Subject) -> Option<&[String]> {
        self.conds.iter().filter(|c| c.source.subject == *subject).find_map(|c| c.exact_values())
    }
}
