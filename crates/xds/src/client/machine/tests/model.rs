//! Whatever happens in whatever order, what is in force is what the server said last.
use super::*;
use proptest::prelude::*;

/// What can happen.
#[derive(Clone, Debug)]
enum Event {
    Want(u8),
    Unwant(u8),
    Pass(u16),
    /// The server changes: service, app, ports.
    Change(u8, u8, u8),
    Remove(u8),
    /// What the client said reaches the server, which answers.
    Talk,
    Break,
}

fn event() -> impl Strategy<Value = Event> {
    let name = || 0..6u8;
    prop_oneof![
        3 => name().prop_map(Event::Want),
        1 => name().prop_map(Event::Unwant),
        1 => (0..900u16).prop_map(Event::Pass),
        3 => (name(), 0..3u8, 0..4u8).prop_map(|(n, app, ports)| Event::Change(n, app, ports)),
        1 => name().prop_map(Event::Remove),
        4 => Just(Event::Talk),
        1 => Just(Event::Break),
    ]
}

/// A server that keeps to the rules.
#[derive(Default)]
struct Server {
    clusters: BTreeMap<String, (String, Vec<u8>)>,
    lists: BTreeMap<String, (String, Vec<u8>)>,
    /// What each type of a stream is subscribed to, and which version was sent.
    sent: BTreeMap<Kind, BTreeMap<String, String>>,
    version: u64,
}

impl Server {
    fn of(&self, kind: Kind) -> &BTreeMap<String, (String, Vec<u8>)> {
        if kind == Kind::Cluster { &self.clusters } else { &self.lists }
    }

    fn change(&mut self, n: u8, app: u8, ports: u8) {
        self.version += 1;
        let (name, version) = (format!("s{n}"), self.version.to_string());
        // The EDS name changes with the app, so that make-before-break is met.
        let eds = format!("{name}-{app}");
        let ports: Vec<u32> = (1..=u32::from(ports)).collect();
        self.lists.insert(eds.clone(), (version.clone(), endpoints(&eds, &ports)));
        self.clusters.insert(name.clone(), (version, cluster_of(&name, &format!("app{app}"), &eds)));
    }

    fn talk_delta(&mut self, rig: &mut Rig) {
        for request in rig.said_delta() {
            let Some(kind) = Kind::of(&request.type_url) else { continue };
            let sent = self.sent.entry(kind).or_default();
            for (name, version) in request.initial_resource_versions {
                sent.insert(name, version);
            }
            for name in request.resource_names_unsubscribe {
                sent.remove(&name);
            }
            for name in request.resource_names_subscribe {
                sent.entry(name).or_insert_with(|| "never".into());
            }
        }
        for kind in [Kind::Cluster, Kind::Endpoints] {
            let now = self.of(kind).clone();
            let mut removed = Vec::new();
            let mut resources = Vec::new();
            for (name, version) in self.sent.entry(kind).or_default() {
                let there = now.get(name).map_or("", |(v, _)| v.as_str());
                if there != version {
                    match now.get(name) {
                        Some((v, value)) => resources.push((name.clone(), v.clone(), value.clone())),
                        None => removed.push(name.clone()),
                    }
                    *version = there.to_owned();
                }
            }
            if !resources.is_empty() || !removed.is_empty() {
                let resources: Vec<_> =
                    resources.iter().map(|(n, v, value)| (n.as_str(), v.as_str(), value.clone())).collect();
                let removed: Vec<_> = removed.iter().map(String::as_str).collect();
                rig.delta(kind, &resources, &removed);
            }
        }
    }

    fn talk_sotw(&mut self, rig: &mut Rig) {
        for request in rig.said_sotw() {
            let Some(kind) = Kind::of(&request.type_url) else { continue };
            let names = request.resource_names.into_iter();
            self.sent.insert(kind, names.map(|name| (name, String::new())).collect());
        }
        for kind in [Kind::Cluster, Kind::Endpoints] {
            let Some(sent) = self.sent.get(&kind) else { continue };
            let resources: Vec<_> = sent
                .keys()
                .filter_map(|name| self.of(kind).get(name))
                .map(|(_, value)| value.clone())
                .collect();
            rig.sotw(kind, &self.version.to_string(), &resources);
        }
    }
}

fn play(variant: Variant, events: &[Event]) {
    let mut rig = Rig::plain(variant);
    let mut server = Server::default();
    let mut wanted: BTreeMap<String, Option<Time>> = BTreeMap::new();
    let talk = |server: &mut Server, rig: &mut Rig| match variant {
        Variant::Delta => server.talk_delta(rig),
        Variant::Sotw => server.talk_sotw(rig),
    };
    for event in events {
        match event {
            Event::Want(n) => {
                rig.want(&format!("s{n}"));
                wanted.insert(format!("s{n}"), None);
            }
            Event::Unwant(n) => {
                rig.unwant(&format!("s{n}"));
                if let Some(until) = wanted.get_mut(&format!("s{n}")) {
                    until.get_or_insert(rig.now + IDLE);
                }
            }
            Event::Pass(seconds) => {
                rig.pass(Duration::from_secs(u64::from(*seconds)));
                wanted.retain(|_, until| until.is_none_or(|until| until > rig.now));
            }
            Event::Change(n, app, ports) => server.change(*n, *app, *ports),
            Event::Remove(n) => {
                if server.clusters.remove(&format!("s{n}")).is_some() {
                    server.lists.retain(|eds, _| !eds.starts_with(&format!("s{n}-")));
                }
            }
            Event::Talk => talk(&mut server, &mut rig),
            Event::Break => {
                rig.machine.disconnected();
                rig.machine.connected(variant);
                server.sent.clear();
            }
        }
    }
    // Until both have nothing to say: clusters, their endpoints, and what replaced endpoints leave behind.
    for _ in 0..4 {
        talk(&mut server, &mut rig);
    }
    rig.pass(WARM);
    wanted.retain(|_, until| until.is_none_or(|until| until > rig.now));
    let expected: BTreeMap<String, (String, usize)> = server
        .clusters
        .iter()
        .filter(|(name, _)| wanted.contains_key(*name))
        .map(|(name, (_, value))| {
            let cluster = Cluster::decode(&**value).expect("a cluster");
            let eds = cluster.eds_cluster_config.expect("by EDS").service_name;
            let list = endpoint::ClusterLoadAssignment::decode(&*server.lists[&eds].1).expect("a list");
            let app = format!("app{}", eds.rsplit('-').next().unwrap_or_default());
            (name.clone(), (app, list.endpoints[0].lb_endpoints.len()))
        })
        .collect();
    let found: BTreeMap<String, (String, usize)> =
        rig.world.services.iter().map(|(n, s)| (n.clone(), (s.app.clone(), s.endpoints.len()))).collect();
    assert_eq!(found, expected);
    let (names, stored) = rig.machine.stored();
    assert_eq!(names.len(), wanted.len());
    assert!(stored.len() <= expected.len() * 2, "nothing is held of what is gone: {stored:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn incrementally_what_is_in_force_is_what_the_server_has(events in prop::collection::vec(event(), 0..60)) {
        play(Variant::Delta, &events);
    }

    #[test]
    fn as_a_whole_what_is_in_force_is_what_the_server_has(events in prop::collection::vec(event(), 0..60)) {
        play(Variant::Sotw, &events);
    }
}
