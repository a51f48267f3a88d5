//! A worker's part of the plain limits.
use super::hot::{self, Took};
use super::program::{Cell, Link, Rule, Shared};
use super::rate::{Kept, Slot};
use super::slab::Slab;
use super::{Again, Held, Rules};
use crate::permits::{Permit, Permits};
use crate::rng::Rng;
use crate::route::Attributes;
use ahash::RandomState;
use raddle_core::Time;
use raddle_model::Side;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// What becomes of a request.
#[derive(Debug)]
pub enum Verdict {
    /// It passes, perhaps later, perhaps if the quota server lets it.
    Pass {
        /// What it holds until it ends: give it to [`Local::done`] exactly once, also if it never gets anywhere.
        ticket: Ticket,
        /// How long it waits before it goes on; zero = not at all.
        wait: Duration,
        /// Whether rules with `reach: cluster` take it: [`Local::asks`] says which, until the next request is judged.
        ask: bool,
        /// What would hold it if every rule in `mode: observe` were enforced: the first of them.
        observed: Option<Held>,
    },
    /// It is refused, and holds nothing.
    Refuse(Held),
}

/// What a request holds of bounds on concurrency. The default one holds nothing.
#[must_use = "what is not given back is lost"]
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ticket(u64);

impl Ticket {
    /// Holds nothing.
    pub const NONE: Ticket = Ticket(0);

    /// Whether it holds nothing: then [`Local::done`] need not hear of it.
    pub const fn is_none(&self) -> bool {
        self.0 == 0
    }
}

/// A worker's part of the plain limits.
#[derive(Debug)]
pub struct Local {
    workers: u32,
    rules: Arc<Rules>,
    /// For each rule of the program its state.
    states: Vec<State>,
    /// Where a state is, by its id.
    place: HashMap<u32, u32, RandomState>,
    next_id: u32,
    /// What requests under way hold.
    held: Slab<Vec<Grip>>,
    /// The rules that take the request being judged, and what it took of them.
    taking: Vec<u32>,
    taken: Vec<Taken>,
    asks: Vec<u32>,
    rng: Rng,
}

/// A worker's part of a rule.
#[derive(Debug)]
struct State {
    /// Never another state's.
    id: u32,
    shared: Arc<Shared>,
    cell: Arc<Cell>,
    kept: Kept,
    permits: Permits,
    /// Of this worker's own, so that workers do not count references of one text together.
    rule: Arc<str>,
    detail: Arc<str>,
    /// What is said if its turn comes, but too late for the caller.
    late: Arc<str>,
    /// The version of the rule that the shared part has heard of.
    version: u64,
}

/// Something a request holds until it ends.
#[derive(Debug)]
enum Grip {
    Permit(u32, Permit),
    Value(u32, Took),
}

/// What the request being judged took of a rule.
#[derive(Debug)]
enum Taken {
    Permit(u32, Permit),
    Token(u32),
    Slot(u32, Slot),
    Value(u32, Took),
}

impl Local {
    /// That of the worker with this index of so many. It knows no rules yet.
    pub fn new(worker: usize, workers: usize) -> Local {
        Local {
            workers: workers.clamp(1, 4096) as u32,
            rules: Arc::default(),
            states: Vec::new(),
            place: HashMap::default(),
            next_id: 0,
            held: Slab::default(),
            taking: Vec::new(),
            taken: Vec::new(),
            asks: Vec::new(),
            rng: Rng::new(worker as u64 + 1),
        }
    }

    /// Follows the rules of a new snapshot; cheap if they are the ones it has. Rules that stayed go on as they were,
    /// and tickets of requests under way stay good.
    pub fn sync(&mut self, rules: &Arc<Rules>) {
        if Arc::ptr_eq(&self.rules, rules) {
            return;
        }
        self.rules = rules.clone();
        let mut old: HashMap<*const Shared, State, RandomState> =
            self.states.drain(..).map(|s| (Arc::as_ptr(&s.shared), s)).collect();
        for rule in &rules.program.rules {
            let mut state = old.remove(&Arc::as_ptr(&rule.shared)).unwrap_or_else(|| {
                self.next_id = self.next_id.wrapping_add(1);
                State::new(rule, self.next_id)
            });
            if let Link::Rate(pace) = &rule.link {
                state.kept.follow(pace, self.workers);
            }
            if state.detail != rule.detail {
                state.detail = Arc::from(&*rule.detail);
                state.late = late(rule);
            }
            self.states.push(state);
        }
        self.place = self.states.iter().zip(0..).map(|(s, i)| (s.id, i)).collect();
    }

    /// Whether no rule of that side asks about any request.
    pub fn is_empty(&self, side: Side) -> bool {
        self.rules.program.index(side).is_empty()
    }

    /// Judges a request: every rule that takes it must let it pass, else none has counted it. `can_wait` is whether the
    /// request can be kept for a while: one-way and streamed ones can not, and are refused where they would have to.
    pub fn judge(&mut self, side: Side, req: &impl Attributes, now: Time, can_wait: bool) -> Verdict {
        let patience = if can_wait { Duration::MAX } else { Duration::ZERO };
        self.judge_within(side, req, now, patience)
    }

    /// The same for a request that can be kept for this long at most, as its caller waits no longer. A rule that would
    /// keep it longer refuses it.
    pub fn judge_within(
        &mut self,
        side: Side,
        req: &impl Attributes,
        now: Time,
        patience: Duration,
    ) -> Verdict {
        self.asks.clear();
        self.taking.clear();
        self.rules.program.index(side).taking(req, &mut self.taking);
        if self.taking.is_empty() {
            return Verdict::Pass { ticket: Ticket::NONE, wait: Duration::ZERO, ask: false, observed: None };
        }
        self.taken.clear();
        let (mut observed, mut wait) = (None, Duration::ZERO);
        for n in 0..self.taking.len() {
            let i = self.taking[n];
            let observe = self.rules.program.rules[i as usize].observe;
            match self.take(i, req, now, patience) {
                Ok(slot) if !observe => wait = wait.max(slot),
                Ok(_) => {}
                Err(held) => {
                    self.states[i as usize].cell.held(observe);
                    if !observe {
                        self.undo();
                        return Verdict::Refuse(held);
                    }
                    observed.get_or_insert(held);
                }
            }
        }
        let ticket = self.commit();
        Verdict::Pass { ticket, wait, ask: !self.asks.is_empty(), observed }
    }

    /// Asks one rule; says how long the request has to wait for it.
    fn take(
        &mut self,
        i: u32,
        req: &impl Attributes,
        now: Time,
        patience: Duration,
    ) -> Result<Duration, Held> {
        let rule = &self.rules.program.rules[i as usize];
        let state = &mut self.states[i as usize];
        if state.version != rule.version {
            state.version = rule.version;
            match &rule.link {
                Link::Rate(pace) => rule.shared.meter.adopt(pace, rule.version, now, Duration::ZERO),
                Link::Paced(pace, most) => rule.shared.meter.adopt(pace, rule.version, now, *most),
                Link::Concurrency(_) | Link::Hot(_) | Link::Cluster => {}
            }
        }
        let taken = match &rule.link {
            // To permits, 0 is unbounded.
            Link::Concurrency(most) => {
                (*most > 0).then(|| state.permits.acquire(*most)).flatten().map(|p| Taken::Permit(i, p))
            }
            Link::Rate(pace) => state.kept.take(&rule.shared.meter, pace, now).then_some(Taken::Token(i)),
            Link::Paced(pace, most) => {
                let most = patience.min(*most);
                rule.shared.meter.reserve(pace, now, most).map(|slot| Taken::Slot(i, slot))
            }
            Link::Hot(hot) => {
                let rng = &mut self.rng;
                let asked = hot::with_value(&hot.by, req, |value| hot.take(value, now, rng));
                match asked {
                    None => return Ok(Duration::ZERO),
                    Some(Ok(took)) => Some(Taken::Value(i, took)),
                    Some(Err((own, again))) => {
                        let detail = own.map_or_else(|| state.detail.clone(), |own| own.detail.clone());
                        return Err(Held { detail, again, ..state.refusal(rule) });
                    }
                }
            }
            Link::Cluster => {
                self.asks.push(rule.index);
                return Ok(Duration::ZERO);
            }
        };
        let Some(taken) = taken else { return Err(state.refusal_now(rule, now, patience)) };
        let wait = if let Taken::Slot(_, slot) = &taken { slot.wait } else { Duration::ZERO };
        self.taken.push(taken);
        Ok(wait)
    }

    /// A rule refuses: what others gave goes back.
    fn undo(&mut self) {
        self.asks.clear();
        while let Some(taken) = self.taken.pop() {
            match taken {
                Taken::Permit(i, permit) => self.states[i as usize].permits.release(permit),
                Taken::Token(i) => {
                    let rule = &self.rules.program.rules[i as usize];
                    if let Link::Rate(pace) = &rule.link {
                        self.states[i as usize].kept.give(&rule.shared.meter, pace);
                    }
                }
                Taken::Slot(i, slot) => self.rules.program.rules[i as usize].shared.meter.unreserve(slot),
                Taken::Value(i, took) => {
                    if let Link::Hot(hot) = &self.rules.program.rules[i as usize].link {
                        hot.undo(took);
                    }
                }
            }
        }
    }

    /// All rules let it pass: counts it, and keeps what it holds until it ends.
    fn commit(&mut self) -> Ticket {
        let mut ticket = Ticket::NONE;
        for taken in self.taken.drain(..) {
            let (Taken::Permit(i, _) | Taken::Token(i) | Taken::Slot(i, _) | Taken::Value(i, _)) = taken;
            let (state, rule) = (&self.states[i as usize], &self.rules.program.rules[i as usize]);
            state.cell.passed();
            let grip = match taken {
                Taken::Permit(_, permit) => Grip::Permit(state.id, permit),
                Taken::Value(_, took) => match &rule.link {
                    Link::Hot(hot) if hot.holds() && took != Took::Nothing => Grip::Value(state.id, took),
                    _ => continue,
                },
                Taken::Slot(_, slot) => {
                    if !slot.wait.is_zero() {
                        state.cell.waited();
                    }
                    continue;
                }
                Taken::Token(_) => continue,
            };
            let (key, grips) = match ticket.0 {
                0 => {
                    let (key, grips) = self.held.place();
                    grips.clear();
                    (key, Some(grips))
                }
                key => (key, self.held.find(key)),
            };
            ticket = Ticket(key);
            if let Some(grips) = grips {
                grips.push(grip);
            }
        }
        ticket
    }

    /// The rules with `reach: cluster` that take the request judged last: indexes into [`Rules::rates`].
    pub fn asks(&self) -> &[u32] {
        &self.asks
    }

    /// Counts the quota server's word on a request for a rule of [`Local::asks`]. `Ok(Some(_))` = it would hold the
    /// request, but is in `mode: observe`. A rule that is not known is harmless. What other rules counted for a request
    /// that is refused here stays counted: the quota server is asked last, and may answer late.
    ///
    /// # Errors
    /// It holds the request: end it, [`Local::done`] included.
    pub fn answered(&mut self, rule: u32, granted: bool) -> Result<Option<Held>, Held> {
        let rules = &self.rules.program.rules;
        let found = (0..).zip(rules).find(|(_, r)| r.index == rule && matches!(r.link, Link::Cluster));
        let Some((i, rule)): Option<(usize, _)> = found else { return Ok(None) };
        let state = &self.states[i];
        if granted {
            state.cell.passed();
            return Ok(None);
        }
        state.cell.held(rule.observe);
        let held = state.refusal(rule);
        if rule.observe { Ok(Some(held)) } else { Err(held) }
    }

    /// A request that passed has ended, however. A ticket that is not known is harmless.
    pub fn done(&mut self, ticket: Ticket, now: Time) {
        let _ = now;
        if ticket.is_none() {
            return;
        }
        let Some(grips) = self.held.find(ticket.0) else { return };
        for grip in grips.drain(..) {
            let (Grip::Permit(id, _) | Grip::Value(id, _)) = grip;
            // A rule that is gone took with it what was held of it.
            let Some(&i) = self.place.get(&id) else { continue };
            match grip {
                Grip::Permit(_, permit) => self.states[i as usize].permits.release(permit),
                Grip::Value(_, took) => {
                    if let Link::Hot(hot) = &self.rules.program.rules[i as usize].link {
                        hot.done(took);
                    }
                }
            }
        }
        self.held.free(ticket.0);
    }

    /// Gives back what it keeps ready for itself. Call it when the worker has been idle for a second or so.
    pub fn flush(&mut self) {
        for (state, rule) in self.states.iter_mut().zip(&self.rules.program.rules) {
            state.permits.flush();
            if let Link::Rate(pace) = &rule.link {
                state.kept.flush(&rule.shared.meter, pace);
            }
        }
    }
}

impl Drop for Local {
    /// What its requests hold of values is given back; permits go back by themselves.
    fn drop(&mut self) {
        for grip in self.held.used().flat_map(|grips| grips.drain(..)) {
            if let Grip::Value(id, took) = grip
                && let Some(&i) = self.place.get(&id)
                && let Link::Hot(hot) = &self.rules.program.rules[i as usize].link
            {
                hot.done(took);
            }
        }
    }
}

impl State {
    fn new(rule: &Rule, id: u32) -> State {
        State {
            id,
            cell: rule.shared.cell(),
            kept: Kept::default(),
            permits: Permits::new(rule.shared.permits.clone()),
            rule: Arc::from(&*rule.name),
            detail: Arc::from(&*rule.detail),
            late: late(rule),
            shared: rule.shared.clone(),
            version: 0,
        }
    }

    fn refusal(&self, rule: &Rule) -> Held {
        let again = if rule.never() { Again::Never } else { Again::Unknown };
        Held { reason: rule.reason(), rule: self.rule.clone(), detail: self.detail.clone(), again }
    }

    /// With when it may pass.
    fn refusal_now(&self, rule: &Rule, now: Time, patience: Duration) -> Held {
        let held = self.refusal(rule);
        match &rule.link {
            Link::Rate(pace) => Held { again: self.kept.again(&rule.shared.meter, pace, now), ..held },
            Link::Paced(pace, most) => {
                let again = rule.shared.meter.slot_again(pace, now, *most);
                let late = again == Again::In(Duration::ZERO) && patience > Duration::ZERO;
                let detail = if late { self.late.clone() } else { held.detail };
                // Who cannot wait at all needs its slot to be free.
                let again = rule.shared.meter.slot_again(pace, now, patience.min(*most));
                Held { detail, again, ..held }
            }
            Link::Concurrency(_) | Link::Hot(_) | Link::Cluster => held,
        }
    }
}

fn late(rule: &Rule) -> Arc<str> {
    match &rule.link {
        Link::Paced(..) => format!("{}: its turn comes later than its caller waits", rule.detail).into(),
        _ => Arc::from(&*rule.detail),
    }
}
