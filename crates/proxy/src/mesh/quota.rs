//! Rates that all sidecars have together: what the workers ask, and the streams to the quota server.
//!
//! What is decided is [`raddle_policy::quota`]'s. Workers take from pots ([`Hook`]) and never wait for this thread. The
//! thread keeps a stream to a replica of the control plane, and to others when that says that they count some of the
//! rules; it reports once a second, and at once when tokens are asked for.
use super::channel::Dialer;
use super::thread::Parts;
use crate::limits::{Quota, Take};
use arc_swap::ArcSwap;
use raddle_core::Time;
use raddle_model::{Bound, Reach};
use raddle_policy::Snapshot;
use raddle_policy::quota::{self, Client, Grant, Item, Lease, Pot, REPORT, Tap, Wanted};
use raddle_xds::proto::quotas_client::QuotasClient;
use raddle_xds::proto::{QuotaAnswer, QuotaGrant, QuotaItem, QuotaReport};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

/// How often it is looked for what cannot wait, while nobody asks for tokens.
const LOOK: Duration = Duration::from_millis(25);
/// How soon who waits for tokens looks again.
const AGAIN: Duration = Duration::from_millis(1);
/// Those who waited and did not come back are forgotten after this.
const FORGET: Duration = Duration::from_millis(100);
/// The longest pause between two tries to connect: the safe share is less than a lease.
const PAUSE_MOST: Duration = Duration::from_secs(1);
const OPEN_PATIENCE: Duration = Duration::from_secs(5);
/// Reports that are on their way to one replica.
const CHANNEL: usize = 8;

type Pots = BTreeMap<Arc<str>, Arc<Pot>>;

/// What workers ask.
pub(crate) struct Hook {
    pots: ArcSwap<Pots>,
    /// Each worker's own.
    workers: Vec<Mutex<Taps>>,
    wake: Notify,
}

#[derive(Default)]
struct Taps {
    pots: Option<Arc<Pots>>,
    taps: HashMap<Box<str>, (Tap, VecDeque<Waits>)>,
}

/// A request that waits for tokens.
struct Waits {
    /// When it looks again, and until when it waits.
    again: Time,
    until: Time,
}

impl Hook {
    pub(crate) fn new(workers: usize) -> Arc<Hook> {
        let workers = (0..workers.max(1)).map(|_| Mutex::default()).collect();
        Arc::new(Hook { pots: ArcSwap::default(), workers, wake: Notify::new() })
    }
}

impl Quota for Hook {
    fn try_take(&self, worker: usize, rule: &str, _value: Option<&[u8]>, now: Time) -> Take {
        let name = rule.strip_prefix("RateLimit/").unwrap_or(rule);
        let mut taps =
            self.workers[worker % self.workers.len()].lock().unwrap_or_else(PoisonError::into_inner);
        taps.follow(&self.pots);
        // A rule that came a moment ago is not counted yet.
        let Some((tap, waits)) = taps.taps.get_mut(name) else { return Take::Taken };
        while waits.front().is_some_and(|w| now.since(w.until) > FORGET) {
            waits.pop_front();
        }
        if waits.front().is_some_and(|w| w.again <= now)
            && let Some(waited) = waits.pop_front()
        {
            if !tap.pot().decided(now) && now < waited.until {
                return later(waits, now, waited.until);
            }
            return if tap.settle(now) { Take::Taken } else { Take::Refused };
        }
        match tap.try_take(now) {
            quota::Take::Taken => Take::Taken,
            quota::Take::Refused => Take::Refused,
            quota::Take::Later(wait) => {
                self.wake.notify_one();
                later(waits, now, now + wait)
            }
        }
    }
}

fn later(waits: &mut VecDeque<Waits>, now: Time, until: Time) -> Take {
    let again = (now + AGAIN).min(until);
    waits.push_back(Waits { again, until });
    Take::Later(again)
}

impl Taps {
    /// Follows the rules: taps of pots that stayed stay.
    fn follow(&mut self, pots: &ArcSwap<Pots>) {
        let now = pots.load();
        if self.pots.as_ref().is_some_and(|known| Arc::ptr_eq(known, &now)) {
            return;
        }
        let mut old = std::mem::take(&mut self.taps);
        for (name, pot) in now.iter() {
            let same = old.remove(&**name).filter(|(tap, _)| Arc::ptr_eq(tap.pot(), pot));
            let tap = same.unwrap_or_else(|| (Tap::new(pot.clone()), VecDeque::new()));
            self.taps.insert((&**name).into(), tap);
        }
        self.pots = Some(now.clone());
    }
}

/// What happens on the streams.
enum Event {
    Up(usize, mpsc::Sender<QuotaReport>),
    Answer(usize, QuotaAnswer),
    Down(usize),
}

/// A replica, by the address that is configured.
#[derive(Default)]
struct Replica {
    /// Whether it is connected to, or tried.
    wanted: bool,
    out: Option<mpsc::Sender<QuotaReport>>,
    /// The first report of a stream says who speaks.
    greeted: bool,
    name: String,
}

struct Quotas {
    parts: Parts,
    hook: Arc<Hook>,
    client: Client,
    session: u64,
    replicas: Vec<Replica>,
    /// Who counts a rule, where it is not whoever is asked first.
    places: HashMap<Arc<str>, String>,
    tell: mpsc::Sender<Event>,
    snapshot: Option<Arc<Snapshot>>,
    rules: usize,
}

/// Runs until the process ends.
pub(crate) async fn run(parts: Parts) {
    let hook = Hook::new(parts.shared.workers().len());
    let (tell, mut events) = mpsc::channel(64);
    let replicas = parts.control.addresses.iter().map(|_| Replica::default()).collect();
    let mut quotas = Quotas {
        session: parts.shared.wall_zero_ns.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ u64::from(std::process::id()),
        hook: hook.clone(),
        client: Client::default(),
        replicas,
        places: HashMap::new(),
        tell,
        snapshot: None,
        rules: 0,
        parts,
    };
    quotas.follow();
    let _ = quotas.parts.shared.quota.set(hook.clone());
    let mut next = Instant::now();
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => quotas.on(event),
                None => return,
            },
            () = hook.wake.notified() => {}
            () = tokio::time::sleep(LOOK) => quotas.follow(),
        }
        if quotas.rules == 0 {
            continue;
        }
        if Instant::now() >= next {
            next = Instant::now() + REPORT;
            quotas.report(None);
        }
        quotas.early();
    }
}

impl Quotas {
    /// Follows the rules in force.
    fn follow(&mut self) {
        let config = self.parts.shared.config.load();
        if self.snapshot.as_ref().is_some_and(|s| Arc::ptr_eq(s, &config.snapshot)) {
            return;
        }
        self.snapshot = Some(config.snapshot.clone());
        let rates = config.snapshot.limits().rates.iter();
        let wanted: Vec<Wanted> = rates
            .filter_map(|rule| match &rule.bound {
                Bound::Rate(rate) if rate.reach == Reach::Cluster => {
                    Some(Wanted { rule: rule.metadata.name.as_str().into(), per_second: rate.per_second })
                }
                _ => None,
            })
            .collect();
        self.rules = wanted.len();
        self.client.set(&wanted, self.parts.shared.clock.now());
        let pots: Pots = self.client.pots().map(|(name, pot)| (name.clone(), pot.clone())).collect();
        self.hook.pots.store(Arc::new(pots));
        if self.rules > 0 && self.replicas.iter().all(|r| !r.wanted) && !self.replicas.is_empty() {
            let first = (self.session % self.replicas.len() as u64) as usize;
            self.want(first);
        }
    }

    fn want(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        if !std::mem::replace(&mut replica.wanted, true) {
            tokio::spawn(keep(self.parts.clone(), index, self.tell.clone()));
        }
    }

    fn on(&mut self, event: Event) {
        match event {
            Event::Up(index, out) => {
                self.replicas[index].out = Some(out);
                self.replicas[index].greeted = false;
                self.report(Some(index));
            }
            Event::Down(index) => {
                self.replicas[index].out = None;
                self.client.disconnected();
                let name = std::mem::take(&mut self.replicas[index].name);
                self.places.retain(|_, place| *place != name);
                // Another may be there.
                let n = self.replicas.len();
                self.want((index + 1) % n);
            }
            Event::Answer(index, answer) => self.answered(index, answer),
        }
    }

    fn answered(&mut self, index: usize, answer: QuotaAnswer) {
        let now = self.parts.shared.clock.now();
        if !answer.replica.is_empty() {
            self.replicas[index].name = answer.replica;
        }
        for grant in answer.grants {
            self.client.on_grant(answer.sequence, &granted(grant), now);
        }
        let mut moved = false;
        for elsewhere in answer.elsewhere.into_iter().filter(|e| !e.replica.is_empty()) {
            let known = self.places.insert(elsewhere.rule.into(), elsewhere.replica.clone());
            moved |= known.is_none_or(|before| before != elsewhere.replica);
        }
        if moved {
            // Which address is whose is known when they have said their names.
            (0..self.replicas.len()).for_each(|i| self.want(i));
        }
        if answer.poke {
            self.report(Some(index));
        }
    }

    /// Reports to one replica, or to all.
    fn report(&mut self, to: Option<usize>) {
        let now = self.parts.shared.clock.now();
        for index in to.map_or(0..self.replicas.len(), |i| i..i + 1) {
            let Some(out) = self.room(index) else { continue };
            let (first, name) = (self.first(), self.replicas[index].name.clone());
            let (places, known) = (&self.places, self.names());
            let of = |rule: &str| counts(rule, index, first, &name, places, &known);
            let (sequence, items) = self.client.report(now, of);
            self.send(index, out, sequence, items);
        }
    }

    /// What cannot wait.
    fn early(&mut self) {
        let now = self.parts.shared.clock.now();
        for index in 0..self.replicas.len() {
            let Some(out) = self.room(index) else { continue };
            let (first, name) = (self.first(), self.replicas[index].name.clone());
            let (places, known) = (&self.places, self.names());
            let of = |rule: &str| counts(rule, index, first, &name, places, &known);
            if let Some((sequence, items)) = self.client.early(now, of) {
                self.send(index, out, sequence, items);
            }
        }
    }

    /// The way to a replica, if it takes something.
    fn room(&self, index: usize) -> Option<mpsc::Sender<QuotaReport>> {
        self.replicas[index].out.clone().filter(|out| out.capacity() > 0)
    }

    /// Who is asked for what has no place yet.
    fn first(&self) -> Option<usize> {
        self.replicas.iter().position(|r| r.out.is_some())
    }

    fn names(&self) -> Vec<String> {
        self.replicas.iter().filter(|r| r.out.is_some()).map(|r| r.name.clone()).collect()
    }

    fn send(&mut self, index: usize, out: mpsc::Sender<QuotaReport>, sequence: u64, items: Vec<Item>) {
        let greeted = std::mem::replace(&mut self.replicas[index].greeted, true);
        if greeted && items.is_empty() {
            return;
        }
        let report = QuotaReport {
            node: (!greeted).then(|| self.parts.node.clone()),
            session: self.session,
            sequence,
            items: items.into_iter().map(message).collect(),
        };
        // There is room; if the stream has ended meanwhile, that is told.
        let _ = out.try_send(report);
    }
}

/// Whether the replica at `index` counts a rule, as far as is known.
fn counts(
    rule: &str,
    index: usize,
    first: Option<usize>,
    name: &str,
    places: &HashMap<Arc<str>, String>,
    known: &[String],
) -> bool {
    match places.get(rule) {
        Some(place) if known.contains(place) => place == name,
        _ => first == Some(index),
    }
}

/// Keeps a stream to one replica.
async fn keep(parts: Parts, index: usize, tell: mpsc::Sender<Event>) {
    let mut control = (*parts.control).clone();
    control.addresses = parts.control.addresses.get(index).cloned().into_iter().collect();
    let mut dialer = Dialer::new(&control, parts.tls(), parts.shared.wall_zero_ns ^ (5 + index as u64));
    loop {
        let ended = match dialer.dial().await {
            Ok(channel) => stream(QuotasClient::new(channel), index, &tell, &mut dialer).await,
            Err(e) => e,
        };
        tracing::debug!(error = ended, "the quota server");
        if tell.send(Event::Down(index)).await.is_err() {
            return;
        }
        tokio::time::sleep(dialer.pause().min(PAUSE_MOST)).await;
    }
}

async fn stream(
    mut client: QuotasClient<tonic::transport::Channel>,
    index: usize,
    tell: &mpsc::Sender<Event>,
    dialer: &mut Dialer,
) -> String {
    let (out, reports) = mpsc::channel(CHANNEL);
    if tell.send(Event::Up(index, out)).await.is_err() {
        return "the sidecar ends".into();
    }
    let opened = tokio::time::timeout(OPEN_PATIENCE, client.lease(ReceiverStream::new(reports))).await;
    let mut answers = match opened {
        Err(_) => return "no answer".into(),
        Ok(Err(status)) => return status.message().to_owned(),
        Ok(Ok(answers)) => answers.into_inner(),
    };
    loop {
        match answers.message().await {
            Err(status) => return status.message().to_owned(),
            Ok(None) => return "it was ended".into(),
            Ok(Some(answer)) => {
                dialer.worked();
                if tell.send(Event::Answer(index, answer)).await.is_err() {
                    return "the sidecar ends".into();
                }
            }
        }
    }
}

fn message(item: Item) -> QuotaItem {
    QuotaItem {
        rule: item.rule.to_string(),
        demand: item.demand,
        used: item.used,
        held: item.held,
        holding: item.holding,
        safe: item.safe,
        ask: item.ask,
    }
}

fn granted(grant: QuotaGrant) -> Grant {
    let sane = |n: f64| if n.is_finite() { n.max(0.0) } else { 0.0 };
    Grant {
        rule: grant.rule.into(),
        lease: grant.lease.map(|l| Lease { rate: sane(l.rate), safe: sane(l.safe) }),
        tokens: grant.tokens,
        retry: Duration::from_millis(grant.retry_ms.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "RateLimit/one";

    fn hook(client: &mut Client, now: Time) -> Arc<Hook> {
        client.set(&[Wanted { rule: "one".into(), per_second: 100.0 }], now);
        let hook = Hook::new(1);
        let pots: Pots = client.pots().map(|(n, p)| (n.clone(), p.clone())).collect();
        hook.pots.store(Arc::new(pots));
        hook
    }

    fn grant(lease: Option<Lease>, tokens: u32, retry: Duration) -> Grant {
        Grant { rule: "one".into(), lease, tokens, retry }
    }

    #[test]
    fn a_request_waits_for_tokens_and_passes_when_they_come() {
        let at = |ms: u64| Time::from_millis(10_000 + ms);
        let mut client = Client::default();
        let hook = hook(&mut client, at(0));
        let (seq, _) = client.report(at(0), |_| true);
        client.on_grant(seq, &grant(Some(Lease { rate: 0.0, safe: 1.0 }), 0, Duration::ZERO), at(1));
        let Take::Later(again) = hook.try_take(0, RULE, None, at(2)) else { panic!("it waits") };
        assert!(matches!(hook.try_take(0, RULE, None, again), Take::Later(_)), "nothing has come yet");
        let (seq, items) = client.early(at(4), |_| true).expect("tokens are asked for");
        assert!(items.iter().any(|i| i.ask > 0));
        client.on_grant(seq, &grant(None, 1, Duration::ZERO), at(5));
        assert_eq!(hook.try_take(0, RULE, None, at(6)), Take::Taken);
        let Take::Later(_) = hook.try_take(0, RULE, None, at(7)) else { panic!("it was used") };
        let (seq, _) = client.early(at(7), |_| true).expect("asked again");
        client.on_grant(seq, &grant(None, 0, Duration::from_millis(50)), at(8));
        assert_eq!(hook.try_take(0, RULE, None, at(9)), Take::Refused, "there are none");
        assert_eq!(hook.try_take(0, RULE, None, at(20)), Take::Refused, "and it is not asked again yet");
        assert!(matches!(hook.try_take(0, RULE, None, at(70)), Take::Later(_)));
    }

    #[test]
    fn a_rule_that_is_not_known_holds_nothing() {
        let mut client = Client::default();
        let hook = hook(&mut client, Time::from_millis(1));
        assert_eq!(hook.try_take(0, "RateLimit/other", None, Time::from_millis(2)), Take::Taken);
    }
}
