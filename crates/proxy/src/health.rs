//! The thread of what is not on a request's way: the admin server, and active health checks. The checks
//! are a thin shell around the thresholds in crate `policy`.
use crate::loader::Loader;
use crate::probe::{Way, probe};
use crate::shared::Shared;
use raddle_model::HealthCheck;
use raddle_policy::{Health, HealthState, Host, Rng};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How often the configuration is looked at for checks, and due checks are started.
const BEAT: Duration = Duration::from_millis(50);

/// Starts the thread; the admin server runs if there is a socket for it.
///
/// # Errors
/// The OS refuses a thread.
pub fn start(
    shared: Arc<Shared>,
    admin: Option<OwnedFd>,
    loader: Arc<Loader>,
) -> io::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("admin".into()).spawn(move || {
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async move {
            let checks = tokio::task::spawn_local(watch(shared.clone()));
            if let Some(fd) = admin {
                crate::admin::serve(fd, shared, loader).await;
            }
            let _ = checks.await;
        });
    })
}

/// The check of one host.
struct Checked {
    host: Arc<Host>,
    settings: HealthCheck,
    state: HealthState,
    running: bool,
}

/// Keeps one check for each host that a policy wants checked.
async fn watch(shared: Arc<Shared>) {
    let mut checks: HashMap<SocketAddr, Checked> = HashMap::new();
    let mut generation = 0;
    let mut rng = Rng::new(shared.wall_zero_ns);
    let (tx, mut outcomes) = mpsc::channel::<(SocketAddr, bool)>(1024);
    loop {
        // Not kept over the pause: an old configuration would keep its removed listeners open.
        let newest = shared.config.load().generation;
        if newest != generation {
            generation = newest;
            follow(&shared, &mut checks, &mut rng);
        }
        let now = shared.clock.now();
        while let Ok((addr, passed)) = outcomes.try_recv() {
            if let Some(c) = checks.get_mut(&addr) {
                c.running = false;
                if let Some(verdict) = c.state.outcome(passed, &c.settings, now, &mut rng) {
                    judge(&shared, c, verdict);
                }
            }
        }
        for (addr, c) in &mut checks {
            if !c.running && c.state.due(now) {
                c.running = true;
                let (addr, kind, limit, tx) =
                    (*addr, c.settings.kind.clone(), c.settings.timeout, tx.clone());
                let way = Way::to(&c.host, &shared.links.load(), &kind);
                tokio::task::spawn_local(async move {
                    let asked = tokio::time::timeout(limit, probe(addr, kind, way)).await;
                    let passed = matches!(asked, Ok(Ok(())));
                    let _ = tx.send((addr, passed)).await;
                });
            }
        }
        let pause = if checks.is_empty() { BEAT * 10 } else { BEAT };
        tokio::time::sleep(pause).await;
    }
}

/// Brings the list of checks to the configuration in force. Where two policies check one host, the one
/// that looks more often holds.
fn follow(shared: &Shared, checks: &mut HashMap<SocketAddr, Checked>, rng: &mut Rng) {
    let now = shared.clock.now();
    let config = shared.config.load();
    let mut wanted: HashMap<SocketAddr, (Arc<Host>, HealthCheck)> = HashMap::new();
    for s in config.snapshot.services() {
        let Some(check) = &s.policy.settings.health_check else { continue };
        for e in &s.endpoints {
            let have = wanted.get(&e.host.addr);
            if have.is_none_or(|(_, w)| w.interval > check.interval) {
                wanted.insert(e.host.addr, (e.host.clone(), check.clone()));
            }
        }
    }
    checks.retain(|addr, c| {
        let keep = wanted.get(addr).is_some_and(|(_, w)| *w == c.settings);
        if !keep && !wanted.contains_key(addr) {
            // Nobody judges it any more, so nothing speaks against it.
            c.host.set_health(Health::Unknown, now);
        }
        keep
    });
    for (addr, (host, settings)) in wanted {
        checks.entry(addr).or_insert_with(|| {
            let state = HealthState::new(&settings, now, rng);
            Checked { host, settings, state, running: false }
        });
    }
}

fn judge(shared: &Shared, c: &Checked, verdict: Health) {
    let now = shared.clock.now();
    if !c.host.set_health(verdict, now) {
        return;
    }
    let addr = c.host.addr.to_string();
    match verdict {
        Health::Unhealthy => shared.warn("endpoint_unhealthy", addr, "active health checks fail"),
        Health::Healthy => shared.note("endpoint_healthy", addr, "active health checks pass"),
        Health::Unknown => {}
    }
}
