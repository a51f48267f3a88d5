//! What is asked of the rules, and what they answer.
use raddle_model::Mistake;
use raddle_policy::rollout::{Rollout, State};
use raddle_store::StoreError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Who changes something, and how careful.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Who; kept in the history.
    pub author: String,
    /// Why, in the author's words; kept in the history.
    pub comment: String,
    /// Nothing is changed; the answer is what it would be.
    pub dry_run: bool,
    /// Only if the rule's stable revision has this hash (`Some("")` = only if there is no rule). With several documents:
    /// for each of them.
    pub expect: Option<String>,
    /// A rollout that runs is undone first; without it a change meanwhile is [`RuleError::Busy`].
    pub replace: bool,
    /// Everyone gets it at once, whatever `spec.rollout` says.
    pub at_once: bool,
}

/// A revision of a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// Number in the rule's history, from 1.
    pub number: u64,
    /// Hash of the content, 16 hexadecimal digits; empty = the rule was removed.
    pub hash: Arc<str>,
    /// The whole resource as canonical JSON; `None` = the rule was removed.
    pub document: Option<Arc<str>>,
    /// Who made it.
    pub author: String,
    /// Why.
    pub comment: String,
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
}

/// A rule as it is kept. Without stable revision and candidate it is removed; what is left keeps its history's numbers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleState {
    /// What sidecars have; `None` = the rule is new.
    pub stable: Option<Revision>,
    /// What is on its way; its `document` is `None` if the rule is being removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate>,
    /// How the last rollout ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Candidate>,
    /// Numbers of revisions that were taken back while they were rolled out; the newest last. They never were in force
    /// for everyone, so going back does not go there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undone: Vec<u64>,
    /// Number of the newest revision in the history.
    pub newest: u64,
}

/// A revision on its way.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// What.
    pub revision: Revision,
    /// How far it is.
    pub rollout: Rollout,
    /// Names the rollout; who is in its share is by the hash of this and the instance id.
    pub seed: Arc<str>,
    /// When it began, in milliseconds since the Unix epoch.
    pub started: u64,
}

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// `KIND/NAME`.
    pub id: Arc<str>,
    /// Kind.
    pub kind: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Its revisions and rollout.
    pub state: RuleState,
}

/// What became of one document.
#[derive(Clone, Debug)]
pub struct Applied {
    /// `KIND/NAME`.
    pub id: Arc<str>,
    /// Hash of the stable revision before; `None` = there was no rule.
    pub before: Option<Arc<str>>,
    /// Hash of the revision applied; `None` = removal.
    pub after: Option<Arc<str>>,
    /// Number in the history; the present one's if nothing changed.
    pub number: u64,
    /// Whether anything changed.
    pub changed: bool,
    /// Changes of the canonical YAML as a unified diff; empty = none.
    pub diff: String,
    /// The rollout that began; `None` = everyone has it.
    pub rollout: Option<RolloutView>,
}

/// What became of a change.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// One for each document, in order.
    pub applied: Vec<Applied>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Mistake>,
}

/// A rollout, for people.
#[derive(Clone, Debug)]
pub struct RolloutView {
    /// `KIND/NAME`.
    pub rule: Arc<str>,
    /// Hash that sidecars come from; `None` = they had no rule.
    pub from: Option<Arc<str>>,
    /// Hash they go to; `None` = the rule is being removed.
    pub to: Option<Arc<str>>,
    /// Number of that revision in the history.
    pub number: u64,
    /// Who began it, and why.
    pub author: String,
    /// The author's words.
    pub comment: String,
    /// What it does; with why and by whom, if it is paused or was rolled back.
    pub state: State,
    /// Present stage, from 0.
    pub stage: usize,
    /// The stages: share in millionths, shortest time in milliseconds.
    pub stages: Vec<(u32, u64)>,
    /// Share that has it now, in millionths.
    pub ppm: u32,
    /// When it began, milliseconds since the Unix epoch.
    pub started: u64,
    /// When its stage or state began.
    pub since: u64,
    /// What the next step waits for, as a sentence; empty = nothing.
    pub waits: String,
    /// Sidecars that should have it, have it, and refuse it.
    pub spread: Spread,
    /// How the sidecars with the change fare.
    pub candidate: Fares,
    /// How those without fare.
    pub rest: Fares,
}

/// How far a revision has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    /// Connected sidecars that should run it.
    pub wanted: u64,
    /// Those of them that say they run it.
    pub running: u64,
    /// Those of them that refuse it.
    pub refused: u64,
}

/// How a cohort's requests fare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fares {
    /// Requests in the last half minute.
    pub requests: u64,
    /// Share of them that failed.
    pub error_rate: f64,
    /// Their 99th percentile in microseconds; 0 = unknown.
    pub p99_us: f64,
}

/// Which revision is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one before the present one.
    Previous,
    /// By number.
    Number(u64),
    /// By hash, or its first digits (at least 4).
    Hash(String),
}

/// Why a request was not done.
#[derive(Clone, Debug)]
pub enum RuleError {
    /// The documents are not acceptable: every reason, with file, line and column.
    Admission(raddle_model::Report),
    /// `expect` did not hold: the rule has another revision.
    Conflict {
        /// The rule.
        id: String,
        /// Hash of its stable revision; `None` = there is no rule.
        found: Option<Arc<str>>,
    },
    /// A rollout of the rule runs.
    Busy {
        /// The rule.
        id: String,
        /// Hash of the revision on its way; empty = removal.
        candidate: Arc<str>,
    },
    /// Callers in plaintext would be shut out; a sentence that names them.
    Plaintext(String),
    /// There is no such rule or revision.
    Absent(String),
    /// It does not fit the state the rule is in, or asks for too much.
    Wrong(String),
    /// Other writers were always faster; ask again.
    Contended,
    /// The store did not do it.
    Store(StoreError),
}

impl From<StoreError> for RuleError {
    fn from(e: StoreError) -> RuleError {
        RuleError::Store(e)
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuleError::Admission(report) => report.fmt(f),
            RuleError::Conflict { id, found: Some(found) } => {
                write!(f, "{id} has another revision than expected: {found}")
            }
            RuleError::Conflict { id, found: None } => write!(f, "{id} does not exist"),
            RuleError::Busy { id, candidate } if candidate.is_empty() => {
                write!(f, "{id} is being removed stage by stage; undo that first, or replace it")
            }
            RuleError::Busy { id, candidate } => {
                write!(f, "revision {candidate} of {id} is being rolled out; undo that first, or replace it")
            }
            RuleError::Absent(what) => write!(f, "{what} does not exist"),
            RuleError::Wrong(why) | RuleError::Plaintext(why) => f.write_str(why),
            RuleError::Contended => {
                write!(f, "others changed the rules at the same time, again and again; try again")
            }
            RuleError::Store(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for RuleError {}
