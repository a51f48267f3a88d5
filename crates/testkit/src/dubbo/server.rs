//! A Dubbo server whose every answer the test decides.
use super::frame::{DubboFrame, DubboReader, Status, push_bytes, push_map, push_string};
use crate::peers::{Ear, Peer, Peers};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

type Handler = Arc<dyn Fn(DubboCall) + Send + Sync>;

#[derive(Default)]
struct Seen {
    requests: AtomicU64,
    one_ways: AtomicU64,
    heartbeats: AtomicU64,
    acks: AtomicU64,
    mute_heartbeats: AtomicBool,
}

/// A request that waits for what the test does with it. Dropping it leaves it unanswered.
pub struct DubboCall {
    /// The request.
    pub frame: DubboFrame,
    /// The connection it came by.
    pub peer: Arc<Peer>,
}

impl DubboCall {
    /// Answers with the request's own argument, or its whole body if that cannot be read.
    pub fn echo(&self) -> bool {
        match self.frame.content() {
            Some(c) => self.value(&c),
            None => self.reply(Status::Ok as u8, self.frame.body()),
        }
    }

    /// Answers with a byte array.
    pub fn value(&self, content: &[u8]) -> bool {
        self.peer.write(&self.value_bytes(content))
    }

    /// The bytes of a reply with a byte array and attachments.
    pub fn value_bytes(&self, content: &[u8]) -> Vec<u8> {
        let mut body = vec![0x94];
        push_bytes(&mut body, content);
        push_map(&mut body, &[("dubbo".into(), "2.0.2".into())]);
        self.reply_bytes(Status::Ok as u8, &body)
    }

    /// Answers with an exception of the app's: in a status of success.
    pub fn throw(&self, message: &str) -> bool {
        let mut body = vec![0x93];
        push_string(&mut body, message);
        push_map(&mut body, &[]);
        self.reply(Status::Ok as u8, &body)
    }

    /// Answers with a failure and its message.
    pub fn fail(&self, status: u8, message: &str) -> bool {
        let mut body = Vec::new();
        push_string(&mut body, message);
        self.reply(status, &body)
    }

    /// Answers with this status and body.
    pub fn reply(&self, status: u8, body: &[u8]) -> bool {
        self.peer.write(&self.reply_bytes(status, body))
    }

    /// The bytes of a reply.
    pub fn reply_bytes(&self, status: u8, body: &[u8]) -> Vec<u8> {
        DubboFrame::new(self.frame.serializer(), status, self.frame.id(), body).bytes
    }
}

/// A listening Dubbo server; dropping it ends it and its connections.
pub struct DubboServer {
    /// Where it listens.
    pub addr: SocketAddr,
    seen: Arc<Seen>,
    peers: Peers,
}

impl DubboServer {
    /// A server that answers each request with its own argument.
    pub fn echo() -> DubboServer {
        DubboServer::start(|c| {
            if c.frame.two_way() {
                c.echo();
            }
        })
    }

    /// A server on a free port.
    pub fn start(handler: impl Fn(DubboCall) + Send + Sync + 'static) -> DubboServer {
        DubboServer::at(crate::free_addr(), handler)
    }

    /// A server on this address.
    #[track_caller]
    pub fn at(addr: SocketAddr, handler: impl Fn(DubboCall) + Send + Sync + 'static) -> DubboServer {
        let seen = Arc::new(Seen::default());
        let (s, handler): (_, Handler) = (seen.clone(), Arc::new(handler));
        DubboServer { addr, seen, peers: Peers::at(addr, move |peer, ear| serve(&s, &handler, peer, ear)) }
    }

    /// Requests so far, one-way ones included.
    pub fn requests(&self) -> u64 {
        self.seen.requests.load(Ordering::Relaxed)
    }

    /// One-way requests so far.
    pub fn one_ways(&self) -> u64 {
        self.seen.one_ways.load(Ordering::Relaxed)
    }

    /// Heartbeats so far.
    pub fn heartbeats(&self) -> u64 {
        self.seen.heartbeats.load(Ordering::Relaxed)
    }

    /// Answers to heartbeats of its own so far.
    pub fn acks(&self) -> u64 {
        self.seen.acks.load(Ordering::Relaxed)
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.peers.accepted()
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.peers.open()
    }

    /// Connections on which bytes came that were no frame.
    pub fn garbage(&self) -> usize {
        self.peers.garbage()
    }

    /// Its connections.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        self.peers.all()
    }

    /// Stops or goes on reading from all connections.
    pub fn read_nothing(&self, deaf: bool) {
        self.peers.read_nothing(deaf);
    }

    /// Leaves heartbeats unanswered.
    pub fn ignore_heartbeats(&self) {
        self.seen.mute_heartbeats.store(true, Ordering::Release);
    }

    /// Ends listening and every connection, as a process does that is killed (`reset`) or ends.
    pub fn kill(&mut self, reset: bool) {
        self.peers.kill(reset);
    }
}

fn serve(seen: &Seen, handler: &Handler, peer: &Arc<Peer>, ear: Ear) -> io::Result<()> {
    let mut frames = DubboReader::new(ear);
    while let Some(frame) = frames.next_frame()? {
        match (frame.is_event(), frame.is_request()) {
            (true, true) => {
                seen.heartbeats.fetch_add(1, Ordering::Relaxed);
                if !seen.mute_heartbeats.load(Ordering::Acquire) {
                    peer.write(&DubboFrame::new(0x22, Status::Ok as u8, frame.id(), b"N").bytes);
                }
            }
            (false, true) => {
                seen.requests.fetch_add(1, Ordering::Relaxed);
                if !frame.two_way() {
                    seen.one_ways.fetch_add(1, Ordering::Relaxed);
                }
                handler(DubboCall { frame, peer: peer.clone() });
            }
            (true, false) => {
                seen.acks.fetch_add(1, Ordering::Relaxed);
            }
            (false, false) => {}
        }
    }
    Ok(())
}
