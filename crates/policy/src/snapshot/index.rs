//! Bitmap indexes over what endpoints say of themselves, so that a destination's members are found by
//! ANDing a few words instead of asking every endpoint.
use raddle_model::Labels;
use std::collections::HashMap;

/// A set of small numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bitmap(Vec<u64>);

impl Bitmap {
    fn set(&mut self, i: u32) {
        let word = i as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (i % 64);
    }

    fn clear(&mut self, i: u32) {
        if let Some(word) = self.0.get_mut(i as usize / 64) {
            *word &= !(1 << (i % 64));
        }
    }

    fn and(&mut self, other: Option<&Bitmap>) {
        let Some(other) = other else { return self.0.clear() };
        self.0.truncate(other.0.len());
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            *a &= b;
        }
    }

    /// Its numbers, ascending.
    pub fn numbers(&self) -> Box<[u32]> {
        let mut out = Vec::with_capacity(self.0.iter().map(|w| w.count_ones() as usize).sum());
        for (word, &bits) in self.0.iter().enumerate() {
            let mut bits = bits;
            while bits != 0 {
                out.push(word as u32 * 64 + bits.trailing_zeros());
                bits &= bits - 1;
            }
        }
        out.into_boxed_slice()
    }
}

/// What is indexed of one endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Traits<'a> {
    /// Its group.
    pub group: &'a str,
    /// Its unit.
    pub unit: Option<&'a str>,
    /// Its labels.
    pub labels: &'a Labels,
    /// Its weight; 0 is in no selection.
    pub weight: u32,
}

/// What is asked of endpoints; absent = anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Query {
    /// Their group.
    pub group: Option<String>,
    /// Their unit.
    pub unit: Option<String>,
    /// Labels they must carry.
    pub labels: Labels,
}

impl Query {
    /// Whether an endpoint is what is asked for: the plain meaning of [`LabelIndex::select`].
    pub fn holds(&self, of: Traits<'_>) -> bool {
        of.weight > 0
            && self.group.as_deref().is_none_or(|g| g == of.group)
            && self.unit.as_deref().is_none_or(|u| Some(u) == of.unit)
            && self.labels.iter().all(|(k, v)| of.labels.get(k) == Some(v))
    }
}

type Values = HashMap<String, Bitmap, ahash::RandomState>;

/// Bitmaps of endpoints by group, unit and label value. Built in O(endpoints × labels); one endpoint's
/// change costs O(its labels).
#[derive(Clone, Debug, Default)]
pub struct LabelIndex {
    weighted: Bitmap,
    groups: Values,
    units: Values,
    labels: HashMap<String, Values, ahash::RandomState>,
}

impl LabelIndex {
    /// Adds endpoint `i`, which must not be in it.
    pub fn insert(&mut self, i: u32, of: Traits<'_>) {
        if of.weight > 0 {
            self.weighted.set(i);
        }
        set(&mut self.groups, of.group, i);
        if let Some(unit) = of.unit {
            set(&mut self.units, unit, i);
        }
        for (key, value) in of.labels {
            if let Some(values) = self.labels.get_mut(key) {
                set(values, value, i);
            } else {
                let mut values = Values::default();
                set(&mut values, value, i);
                self.labels.insert(key.clone(), values);
            }
        }
    }

    /// Removes endpoint `i`, which must be in it with just these traits.
    pub fn remove(&mut self, i: u32, of: Traits<'_>) {
        self.weighted.clear(i);
        if let Some(map) = self.groups.get_mut(of.group) {
            map.clear(i);
        }
        if let Some(map) = of.unit.and_then(|u| self.units.get_mut(u)) {
            map.clear(i);
        }
        for (key, value) in of.labels {
            if let Some(map) = self.labels.get_mut(key).and_then(|v| v.get_mut(value)) {
                map.clear(i);
            }
        }
    }

    /// The endpoints that are what is asked for, ascending.
    pub fn select(&self, query: &Query) -> Box<[u32]> {
        let mut found = self.weighted.clone();
        if let Some(group) = &query.group {
            found.and(self.groups.get(group));
        }
        if let Some(unit) = &query.unit {
            found.and(self.units.get(unit));
        }
        for (key, value) in &query.labels {
            found.and(self.labels.get(key).and_then(|values| values.get(value)));
        }
        found.numbers()
    }
}

/// Puts `i` into the bitmap of `value`; the key is copied only when it is new.
fn set(values: &mut Values, value: &str, i: u32) {
    match values.get_mut(value) {
        Some(map) => map.set(i),
        None => {
            let mut map = Bitmap::default();
            map.set(i);
            values.insert(value.to_owned(), map);
        }
    }
}
