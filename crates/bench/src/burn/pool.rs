//! The threads that work, and the queue before them.
use super::{BurnOptions, Interface, menu, spin};
use crate::cpu;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Threads from which on some may wait for something: of fewer, the others would wait with them.
const MANY: usize = 8;

/// A request for the pool.
pub(crate) struct Job {
    /// Which interface.
    pub(crate) interface: usize,
    /// Whether its connection ends with the reply.
    pub(crate) close: bool,
    /// The connection, as its loop knows it.
    pub(crate) key: usize,
    pub(crate) serial: u64,
    pub(crate) back: Back,
}

/// A request that is done.
pub(crate) struct Done {
    pub(crate) key: usize,
    pub(crate) serial: u64,
    pub(crate) close: bool,
    pub(crate) bytes: Vec<u8>,
}

/// The way back to a loop.
#[derive(Clone)]
pub(crate) struct Back {
    done: Sender<Done>,
    wake: Arc<OwnedFd>,
}

/// A loop's end of it.
pub(crate) struct Desk {
    pub(crate) back: Back,
    pub(crate) done: Receiver<Done>,
    pub(crate) wake: Arc<OwnedFd>,
}

impl Desk {
    pub(crate) fn new() -> io::Result<Desk> {
        let wake = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let (sender, done) = mpsc::channel();
        Ok(Desk { back: Back { done: sender, wake: wake.clone() }, done, wake })
    }

    /// The next wake-up will be a new one.
    pub(crate) fn hush(&self) {
        // Nothing to read is no failure: somebody else's was read with the last one.
        let _ = rustix::io::read(&*self.wake, &mut [0_u8; 8]);
    }
}

/// The queue, and what the threads know.
pub(crate) struct Pool {
    opts: BurnOptions,
    pub(crate) menu: Vec<Interface>,
    queue: Mutex<VecDeque<Job>>,
    ready: Condvar,
    over: AtomicBool,
    /// CPU used by the process at the last question, and when that was.
    asked: Mutex<(Instant, Duration)>,
}

impl Pool {
    pub(crate) fn new(opts: BurnOptions) -> Pool {
        Pool {
            menu: menu(opts.scale),
            queue: Mutex::default(),
            ready: Condvar::new(),
            over: AtomicBool::new(false),
            asked: Mutex::new((Instant::now(), cpu::used(std::process::id()))),
            opts,
        }
    }

    pub(crate) fn threads(&self) -> usize {
        self.opts.pool.max(1)
    }

    /// Takes a request, or gives it back if too many wait.
    pub(crate) fn submit(&self, job: Job) -> Result<(), Job> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() >= self.opts.queue {
            return Err(job);
        }
        queue.push_back(job);
        drop(queue);
        self.ready.notify_one();
        Ok(())
    }

    /// Ends the threads, when what they work on is done; what waits is dropped.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
        // With the lock, or a thread that just looked would sleep on.
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner));
        self.ready.notify_all();
    }

    /// One thread's work.
    pub(crate) fn work(&self) {
        while let Some(job) = self.next() {
            let Interface { cpu, wait, path } = &self.menu[job.interface];
            let before = spin::used();
            spin(*cpu);
            if !wait.is_zero() && self.opts.pool >= MANY {
                std::thread::sleep(*wait);
            }
            let cost = spin::used().saturating_sub(before);
            let header = self.opts.cost_header.as_ref().map(|name| (name.as_str(), cost));
            let done = Done {
                key: job.key,
                serial: job.serial,
                close: job.close,
                bytes: reply(path, header, job.close),
            };
            // A loop that has ended does not mind.
            if job.back.done.send(done).is_ok() {
                let _ = rustix::io::write(&*job.back.wake, &1_u64.to_ne_bytes());
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.over.load(Ordering::Relaxed) {
                return None;
            }
            match queue.pop_front() {
                Some(job) => return Some(job),
                None => queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// The reply to `GET /load`: shares of what the app has, since the last such question.
    pub(crate) fn load(&self) -> Vec<u8> {
        let pid = std::process::id();
        let (now, used) = (Instant::now(), cpu::used(pid));
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, used_before) = std::mem::replace(&mut *asked, (now, used));
        drop(asked);
        let wall = now.duration_since(before).as_secs_f64().max(1e-3);
        let cores = used.saturating_sub(used_before).as_secs_f64() / wall;
        let body = format!("{{\"cpu\": {:.4}, \"memory\": 0.1}}\n", cores / self.opts.cores.max(0.01));
        message("200 OK", "application/json", "", &body)
    }
}

fn reply(path: &str, cost: Option<(&str, Duration)>, close: bool) -> Vec<u8> {
    let mut more = cost.map_or_else(String::new, |(name, cpu)| format!("{name}: {}\r\n", cpu.as_micros()));
    if close {
        more += "connection: close\r\n";
    }
    message("200 OK", "application/json", &more, &format!("{{\"interface\": \"{path}\"}}\n"))
}

/// A whole response; `more` are header lines.
pub(crate) fn message(status: &str, kind: &str, more: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nserver: raddle-bench\r\ncontent-type: {kind}\r\n{more}content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
