//! The sidecar's side: what it reports, and what it does with the answers.
use super::{Grant, Item, LEASE, Pot, TOKEN};
use raddle_core::Time;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Between reports that are made early because more comes than was said, or a lease shrank.
const EARLY: Duration = Duration::from_millis(100);
/// Between asking for tokens beside leases, for every rule of which one is held: all of them are asked for together.
const BESIDE: Duration = Duration::from_millis(20);
/// A lease that shrank by less than this part of the limit, and of itself, is acknowledged with the next report: what
/// others wait for is little.
const SHRANK: f64 = 0.0005;
const SHRANK_PART: f64 = 0.05;
/// What is so many times more than expected, or less, is reported early.
const JUMP: f64 = 1.25;
/// What is no chance: beyond so many standard deviations, and so many requests.
const ODD: f64 = 4.0;
const ODD_LEAST: f64 = 5.0;
/// What comes is looked at over this time at least, and smoothed over this one, in seconds.
const LOOK: Duration = Duration::from_millis(500);
const SMOOTH: f64 = 2.0;
/// Reports whose sending is remembered: as many as can be answered before a lease would have ended, and more.
const SENT: usize = 512;
/// Tokens asked for at once: a tenth of a second's, within these bounds; and whoever waits.
const BATCH: (f64, f64) = (1.0, 10.0);
const ASK_MOST: u32 = 100;
/// Who asks seldom, as it has a lease, asks for so many seconds' worth of what that is too small by.
const BESIDE_BATCH: f64 = 0.25;
/// No server may forbid to ask for longer.
const BARRED_MOST: Duration = Duration::from_secs(10);

/// A rule that a sidecar needs quota of.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Its name.
    pub rule: Arc<str>,
    /// Requests a second over all sidecars.
    pub per_second: f64,
}

#[derive(Debug)]
struct Mine {
    pot: Arc<Pot>,
    per_second: f64,
    safe: f64,
    /// When the limit was lowered, and to what part of it: answers to what was said before may be of the higher one.
    lowered: (Time, f64),
    held: u64,
    /// Counts and time of the last report, and of the last look.
    seen: u64,
    used: u64,
    at: Time,
    demand: f64,
    /// Over how long the demand was looked at since it changed, seconds.
    looked: f64,
    /// A lease shrank: it is acknowledged soon.
    shrank: bool,
    /// When tokens were asked for that have not come yet. They would be good no longer after [`TOKEN`], so then it is as
    /// if nobody had asked.
    asked: Option<Time>,
}

/// One sidecar at all its cluster rules.
#[derive(Debug, Default)]
pub struct Client {
    rules: BTreeMap<Arc<str>, Mine>,
    seq: u64,
    /// When reports were sent, newest last.
    sent: std::collections::VecDeque<(u64, Time)>,
    early: Time,
    /// Tokens beside leases are not asked for before.
    beside: Time,
}

impl Client {
    /// The rules that are in force now. Pots of those that stay are kept.
    pub fn set(&mut self, wanted: &[Wanted], now: Time) {
        self.rules.retain(|name, _| wanted.iter().any(|w| w.rule == *name));
        for want in wanted {
            let mine = self.rules.entry(want.rule.clone()).or_insert_with(|| Mine::new(want.per_second, now));
            // A safe share of a higher limit would be used for as long as nobody answers.
            if want.per_second < mine.per_second {
                let part = want.per_second.max(0.0) / mine.per_second;
                mine.lowered =
                    (now, part * if now.since(mine.lowered.0) < LEASE { mine.lowered.1 } else { 1.0 });
                mine.safe *= part;
                mine.pot.lower(mine.safe);
            }
            mine.per_second = want.per_second;
        }
    }

    /// What workers take from; `None` = there is no such rule.
    pub fn pot(&self, rule: &str) -> Option<&Arc<Pot>> {
        self.rules.get(rule).map(|m| &m.pot)
    }

    /// All pots by name.
    pub fn pots(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Pot>)> {
        self.rules.iter().map(|(name, mine)| (name, &mine.pot))
    }

    /// The report that is due every [`super::REPORT`], of the rules that `of` says: its number and items.
    pub fn report(&mut self, now: Time, of: impl Fn(&str) -> bool) -> (u64, Vec<Item>) {
        let seq = self.next(now);
        let items = self.rules.iter_mut().filter(|(name, _)| of(name));
        (seq, items.map(|(name, mine)| mine.item(name, now)).collect())
    }

    /// What cannot wait for the next report: tokens, acknowledgements, demand that has jumped. `None` = nothing.
    pub fn early(&mut self, now: Time, of: impl Fn(&str) -> bool) -> Option<(u64, Vec<Item>)> {
        let due = now.since(self.early) >= EARLY;
        let beside = now >= self.beside;
        let (mut items, mut leases, mut asked) = (Vec::new(), 0, false);
        for (name, mine) in self.rules.iter_mut().filter(|(name, _)| of(name)) {
            if due && (mine.shrank || mine.jumped(now)) {
                self.early = now;
                items.push(mine.item(name, now));
            }
            let leased = mine.pot.leased();
            leases += u32::from(leased);
            // Who has no lease that holds uses its safe share: first it reports.
            let asks = if mine.pot.decided_by_lease(now) { mine.pot.asks() } else { 0 };
            if asks > 0 && !mine.waits(now) && (beside || !leased) {
                asked |= leased;
                mine.asked = Some(now);
                items.push(mine.ask(name, asks, now));
            }
        }
        if asked {
            self.beside = now + BESIDE * (leases - 1);
        }
        if items.is_empty() {
            return None;
        }
        Some((self.next(now), items))
    }

    /// Takes the answer to report `seq` in. Late ones change nothing.
    pub fn on_grant(&mut self, seq: u64, grant: &Grant, now: Time) {
        let Some(mine) = self.rules.get_mut(&grant.rule) else { return };
        let sent = self.sent.iter().rev().find(|(n, _)| *n == seq).map(|(_, at)| *at);
        if let (Some(lease), Some(sent)) = (grant.lease, sent)
            && seq > mine.held
            && sent + LEASE > now
        {
            let little = SHRANK * mine.per_second;
            let less =
                |new: f64, old: f64| new < old && (old - new > little || new < old * (1.0 - SHRANK_PART));
            let safe = if sent <= mine.lowered.0 { lease.safe * mine.lowered.1 } else { lease.safe };
            mine.shrank = less(lease.rate, mine.pot.holding(now)) || less(safe, mine.safe);
            (mine.held, mine.safe) = (seq, safe);
            mine.pot.hold(lease.rate, safe, sent + LEASE, now);
        }
        if grant.lease.is_none() {
            mine.asked = None;
            if let Some(sent) = sent {
                mine.pot.heard(sent, now);
            }
        }
        if let Some(sent) = sent
            && grant.tokens > 0
            && sent + TOKEN > now
        {
            mine.pot.fill(grant.tokens, sent + TOKEN);
        }
        if grant.retry > Duration::ZERO {
            mine.pot.bar(now + grant.retry.min(BARRED_MOST));
        }
    }

    /// The connection ended: what was asked for is not answered any more.
    pub fn disconnected(&mut self) {
        for mine in self.rules.values_mut() {
            mine.asked = None;
            mine.pot.forget_asks();
        }
    }

    fn next(&mut self, now: Time) -> u64 {
        self.seq += 1;
        if self.sent.len() >= SENT {
            self.sent.pop_front();
        }
        self.sent.push_back((self.seq, now));
        self.seq
    }
}

impl Mine {
    fn new(per_second: f64, now: Time) -> Mine {
        let pot = Arc::new(Pot::new(per_second));
        Mine {
            pot,
            per_second,
            safe: 0.0,
            lowered: (Time::ZERO, 1.0),
            held: 0,
            seen: 0,
            used: 0,
            at: now,
            demand: 0.0,
            looked: 0.0,
            shrank: false,
            asked: None,
        }
    }

    /// Looks at what has come: chance is smoothed, what cannot be chance counts at once.
    fn look(&mut self, seen: u64, now: Time) {
        let passed = now.since(self.at).as_secs_f64();
        let come = (seen - self.seen.min(seen)) as f64;
        let expected = self.demand * passed;
        let odd = (come - expected).abs() > ODD * expected.sqrt() + ODD_LEAST;
        if passed < LOOK.as_secs_f64() && !(odd && passed >= EARLY.as_secs_f64() / 2.0) {
            return;
        }
        let rate = come / passed;
        // What is known from a short look only is soon replaced by what is known from longer ones.
        self.looked = if odd { passed } else { self.looked + passed };
        let weight = (passed / self.looked).max(1.0 - (-passed / SMOOTH).exp());
        self.demand += weight * (rate - self.demand);
        (self.seen, self.at) = (seen, now);
    }

    fn item(&mut self, name: &Arc<str>, now: Time) -> Item {
        let (seen, used) = self.pot.counts();
        self.look(seen, now);
        let passed = used - self.used.min(used);
        (self.used, self.shrank) = (used, false);
        Item {
            rule: name.clone(),
            demand: self.demand,
            used: passed,
            held: self.held,
            holding: self.pot.holding(now),
            safe: self.safe,
            ask: 0,
        }
    }

    fn ask(&mut self, name: &Arc<str>, asks: u32, now: Time) -> Item {
        let (_, used) = self.pot.counts();
        let passed = used - self.used.min(used);
        self.used = used;
        // Beside a lease as many as it is too small by: what it is enough for again would be lost.
        let lease = if self.pot.leased() { self.pot.holding(now) } else { 0.0 };
        let part = if lease > 0.0 { BESIDE_BATCH } else { 0.1 };
        let batch = (part * (self.demand - lease)).clamp(BATCH.0, BATCH.1) as u32;
        Item {
            rule: name.clone(),
            demand: self.demand,
            used: passed,
            held: self.held,
            // A server that begins may hear this first.
            holding: self.pot.holding(now),
            safe: self.safe,
            ask: batch.max(asks).min(ASK_MOST),
        }
    }

    fn waits(&self, now: Time) -> bool {
        self.asked.is_some_and(|at| now < at + TOKEN)
    }

    fn jumped(&self, now: Time) -> bool {
        let (seen, _) = self.pot.counts();
        let come = (seen - self.seen.min(seen)) as f64;
        let expected = self.demand * now.since(self.at).as_secs_f64();
        let chance = ODD * expected.sqrt() + ODD_LEAST;
        // Others wait for what is not needed any more.
        come > JUMP * expected + chance || (self.pot.leased() && JUMP * come + chance < expected)
    }
}
