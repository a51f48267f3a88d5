//! How the control plane is, and the way out of self-protection.
use super::http::shape::answers;
use super::http::{Call, Problem, Reply, Route};
use super::mesh::no_service;
use crate::keys::{LEADER, REPLICAS};
use serde_json::Value;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/status", "getStatus")
            .says("How the control plane is: replicas, leaders, store, streams, rollouts, warnings.")
            .answers::<StatusAnswer>(200, "The status as this replica sees it.")
            .on(status),
        Route::post("/v1/services/{name}/release", "releaseService")
            .says(
                "Ends self-protection of the app that publishes the service: endpoints that vanished go now.",
            )
            .answers::<ReleaseAnswer>(200, "It is released.")
            .refuses(&[409])
            .on(release),
    ]
}

answers! {
    /// How the control plane is.
    pub struct StatusAnswer {
        /// This replica.
        pub replica: String,
        /// Version of Raddle.
        pub version: String,
        /// Where everything is kept.
        pub store: String,
        /// The store answers.
        pub store_ready: bool,
        /// The replicas that live.
        pub replicas: Vec<ReplicaAnswer>,
        /// Which replica does which job.
        pub leaders: Vec<LeaderAnswer>,
        /// xDS streams to this replica.
        pub streams: u64,
        /// Rules.
        pub rules: u64,
        /// Rollouts that run.
        pub rollouts: u64,
        /// Services.
        pub services: u64,
        /// Apps.
        pub apps: u64,
        /// Instances.
        pub instances: u64,
        /// Services held by self-protection.
        pub protected: u64,
        /// Generation of the directory.
        pub directory_generation: u64,
        /// Generation of the rules.
        pub rules_generation: u64,
        /// What somebody should look at.
        pub warnings: Vec<String>,
    }

    /// A replica of the control plane.
    pub struct ReplicaAnswer {
        /// Its name.
        pub id: String,
        /// Where sidecars reach it.
        pub addresses: Vec<String>,
    }

    /// A job that one replica does for all.
    pub struct LeaderAnswer {
        /// The job.
        pub job: String,
        /// Who does it.
        pub replica: String,
    }

    /// What was released.
    pub struct ReleaseAnswer {
        /// The service.
        pub service: String,
        /// The app whose instances were kept.
        pub app: String,
    }
}

async fn status(call: Call) -> Result<Reply, Problem> {
    let parts = &call.state.parts;
    let directory = parts.directory.borrow().clone();
    let book = parts.book.borrow().clone();
    let mut answer = StatusAnswer {
        replica: parts.replica.to_string(),
        version: env!("CARGO_PKG_VERSION").into(),
        store: parts.store.name(),
        store_ready: true,
        streams: parts.plane.as_ref().map_or(0, |p| p.xds.counters().streams),
        rules: book.rules.len() as u64,
        rollouts: book.rules.values().filter(|r| r.candidate.is_some()).count() as u64,
        services: directory.services.len() as u64,
        apps: directory.apps.len() as u64,
        instances: directory.apps.values().map(|a| a.instances.len() as u64).sum(),
        protected: directory.services.values().filter(|s| s.protected).count() as u64,
        directory_generation: directory.generation,
        rules_generation: book.generation,
        ..StatusAnswer::default()
    };
    match (parts.store.list(REPLICAS).await, parts.store.list(LEADER).await) {
        (Ok(replicas), Ok(leaders)) => {
            answer.replicas = replicas
                .entries
                .iter()
                .filter_map(|e| replica(e.key.strip_prefix(REPLICAS)?, &e.value))
                .collect();
            answer.leaders = leaders
                .entries
                .iter()
                .filter_map(|e| leader(e.key.strip_prefix(LEADER)?, &e.value))
                .collect();
        }
        (Err(e), _) | (_, Err(e)) => {
            answer.store_ready = false;
            answer.warnings.push(format!("{e}; sidecars go on with what they have"));
        }
    }
    warn(&mut answer, parts.events.lost());
    Reply::json(&answer)
}

fn warn(answer: &mut StatusAnswer, lost: u64) {
    if answer.protected > 0 {
        let n = answer.protected;
        let text = format!(
            "{n} services keep endpoints that vanished all at once (self-protection); if they are gone for good: \
             POST /v1/services/NAME/release"
        );
        answer.warnings.push(text);
    }
    if lost > 0 {
        answer.warnings.push(format!("{lost} events found no room and were not kept"));
    }
}

fn replica(id: &str, value: &[u8]) -> Option<ReplicaAnswer> {
    let said: Value = serde_json::from_slice(value).ok()?;
    let addresses = said["addresses"].as_array().into_iter().flatten();
    let addresses = addresses.filter_map(|a| Some(a.as_str()?.to_owned())).collect();
    Some(ReplicaAnswer { id: id.to_owned(), addresses })
}

fn leader(job: &str, value: &[u8]) -> Option<LeaderAnswer> {
    let text = std::str::from_utf8(value).ok()?;
    Some(LeaderAnswer { job: job.to_owned(), replica: text.trim_matches('"').to_owned() })
}

async fn release(call: Call) -> Result<Reply, Problem> {
    let parts = &call.state.parts;
    let name = call.param("name").to_owned();
    let listed =
        parts.directory.borrow().services.get(name.as_str()).cloned().ok_or_else(|| no_service(&name))?;
    if !listed.protected {
        return Err(Problem::conflict(format!("{name} is not held by self-protection")));
    }
    if let Some(plane) = &parts.plane {
        plane.registry.release(Some(&listed.app)).await;
    }
    let app = listed.app.to_string();
    Ok(Reply::json(&ReleaseAnswer { service: name, app: app.clone() })?.noted(format!("app {app}")))
}
