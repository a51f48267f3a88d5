//! A server in this process, and a short load.
use raddle_bench::{LoadOptions, LoadResult, ServeOptions, Server, load};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

pub(crate) fn server(opts: ServeOptions) -> Running {
    let server = Server::bind(ServeOptions { listen: "127.0.0.1:0".parse().unwrap(), ..opts }).unwrap();
    let address = server.local_addr().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let seen = stop.clone();
    let thread = std::thread::spawn(move || server.run(&seen).unwrap());
    Running { address, stop, thread: Some(thread) }
}

pub(crate) fn short(target: SocketAddr) -> LoadOptions {
    LoadOptions {
        target,
        connections: 4,
        depth: 4,
        warmup: Duration::from_millis(50),
        duration: Duration::from_millis(200),
        size: 300,
        ..LoadOptions::default()
    }
}

pub(crate) fn run(opts: LoadOptions) -> LoadResult {
    load(opts, |_| {}).unwrap()
}
