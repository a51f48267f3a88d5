//! What workers counted: one cell per worker and interface, written by that worker alone; and the orders in force.
use super::orders::Orders;
use super::{InterfaceId, Why};
use ahash::AHashMap;
use arc_swap::ArcSwap;
use raddle_model::{AdaptiveSettings, Priority, RuleMode};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Cells of a page: what is allocated when a worker first meets one of its interfaces.
const PAGE: usize = 32;

/// Classes of [`Priority`].
pub(super) const CLASSES: usize = 4;

/// What workers and the controller share.
#[derive(Debug)]
pub struct Board {
    shards: Box<[Shard]>,
    names: Mutex<Names>,
    most: u32,
    observe: AtomicBool,
    /// Of the orders below: all that a gate compares for each request.
    generation: AtomicU64,
    orders: ArcSwap<Orders>,
}

#[derive(Debug, Default)]
struct Names {
    ids: AHashMap<Arc<str>, InterfaceId>,
    /// By id; the first is the shared place.
    list: Vec<Arc<str>>,
}

/// One worker's cells.
#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    /// CPU seconds that its requests in flight still want, by the controller's estimate: an `f64`'s bits.
    busy: AtomicU64,
    pages: Box<[OnceLock<Box<[Cell; PAGE]>>]>,
}

/// What one worker counted for one interface since the start; counters wrap, their differences do not.
#[derive(Debug, Default)]
pub(super) struct Cell {
    offered: [AtomicU32; CLASSES],
    refused: [AtomicU32; 4],
    completed: AtomicU32,
    failed: AtomicU32,
    inflight: AtomicU32,
    /// Completions for which the app said their cost.
    priced: AtomicU32,
    /// Of completions, in microseconds.
    latency: AtomicU64,
    /// CPU time the app said, in microseconds.
    cost: AtomicU64,
}

/// A cell's counters, or the sum of several.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub offered: [u32; CLASSES],
    pub refused: [u32; 4],
    pub completed: u32,
    pub failed: u32,
    pub priced: u32,
    pub inflight: u32,
    pub latency: u64,
    pub cost: u64,
}

/// Adds as the one writer of a counter does: without a locked instruction.
fn bump(counter: &AtomicU32) {
    counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
}

fn grow(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
}

impl Cell {
    pub(super) fn offer(&self, priority: Priority) {
        bump(&self.offered[priority as usize]);
    }

    pub(super) fn refuse(&self, why: Why) {
        bump(&self.refused[why as usize]);
    }

    pub(super) fn enter(&self) {
        bump(&self.inflight);
    }

    /// Whether one was in flight: an end without a beginning counts for nothing.
    pub(super) fn leave(&self) -> bool {
        let before = self.inflight.load(Relaxed);
        self.inflight.store(before.saturating_sub(1), Relaxed);
        before > 0
    }

    pub(super) fn end(&self, micros: u64, cost: Option<u64>, failed: bool) {
        bump(&self.completed);
        grow(&self.latency, micros);
        if failed {
            bump(&self.failed);
        }
        if let Some(cost) = cost {
            bump(&self.priced);
            grow(&self.cost, cost);
        }
    }

    pub(super) fn inflight(&self) -> u32 {
        self.inflight.load(Relaxed)
    }

    /// Load-test traffic apart.
    fn offers(&self) -> u32 {
        self.offered[1..].iter().fold(0, |sum, n| sum.wrapping_add(n.load(Relaxed)))
    }

    fn add_to(&self, sum: &mut Counts) {
        for (to, from) in sum.offered.iter_mut().zip(&self.offered) {
            *to = to.wrapping_add(from.load(Relaxed));
        }
        for (to, from) in sum.refused.iter_mut().zip(&self.refused) {
            *to = to.wrapping_add(from.load(Relaxed));
        }
        sum.completed = sum.completed.wrapping_add(self.completed.load(Relaxed));
        sum.failed = sum.failed.wrapping_add(self.failed.load(Relaxed));
        sum.priced = sum.priced.wrapping_add(self.priced.load(Relaxed));
        sum.inflight = sum.inflight.wrapping_add(self.inflight.load(Relaxed));
        sum.latency = sum.latency.wrapping_add(self.latency.load(Relaxed));
        sum.cost = sum.cost.wrapping_add(self.cost.load(Relaxed));
    }
}

impl Board {
    /// A board for this many workers.
    pub fn new(workers: usize, settings: &AdaptiveSettings) -> Board {
        let most = settings.max_interfaces.clamp(1, 1_000_000);
        let pages = (most as usize + 1).div_ceil(PAGE);
        let shard =
            |_| Shard { busy: AtomicU64::new(0), pages: (0..pages).map(|_| OnceLock::new()).collect() };
        Board {
            shards: (0..workers.max(1)).map(shard).collect(),
            names: Mutex::new(Names { ids: AHashMap::new(), list: vec!["*".into()] }),
            most,
            observe: AtomicBool::new(settings.mode == RuleMode::Observe),
            generation: AtomicU64::new(0),
            orders: ArcSwap::from_pointee(Orders::default()),
        }
    }

    /// The id of an interface, given to it when it is first asked for; 0, the shared place, once there are
    /// [`AdaptiveSettings::max_interfaces`]. Takes a lock: workers keep what they learn.
    pub fn id(&self, name: &str) -> InterfaceId {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&id) = names.ids.get(name) {
            return id;
        }
        let id = names.list.len() as u32;
        if id > self.most {
            return 0;
        }
        let name: Arc<str> = name.into();
        names.list.push(name.clone());
        names.ids.insert(name, id);
        id
    }

    /// The name an id was given for; `*` for the shared place and for ids never given.
    pub fn name(&self, id: InterfaceId) -> Arc<str> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.list.get(id as usize).unwrap_or(&names.list[0]).clone()
    }

    /// Interfaces that have a place, the shared one included.
    pub fn interfaces(&self) -> usize {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).list.len()
    }

    /// Workers that have a gate each.
    pub fn workers(&self) -> usize {
        self.shards.len()
    }

    /// Whether refusals are counted only (`mode: observe`): whoever asks a gate lets the request pass then.
    pub fn observes(&self) -> bool {
        self.observe.load(Relaxed)
    }

    pub(super) fn set_observe(&self, on: bool) {
        self.observe.store(on, Relaxed);
    }

    /// A worker's cell; its page is allocated if it is not there yet.
    pub(super) fn cell(&self, worker: usize, id: InterfaceId) -> &Cell {
        let id = if id > self.most { 0 } else { id as usize };
        let page = self.shards[worker].pages[id / PAGE].get_or_init(Default::default);
        &page[id % PAGE]
    }

    fn known(&self, worker: usize, id: InterfaceId) -> Option<&Cell> {
        let page = self.shards[worker].pages.get(id as usize / PAGE)?.get()?;
        Some(&page[id as usize % PAGE])
    }

    /// What all workers counted for an interface.
    pub(super) fn counts(&self, id: InterfaceId) -> Counts {
        let mut sum = Counts::default();
        (0..self.shards.len()).filter_map(|w| self.known(w, id)).for_each(|c| c.add_to(&mut sum));
        sum
    }

    /// How many were offered to one worker; wraps.
    pub(super) fn offered_to(&self, worker: usize, id: InterfaceId) -> u32 {
        self.known(worker, id).map_or(0, Cell::offers)
    }

    /// How many were offered to all, and how many are in flight.
    pub(super) fn crowd(&self, id: InterfaceId) -> (u32, u32) {
        let cells = (0..self.shards.len()).filter_map(|w| self.known(w, id));
        cells.fold((0, 0), |(offered, inflight), c| {
            (offered.wrapping_add(c.offers()), inflight.wrapping_add(c.inflight()))
        })
    }

    /// What a worker's requests in flight want of the CPU under these orders, in seconds.
    pub(super) fn wanted(&self, worker: usize, orders: &Orders) -> f64 {
        let pages = self.shards[worker].pages.iter().enumerate();
        let pages = pages.filter_map(|(p, page)| Some((p * PAGE, page.get()?)));
        pages.fold(0.0, |sum, (first, page)| {
            let cells = page.iter().zip(first as u32..).filter(|(c, _)| c.inflight() > 0);
            sum + cells.map(|(c, id)| f64::from(c.inflight()) * orders.cost(id)).sum::<f64>()
        })
    }

    pub(super) fn publish_busy(&self, worker: usize, busy: f64) {
        self.shards[worker].busy.store(busy.to_bits(), Relaxed);
    }

    /// What the requests in flight of all workers but this want of the CPU, in seconds.
    pub(super) fn busy_but(&self, worker: usize) -> f64 {
        let others = self.shards.iter().enumerate().filter(|(w, _)| *w != worker);
        others.map(|(_, s)| f64::from_bits(s.busy.load(Relaxed))).sum()
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(std::sync::atomic::Ordering::Acquire)
    }

    pub(super) fn orders(&self) -> Arc<Orders> {
        self.orders.load_full()
    }

    /// Gives new orders: gates see them with their next request.
    pub(super) fn give(&self, orders: Orders) {
        self.orders.store(Arc::new(orders));
        self.generation.fetch_add(1, std::sync::atomic::Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(most: u32) -> Board {
        Board::new(2, &AdaptiveSettings { max_interfaces: most, ..AdaptiveSettings::default() })
    }

    #[test]
    fn latecomers_share_a_place() {
        let board = board(2);
        assert_eq!((board.id("a"), board.id("b"), board.id("c"), board.id("a")), (1, 2, 0, 1));
        assert_eq!((&*board.name(2), &*board.name(0), &*board.name(77)), ("b", "*", "*"));
        assert_eq!(board.interfaces(), 3);
    }

    #[test]
    fn pages_are_allocated_on_first_use_only() {
        let board = board(2000);
        assert_eq!(board.counts(1500), Counts::default());
        assert!(board.shards.iter().all(|s| s.pages.iter().all(|p| p.get().is_none())));
        board.cell(1, 1500).offer(Priority::Normal);
        let used = |w: usize| board.shards[w].pages.iter().filter(|p| p.get().is_some()).count();
        assert_eq!((used(0), used(1)), (0, 1));
        assert_eq!((board.crowd(1500), board.offered_to(1, 1500)), ((1, 0), 1));
    }

    #[test]
    fn an_end_without_a_beginning_counts_for_nothing() {
        let board = board(2);
        let cell = board.cell(0, 1);
        assert!(!cell.leave());
        cell.enter();
        assert!(cell.leave());
        assert_eq!(board.counts(1).inflight, 0);
    }
}
