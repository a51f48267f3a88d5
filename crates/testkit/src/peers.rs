//! Listening for peers: what servers of every protocol share.
use socket2::SockRef;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is done with a connection, on a thread of its own, until it ends.
type Serve = Arc<dyn Fn(&Arc<Peer>, Ear) -> io::Result<()> + Send + Sync>;

struct Inner {
    serve: Serve,
    peers: Mutex<HashMap<usize, Arc<Peer>>>,
    accepted: AtomicUsize,
    garbage: AtomicUsize,
    deaf: AtomicBool,
    stopping: AtomicBool,
}

/// A listening socket and the connections it accepted; dropping it ends all of them.
pub struct Peers {
    /// Where it listens.
    pub addr: SocketAddr,
    inner: Arc<Inner>,
    listener: Arc<TcpListener>,
    thread: Option<JoinHandle<()>>,
}

/// One accepted connection.
pub struct Peer {
    /// Number of the connection, from 0.
    pub number: usize,
    stream: Mutex<Option<Arc<TcpStream>>>,
    writing: Mutex<()>,
    dead: AtomicBool,
}

impl Peer {
    fn stream(&self) -> Option<Arc<TcpStream>> {
        lock(&self.stream).clone()
    }

    /// Writes bytes; whether the connection still took them all.
    pub fn write(&self, bytes: &[u8]) -> bool {
        let _turn = lock(&self.writing);
        let Some(s) = self.stream() else { return false };
        let mut rest = bytes;
        while !rest.is_empty() {
            match (&*s).write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                    if self.dead.load(Ordering::Acquire) {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
        true
    }

    /// Ends the connection: with a reset, or orderly.
    pub fn end(&self, reset: bool) {
        self.dead.store(true, Ordering::Release);
        if let Some(s) = lock(&self.stream).take() {
            if reset {
                // The reset goes out when the reader, woken by the next line, lets go of the socket too.
                let _ = SockRef::from(&*s).set_linger(Some(Duration::ZERO));
                let _ = s.shutdown(Shutdown::Read);
            } else {
                let _ = s.shutdown(Shutdown::Both);
            }
        }
    }
}

impl Peers {
    /// Listens on this address; `serve` reads each connection.
    #[track_caller]
    pub fn at(
        addr: SocketAddr,
        serve: impl Fn(&Arc<Peer>, Ear) -> io::Result<()> + Send + Sync + 'static,
    ) -> Peers {
        let listener = match TcpListener::bind(addr) {
            Ok(l) => Arc::new(l),
            Err(e) => panic!("test server on {addr}: {e}"),
        };
        let inner = Arc::new(Inner {
            serve: Arc::new(serve),
            peers: Mutex::default(),
            accepted: AtomicUsize::new(0),
            garbage: AtomicUsize::new(0),
            deaf: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        });
        let (i, l) = (inner.clone(), listener.clone());
        let thread = std::thread::spawn(move || accept(&i, &l));
        Peers { addr, inner, listener, thread: Some(thread) }
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.inner.accepted.load(Ordering::Relaxed)
    }

    /// Connections on which bytes came that were no frame.
    pub fn garbage(&self) -> usize {
        self.inner.garbage.load(Ordering::Relaxed)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        lock(&self.inner.peers).len()
    }

    /// Its connections.
    pub fn all(&self) -> Vec<Arc<Peer>> {
        lock(&self.inner.peers).values().cloned().collect()
    }

    /// Stops or goes on reading from all connections.
    pub fn read_nothing(&self, deaf: bool) {
        self.inner.deaf.store(deaf, Ordering::Release);
    }

    /// Ends listening and every connection, as a process does that is killed (`reset`) or ends.
    pub fn kill(&mut self, reset: bool) {
        self.inner.stopping.store(true, Ordering::Release);
        // Wakes the accepting thread; the port is free once it is gone.
        let _ = SockRef::from(&*self.listener).shutdown(Shutdown::Both);
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
        for p in self.all() {
            p.end(reset);
        }
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.kill(false);
    }
}

fn accept(inner: &Arc<Inner>, listener: &TcpListener) {
    while let Ok((s, _)) = listener.accept() {
        if inner.stopping.load(Ordering::Acquire) {
            return;
        }
        let _ = s.set_nodelay(true);
        let _ = s.set_write_timeout(Some(Duration::from_millis(20)));
        let number = inner.accepted.fetch_add(1, Ordering::Relaxed);
        let stream = Arc::new(s);
        let peer = Arc::new(Peer {
            number,
            stream: Mutex::new(Some(stream.clone())),
            writing: Mutex::default(),
            dead: AtomicBool::new(false),
        });
        lock(&inner.peers).insert(number, peer.clone());
        let inner = inner.clone();
        std::thread::spawn(move || {
            let ear = Ear { stream, inner: inner.clone(), peer: peer.clone() };
            if let Err(e) = (inner.serve)(&peer, ear)
                && e.kind() == io::ErrorKind::InvalidData
                && !peer.dead.load(Ordering::Acquire)
            {
                inner.garbage.fetch_add(1, Ordering::Relaxed);
            }
            lock(&inner.peers).remove(&number);
            lock(&peer.stream).take();
        });
    }
}

/// A reader that may be told not to.
pub struct Ear {
    stream: Arc<TcpStream>,
    inner: Arc<Inner>,
    peer: Arc<Peer>,
}

impl Read for Ear {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.inner.deaf.load(Ordering::Acquire) && !self.peer.dead.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let got = (&*self.stream).read(buf);
        // What was asked before it went deaf may have returned since.
        while self.inner.deaf.load(Ordering::Acquire) && !self.peer.dead.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(2));
        }
        if self.peer.dead.load(Ordering::Acquire) { Ok(0) } else { got }
    }
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}
