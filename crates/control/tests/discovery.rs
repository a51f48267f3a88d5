//! What peers see of directory and rules.
use raddle_control::discovery::{Discovery, Sources};
use raddle_control::registry::book::{Book, Published};
use raddle_control::registry::{Directory, Instance, Protection};
use raddle_control::rules::RuleBook;
use raddle_core::Time;
use raddle_xds::proto::Node;
use raddle_xds::server::{Catalog, Peer, Software, View};
use raddle_xds::types::Kind;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

struct World {
    book: Book,
    tell: watch::Sender<Arc<Directory>>,
    discovery: Discovery,
    _rules: watch::Sender<Arc<RuleBook>>,
}

impl World {
    fn start(slice: usize) -> World {
        let protection =
            Protection { grace: Duration::ZERO, settle: Duration::ZERO, ..Protection::default() };
        let (tell, directory) = watch::channel(Arc::default());
        let (rules, book) = watch::channel(Arc::default());
        let discovery = Discovery::start(Sources { directory, rules: book, roots: None }, slice);
        World { book: Book::new(protection, Time::ZERO), tell, discovery, _rules: rules }
    }

    fn put(&mut self, app: &str, n: usize, weight: u32) {
        let service = Published {
            name: app.into(),
            protocol: "bolt".into(),
            port: 12200,
            hosts: Vec::new(),
            metadata: Default::default(),
        };
        self.book.put_set(&app.into(), &"h".into(), Arc::new([service]));
        self.book.put(Instance {
            id: format!("{app}-{n}").into(),
            app: app.into(),
            unit: "".into(),
            group: "default".into(),
            version: "".into(),
            labels: Default::default(),
            address: [10, 0, 0, n as u8].into(),
            weight,
            tls: false,
            tls_required: false,
            services: "h".into(),
        });
    }

    /// Tells what was put, and waits until it is served.
    async fn served(&mut self) -> u64 {
        let mut generation = self.discovery.generation();
        let before = *generation.borrow_and_update();
        self.book.tick(Time::from_millis(1));
        if let Some(directory) = self.book.publish() {
            self.tell.send_replace(directory);
            let next = generation.wait_for(|g| *g > before);
            *tokio::time::timeout(Duration::from_secs(10), next).await.expect("in time").expect("it lives")
        } else {
            before
        }
    }

    fn view(&self, id: &str) -> Box<dyn View> {
        let node = Node { id: id.into(), app: "caller".into(), ..Node::default() };
        self.discovery.view(&Peer { node, software: Software::Raddle, ..Peer::default() })
    }
}

#[tokio::test]
async fn what_changed_since_a_generation_is_known_by_name() {
    let mut world = World::start(0);
    world.put("shop", 1, 100);
    world.put("pay", 1, 100);
    let first = world.served().await;
    world.put("shop", 2, 100);
    let second = world.served().await;
    let view = world.view("a");
    assert_eq!(view.generation(), second);
    let shop: Arc<str> = "shop".into();
    assert_eq!(view.changed(first), Some(vec![(Kind::Cluster, shop.clone()), (Kind::Endpoints, shop)]));
    assert_eq!(view.changed(second), Some(Vec::new()));
    for n in 0..600 {
        world.put("pay", 1, n);
        world.served().await;
    }
    assert_eq!(world.view("a").changed(first), None, "what is long ago is forgotten");
}

#[tokio::test]
async fn a_resource_is_encoded_once_for_all_and_again_when_it_changes() {
    let mut world = World::start(0);
    world.put("shop", 1, 100);
    world.put("pay", 1, 100);
    world.served().await;
    let get = |world: &World, name: &str| world.view("a").get(Kind::Endpoints, name).expect("there");
    let (shop, pay) = (get(&world, "shop"), get(&world, "pay"));
    assert!(Arc::ptr_eq(&shop, &world.view("b").get(Kind::Endpoints, "shop").expect("there")));
    world.put("shop", 1, 50);
    world.served().await;
    assert_ne!(shop.version, get(&world, "shop").version);
    assert!(Arc::ptr_eq(&pay, &get(&world, "pay")));
    assert!(world.view("a").get(Kind::Endpoints, "nobody").is_none());
    assert_eq!(world.view("a").all(Kind::Cluster, &|_| true).len(), 2);
}

#[tokio::test]
async fn of_a_large_service_each_sidecar_has_its_own_slice() {
    let mut world = World::start(3);
    for n in 0..40 {
        world.put("shop", n, 100);
    }
    world.put("pay", 1, 100);
    world.served().await;
    let of = |id: &str| world.view(id).get(Kind::Endpoints, "shop").expect("there").version.clone();
    assert_eq!(of("a"), of("a"));
    let different: std::collections::BTreeSet<_> = (0..10).map(|n| of(&format!("node-{n}"))).collect();
    assert!(different.len() > 5, "{different:?}");
    let small = |id: &str| world.view(id).get(Kind::Endpoints, "pay").expect("there");
    assert!(Arc::ptr_eq(&small("a"), &small("b")));
}

#[tokio::test]
async fn a_node_without_rules_has_the_digest_of_nothing() {
    let world = World::start(0);
    let nothing = raddle_xds::digest::digest::<&str, &str>([]);
    assert_eq!(world.discovery.digest(&Node::default(), &|_| true), nothing);
}
