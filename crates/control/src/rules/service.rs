//! The rules: changed by people, one transaction a change, and followed by everybody.
use super::admit::{self, Known, Plan, States};
use super::lead::Watched;
use super::strict;
use super::{
    Applied, Callers, Change, Observer, Outcome, Revision, RolloutView, Rule, RuleBook, RuleError, RuleState,
    Which, book,
};
use crate::events::Events;
use crate::keys;
use bytes::Bytes;
use raddle_model::Source;
use raddle_policy::rollout::{Promote, Refusal, Rollout};
use raddle_store::{self as store, Entry, Expect, Follow, Mirror, Op, Store, Txn};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Tries of a change that others overtook.
const TRIES: usize = 16;
/// Revisions kept of a rule.
const HISTORY: u64 = 100;

/// The rules of a control plane.
pub struct Rules {
    pub(super) store: Arc<dyn Store>,
    pub(super) book: watch::Sender<Arc<RuleBook>>,
    known: Box<dyn Fn() -> Known + Send + Sync>,
    pub(super) events: Events,
    pub(super) observer: OnceLock<Arc<dyn Observer>>,
    callers: OnceLock<Arc<dyn Callers>>,
    pub(super) watched: Mutex<HashMap<Arc<str>, Watched>>,
}

/// A rule's state, and the commit that wrote it.
pub(super) type Kept = (RuleState, store::Revision);

impl Rules {
    /// Follows the rules in the store from now on. `known` says which apps and services there are, for warnings.
    pub fn start(
        store: Arc<dyn Store>,
        known: impl Fn() -> Known + Send + Sync + 'static,
        events: Events,
    ) -> Arc<Rules> {
        let rules = Arc::new(Rules {
            store,
            book: watch::channel(Arc::default()).0,
            known: Box::new(known),
            events,
            observer: OnceLock::new(),
            callers: OnceLock::new(),
            watched: Mutex::default(),
        });
        tokio::spawn(follow(Arc::downgrade(&rules), rules.store.clone()));
        rules
    }

    /// Refuses `strict` from now on while `callers` knows of some in plaintext.
    pub fn heed(&self, callers: Arc<dyn Callers>) {
        // Asked once, by whoever composes the control plane.
        let _ = self.callers.set(callers);
    }

    /// All rules, as sidecars are to have them; told with every change.
    pub fn book(&self) -> watch::Receiver<Arc<RuleBook>> {
        self.book.subscribe()
    }

    /// Applies documents, all or none of them.
    ///
    /// # Errors
    /// [`RuleError::Admission`] with everything that is wrong, [`RuleError::Conflict`], [`RuleError::Busy`],
    /// [`RuleError::Plaintext`].
    pub async fn apply(&self, sources: &[Source], change: &Change) -> Result<Outcome, RuleError> {
        self.change(change.dry_run, |states, now| {
            let (documents, mut warnings) = admit::admit(sources, states, &(self.known)())?;
            let callers = self.callers.get().map(|c| &**c);
            warnings.extend(strict::check(&documents, states, callers, change.dry_run, now)?);
            let mut plan = Plan::default();
            for (id, document) in &documents {
                admit::turn(&mut plan, states, id, Some(&document.json), change, now)?;
            }
            plan.outcome.warnings = warnings;
            Ok(plan)
        })
        .await
    }

    /// What applying documents would change; they are admitted as for that.
    pub async fn diff(&self, sources: &[Source]) -> Result<Outcome, RuleError> {
        let change = Change { dry_run: true, replace: true, ..Change::default() };
        self.apply(sources, &change).await
    }

    /// Removes a rule, in stages if it has any.
    pub async fn delete(&self, id: &str, change: &Change) -> Result<Applied, RuleError> {
        let id: Arc<str> = id.into();
        let outcome = self
            .change(change.dry_run, |states, now| {
                let state = states.get(&id).ok_or_else(|| RuleError::Absent(id.to_string()))?;
                if state.stable.is_none() && state.candidate.is_none() {
                    return Err(RuleError::Absent(id.to_string()));
                }
                let mut plan = Plan::default();
                admit::turn(&mut plan, states, &id, None, change, now)?;
                Ok(plan)
            })
            .await?;
        only(outcome, &id)
    }

    /// Makes an earlier revision the newest one again; it spreads as its own stages say.
    pub async fn rollback(&self, id: &str, to: &Which, change: &Change) -> Result<Applied, RuleError> {
        let history = self.history(id).await?;
        let to = match to {
            Which::Previous => {
                let state = self.kept(id).await?.map(|(state, _)| state).unwrap_or_default();
                let (stable, undone) = (state.stable, state.undone);
                // What was tried and taken back is no way back, nor is the same content under another number.
                let before = |r: &&Revision| {
                    r.document.is_some()
                        && !undone.contains(&r.number)
                        && stable.as_ref().is_none_or(|s| r.number < s.number && r.hash != s.hash)
                };
                history.iter().rev().find(before)
            }
            Which::Number(n) => history.iter().find(|r| r.number == *n),
            Which::Hash(h) => history.iter().rev().find(|r| h.len() >= 4 && r.hash.starts_with(h.as_str())),
        };
        let to = to.ok_or_else(|| RuleError::Absent(format!("that revision of {id}")))?;
        let Some(document) = &to.document else {
            return Err(RuleError::Wrong(format!(
                "revision {} of {id} is its removal; delete the rule",
                to.number
            )));
        };
        let source = Source { name: format!("{id}@{}", to.number), text: document.to_string() };
        let mut change = change.clone();
        if change.comment.is_empty() {
            change.comment = format!("back to revision {}", to.number);
        }
        only(self.apply(&[source], &change).await?, id)
    }

    /// A rule; `None` = there is none, or it was removed.
    pub async fn get(&self, id: &str) -> Result<Option<Rule>, RuleError> {
        Ok(self.kept(id).await?.and_then(|(state, _)| rule(id, state)))
    }

    /// All rules, or those of a kind, by id.
    pub async fn list(&self, kind: Option<&str>) -> Result<Vec<Rule>, RuleError> {
        let prefix = kind.map_or(keys::RULES.to_owned(), |kind| format!("{}{kind}/", keys::RULES));
        let listing = self.store.list(&prefix).await?;
        let read = listing.entries.iter().filter_map(|entry| rule(id_of(entry)?, parse(entry)?));
        Ok(read.collect())
    }

    /// The revisions of a rule, the oldest first; also of one that was removed.
    pub async fn history(&self, id: &str) -> Result<Vec<Revision>, RuleError> {
        let listing = self.store.list(&format!("{}{id}/", keys::HISTORY)).await?;
        if listing.entries.is_empty() {
            return Err(RuleError::Absent(id.to_owned()));
        }
        Ok(listing.entries.iter().filter_map(|e| serde_json::from_slice(&e.value).ok()).collect())
    }

    /// The rollout of a rule that runs, or else the last one.
    pub async fn rollout(&self, id: &str) -> Result<RolloutView, RuleError> {
        let (state, _) = self.kept(id).await?.ok_or_else(|| RuleError::Absent(id.to_owned()))?;
        self.view(&id.into(), &state).ok_or_else(|| RuleError::Absent(format!("a rollout of {id}")))
    }

    /// All rollouts that run.
    pub async fn rollouts(&self) -> Result<Vec<RolloutView>, RuleError> {
        let running = self.list(None).await?.into_iter().filter(|rule| rule.state.candidate.is_some());
        Ok(running.filter_map(|rule| self.view(&rule.id, &rule.state)).collect())
    }

    /// Holds a rollout at its stage.
    pub async fn pause(&self, id: &str, by: &str, why: &str) -> Result<RolloutView, RuleError> {
        self.command(id, "paused", by, |rollout, now| rollout.pause(why, by, now)).await
    }

    /// Lets a paused rollout go on.
    pub async fn resume(&self, id: &str, by: &str) -> Result<RolloutView, RuleError> {
        self.command(id, "resumed", by, Rollout::resume).await
    }

    /// Goes to the next stage now, or to everyone.
    pub async fn promote(&self, id: &str, by: &str, to: Promote) -> Result<RolloutView, RuleError> {
        self.command(id, "promoted", by, |rollout, now| rollout.promote(to, now).map(|_| ())).await
    }

    /// Takes a change back from everyone who has it.
    pub async fn undo(&self, id: &str, by: &str, why: &str) -> Result<RolloutView, RuleError> {
        self.command(id, "undone", by, |rollout, now| rollout.undo(why, by, now)).await
    }

    async fn command(
        &self,
        id: &str,
        what: &str,
        by: &str,
        run: impl Fn(&mut Rollout, u64) -> Result<(), Refusal>,
    ) -> Result<RolloutView, RuleError> {
        let id: Arc<str> = id.into();
        for _ in 0..TRIES {
            let kept = self.kept(&id).await?;
            let (mut state, changed) = kept.ok_or_else(|| RuleError::Absent(id.to_string()))?;
            let Some(candidate) = &mut state.candidate else {
                return Err(RuleError::Wrong(format!("no rollout of {id} runs")));
            };
            run(&mut candidate.rollout, now())
                .map_err(|refusal| RuleError::Wrong(format!("{id}: {refusal}")))?;
            let view = self.view(&id, &state);
            admit::settle(&mut state);
            let txn = Txn {
                expect: vec![(key(&id), Expect::At(changed))],
                ops: vec![put(&id, &state)],
                relaxed: false,
            };
            if let store::Outcome::Done(_) = self.store.commit(txn).await? {
                self.events.info("rollout", &*id, format!("{what} by {by}"));
                return view.ok_or(RuleError::Contended);
            }
        }
        Err(RuleError::Contended)
    }

    /// Reads everything, decides, writes; again if somebody was faster.
    async fn change(
        &self,
        dry_run: bool,
        decide: impl Fn(&States, u64) -> Result<Plan, RuleError>,
    ) -> Result<Outcome, RuleError> {
        for _ in 0..TRIES {
            let epoch = self.store.get(keys::RULES_EPOCH).await?;
            let listing = self.store.list(keys::RULES).await?;
            let kept: HashMap<Arc<str>, Kept> = listing.entries.iter().filter_map(read).collect();
            let states: States = kept.iter().map(|(id, (state, _))| (id.clone(), state.clone())).collect();
            let plan = decide(&states, now())?;
            if dry_run || plan.writes.is_empty() {
                return Ok(plan.outcome);
            }
            match self.store.commit(transaction(&plan, &kept, epoch)).await? {
                store::Outcome::Done(_) => {
                    self.tell(&plan);
                    return Ok(plan.outcome);
                }
                store::Outcome::Conflict(..) => {}
            }
        }
        Err(RuleError::Contended)
    }

    fn tell(&self, plan: &Plan) {
        for (id, state, revision) in &plan.writes {
            let what = if revision.document.is_none() { "ruleDeleted" } else { "ruleApplied" };
            let spread = match &state.candidate {
                Some(c) => format!("in {} stages", c.rollout.plan().stages.len()),
                None => "for everyone".to_owned(),
            };
            let by = &revision.author;
            self.events.info(what, &**id, format!("revision {} by {by}, {spread}", revision.number));
        }
    }

    pub(super) async fn kept(&self, id: &str) -> Result<Option<Kept>, RuleError> {
        let entry = self.store.get(&key(id)).await?;
        Ok(entry.and_then(|entry| Some((parse(&entry)?, entry.changed))))
    }

    pub(super) fn watched(&self) -> MutexGuard<'_, HashMap<Arc<str>, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn only(outcome: Outcome, id: &str) -> Result<Applied, RuleError> {
    outcome.applied.into_iter().next().ok_or_else(|| RuleError::Absent(id.to_owned()))
}

/// One transaction: every rule, its history, and the order of changes.
fn transaction(plan: &Plan, kept: &HashMap<Arc<str>, Kept>, epoch: Option<Entry>) -> Txn {
    let expected = |found: Option<store::Revision>| found.map_or(Expect::Absent, Expect::At);
    let mut txn = Txn::default();
    txn.expect.push((keys::RULES_EPOCH.into(), expected(epoch.map(|e| e.changed))));
    txn.ops.push(Op::Put { key: keys::RULES_EPOCH.into(), value: Bytes::new(), lease: None });
    for (id, state, revision) in &plan.writes {
        txn.expect.push((key(id), expected(kept.get(id).map(|(_, changed)| *changed))));
        txn.ops.push(put(id, state));
        txn.ops.push(Op::Put { key: history(id, revision.number), value: json(revision), lease: None });
        if revision.number > HISTORY {
            txn.ops.push(Op::Delete { key: history(id, revision.number - HISTORY) });
        }
    }
    txn
}

pub(super) fn key(id: &str) -> store::Key {
    format!("{}{id}", keys::RULES).into()
}

fn history(id: &str, number: u64) -> store::Key {
    format!("{}{id}/{number:012}", keys::HISTORY).into()
}

pub(super) fn put(id: &str, state: &RuleState) -> Op {
    Op::Put { key: key(id), value: json(state), lease: None }
}

fn json(value: &impl serde::Serialize) -> Bytes {
    // Structs of texts and numbers always serialise.
    serde_json::to_vec(value).unwrap_or_default().into()
}

fn id_of(entry: &Entry) -> Option<&str> {
    entry.key.strip_prefix(keys::RULES)
}

fn parse(entry: &Entry) -> Option<RuleState> {
    serde_json::from_slice(&entry.value)
        .map_err(|e| tracing::error!(key = &*entry.key, "not a rule: {e}"))
        .ok()
}

fn read(entry: &Entry) -> Option<(Arc<str>, Kept)> {
    Some((id_of(entry)?.into(), (parse(entry)?, entry.changed)))
}

fn rule(id: &str, state: RuleState) -> Option<Rule> {
    let (kind, name) = id.split_once('/')?;
    let there = state.stable.is_some() || state.candidate.is_some();
    there.then(|| Rule { id: id.into(), kind: kind.into(), name: name.into(), state })
}

/// Milliseconds since the Unix epoch.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// Keeps the book.
async fn follow(rules: std::sync::Weak<Rules>, store: Arc<dyn Store>) {
    let mut following = Follow::start(store, keys::RULES);
    let mut mirror = Mirror::default();
    while let Some(step) = following.recv().await {
        let Some(rules) = rules.upgrade() else { return };
        let changes = mirror.apply(step);
        let old = rules.book.borrow().clone();
        let mut next = RuleBook { generation: old.generation + 1, rules: old.rules.clone() };
        for change in changes {
            match change {
                store::Change::Put(entry) => {
                    let Some((id, (state, _))) = read(&entry) else { continue };
                    match book::entry(&id, &state, old.rules.get(&id).map(|e| &**e)) {
                        Some(entry) => next.rules.insert(id, Arc::new(entry)),
                        None => next.rules.remove(&id),
                    };
                }
                store::Change::Delete(key) => {
                    if let Some(id) = key.strip_prefix(keys::RULES) {
                        next.rules.remove(id);
                    }
                }
            }
        }
        rules.book.send_replace(Arc::new(next));
    }
}
