//! The server's side: who may let through how much.
use super::holder::{Holder, Holders, IDLE};
use super::share::level;
use super::token::Pool;
use super::{CLOSED, Grant, Item, KEEP, LEARN, LEASE, LEASED_FROM, Lease, REPORT, safe};
use raddle_core::Time;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// One life of one sidecar, as the shell numbers them.
pub type ClientId = u64;

/// Who needs less gets no lease, but tokens: a lease of less comes too seldom to be of use.
const SMALL: f64 = 4.0;
/// This share of the limit is not leased out: idle sidecars begin with tokens of it, and those whose lease is used up for
/// the moment find some here, which evens out chance.
const PROBE: f64 = 0.05;
/// Of it is leased out what nobody takes, up to so much; less than this of the limit may go unused. What goes unused of
/// late counts so much at a tick.
const UNTAKEN: f64 = 0.04;
const UNUSED: f64 = 0.005;
const GAIN: f64 = 0.1;
/// Leases that differ by so little from what they should be stay, if there is room: what is not said costs no answer.
const NEAR: f64 = 0.05;
/// Leases are at most so many times what is needed, when there is enough for all.
const SPARE: f64 = 2.0;
/// The mode changes when this much more, or less, than [`LEASED_FROM`].
const MODE_GAP: f64 = 0.1;
/// Shares that differ by less are left as they are.
const SAME: f64 = 0.1;
/// Who holds this much too much, or too little, is asked to report at once,
const POKE: f64 = 0.15;
/// if its last report is so old.
const POKE_AFTER: Duration = Duration::from_millis(200);
/// Time over which too much is made up for; so many seconds' worth of it, and so many standard deviations of what is not
/// said yet, are chance.
const REPAY: f64 = 2.0;
const CHANCE: f64 = 0.01;
const DEVIATIONS: f64 = 3.0;
/// More than so many seconds' worth is not made up for.
const DEBT_MOST: f64 = 2.0;
/// How long who has a lease, and finds no tokens, does not ask for any at least and at most.
const SHORT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(1_000));

/// So many sidecars ask that often; more of them less often.
const CROWD: u32 = 500;
/// Those who have leases ask for tokens of a rule all together no more often than this.
const ASKED: Duration = Duration::from_micros(200);
/// How long who has none does not ask for tokens at most.
const RETRY: Duration = Duration::from_millis(500);

/// What a rule allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// Requests a second, over all sidecars.
    pub per_second: f64,
    /// Requests that may come at once after a pause; small limits alone make use of it.
    pub burst: u32,
}

/// A rule.
#[derive(Debug)]
struct Rule {
    limit: Limit,
    /// A greater one of before, and until when leases of it may hold.
    was: (f64, Time),
    learn_until: Time,
    /// The limit when it began to be learnt, and what those who were met meanwhile said to hold.
    limit_before: f64,
    told: Lease,
    holders: Holders,
    /// Sums over the holders: leases that have not ended, what is kept for the silent, safe shares, what is needed.
    charged: f64,
    reserved: f64,
    safe: f64,
    wants: f64,
    /// Safe shares together when the limit was lowered, until they fit again; 0 = they do.
    over: f64,
    /// How it is divided: nobody gets more than `level`, nor more than `spare` times what they need.
    level: f64,
    spare: f64,
    /// Requests a second that may be leased out, and those of them that the pool did not need.
    room: f64,
    untaken: f64,
    by_tokens: bool,
    pool: Pool,
    used: u64,
    tokens: u64,
    /// Requests of who is no sidecar, since the last tick, and a second.
    direct: u64,
    direct_rate: f64,
    /// What passed too much, and has not been made up for: of what was said, and with what is likely not said yet.
    debt: f64,
    owed: f64,
    /// Requests a second that are neither leased out nor given as tokens until it is.
    repay: f64,
    ticked: Time,
}

/// A rule, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleView {
    /// Its name.
    pub rule: Arc<str>,
    /// Requests a second.
    pub limit: f64,
    /// Whether tokens are given instead of leases.
    pub by_tokens: bool,
    /// Whether it only confirms yet.
    pub learning: bool,
    /// Sidecars that have it.
    pub sidecars: usize,
    /// Those of them with requests.
    pub active: usize,
    /// Those of them that are silent, and whose safe share is kept for them.
    pub silent: usize,
    /// Requests a second that come, over all.
    pub demand: f64,
    /// Requests a second leased out.
    pub leased: f64,
    /// Sum of the safe shares.
    pub safe: f64,
    /// Requests let through since the rule is here.
    pub used: u64,
    /// Tokens given.
    pub tokens: u64,
}

/// The rules of the shards that are here.
#[derive(Debug, Default)]
pub struct Server {
    rules: BTreeMap<Arc<str>, Rule>,
    /// Where the last sidecar was found.
    hint: usize,
}

impl Server {
    /// Takes a rule over, or changes its limit. `learn`: somebody may hold leases of it that are not known here.
    pub fn set(&mut self, rule: &Arc<str>, limit: Limit, learn: bool, now: Time) {
        match self.rules.get_mut(rule) {
            Some(known) => known.change(limit, now),
            None => {
                let learn_until = if learn { now + LEARN } else { now };
                self.rules.insert(rule.clone(), Rule::new(limit, learn_until, now));
            }
        }
    }

    /// Forgets a rule.
    pub fn remove(&mut self, rule: &str) {
        self.rules.remove(rule);
    }

    /// Whether the rule is here.
    pub fn has(&self, rule: &str) -> bool {
        self.rules.contains_key(rule)
    }

    /// The rules that are here.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<str>> {
        self.rules.keys()
    }

    /// What a sidecar says of a rule, in its report `seq`, which grows with every report of one life; and what it gets.
    /// `None` = the rule is not here, or who uses tokens asked for some while the rule is learnt: it does as if there
    /// were no server yet.
    pub fn on_item(&mut self, client: ClientId, seq: u64, item: &Item, now: Time) -> Option<Grant> {
        let hint = &mut self.hint;
        self.rules.get_mut(&item.rule)?.on_item((client, hint), seq, item, now)
    }

    /// Whether `n` requests pass, of who is no sidecar and asks for each; and when to ask again if not. `None` = the rule
    /// is not here.
    pub fn take(&mut self, rule: &str, n: u32, now: Time) -> Option<(bool, Duration)> {
        let rule = self.rules.get_mut(rule)?;
        rule.direct += u64::from(n);
        if now < rule.learn_until {
            return Some((false, rule.learn_until.since(now)));
        }
        if !rule.pool.take_whole(n, rule.limit.burst, now) {
            return Some((false, rule.pool.retry(n, RETRY, now)));
        }
        rule.tokens += u64::from(n);
        Some((true, Duration::ZERO))
    }

    /// The sidecar's connection ended.
    pub fn closed(&mut self, client: ClientId) {
        for rule in self.rules.values_mut() {
            if let Some(place) = rule.holders.find(client, 0) {
                rule.holders.at(place).closed = true;
            }
        }
    }

    /// Divides anew; call it every [`super::TICK`]. Who shall report at once is added to `poke`, in order.
    pub fn tick(&mut self, now: Time, poke: &mut Vec<ClientId>) {
        for rule in self.rules.values_mut() {
            rule.tick(now, poke);
        }
        poke.sort_unstable();
        poke.dedup();
    }

    /// The sum of all leases of a rule that somebody may believe in.
    pub fn leased(&self, rule: &str, now: Time) -> f64 {
        self.rules.get(rule).map_or(0.0, |r| r.holders.values().map(|h| h.charge(now)).sum())
    }

    /// How a rule is.
    pub fn view(&self, now: Time) -> Vec<RuleView> {
        self.rules.iter().map(|(name, rule)| rule.view(name, now)).collect()
    }
}

impl Rule {
    fn new(limit: Limit, learn_until: Time, now: Time) -> Rule {
        let mut pool = Pool::new(now);
        if learn_until <= now {
            pool.set(limit.per_second, pooled(limit), now);
        }
        Rule {
            limit,
            was: (0.0, now),
            learn_until,
            limit_before: limit.per_second,
            told: Lease::default(),
            holders: Holders::default(),
            charged: 0.0,
            reserved: 0.0,
            safe: 0.0,
            over: 0.0,
            wants: 0.0,
            level: f64::INFINITY,
            spare: SPARE,
            room: limit.per_second * (1.0 - PROBE),
            untaken: 0.0,
            by_tokens: true,
            pool,
            used: 0,
            tokens: 0,
            direct: 0,
            direct_rate: 0.0,
            debt: 0.0,
            owed: 0.0,
            repay: 0.0,
            ticked: now,
        }
    }

    fn change(&mut self, limit: Limit, now: Time) {
        if limit.per_second < self.limit.per_second {
            let was = if now < self.was.1 { self.was.0 } else { 0.0 };
            self.was = (was.max(self.limit.per_second), now + LEASE);
            self.over = self.over.max(self.safe);
        }
        if self.limit != limit {
            self.limit = limit;
            // What is given from now on is of this one.
            self.divide(now);
        }
    }

    fn on_item(
        &mut self,
        (client, hint): (ClientId, &mut usize),
        seq: u64,
        item: &Item,
        now: Time,
    ) -> Option<Grant> {
        let learning = now < self.learn_until;
        let found = self.holders.find(client, *hint);
        let known = found.is_some();
        let place = found.unwrap_or_else(|| self.holders.add(client, now));
        *hint = place;
        let holder = self.holders.at(place);
        let before = (holder.charge(now), holder.safe(), holder.want(), holder.reserve(now));
        // A sidecar that was never given anything uses what strangers may; that is no lease to be confirmed.
        let stranger = item.held == 0;
        if !known && learning && !stranger {
            // What somebody else gave it. Nobody was given more than all there was: one that says so gets no more of it
            // than others.
            let most = self.limit_before.max(self.limit.per_second);
            let lease = Lease { rate: sane(item.holding).min(most), safe: sane(item.safe).min(most) };
            holder.told(lease, item.held, sane(item.demand), now);
            self.told = Lease { rate: self.told.rate + lease.rate, safe: self.told.safe + lease.safe };
        }
        holder.ack(item.held);
        // What passed while it was silent was kept for it, or was before this server's time.
        if known && !holder.silent(now) {
            self.debt += item.used as f64;
        }
        holder.passed(item.used, now);
        (holder.seen, holder.closed) = (now, false);
        if item.ask == 0 {
            holder.demand = sane(item.demand);
        } else {
            holder.demand = holder.demand.max(sane(item.demand));
        }
        self.used += item.used;
        let (own, told) = ((holder.charge(now), holder.safe(), holder.want()), holder.told);
        let reserve = holder.reserve(now);
        self.charged += own.0 - before.0;
        self.safe += own.1 - before.1;
        self.wants += own.2 - before.2;
        self.reserved = (self.reserved - before.3 + reserve).max(0.0);

        let mut grant = Grant { rule: item.rule.clone(), lease: None, tokens: 0, retry: Duration::ZERO };
        if item.ask == 0 && learning && stranger {
            // It is given something when what the others hold is known.
        } else if item.ask == 0 {
            let lease = if learning { self.confirm(own, told, item) } else { self.lease(own) };
            self.holders.at(place).give(seq, lease, now);
            self.charged += (lease.rate - own.0).max(0.0);
            self.safe += (lease.safe - own.1).max(0.0);
            grant.lease = Some(lease);
            if !learning {
                self.fill(now);
            }
        } else if learning && own.0 <= 0.0 {
            return None;
        } else if learning {
            grant.retry = self.learn_until.since(now);
        } else {
            grant.tokens = self.pool.take(item.ask, now);
            self.tokens += u64::from(grant.tokens);
            if own.0 > 0.0 {
                // Many ask less often, so that all together ask no more than so often.
                let crowd = self.holders.len() as u32;
                grant.retry = ASKED * crowd;
                if grant.tokens == 0 {
                    let longest = SHORT.1 * (crowd / CROWD).max(1);
                    let turn = self.pool.retry(item.ask, longest, now);
                    grant.retry = grant.retry.max(turn).max(SHORT.0);
                }
            } else if grant.tokens == 0 {
                grant.retry = self.pool.retry(1, RETRY, now);
            }
        }
        Some(grant)
    }

    /// While it is learnt: what it holds, and nothing more. Together that is not more than was given, unless the limit is
    /// less than it was: then each has as much less.
    fn confirm(&self, own: (f64, f64, f64), told: Lease, item: &Item) -> Lease {
        let limit = self.limit.per_second;
        let less = limit / self.limit_before.max(limit);
        let fit = |told: f64, all: f64| told * less.min(limit / all.max(limit));
        let rate = fit(told.rate, self.told.rate).min(own.0).min(sane(item.holding));
        let safe = fit(told.safe, self.told.safe).min(own.1).min(sane(item.safe));
        Lease { rate, safe }
    }

    /// What a sidecar gets that may believe in `own` (lease, safe share) and needs `want`.
    fn lease(&self, (charge, safe, want): (f64, f64, f64)) -> Lease {
        let target = self.target(want);
        // Rounding must not add up to more than the limit.
        let free = (self.limit.per_second * (1.0 - 1e-9) - self.charged - self.reserved).max(0.0);
        let near = (target - charge).abs() <= NEAR * charge && self.charged + self.reserved <= self.room;
        let rate = if near { charge } else { target.min(charge + free) };
        let rate = if self.by_tokens || rate < SMALL.min(self.limit.per_second) * 0.5 { 0.0 } else { rate };
        let aim = safe::share(self.limit.per_second, self.holders.len(), want, self.wants);
        let limit = self.limit.per_second * (1.0 - 1e-9);
        // Shares of a higher limit go down together, whoever is heard first, not to what each would have by itself.
        let most =
            if self.over > limit { safe * limit / self.over } else { safe + (limit - self.safe).max(0.0) };
        let close = (aim - safe).abs() <= SAME * safe && self.safe <= self.limit.per_second;
        Lease { rate, safe: if close { safe } else { aim.min(most) } }
    }

    fn target(&self, want: f64) -> f64 {
        if self.by_tokens || want < SMALL { 0.0 } else { (want * self.spare).min(self.level) }
    }

    fn tick(&mut self, now: Time, poke: &mut Vec<ClientId>) {
        if now >= self.learn_until {
            self.doubt();
        }
        self.divide(now);
        if now >= self.learn_until {
            self.pokes(now, poke);
        }
    }

    /// When all have told what they hold, that is no more than there was, unless somebody lies; who does and goes on
    /// saying so has its part of the whole, and no more.
    fn doubt(&mut self) {
        let told = std::mem::take(&mut self.told);
        let most = self.limit_before.max(self.limit.per_second);
        if told.rate <= most && told.safe <= most {
            return;
        }
        let part = Lease { rate: most / told.rate.max(most), safe: most / told.safe.max(most) };
        self.holders.iter_mut().for_each(|(_, h)| h.doubt(part));
    }

    fn divide(&mut self, now: Time) {
        self.holders.retain(|h| now.since(h.seen) <= if h.closed { CLOSED } else { KEEP });
        let (mut charged, mut reserved, mut safe, mut wants, mut unsaid) = (0.0, 0.0, 0.0, 0.0, 0.0);
        let mut active = 0usize;
        let mut wanted = Vec::with_capacity(self.holders.len());
        for holder in self.holders.values() {
            charged += holder.charge(now);
            reserved += holder.reserve(now);
            safe += holder.safe();
            unsaid += holder.unsaid(now);
            let want = holder.want();
            if holder.closed || holder.silent(now) {
                continue;
            }
            if want > 0.0 {
                active += 1;
                wants += want;
                wanted.push((want, 1.0));
            }
        }
        let passed = now.since(self.ticked).as_secs_f64();
        if passed > 0.0 {
            let rate = std::mem::take(&mut self.direct) as f64 / passed;
            self.direct_rate += (1.0 - (-passed).exp()) * (rate - self.direct_rate);
            let lost = self.pool.lost(now) / passed - UNUSED * self.limit.per_second;
            self.untaken = (self.untaken + GAIN * lost).clamp(0.0, UNTAKEN * self.limit.per_second);
        }
        if self.direct_rate >= IDLE {
            // They are not given a lease, so their share is left for tokens.
            active += 1;
            wants += self.direct_rate;
            wanted.push((self.direct_rate, 1.0));
        }
        (self.charged, self.reserved, self.safe, self.wants) = (charged, reserved, safe, wants);
        if safe <= self.limit.per_second {
            self.over = 0.0;
        }
        self.settle(unsaid, now);
        let limit = self.limit.per_second;
        let each = limit / active.max(1) as f64;
        let turn = LEASED_FROM * if self.by_tokens { 1.0 + MODE_GAP } else { 1.0 - MODE_GAP };
        self.by_tokens = each < turn;
        let repay =
            ((self.owed - CHANCE * limit - DEVIATIONS * unsaid.sqrt()) / REPAY).clamp(0.0, 0.2 * limit);
        // What is not asked for makes up for it by itself.
        let repay = if wants + repay <= limit { 0.0 } else { repay };
        self.repay = repay;
        let room = ((limit - reserved - repay) * (1.0 - PROBE) + self.untaken).max(0.0);
        self.room = room + reserved;
        self.level = level(&mut wanted, room);
        self.spare = (room / wants.max(IDLE)).clamp(1.0, SPARE);
        if now >= self.learn_until {
            self.fill(now);
        }
    }

    /// What is not leased out, nor kept for the silent, comes as tokens.
    fn fill(&mut self, now: Time) {
        let rest = self.limit.per_second - self.charged - self.reserved - self.repay;
        self.pool.set(rest, pooled(self.limit), now);
    }

    /// What passed beyond the limit is made up for; what did not is not given later.
    fn settle(&mut self, unsaid: f64, now: Time) {
        let passed = now.since(std::mem::replace(&mut self.ticked, now)).as_secs_f64();
        let limit = self.limit.per_second;
        let was = if now < self.was.1 + REPORT { self.was.0 } else { 0.0 };
        self.debt = (self.debt - passed * limit.max(was)).clamp(-unsaid, DEBT_MOST * limit.max(was));
        self.owed = self.debt + unsaid;
    }

    /// Asks those to report at once who hold too much while others wait, and those who wait when there is something.
    fn pokes(&mut self, now: Time, poke: &mut Vec<ClientId>) {
        if self.by_tokens && self.charged == 0.0 {
            return;
        }
        let free = self.limit.per_second - self.charged - self.reserved;
        let (level, spare, by_tokens) = (self.level, self.spare, self.by_tokens);
        let target = |want: f64| if by_tokens || want < SMALL { 0.0 } else { (want * spare).min(level) };
        let lacks = |h: &Holder| target(h.want()).min(h.want()) > h.charge(now) * (1.0 + POKE) + 1.0;
        let waits = by_tokens || self.holders.values().any(lacks);
        if !waits {
            return;
        }
        let limit = self.limit.per_second;
        for (client, holder) in self.holders.iter_mut() {
            let late = now.since(holder.seen) > POKE_AFTER && now.since(holder.poked) > POKE_AFTER;
            if !late || holder.closed || holder.silent(now) {
                continue;
            }
            let charge = holder.charge(now);
            let too_much = charge > target(holder.want()) * (1.0 + POKE) + 1.0 && free < 0.1 * limit;
            if too_much || (lacks(holder) && free > 0.05 * target(holder.want()) + 1.0) {
                holder.poked = now;
                poke.push(client);
            }
        }
    }

    fn view(&self, name: &Arc<str>, now: Time) -> RuleView {
        let live = || self.holders.values().filter(|h| !h.closed && !h.silent(now));
        RuleView {
            rule: name.clone(),
            limit: self.limit.per_second,
            by_tokens: self.by_tokens,
            learning: now < self.learn_until,
            sidecars: self.holders.len(),
            active: live().filter(|h| h.demand >= IDLE).count(),
            silent: self.holders.values().filter(|h| h.silent(now)).count(),
            demand: live().map(|h| h.demand).sum(),
            leased: self.holders.values().map(|h| h.charge(now)).sum(),
            safe: self.holders.values().map(Holder::safe).sum(),
            used: self.used,
            tokens: self.tokens,
        }
    }
}

/// What the pool keeps: a thirtieth of a second; of small limits some requests.
fn pooled(limit: Limit) -> f64 {
    let few = f64::from(limit.burst).min(8.0).min(0.5 * limit.per_second);
    (limit.per_second / 30.0).max(few)
}

/// A number from the network.
fn sane(n: f64) -> f64 {
    if n.is_finite() { n.clamp(0.0, 1e9) } else { 0.0 }
}
