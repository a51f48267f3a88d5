//! A catalog in memory, and the real server of it.
use raddle_xds::resource::Resource;
use raddle_xds::server::{Catalog, Options, Peer, Server, View};
use raddle_xds::types::Kind;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio_stream::wrappers::TcpListenerStream;

type Content = BTreeMap<(Kind, Arc<str>), Arc<Resource>>;

pub(crate) struct Memory {
    content: Mutex<(u64, Arc<Content>)>,
    generation: watch::Sender<u64>,
}

impl Memory {
    pub(crate) fn new() -> Arc<Memory> {
        Arc::new(Memory { content: Mutex::default(), generation: watch::channel(0).0 })
    }

    /// Changes all at once.
    pub(crate) fn change(&self, edit: impl FnOnce(&mut Content)) {
        let mut content = self.content.lock().expect("no panic");
        let mut next = (*content.1).clone();
        edit(&mut next);
        *content = (content.0 + 1, Arc::new(next));
        self.generation.send_replace(content.0);
    }
}

pub(crate) fn put(content: &mut Content, resource: Resource) {
    content.insert((resource.kind, Arc::clone(&resource.name)), Arc::new(resource));
}

/// Everything that is of a service.
pub(crate) fn drop_service(content: &mut Content, name: &str) {
    content.remove(&(Kind::Cluster, name.into()));
    content.remove(&(Kind::Endpoints, name.into()));
}

struct Seen(u64, Arc<Content>);

impl View for Seen {
    fn generation(&self) -> u64 {
        self.0
    }

    fn get(&self, kind: Kind, name: &str) -> Option<Arc<Resource>> {
        self.1.get(&(kind, name.into())).cloned()
    }

    fn all(&self, kind: Kind, _: &dyn Fn(&str) -> bool) -> Vec<Arc<Resource>> {
        self.1.iter().filter(|((k, _), _)| *k == kind).map(|(_, r)| Arc::clone(r)).collect()
    }

    fn changed(&self, _: u64) -> Option<Vec<(Kind, Arc<str>)>> {
        None
    }
}

impl Catalog for Memory {
    fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    fn view(&self, _: &Peer) -> Box<dyn View> {
        let content = self.content.lock().expect("no panic");
        Box::new(Seen(content.0, Arc::clone(&content.1)))
    }
}

/// The real server, on a socket, in a runtime of its own: dropped, it and its connections are gone at once.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) server: Server,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    pub(crate) fn start(memory: &Arc<Memory>, address: SocketAddr) -> Running {
        let server = Server::new(Arc::clone(memory) as Arc<dyn Catalog>, Options::default());
        let routes = server.routes();
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind(address).await.expect("a free port");
                tell.send(listener.local_addr().expect("an address")).expect("somebody waits");
                let serving = tonic::transport::Server::builder()
                    .add_routes(routes)
                    .serve_with_incoming(TcpListenerStream::new(listener));
                tokio::select! {
                    served = serving => served.expect("it serves"),
                    _ = stopped => {}
                }
            });
        });
        let address = told.recv().expect("it listens");
        Running { address, server, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
