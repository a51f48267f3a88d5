//! The event loop: connections come from a stack of idle ones, or are made.
use super::MixOptions;
use super::arrivals::{Arrival, Arrivals};
use super::result::{Cell, MixResult, MixSecond};
use crate::http1;
use crate::load::begin_connect;
use crate::poll::{Interest, Poll, Ready};
use crate::stream::Stream;
use slab::Slab;
use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU64;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const SECOND: u64 = 1_000_000_000;
/// Between two looks at the sign to stop.
const TICK: u64 = 50_000_000;
/// Slices are drawn so long before they begin.
const SLICE_AHEAD: u64 = 2_000_000;

/// A connection, and the request it is for.
struct Connection {
    stream: Stream,
    connected: bool,
    request: Option<Request>,
}

#[derive(Clone, Copy)]
struct Request {
    at: u64,
    path: usize,
    /// Tells it from later ones on the same connection.
    number: u64,
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Good,
    Status(u16),
    Lost,
    Late,
}

pub(super) fn run(
    opts: &MixOptions,
    arrivals: Arrivals,
    start: Instant,
    on_second: &mut dyn FnMut(&MixSecond),
) -> io::Result<MixResult> {
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).ok();
    let heads = opts.paths.iter().map(|path| {
        let mut head = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n", opts.host);
        opts.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        (head + "\r\n").into_bytes()
    });
    let mut worker = Worker {
        opts,
        start,
        arrivals,
        heads: heads.collect(),
        poll: Poll::new(1024)?,
        connections: Slab::new(),
        idle: Vec::new(),
        due: VecDeque::new(),
        waiting: VecDeque::new(),
        deadlines: VecDeque::new(),
        input: Vec::new(),
        numbers: 0,
        open: VecDeque::new(),
        told: 0,
        result: MixResult::default(),
    };
    while worker.turn(on_second)? {}
    Ok(worker.result)
}

struct Worker<'a> {
    opts: &'a MixOptions,
    start: Instant,
    arrivals: Arrivals,
    heads: Vec<Vec<u8>>,
    poll: Poll,
    connections: Slab<Connection>,
    /// Connections without a request, the last used on top.
    idle: Vec<usize>,
    /// Drawn, but their moment has not come.
    due: VecDeque<Arrival>,
    /// No connection could be had for them.
    waiting: VecDeque<Request>,
    /// Requests in order of their deadline, with their connection.
    deadlines: VecDeque<(Request, usize)>,
    input: Vec<u8>,
    numbers: u64,
    /// Seconds whose last deadline is not over.
    open: VecDeque<MixSecond>,
    /// Seconds that are complete.
    told: usize,
    result: MixResult,
}

impl Worker<'_> {
    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn deadline(&self) -> u64 {
        self.opts.deadline.as_nanos() as u64
    }

    /// One turn; returns whether there is more to do.
    fn turn(&mut self, on_second: &mut dyn FnMut(&MixSecond)) -> io::Result<bool> {
        let stopped = self.opts.stop.load(Ordering::Relaxed);
        let now = self.now();
        if !stopped {
            self.draw(now);
            self.send_due(now)?;
        }
        self.give_up(now);
        self.tell(now, on_second);
        let sent_all = stopped || (self.arrivals.next_slice().is_none() && self.due.is_empty());
        let busy = !self.deadlines.is_empty() || !self.waiting.is_empty();
        if sent_all && (!busy || stopped) {
            // What is left is whole: nothing is due any more.
            self.tell(u64::MAX, on_second);
            return Ok(false);
        }
        let next = [
            self.due.front().map(|a| a.at),
            self.arrivals.next_slice().map(|at| at.saturating_sub(SLICE_AHEAD)),
            self.deadlines.front().map(|(r, _)| r.at + self.deadline()),
            Some(now + TICK),
        ];
        let until = next.into_iter().flatten().min().unwrap_or(now);
        let n = self.poll.wait_precisely(Duration::from_nanos(until.saturating_sub(self.now())))?;
        for i in 0..n {
            let ready = self.poll.ready(i);
            self.handle(ready)?;
        }
        Ok(true)
    }

    /// Draws the slices that begin soon.
    fn draw(&mut self, now: u64) {
        while self.arrivals.next_slice().is_some_and(|at| at <= now + SLICE_AHEAD) {
            let mut drawn = Vec::new();
            self.arrivals.draw(&mut drawn);
            self.due.extend(drawn);
        }
    }

    fn send_due(&mut self, now: u64) -> io::Result<()> {
        while let Some(arrival) = self.due.front().copied().filter(|a| a.at <= now) {
            self.due.pop_front();
            self.numbers += 1;
            self.cell(arrival.at, arrival.path).offered += 1;
            self.result.sent_late_us = self.result.sent_late_us.max((now - arrival.at) / 1000);
            self.send(Request { at: arrival.at, path: arrival.path, number: self.numbers })?;
        }
        Ok(())
    }

    fn send(&mut self, request: Request) -> io::Result<()> {
        while let Some(key) = self.idle.pop() {
            let connection = &mut self.connections[key];
            if connection.stream.send(&self.heads[request.path]).is_ok() {
                connection.request = Some(request);
                self.deadlines.push_back((request, key));
                return Ok(());
            }
            self.connections.remove(key);
        }
        if self.connections.len() >= self.opts.connections {
            self.waiting.push_back(request);
            return Ok(());
        }
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        match begin_connect(self.opts.target) {
            Ok(tcp) => {
                self.poll.add(&tcp, key as u64, Interest::Write)?;
                let stream = Stream::new(tcp, Interest::Write);
                entry.insert(Connection { stream, connected: false, request: Some(request) });
                self.deadlines.push_back((request, key));
                self.result.connections = self.result.connections.max(self.connections.len());
            }
            Err(_) => self.end(request, End::Lost, request.at),
        }
        Ok(())
    }

    fn handle(&mut self, ready: Ready) -> io::Result<()> {
        let key = ready.token as usize;
        let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
        if !connection.connected {
            if !matches!(connection.stream.tcp.take_error(), Ok(None)) {
                self.lose(key);
                return Ok(());
            }
            connection.connected = true;
            connection.stream.watched = Interest::Read;
            self.poll.modify(&connection.stream.tcp, key as u64, Interest::Read)?;
            let sent = match connection.request {
                Some(request) => connection.stream.send(&self.heads[request.path]).is_ok(),
                None => true,
            };
            if !sent {
                self.lose(key);
            }
            return Ok(());
        }
        if ready.readable {
            self.read(key)?;
        }
        Ok(())
    }

    fn read(&mut self, key: usize) -> io::Result<()> {
        let connection = &mut self.connections[key];
        let Ok(n) = connection.stream.read(&mut self.input) else {
            self.lose(key);
            return Ok(());
        };
        let now = self.start.elapsed().as_nanos() as u64;
        match http1::message(&self.input[..n]) {
            Ok(None) => connection.stream.keep(&self.input[..n]),
            // One request, one reply, to the byte.
            Ok(Some(message))
                if message.total == n && message.head.status >= 200 && connection.request.is_some() =>
            {
                let (status, close) = (message.head.status, message.head.close);
                connection.stream.keep(&[]);
                if let Some(request) = connection.request.take() {
                    let end = if (200..300).contains(&status) { End::Good } else { End::Status(status) };
                    self.end(request, end, now);
                }
                if close {
                    self.connections.remove(key);
                } else {
                    self.idle.push(key);
                }
                self.serve_waiting()?;
            }
            _ => self.lose(key),
        }
        Ok(())
    }

    fn serve_waiting(&mut self) -> io::Result<()> {
        if let Some(request) = self.waiting.pop_front() {
            self.send(request)?;
        }
        Ok(())
    }

    fn lose(&mut self, key: usize) {
        self.idle.retain(|k| *k != key);
        if let Some(request) = self.connections.remove(key).request {
            let now = self.now();
            self.end(request, End::Lost, now);
        }
    }

    /// Callers go away whose time is over, and their connections with them.
    fn give_up(&mut self, now: u64) {
        let before = now.saturating_sub(self.deadline());
        while let Some((request, key)) = self.deadlines.front().copied() {
            let here =
                self.connections.get(key).and_then(|c| c.request).filter(|r| r.number == request.number);
            if here.is_some() && request.at > before {
                break;
            }
            self.deadlines.pop_front();
            if here.is_some() {
                self.connections.remove(key);
                self.end(request, End::Late, now);
            }
        }
        while let Some(request) = self.waiting.front().copied().filter(|r| r.at <= before) {
            self.waiting.pop_front();
            self.end(request, End::Late, now);
        }
    }

    fn end(&mut self, request: Request, end: End, now: u64) {
        let late = now.saturating_sub(request.at) > self.deadline();
        let end = if end == End::Good && late { End::Late } else { end };
        if let End::Status(status) = end {
            *self.result.statuses.entry(status).or_default() += 1;
        }
        let cell = self.cell(request.at, request.path);
        match end {
            End::Good => cell.good += 1,
            End::Status(429 | 503) => cell.refused += 1,
            End::Status(_) | End::Lost => cell.failed += 1,
            End::Late => cell.late += 1,
        }
        if end == End::Good {
            let micros = now.saturating_sub(request.at) / 1000;
            let second = self.second(request.at);
            second.latency.push((request.path as u16, micros.min(u64::from(u32::MAX)) as u32));
        }
    }

    fn cell(&mut self, at: u64, path: usize) -> &mut Cell {
        &mut self.second(at).cells[path]
    }

    /// The second a request belongs to, which is not told yet.
    fn second(&mut self, at: u64) -> &mut MixSecond {
        let index = ((at / SECOND) as usize).saturating_sub(self.told);
        while self.open.len() <= index {
            let second = self.told + self.open.len();
            let cells = vec![Cell::default(); self.heads.len()];
            self.open.push_back(MixSecond { second, cells, latency: Vec::new() });
        }
        &mut self.open[index]
    }

    fn tell(&mut self, now: u64, on_second: &mut dyn FnMut(&MixSecond)) {
        while !self.open.is_empty() {
            let over = (self.told as u64 + 1) * SECOND + self.deadline() + TICK;
            if now <= over {
                return;
            }
            if let Some(second) = self.open.pop_front() {
                self.told += 1;
                on_second(&second);
                self.result.seconds.push(second);
            }
        }
    }
}
