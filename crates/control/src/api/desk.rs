//! What the API asks of the rules: a boundary, so that it can be tried without rollouts, reports and leaders.
use super::http::shape::{MistakeAnswer, answers};
use raddle_store::StoreError;
use serde_json::{Map, Value};
use std::future::Future;
use std::pin::Pin;

/// An answer that comes later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T, DeskError>> + Send + 'a>>;

/// Who changes something, and how careful.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// Who.
    pub author: String,
    /// Why.
    pub comment: String,
    /// Change nothing; say what would be.
    pub dry_run: bool,
    /// Only if the rule's stable revision has this hash; an empty one = only if there is none.
    pub expect: Option<String>,
    /// Undo a rollout that runs.
    pub replace: bool,
    /// Everyone gets it at once.
    pub at_once: bool,
}

/// What a rollout is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Stay.
    Pause,
    /// Go on.
    Resume,
    /// The next stage now.
    Next,
    /// Everyone now.
    Everyone,
    /// Back.
    Undo,
}

/// Why it was not done.
#[derive(Clone, Debug)]
pub enum DeskError {
    /// The documents have mistakes.
    Mistakes(Vec<MistakeAnswer>),
    /// The rule has another revision than was expected.
    Changed(String),
    /// It does not fit the state the rule is in.
    Conflict(String),
    /// There is no such rule, revision or rollout.
    Absent(String),
    /// What is asked for makes no sense.
    Wrong(String),
    /// Others were always faster.
    Contended(String),
    /// The store did not do it.
    Store(StoreError),
}

/// The rules.
pub trait Desk: Send + Sync {
    /// All rules, by id.
    fn rules(&self) -> Later<'_, Vec<RuleAnswer>>;
    /// Applies documents: one text, as files have them.
    fn apply<'a>(&'a self, text: &'a str, order: Order) -> Later<'a, ApplyAnswer>;
    /// Removes a rule.
    fn delete<'a>(&'a self, id: &'a str, order: Order) -> Later<'a, ApplyAnswer>;
    /// Goes back to a revision, by number or hash; absent = the one before.
    fn rollback<'a>(&'a self, id: &'a str, to: Option<&'a str>, order: Order) -> Later<'a, ApplyAnswer>;
    /// A rule's revisions, the newest first.
    fn history<'a>(&'a self, id: &'a str) -> Later<'a, Vec<RevisionAnswer>>;
    /// The rollout of a rule that runs, or the last one.
    fn rollout<'a>(&'a self, id: &'a str) -> Later<'a, RolloutAnswer>;
    /// The rollouts that run, by rule.
    fn rollouts(&self) -> Later<'_, Vec<RolloutAnswer>>;
    /// Tells a rollout what to do.
    fn step<'a>(&'a self, id: &'a str, step: Step, by: &'a str, why: &'a str) -> Later<'a, RolloutAnswer>;
}

answers! {
    /// A rule.
    pub struct RuleAnswer {
        /// `KIND/NAME`.
        pub id: String,
        /// Kind.
        pub kind: String,
        /// Name.
        pub name: String,
        /// Hash of the revision in force; null = the rule is new and still being rolled out.
        pub revision: Option<String>,
        /// Number of the newest revision.
        pub number: u64,
        /// Who made it.
        pub author: String,
        /// Why.
        pub comment: String,
        /// When, milliseconds since the Unix epoch.
        pub at: u64,
        /// The resource in force, as files have it; null = none yet.
        pub document: Option<Map<String, Value>>,
        /// Hash of the revision on its way; empty = the rule is being removed; null = none.
        pub candidate: Option<String>,
        /// The resource on its way.
        pub candidate_document: Option<Map<String, Value>>,
        /// The rollout that runs.
        pub rollout: Option<RolloutAnswer>,
    }

    /// A revision of a rule.
    pub struct RevisionAnswer {
        /// 1 is the first.
        pub number: u64,
        /// Hash of the content; empty = the rule was removed.
        pub hash: String,
        /// The rule was removed.
        pub removed: bool,
        /// `stable`, `candidate`, or empty.
        pub state: String,
        /// Who made it.
        pub author: String,
        /// Why.
        pub comment: String,
        /// When, milliseconds since the Unix epoch.
        pub at: u64,
        /// The resource, as files have it; null = the rule was removed.
        pub document: Option<Map<String, Value>>,
    }

    /// A rollout.
    pub struct RolloutAnswer {
        /// `KIND/NAME`.
        pub rule: String,
        /// Hash that sidecars come from; null = they had no rule.
        pub from: Option<String>,
        /// Hash they go to; null = the rule is being removed.
        pub to: Option<String>,
        /// Number of that revision.
        pub number: u64,
        /// Who began it.
        pub author: String,
        /// Why.
        pub comment: String,
        /// `running`, `paused`, `rolledBack` or `done`.
        pub state: String,
        /// Why it is paused or was rolled back.
        pub why: String,
        /// Who did that: a token's name, or `guard`.
        pub by: String,
        /// Present stage, from 0.
        pub stage: u64,
        /// The stages.
        pub stages: Vec<StageAnswer>,
        /// Share of the sidecars that has it, in percent.
        pub percent: f64,
        /// When it began, milliseconds since the Unix epoch.
        pub started: u64,
        /// When its stage or state began.
        pub since: u64,
        /// What the next step waits for; empty = nothing.
        pub waits: String,
        /// How far it has come.
        pub spread: SpreadAnswer,
        /// How the sidecars with the change fare.
        pub candidate: FaresAnswer,
        /// How those without fare.
        pub rest: FaresAnswer,
    }

    /// A stage of a rollout.
    pub struct StageAnswer {
        /// Share of the sidecars, in percent.
        pub percent: f64,
        /// Shortest time, in milliseconds.
        pub hold_ms: u64,
    }

    /// How far a revision has come.
    pub struct SpreadAnswer {
        /// Connected sidecars that should run it.
        pub wanted: u64,
        /// Those of them that say they do.
        pub running: u64,
        /// Those of them that refuse it.
        pub refused: u64,
    }

    /// How requests fare.
    pub struct FaresAnswer {
        /// Requests of the last half minute.
        pub requests: u64,
        /// Share of them that failed.
        pub error_rate: f64,
        /// Their 99th percentile in microseconds; 0 = unknown.
        pub p99_us: f64,
    }

    /// What became of a change.
    pub struct ApplyAnswer {
        /// Nothing was changed: this is what would be.
        pub dry_run: bool,
        /// One for each document.
        pub applied: Vec<AppliedAnswer>,
        /// What is allowed but probably not meant.
        pub warnings: Vec<MistakeAnswer>,
    }

    /// What became of a document.
    pub struct AppliedAnswer {
        /// `KIND/NAME`.
        pub id: String,
        /// Hash of the revision before; null = there was none.
        pub before: Option<String>,
        /// Hash of the revision now; null = it was removed.
        pub after: Option<String>,
        /// Its number.
        pub number: u64,
        /// Whether anything changed.
        pub changed: bool,
        /// The change as a unified diff of YAML.
        pub diff: String,
        /// The rollout that began; null = everyone has it.
        pub rollout: Option<RolloutAnswer>,
    }
}
