//! Who causes the shortage: the set S of those that are held, and what each of them may have.
use super::board::Board;
use super::orders::Hold;
use super::slow::Pile;
use super::water;
use super::{InterfaceId, rise};

/// An interface's demand, as the controller sees it this second. Shares are of what is short: cores or memory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Demand {
    /// Requests offered a second.
    pub rate: f64,
    /// Requests offered a second as usual, by memory.
    pub usual: [f64; 3],
    /// Share that one request a second takes, without what is only known since it is held.
    pub unit: f64,
    /// CPU seconds of a request.
    pub cost: f64,
    /// How long one lasts as usual, in seconds.
    pub lasts: f64,
    /// Whether it asks for more than chance explains, by memory.
    pub rises: [bool; 3],
    /// By how much more than all others, and than chance explains, a request takes longer than usual, in units of the usual; 0 = it does not.
    pub dearer: f64,
    /// What it has in flight beyond what is usual and what delays all explains.
    pub pile: Pile,
}

impl Demand {
    pub(super) fn share(&self) -> f64 {
        self.rate * self.unit
    }
}

/// One that is held.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub id: InterfaceId,
    /// Requests a second as usual, when it was found.
    pub usual: f64,
    /// Whether its cost rose, not what is asked of it.
    pub dearer: bool,
    /// What its requests cost now, in units of what they did.
    pub drift: f64,
    /// Requests a second that may pass.
    pub limit: f64,
    /// What it asks for, as a share.
    pub demand: f64,
    /// Ticks in which it asked for no more than it may have.
    slack: u32,
    /// Offered in all, by worker, at the last tick.
    seen: Vec<u32>,
}

/// Those that are held.
#[derive(Debug, Default)]
pub(super) struct Culprits {
    pub members: Vec<Member>,
}

/// What others leave free must be this much more than enough before no more culprits are looked for: costs are
/// estimates.
const SPARE: f64 = 0.08;
/// Ticks of slack after which one is let go.
const SLACK: u32 = 5;
/// What is asked beyond this many times the usual is excess.
const USUAL: f64 = 1.2;
/// Part of what a request lasts that it may cost, whatever the estimate says.
const DOUBT: f64 = 0.25;
/// How many times what it did a request may cost.
const DRIFT: f64 = 30.0;
/// Part of a hold's rate that is split evenly between workers, whatever they had lately.
const FLOOR: f64 = 0.1;

impl Culprits {
    pub(super) fn holds(&self, id: usize) -> bool {
        self.members.iter().any(|m| m.id as usize == id)
    }

    /// Share that all others ask for.
    pub(super) fn others(&self, demands: &[Demand]) -> f64 {
        let all: f64 = demands.iter().map(Demand::share).sum();
        let held: f64 =
            self.members.iter().filter_map(|m| demands.get(m.id as usize)).map(Demand::share).sum();
        (all - held).max(0.0)
    }

    /// Adds those that rose, the largest excess first, until the others fit in `most`: by the shortest memory against
    /// which anyone rose. `own` is used by none of them. Then, if what is asked does not explain what is used (`hidden`
    /// is the difference), those that take longer than all others; if there are none and it `lasts`, what is hidden is
    /// laid to those that rose after all. Returns who was added.
    pub(super) fn find(
        &mut self,
        demands: &[Demand],
        own: f64,
        hidden: f64,
        lasts: bool,
        most: f64,
        board: &Board,
    ) -> Vec<InterfaceId> {
        let mut added = self.find_risers(demands, own, most, false, board);
        if lasts && added.is_empty() {
            added = self.find_risers(demands, own, most, true, board);
        }
        if hidden > 0.1 && self.others(demands) + own + hidden > most {
            if lasts {
                added.extend(self.find_risers(demands, own + hidden, most, true, board));
            }
            if added.is_empty() {
                added.extend(self.find_dearer(demands, hidden, lasts, board));
            }
        }
        added
    }

    /// Those that ask for twice as much as usual; for half more (`any`).
    fn find_risers(
        &mut self,
        demands: &[Demand],
        own: f64,
        most: f64,
        any: bool,
        board: &Board,
    ) -> Vec<InterfaceId> {
        let mut added = Vec::new();
        if self.others(demands) + own <= most {
            return added;
        }
        for memory in 0..rise::MEMORIES.len() {
            let mut others = self.others(demands) + own;
            if others <= most - SPARE {
                break;
            }
            let excess = |d: &Demand| d.share() - USUAL * d.usual[memory] * d.unit;
            let least = (0.05 * (others - most)).max(0.01);
            let rose = |(i, d): &(usize, &Demand)| {
                let far = any || d.rate > 2.0 * d.usual[memory];
                d.rises[memory] && far && excess(d) > least && !self.holds(*i)
            };
            let mut risers: Vec<(usize, &Demand)> = demands.iter().enumerate().filter(rose).collect();
            risers.sort_by(|a, b| excess(b.1).total_cmp(&excess(a.1)));
            for (i, d) in risers {
                if others <= most - SPARE {
                    break;
                }
                others -= d.share();
                added.push(self.add(i, d.usual[memory], None, board));
            }
        }
        added
    }

    /// The one whose cost rose, if what it takes longer explains a good part of what is hidden: the one that takes
    /// longest by its own measure, weighed by its share. If that `lasts` and nobody explains it, costs may be wrong: a
    /// request takes no more than it lasts, and a quarter of that is within the doubt of any estimate.
    fn find_dearer(
        &mut self,
        demands: &[Demand],
        hidden: f64,
        lasts: bool,
        board: &Board,
    ) -> Option<InterfaceId> {
        let found = self.piled(demands, hidden).or_else(|| self.dearest(demands, hidden, Demand::share));
        let found = found.or_else(|| {
            let least = |d: &Demand| d.rate * d.unit / d.cost.max(1e-9) * d.cost.max(DOUBT * d.lasts);
            lasts.then(|| self.dearest(demands, hidden, least)).flatten()
        });
        let (i, d) = found?;
        // Who was blamed before for less, and does not seem dearer any more, was blamed for this one.
        let seems = |d: &Demand| d.dearer > 0.0 || d.pile.share > 0.0;
        self.members.retain(|m| !m.dearer || demands.get(m.id as usize).is_some_and(seems));
        let most = if d.pile.share > 0.0 {
            f64::INFINITY
        } else {
            (d.dearer * 2.0).max(d.dearer * d.lasts / d.cost.max(1e-9))
        };
        let drift = (1.0 + (hidden / d.share().max(1e-9)).min(most)).min(most_drift(d));
        Some(self.add(i, d.usual[0].max(d.rate.min(d.usual[2])), Some(drift), board))
    }

    /// The one whose requests in flight have most of the cores without any other explanation, if that explains a good
    /// part of what is hidden.
    fn piled<'a>(&self, demands: &'a [Demand], hidden: f64) -> Option<(usize, &'a Demand)> {
        let high = |(i, d): &(usize, &Demand)| d.pile.share >= 0.5 * hidden && !self.holds(*i);
        demands.iter().enumerate().filter(high).max_by(|a, b| a.1.pile.share.total_cmp(&b.1.pile.share))
    }

    fn dearest<'a>(
        &self,
        demands: &'a [Demand],
        hidden: f64,
        share: impl Fn(&Demand) -> f64,
    ) -> Option<(usize, &'a Demand)> {
        let weight = |d: &Demand| d.dearer * d.dearer * share(d);
        let grown = |(i, d): &(usize, &Demand)| {
            d.dearer > 2.0 && !self.holds(*i) && d.dearer * share(d) >= 0.25 * hidden
        };
        demands.iter().enumerate().filter(grown).max_by(|a, b| weight(a.1).total_cmp(&weight(b.1)))
    }

    fn add(&mut self, i: usize, usual: f64, drift: Option<f64>, board: &Board) -> InterfaceId {
        let id = i as InterfaceId;
        let seen = (0..board.workers()).map(|w| board.offered_to(w, id)).collect();
        let dearer = drift.is_some();
        let drift = drift.unwrap_or(1.0);
        let (limit, demand) = (f64::INFINITY, 0.0);
        self.members.push(Member { id, usual, dearer, drift, limit, demand, slack: 0, seen });
        id
    }

    /// What the members ask for as usual.
    pub(super) fn usual(&self, demands: &[Demand]) -> f64 {
        self.members.iter().map(|m| m.usual * unit(m, demands, false)).sum()
    }

    /// What an interface's requests cost, in units of what they did before it was held.
    pub(super) fn drift(&self, id: usize) -> f64 {
        self.members.iter().find(|m| m.id as usize == id).map_or(1.0, |m| m.drift)
    }

    /// Learns what the members' requests cost from what is left of the load when all others' is taken off; that is the
    /// least they cost if the machine is `full`.
    pub(super) fn learn_drift(
        &mut self,
        used: f64,
        full: bool,
        admitted: impl Fn(usize) -> f64,
        demands: &[Demand],
    ) {
        let shares = |m: &Member| admitted(m.id as usize) * unit(m, demands, true);
        let theirs: f64 = self.members.iter().map(shares).sum();
        if theirs < 0.02 {
            return;
        }
        let off = (used / theirs).clamp(if full { 1.0 } else { 0.2 }, 5.0);
        // Far off, it is learned at once; near, slowly: what is left holds the chance of all others.
        let fresh = if (0.5..if full { 1.1 } else { 2.0 }).contains(&off) { 0.25 } else { 0.7 };
        let off = off.powf(fresh * theirs / (theirs + 0.03));
        for m in &mut self.members {
            let most = if m.dearer { demands.get(m.id as usize).map_or(DRIFT, most_drift) } else { DRIFT };
            m.drift = (m.drift * off).clamp(0.3, most);
        }
    }

    /// Shares `room` out: what is usual first, the rest by excess. No limit grows by more than `growth` times.
    pub(super) fn share_out(&mut self, demands: &[Demand], room: f64, growth: f64) {
        let asked: Vec<f64> =
            self.members.iter().map(|m| rate(m, demands) * unit(m, demands, true)).collect();
        let usual: Vec<f64> = self.members.iter().map(|m| m.usual * unit(m, demands, false)).collect();
        let parts = water::by_excess(&asked, &usual, room);
        for ((m, part), asked) in self.members.iter_mut().zip(parts).zip(asked) {
            let unit = unit(m, demands, true).max(1e-12);
            m.limit = if m.limit.is_finite() { (part / unit).min(m.limit * growth) } else { part / unit };
            m.demand = asked;
        }
    }

    /// Whether any member asks for more than it may have.
    pub(super) fn binding(&self, demands: &[Demand]) -> bool {
        self.members.iter().any(|m| rate(m, demands) > m.limit)
    }

    /// Lets those go that ask for no more than they may have, for some time. Returns who.
    pub(super) fn let_go(&mut self, demands: &[Demand]) -> Vec<InterfaceId> {
        for m in &mut self.members {
            let slack = rate(m, demands) <= m.limit;
            m.slack = if slack { m.slack + 1 } else { 0 };
        }
        let (gone, stay): (Vec<_>, Vec<_>) = self.members.drain(..).partition(|m| m.slack >= SLACK);
        self.members = stay;
        gone.into_iter().map(|m| m.id).collect()
    }

    /// The holds, and each worker's share of each: by what it was offered of late, a tenth of it evenly.
    pub(super) fn orders(&mut self, board: &Board, times: impl Fn(&Member) -> f64) -> (Vec<Hold>, Vec<f32>) {
        self.members.sort_by_key(|m| m.id);
        let mut shares = Vec::with_capacity(self.members.len() * board.workers());
        let even = 1.0 / board.workers() as f64;
        let mut holds = Vec::with_capacity(self.members.len());
        for m in &mut self.members {
            let now: Vec<u32> = (0..board.workers()).map(|w| board.offered_to(w, m.id)).collect();
            let came: Vec<f64> =
                now.iter().zip(&m.seen).map(|(n, s)| f64::from(n.wrapping_sub(*s))).collect();
            let all: f64 = came.iter().sum();
            m.seen = now;
            let part = |c: &f64| if all > 0.0 { c / all } else { even };
            shares.extend(came.iter().map(|c| (part(c) * (1.0 - FLOOR) + even * FLOOR) as f32));
            holds.push(Hold { id: m.id, rate: times(m), pass: [1.0; 4] });
        }
        (holds, shares)
    }
}

/// What a request may cost now at most, in units of what it did: of one that cost nearly nothing, by the estimate, it is
/// what it lasts that counts.
fn most_drift(d: &Demand) -> f64 {
    DRIFT * (DOUBT * d.lasts / d.cost.max(1e-9)).max(1.0)
}

fn rate(m: &Member, demands: &[Demand]) -> f64 {
    demands.get(m.id as usize).map_or(0.0, |d| d.rate)
}

fn unit(m: &Member, demands: &[Demand], now: bool) -> f64 {
    demands.get(m.id as usize).map_or(0.0, |d| d.unit) * if now { m.drift } else { 1.0 }
}
