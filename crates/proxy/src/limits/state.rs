//! A worker's part of limiting.
use super::interface::Interfaces;
use super::ticket::{Holds, Ticket, Tickets};
use super::{Limiting, Quota, Take};
use ahash::AHashMap;
use raddle_core::{Reason, Time};
use raddle_model::{InterfaceBy, RuleMode, Side};
use raddle_policy::limit::adaptive::{Gate, InterfaceId, Why};
use raddle_policy::limit::{Again, Breakers, Held, Local, Priorities, Rules};
use raddle_policy::{Attributes, Rng};
use raddle_telemetry::{BreakerCells, LimitCells, Shard};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A request waits at most so long for the quota server's word.
const ASK_MOST: Duration = Duration::from_secs(1);

/// A worker's part of limiting. Without rules, all that a request meets of it is one branch.
pub(crate) struct Limits {
    worker: usize,
    rules: Arc<Rules>,
    inbound: bool,
    outbound: bool,
    pub(super) local: Local,
    pub(super) breakers: Breakers,
    pub(super) adaptive: Option<Adaptive>,
    /// Counts gates: what an earlier one let pass is nothing to a later one.
    gates: u32,
    tickets: Tickets,
    cells: AHashMap<Arc<str>, Arc<LimitCells>>,
    /// Of rules of breakers, kept by the one worker that tells of them.
    open: AHashMap<Arc<str>, Arc<BreakerCells>>,
    /// `RateLimit/NAME`, by index into [`Rules::rates`].
    rates: Vec<Arc<str>>,
    pub(super) shard: Arc<Shard>,
    /// It may keep tokens and permits ready that others want.
    pub(super) keeps: bool,
}

/// A worker's part of adaptive limiting.
pub(super) struct Adaptive {
    pub limiting: Arc<Limiting>,
    pub gate: Gate,
    number: u32,
    names: Interfaces,
    priorities: Priorities,
}

/// What limits make of a request.
#[derive(Debug)]
pub(crate) enum Limited {
    /// It goes on. The text is for the access log: which rule would have refused it.
    Pass(Option<Box<str>>),
    /// It waits until then, and is asked about again.
    Wait(Time),
    /// It is refused.
    Refuse(Held),
}

/// The breakers of endpoints that one may choose from.
pub(crate) struct Broken<'a> {
    breakers: RefCell<&'a mut Breakers>,
    ticket: &'a Ticket,
    now: Time,
}

impl Broken<'_> {
    /// Whether an endpoint's breaker keeps the request away from it.
    pub(crate) fn open(&self, endpoint: SocketAddr) -> bool {
        let open = |h: &mut Holds| self.breakers.borrow_mut().open(&h.call, endpoint, self.now);
        self.ticket.with(open) == Some(true)
    }
}

/// What of a request limits are asked about.
pub(crate) struct Question<'a, A> {
    /// Which way it goes.
    pub side: Side,
    /// What rules look at.
    pub req: &'a A,
    /// Whether it can be kept for a while.
    pub can_wait: bool,
    /// How long its caller waits, if it said so.
    pub patience: Option<Duration>,
}

impl Limits {
    pub(crate) fn new(worker: usize, workers: usize, shard: Arc<Shard>) -> Limits {
        Limits {
            worker,
            rules: Arc::default(),
            inbound: false,
            outbound: false,
            local: Local::new(worker, workers),
            breakers: Breakers::new(worker, workers),
            adaptive: None,
            gates: 0,
            tickets: Tickets::default(),
            cells: AHashMap::new(),
            open: AHashMap::new(),
            rates: Vec::new(),
            shard,
            keeps: false,
        }
    }

    /// Whether the worker, should it fall idle, has to wake up once more to give back what it keeps ready.
    #[inline]
    pub(crate) fn keeps(&self) -> bool {
        self.keeps
    }

    /// Whether requests of that side are asked about at all.
    #[inline]
    pub(crate) fn any(&self, side: Side) -> bool {
        match side {
            Side::Inbound => self.inbound,
            Side::Outbound => self.outbound,
        }
    }

    /// Follows the rules in force; cheap if they are the same.
    pub(crate) fn sync(&mut self, rules: &Arc<Rules>, limiting: Option<Arc<Limiting>>) {
        if !Arc::ptr_eq(&self.rules, rules) {
            self.rules = rules.clone();
            self.local.sync(rules);
            self.breakers.sync(rules);
            let name = |r: &raddle_model::RateLimit| format!("RateLimit/{}", r.metadata.name).into();
            self.rates = rules.rates.iter().map(name).collect();
            // Names of rules that are gone make room for others'.
            self.cells.clear();
            // What is gone has nothing that is open.
            self.open.drain().for_each(|(_, cells)| cells.open.set(0));
            self.count_breakers();
        }
        let same = match (&self.adaptive, &limiting) {
            (Some(a), Some(l)) => Arc::ptr_eq(&a.limiting, l),
            (None, None) => true,
            _ => false,
        };
        if !same {
            self.adaptive = limiting.map(|l| self.join(l));
        }
        self.inbound = self.adaptive.is_some() || !self.local.is_empty(Side::Inbound);
        self.outbound = !self.local.is_empty(Side::Outbound) || !self.breakers.is_empty();
    }

    /// The gate of a rule: the one there is, if it goes on with the same board.
    fn join(&mut self, limiting: Arc<Limiting>) -> Adaptive {
        let priorities = Priorities::new(&limiting.settings);
        match self.adaptive.take() {
            Some(a) if Arc::ptr_eq(&a.limiting.board, &limiting.board) => {
                Adaptive { limiting, priorities, ..a }
            }
            _ => {
                self.gates = self.gates.wrapping_add(1);
                let gate = Gate::new(limiting.board.clone(), self.worker);
                Adaptive { limiting, gate, number: self.gates, names: Interfaces::default(), priorities }
            }
        }
    }

    /// Asks about a request for the first time. What it holds from then on is in the ticket.
    ///
    /// `name` appends the name of its interface, for rules that tell methods apart or not.
    pub(super) fn judge(
        &mut self,
        ticket: &mut Option<Ticket>,
        q: &Question<'_, impl Attributes>,
        name: impl FnOnce(InterfaceBy, &mut Vec<u8>),
        quota: Option<&dyn Quota>,
        now: Time,
        rng: &mut Rng,
    ) -> Limited {
        let mut holds = Holds::default();
        let passed = self.pass(&mut holds, q, name, quota, now, rng);
        let wait = match passed {
            Ok(wait) => wait,
            Err(held) => {
                self.give_back(holds, None, now, rng);
                return Limited::Refuse(held);
            }
        };
        if wait > Duration::ZERO {
            holds.waits = true;
            self.shard.limit_waiting.inc();
            self.shard.limit_waited.inc();
        }
        let observed = if wait.is_zero() { holds.observed.clone() } else { None };
        self.shard.limit_in_flight.inc();
        *ticket = Some(self.tickets.issue(holds));
        if wait > Duration::ZERO { Limited::Wait(now + wait) } else { Limited::Pass(observed) }
    }

    /// Asks about a TCP connection: rates and bounds at once alone, which it holds until it ends. It has no requests
    /// whose cost could be learnt, and no answers a breaker could go by.
    pub(super) fn judge_connection(
        &mut self,
        ticket: &mut Option<Ticket>,
        q: &Question<'_, impl Attributes>,
        quota: Option<&dyn Quota>,
        now: Time,
        rng: &mut Rng,
    ) -> Limited {
        if self.local.is_empty(q.side) {
            return Limited::Pass(None);
        }
        let mut holds = Holds::default();
        if let Err(held) = self.pass_local(&mut holds, q, quota, now) {
            self.give_back(holds, None, now, rng);
            return Limited::Refuse(held);
        }
        let observed = holds.observed.clone();
        self.shard.limit_in_flight.inc();
        *ticket = Some(self.tickets.issue(holds));
        Limited::Pass(observed)
    }

    /// The chain. Returns how long the request is to wait.
    fn pass(
        &mut self,
        holds: &mut Holds,
        q: &Question<'_, impl Attributes>,
        name: impl FnOnce(InterfaceBy, &mut Vec<u8>),
        quota: Option<&dyn Quota>,
        now: Time,
        rng: &mut Rng,
    ) -> Result<Duration, Held> {
        if q.side == Side::Inbound {
            self.admit(holds, q.req, name, now, rng)?;
        }
        let mut wait = Duration::ZERO;
        if !self.local.is_empty(q.side) {
            wait = self.pass_local(holds, q, quota, now)?;
        }
        if q.side == Side::Outbound && !self.breakers.is_empty() {
            match self.breakers.begin(q.req, now, rng) {
                Ok((call, observed)) => {
                    holds.call = call;
                    self.note(holds, observed);
                }
                Err(held) => return Err(self.count(held)),
            }
        }
        Ok(wait)
    }

    fn pass_local(
        &mut self,
        holds: &mut Holds,
        q: &Question<'_, impl Attributes>,
        quota: Option<&dyn Quota>,
        now: Time,
    ) -> Result<Duration, Held> {
        use raddle_policy::limit::Verdict;
        let patience = match (q.can_wait, q.patience) {
            (false, _) => Duration::ZERO,
            (true, None) => Duration::MAX,
            // A turn that comes just when its caller gives up comes too late.
            (true, Some(patience)) => patience.saturating_sub(Duration::from_nanos(1)),
        };
        self.keeps = true;
        let (wait, ask, observed) = match self.local.judge_within(q.side, q.req, now, patience) {
            Verdict::Pass { ticket, wait, ask, observed } => {
                holds.local = ticket;
                (wait, ask, observed)
            }
            Verdict::Refuse(held) => return Err(self.count(held)),
        };
        self.note(holds, observed);
        if !ask {
            return Ok(wait);
        }
        holds.asks.extend(self.local.asks().iter().filter_map(|i| self.rates.get(*i as usize)).cloned());
        holds.asks_until = now + ASK_MOST.min(q.patience.unwrap_or(ASK_MOST));
        match self.ask(holds, quota, now)? {
            Some(again) if again.since(now) <= patience => Ok(wait.max(again.since(now))),
            Some(_) => Err(self.count(unknown_quota(holds.asks.first()))),
            None => Ok(wait),
        }
    }

    /// Asks adaptive limiting.
    fn admit(
        &mut self,
        holds: &mut Holds,
        req: &impl Attributes,
        name: impl FnOnce(InterfaceBy, &mut Vec<u8>),
        now: Time,
        rng: &mut Rng,
    ) -> Result<(), Held> {
        let Some(a) = &mut self.adaptive else { return Ok(()) };
        let by = a.limiting.settings.by;
        let id = a.names.id(&a.limiting.board, now, |out| name(by, out));
        let priority = a.priorities.of(req);
        let admitted = a.gate.admit(id, priority, now, rng);
        let observes = a.limiting.settings.mode == RuleMode::Observe || a.limiting.board.observes();
        let (rule, number) = (a.limiting.rule.clone(), a.number);
        match admitted {
            Ok(()) => {
                holds.interface = Some((number, id));
                Ok(())
            }
            Err(why) => {
                let (detail, again) = (words(why).into(), Again::Unknown);
                let held = Held { reason: Reason::AdaptiveLimited, rule, detail, again };
                if !observes {
                    return Err(self.count(held));
                }
                holds.interface = Some((number, id));
                self.note(holds, Some(held));
                Ok(())
            }
        }
    }

    /// Asks the quota server's client for what is still to be asked. Gives back when to ask again.
    pub(super) fn ask(
        &mut self,
        holds: &mut Holds,
        quota: Option<&dyn Quota>,
        now: Time,
    ) -> Result<Option<Time>, Held> {
        let Some(quota) = quota else {
            // Nobody counts: nothing can be said against it.
            holds.asks.clear();
            return Ok(None);
        };
        let mut again = None;
        for rule in std::mem::take(&mut holds.asks) {
            // Rules may have changed while it waited: one that is gone asks nothing.
            let Some(index) = self.rates.iter().position(|r| *r == rule) else { continue };
            // What is only observed keeps nobody: not known at once is not granted.
            let observes = self.rules.rates.get(index).is_some_and(|r| r.mode == RuleMode::Observe);
            let granted = match quota.try_take(self.worker, &rule, None, now) {
                Take::Later(at) if now < holds.asks_until && !observes => {
                    let at = at.max(now + Duration::from_millis(1)).min(holds.asks_until);
                    again = Some(again.map_or(at, |a: Time| a.min(at)));
                    holds.asks.push(rule);
                    continue;
                }
                Take::Later(_) | Take::Refused => false,
                Take::Taken => true,
            };
            match self.local.answered(index as u32, granted) {
                Ok(observed) => self.note(holds, observed),
                Err(held) => return Err(self.count(held)),
            }
        }
        Ok(again)
    }

    /// A request that waited is dispatched again, or one that is moved or tried again: whether it waits on.
    pub(super) fn judge_again(
        &mut self,
        ticket: &Ticket,
        can_wait: bool,
        quota: Option<&dyn Quota>,
        now: Time,
        rng: &mut Rng,
    ) -> Limited {
        let asks = ticket.with(|h| {
            if std::mem::take(&mut h.waits) {
                self.shard.limit_waiting.dec();
            }
            !h.asks.is_empty()
        });
        if asks == Some(true)
            && let Some(mut holds) = ticket.take_out()
        {
            let asked = self.ask(&mut holds, quota, now);
            holds.waits = matches!(asked, Ok(Some(_))) && can_wait;
            if holds.waits {
                self.shard.limit_waiting.inc();
            }
            match asked {
                Ok(None) => ticket.put_back(holds),
                Ok(Some(at)) if can_wait => {
                    ticket.put_back(holds);
                    return Limited::Wait(at);
                }
                Ok(Some(_)) => {
                    let held = self.count(unknown_quota(holds.asks.first()));
                    self.end(holds, None, now, rng);
                    return Limited::Refuse(held);
                }
                Err(held) => {
                    self.end(holds, None, now, rng);
                    return Limited::Refuse(held);
                }
            }
        }
        Limited::Pass(ticket.with(|h| h.observed.clone()).flatten())
    }

    /// Tells how many breakers are not closed. All workers have the same: one tells.
    pub(super) fn count_breakers(&mut self) {
        if self.worker > 0 {
            return;
        }
        let shard = &self.shard;
        for (rule, n) in self.rules.unwell() {
            let cells = self.open.entry(rule.clone()).or_insert_with(|| shard.breaker(rule));
            cells.open.set(i64::from(n));
        }
    }

    /// Counts a refusal.
    pub(super) fn count(&mut self, held: Held) -> Held {
        self.cells(&held.rule).held.inc();
        held
    }

    /// Counts what would have been a refusal, and keeps the first for the access log.
    pub(super) fn note(&mut self, holds: &mut Holds, observed: Option<Held>) {
        let Some(held) = observed else { return };
        self.cells(&held.rule).observed.inc();
        if holds.observed.is_none() {
            holds.observed = Some(format!("{}{}", crate::authorize::OBSERVED, held.rule).into());
        }
    }

    fn cells(&mut self, rule: &Arc<str>) -> &LimitCells {
        let shard = &self.shard;
        self.cells.entry(rule.clone()).or_insert_with(|| shard.limit(rule))
    }

    /// What a request held whose end nobody told.
    pub(super) fn lost(&mut self) -> Option<Holds> {
        self.tickets.lost()
    }

    /// Whether a gate's interface is the present gate's.
    pub(super) fn current(
        &mut self,
        interface: Option<(u32, InterfaceId)>,
    ) -> Option<(&mut Gate, InterfaceId)> {
        let (number, id) = interface?;
        let a = self.adaptive.as_mut().filter(|a| a.number == number)?;
        Some((&mut a.gate, id))
    }

    /// The breakers of a request's endpoints, if it has any.
    #[inline]
    pub(crate) fn broken<'a>(&'a mut self, ticket: Option<&'a Ticket>, now: Time) -> Option<Broken<'a>> {
        let ticket = ticket.filter(|t| t.with(|h| !h.call.is_none()) == Some(true))?;
        Some(Broken { breakers: RefCell::new(&mut self.breakers), ticket, now })
    }

    /// The header in which the app says what a request cost, if it does.
    pub(crate) fn cost_header(&self) -> Option<&str> {
        self.adaptive.as_ref()?.limiting.settings.cost_header.as_deref()
    }
}

fn words(why: Why) -> &'static str {
    match why {
        Why::Marked => "load-test traffic is held while the app has little to spare",
        Why::Guard => "far more requests of this interface than usual are under way",
        Why::Culprit => "the app is short of resources, and this interface asks for much more than usual",
        Why::Overload => "the app is short of resources, and all of them together are too many",
    }
}

fn unknown_quota(rule: Option<&Arc<str>>) -> Held {
    Held {
        reason: Reason::ClusterLimited,
        rule: rule.cloned().unwrap_or_else(|| "RateLimit".into()),
        detail: "its quota is not known yet, and it cannot be kept until it is".into(),
        again: Again::Unknown,
    }
}
