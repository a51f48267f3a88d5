//! Clients that speak Bolt over TLS: one at a time for connections that are held, thousands at once for a storm.
use crate::Protocol;
use crate::bolt::{Head, Template, Version};
use crate::poll::{Interest, Poll};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Threads of a storm: each shakes hands with its part of the clients.
const THREADS: usize = 2;
/// The kernel's lowest priority.
const LOWEST: i32 = 19;

/// A small request, whole.
fn request() -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let template = Template::new(Version::V1, Protocol::Bolt.usual_service(), "echo", &[], 64, 60_000);
    template.map_err(|e| io::Error::new(ErrorKind::InvalidInput, e))?.write(&mut out, 1, 1);
    Ok(out)
}

fn session(config: &Arc<ClientConfig>) -> io::Result<ClientConnection> {
    // Peers are known by their ids; the name is said to nobody who would look at it.
    let name = ServerName::try_from("callee.mesh").map_err(|e| io::Error::other(e.to_string()))?;
    ClientConnection::new(config.clone(), name).map_err(|e| io::Error::other(e.to_string()))
}

/// Connects by TLS, sends a request and waits for its reply. What is left of the session is forgotten: the connection
/// is only held from then on.
pub(in crate::compare) fn hold(config: &Arc<ClientConfig>, target: SocketAddr) -> io::Result<TcpStream> {
    let mut tcp = TcpStream::connect(target)?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut session = session(config)?;
    let mut tls = rustls::Stream::new(&mut session, &mut tcp);
    tls.write_all(&request()?)?;
    tls.flush()?;
    let (mut have, mut chunk) = (Vec::new(), [0; 4096]);
    while !answered(&have)? {
        match tls.read(&mut chunk)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            n => have.extend_from_slice(&chunk[..n]),
        }
    }
    Ok(tcp)
}

/// Whether a whole good reply is there.
fn answered(bytes: &[u8]) -> io::Result<bool> {
    let head = Head::parse(bytes).map_err(|e| io::Error::new(ErrorKind::InvalidData, e))?;
    match head.filter(|head| head.total() <= bytes.len()) {
        Some(head) if head.status == 0 => Ok(true),
        Some(head) => Err(io::Error::other(format!("status {}", head.status))),
        None => Ok(false),
    }
}

/// What came of a storm.
#[derive(Debug, Default)]
pub(in crate::compare) struct Storm {
    /// Clients whose request was answered.
    pub(in crate::compare) served: usize,
    /// The others, by what happened.
    pub(in crate::compare) failed: BTreeMap<String, usize>,
    /// From the first connection to the last reply.
    pub(in crate::compare) seconds: f64,
}

/// Lets so many clients connect at once, shake hands and ask.
pub(super) fn storm(
    config: &Arc<ClientConfig>,
    target: SocketAddr,
    clients: usize,
    patience: Duration,
    stop: &AtomicBool,
) -> io::Result<Storm> {
    let start = Instant::now();
    let parts = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|n| {
                let count = (clients + n) / THREADS;
                scope.spawn(move || {
                    // Of this thread alone; where it is not allowed, the figures are the worse for it.
                    rustix::process::nice(LOWEST).ok();
                    part(config, target, count, start + patience, stop)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|t| t.join().map_err(|_| io::Error::other("a client thread panicked"))?)
            .collect::<io::Result<Vec<_>>>()
    })?;
    let mut all = Storm { seconds: 0.0, ..Storm::default() };
    for (part, last) in parts {
        all.served += part.served;
        all.seconds = all.seconds.max(last.duration_since(start).as_secs_f64());
        for (why, count) in part.failed {
            *all.failed.entry(why).or_default() += count;
        }
    }
    Ok(all)
}

struct Client {
    tcp: TcpStream,
    tls: ClientConnection,
    have: Vec<u8>,
    watched: Interest,
}

impl Client {
    /// Goes on as far as the socket lets it; whether it has its reply.
    fn turn(&mut self) -> io::Result<bool> {
        loop {
            while self.tls.wants_write() {
                match self.tls.write_tls(&mut self.tcp) {
                    Ok(_) => {}
                    Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                    Err(e) => return Err(e),
                }
            }
            match self.tls.read_tls(&mut self.tcp) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Ok(false);
                }
                Err(e) => return Err(e),
            }
            let state =
                self.tls.process_new_packets().map_err(|e| io::Error::new(ErrorKind::InvalidData, e))?;
            let mut chunk = vec![0; state.plaintext_bytes_to_read()];
            self.tls.reader().read_exact(&mut chunk)?;
            self.have.extend_from_slice(&chunk);
            if answered(&self.have)? {
                return Ok(true);
            }
        }
    }

    fn wanted(&self) -> Interest {
        if self.tls.wants_write() { Interest::Both } else { Interest::Read }
    }
}

/// One thread's clients; also when the last of them was served.
fn part(
    config: &Arc<ClientConfig>,
    target: SocketAddr,
    count: usize,
    deadline: Instant,
    stop: &AtomicBool,
) -> io::Result<(Storm, Instant)> {
    let (mut found, mut last) = (Storm::default(), Instant::now());
    let mut poll = Poll::new(1024)?;
    let mut clients: Vec<Option<Client>> = Vec::with_capacity(count);
    let frame = request()?;
    for index in 0..count {
        let tcp = match crate::load::begin_connect(target) {
            Ok(tcp) => tcp,
            Err(e) => {
                *found.failed.entry(e.kind().to_string()).or_default() += 1;
                clients.push(None);
                continue;
            }
        };
        poll.add(&tcp, index as u64, Interest::Both)?;
        let mut tls = session(config)?;
        // Kept by the session until the handshake is done.
        tls.writer().write_all(&frame)?;
        clients.push(Some(Client { tcp, tls, have: Vec::new(), watched: Interest::Both }));
    }
    // Those that are served keep their connection to the end, as sidecars that come back do.
    let mut open = clients.iter().flatten().count();
    let mut served = vec![false; count];
    while open > 0 && Instant::now() < deadline && !stop.load(Ordering::Relaxed) {
        let n = poll.wait(Duration::from_millis(20))?;
        for i in 0..n {
            let index = poll.ready(i).token as usize;
            let Some(client) = clients.get_mut(index).and_then(Option::as_mut) else { continue };
            if served[index] {
                // Session tickets come late; a loss after the reply is no failed handshake.
                if client.turn().is_err() {
                    clients[index] = None;
                }
                continue;
            }
            match client.turn() {
                Ok(true) => {
                    (served[index], last) = (true, Instant::now());
                    found.served += 1;
                    open -= 1;
                }
                Ok(false) => {}
                Err(e) => {
                    *found.failed.entry(e.to_string()).or_default() += 1;
                    clients[index] = None;
                    open -= 1;
                    continue;
                }
            }
            let wanted = client.wanted();
            if wanted != client.watched {
                client.watched = wanted;
                poll.modify(&client.tcp, index as u64, wanted)?;
            }
        }
    }
    if open > 0 {
        *found.failed.entry("not served in time".to_owned()).or_default() += open;
    }
    Ok((found, last))
}
