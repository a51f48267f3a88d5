//! An API over a store in memory, asked without sockets.
#![allow(dead_code)]

use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, Method, Request};
use futures_util::StreamExt;
use raddle_control::api::{self, Parts};
use raddle_control::events::Events;
use raddle_control::registry::{App, Directory, Endpoint, Instance, Listed};
use raddle_control::rules::RuleBook;
use raddle_store::{Embedded, Store};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tower::ServiceExt;

pub(crate) struct Api {
    pub(crate) router: Router,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) events: Events,
    directory: watch::Sender<Arc<Directory>>,
    _book: watch::Sender<Arc<RuleBook>>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
    }
}

impl Api {
    pub(crate) fn start() -> Api {
        let store: Arc<dyn Store> = Arc::new(Embedded::in_memory().expect("a store in memory"));
        let (directory, directories) = watch::channel(Arc::new(Directory::default()));
        let (book, books) = watch::channel(Arc::new(RuleBook::default()));
        let events = Events::start(store.clone(), "r1");
        let parts = Parts {
            store: store.clone(),
            directory: directories,
            book: books,
            events: events.clone(),
            replica: "r1".into(),
            tokens: None,
            desk: None,
            ca: None,
            plane: None,
        };
        Api { router: api::router(parts), store, events, directory, _book: book }
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost:7070");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).expect("a request");
        let response = self.router.clone().oneshot(request).await.expect("never fails");
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 64 << 20).await.expect("a body");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status: parts.status.as_u16(), headers: parts.headers, body, text }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], "").await
    }

    /// So many instances of an app, each publishing one service.
    pub(crate) fn publish(&self, app: &str, count: u8, service: &str, port: u16) {
        self.directory.send_modify(|directory| {
            let mut next = Directory::clone(directory);
            next.generation += 1;
            let mut found = App::default();
            for n in 0..count {
                let id: Arc<str> = format!("{app}-{n}").into();
                let instance = Instance {
                    id: id.clone(),
                    app: app.into(),
                    unit: "u1".into(),
                    group: "default".into(),
                    version: "".into(),
                    labels: Default::default(),
                    address: [10, 0, 0, n].into(),
                    weight: 100,
                    tls: false,
                    tls_required: false,
                    services: "".into(),
                };
                found.instances.insert(id, Arc::new(instance));
            }
            let endpoints = found
                .instances
                .values()
                .map(|i| Endpoint { instance: i.clone(), port, kept: false })
                .collect();
            let listed = Listed {
                name: service.into(),
                app: app.into(),
                protocol: "bolt".into(),
                hosts: Vec::new(),
                metadata: Default::default(),
                endpoints,
                protected: false,
            };
            next.services.insert(service.into(), Arc::new(listed));
            next.apps.insert(app.into(), Arc::new(found));
            *directory = Arc::new(next);
        });
    }

    pub(crate) async fn watch(&self, path: &str, last: Option<&str>) -> Watching {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            let mut request = Request::builder().uri(path).header("host", "localhost");
            if let Some(last) = last {
                request = request.header("last-event-id", last);
            }
            let response = self
                .router
                .clone()
                .oneshot(request.body(Body::empty()).expect("a request"))
                .await
                .expect("never fails");
            assert_eq!(response.status(), 200);
            let mut watching =
                Watching { stream: response.into_body().into_data_stream(), text: String::new() };
            // Before the watch of the store has begun there is no hello, and an id means nothing.
            watching.read().await;
            if watching.text.contains("\nid: ") || watching.text.starts_with("id: ") {
                return watching;
            }
            assert!(tokio::time::Instant::now() < deadline, "the watch never begins");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A client of `/v1/watch`.
pub(crate) struct Watching {
    stream: BodyDataStream,
    text: String,
}

#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) data: Value,
}

impl Watching {
    async fn read(&mut self) {
        let chunk = tokio::time::timeout(Duration::from_secs(10), self.stream.next()).await.expect("in time");
        let chunk = chunk.expect("it goes on").expect("no error");
        self.text.push_str(&String::from_utf8_lossy(&chunk));
    }

    pub(crate) async fn next_event(&mut self) -> Told {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    block
                        .lines()
                        .find_map(|l| l.strip_prefix(name))
                        .map(|v| v.trim().to_owned())
                        .unwrap_or_default()
                };
                let told = Told {
                    id: field("id:"),
                    name: field("event:"),
                    data: serde_json::from_str(&field("data:")).unwrap_or(Value::Null),
                };
                self.text = String::from(rest);
                if !told.name.is_empty() {
                    return told;
                }
            }
            self.read().await;
        }
    }

    pub(crate) async fn until(&mut self, wanted: impl Fn(&Told) -> bool) -> Told {
        loop {
            let told = self.next_event().await;
            if wanted(&told) {
                return told;
            }
        }
    }
}
