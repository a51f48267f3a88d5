//! What one change costs where the control plane keeps many services current: `apply SERVICES ENDPOINTS ROUNDS`.
//! Says the time from an update to its being in force, and the memory that all of it takes.
use raddle_model::{Endpoint, Labels, Metadata, Service};
use raddle_proxy::{Options, Sidecar};
use raddle_xds::client::Update;
use std::time::Instant;

fn service(n: usize, endpoints: usize, weight: u32) -> Service {
    let endpoint = |i: usize| Endpoint {
        address: ([10, (n >> 8) as u8, n as u8, i as u8], 12_200).into(),
        unit: Some("u1".into()),
        group: "default".into(),
        weight,
        labels: Labels::from([("version".to_owned(), "1".to_owned())]),
        tls: None,
    };
    Service {
        metadata: Metadata { name: format!("com.shop.Service{n}:1.0"), ..Metadata::default() },
        app: format!("app{}", n % 100),
        protocol: None,
        hosts: Vec::new(),
        endpoints: (0..endpoints).map(endpoint).collect(),
    }
}

fn say(sidecar: &Sidecar, services: impl Iterator<Item = Service>) {
    let services = services.map(|s| (s.metadata.name.as_str().into(), Some(s))).collect();
    let refused = sidecar.feed(Update { services, ..Update::default() });
    assert!(refused.is_empty(), "{refused:?}");
}

fn main() {
    let given: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let [services, endpoints, rounds] = given[..] else {
        eprintln!("apply SERVICES ENDPOINTS ROUNDS");
        std::process::exit(2);
    };
    let file = std::env::temp_dir().join(format!("raddle-apply-{}.yaml", std::process::id()));
    let text = "apiVersion: raddle.io/v1\nkind: Sidecar\nmetadata: {name: apply}\nspec:\n  app: apply\n  \
                outbound: [{listen: 127.0.0.1:29871}]\n";
    std::fs::write(&file, text).expect("a temporary file can be written");
    let options = Options { paths: vec![file.clone()], ..Options::default() };
    let sidecar = Sidecar::start(options, None).expect("it starts");
    let _ = std::fs::remove_file(file);
    let before = raddle_net::memory::resident();
    say(&sidecar, (0..services).map(|n| service(n, endpoints, 100)));
    raddle_net::memory::give_back();
    let after = raddle_net::memory::resident();
    let mut took: Vec<u128> = (0..rounds)
        .map(|round| {
            let changed = service(round % services, endpoints, 101 + round as u32);
            let began = Instant::now();
            say(&sidecar, std::iter::once(changed));
            began.elapsed().as_micros()
        })
        .collect();
    took.sort_unstable();
    let at = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)];
    println!(
        "{services} services of {endpoints} endpoints: {} KiB; one change: p50 {} us, p99 {} us, most {} us",
        after.saturating_sub(before) / 1024,
        at(50),
        at(99),
        took[took.len() - 1]
    );
    sidecar.stop();
    sidecar.join();
}
