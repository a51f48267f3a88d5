//! `kind: RateLimit`, compiled.
use super::hot::{self, Hot};
use super::index::Index;
use super::rate::{Meter, Pace};
use crate::permits;
use ahash::RandomState;
use raddle_core::Reason;
use raddle_model::{Bound, Rate, RateLimit, Reach, RuleMode, Side};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The rate limits of a sidecar.
#[derive(Debug, Default)]
pub(super) struct Program {
    /// In the order of the chain.
    pub(super) rules: Vec<Rule>,
    inbound: Index,
    outbound: Index,
}

/// One rule.
#[derive(Debug)]
pub(super) struct Rule {
    /// Index into the rules as they were given.
    pub(super) index: u32,
    pub(super) side: Side,
    pub(super) observe: bool,
    /// `RateLimit/NAME`.
    pub(super) name: Arc<str>,
    /// What is short when it holds a request.
    pub(super) detail: Arc<str>,
    pub(super) link: Link,
    pub(super) shared: Arc<Shared>,
    /// Counts changes of what it says.
    pub(super) version: u64,
    /// Its bound is nothing.
    none: bool,
}

/// A link of the chain, in its order. Pacing comes late, as a slot that was reserved cannot always be given back.
#[derive(Debug)]
pub(super) enum Link {
    Concurrency(u32),
    Rate(Pace),
    Hot(Hot),
    Paced(Pace, Duration),
    Cluster,
}

/// What workers share of a rule, and later versions of it take over.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) meter: Meter,
    pub(super) permits: Arc<permits::Shared>,
    /// One for each worker; who reads them takes the lock, who writes them does so once.
    cells: Mutex<Vec<Arc<Cell>>>,
}

/// What a worker counted, written by it alone; in cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Cell {
    passed: AtomicU64,
    held: AtomicU64,
    /// Would have been held, of a rule that observes.
    observed: AtomicU64,
    waited: AtomicU64,
}

impl Cell {
    pub(super) fn passed(&self) {
        add(&self.passed);
    }

    /// The rule says no, and perhaps only observes.
    pub(super) fn held(&self, observes: bool) {
        add(if observes { &self.observed } else { &self.held });
    }

    pub(super) fn waited(&self) {
        add(&self.waited);
    }
}

/// There is one writer, so nothing needs to be locked.
fn add(n: &AtomicU64) {
    n.store(n.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// Requests that passed, were held, would have been, or waited.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) passed: u64,
    pub(super) held: u64,
    pub(super) observed: u64,
    pub(super) waited: u64,
}

impl Shared {
    pub(super) fn cell(&self) -> Arc<Cell> {
        let cell = Arc::new(Cell::default());
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        // Cells of workers that are gone become one.
        if cells.len() >= 256 {
            let (gone, live): (Vec<_>, Vec<_>) = cells.drain(..).partition(|c| Arc::strong_count(c) == 1);
            let sum = Cell::default();
            for cell in &gone {
                sum.add(cell);
            }
            *cells = live;
            cells.push(Arc::new(sum));
        }
        cells.push(cell.clone());
        cell
    }

    pub(super) fn counts(&self) -> Counts {
        let sum = Cell::default();
        for cell in self.cells.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            sum.add(cell);
        }
        let [passed, held, observed, waited] = sum.read();
        Counts { passed, held, observed, waited }
    }
}

impl Cell {
    fn read(&self) -> [u64; 4] {
        [&self.passed, &self.held, &self.observed, &self.waited].map(|n| n.load(Ordering::Relaxed))
    }

    fn add(&self, other: &Cell) {
        for (sum, n) in [&self.passed, &self.held, &self.observed, &self.waited].into_iter().zip(other.read())
        {
            sum.fetch_add(n, Ordering::Relaxed);
        }
    }
}

impl Program {
    pub(super) fn new(sources: &[&RateLimit], prev: Option<&Program>) -> Program {
        let old: HashMap<&str, &Rule, RandomState> =
            prev.into_iter().flat_map(|p| &p.rules).map(|r| (&*r.name, r)).collect();
        let rules = sources.iter().zip(0..).map(|(source, index)| {
            let name = format!("RateLimit/{}", source.metadata.name);
            Rule::new(source, index, &name, old.get(name.as_str()).copied())
        });
        let mut rules: Vec<Rule> = rules.collect();
        rules.sort_by_key(|r| (r.link.rank(), r.index));
        let of = |side: Side| {
            let numbered = (0..).zip(&rules).filter(|(_, r)| r.side == side);
            Index::new(numbered.map(|(i, r)| (i, &*sources[r.index as usize].when)))
        };
        let (inbound, outbound) = (of(Side::Inbound), of(Side::Outbound));
        Program { rules, inbound, outbound }
    }

    pub(super) fn index(&self, side: Side) -> &Index {
        match side {
            Side::Inbound => &self.inbound,
            Side::Outbound => &self.outbound,
        }
    }
}

impl Rule {
    fn new(source: &RateLimit, index: u32, name: &str, old: Option<&Rule>) -> Rule {
        let old = old.filter(|o| o.side == source.side);
        let link = Link::new(source, old.map(|o| &o.link));
        // A rule that is of another kind now begins anew, and one whose values lie in other places: what requests in
        // flight hold of the places of before says nothing about these.
        let old = old.filter(|o| o.link.rank() == link.rank() && o.link.same_places(&link));
        let detail = detail(source);
        let version = match old {
            Some(old) if old.detail == detail => old.version,
            Some(old) => old.version + 1,
            None => 1,
        };
        Rule {
            index,
            side: source.side,
            observe: source.mode == RuleMode::Observe,
            name: old.map_or_else(|| name.into(), |o| o.name.clone()),
            detail,
            link,
            shared: old.map(|o| o.shared.clone()).unwrap_or_default(),
            version,
            none: matches!(&source.bound, Bound::Rate(rate) if rate.per_second <= 0.0),
        }
    }

    /// Whether nothing passes it at all.
    pub(super) fn never(&self) -> bool {
        match &self.link {
            Link::Concurrency(most) => *most == 0,
            Link::Rate(pace) | Link::Paced(pace, _) => pace.never(),
            Link::Hot(_) => false,
            Link::Cluster => self.none,
        }
    }

    pub(super) fn reason(&self) -> Reason {
        match self.link {
            Link::Concurrency(_) | Link::Rate(_) | Link::Paced(..) => Reason::RateLimited,
            Link::Hot(_) => Reason::HotspotLimited,
            Link::Cluster => Reason::ClusterLimited,
        }
    }
}

impl Link {
    fn same_places(&self, other: &Link) -> bool {
        match (self, other) {
            (Link::Hot(one), Link::Hot(other)) => one.same_places(other),
            _ => true,
        }
    }

    fn new(source: &RateLimit, old: Option<&Link>) -> Link {
        let old = match old {
            Some(Link::Hot(hot)) => Some(hot),
            _ => None,
        };
        match (&source.key, &source.bound) {
            (Some(key), bound) => Link::Hot(Hot::new(key, bound, old)),
            (None, Bound::Concurrency(most)) => Link::Concurrency(*most),
            (None, Bound::Rate(Rate { reach: Reach::Cluster, .. })) => Link::Cluster,
            (None, Bound::Rate(rate)) => {
                let pace = |burst| Pace::new(rate.per_second, burst, rate.warm_up);
                match rate.max_wait {
                    Some(wait) => Link::Paced(pace(1), wait),
                    None => Link::Rate(pace(rate.burst)),
                }
            }
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Link::Concurrency(_) => 0,
            Link::Rate(_) => 1,
            Link::Hot(_) => 2,
            Link::Paced(..) => 3,
            Link::Cluster => 4,
        }
    }
}

/// What is short when the rule holds a request, in all that tells it from another bound.
fn detail(source: &RateLimit) -> Arc<str> {
    let each = source.key.as_ref().map(|key| format!(" for each value of {}", hot::describe(&key.by)));
    let each = each.unwrap_or_default();
    match &source.bound {
        Bound::Rate(rate) if rate.reach == Reach::Cluster => {
            format!("{} over all sidecars", over_rate(rate.per_second)).into()
        }
        Bound::Rate(rate) => {
            let wait = rate.max_wait.map(|w| format!(", even after waiting {w:?}")).unwrap_or_default();
            let warm = rate.warm_up.map(|w| format!(", less in the first {w:?}")).unwrap_or_default();
            format!("{}{each}{wait}{warm}", over_rate(rate.per_second)).into()
        }
        Bound::Concurrency(n) => format!("{}{each}", over_at_once(f64::from(*n))).into(),
    }
}

pub(super) fn over_rate(per_second: f64) -> String {
    match per_second {
        0.0 => "none may pass".into(),
        1.0 => "over 1 request a second".into(),
        n => format!("over {n} requests a second"),
    }
}

pub(super) fn over_at_once(n: f64) -> String {
    match n {
        0.0 => "none may pass".into(),
        1.0 => "over 1 request at the same time".into(),
        n => format!("over {n} requests at the same time"),
    }
}
