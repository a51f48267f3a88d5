//! How a change of a rule spreads.
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// `spec.rollout`: how a change of a rule spreads over the sidecars.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Shares in rising order; the last is everyone. Never empty.
    pub stages: Vec<Stage>,
    /// What the change must not do; absent = it is not watched.
    pub guard: Option<Guard>,
    /// What a breach of the guard does.
    pub on_breach: OnBreach,
}

/// A stage of a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stage {
    /// Share of the instances in millionths.
    pub percent_ppm: u32,
    /// How long it lasts at least before the next one.
    pub hold: Duration,
}

/// What is watched while a change spreads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Guard {
    /// Highest share of failed requests (0..=1) among sidecars with the change; absent = not watched.
    pub error_rate: Option<f64>,
    /// Highest 99th percentile of latency as a multiple of that of the sidecars without it; absent = not watched.
    pub p99_ratio: Option<f64>,
    /// With fewer requests no verdict is given.
    pub min_requests: u64,
}

impl Guard {
    /// Requests a verdict needs if the rule does not say.
    pub const MIN_REQUESTS: u64 = 50;
}

/// What a breach of the guard does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnBreach {
    /// All sidecars go back to what was stable.
    #[default]
    Rollback,
    /// The rollout stays where it is, for people to look.
    Pause,
}

/// Whether a rule is carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleMode {
    /// It is.
    #[default]
    Enforce,
    /// What it would refuse is counted and logged, and passes.
    Observe,
}
