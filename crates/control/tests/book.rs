//! The book: what it lists, what it shares, and what it keeps.
use raddle_control::registry::book::{Book, Published, ServiceSet};
use raddle_control::registry::{Directory, Instance, Protection};
use raddle_core::Time;
use std::sync::Arc;
use std::time::Duration;

const START: Time = Time::from_millis(100_000);

fn at(seconds: u64) -> Time {
    START + Duration::from_secs(seconds)
}

fn book() -> Book {
    Book::new(Protection { grace: Duration::ZERO, settle: Duration::ZERO, ..Protection::default() }, START)
}

fn instance(app: &str, n: usize) -> Instance {
    Instance {
        id: format!("{app}-{n}").into(),
        app: app.into(),
        unit: "".into(),
        group: "default".into(),
        version: "".into(),
        labels: Default::default(),
        address: [10, 0, (n / 250) as u8, (n % 250) as u8].into(),
        weight: 100,
        tls: false,
        tls_required: false,
        services: "h1".into(),
    }
}

fn set(names: &[&str]) -> ServiceSet {
    let service = |name: &&str| Published {
        name: (*name).into(),
        protocol: "bolt".into(),
        port: 12200,
        hosts: Vec::new(),
        metadata: Default::default(),
    };
    names.iter().map(service).collect()
}

fn fill(book: &mut Book, app: &str, n: usize) {
    book.put_set(&app.into(), &"h1".into(), set(&[&format!("{app}.a"), &format!("{app}.b")]));
    for i in 0..n {
        book.put(instance(app, i));
    }
}

fn publish(book: &mut Book, now: Time) -> Arc<Directory> {
    book.tick(now);
    book.publish();
    book.directory().clone()
}

fn endpoints(directory: &Directory, service: &str) -> (usize, usize) {
    directory.services.get(service).map_or((0, 0), |s| {
        let kept = s.endpoints.iter().filter(|e| e.kept).count();
        (s.endpoints.len() - kept, kept)
    })
}

#[test]
fn what_did_not_change_is_the_same_object() {
    let mut book = book();
    fill(&mut book, "shop", 3);
    fill(&mut book, "pay", 2);
    let before = publish(&mut book, at(0));
    assert_eq!(endpoints(&before, "shop.a"), (3, 0));
    let mut heavier = instance("shop", 1);
    heavier.weight = 7;
    book.put(heavier);
    let after = publish(&mut book, at(1));
    assert_eq!(after.generation, before.generation + 1);
    assert!(Arc::ptr_eq(&before.services["pay.a"], &after.services["pay.a"]));
    assert!(Arc::ptr_eq(&before.apps["pay"], &after.apps["pay"]));
    assert!(!Arc::ptr_eq(&before.services["shop.b"], &after.services["shop.b"]));
    let same = |n: usize| {
        let instance = |d: &Directory| d.services["shop.a"].endpoints[n].instance.clone();
        Arc::ptr_eq(&instance(&before), &instance(&after))
    };
    assert!(same(0) && !same(1) && same(2));
}

#[test]
fn the_same_told_again_changes_nothing() {
    let mut book = book();
    fill(&mut book, "shop", 3);
    let before = publish(&mut book, at(0));
    fill(&mut book, "shop", 3);
    assert!(!book.is_dirty());
    assert!(Arc::ptr_eq(&before, &publish(&mut book, at(1))));
}

#[test]
fn an_instance_may_come_before_its_services() {
    let mut book = book();
    book.put(instance("shop", 1));
    assert!(publish(&mut book, at(0)).services.is_empty());
    book.put_set(&"shop".into(), &"h1".into(), set(&["shop.a"]));
    assert_eq!(endpoints(&publish(&mut book, at(0)), "shop.a"), (1, 0));
}

#[test]
fn a_set_in_use_is_remembered_until_the_last_instance_goes() {
    let mut book = book();
    fill(&mut book, "shop", 1);
    publish(&mut book, at(0));
    book.delete_set("shop", "h1");
    assert_eq!(endpoints(&publish(&mut book, at(1)), "shop.a"), (1, 0));
    book.withdraw("shop", "shop-0");
    assert!(publish(&mut book, at(2)).services.is_empty());
}

#[test]
fn few_that_vanish_are_let_go() {
    let mut book = book();
    fill(&mut book, "shop", 20);
    publish(&mut book, at(0));
    for i in 0..6 {
        book.vanish(at(1), "shop", &format!("shop-{i}"));
    }
    assert_eq!(endpoints(&publish(&mut book, at(1)), "shop.a"), (14, 0), "6 of 20 are 30 %, not more");
}

#[test]
fn many_that_vanish_at_once_are_kept_and_marked() {
    let mut book = book();
    fill(&mut book, "shop", 20);
    fill(&mut book, "pay", 40);
    publish(&mut book, at(0));
    for i in 0..7 {
        book.vanish(at(1), "shop", &format!("shop-{i}"));
    }
    let d = publish(&mut book, at(1));
    assert_eq!(endpoints(&d, "shop.a"), (13, 7));
    assert!(d.services["shop.a"].protected && d.apps["shop"].protected && !d.protected);
    assert!(!d.services["pay.a"].protected && !d.apps["pay"].protected);
}

#[test]
fn those_that_vanished_before_it_was_clear_come_back_into_the_list() {
    let mut book = book();
    fill(&mut book, "shop", 20);
    publish(&mut book, at(0));
    for i in 0..10 {
        book.vanish(at(i), "shop", &format!("shop-{i}"));
        publish(&mut book, at(i));
    }
    assert_eq!(endpoints(&publish(&mut book, at(10)), "shop.a"), (10, 10));
}

#[test]
fn slow_losses_are_no_catastrophe() {
    let mut book = book();
    fill(&mut book, "shop", 20);
    for i in 0..15 {
        book.vanish(at(i * 10), "shop", &format!("shop-{i}"));
        publish(&mut book, at(i * 10));
    }
    assert_eq!(endpoints(&publish(&mut book, at(150)), "shop.a"), (5, 0));
}

#[test]
fn withdrawals_go_through_whatever_is_kept() {
    let mut book = book();
    fill(&mut book, "shop", 20);
    for i in 0..10 {
        book.vanish(at(1), "shop", &format!("shop-{i}"));
    }
    publish(&mut book, at(1));
    book.withdraw("shop", "shop-0");
    book.withdraw("shop", "shop-19");
    assert_eq!(endpoints(&publish(&mut book, at(2)), "shop.a"), (9, 9));
    let mut all = self::book();
    fill(&mut all, "shop", 20);
    for i in 0..20 {
        all.withdraw("shop", &format!("shop-{i}"));
    }
    assert_eq!(endpoints(&publish(&mut all, at(1)), "shop.a"), (0, 0));
}

#[test]
fn when_enough_are_back_the_others_are_let_go_after_the_window() {
    let mut book = book();
    fill(&mut book, "shop", 20);
    for i in 0..10 {
        book.vanish(at(1), "shop", &format!("shop-{i}"));
    }
    publish(&mut book, at(1));
    assert_eq!(endpoints(&publish(&mut book, at(600)), "shop.a"), (10, 10), "however long it takes");
    for i in 0..6 {
        book.put(instance("shop", i));
    }
    assert_eq!(endpoints(&publish(&mut book, at(601)), "shop.a"), (16, 4));
    assert_eq!(
        endpoints(&publish(&mut book, at(610)), "shop.a"),
        (16, 4),
        "the rest has a window to come back in"
    );
    let d = publish(&mut book, at(617));
    assert_eq!(endpoints(&d, "shop.a"), (16, 0));
    assert!(!d.apps["shop"].protected);
}

#[test]
fn what_is_kept_is_not_kept_for_ever_and_an_operator_can_end_it() {
    let mut book = book();
    fill(&mut book, "shop", 20);
    for i in 0..10 {
        book.vanish(at(1), "shop", &format!("shop-{i}"));
    }
    publish(&mut book, at(1));
    assert_eq!(endpoints(&publish(&mut book, at(1800)), "shop.a"), (10, 10));
    assert_eq!(endpoints(&publish(&mut book, at(1802)), "shop.a"), (10, 0));
    for i in 10..20 {
        book.vanish(at(1900), "shop", &format!("shop-{i}"));
    }
    assert_eq!(endpoints(&publish(&mut book, at(1900)), "shop.a"), (0, 10));
    book.release(Some("shop"));
    assert_eq!(endpoints(&publish(&mut book, at(1901)), "shop.a"), (0, 0));
}

#[test]
fn the_whole_mesh_is_protected_where_each_app_alone_is_too_small() {
    let mut book = book();
    for app in 0..20 {
        fill(&mut book, &format!("app{app}"), 3);
    }
    publish(&mut book, at(0));
    for app in 0..7 {
        for i in 0..3 {
            book.vanish(at(1), &format!("app{app}"), &format!("app{app}-{i}"));
        }
    }
    let d = publish(&mut book, at(1));
    assert!(d.protected);
    assert_eq!(endpoints(&d, "app0.a"), (0, 3));
    for app in 0..7 {
        fill(&mut book, &format!("app{app}"), 3);
    }
    let d = publish(&mut book, at(2));
    assert!(!d.protected);
    assert_eq!(endpoints(&d, "app0.a"), (3, 0));
}

#[test]
fn after_a_start_nothing_vanishes_before_the_grace_has_passed() {
    let mut book = Book::new(
        Protection { grace: Duration::from_secs(15), settle: Duration::ZERO, ..Protection::default() },
        START,
    );
    fill(&mut book, "shop", 20);
    fill(&mut book, "pay", 20);
    publish(&mut book, at(0));
    for i in 0..20 {
        book.vanish(at(9), "shop", &format!("shop-{i}"));
    }
    for i in 0..3 {
        book.vanish(at(9), "pay", &format!("pay-{i}"));
    }
    let d = publish(&mut book, at(9));
    assert_eq!((endpoints(&d, "shop.a"), endpoints(&d, "pay.a")), ((0, 20), (17, 3)));
    for i in 0..20 {
        book.put(instance("shop", i));
    }
    let d = publish(&mut book, at(16));
    assert_eq!((endpoints(&d, "shop.a"), endpoints(&d, "pay.a")), ((20, 0), (17, 0)));
}

#[test]
fn of_many_that_vanish_one_after_the_other_none_is_seen_to_go() {
    let protection = Protection { grace: Duration::ZERO, ..Protection::default() };
    let mut book = Book::new(protection, START);
    fill(&mut book, "shop", 100);
    publish(&mut book, at(0));
    for i in 0..60 {
        let now = at(1) + Duration::from_millis(10 * i as u64);
        book.vanish(now, "shop", &format!("shop-{i}"));
        let (live, kept) = endpoints(&publish(&mut book, now), "shop.a");
        assert_eq!(live + kept, 100);
    }
    assert_eq!(endpoints(book.directory(), "shop.a"), (40, 60));
    let mut few = Book::new(Protection { grace: Duration::ZERO, ..Protection::default() }, START);
    fill(&mut few, "shop", 100);
    for i in 0..3 {
        few.vanish(at(1), "shop", &format!("shop-{i}"));
    }
    assert_eq!(endpoints(&publish(&mut few, at(1)), "shop.a"), (100, 0));
    few.put(instance("shop", 0));
    few.withdraw("shop", "shop-1");
    assert_eq!(endpoints(&publish(&mut few, at(1)), "shop.a"), (99, 0));
    assert_eq!(endpoints(&publish(&mut few, at(2)), "shop.a"), (98, 0));
}
