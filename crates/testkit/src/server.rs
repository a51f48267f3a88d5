//! A Bolt server whose every answer the test decides.
//!
//! Each request comes to the test's handler as a [`Call`]; it answers, keeps the call for later, or ends the
//! connection in any way a peer can. Heartbeats are answered by the server, unless told not to.
use crate::frame::{Frame, FrameReader};
pub use crate::peers::Peer;
use crate::peers::{Ear, Peers};
use raddle_wire::bolt::{self, Command, Kind, Variant};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What is done with a request.
pub type Handler = Arc<dyn Fn(Call) + Send + Sync>;

/// Counts of what a server has seen.
#[derive(Default)]
pub struct Seen {
    /// Requests, one-way ones included.
    pub requests: AtomicU64,
    /// One-way requests.
    pub one_ways: AtomicU64,
    /// Heartbeats.
    pub heartbeats: AtomicU64,
    /// Frames with a wrong checksum.
    pub bad_crc: AtomicU64,
    /// GOAWAY frames.
    pub goaways: AtomicU64,
    mute_heartbeats: AtomicBool,
}

impl Peer {
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
    seen: Arc<Seen>,
    peers: Peers,
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
        let seen = Arc::new(Seen::default());
        let (s, handler): (_, Handler) = (seen.clone(), Arc::new(handler));
        BoltServer { addr, seen, peers: Peers::at(addr, move |peer, ear| serve(&s, &handler, peer, ear)) }
    }

    /// What it has seen so far.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.seen().requests.load(Ordering::Relaxed)
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.peers.accepted()
    }

    /// Connections on which bytes came that were no frame.
    pub fn garbage(&self) -> usize {
        self.peers.garbage()
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.peers.open()
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
    let mut frames = FrameReader::new(ear);
    while let Some(frame) = frames.next_frame()? {
        if !frame.crc_is_right() {
            seen.bad_crc.fetch_add(1, Ordering::Relaxed);
        }
        match (frame.head.command, frame.head.kind) {
            (Command::Heartbeat, Kind::Request) => {
                seen.heartbeats.fetch_add(1, Ordering::Relaxed);
                if !seen.mute_heartbeats.load(Ordering::Acquire) {
                    let mut out = Vec::new();
                    bolt::encode::heartbeat_ack(&mut out, &frame.head);
                    peer.write(&out);
                }
            }
            (Command::Request, kind) => {
                seen.requests.fetch_add(1, Ordering::Relaxed);
                if kind == Kind::OneWay {
                    seen.one_ways.fetch_add(1, Ordering::Relaxed);
                }
                handler(Call { frame, peer: peer.clone() });
            }
            (Command::GoAway, _) => {
                seen.goaways.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }
    Ok(())
}
