//! A bounded set of named cells: the first names get series of their own, the rest share one.
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{Ordering::Acquire, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// The name that stands for all names beyond the bound.
pub(crate) const OTHER: &str = "other";

/// Cells whose counts can be added to others of their type.
pub(crate) trait Absorb: Default {
    fn absorb(&self, from: &Self);
}

/// The cells of one name: one set for each worker, made when the worker first asks.
#[derive(Debug)]
pub(crate) struct Entry<C> {
    labels: String,
    /// One for each worker, and a last one that only the table writes, for names that were let go.
    slots: Box<[OnceLock<Arc<C>>]>,
}

impl<C> Entry<C> {
    fn empty(labels: String, workers: usize) -> Entry<C> {
        Entry { labels, slots: (0..=workers).map(|_| OnceLock::new()).collect() }
    }

    /// An entry without labels, of cells that exist already.
    pub(crate) fn of(cells: impl Iterator<Item = Arc<C>>) -> Arc<Entry<C>> {
        Arc::new(Entry { labels: String::new(), slots: cells.map(OnceLock::from).collect() })
    }

    /// The sets of cells that exist.
    pub(crate) fn resolved(&self) -> impl Iterator<Item = &C> {
        self.slots.iter().filter_map(OnceLock::get).map(Arc::as_ref)
    }

    /// The entry's labels and `more`, as the text format writes them.
    pub(crate) fn labels_with(&self, more: &str) -> String {
        let comma = if self.labels.is_empty() || more.is_empty() { "" } else { "," };
        format!("{}{comma}{more}", self.labels)
    }

    /// Whether no worker holds a set of its cells any more.
    fn unused(&self) -> bool {
        self.slots.iter().filter_map(OnceLock::get).all(|cells| let_go(cells))
    }
}

/// What tells entries apart.
pub(crate) trait Name: Hash + Eq + Clone {
    /// The name that stands for this one when the table is full.
    fn other(&self) -> Self;
    /// The entry's labels, as the text format writes them.
    fn labels(&self) -> String;
}

/// Whether the cells' last writer let go of them; if so, all it wrote is seen from here on.
pub(crate) fn let_go<C>(cells: &Arc<C>) -> bool {
    let alone = Arc::strong_count(cells) == 1;
    // Letting go of an Arc is a release, asking for its count is no acquire.
    fence(Acquire);
    alone
}

/// A table of at most `bound` names, and of those that stand for all others.
#[derive(Debug)]
pub(crate) struct Table<K, C> {
    state: Mutex<State<K, C>>,
}

#[derive(Debug)]
struct State<K, C> {
    workers: usize,
    bound: usize,
    entries: HashMap<K, Arc<Entry<C>>>,
    others: HashMap<K, Arc<Entry<C>>>,
    /// Names refused since the last sweep: a sweep walks the whole table, so it is not made for each.
    refused: usize,
}

impl<K: Name, C: Absorb> Table<K, C> {
    pub(crate) fn new(workers: usize, bound: usize) -> Table<K, C> {
        let (entries, others) = (HashMap::new(), HashMap::new());
        Table { state: Mutex::new(State { workers, bound, entries, others, refused: bound }) }
    }

    /// The worker's cells of a name, or of `other` if the table is full of names in use.
    pub(crate) fn cells(&self, worker: usize, name: K) -> Arc<C> {
        let mut state = self.lock();
        let entry = state.entry(name);
        Arc::clone(entry.slots[worker].get_or_init(Arc::default))
    }

    /// Whether a new name may get no series of its own.
    pub(crate) fn is_full(&self) -> bool {
        let state = self.lock();
        state.entries.len() >= state.bound
    }

    /// All entries, in no order.
    pub(crate) fn entries(&self) -> Vec<(K, Arc<Entry<C>>)> {
        let state = self.lock();
        state.entries.iter().chain(&state.others).map(|(k, e)| (k.clone(), Arc::clone(e))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State<K, C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Name, C: Absorb> State<K, C> {
    fn entry(&mut self, name: K) -> Arc<Entry<C>> {
        if let Some(entry) = self.entries.get(&name) {
            return Arc::clone(entry);
        }
        if self.entries.len() >= self.bound {
            self.make_room();
        }
        let other = name.other();
        if self.entries.len() >= self.bound || name == other {
            return self.other(other);
        }
        let entry = Arc::new(Entry::empty(name.labels(), self.workers));
        self.entries.insert(name, Arc::clone(&entry));
        entry
    }

    fn other(&mut self, other: K) -> Arc<Entry<C>> {
        let workers = self.workers;
        let new = |other: &K| Arc::new(Entry::empty(other.labels(), workers));
        Arc::clone(self.others.entry(other.clone()).or_insert_with(|| new(&other)))
    }

    /// Lets go of names nobody holds; their counts go on in `other`, so that sums stay true.
    fn make_room(&mut self) {
        self.refused += 1;
        if self.refused <= self.bound / 8 {
            return;
        }
        self.refused = 0;
        let unused: Vec<_> = self.entries.extract_if(|_, entry| entry.unused()).collect();
        for (name, entry) in unused {
            let rest = self.other(name.other());
            let folded = rest.slots[self.workers].get_or_init(Arc::default);
            entry.resolved().for_each(|cells| folded.absorb(cells));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::HostCells;

    impl Name for &'static str {
        fn other(&self) -> &'static str {
            OTHER
        }

        fn labels(&self) -> String {
            format!("name=\"{self}\"")
        }
    }

    const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

    fn requests(table: &Table<&'static str, HostCells>, name: &str) -> Option<u64> {
        let (_, entry) = table.entries().into_iter().find(|(k, _)| *k == name)?;
        Some(entry.resolved().map(|cells| cells.requests.read()).sum())
    }

    #[test]
    fn names_beyond_the_bound_share_one_series() {
        let table = Table::<_, HostCells>::new(1, 4);
        let held: Vec<_> = NAMES.into_iter().map(|name| table.cells(0, name)).collect();
        for cells in &held {
            cells.requests.inc();
        }
        assert_eq!(table.entries().len(), 5);
        assert_eq!(requests(&table, OTHER), Some(2));
        assert_eq!(requests(&table, "f"), None);
    }

    #[test]
    fn the_same_name_has_one_set_of_cells_for_each_worker() {
        let table = Table::<_, HostCells>::new(2, 4);
        assert!(Arc::ptr_eq(&table.cells(0, "a"), &table.cells(0, "a")));
        assert!(!Arc::ptr_eq(&table.cells(0, "a"), &table.cells(1, "a")));
    }

    #[test]
    fn a_name_nobody_holds_makes_room_and_its_counts_stay_in_the_sum() {
        let table = Table::<_, HostCells>::new(1, 2);
        let held = table.cells(0, "a");
        table.cells(0, "b").requests.add(5);
        table.cells(0, "c").requests.add(1);
        assert_eq!(requests(&table, "b"), None);
        assert_eq!(requests(&table, OTHER), Some(5));
        assert_eq!(requests(&table, "c"), Some(1));
        held.requests.inc();
        assert_eq!(requests(&table, "a"), Some(1));
    }

    #[test]
    fn a_bound_of_none_leaves_only_other() {
        let table = Table::<_, HostCells>::new(1, 0);
        table.cells(0, "a").requests.inc();
        assert_eq!((table.entries().len(), requests(&table, OTHER)), (1, Some(1)));
    }
}
