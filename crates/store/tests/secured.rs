//! An etcd with TLS, with users, and with members that are not there.
mod etcd;

use bytes::Bytes;
use raddle_store::{Etcd, EtcdOptions, EtcdTls, Op, Outcome, Revision, Store, StoreError, Told, Txn};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// Writes, reads, watches and leases once.
async fn works(store: &Etcd) {
    let lease = store.grant(Duration::from_secs(60)).await.expect("granted");
    let mut watch = store.watch("a/", Revision(0)).await.expect("watched");
    let op = Op::Put { key: "a/b".into(), value: Bytes::from_static(b"1"), lease: Some(lease) };
    let outcome = store.commit(Txn { ops: vec![op], ..Txn::default() }).await.expect("answered");
    assert!(matches!(outcome, Outcome::Done(_)));
    store.keep_alive(lease).await.expect("kept");
    let told = tokio::time::timeout(PATIENCE, watch.recv()).await.expect("told in time");
    assert!(matches!(told, Some(Told::Changes(..))), "{told:?}");
    assert_eq!(store.list("").await.expect("listed").entries.len(), 1);
    store.revoke(lease).await.expect("revoked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_is_reached_over_tls_and_knows_us_by_our_certificate() {
    if !etcd::available() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let key = || KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, key()).expect("signed");
    let issue = || {
        let (params, key) = (CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("names"), key());
        (params.signed_by(&key, &authority).expect("signed").pem(), key.serialize_pem())
    };
    let (server, client) = (issue(), issue());
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        path
    };
    let tls = etcd::Tls {
        authority: file("ca.pem", &authority.pem()),
        certificate: file("server.pem", &server.0),
        key: file("server.key", &server.1),
    };
    let cluster = etcd::Cluster::start_with(1, etcd::QUICK, Some(&tls));
    let mut options = EtcdOptions::new(cluster.endpoints.clone());
    let identity = Some((client.0.clone().into_bytes(), client.1.clone().into_bytes()));
    options.tls = Some(EtcdTls { authority: authority.pem().into_bytes(), identity, server_name: None });
    let shown = format!("{options:?}");
    assert!(!shown.contains("PRIVATE") && !shown.contains(&client.1), "{shown}");
    works(&Etcd::connect(options.clone()).await.expect("connected")).await;

    let mut stranger = options;
    stranger.tls = Some(EtcdTls { authority: client.0.into_bytes(), identity: None, server_name: None });
    let refused = Etcd::connect(stranger).await.expect_err("an unknown authority");
    assert!(matches!(&refused, StoreError::Unavailable(why) if why.contains("127.0.0.1")), "{refused}");
    println!("{refused}");
}

/// etcd's own gateway for JSON, to set users up.
fn post(endpoint: &str, path: &str, body: &str) {
    let mut stream = TcpStream::connect(endpoint.trim_start_matches("http://")).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let head = format!("POST {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(head.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    assert!(answer.contains("200 OK"), "{path}: {answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_knows_us_by_name_and_password_which_are_shown_to_nobody() {
    if !etcd::available() {
        return;
    }
    let cluster = etcd::Cluster::start(1, etcd::QUICK);
    let endpoint = &cluster.endpoints[0];
    post(endpoint, "/v3/auth/user/add", r#"{"name": "root", "password": "pass-4711"}"#);
    post(endpoint, "/v3/auth/role/add", r#"{"name": "root"}"#);
    post(endpoint, "/v3/auth/user/grant", r#"{"user": "root", "role": "root"}"#);
    post(endpoint, "/v3/auth/enable", "{}");
    let mut options = EtcdOptions::new([endpoint.clone()]);
    let refused = Etcd::connect(options.clone()).await.expect_err("nobody");
    assert!(matches!(refused, StoreError::Invalid(_)), "{refused}");
    options.user = Some(("root".into(), "wrong".into()));
    let refused = Etcd::connect(options.clone()).await.expect_err("a wrong password");
    assert!(matches!(refused, StoreError::Invalid(_)), "{refused}");
    options.user = Some(("root".into(), "pass-4711".into()));
    let store = Etcd::connect(options.clone()).await.expect("connected");
    works(&store).await;
    for shown in [format!("{options:?}"), format!("{store:?}"), store.name()] {
        assert!(!shown.contains("4711"), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_are_not_there_are_passed_over() {
    if !etcd::available() {
        return;
    }
    let cluster = etcd::Cluster::start(1, etcd::QUICK);
    let nobody = || "http://127.0.0.1:1".to_owned();
    let options = EtcdOptions::new([nobody(), nobody(), cluster.endpoints[0].clone()]);
    works(&Etcd::connect(options).await.expect("connected")).await;
}

#[tokio::test]
async fn an_etcd_that_is_not_there_is_told_by_its_address_in_time() {
    let begun = Instant::now();
    let refused = Etcd::connect(EtcdOptions::new(["http://127.0.0.1:1"])).await.expect_err("nobody there");
    assert!(matches!(&refused, StoreError::Unavailable(why) if why.contains("127.0.0.1:1")), "{refused}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    for (endpoints, word) in
        [(vec![], "no endpoint"), (vec!["127.0.0.1"], "port"), (vec!["https://h:1"], "authority")]
    {
        let refused = Etcd::connect(EtcdOptions::new(endpoints)).await.expect_err("no sense");
        assert!(matches!(&refused, StoreError::Invalid(why) if why.contains(word)), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_of_a_future_that_etcd_forgot_is_lost() {
    if !etcd::available() {
        return;
    }
    let cluster = etcd::Cluster::start(1, etcd::QUICK);
    let store = Etcd::connect(EtcdOptions::new(cluster.endpoints.clone())).await.expect("connected");
    let mut watch = store.watch("", Revision(1_000_000)).await.expect("watched");
    let told = tokio::time::timeout(PATIENCE, watch.recv()).await.expect("told in time");
    assert!(matches!(&told, Some(Told::Lost(why)) if why.contains("1000000")), "{told:?}");
}
