//! The calls inside a server.
use std::ops::{Index, IndexMut};

/// A call's place.
pub(crate) type JobId = u32;

/// A call inside the server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Job {
    pub(crate) call: crate::limiter::Call,
    /// When its caller first asked, and when it sent this attempt.
    pub(crate) first: f64,
    pub(crate) sent: f64,
    /// This is the attempt with this number, from 0.
    pub(crate) attempt: u8,
    /// CPU time before and after the wait, in seconds.
    pub(crate) cpu: [f64; 2],
    /// What it waits for others, in seconds.
    pub(crate) io: f64,
    /// CPU time that it causes after it has answered.
    pub(crate) later: f64,
    /// Share of the app's memory that it holds.
    pub(crate) memory: f64,
    /// CPU phases begun.
    pub(crate) phase: u8,
    /// Its caller waits no more.
    pub(crate) gone: bool,
    /// Nobody ever waited: work that an earlier call left behind.
    pub(crate) aside: bool,
    /// Told apart from others that had the same place.
    pub(crate) generation: u32,
    /// It is inside.
    pub(crate) alive: bool,
}

impl Job {
    /// CPU time of the phases that have not begun.
    pub(crate) fn cpu_left(&self) -> f64 {
        self.cpu.iter().skip(usize::from(self.phase)).sum()
    }

    /// Whether it waits for others after the phase that has ended.
    pub(crate) fn waits(&self) -> bool {
        self.phase == 1 && self.io > 0.0
    }

    /// Begins the next CPU phase; its length.
    pub(crate) fn next_phase(&mut self) -> f64 {
        let length = self.cpu.get(usize::from(self.phase)).copied().unwrap_or(0.0);
        self.phase += 1;
        length
    }
}

/// All of them, places reused.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    slots: Vec<Job>,
    free: Vec<JobId>,
    pub(crate) memory: f64,
}

impl Jobs {
    pub(crate) fn insert(&mut self, mut job: Job) -> JobId {
        job.alive = true;
        self.memory += job.memory;
        match self.free.pop() {
            Some(id) => {
                job.generation = self[id].generation + 1;
                self[id] = job;
                id
            }
            None => {
                self.slots.push(job);
                (self.slots.len() - 1) as JobId
            }
        }
    }

    pub(crate) fn remove(&mut self, id: JobId) -> Job {
        let job = std::mem::take(&mut self[id]);
        self[id].generation = job.generation;
        self.memory = (self.memory - job.memory).max(0.0);
        self.free.push(id);
        job
    }

    /// The call there, if it is still the one that was meant.
    pub(crate) fn same(&self, id: JobId, generation: u32) -> bool {
        self.slots.get(id as usize).is_some_and(|j| j.alive && j.generation == generation)
    }

    /// All that are inside.
    pub(crate) fn ids(&self) -> Vec<JobId> {
        (0..self.slots.len() as JobId).filter(|&id| self[id].alive).collect()
    }
}

impl Index<JobId> for Jobs {
    type Output = Job;
    fn index(&self, id: JobId) -> &Job {
        &self.slots[id as usize]
    }
}

impl IndexMut<JobId> for Jobs {
    fn index_mut(&mut self, id: JobId) -> &mut Job {
        &mut self.slots[id as usize]
    }
}
