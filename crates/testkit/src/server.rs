//! A Bolt server whose every answer the test decides.
//!
//! Each request comes to the test's handler as a [`Call`]; it answers, keeps the call for later, or ends the
//! connection in any way a peer can. Heartbeats are answered by the server, unless told not to.
use crate::frame::{Frame, FrameReader};
use raddle_wire::bolt::{self, Command, Kind, Variant};
use socket2::SockRef;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is done with a request.
pub type Handler = Arc<dyn Fn(Call) + Send + Sync>;

/// Counts of what a server has seen.
#[derive(Default)]
pub struct Seen {
    /// Connections accepted since it began.
    pub accepted: AtomicUsize,
    /// Requests, one-way ones included.
    pub requests: AtomicU64,
    /// One-way requests.
    pub one_ways: AtomicU64,
    /// Heartbeats.
    pub heartbeats: AtomicU64,
    /// Frames with a wrong checksum.
    pub bad_crc: AtomicU64,
    /// Bytes that were no frame.
    pub garbage: AtomicU64,
    /// GOAWAY frames.
    pub goaways: AtomicU64,
}

struct Inner {
    seen: Seen,
    handler: Handler,
    peers: Mutex<HashMap<usize, Arc<Peer>>>,
    next: AtomicUsize,
    deaf: AtomicBool,
    mute_heartbeats: AtomicBool,
    stopping: AtomicBool,
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

    /// Tells the caller to send no more here.
    pub fn goaway(&self, variant: Variant) -> bool {
        let mut out = Vec::new();
        bolt::encode::goaway(&mut out, variant, 0);
        self.write(&out)
    }
}

/// A request that waits for what the test does with it. Dropping it leaves it unanswered.
pub struct Call {
    /// The request.
    pub frame: Frame,
    /// The connection it came by.
    pub peer: Arc<Peer>,
}

impl Call {
    /// Answers with success and the request's own content.
    pub fn echo(&self) -> bool {
        self.reply(0, self.frame.content())
    }

    /// Answers with this status and content.
    pub fn reply(&self, status: u16, content: &[u8]) -> bool {
        self.peer.write(&self.reply_bytes(status, &[], content))
    }

    /// The bytes of a reply.
    pub fn reply_bytes(&self, status: u16, headers: &[(&[u8], &[u8])], content: &[u8]) -> Vec<u8> {
        let h = &self.frame.head;
        let mut out = Vec::with_capacity(content.len() + 256);
        bolt::encode::response(
            &mut out,
            h.variant,
            h.id,
            h.codec,
            status,
            bolt::CLASS_RESPONSE,
            headers,
            content,
        );
        out
    }

    /// The method it calls.
    pub fn method(&self) -> Option<String> {
        self.frame.header("sofa_head_method_name")
    }
}

/// A listening Bolt server; dropping it ends it and its connections.
pub struct BoltServer {
    /// Where it listens.
    pub addr: SocketAddr,
    inner: Arc<Inner>,
    listener: Arc<TcpListener>,
    thread: Option<JoinHandle<()>>,
}

impl BoltServer {
    /// A server that answers each request with its own content.
    pub fn echo() -> BoltServer {
        BoltServer::start(|c| {
            c.echo();
        })
    }

    /// A server on a free port.
    pub fn start(handler: impl Fn(Call) + Send + Sync + 'static) -> BoltServer {
        BoltServer::at(crate::free_addr(), handler)
    }

    /// A server on this address.
    #[track_caller]
    pub fn at(addr: SocketAddr, handler: impl Fn(Call) + Send + Sync + 'static) -> BoltServer {
        let listener = match TcpListener::bind(addr) {
            Ok(l) => Arc::new(l),
            Err(e) => panic!("test server on {addr}: {e}"),
        };
        let inner = Arc::new(Inner {
            seen: Seen::default(),
            handler: Arc::new(handler),
            peers: Mutex::default(),
            next: AtomicUsize::new(0),
            deaf: AtomicBool::new(false),
            mute_heartbeats: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        });
        let (i, l) = (inner.clone(), listener.clone());
        let thread = std::thread::spawn(move || accept(&i, &l));
        BoltServer { addr, inner, listener, thread: Some(thread) }
    }

    /// What it has seen so far.
    pub fn seen(&self) -> &Seen {
        &self.inner.seen
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.seen().requests.load(Ordering::Relaxed)
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.seen().accepted.load(Ordering::Relaxed)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        lock(&self.inner.peers).len()
    }

    /// Its connections.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        lock(&self.inner.peers).values().cloned().collect()
    }

    /// Stops or goes on reading from all connections.
    pub fn read_nothing(&self, deaf: bool) {
        self.inner.deaf.store(deaf, Ordering::Release);
    }

    /// Leaves heartbeats unanswered.
    pub fn ignore_heartbeats(&self) {
        self.inner.mute_heartbeats.store(true, Ordering::Release);
    }

    /// Ends listening and every connection, as a process does that is killed (`reset`) or ends.
    pub fn kill(&mut self, reset: bool) {
        self.inner.stopping.store(true, Ordering::Release);
        // Wakes the accepting thread; the port is free once it is gone.
        let _ = SockRef::from(&*self.listener).shutdown(Shutdown::Both);
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
        for p in self.peers() {
            p.end(reset);
        }
    }
}

impl Drop for BoltServer {
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
        let number = inner.next.fetch_add(1, Ordering::Relaxed);
        let stream = Arc::new(s);
        let peer = Arc::new(Peer {
            number,
            stream: Mutex::new(Some(stream.clone())),
            writing: Mutex::default(),
            dead: AtomicBool::new(false),
        });
        lock(&inner.peers).insert(number, peer.clone());
        inner.seen.accepted.fetch_add(1, Ordering::Relaxed);
        let inner = inner.clone();
        std::thread::spawn(move || {
            let ear = Ear { stream, inner: inner.clone(), peer: peer.clone() };
            if let Err(e) = serve(&inner, &peer, ear)
                && e.kind() == io::ErrorKind::InvalidData
                && !peer.dead.load(Ordering::Acquire)
            {
                inner.seen.garbage.fetch_add(1, Ordering::Relaxed);
            }
            lock(&inner.peers).remove(&number);
            lock(&peer.stream).take();
        });
    }
}

/// A reader that may be told not to.
struct Ear {
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

fn serve(inner: &Inner, peer: &Arc<Peer>, ear: Ear) -> io::Result<()> {
    let mut frames = FrameReader::new(ear);
    while let Some(frame) = frames.next_frame()? {
        if !frame.crc_is_right() {
            inner.seen.bad_crc.fetch_add(1, Ordering::Relaxed);
        }
        match (frame.head.command, frame.head.kind) {
            (Command::Heartbeat, Kind::Request) => {
                inner.seen.heartbeats.fetch_add(1, Ordering::Relaxed);
                if !inner.mute_heartbeats.load(Ordering::Acquire) {
                    let mut out = Vec::new();
                    bolt::encode::heartbeat_ack(&mut out, &frame.head);
                    peer.write(&out);
                }
            }
            (Command::Request, kind) => {
                inner.seen.requests.fetch_add(1, Ordering::Relaxed);
                if kind == Kind::OneWay {
                    inner.seen.one_ways.fetch_add(1, Ordering::Relaxed);
                }
                (inner.handler)(Call { frame, peer: peer.clone() });
            }
            (Command::GoAway, _) => {
                inner.seen.goaways.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }
    Ok(())
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}
