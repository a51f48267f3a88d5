//! The rules as the API asks for them.
use super::{
    Applied, Change, Fares, Outcome, Revision, RolloutView, Rule, RuleError, RuleState, Rules, Spread, Which,
};
use crate::api::desk::{
    AppliedAnswer, ApplyAnswer, Desk, DeskError, FaresAnswer, Later, Order, RevisionAnswer, RolloutAnswer,
    RuleAnswer, SpreadAnswer, StageAnswer, Step,
};
use raddle_model::Source;
use raddle_policy::rollout::{Promote, State};
use serde_json::{Map, Value};
use std::sync::Arc;

impl Desk for Arc<Rules> {
    fn rules(&self) -> Later<'_, Vec<RuleAnswer>> {
        Box::pin(async move {
            let all = self.list(None).await?;
            Ok(all.into_iter().map(|rule| told(self, rule)).collect())
        })
    }

    fn apply<'a>(&'a self, text: &'a str, order: Order) -> Later<'a, ApplyAnswer> {
        Box::pin(async move {
            let source = Source { name: String::new(), text: text.to_owned() };
            let dry_run = order.dry_run;
            let outcome = if dry_run && order.author.is_empty() {
                self.diff(&[source]).await?
            } else {
                Rules::apply(self, &[source], &change(order)).await?
            };
            Ok(answer(outcome, dry_run))
        })
    }

    fn delete<'a>(&'a self, id: &'a str, order: Order) -> Later<'a, ApplyAnswer> {
        Box::pin(async move {
            let dry_run = order.dry_run;
            let applied = vec![Rules::delete(self, id, &change(order)).await?];
            Ok(answer(Outcome { applied, warnings: Vec::new() }, dry_run))
        })
    }

    fn rollback<'a>(&'a self, id: &'a str, to: Option<&'a str>, order: Order) -> Later<'a, ApplyAnswer> {
        Box::pin(async move {
            let which = match to {
                None => Which::Previous,
                // Sixteen digits are a hash, even if none of them is a letter.
                Some(text) if text.len() < 16 && text.parse::<u64>().is_ok() => {
                    Which::Number(text.parse().unwrap_or_default())
                }
                Some(text) => Which::Hash(text.to_owned()),
            };
            let dry_run = order.dry_run;
            let applied = vec![Rules::rollback(self, id, &which, &change(order)).await?];
            Ok(answer(Outcome { applied, warnings: Vec::new() }, dry_run))
        })
    }

    fn history<'a>(&'a self, id: &'a str) -> Later<'a, Vec<RevisionAnswer>> {
        Box::pin(async move {
            let state = self.kept(id).await?.map(|(state, _)| state).unwrap_or_default();
            let all = Rules::history(self, id).await?;
            Ok(all.into_iter().rev().map(|revision| revision_told(&state, revision)).collect())
        })
    }

    fn rollout<'a>(&'a self, id: &'a str) -> Later<'a, RolloutAnswer> {
        Box::pin(async move { Ok(rollout(Rules::rollout(self, id).await?)) })
    }

    fn rollouts(&self) -> Later<'_, Vec<RolloutAnswer>> {
        Box::pin(async move { Ok(Rules::rollouts(self).await?.into_iter().map(rollout).collect()) })
    }

    fn step<'a>(&'a self, id: &'a str, step: Step, by: &'a str, why: &'a str) -> Later<'a, RolloutAnswer> {
        Box::pin(async move {
            let view = match step {
                Step::Pause => self.pause(id, by, why).await?,
                Step::Resume => self.resume(id, by).await?,
                Step::Next => self.promote(id, by, Promote::Next).await?,
                Step::Everyone => self.promote(id, by, Promote::All).await?,
                Step::Undo => self.undo(id, by, why).await?,
            };
            Ok(rollout(view))
        })
    }
}

impl From<RuleError> for DeskError {
    fn from(e: RuleError) -> DeskError {
        let words = e.to_string();
        match e {
            RuleError::Admission(report) => {
                DeskError::Mistakes(report.mistakes.into_iter().map(Into::into).collect())
            }
            RuleError::Conflict { .. } => DeskError::Changed(words),
            RuleError::Busy { .. } => DeskError::Conflict(words),
            RuleError::Absent(_) => DeskError::Absent(words),
            RuleError::Wrong(_) | RuleError::Plaintext(_) => DeskError::Conflict(words),
            RuleError::Contended => DeskError::Contended(words),
            RuleError::Store(e) => DeskError::Store(e),
        }
    }
}

fn change(order: Order) -> Change {
    let Order { author, comment, dry_run, expect, replace, at_once } = order;
    Change { author, comment, dry_run, expect, replace, at_once }
}

fn document(json: Option<&str>) -> Option<Map<String, Value>> {
    serde_json::from_str(json?).ok()
}

fn told(rules: &Rules, rule: Rule) -> RuleAnswer {
    let view = rule.state.candidate.as_ref().and_then(|_| rules.view(&rule.id, &rule.state));
    let RuleState { stable, candidate, newest, .. } = rule.state;
    let candidate = candidate.map(|c| c.revision);
    let latest = candidate.as_ref().or(stable.as_ref());
    RuleAnswer {
        id: rule.id.to_string(),
        kind: rule.kind.to_string(),
        name: rule.name.to_string(),
        revision: stable.as_ref().map(|r| r.hash.to_string()),
        number: newest,
        author: latest.map(|r| r.author.clone()).unwrap_or_default(),
        comment: latest.map(|r| r.comment.clone()).unwrap_or_default(),
        at: latest.map(|r| r.at).unwrap_or_default(),
        document: document(stable.as_ref().and_then(|r| r.document.as_deref())),
        candidate: candidate.as_ref().map(|r| r.hash.to_string()),
        candidate_document: document(candidate.as_ref().and_then(|r| r.document.as_deref())),
        rollout: view.map(rollout),
    }
}

fn revision_told(state: &RuleState, revision: Revision) -> RevisionAnswer {
    let stable = state.stable.as_ref().is_some_and(|r| r.number == revision.number);
    let candidate = state.candidate.as_ref().is_some_and(|c| c.revision.number == revision.number);
    RevisionAnswer {
        number: revision.number,
        hash: revision.hash.to_string(),
        removed: revision.document.is_none(),
        state: if stable {
            "stable"
        } else if candidate {
            "candidate"
        } else {
            ""
        }
        .into(),
        author: revision.author,
        comment: revision.comment,
        at: revision.at,
        document: document(revision.document.as_deref()),
    }
}

fn rollout(view: RolloutView) -> RolloutAnswer {
    let (state, why, by) = match view.state {
        State::Running => ("running", String::new(), String::new()),
        State::Done => ("done", String::new(), String::new()),
        State::Paused { why, by } => ("paused", why, by),
        State::RolledBack { why, by } => ("rolledBack", why, by),
    };
    let percent = |ppm: u32| f64::from(ppm) / 10_000.0;
    let fares = |f: Fares| FaresAnswer { requests: f.requests, error_rate: f.error_rate, p99_us: f.p99_us };
    let Spread { wanted, running, refused } = view.spread;
    RolloutAnswer {
        rule: view.rule.to_string(),
        from: view.from.map(|h| h.to_string()),
        to: view.to.map(|h| h.to_string()),
        number: view.number,
        author: view.author,
        comment: view.comment,
        state: state.into(),
        why,
        by,
        stage: view.stage as u64,
        stages: view
            .stages
            .iter()
            .map(|(p, ms)| StageAnswer { percent: percent(*p), hold_ms: *ms })
            .collect(),
        percent: percent(view.ppm),
        started: view.started,
        since: view.since,
        waits: view.waits,
        spread: SpreadAnswer { wanted, running, refused },
        candidate: fares(view.candidate),
        rest: fares(view.rest),
    }
}

fn answer(outcome: Outcome, dry_run: bool) -> ApplyAnswer {
    let applied = outcome.applied.into_iter().map(|a: Applied| AppliedAnswer {
        id: a.id.to_string(),
        before: a.before.map(|h| h.to_string()),
        after: a.after.map(|h| h.to_string()),
        number: a.number,
        changed: a.changed,
        diff: a.diff,
        rollout: a.rollout.map(rollout),
    });
    ApplyAnswer {
        dry_run,
        applied: applied.collect(),
        warnings: outcome.warnings.into_iter().map(Into::into).collect(),
    }
}
