//! A TCP server that runs the test's code for each connection.
use socket2::SockRef;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// A listening server; dropping it ends its listening, not its connections.
pub struct TcpServer {
    /// Where it listens.
    pub addr: SocketAddr,
    accepted: Arc<AtomicUsize>,
    listener: Arc<TcpListener>,
    thread: Option<JoinHandle<()>>,
}

impl TcpServer {
    /// Runs `f` on a thread of its own for each connection.
    #[track_caller]
    pub fn start(f: impl Fn(TcpStream) + Send + Sync + 'static) -> TcpServer {
        let addr = crate::free_addr();
        let listener = match TcpListener::bind(addr) {
            Ok(l) => Arc::new(l),
            Err(e) => panic!("test server on {addr}: {e}"),
        };
        let accepted = Arc::new(AtomicUsize::new(0));
        let (l, n, f) = (listener.clone(), accepted.clone(), Arc::new(f));
        let thread = std::thread::spawn(move || {
            while let Ok((s, _)) = l.accept() {
                n.fetch_add(1, Ordering::Relaxed);
                let f = f.clone();
                std::thread::spawn(move || f(s));
            }
        });
        TcpServer { addr, accepted, listener, thread: Some(thread) }
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        let _ = SockRef::from(&*self.listener).shutdown(Shutdown::Both);
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}
