//! What callers do: they send, give up after a while, and try again.
use super::{Arrival, Attempt, JobId, Next, World, job_arrival};
use crate::limiter::{Call, End};
use crate::scenario::Scenario;
use crate::server::Job;
use std::collections::VecDeque;

/// When a caller gives up, and on which call: its place and generation.
type Deadline = (f64, JobId, u32);

/// When callers give up: for each length of patience, in the order in which they sent.
#[derive(Debug)]
pub(super) struct Timeouts {
    /// Which of the queues an interface's calls are in.
    class: Vec<usize>,
    queues: Vec<(f64, VecDeque<Deadline>)>,
}

impl Timeouts {
    pub(super) fn new(scenario: &Scenario) -> Timeouts {
        let mut queues: Vec<(f64, VecDeque<Deadline>)> = Vec::new();
        let mut class = Vec::new();
        for interface in &scenario.interfaces {
            let at = queues.iter().position(|(t, _)| *t == interface.timeout);
            class.push(at.unwrap_or_else(|| {
                queues.push((interface.timeout, VecDeque::new()));
                queues.len() - 1
            }));
        }
        Timeouts { class, queues }
    }

    fn push(&mut self, now: f64, interface: u32, job: JobId, generation: u32) {
        let (timeout, queue) = &mut self.queues[self.class[interface as usize]];
        queue.push_back((now + *timeout, job, generation));
    }

    pub(super) fn next(&self) -> f64 {
        let firsts = self.queues.iter().filter_map(|(_, q)| q.front().map(|f| f.0));
        firsts.fold(f64::INFINITY, f64::min)
    }

    fn pop(&mut self, now: f64) -> Option<(JobId, u32)> {
        let queue = self.queues.iter_mut().find(|(_, q)| q.front().is_some_and(|f| f.0 <= now))?;
        queue.1.pop_front().map(|(_, job, generation)| (job, generation))
    }
}

impl World<'_> {
    /// A caller sends a call.
    pub(super) fn attempt(&mut self, arrival: Arrival, attempt: Attempt) {
        let call = arrival.call;
        let admitted = self.limiter.admit(&call, self.now);
        self.run.attempted(self.now, &arrival, admitted);
        if !admitted {
            self.failed(call, arrival, attempt);
            return;
        }
        let job = Job {
            call,
            first: attempt.first,
            sent: self.now,
            attempt: attempt.number,
            cpu: arrival.cpu,
            io: arrival.io,
            later: arrival.later,
            memory: arrival.memory,
            ..Job::default()
        };
        let id = self.server.jobs.insert(job);
        if self.down || !self.server.accept(id) {
            self.server.jobs.remove(id);
            let end = End { latency: 0.0, queued: 0.0, failed: true, late: false };
            self.limiter.complete(&call, &end, self.now);
            self.run.refused += 1;
            self.failed(call, arrival, attempt);
            return;
        }
        let generation = self.server.jobs[id].generation;
        self.timeouts.push(self.now, call.interface, id, generation);
        if self.scenario.memory.is_some_and(|own| own + self.server.jobs.memory > 1.0) {
            self.crash();
        }
    }

    /// A caller's patience ends; the server knows nothing of it and goes on.
    pub(super) fn give_up(&mut self) {
        let Some((id, generation)) = self.timeouts.pop(self.now) else { return };
        if !self.server.jobs.same(id, generation) {
            return;
        }
        let job = &mut self.server.jobs[id];
        job.gone = true;
        let (call, arrival) = (job.call, job_arrival(job));
        let attempt = Attempt { first: job.first, number: job.attempt };
        self.limiter.timed_out(&call, self.now);
        self.run.gave_up(self.now, &call, attempt.first);
        self.failed(call, arrival, attempt);
    }

    /// An attempt came to nothing: there may be another.
    pub(super) fn failed(&mut self, call: Call, arrival: Arrival, attempt: Attempt) {
        let retries = self.scenario.retries;
        let number = attempt.number + 1;
        if number >= retries.attempts {
            return;
        }
        let mean = retries.backoff * f64::from(1u32 << attempt.number.min(6));
        let at = self.now + mean * self.backoffs.between(0.5, 1.5);
        let call = Call { worker: (self.backoffs.bits() >> 31) as u8, ..call };
        self.later(at, Next::Again(Arrival { call, ..arrival }, Attempt { number, ..attempt }));
    }
}
