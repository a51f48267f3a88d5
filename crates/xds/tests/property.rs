//! Whatever happens on the way, in the end a client has what the catalog shows of what it subscribed to.
mod world;

use proptest::prelude::*;
use raddle_xds::server::Limits;
use raddle_xds::types::Kind;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use world::{DeltaStream, Said, SotwStream, World, delta_request, error, resource, sotw_request};

const KINDS: [Kind; 4] = [Kind::Cluster, Kind::Endpoints, Kind::Listener, Kind::Routes];
const NAMES: [&str; 5] = ["a", "b", "c", "d", "*"];
/// Contents that clients refuse.
const BAD: u32 = 3;

#[derive(Clone, Debug)]
enum Step {
    /// The world changes; several at once make one generation.
    Change(Vec<(usize, usize, Option<u32>)>),
    /// The server hears of it.
    Notice,
    Subscribe(usize, Vec<usize>),
    Unsubscribe(usize, Vec<usize>),
    /// The oldest request arrives.
    ToServer,
    /// The oldest response arrives, and is answered.
    ToClient,
    Reconnect,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (0..KINDS.len(), 0..4usize, prop::option::weighted(0.7, 0..6u32));
    let some = prop::collection::vec(0..NAMES.len(), 1..3);
    let step = prop_oneof![
        3 => prop::collection::vec(change, 1..4).prop_map(Step::Change),
        3 => Just(Step::Notice),
        3 => (0..KINDS.len(), some.clone()).prop_map(|(k, n)| Step::Subscribe(k, n)),
        2 => (0..KINDS.len(), some).prop_map(|(k, n)| Step::Unsubscribe(k, n)),
        6 => Just(Step::ToServer),
        6 => Just(Step::ToClient),
        1 => Just(Step::Reconnect),
    ];
    prop::collection::vec(step, 1..60)
}

fn bad_versions(kind: Kind) -> BTreeSet<String> {
    NAMES.iter().map(|n| resource(kind, n, BAD).version.to_string()).collect()
}

/// What a client knows of one kind.
#[derive(Default)]
struct Known {
    names: BTreeSet<String>,
    /// Something was asked for on this stream.
    begun: bool,
    nonce: String,
    version: String,
    state: BTreeMap<String, String>,
}

impl Known {
    fn wants(&self, name: &str) -> bool {
        self.names.contains(name) || self.names.contains("*")
    }

    fn list(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).collect()
    }

    fn forget_unwanted(&mut self) {
        let names = self.names.clone();
        self.state.retain(|name, _| names.contains(name) || names.contains("*"));
    }
}

trait Client {
    fn known(&mut self, kind: usize) -> &mut Known;
    fn subscribe(&mut self, kind: usize, names: &[&str], unsubscribe: bool);
    fn to_server(&mut self) -> bool;
    fn to_client(&mut self) -> bool;
    fn notice(&mut self);
    fn reconnect(&mut self);
}

#[derive(Default)]
struct Ends {
    known: [Known; KINDS.len()],
    responses: VecDeque<Said>,
}

struct Sotw {
    world: World,
    limits: Limits,
    server: SotwStream,
    ends: Ends,
    requests: VecDeque<envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest>,
}

impl Sotw {
    fn ask(&mut self, kind: usize, refused: bool) {
        let k = &mut self.ends.known[kind];
        k.begun = true;
        let mut request = sotw_request(KINDS[kind], &k.list(), &k.nonce, &k.version);
        if refused {
            request.error_detail = error("refused");
        }
        self.requests.push_back(request);
    }
}

impl Client for Sotw {
    fn known(&mut self, kind: usize) -> &mut Known {
        &mut self.ends.known[kind]
    }

    fn subscribe(&mut self, kind: usize, names: &[&str], unsubscribe: bool) {
        change(&mut self.ends.known[kind], names, unsubscribe);
        if self.ends.known[kind].begun || !unsubscribe {
            self.ask(kind, false);
        }
    }

    fn to_server(&mut self) -> bool {
        let Some(request) = self.requests.pop_front() else { return false };
        self.ends.responses.extend(self.server.send(&request));
        true
    }

    fn to_client(&mut self) -> bool {
        let Some(said) = self.ends.responses.pop_front() else { return false };
        let kind = said.kind.unwrap();
        let at = KINDS.iter().position(|k| *k == kind).unwrap();
        let bad = bad_versions(kind);
        let k = &mut self.ends.known[at];
        if kind.whole() {
            k.state.retain(|name, _| said.versions.contains_key(name));
        }
        let mut refused = false;
        for (name, version) in &said.versions {
            if bad.contains(version) {
                refused = true;
            } else if k.wants(name) {
                k.state.insert(name.clone(), version.clone());
            }
        }
        k.nonce.clone_from(&said.nonce);
        if !refused {
            k.version.clone_from(&said.version);
        }
        self.ask(at, refused);
        true
    }

    fn notice(&mut self) {
        let said = self.server.changed();
        self.ends.responses.extend(said);
    }

    fn reconnect(&mut self) {
        self.server = SotwStream::with(&self.world, self.limits.clone());
        self.requests.clear();
        self.ends.responses.clear();
        for kind in 0..KINDS.len() {
            let k = &mut self.ends.known[kind];
            k.nonce.clear();
            k.begun = false;
            if !k.names.is_empty() {
                self.ask(kind, false);
            }
        }
    }
}

struct Delta {
    world: World,
    limits: Limits,
    server: DeltaStream,
    ends: Ends,
    requests: VecDeque<envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest>,
}

impl Client for Delta {
    fn known(&mut self, kind: usize) -> &mut Known {
        &mut self.ends.known[kind]
    }

    fn subscribe(&mut self, kind: usize, names: &[&str], unsubscribe: bool) {
        let k = &mut self.ends.known[kind];
        change(k, names, unsubscribe);
        if !k.begun && unsubscribe {
            return;
        }
        k.begun = true;
        let (add, drop): (&[&str], &[&str]) = if unsubscribe { (&[], names) } else { (names, &[]) };
        self.requests.push_back(delta_request(KINDS[kind], add, drop));
    }

    fn to_server(&mut self) -> bool {
        let Some(request) = self.requests.pop_front() else { return false };
        self.ends.responses.extend(self.server.send(&request));
        true
    }

    fn to_client(&mut self) -> bool {
        let Some(said) = self.ends.responses.pop_front() else { return false };
        let kind = said.kind.unwrap();
        let at = KINDS.iter().position(|k| *k == kind).unwrap();
        let bad = bad_versions(kind);
        let k = &mut self.ends.known[at];
        let mut refused = false;
        for (name, version) in &said.versions {
            if bad.contains(version) {
                refused = true;
            } else if k.wants(name) {
                k.state.insert(name.clone(), version.clone());
            }
        }
        for name in &said.removed {
            k.state.remove(name);
        }
        let mut request = delta_request(kind, &[], &[]);
        request.response_nonce = said.nonce;
        request.error_detail = if refused { error("refused") } else { None };
        self.requests.push_back(request);
        true
    }

    fn notice(&mut self) {
        let said = self.server.changed();
        self.ends.responses.extend(said);
    }

    fn reconnect(&mut self) {
        self.server = DeltaStream::with(&self.world, self.limits.clone());
        self.requests.clear();
        self.ends.responses.clear();
        for (k, kind) in self.ends.known.iter_mut().zip(KINDS) {
            k.begun = !k.names.is_empty();
            if k.begun {
                let mut request = delta_request(kind, &k.list(), &[]);
                request.initial_resource_versions = k.state.clone().into_iter().collect();
                self.requests.push_back(request);
            }
        }
    }
}

fn change(known: &mut Known, names: &[&str], unsubscribe: bool) {
    for name in names {
        if unsubscribe {
            known.names.remove(*name);
        } else {
            known.names.insert((*name).to_owned());
        }
    }
    known.forget_unwanted();
}

fn run(world: &World, client: &mut dyn Client, steps: &[Step], sotw: bool) {
    let pick = |list: &[usize], kind: usize| -> Vec<&str> {
        // A star for kinds that are not sent whole is legal, and rare: it is tried for whole ones.
        list.iter().map(|n| NAMES[*n]).filter(|n| *n != "*" || KINDS[kind].whole()).collect()
    };
    for step in steps {
        match step {
            Step::Change(list) => {
                let list: Vec<_> = list.iter().map(|(k, n, c)| (KINDS[*k], NAMES[*n], *c)).collect();
                world.turn(&list);
            }
            Step::Notice => client.notice(),
            Step::Subscribe(kind, names) | Step::Unsubscribe(kind, names) => {
                let names = pick(names, *kind);
                if !names.is_empty() {
                    client.subscribe(*kind, &names, matches!(step, Step::Unsubscribe(..)));
                }
            }
            Step::ToServer => drop(client.to_server()),
            Step::ToClient => drop(client.to_client()),
            Step::Reconnect => client.reconnect(),
        }
    }
    client.notice();
    let mut rounds = 0;
    while client.to_server() | client.to_client() {
        rounds += 1;
        assert!(rounds < 500, "it goes round and round");
    }
    for (at, kind) in KINDS.into_iter().enumerate() {
        let there = world.versions(kind);
        let bad = bad_versions(kind);
        let known = client.known(at);
        for name in NAMES.iter().filter(|n| **n != "*") {
            let has = known.state.get(*name);
            let is = there.get(*name).filter(|_| known.wants(name));
            match is {
                // What it refuses it need not have.
                Some(version) if bad.contains(version) => {}
                Some(_) => assert_eq!(has, is, "{kind:?} {name}"),
                // Where absence means nothing, a client cannot know.
                None if sotw && !kind.whole() => {}
                None => assert_eq!(has, None, "{kind:?} {name}"),
            }
        }
    }
}

fn limits(small: bool) -> Limits {
    if small { Limits { response_bytes: 300, in_flight: 1, ..Limits::default() } } else { Limits::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn a_state_of_the_world_client_ends_with_what_it_subscribed_to(
        steps in steps(), small: bool, forgetful: bool
    ) {
        let world = if forgetful { World::forgetful() } else { World::new() };
        let limits = limits(small);
        let server = SotwStream::with(&world, limits.clone());
        let mut client =
            Sotw { world: world.clone(), limits, server, ends: Ends::default(), requests: VecDeque::new() };
        run(&world, &mut client, &steps, true);
    }

    #[test]
    fn an_incremental_client_ends_with_what_it_subscribed_to(
        steps in steps(), small: bool, forgetful: bool
    ) {
        let world = if forgetful { World::forgetful() } else { World::new() };
        let limits = limits(small);
        let server = DeltaStream::with(&world, limits.clone());
        let mut client =
            Delta { world: world.clone(), limits, server, ends: Ends::default(), requests: VecDeque::new() };
        run(&world, &mut client, &steps, false);
    }
}
