//! A server: cores that all running calls share evenly, before them a pool of threads with a queue, if it has one.
//!
//! Processor sharing by virtual time: while `n` calls run on `C` cores, each runs at `min(1, C/n)`; virtual time grows
//! by that rate, so a call of demand `d` that begins at virtual time `v` ends at `v + d`, whatever comes and goes in
//! between. Each event costs a heap operation.
mod jobs;

pub(crate) use jobs::{Job, JobId, Jobs};

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

/// How a server takes calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Discipline {
    /// Every call runs at once; all share the cores.
    Sharing,
    /// Calls take a thread for as long as they last, in the order in which they came.
    Pool {
        /// Threads.
        threads: usize,
        /// Calls that may wait for one; more are refused by the server.
        queue: usize,
    },
}

/// When a running call has had its CPU time, in virtual time.
#[derive(Clone, Copy, Debug)]
struct Tag {
    at: f64,
    job: JobId,
}

impl PartialEq for Tag {
    fn eq(&self, other: &Tag) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Tag {}
impl PartialOrd for Tag {
    fn partial_cmp(&self, other: &Tag) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Tag {
    /// The greatest is the one that ends first.
    fn cmp(&self, other: &Tag) -> Ordering {
        other.at.total_cmp(&self.at).then(other.job.cmp(&self.job))
    }
}

/// The server's state at a time.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) jobs: Jobs,
    /// Cores that it has now.
    pub(crate) cores: f64,
    /// Cores that others of its cgroup take first.
    pub(crate) background: f64,
    /// Nothing runs, and the collector takes every core.
    pub(crate) paused: bool,
    now: f64,
    threads: usize,
    bound: usize,
    virtual_time: f64,
    running: BinaryHeap<Tag>,
    waiting: VecDeque<JobId>,
    taken: usize,
    /// Core seconds used, since the start.
    pub(crate) busy: f64,
    /// Seconds in which more was ready to run than there are cores, since the start.
    pub(crate) pressed: f64,
    /// Calls that ran or wanted to, by seconds, since the start.
    pub(crate) active: f64,
    /// Core seconds that admitted calls still need.
    pub(crate) backlog: f64,
}

impl Server {
    pub(crate) fn new(cores: f64, discipline: Discipline) -> Server {
        let (threads, bound) = match discipline {
            Discipline::Sharing => (usize::MAX, 0),
            Discipline::Pool { threads, queue } => (threads, queue),
        };
        Server {
            jobs: Jobs::default(),
            cores,
            background: 0.0,
            paused: false,
            now: 0.0,
            threads,
            bound,
            virtual_time: 0.0,
            running: BinaryHeap::new(),
            waiting: VecDeque::new(),
            taken: 0,
            busy: 0.0,
            pressed: 0.0,
            active: 0.0,
            backlog: 0.0,
        }
    }

    /// What each running call gets of a core.
    fn rate(&self) -> f64 {
        let n = self.running.len() as f64;
        if self.paused || n == 0.0 { 0.0 } else { ((self.cores - self.background).max(0.0) / n).min(1.0) }
    }

    /// Lets time pass. Nothing may end before `to` but what [`Server::next`] named.
    pub(crate) fn advance(&mut self, to: f64) {
        let passed = (to - self.now).max(0.0);
        self.now = to;
        let (n, rate) = (self.running.len() as f64, self.rate());
        self.virtual_time += passed * rate;
        self.backlog = (self.backlog - passed * rate * n).max(0.0);
        let used = if self.paused { self.cores } else { n * rate + self.background.min(self.cores) };
        self.busy += passed * used;
        // What is stopped for the collector does not want to run.
        self.active += passed * if self.paused { self.cores } else { n + self.background };
        if self.paused || n + self.background > self.cores {
            self.pressed += passed;
        }
    }

    /// When the next CPU phase ends, if nothing comes in between.
    pub(crate) fn next(&self) -> f64 {
        let rate = self.rate();
        match self.running.peek() {
            Some(tag) if rate > 0.0 => self.now + (tag.at - self.virtual_time).max(0.0) / rate,
            _ => f64::INFINITY,
        }
    }

    /// Takes the call whose CPU phase ends now.
    pub(crate) fn ended(&mut self) -> Option<JobId> {
        self.running.pop().map(|tag| tag.job)
    }

    /// A call comes in. `false` = it is refused: no thread, and no place to wait for one.
    pub(crate) fn accept(&mut self, job: JobId) -> bool {
        if self.taken < self.threads {
            self.backlog += self.jobs[job].cpu_left();
            self.taken += 1;
            self.compute(job);
        } else if self.waiting.len() < self.bound {
            self.backlog += self.jobs[job].cpu_left();
            self.waiting.push_back(job);
        } else {
            return false;
        }
        true
    }

    /// A call that has its thread begins its next CPU phase.
    pub(crate) fn compute(&mut self, job: JobId) {
        let at = self.virtual_time + self.jobs[job].next_phase();
        self.running.push(Tag { at, job });
    }

    /// Work that no caller waits for and that takes no thread of the pool.
    pub(crate) fn compute_aside(&mut self, job: JobId) {
        self.backlog += self.jobs[job].cpu_left();
        self.compute(job);
    }

    /// A call gives its thread back; the next one begins.
    pub(crate) fn release(&mut self) {
        match self.waiting.pop_front() {
            Some(next) => self.compute(next),
            None => self.taken = self.taken.saturating_sub(1),
        }
    }

    /// Everything in it is lost.
    pub(crate) fn crash(&mut self) {
        self.running.clear();
        self.waiting.clear();
        self.taken = 0;
        self.backlog = 0.0;
    }
}

#[cfg(test)]
mod tests;
