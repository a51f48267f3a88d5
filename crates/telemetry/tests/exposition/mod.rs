//! A strict reader of the Prometheus text format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>): it refuses what a server would only
//! tolerate.
use std::collections::{BTreeMap, BTreeSet};

/// A page that was read.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) families: BTreeMap<String, Family>,
    samples: Vec<Sample>,
}

#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) help: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Sample {
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }
}

impl Page {
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.samples.iter().find(|s| s.name == name && s.labels == labels).map(|s| s.value)
    }

    pub(crate) fn series(&self, name: &str) -> Vec<&Sample> {
        self.samples.iter().filter(|s| s.name == name).collect()
    }

    pub(crate) fn assert_not_below(&self, earlier: &Page) {
        let now: BTreeMap<_, _> = self.samples.iter().map(|s| ((&s.name, &s.labels), s.value)).collect();
        for sample in &earlier.samples {
            let family = family_of(&sample.name, &earlier.families).expect("was read");
            if family.1.kind == "gauge" {
                continue;
            }
            let value = now.get(&(&sample.name, &sample.labels)).expect("a series went away");
            assert!(*value >= sample.value, "{sample:?} fell to {value}");
        }
    }
}

/// Reads a page, or says what is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Page, String> {
    let mut page = Page::default();
    let mut open = String::new();
    let mut seen = BTreeSet::new();
    if !text.ends_with('\n') {
        return Err("the last line does not end".into());
    }
    for line in text.lines() {
        let wrong = |why: &str| format!("{why}: {line}");
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or_else(|| wrong("no help"))?;
            valid_name(name).then_some(()).ok_or_else(|| wrong("bad name"))?;
            let family = Family { kind: String::new(), help: help.to_owned() };
            if page.families.insert(name.to_owned(), family).is_some() {
                return Err(wrong("a family comes twice"));
            }
            name.clone_into(&mut open);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or_else(|| wrong("no type"))?;
            if name != open || !["counter", "gauge", "histogram"].contains(&kind) {
                return Err(wrong("a type out of place"));
            }
            let family = page.families.get_mut(name).ok_or_else(|| wrong("no help"))?;
            kind.clone_into(&mut family.kind);
        } else {
            let sample = parse_sample(line).ok_or_else(|| wrong("no sample"))?;
            let (family, _) = family_of(&sample.name, &page.families).ok_or_else(|| wrong("of no family"))?;
            if family != open {
                return Err(wrong("a family in pieces"));
            }
            if !seen.insert((sample.name.clone(), sample.labels.clone())) {
                return Err(wrong("a series comes twice"));
            }
            page.samples.push(sample);
        }
    }
    check_histograms(&page)?;
    Ok(page)
}

/// The family a sample belongs to: its own name, or for a histogram that without the suffix.
fn family_of<'a>(name: &str, families: &'a BTreeMap<String, Family>) -> Option<(&'a str, &'a Family)> {
    let direct = families.get_key_value(name).filter(|(_, f)| f.kind != "histogram");
    let suffixed = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| {
        families.get_key_value(name.strip_suffix(suffix)?).filter(|(_, f)| f.kind == "histogram")
    });
    direct.or(suffixed).map(|(name, family)| (name.as_str(), family))
}

fn valid_name(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit())
}

fn parse_sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    let value = match rest.strip_prefix('{') {
        Some(mut rest) => loop {
            let (key, after) = rest.split_once("=\"")?;
            let (value, after) = parse_value(after)?;
            if !valid_name(key) || labels.insert(key.to_owned(), value).is_some() {
                return None;
            }
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None => break after.strip_prefix("} ")?,
            }
        },
        None => rest.strip_prefix(' ')?,
    };
    valid_name(name).then_some(())?;
    Some(Sample { name: name.to_owned(), labels, value: value.parse().ok()? })
}

/// Reads a label value and what comes after its closing quote.
fn parse_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                c @ ('"' | '\\') => c,
                _ => return None,
            }),
            c => value.push(c),
        }
    }
    None
}

/// Buckets come in the order of their bounds, grow with them and end in +Inf, and that one is the count.
fn check_histograms(page: &Page) -> Result<(), String> {
    let mut last: Option<(f64, &Sample)> = None;
    for sample in &page.samples {
        let before = last;
        let wrong = |why: &str| Err(format!("{why}: {sample:?} after {before:?}"));
        if sample.name.ends_with("_bucket") {
            let Some(bound) = sample.label("le").and_then(|le| le.parse::<f64>().ok()) else {
                return wrong("a bucket without a bound");
            };
            if let Some((before, bucket)) = last.filter(|(before, _)| before.is_finite())
                && (bound <= before || sample.value < bucket.value || sample.name != bucket.name)
            {
                return wrong("buckets out of order");
            }
            last = Some((bound, sample));
        } else if sample.name.ends_with("_count") {
            let Some((bound, bucket)) = last.take() else { return wrong("a count without buckets") };
            let rest = bucket.labels.iter().filter(|(k, _)| *k != "le");
            if bound.is_finite()
                || bucket.value.to_bits() != sample.value.to_bits()
                || !rest.eq(&sample.labels)
            {
                return wrong("the count is not that of the last bucket");
            }
        }
    }
    Ok(())
}
