//! The echo server: one epoll loop a thread, batched reads and writes.
//!
//! It answers every request, and every heartbeat of Bolt and Dubbo; one-ways get no reply. A frame that cannot
//! be read closes its connection. It must cost little: in a comparison it shares the machine with what is
//! measured. [`talk`] is what is answered, here is how it gets there. With [`BurnOptions`] it is an app that costs CPU
//! instead: requests go to a pool of threads, and back.
mod http2;
mod talk;

use crate::Protocol;
use crate::burn::{BurnOptions, Desk, Done, Job, Pool, message};
use crate::poll::{Interest, Poll};
use crate::stream::Stream;
use slab::Slab;
use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use talk::{Asked, Replies, Talk};

/// What [`serve`] does.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// What it speaks.
    pub protocol: Protocol,
    /// Where it listens; port 0 picks a free one.
    pub listen: SocketAddr,
    /// How long each reply is held back.
    pub delay: Duration,
    /// Content bytes of a reply; `None` echoes the request's content.
    pub size: Option<usize>,
    /// Event loops; each accepts connections of its own.
    pub threads: usize,
    /// Works for every reply instead of echoing; HTTP only.
    pub burn: Option<BurnOptions>,
}

impl Default for ServeOptions {
    fn default() -> ServeOptions {
        ServeOptions {
            protocol: Protocol::Bolt,
            listen: SocketAddr::from(([127, 0, 0, 1], 12200)),
            delay: Duration::ZERO,
            size: None,
            threads: 1,
            burn: None,
        }
    }
}

/// Listens and serves until `stop` is set (seen within 100 ms).
///
/// # Errors
/// When the address cannot be listened on, or epoll fails.
pub fn serve(opts: ServeOptions, stop: Arc<AtomicBool>) -> io::Result<()> {
    Server::bind(opts)?.run(&stop)
}

/// A server that listens but does not serve yet.
#[derive(Debug)]
pub struct Server {
    opts: ServeOptions,
    listener: TcpListener,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn bind(opts: ServeOptions) -> io::Result<Server> {
        if opts.protocol == Protocol::Tcp && opts.size.is_some() {
            let why = "a reply size needs a protocol with frames; tcp always echoes";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        if opts.burn.is_some() && opts.protocol != Protocol::Http {
            let why = "an app that burns CPU speaks http alone";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let listener = TcpListener::bind(opts.listen)?;
        listener.set_nonblocking(true)?;
        // The standard library asks for 128; a load of thousands of connections at once needs more.
        rustix::net::listen(&listener, 4096)?;
        Ok(Server { opts, listener })
    }

    /// The address really listened on.
    ///
    /// # Errors
    /// As [`TcpListener::local_addr`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is set.
    ///
    /// # Errors
    /// When epoll fails.
    pub fn run(&self, stop: &AtomicBool) -> io::Result<()> {
        let pool = self.opts.burn.clone().map(|burn| Arc::new(Pool::new(burn)));
        std::thread::scope(|scope| {
            for _ in 0..pool.as_ref().map_or(0, |p| p.threads()) {
                let pool = pool.clone();
                scope.spawn(move || pool.map(|p| p.work()));
            }
            let done = self.run_loops(pool.as_ref(), stop);
            if let Some(pool) = &pool {
                pool.end();
            }
            done
        })
    }

    fn run_loops(&self, pool: Option<&Arc<Pool>>, stop: &AtomicBool) -> io::Result<()> {
        std::thread::scope(|scope| {
            let others: Vec<_> =
                (1..self.opts.threads.max(1)).map(|_| scope.spawn(|| self.run_loop(pool, stop))).collect();
            let mine = self.run_loop(pool, stop);
            for other in others {
                other.join().map_err(|_| io::Error::other("a server thread panicked"))??;
            }
            mine
        })
    }

    fn run_loop(&self, pool: Option<&Arc<Pool>>, stop: &AtomicBool) -> io::Result<()> {
        let kitchen = pool.map(|pool| Ok::<_, io::Error>((pool.clone(), Desk::new()?))).transpose()?;
        let mut worker = Worker {
            opts: &self.opts,
            listener: &self.listener,
            poll: Poll::new(1024)?,
            connections: Slab::new(),
            next_serial: 0,
            accepting_again_at: None,
            delayed: VecDeque::new(),
            input: Vec::new(),
            replies: Replies::default(),
            kitchen,
        };
        if let Some((_, desk)) = &worker.kitchen {
            worker.poll.add(&*desk.wake, DONE, Interest::Read)?;
        }
        worker.poll.add(&self.listener, LISTENER, Interest::Read)?;
        while !stop.load(Ordering::Relaxed) {
            worker.turn()?;
        }
        Ok(())
    }
}

const LISTENER: u64 = u64::MAX;
const DONE: u64 = u64::MAX - 1;
const STOP_CHECK: Duration = Duration::from_millis(100);

/// Replies held back: the delay is the same for all, so a queue is in order of time.
struct Delayed {
    due: Instant,
    key: usize,
    serial: u64,
    bytes: Vec<u8>,
}

struct Worker<'a> {
    opts: &'a ServeOptions,
    listener: &'a TcpListener,
    poll: Poll,
    connections: Slab<Connection>,
    next_serial: u64,
    accepting_again_at: Option<Instant>,
    delayed: VecDeque<Delayed>,
    // Buffers of the loop, used by one connection at a time.
    input: Vec<u8>,
    replies: Replies,
    /// Who works, and where the loop gets it back.
    kitchen: Option<(Arc<Pool>, Desk)>,
}

/// An accepted connection.
struct Connection {
    stream: Stream,
    talk: Talk,
    /// Tells it from a later connection in the same slot.
    serial: u64,
    /// Replies held back.
    owed: usize,
    /// Ends when everything is sent.
    closing: bool,
}

impl Worker<'_> {
    fn turn(&mut self) -> io::Result<()> {
        let n = match self.delayed.front() {
            None => self.poll.wait(STOP_CHECK)?,
            Some(first) => {
                let timeout = first.due.saturating_duration_since(Instant::now());
                self.poll.wait_precisely(timeout.min(STOP_CHECK))?
            }
        };
        for i in 0..n {
            let ready = self.poll.ready(i);
            if ready.token == LISTENER {
                self.accept()?;
                continue;
            }
            if ready.token == DONE {
                self.take_done()?;
                continue;
            }
            let key = ready.token as usize;
            // An earlier event of this turn may have closed it.
            let Some(connection) = self.connections.get_mut(key) else { continue };
            let alive = (!ready.writable || connection.stream.flush().is_ok())
                && (!ready.readable || self.read(key).is_ok());
            self.settle(key, alive)?;
        }
        self.release_due()?;
        if self.accepting_again_at.is_some_and(|at| Instant::now() >= at) {
            self.accepting_again_at = None;
            self.poll.modify(self.listener, LISTENER, Interest::Read)?;
        }
        Ok(())
    }

    /// Reads once and makes the replies; an error means the connection is done.
    fn read(&mut self, key: usize) -> io::Result<()> {
        let Connection { stream, talk, closing, owed, .. } = &mut self.connections[key];
        let n = stream.read(&mut self.input)?;
        if n > 0 && *owed > 0 && self.kitchen.is_some() {
            return Err(talk::malformed("requests before the last one was answered"));
        }
        if n > 0 && !*closing {
            let input = &self.input[..n];
            let used = talk.answer(input, self.opts.size, &mut self.replies)?;
            stream.keep(&input[used..]);
        }
        Ok(())
    }

    /// Sends or holds back what was made for one connection, and closes it if it is done.
    fn settle(&mut self, key: usize, mut alive: bool) -> io::Result<()> {
        if alive && let Some((asked, close)) = self.replies.asked.take() {
            self.order(key, asked, close);
        }
        let connection = &mut self.connections[key];
        let Replies { at_once, later, close, .. } = &self.replies;
        if alive && !at_once.is_empty() {
            alive = connection.stream.send(at_once).is_ok();
        }
        if alive && !later.is_empty() {
            if self.opts.delay.is_zero() {
                alive = connection.stream.send(later).is_ok();
            } else {
                let due = Instant::now() + self.opts.delay;
                connection.owed += 1;
                self.delayed.push_back(Delayed { due, key, serial: connection.serial, bytes: later.clone() });
            }
        }
        connection.closing |= close;
        self.replies.clear();
        self.watch(key, alive)
    }

    /// Gives a request to the pool; a question for the load, and one too many, is answered here.
    fn order(&mut self, key: usize, asked: Asked, close: bool) {
        let Some((pool, desk)) = &self.kitchen else { return };
        let connection = &mut self.connections[key];
        let Asked::Interface(interface) = asked else {
            self.replies.at_once.extend(pool.load());
            self.replies.close |= close;
            return;
        };
        let job = Job { interface, close, key, serial: connection.serial, back: desk.back.clone() };
        match pool.submit(job) {
            Ok(()) => connection.owed += 1,
            Err(_) => {
                let full = message("503 Service Unavailable", "text/plain", "", "too many requests wait\n");
                self.replies.at_once.extend(full);
                self.replies.close |= close;
            }
        }
    }

    /// Sends what the pool has done. Whose connection is gone was worked for in vain.
    fn take_done(&mut self) -> io::Result<()> {
        let Some((_, desk)) = &self.kitchen else { return Ok(()) };
        desk.hush();
        let done: Vec<Done> = desk.done.try_iter().collect();
        for Done { key, serial, close, bytes } in done {
            let Some(connection) = self.connections.get_mut(key).filter(|c| c.serial == serial) else {
                continue;
            };
            connection.owed -= 1;
            connection.closing |= close;
            let alive = connection.stream.send(&bytes).is_ok();
            self.watch(key, alive)?;
        }
        Ok(())
    }

    fn watch(&mut self, key: usize, alive: bool) -> io::Result<()> {
        let Connection { stream, owed, closing, .. } = &mut self.connections[key];
        if !alive || (*closing && *owed == 0 && stream.is_flushed()) {
            self.connections.remove(key);
            return Ok(());
        }
        let wanted = stream.interest();
        if wanted != stream.watched {
            stream.watched = wanted;
            self.poll.modify(&stream.tcp, key as u64, wanted)?;
        }
        Ok(())
    }

    fn release_due(&mut self) -> io::Result<()> {
        if self.delayed.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        while self.delayed.front().is_some_and(|d| d.due <= now) {
            let Some(Delayed { key, serial, bytes, .. }) = self.delayed.pop_front() else { break };
            let Some(connection) = self.connections.get_mut(key).filter(|c| c.serial == serial) else {
                continue;
            };
            connection.owed -= 1;
            let alive = connection.stream.send(&bytes).is_ok();
            self.watch(key, alive)?;
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let tcp = match self.listener.accept() {
                Ok((tcp, _)) => tcp,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => continue,
                // Out of descriptors or memory: waiting connections stay in the backlog for a while.
                Err(_) => {
                    self.accepting_again_at = Some(Instant::now() + STOP_CHECK);
                    return self.poll.modify(self.listener, LISTENER, Interest::Write);
                }
            };
            tcp.set_nonblocking(true)?;
            // Fails only on a connection its peer has reset already: reading it will tell.
            tcp.set_nodelay(true).ok();
            self.next_serial += 1;
            let entry = self.connections.vacant_entry();
            self.poll.add(&tcp, entry.key() as u64, Interest::Read)?;
            let stream = Stream::new(tcp, Interest::Read);
            let talk = match &self.kitchen {
                Some((pool, _)) => Talk::burning(pool.clone()),
                None => Talk::new(self.opts.protocol),
            };
            entry.insert(Connection { stream, talk, serial: self.next_serial, owed: 0, closing: false });
        }
    }
}
