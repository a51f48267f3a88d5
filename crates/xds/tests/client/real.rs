//! Against the real server.
use super::catalog::{Memory, Running, drop_service, put};
use super::world::{World, cluster, endpoints, options, rule, until};
use raddle_xds::client::{Mode, Options, spawn};
use raddle_xds::types::Kind;
use std::net::{Ipv4Addr, SocketAddr};

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const SERVICES: u16 = 1000;

async fn whole_life(mode: Mode) {
    let memory = Memory::new();
    memory.change(|content| {
        for n in 0..SERVICES {
            put(content, cluster(&format!("s{n}")));
            put(content, endpoints(&format!("s{n}"), &[n + 1]));
        }
        put(content, rule("a", "r1"));
        put(content, rule("b", "r1"));
    });
    let running = Running::start(&memory, ANY);
    let address = running.address;
    let folder = tempfile::tempdir().expect("a folder");
    let cache = folder.path().join("xds.cache");
    let world = World::default();
    world.0.lock().expect("no panic").refuse.push("s13".into());
    let with_cache = Options { mode, cache: Some(cache.clone()), ..options(address) };
    let client = spawn(with_cache.clone(), world.sink());
    for n in 0..SERVICES {
        client.want(&format!("s{n}"));
    }
    client.want("ghost");

    world.until("all services but the refused one", |g| g.services.len() == usize::from(SERVICES) - 1).await;
    assert!(world.see(|g| g.services.iter().all(|(name, ports)| *name == format!("s{}", ports[0] - 1))));
    world.until("the rules", |g| g.rules.len() == 2).await;
    let refused = || client.status().refused.iter().map(|r| (r.kind, r.name.to_string())).collect::<Vec<_>>();
    until("the refusal", || refused() == [(Kind::Endpoints, "s13".to_owned())]).await;
    let nacks = || {
        running
            .server
            .streams()
            .iter()
            .map(|s| s.kinds.iter().map(|k| k.nacked.len()).sum::<usize>())
            .sum::<usize>()
    };
    until("the server knows what was refused", || nacks() > 0).await;
    if mode == Mode::Delta {
        assert_eq!(client.status().missing, ["ghost".into()]);
        assert_eq!(world.see(|g| g.missing.clone()), ["ghost"]);
    }

    memory.change(|content| {
        put(content, endpoints("s1", &[7, 8, 9]));
        drop_service(content, "s2");
        put(content, rule("a", "r2"));
        content.remove(&(Kind::Rule, "Route/b".into()));
        put(content, cluster("ghost"));
        put(content, endpoints("ghost", &[1]));
    });
    world.until("an update", |g| g.services["s1"] == [7, 8, 9]).await;
    world.until("a removal", |g| !g.services.contains_key("s2")).await;
    world.until("rules", |g| g.rules.len() == 1 && g.rules["Route/a"] == "r2").await;
    world.until("what was missing", |g| g.services.contains_key("ghost")).await;

    // The server dies, and what there is stays; things are removed and changed while it is away.
    drop(running);
    until("it is noticed", || client.status().connected.is_none()).await;
    memory.change(|content| {
        drop_service(content, "s3");
        put(content, endpoints("s4", &[4444]));
        put(content, rule("c", "r1"));
    });
    assert_eq!(world.see(|g| g.services.len()), usize::from(SERVICES) - 1);
    let running = Running::start(&memory, address);
    world.until("a removal while away", |g| !g.services.contains_key("s3")).await;
    world.until("a change while away", |g| g.services["s4"] == [4444]).await;
    world.until("a rule while away", |g| g.rules.len() == 2).await;
    assert_eq!(client.status().streams, 2);

    // A cold start without any control plane.
    client.shutdown();
    client.closed().await;
    drop(running);
    let cold = World::default();
    let again = spawn(with_cache, cold.sink());
    cold.until("what the cache has", |g| g.cached == 1).await;
    let (was, is) = (world.see(|g| g.services.clone()), cold.see(|g| g.services.clone()));
    assert_eq!(was, is);
    assert_eq!(cold.see(|g| g.rules.len()), 2);
    // And the server, when it comes back, takes away what is gone.
    memory.change(|content| drop_service(content, "s5"));
    let _running = Running::start(&memory, address);
    cold.until("a removal since the cache was written", |g| !g.services.contains_key("s5")).await;
    again.shutdown();
    again.closed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_services_live_through_updates_removals_and_restarts_incrementally() {
    whole_life(Mode::Delta).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_services_live_through_updates_removals_and_restarts_as_a_whole() {
    whole_life(Mode::Sotw).await;
}
