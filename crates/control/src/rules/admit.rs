//! What a change comes to, decided without touching anything.
use super::{Applied, Candidate, Change, Outcome, Revision, RolloutView, RuleError, RuleState};
use crate::rules::diff;
use raddle_model::{self as model, Document, LoadOptions, Mistake, Report, Source};
use raddle_policy::rollout::{Rollout, State};
use raddle_xds::resource::fnv;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most documents of one change: a transaction has room for so many.
pub(super) const DOCUMENTS: usize = 40;

/// Most revisions remembered as taken back; the history holds no more either.
const UNDONE: usize = 100;

/// Names that exist, for warnings.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Apps with instances.
    pub apps: BTreeSet<Arc<str>>,
    /// Services that someone publishes.
    pub services: BTreeSet<Arc<str>>,
}

/// All rules as they are kept.
pub(super) type States = BTreeMap<Arc<str>, RuleState>;

/// What is to be written, and what is answered.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) writes: Vec<(Arc<str>, RuleState, Revision)>,
    pub(super) outcome: Outcome,
}

/// Hash of a canonical document.
pub(super) fn hash(json: &str) -> Arc<str> {
    format!("{:016x}", fnv(json.as_bytes())).into()
}

/// New documents by rule, and warnings.
pub(super) type Admitted = (Vec<(Arc<str>, Document)>, Vec<Mistake>);

/// Whether documents are acceptable beside all rules there are; the new documents with their rollouts, and warnings.
pub(super) fn admit(sources: &[Source], states: &States, known: &Known) -> Result<Admitted, RuleError> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let mut mistakes = Vec::new();
    for source in sources {
        for document in model::documents(source) {
            let mistake = |path: &str, problem: String, remedy: &str| Mistake {
                file: source.name.clone(),
                line: document.line,
                column: 1,
                path: path.into(),
                problem,
                remedy: remedy.into(),
            };
            if matches!(&*document.kind, "Sidecar" | "Service" | "Certificate") {
                let problem = format!("{} is not a rule: it belongs in a file", document.kind);
                mistakes.push(mistake(
                    "kind",
                    problem,
                    "give it to `raddle proxy --config`; services are published",
                ));
                continue;
            }
            let id: Arc<str> = format!("{}/{}", document.kind, document.name).into();
            // Twice in one change is `load`'s to tell, where it knows both places.
            if seen.insert(id.clone()) {
                found.push((id, document));
            }
        }
    }
    let kept = states.iter().filter(|(id, _)| !seen.contains(*id)).filter_map(|(id, state)| {
        let revision = state.candidate.as_ref().map(|c| &c.revision).or(state.stable.as_ref())?;
        Some(Source { name: id.to_string(), text: revision.document.as_deref()?.to_owned() })
    });
    let all: Vec<Source> = sources.iter().cloned().chain(kept).collect();
    let warnings = match model::load(&all, LoadOptions::rules_only()) {
        Ok((resources, warnings)) if mistakes.is_empty() => {
            let mut warnings: Vec<_> =
                warnings.into_iter().filter(|w| ours(w, sources) && !by_names(w)).collect();
            warnings.extend(unknown(&resources, &found, sources, known));
            warnings
        }
        Ok(_) => return Err(refused(mistakes, Vec::new())),
        Err(report) => {
            let odd = |m: &Mistake| !(m.path == "kind" && mistakes.iter().any(|o| o.line == m.line));
            let mut all: Vec<_> = report.mistakes.into_iter().filter(odd).collect();
            all.extend(mistakes);
            return Err(refused(all, report.warnings.into_iter().filter(|w| ours(w, sources)).collect()));
        }
    };
    if found.is_empty() {
        let nothing = Mistake {
            file: sources.first().map(|s| s.name.clone()).unwrap_or_default(),
            line: 0,
            column: 0,
            path: String::new(),
            problem: "there is no document in it".into(),
            remedy: "give at least one rule: apiVersion, kind, metadata, spec".into(),
        };
        return Err(refused(vec![nothing], Vec::new()));
    }
    if found.len() > DOCUMENTS {
        let n = found.len();
        return Err(RuleError::Wrong(format!(
            "{n} documents at once are too many; apply at most {DOCUMENTS}"
        )));
    }
    Ok((found, warnings))
}

fn refused(mistakes: Vec<Mistake>, warnings: Vec<Mistake>) -> RuleError {
    RuleError::Admission(Report { mistakes, warnings })
}

fn ours(found: &Mistake, sources: &[Source]) -> bool {
    sources.iter().any(|s| s.name == found.file)
}

/// A file's reader misses the services that only the registry knows.
fn by_names(warning: &Mistake) -> bool {
    warning.remedy.contains("declared later")
}

/// Targets that nobody publishes.
fn unknown(
    resources: &model::Resources,
    new: &[(Arc<str>, Document)],
    sources: &[Source],
    known: &Known,
) -> Vec<Mistake> {
    let ours = |kind: &str, metadata: &model::Metadata| {
        let id = format!("{kind}/{}", metadata.name);
        new.iter().any(|(n, _)| **n == *id) && sources.iter().any(|s| s.name == metadata.origin.file)
    };
    let doubt = |metadata: &model::Metadata, path: &str, problem: String| Mistake {
        file: metadata.origin.file.clone(),
        line: metadata.origin.line,
        column: metadata.origin.column,
        path: path.into(),
        problem,
        remedy: "mend the name, unless it comes later".into(),
    };
    let mut warnings = Vec::new();
    for rule in resources.rules().filter(|r| ours(r.kind, r.metadata)) {
        let mut warn = |path: &str, problem: String| warnings.push(doubt(rule.metadata, path, problem));
        let Some(target) = rule.target else {
            // For the sidecars in its scope: an app nobody has seen is one that nothing happens to.
            for app in rule.scope.apps.iter().filter(|a| !known.apps.contains(a.as_str())) {
                warn("spec.scope.apps", format!("no instance of app {app} is known"));
            }
            continue;
        };
        if let Some(app) = target.app.as_deref().filter(|a| !known.apps.contains(*a)) {
            warn("spec.to.app", format!("no instance of app {app} is known"));
        }
        for service in target.services.iter().filter(|s| !known.services.contains(s.as_str())) {
            warn("spec.to.services", format!("nobody publishes {service}"));
        }
    }
    warnings
}

/// One rule's next state; `document` is `None` to remove it.
pub(super) fn turn(
    plan: &mut Plan,
    states: &States,
    id: &Arc<str>,
    document: Option<&str>,
    change: &Change,
    now: u64,
) -> Result<(), RuleError> {
    let mut state = states.get(id).cloned().unwrap_or_default();
    let stable = state.stable.as_ref().map(|r| r.hash.clone());
    if let Some(expected) = &change.expect
        && **expected != *stable.as_deref().unwrap_or("")
    {
        return Err(RuleError::Conflict { id: id.to_string(), found: stable });
    }
    let after = document.map(hash);
    let on_its_way = state.candidate.as_ref().map(|c| c.revision.hash.clone());
    let diff = diff::documents(id, state.stable.as_ref().and_then(|r| r.document.as_deref()), document);
    let mut applied = Applied {
        id: id.clone(),
        before: stable.clone(),
        after: after.clone(),
        number: state.newest,
        changed: false,
        diff,
        rollout: None,
    };
    let same = on_its_way.as_deref().map_or(stable == after, |h| *h == *after.as_deref().unwrap_or(""));
    // The same again, with "everyone at once", ends a rollout that is on its way.
    if same && !(change.at_once && on_its_way.is_some()) {
        applied.rollout = state.candidate.as_ref().map(|c| view(id, &state, c));
        plan.outcome.applied.push(applied);
        return Ok(());
    }
    if let Some(candidate) = on_its_way {
        if !change.replace {
            return Err(RuleError::Busy { id: id.to_string(), candidate });
        }
        if let Some(mut old) = state.candidate.take() {
            // It may be over already, which is as good.
            let _ = old.rollout.undo("replaced by another change", &change.author, now);
            taken_back(&mut state, old);
        }
    }
    state.newest += 1;
    let revision = Revision {
        number: state.newest,
        hash: after.unwrap_or_else(|| "".into()),
        document: document.map(Arc::from),
        author: change.author.clone(),
        comment: change.comment.clone(),
        at: now,
    };
    let stages = document.or(state.stable.as_ref().and_then(|r| r.document.as_deref())).and_then(rollout_of);
    match stages.filter(|_| !change.at_once).map(|stages| Rollout::new(stages, None, now)) {
        Some(rollout) if !rollout.is_over() => {
            let seed = format!("{id}@{}", state.newest).into();
            let candidate = Candidate { revision: revision.clone(), rollout, seed, started: now };
            applied.rollout = Some(view(id, &state, &candidate));
            state.candidate = Some(candidate);
        }
        _ => state.stable = Some(revision.clone()).filter(|r| r.document.is_some()),
    }
    applied.number = revision.number;
    applied.changed = true;
    plan.outcome.applied.push(applied);
    plan.writes.push((id.clone(), state, revision));
    Ok(())
}

/// The stages a document asks for.
fn rollout_of(document: &str) -> Option<model::Rollout> {
    let source = Source { name: String::new(), text: document.to_owned() };
    let (resources, _) = model::load(&[source], LoadOptions::rules_only()).ok()?;
    resources.rules().find_map(|r| r.rollout.cloned())
}

/// A rollout without what only its observers know.
pub(super) fn view(id: &Arc<str>, state: &RuleState, candidate: &Candidate) -> RolloutView {
    let rollout = &candidate.rollout;
    let millis = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    RolloutView {
        rule: id.clone(),
        from: state.stable.as_ref().map(|r| r.hash.clone()),
        to: candidate.revision.document.as_ref().map(|_| candidate.revision.hash.clone()),
        number: candidate.revision.number,
        author: candidate.revision.author.clone(),
        comment: candidate.revision.comment.clone(),
        state: rollout.state().clone(),
        stage: rollout.stage(),
        stages: rollout.plan().stages.iter().map(|s| (s.percent_ppm, millis(s.hold))).collect(),
        ppm: rollout.ppm(),
        started: candidate.started,
        since: rollout.since(),
        waits: String::new(),
        spread: Default::default(),
        candidate: Default::default(),
        rest: Default::default(),
    }
}

/// Ends a rollout that is over: the candidate becomes what is stable, or goes.
pub(super) fn settle(state: &mut RuleState) {
    let Some(candidate) = state.candidate.take_if(|c| c.rollout.is_over()) else { return };
    if matches!(candidate.rollout.state(), State::Done) {
        state.stable = Some(candidate.revision.clone()).filter(|r| r.document.is_some());
        state.last = Some(candidate);
    } else {
        taken_back(state, candidate);
    }
}

/// Remembers a rollout that was taken back.
fn taken_back(state: &mut RuleState, candidate: Candidate) {
    state.undone.push(candidate.revision.number);
    let excess = state.undone.len().saturating_sub(UNDONE);
    state.undone.drain(..excess);
    state.last = Some(candidate);
}
