use super::*;

const T: u64 = 1_700_000_000_000;

fn edge(caller: &str, address: &str, encrypted: bool, requests: u64) -> proto::Edge {
    let (caller, address) = (caller.to_owned(), address.to_owned());
    proto::Edge { caller, address, encrypted, requests, connections: 1, ..proto::Edge::default() }
}

fn report(mode: &str, edges: Vec<proto::Edge>) -> proto::ReportRequest {
    let encryption = proto::Encryption { mode: mode.into(), ..proto::Encryption::default() };
    proto::ReportRequest { edges, encryption: Some(encryption), ..proto::ReportRequest::default() }
}

fn take(edges: &mut Edges, instance: &str, report: &proto::ReportRequest, at: u64) -> Vec<Happened> {
    let risk = |address: &str| (address == "10.0.0.7").then(|| Arc::from("risk"));
    edges.take(&"pay".into(), &instance.into(), report, at, risk)
}

#[test]
fn requests_are_those_of_the_last_minute_over_all_instances() {
    let mut edges = Edges::default();
    take(&mut edges, "pay-1", &report("", vec![edge("order", "10.0.0.1", false, 10)]), T);
    take(&mut edges, "pay-2", &report("", vec![edge("order", "10.0.0.2", false, 5)]), T + 30_000);
    let links = edges.of("pay", T + 30_000);
    assert_eq!((links.requests(), links.connections()), ((0, 15), (0, 2)));
    assert_eq!(links.callers[0].addresses.len(), 2);
    take(&mut edges, "pay-1", &report("", vec![edge("order", "10.0.0.1", true, 7)]), T + 62_000);
    let links = edges.of("pay", T + 62_000);
    assert_eq!(links.requests(), (7, 12), "the first ten are over");
    assert_eq!(links.connections(), (1, 2), "what an instance says replaces what it said");
    edges.forget("pay", "pay-2");
    assert_eq!(edges.of("pay", T + 62_000).connections(), (1, 1));
}

#[test]
fn who_says_no_name_is_known_by_an_address_that_is_one_apps_only() {
    let mut edges = Edges::default();
    let unknown = vec![edge("", "10.0.0.7", false, 1), edge("", "10.0.0.8", false, 2)];
    take(&mut edges, "pay-1", &report("", unknown), T);
    let callers = edges.of("pay", T).callers;
    let of = |n: usize| (&*callers[n].caller, callers[n].by_address, callers[n].addresses.len());
    assert_eq!((of(0), of(1)), (("", false, 1), ("risk", true, 1)));
}

#[test]
fn a_switch_tells_who_begins_and_who_ends_once_each() {
    let mut edges = Edges::default();
    let plain = |mode| report(mode, vec![edge("order", "10.0.0.1", false, 1)]);
    assert!(take(&mut edges, "pay-1", &plain("disable"), T).is_empty(), "nobody asks for TLS");
    let began = |encrypted| Happened::Began { app: "pay".into(), caller: "order".into(), encrypted };
    assert_eq!(take(&mut edges, "pay-1", &plain("permissive"), T + 1000), [began(false)]);
    assert!(take(&mut edges, "pay-1", &plain("permissive"), T + 2000).is_empty());
    let encrypted = report("permissive", vec![edge("order", "10.0.0.1", true, 1)]);
    assert_eq!(take(&mut edges, "pay-1", &encrypted, T + 3000), [began(true)]);
    assert!(edges.tick(T + 61_000).is_empty());
    let ended = Happened::Ended { app: "pay".into(), caller: "order".into() };
    assert_eq!(edges.tick(T + 62_000), [ended]);
    assert!(edges.tick(T + 63_000).is_empty());
    assert_eq!(take(&mut edges, "pay-1", &plain("strict"), T + 70_000), [began(false)], "it is back");
}

#[test]
fn callers_and_addresses_are_bounded_and_the_oldest_go_first() {
    let mut edges = Edges::default();
    for n in 0..CALLERS as u64 + 10 {
        let one = vec![edge(&format!("app-{n:04}"), "10.0.0.1", false, 1)];
        take(&mut edges, "pay-1", &report("", one), T + n);
    }
    let links = edges.of("pay", T + 2000);
    assert_eq!(links.callers.len(), CALLERS);
    assert!(links.callers.iter().all(|c| &*c.caller != "app-0009"));
    for n in 0..100 {
        let one = vec![edge("busy", &format!("10.0.1.{n}"), false, 1)];
        take(&mut edges, "pay-1", &report("", one), T + 3000 + n);
    }
    let busy = edges.of("pay", T + 4000).callers.into_iter().find(|c| &*c.caller == "busy").unwrap();
    assert_eq!(busy.addresses.len(), ADDRESSES);
    assert!(busy.addresses.contains_key("10.0.1.99") && !busy.addresses.contains_key("10.0.1.0"));
}

#[test]
fn what_other_replicas_say_is_added() {
    let mut edges = Edges::default();
    take(&mut edges, "pay-1", &report("", vec![edge("order", "10.0.0.1", false, 3)]), T);
    let other = edges.of_own("pay", T).unwrap();
    edges.told.entry("pay".into()).or_default().insert("r2".into(), other);
    assert_eq!(edges.of("pay", T).requests(), (0, 6));
    assert_eq!(edges.of("pay", T).callers.len(), 1);
}

#[test]
fn plaintext_callers_are_those_that_were_seen_lately() {
    let mut edges = Edges::default();
    let mut quiet = edge("order", "10.0.0.1", false, 0);
    (quiet.idle_s, quiet.connections) = (90, 0);
    take(&mut edges, "pay-1", &report("", vec![quiet, edge("risk", "10.0.0.2", false, 1)]), T);
    let links = edges.of("pay", T);
    let names = |within| links.plaintext(within, T).map(|c| c.caller.to_string()).collect::<Vec<_>>();
    assert_eq!(names(60_000), ["risk"]);
    assert_eq!(names(120_000), ["risk", "order"]);
    let mut open = edge("order", "10.0.0.1", false, 0);
    open.idle_s = 90;
    take(&mut edges, "pay-1", &report("", vec![open]), T);
    assert_eq!(edges.of("pay", T).plaintext(60_000, T).count(), 2, "who is connected is here");
}
