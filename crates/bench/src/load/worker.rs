//! The event loop of one generator thread.
use super::connection::{Connection, Link};
use super::flight::{InFlight, Recorder};
use super::schedule::Schedule;
use super::speak::{After, Broken, Speaker};
use super::timeline::{Lines, Timeline};
use super::{Counters, Failures, LoadOptions};
use crate::cpu;
use crate::poll::{Interest, Poll, Ready};
use crate::stream::Stream;
use hdrhistogram::Histogram;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const MILLISECOND: u64 = 1_000_000;
/// Between two looks for timeouts, the end of the run and connections to make again, nanoseconds.
const TICK: u64 = 20 * MILLISECOND;
const BACKOFF: u64 = 10 * MILLISECOND;
const MAX_BACKOFF: u64 = 1000 * MILLISECOND;

/// The results of one or more threads.
pub(super) struct Totals {
    pub(super) histogram: Histogram<u64>,
    pub(super) failures: Failures,
    pub(super) cpu: Duration,
    /// How long was really measured: less than asked for if the run was stopped.
    pub(super) measured: Duration,
}

impl Totals {
    pub(super) fn new() -> Totals {
        Totals {
            histogram: histogram(),
            failures: Failures::default(),
            cpu: Duration::ZERO,
            measured: Duration::ZERO,
        }
    }

    pub(super) fn add(&mut self, other: Totals) {
        // Both have the same bounds, so every value of one has a place in the other.
        self.histogram.add(&other.histogram).ok();
        self.failures.add(&other.failures);
        self.cpu += other.cpu;
        self.measured = self.measured.max(other.measured);
    }
}

/// From 1 ns to 1 hour with three digits.
pub(super) fn histogram() -> Histogram<u64> {
    // The bounds are constants the library accepts: low ≥ 1, high ≥ 2 × low, at most 5 digits.
    #[allow(clippy::expect_used)]
    Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("constant bounds are valid")
}

/// Runs one thread's connections until the schedule ends.
pub(super) fn run(
    opts: &LoadOptions,
    speaker: &dyn Speaker,
    schedule: Schedule,
    start: Instant,
    counters: &Counters,
    timeline: Option<Arc<Timeline>>,
) -> io::Result<Totals> {
    // Sends are late by the timer slack, 50 µs by default. Where it cannot be set, they just are.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).ok();
    let seed = u64::from(std::process::id()) << 32 | u64::from(start.elapsed().subsec_nanos());
    let connections = (0..schedule.connections())
        .map(|index| Connection {
            link: Link::Down { retry_at: 0 },
            backoff: BACKOFF,
            session: speaker.session(),
            flight: InFlight::new(index, opts.depth(), seed.rotate_left(index as u32 % 64) ^ index as u64),
        })
        .collect();
    let mut worker = Worker {
        opts,
        start,
        poll: Poll::new(1024)?,
        connections,
        scheduled: 0,
        next_tick: 0,
        cpu_at_start: None,
        cpu: Duration::ZERO,
        rec: Recorder::new(schedule, histogram()),
        input: Vec::new(),
        out: Vec::new(),
    };
    worker.rec.lines = timeline.map(Lines::new);
    while !worker.turn()? {
        counters.completed.store(worker.rec.completed, Ordering::Relaxed);
        counters.failed.store(worker.rec.failed, Ordering::Relaxed);
    }
    Ok(worker.finish())
}

struct Worker<'a> {
    opts: &'a LoadOptions,
    start: Instant,
    poll: Poll,
    connections: Vec<Connection<'a>>,
    /// Requests of this thread whose time has come.
    scheduled: u64,
    next_tick: u64,
    cpu_at_start: Option<Duration>,
    cpu: Duration,
    rec: Recorder,
    input: Vec<u8>,
    out: Vec<u8>,
}

impl Worker<'_> {
    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// One turn of the loop; returns whether the run is over.
    fn turn(&mut self) -> io::Result<bool> {
        let now = self.now();
        // Before the tick, which ends the run when nothing that was due is left.
        let next_due = self.send_due(now)?;
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            if self.tick(now)? {
                return Ok(true);
            }
        }
        let until = next_due.min(self.next_tick);
        let timeout = Duration::from_nanos(until.saturating_sub(self.now()));
        let precise = next_due < self.next_tick;
        let n = if precise { self.poll.wait_precisely(timeout)? } else { self.poll.wait(timeout)? };
        for i in 0..n {
            self.handle(self.poll.ready(i))?;
        }
        Ok(false)
    }

    /// What need not be looked at every turn; returns whether the run is over.
    fn tick(&mut self, now: u64) -> io::Result<bool> {
        let schedule = self.rec.schedule;
        if self.cpu_at_start.is_none() && now >= schedule.from {
            self.cpu_at_start = Some(cpu::this_thread());
        }
        if now >= schedule.until {
            self.take_cpu();
        }
        self.next_tick = self.next_tick.min(edge_after(schedule, now));
        if self.opts.stop.load(Ordering::Relaxed) && now < schedule.until {
            // Nothing is due from here on; what is in flight may still be answered.
            self.rec.schedule.until = now;
        }
        let schedule = self.rec.schedule;
        if now >= schedule.until {
            let grace = self.opts.timeout.as_nanos() as u64 + TICK;
            let pending = self.connections.iter().any(|c| c.flight.busy() > 0 || c.flight.waiting() > 0);
            if !schedule.is_open() || !pending || now >= schedule.until + grace {
                return Ok(true);
            }
        }
        let timeout = self.opts.timeout.as_nanos() as u64;
        for index in 0..self.connections.len() {
            let connection = &mut self.connections[index];
            match &connection.link {
                Link::Down { retry_at } if *retry_at <= now => self.connect(index, now)?,
                Link::Up(_) => {
                    let before = now.saturating_sub(timeout);
                    let ids = connection.flight.time_out(before, now, &mut self.rec);
                    if ids.is_empty() {
                        continue;
                    }
                    match connection.session.give_up(&ids, &mut self.out) {
                        After::GoOn => self.fill(index, now)?,
                        After::Close => self.lose(index, now),
                    }
                }
                _ => {}
            }
        }
        Ok(false)
    }

    /// Reads the thread's own CPU at the end of the window, once.
    fn take_cpu(&mut self) {
        if let Some(start) = self.cpu_at_start.filter(|_| self.cpu.is_zero()) {
            self.cpu = cpu::this_thread().saturating_sub(start);
        }
    }

    /// Open loop: sends what is due; returns when the next request is.
    fn send_due(&mut self, now: u64) -> io::Result<u64> {
        let schedule = self.rec.schedule;
        if !schedule.is_open() {
            return Ok(u64::MAX);
        }
        let count = self.connections.len() as u64;
        loop {
            let index = (self.scheduled % count) as usize;
            let at = schedule.intended(index, self.scheduled / count);
            if at >= schedule.until {
                return Ok(u64::MAX);
            }
            if at > now {
                return Ok(at);
            }
            self.scheduled += 1;
            self.connections[index].flight.due += 1;
            self.fill(index, now)?;
        }
    }

    fn handle(&mut self, ready: Ready) -> io::Result<()> {
        let index = ready.token as usize;
        let now = self.now();
        let connection = &mut self.connections[index];
        match &mut connection.link {
            Link::Down { .. } => Ok(()),
            Link::Connecting(_) if ready.writable => self.connected(index, now),
            Link::Connecting(_) => Ok(()),
            Link::Up(stream) => {
                let alive = (!ready.writable || stream.flush().is_ok())
                    && (!ready.readable || self.read(index).is_ok());
                if alive {
                    self.fill(index, now)
                } else {
                    self.lose(index, now);
                    Ok(())
                }
            }
        }
    }

    fn read(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        let Link::Up(stream) = &mut connection.link else { return Ok(()) };
        let n = stream.read(&mut self.input)?;
        if n == 0 {
            return Ok(());
        }
        // After the read: it may have taken long, and the replies were not here before.
        let now = self.start.elapsed().as_nanos() as u64;
        let input = &self.input[..n];
        let Connection { session, flight, .. } = connection;
        let used = session.take_in(input, &mut self.out, flight, &mut self.rec, now);
        match used {
            Ok(used) => stream.keep(&input[used..]),
            Err(Broken) => {
                self.rec.event(now, |f| &mut f.malformed);
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        Ok(())
    }

    /// Sends what may be sent on a connection now.
    fn fill(&mut self, index: usize, now: u64) -> io::Result<()> {
        let connection = &mut self.connections[index];
        if connection.is_over() {
            return self.renew(index, now);
        }
        let Connection { link, session, flight, .. } = connection;
        let Link::Up(stream) = link else { return Ok(()) };
        if !stream.is_full() {
            session.fill(&mut self.out, flight, &self.rec, now);
        }
        let alive = self.out.is_empty() || stream.send(&self.out).is_ok();
        self.out.clear();
        if !alive {
            self.lose(index, now);
            return Ok(());
        }
        // A generator that stopped reading would deadlock with a server that does the same.
        let wanted = if stream.interest() == Interest::Read { Interest::Read } else { Interest::Both };
        if wanted != stream.watched {
            stream.watched = wanted;
            self.poll.modify(&stream.tcp, index as u64, wanted)?;
        }
        Ok(())
    }

    fn connect(&mut self, index: usize, now: u64) -> io::Result<()> {
        match begin_connect(self.opts.target) {
            Ok(tcp) => {
                self.poll.add(&tcp, index as u64, Interest::Write)?;
                self.connections[index].link = Link::Connecting(Stream::new(tcp, Interest::Write));
            }
            Err(_) => self.lose(index, now),
        }
        Ok(())
    }

    fn connected(&mut self, index: usize, now: u64) -> io::Result<()> {
        let connection = &mut self.connections[index];
        let Link::Connecting(stream) = std::mem::replace(&mut connection.link, Link::Down { retry_at: 0 })
        else {
            return Ok(());
        };
        if !matches!(stream.tcp.take_error(), Ok(None)) {
            self.lose(index, now);
            return Ok(());
        }
        connection.backoff = BACKOFF;
        connection.link = Link::Up(stream);
        connection.session.open(&mut self.out);
        self.fill(index, now)
    }

    /// Makes a connection anew that its peer ended in good order.
    fn renew(&mut self, index: usize, now: u64) -> io::Result<()> {
        self.out.clear();
        self.rec.event(now, |f| &mut f.reconnects);
        self.connect(index, now)
    }

    /// Counts what a lost connection had in flight, and sets the time of the next try.
    fn lose(&mut self, index: usize, now: u64) {
        let connection = &mut self.connections[index];
        self.out.clear();
        connection.flight.lose(now, &mut self.rec);
        self.rec.event(now, |f| &mut f.reconnects);
        connection.link = Link::Down { retry_at: now + connection.backoff };
        connection.backoff = (connection.backoff * 2).min(MAX_BACKOFF);
    }

    fn finish(mut self) -> Totals {
        let now = self.now();
        self.take_cpu();
        for connection in &mut self.connections {
            connection.flight.finish(now, &mut self.rec);
        }
        if let Some(lines) = &mut self.rec.lines {
            lines.flush();
        }
        let schedule = self.rec.schedule;
        let measured = now.min(schedule.until).saturating_sub(schedule.from);
        Totals {
            histogram: self.rec.latency,
            failures: self.rec.failures,
            cpu: self.cpu,
            measured: Duration::from_nanos(measured),
        }
    }
}

/// The next edge of the measured window: ticks fall on it, so that CPU is read there.
fn edge_after(schedule: Schedule, now: u64) -> u64 {
    [schedule.from, schedule.until].into_iter().find(|edge| *edge > now).unwrap_or(u64::MAX)
}

/// Starts a connection without waiting for it.
pub(crate) fn begin_connect(target: SocketAddr) -> io::Result<TcpStream> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
    match rustix::net::connect(&socket, &target) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(e) => Err(e.into()),
    }
}
