//! What one replica knows of all sidecars: its own from their reports, the others' from the store. Time is passed in.
use super::edges::Edges;
use super::limits::LimitStatus;
use super::status::{LinkStatus, NodeStatus, Refusal};
use super::story::Story;
use super::sums::{self, Sums};
use super::{GRACE, PACE, check};
use crate::keys;
use crate::rules::RuleBook;
use bytes::Bytes;
use raddle_store::Key;
use raddle_xds::proto::{Node, ReportRequest};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::time::Instant;

/// Most bytes of a status in the store; of a larger one the store gets the digest only.
const VALUE: usize = 512 << 10;

/// The store is told of an app's callers no more often than this.
const LINKS_PACE: std::time::Duration = std::time::Duration::from_secs(5);

/// What is known.
#[derive(Debug, Default)]
pub(super) struct State {
    own: BTreeMap<Arc<str>, Own>,
    /// Sidecars of other replicas, by id.
    pub(super) others: BTreeMap<Arc<str>, Arc<NodeStatus>>,
    pub(super) sums: BTreeMap<Arc<str>, OwnSums>,
    /// Sums of other replicas, by rule and replica.
    pub(super) told: HashMap<Arc<str>, BTreeMap<Arc<str>, Sums>>,
    /// What was seen of each rollout at the last look.
    pub(super) looks: HashMap<Arc<str>, Look>,
    /// Who calls whom.
    pub(super) edges: Edges,
    /// What is to be told of it.
    pub(super) story: Story,
    /// When each app's callers were written last.
    wrote: HashMap<Arc<str>, Instant>,
    /// Removals that the store has not taken yet.
    removals: Vec<Write>,
}

/// A sidecar whose stream is here.
#[derive(Debug)]
struct Own {
    status: Arc<NodeStatus>,
    stream: u64,
    /// When its stream ended.
    gone: Option<Instant>,
    /// The store does not have it yet.
    due: bool,
    wrote: Option<Instant>,
}

/// What this replica's sidecars reported of a rollout.
#[derive(Debug, Default)]
pub(super) struct OwnSums {
    pub(super) sums: Sums,
    due: bool,
    wrote: Option<Instant>,
}

/// A rollout, when it was looked at last.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) seed: Arc<str>,
    /// When it was looked at first.
    pub(super) first: Instant,
    /// The sums then, by replica. A replica that vanishes may come back with its sums, so they stay.
    pub(super) sums: BTreeMap<Arc<str>, Sums>,
}

/// A write that is due.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) key: Key,
    /// `None` = it is removed.
    pub(super) value: Option<Bytes>,
    pub(super) of: Of,
}

/// What a write is of.
#[derive(Clone, Debug)]
pub(super) enum Of {
    Node(Arc<str>),
    Sums(Arc<str>),
    /// Calls to an app.
    Links(Arc<str>),
}

/// What a stream says once for all.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) id: Arc<str>,
    pub(super) node: Node,
    pub(super) replica: Arc<str>,
    pub(super) stream: u64,
    pub(super) since: u64,
}

impl State {
    /// A report; true if the store must be told. `resolve` says whose an address is.
    pub(super) fn take(
        &mut self,
        from: &Origin,
        report: ReportRequest,
        book: &RuleBook,
        at: u64,
        resolve: impl Fn(&str) -> Option<Arc<str>>,
    ) -> bool {
        let before = self.own.get(&from.id).map(|own| own.status.clone());
        let status = Arc::new(status(from, &report, before.as_deref(), book, at));
        self.count(&status, &report, book);
        let app: Arc<str> = from.node.app.as_str().into();
        let happened = self.edges.take(&app, &from.id, &report, at, resolve);
        self.story.callers(happened);
        self.mode_of(&app, &from.id, before.as_deref(), &status);
        let limited = |s: &NodeStatus| s.limits.clone().unwrap_or_default();
        let news = limited(&status).news(before.as_deref().map(limited).as_ref());
        if let Some((what, does)) = news {
            self.story.instance(&app, what, does, &from.id);
        }
        let own = self.own.entry(from.id.clone()).or_insert_with(|| Own {
            status: status.clone(),
            stream: from.stream,
            gone: None,
            due: true,
            wrote: None,
        });
        if own.stream > from.stream {
            // A newer stream speaks for it.
            return false;
        }
        let new = own.stream != from.stream || own.gone.is_some() || !own.status.says(&status);
        own.due |= new;
        (own.stream, own.gone, own.status) = (from.stream, None, status);
        own.due
    }

    /// Notes what an instance carries out since now.
    fn mode_of(&mut self, app: &Arc<str>, id: &Arc<str>, before: Option<&NodeStatus>, now: &NodeStatus) {
        let Some(link) = &now.link else { return };
        let same = |b: &LinkStatus| b.effective == link.effective;
        // What a sidecar says first is news only where it has something in force.
        let quiet = matches!(&*link.effective, "" | "disable");
        if before.and_then(|b| b.link.as_ref()).map_or(quiet, same) {
            return;
        }
        let by =
            if link.rule.is_empty() { "no rule".into() } else { format!("LinkEncryption/{}", link.rule) };
        let does = format!("{} is carried out ({by})", link.effective);
        let what = if link.effective == "strict" { "strictInForce" } else { "linkModeInForce" };
        self.story.instance(app, what, does, id);
    }

    /// Counts a report's requests to the cohorts of the rollouts that run.
    fn count(&mut self, status: &NodeStatus, report: &ReportRequest, book: &RuleBook) {
        if report.stats.is_empty() {
            return;
        }
        for entry in book.rules.values() {
            let Some((_, cohort)) = sums::rollout(entry) else { continue };
            let Some(side) = sums::side(entry, &status.node, &status.running) else { continue };
            let target = sums::target(entry);
            let own = self.sums.entry(entry.id.clone()).or_default();
            if own.sums.seed != cohort.seed {
                own.sums = Sums::new(&cohort.seed);
            }
            for stats in report.stats.iter().filter(|s| sums::tells(target, &status.node, s)) {
                sums::add(own.sums.side(side), stats);
                own.due = true;
            }
        }
    }

    /// A stream has ended.
    pub(super) fn ended(&mut self, from: &Origin, now: Instant) {
        if let Some(own) = self.own.get_mut(&from.id).filter(|own| own.stream == from.stream) {
            own.gone = Some(now);
        }
    }

    /// Keys under the old lease are gone: all is due.
    pub(super) fn anew(&mut self) {
        self.own.values_mut().for_each(|own| (own.due, own.wrote) = (true, None));
        self.sums.values_mut().for_each(|own| (own.due, own.wrote) = (true, None));
    }

    /// The store did not take these.
    pub(super) fn failed(&mut self, jobs: Vec<Write>) {
        for job in jobs {
            if job.value.is_none() {
                self.removals.push(job);
                continue;
            }
            match &job.of {
                Of::Node(id) => self.own.get_mut(id).into_iter().for_each(|own| own.due = true),
                Of::Sums(rule) => self.sums.get_mut(rule).into_iter().for_each(|own| own.due = true),
                Of::Links(app) => drop(self.wrote.remove(app)),
            }
        }
    }

    /// What the store is to be told now.
    pub(super) fn due(&mut self, replica: &str, book: &RuleBook, now: Instant) -> Vec<Write> {
        let ended = |own: &Own| own.gone.is_some_and(|gone| now.duration_since(gone) >= GRACE);
        for (id, own) in self.own.iter().filter(|(_, own)| ended(own)) {
            self.edges.forget(&own.status.node.app, id);
        }
        let mut out = std::mem::take(&mut self.removals);
        // Who came back meanwhile is written, not removed.
        out.retain(|job| match &job.of {
            Of::Node(id) => !self.own.contains_key(id),
            Of::Sums(rule) => !self.sums.contains_key(rule),
            Of::Links(_) => true,
        });
        let free = |wrote: Option<Instant>| wrote.is_none_or(|at| now.duration_since(at) >= PACE);
        self.own.retain(|id, own| {
            let key = || format!("{}{id}", keys::NODES).into();
            let of = || Of::Node(id.clone());
            if let Some(gone) = own.gone {
                let stays = now.duration_since(gone) < GRACE;
                if !stays {
                    out.push(Write { key: key(), value: None, of: of() });
                }
                return stays;
            }
            if own.due && free(own.wrote) {
                (own.due, own.wrote) = (false, Some(now));
                out.push(Write { key: key(), value: Some(kept(&own.status)), of: of() });
            }
            true
        });
        self.sums.retain(|rule, own| {
            let key = || format!("{}{replica}/{rule}", keys::REPORTS).into();
            let of = || Of::Sums(rule.clone());
            let rollout = book.rules.get(rule).and_then(|e| sums::rollout(e));
            if rollout.is_none_or(|(_, cohort)| cohort.seed != own.sums.seed) {
                if own.wrote.is_some() {
                    out.push(Write { key: key(), value: None, of: of() });
                }
                return false;
            }
            if own.due
                && free(own.wrote)
                && let Ok(value) = serde_json::to_vec(&own.sums)
            {
                (own.due, own.wrote) = (false, Some(now));
                out.push(Write { key: key(), value: Some(value.into()), of: of() });
            }
            true
        });
        out
    }

    /// Apps' callers that the other replicas are to be told of now.
    pub(super) fn links_due(&mut self, replica: &str, at: u64, now: Instant) -> Vec<Write> {
        let apps: Vec<Arc<str>> = self.edges.own().cloned().collect();
        let mut out = Vec::new();
        for app in apps {
            if self.wrote.get(&app).is_some_and(|last| now.duration_since(*last) < LINKS_PACE) {
                continue;
            }
            let links = self.edges.of_own(&app, at);
            if let Some(Ok(value)) = links.map(|l| serde_json::to_vec(&l)) {
                let key = format!("{}{replica}/{app}", keys::LINKS).into();
                out.push(Write { key, value: Some(value.into()), of: Of::Links(app.clone()) });
                self.wrote.insert(app, now);
            }
        }
        out
    }

    /// What is known of a sidecar. One that has gone over to another replica is the other's.
    pub(super) fn node(&self, id: &str) -> Option<Arc<NodeStatus>> {
        let own = self.own.get(id);
        let other = self.others.get(id);
        match (own, other) {
            (Some(own), Some(other))
                if own.gone.is_some() || other.connected_since > own.status.connected_since =>
            {
                Some(other.clone())
            }
            (Some(own), _) => Some(own.status.clone()),
            (None, other) => other.cloned(),
        }
    }

    /// All sidecars by id.
    pub(super) fn nodes(&self) -> Vec<Arc<NodeStatus>> {
        let foreign = self.others.keys().filter(|id| !self.own.contains_key(*id));
        let mut ids: Vec<&Arc<str>> = self.own.keys().chain(foreign).collect();
        ids.sort_unstable();
        ids.into_iter().filter_map(|id| self.node(id)).collect()
    }
}

fn status(
    from: &Origin,
    report: &ReportRequest,
    before: Option<&NodeStatus>,
    book: &RuleBook,
    at: u64,
) -> NodeStatus {
    let same = before.filter(|b| {
        b.running.len() == report.running.len()
            && report.running.iter().all(|r| b.running.get(&*r.rule).is_some_and(|v| **v == *r.revision))
    });
    let running = same.map_or_else(|| Arc::new(running(report, book)), |b| b.running.clone());
    let refused = report.refused.iter().cloned().map(|r| Refusal {
        type_url: r.type_url,
        name: r.name,
        version: r.version,
        reason: check::cut(r.reason, check::REASON),
    });
    NodeStatus {
        node: from.node.clone(),
        replica: from.replica.clone(),
        connected_since: from.since,
        last_report: at,
        running,
        digest: report.digest.clone(),
        refused: refused.collect(),
        missing: report.missing.clone(),
        link: report.encryption.as_ref().map(|e| LinkStatus {
            rule: e.rule.clone(),
            mode: e.mode.clone(),
            effective: e.effective.clone(),
            waits: e.waits.clone(),
            certificate_ends: e.certificate_ends,
        }),
        limits: report.limiting.as_ref().and_then(LimitStatus::of),
    }
}

/// What runs, its names and revisions shared with the book: thousands of sidecars run the same.
fn running(report: &ReportRequest, book: &RuleBook) -> BTreeMap<Arc<str>, Arc<str>> {
    let share = |rule: &str, revision: &str| {
        let Some((name, entry)) = book.rules.get_key_value(rule) else {
            return (rule.into(), revision.into());
        };
        let candidate = entry.candidate.as_ref().and_then(|(revision, _)| revision.as_ref());
        let known = entry.stable.iter().chain(candidate).find(|r| *r.hash == *revision);
        (name.clone(), known.map_or_else(|| revision.into(), |r| r.hash.clone()))
    };
    report.running.iter().map(|r| share(&r.rule, &r.revision)).collect()
}

/// A status as the store has it.
fn kept(status: &NodeStatus) -> Bytes {
    // Nothing in it has a form that JSON does not.
    let value = serde_json::to_vec(status).unwrap_or_default();
    if value.len() <= VALUE {
        return value.into();
    }
    let short = NodeStatus {
        running: Arc::default(),
        refused: Vec::new(),
        missing: Vec::new(),
        limits: None,
        ..status.clone()
    };
    serde_json::to_vec(&short).unwrap_or_default().into()
}
