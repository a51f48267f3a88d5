//! Cluster quota: who counts which rules, and how they are used.
use super::http::shape::answers;
use super::http::{Call, Problem, Reply, Route};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/quota", "getQuota")
            .says("Rates that all sidecars have together: how those that this replica counts are used, and who counts the others.")
            .answers::<QuotaAnswer>(200, "By rule.")
            .on(quota),
    ]
}

answers! {
    /// Rates that all sidecars have together.
    pub struct QuotaAnswer {
        /// This replica.
        pub replica: String,
        /// Which replica counts each shard of the rules; empty = nobody yet.
        pub shards: Vec<String>,
        /// The rules that this replica counts.
        pub rules: Vec<QuotaRuleAnswer>,
    }

    /// A rate that all sidecars have together.
    pub struct QuotaRuleAnswer {
        /// `RateLimit/NAME`.
        pub rule: String,
        /// Requests a second that may pass.
        pub limit: f64,
        /// `learning` (only what sidecars hold is confirmed yet), `leases` or `tokens`.
        pub mode: String,
        /// Sidecars that have the rule.
        pub sidecars: u64,
        /// Those of them with requests.
        pub active: u64,
        /// Those of them that say nothing; their safe share is kept for them.
        pub silent: u64,
        /// Requests a second that come.
        pub demand: f64,
        /// Requests a second that are leased out.
        pub leased: f64,
        /// Requests a second that would pass without a server.
        pub safe: f64,
        /// Requests that sidecars let through.
        pub used: u64,
        /// Tokens given.
        pub tokens: u64,
    }
}

async fn quota(call: Call) -> Result<Reply, Problem> {
    let parts = &call.state.parts;
    let mut answer = QuotaAnswer { replica: parts.replica.to_string(), ..QuotaAnswer::default() };
    if let Some(plane) = &parts.plane {
        answer.shards = plane.quota.shards();
        answer.rules = plane.quota.view().into_iter().map(rule).collect();
    }
    Reply::json(&answer)
}

fn rule(v: raddle_policy::quota::RuleView) -> QuotaRuleAnswer {
    let mode = if v.learning {
        "learning"
    } else if v.by_tokens {
        "tokens"
    } else {
        "leases"
    };
    QuotaRuleAnswer {
        rule: format!("RateLimit/{}", v.rule),
        limit: v.limit,
        mode: mode.into(),
        sidecars: v.sidecars as u64,
        active: v.active as u64,
        silent: v.silent as u64,
        demand: v.demand,
        leased: v.leased,
        safe: v.safe,
        used: v.used,
        tokens: v.tokens,
    }
}
