//! A control plane for tests: the real xDS server over a list the test writes, and a registry that notes what it is
//! told. It can be killed, and come back at the same address.
use raddle_model::PolicySettings;
use raddle_testkit::{PATIENCE, free_addr};
use raddle_xds::proto::registry_server::{Registry, RegistryServer};
use raddle_xds::proto::reports_server::{Reports, ReportsServer};
use raddle_xds::proto::{
    PublishRequest, PublishResponse, ReportRequest, ReportResponse, Rule as RuleMessage,
};
use raddle_xds::resource::Resource;
use raddle_xds::server::{Catalog, Options, Peer, Server, View};
use raddle_xds::translate::{EndpointView, ServiceView, outward};
use raddle_xds::types::Kind;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

type Resources = BTreeMap<(Kind, Arc<str>), Arc<Resource>>;

/// What the test says, and what it was told.
pub(crate) struct Script {
    resources: Mutex<Arc<Resources>>,
    generation: watch::Sender<u64>,
    published: Mutex<Vec<PublishRequest>>,
    reports: Mutex<Vec<ReportRequest>>,
}

/// A control plane that runs until it is killed.
pub(crate) struct Control {
    /// Where it is.
    pub(crate) addr: SocketAddr,
    /// What it says.
    pub(crate) script: Arc<Script>,
    runtime: Option<tokio::runtime::Runtime>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Script {
    fn change(&self, f: impl FnOnce(&mut Resources)) {
        let mut resources = lock(&self.resources);
        f(Arc::make_mut(&mut resources));
        drop(resources);
        self.generation.send_modify(|g| *g += 1);
    }

    /// What was published last on any stream.
    pub(crate) fn published(&self) -> Vec<PublishRequest> {
        lock(&self.published).clone()
    }

    /// All reports so far.
    pub(crate) fn reports(&self) -> Vec<ReportRequest> {
        lock(&self.reports).clone()
    }
}

impl Control {
    /// Starts one that knows nothing.
    pub(crate) fn start() -> Control {
        let script = Arc::new(Script {
            resources: Mutex::default(),
            generation: watch::channel(1).0,
            published: Mutex::default(),
            reports: Mutex::default(),
        });
        let mut c = Control { addr: free_addr(), script, runtime: None };
        c.revive();
        c
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn kill(&mut self) {
        if let Some(r) = self.runtime.take() {
            r.shutdown_background();
        }
    }

    /// Starts it again at the same address.
    pub(crate) fn revive(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let addr = self.addr;
        let xds = Server::new(self.script.clone(), Options::default());
        let routes = xds
            .routes()
            .add_service(RegistryServer::new(Told(self.script.clone())))
            .add_service(ReportsServer::new(Told(self.script.clone())));
        // One that was killed may hold it for a moment more.
        let listener = raddle_testkit::until_some(PATIENCE, "the address is free", || {
            runtime.block_on(tokio::net::TcpListener::bind(addr)).ok()
        });
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        runtime.spawn(async move {
            let served = tonic::transport::Server::builder().add_routes(routes).serve_with_incoming(incoming);
            let _ = served.await;
        });
        self.runtime = Some(runtime);
    }

    /// Says where a service is.
    pub(crate) fn service(&self, name: &str, at: &[SocketAddr]) {
        let none = BTreeMap::new();
        let endpoint = |(i, a): (usize, &SocketAddr)| (format!("i{i}"), *a);
        let named: Vec<(String, SocketAddr)> = at.iter().enumerate().map(endpoint).collect();
        let endpoints = named.iter().map(|(instance, a)| EndpointView {
            instance,
            address: a.ip(),
            port: a.port(),
            weight: 100,
            unit: "",
            group: "",
            version: "",
            labels: &none,
            tls: false,
            tls_required: false,
            kept: false,
        });
        let view = ServiceView {
            name,
            app: "callee",
            protocol: "",
            hosts: &[],
            metadata: &none,
            endpoints: endpoints.collect(),
        };
        let cluster =
            Resource::new(Kind::Cluster, name, &outward::cluster(&view, &PolicySettings::default()));
        let ends = Resource::new(Kind::Endpoints, name, &outward::endpoints(&view));
        self.script.change(|r| {
            r.insert((Kind::Cluster, name.into()), Arc::new(cluster));
            r.insert((Kind::Endpoints, name.into()), Arc::new(ends));
        });
    }

    /// A service is no more.
    pub(crate) fn remove(&self, name: &str) {
        self.script.change(|r| {
            r.remove(&(Kind::Cluster, name.into()));
            r.remove(&(Kind::Endpoints, name.into()));
        });
    }

    /// Says a rule.
    pub(crate) fn rule(&self, kind: &str, name: &str, spec: &str) {
        let id = format!("{kind}/{name}");
        let document = format!(
            "{{\"apiVersion\":\"raddle.io/v1\",\"kind\":\"{kind}\",\"metadata\":{{\"name\":\"{name}\"}},\"spec\":{spec}}}"
        );
        let revision = format!("{:016x}", raddle_xds::resource::fnv(document.as_bytes()));
        let message = RuleMessage {
            kind: kind.into(),
            name: name.into(),
            revision,
            document: document.into_bytes().into(),
        };
        let resource = Resource::new(Kind::Rule, &*id, &message);
        self.script.change(|r| {
            r.insert((Kind::Rule, id.into()), Arc::new(resource));
        });
    }

    /// A rule is no more.
    pub(crate) fn unrule(&self, kind: &str, name: &str) {
        self.script.change(|r| {
            r.remove(&(Kind::Rule, format!("{kind}/{name}").into()));
        });
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Catalog for Script {
    fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    fn view(&self, _: &Peer) -> Box<dyn View> {
        // The generation first: what is seen is never older than it says.
        let generation = *self.generation.borrow();
        Box::new(Seen { generation, resources: lock(&self.resources).clone() })
    }
}

struct Seen {
    generation: u64,
    resources: Arc<Resources>,
}

impl View for Seen {
    fn generation(&self) -> u64 {
        self.generation
    }

    fn get(&self, kind: Kind, name: &str) -> Option<Arc<Resource>> {
        self.resources.get(&(kind, name.into())).cloned()
    }

    fn all(&self, kind: Kind, _: &dyn Fn(&str) -> bool) -> Vec<Arc<Resource>> {
        self.resources.iter().filter(|((k, _), _)| *k == kind).map(|(_, r)| r.clone()).collect()
    }

    fn changed(&self, _: u64) -> Option<Vec<(Kind, Arc<str>)>> {
        None
    }
}

/// Notes what it is told, and answers.
struct Told(Arc<Script>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Registry for Told {
    type PublishStream = Answers<PublishResponse>;

    async fn publish(
        &self,
        request: Request<Streaming<PublishRequest>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        let script = self.0.clone();
        let requests = tokio_stream::StreamExt::map(request.into_inner(), move |r| {
            let r = r?;
            let sequence = r.sequence;
            lock(&script.published).push(r);
            Ok(PublishResponse { sequence, error: String::new() })
        });
        Ok(Response::new(Box::pin(requests)))
    }
}

#[tonic::async_trait]
impl Reports for Told {
    type ReportStream = Answers<ReportResponse>;

    async fn report(
        &self,
        request: Request<Streaming<ReportRequest>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let script = self.0.clone();
        let requests = tokio_stream::StreamExt::map(request.into_inner(), move |r| {
            lock(&script.reports).push(r?);
            Ok(ReportResponse { interval_ms: 100 })
        });
        Ok(Response::new(Box::pin(requests)))
    }
}
