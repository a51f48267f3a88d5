//! What a stream asked for of one kind, and what about it must be looked at again.
use super::View;
use super::options::Limits;
use crate::resource::{Resource, fnv};
use crate::types::Kind;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// The name that stands for whatever there is.
pub(super) const ANY: &str = "*";

/// A request that ends its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// It makes no sense.
    Malformed(String),
    /// It asks for more than a stream may.
    TooMuch(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Malformed(why) | Violation::TooMuch(why) => f.write_str(why),
        }
    }
}

/// What a stream asked for of one kind.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    /// A request of this kind has come.
    pub(super) seen: bool,
    /// Names were given at some time, so that none means none; before, it meant [`ANY`].
    named: bool,
    /// Whatever there is.
    pub(super) wildcard: bool,
    /// Those named.
    pub(super) names: BTreeSet<Arc<str>>,
}

/// What a request changed of a subscription.
#[derive(Debug, Default)]
pub(super) struct Changed {
    pub(super) added: Vec<Arc<str>>,
    pub(super) dropped: Vec<Arc<str>>,
    pub(super) wildcard_began: bool,
    pub(super) wildcard_ended: bool,
}

impl Changed {
    pub(super) fn any(&self) -> bool {
        self.wildcard_began || self.wildcard_ended || !self.added.is_empty() || !self.dropped.is_empty()
    }
}

impl Subscription {
    /// Whether anything is wanted.
    pub(super) fn active(&self) -> bool {
        self.wildcard || !self.names.is_empty()
    }

    /// Whether that resource is wanted, by its name or with all.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Takes the whole set of names of a state-of-the-world request.
    pub(super) fn replace(&mut self, kind: Kind, names: &[String]) -> Changed {
        let wanted: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        self.named |= !wanted.is_empty();
        let wildcard = wanted.contains(ANY) || (!self.named && kind.whole());
        let mut changed = self.turn(wildcard);
        changed.dropped = self.names.iter().filter(|n| !wanted.contains(&***n)).cloned().collect();
        for name in &changed.dropped {
            self.names.remove(name);
        }
        for name in wanted {
            self.add(name, &mut changed);
        }
        changed
    }

    /// Takes the changes of an incremental request. A name in both lists stays subscribed, and counts as added.
    pub(super) fn amend(&mut self, kind: Kind, subscribe: &[String], unsubscribe: &[String]) -> Changed {
        let mut wildcard = self.wildcard || (!self.seen && subscribe.is_empty() && kind.whole());
        wildcard &= !unsubscribe.iter().any(|n| n == ANY);
        wildcard |= subscribe.iter().any(|n| n == ANY);
        self.named |= !subscribe.is_empty();
        let mut changed = self.turn(wildcard);
        for name in unsubscribe {
            if let Some(name) = self.names.take(name.as_str()) {
                changed.dropped.push(name);
            }
        }
        for name in subscribe {
            self.add(name, &mut changed);
        }
        changed
    }

    fn turn(&mut self, wildcard: bool) -> Changed {
        let was = std::mem::replace(&mut self.wildcard, wildcard);
        self.seen = true;
        Changed { wildcard_began: wildcard && !was, wildcard_ended: was && !wildcard, ..Changed::default() }
    }

    fn add(&mut self, name: &str, changed: &mut Changed) {
        if name != ANY && !self.names.contains(name) {
            let name: Arc<str> = name.into();
            self.names.insert(Arc::clone(&name));
            changed.added.push(name);
        }
    }
}

/// Refuses names no stream may give: before anything is kept of them.
pub(super) fn check<'a>(
    limits: &Limits,
    kept: usize,
    names: impl ExactSizeIterator<Item = &'a String>,
) -> Result<(), Violation> {
    if kept + names.len() > limits.names {
        return Err(Violation::TooMuch(format!(
            "{} names on one stream, at most {} are allowed",
            kept + names.len(),
            limits.names
        )));
    }
    for name in names {
        if name.len() > limits.name_bytes {
            return Err(Violation::TooMuch(format!(
                "a resource name has {} bytes, at most {} are allowed",
                name.len(),
                limits.name_bytes
            )));
        }
        if name.is_empty() {
            return Err(Violation::Malformed("a resource name is empty".into()));
        }
    }
    Ok(())
}

/// Names that may differ from what the client has. More than a few thousand count as all.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    pub(super) all: bool,
    pub(super) names: BTreeSet<Arc<str>>,
}

impl Suspects {
    const MOST: usize = 4096;

    pub(super) fn everything() -> Suspects {
        Suspects { all: true, names: BTreeSet::new() }
    }

    pub(super) fn any(&self) -> bool {
        self.all || !self.names.is_empty()
    }

    pub(super) fn add(&mut self, name: Arc<str>) {
        if !self.all {
            self.names.insert(name);
            if self.names.len() > Suspects::MOST {
                *self = Suspects::everything();
            }
        }
    }
}

/// Tells each kind what may have changed since the generation last looked at. Gives the new one.
pub(super) fn suspect(
    since: Option<u64>,
    view: &dyn View,
    mut mark: impl FnMut(Kind, Option<Arc<str>>),
) -> u64 {
    let now = view.generation();
    let Some(since) = since else { return now };
    if now == since {
        return now;
    }
    match view.changed(since) {
        Some(list) => list.into_iter().for_each(|(kind, name)| mark(kind, Some(name))),
        None => Kind::ALL.into_iter().for_each(|kind| mark(kind, None)),
    }
    now
}

/// Hash over names and versions, whatever their order: kept up to date by each change of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Digest(u64);

impl Digest {
    /// That of resources.
    pub(super) fn of(resources: &BTreeMap<Arc<str>, Arc<Resource>>) -> Digest {
        let mut digest = Digest::default();
        for (name, resource) in resources {
            digest.add(name, &resource.version);
        }
        digest
    }

    pub(super) fn add(&mut self, name: &str, version: &str) {
        self.0 = self.0.wrapping_add(one(name, version));
    }

    pub(super) fn remove(&mut self, name: &str, version: &str) {
        self.0 = self.0.wrapping_sub(one(name, version));
    }

    pub(super) fn text(self) -> String {
        format!("{:016x}", self.0)
    }
}

fn one(name: &str, version: &str) -> u64 {
    // A name holds no line break that a version could be confused with: versions are hexadecimal.
    fnv(format!("{version}\n{name}").as_bytes())
}

/// The place of a kind in [`Kind::ALL`].
pub(super) fn index(kind: Kind) -> usize {
    kind as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn kinds_stand_in_the_order_in_which_they_are_sent() {
        for (i, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(index(kind), i);
        }
    }

    #[test]
    fn the_wildcard_example_of_the_protocol_in_state_of_the_world() {
        let mut s = Subscription::default();
        assert!(s.replace(Kind::Cluster, &[]).wildcard_began);
        let c = s.replace(Kind::Cluster, &names(&["*", "A"]));
        assert!(!c.wildcard_began && !c.wildcard_ended && c.added.len() == 1);
        assert!(s.replace(Kind::Cluster, &names(&["A"])).wildcard_ended);
        assert_eq!(s.replace(Kind::Cluster, &[]).dropped.len(), 1);
        assert!(!s.active());
    }

    #[test]
    fn the_wildcard_example_of_the_protocol_in_delta() {
        let mut s = Subscription::default();
        assert!(s.amend(Kind::Cluster, &[], &[]).wildcard_began);
        assert!(!s.amend(Kind::Cluster, &names(&["A"]), &[]).wildcard_ended);
        assert!(s.wildcard);
        assert!(s.amend(Kind::Cluster, &[], &names(&["*"])).wildcard_ended);
        s.amend(Kind::Cluster, &[], &names(&["A"]));
        assert!(!s.active());
        s.amend(Kind::Cluster, &[], &[]);
        assert!(!s.active());
    }

    #[test]
    fn no_names_of_endpoints_mean_none() {
        let mut s = Subscription::default();
        s.replace(Kind::Endpoints, &[]);
        assert!(!s.active());
    }

    #[test]
    fn a_digest_does_not_depend_on_the_way_there() {
        let (mut a, mut b) = (Digest::default(), Digest::default());
        a.add("x", "1");
        a.add("y", "2");
        b.add("y", "1");
        b.remove("y", "1");
        b.add("y", "2");
        b.add("x", "1");
        assert_eq!(a, b);
        b.remove("x", "1");
        b.add("x", "2");
        assert_ne!(a, b);
    }
}
