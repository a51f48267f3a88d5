//! The one thread that writes. It takes all that waits, does it in the order it came in one transaction of the file,
//! and answers when that is on the disk: so many callers share one fsync.
//!
//! Leases do not wait for it: they are kept beside its queue. It ends those whose time is over, but not because this
//! process was too busy to keep them: whoever keeps a lease must have had its turn since (see [`Writer::due`]).
use super::apply::{Applied, Tables};
use super::file::{CEILING_STEP, CLEAN, META, fault};
use super::{Shared, lock};
use crate::types::{Change, LeaseId, Outcome, Revision, StoreError, Txn};
use redb::{Durability, Error};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Most jobs of one group.
const GROUP: usize = 512;
/// Relaxed commits are on the disk after this time.
const RELAXED_FLUSH: Duration = Duration::from_millis(50);
/// A runtime that gives nobody a turn for so long keeps no lease any more.
const TURN: Duration = Duration::from_secs(60);
/// Leases that live at once.
const MAX_LEASES: usize = 100_000;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the thread is asked for.
#[derive(Debug)]
pub(super) enum Task {
    Commit(Txn, Reply<Outcome>),
    Grant(Duration, Reply<LeaseId>),
    Revoke(LeaseId, Reply<()>),
    /// The runtime has given everybody a turn since the writer asked for it.
    Turn,
    Stop,
}

/// A task with its share of the queue's room.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) task: Task,
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// An answer that is given when the group is done.
enum Answer {
    Commit(Reply<Outcome>, Result<Outcome, StoreError>),
    Grant(Reply<LeaseId>, Result<LeaseId, StoreError>),
    Revoke(Reply<()>, Result<(), StoreError>),
}

impl Answer {
    /// To a task that was not come to.
    fn none(task: Task) -> Option<Answer> {
        let not_done = || StoreError::Unavailable("the store has failed".into());
        match task {
            Task::Commit(_, reply) => Some(Answer::Commit(reply, Err(not_done()))),
            Task::Grant(_, reply) => Some(Answer::Grant(reply, Err(not_done()))),
            Task::Revoke(_, reply) => Some(Answer::Revoke(reply, Err(not_done()))),
            Task::Turn | Task::Stop => None,
        }
    }

    fn give(self, broken: Option<&StoreError>) {
        // Who does not wait any more needs no answer.
        match self {
            Answer::Commit(reply, result) => drop(reply.send(broken.cloned().map_or(result, Err))),
            Answer::Grant(reply, result) => drop(reply.send(broken.cloned().map_or(result, Err))),
            Answer::Revoke(reply, result) => drop(reply.send(broken.cloned().map_or(result, Err))),
        }
    }
}

/// The state of the thread.
pub(super) struct Writer {
    shared: Arc<Shared>,
    jobs: Receiver<Job>,
    revision: u64,
    ceiling: u64,
    next_lease: i64,
    /// Since when a relaxed commit is not on the disk.
    unflushed: Option<Instant>,
    /// When the runtime was asked for a turn, and whether it gave it.
    turn: Option<(Instant, bool)>,
    broken: Option<StoreError>,
}

/// What one group has done so far; nothing of it counts until the file took it.
#[derive(Default)]
struct Group {
    answers: Vec<Answer>,
    commits: Vec<(u64, Vec<Change>)>,
    granted: Vec<(i64, Duration)>,
    ended: Vec<i64>,
    strict: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, jobs: Receiver<Job>, at: (u64, u64), next_lease: i64) -> Writer {
        let (revision, ceiling) = at;
        Writer { shared, jobs, revision, ceiling, next_lease, unflushed: None, turn: None, broken: None }
    }

    /// Until it is told to stop, or nobody can tell it anything any more.
    pub(super) fn run(mut self) {
        loop {
            let (jobs, stop) = self.take();
            let now = Instant::now();
            let due = self.due(now);
            let flush = self.unflushed.is_some_and(|since| now >= since + RELAXED_FLUSH);
            if !jobs.is_empty() || !due.is_empty() || flush {
                self.group(jobs, &due, flush, now);
            }
            if stop {
                break;
            }
        }
        self.close();
    }

    /// Waits for something to do; all of it, and whether to stop after it.
    fn take(&mut self) -> (Vec<Job>, bool) {
        let flush = self.unflushed.map(|since| since + RELAXED_FLUSH);
        let lease = match self.turn {
            _ if self.broken.is_some() => None,
            Some((asked, _)) => Some(asked + TURN),
            None => lock(&self.shared.leases).next(),
        };
        let until = flush.into_iter().chain(lease).min();
        let wait = until.map_or(Duration::from_secs(3600), |t| t.saturating_duration_since(Instant::now()));
        let mut jobs = Vec::new();
        let mut next = match self.jobs.recv_timeout(wait) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return (jobs, true),
        };
        while let Some(job) = next {
            if matches!(job.task, Task::Stop) {
                return (jobs, true);
            }
            match (&job.task, &mut self.turn) {
                (Task::Turn, Some((_, given))) => *given = true,
                (Task::Turn, None) => {}
                _ => jobs.push(job),
            }
            next = if jobs.len() < GROUP { self.jobs.try_recv().ok() } else { None };
        }
        (jobs, false)
    }

    /// The leases that end now. That a lease's time is over may be because the runtime that should have kept it had no
    /// time itself: it is asked for a turn first, and only leases that were over before that, and still are, end.
    fn due(&mut self, now: Instant) -> Vec<i64> {
        let mut leases = lock(&self.shared.leases);
        let over = leases.next().is_some_and(|end| end <= now);
        let asked = match self.turn {
            None if !over => return Vec::new(),
            None if self.shared.turns.ask() => {
                self.turn = Some((now, false));
                return Vec::new();
            }
            None => now,
            Some((asked, given)) if given || now >= asked + TURN => asked,
            Some(_) => return Vec::new(),
        };
        self.turn = None;
        leases.take_due(asked)
    }

    fn group(&mut self, jobs: Vec<Job>, due: &[i64], flush: bool, now: Instant) {
        let mut group = Group { strict: flush, ..Group::default() };
        let before = self.revision;
        // Room in the queue is free again when the group is done.
        let (tasks, _room): (Vec<Task>, Vec<_>) = jobs.into_iter().map(|job| (job.task, job.room)).unzip();
        let mut tasks = tasks.into_iter();
        let done = match &self.broken {
            Some(why) => Err(why.clone()),
            None => self.write(&mut tasks, due, &mut group, now),
        };
        match done {
            Ok(()) => self.settle(&mut group, now),
            Err(why) => {
                // What the file holds now is not known to this process: better no answers than wrong ones.
                self.revision = before;
                self.unflushed = None;
                self.breaks(why);
            }
        }
        group.answers.extend(tasks.filter_map(Answer::none));
        for answer in group.answers {
            answer.give(self.broken.as_ref());
        }
    }

    /// The disk failed: every answer says so from now on.
    fn breaks(&mut self, why: StoreError) {
        if self.broken.is_none() {
            let why = match why {
                StoreError::Unavailable(why) => StoreError::Unavailable(format!(
                    "{}: {why}; it takes no more writes until it is opened again, with room on its disk",
                    self.shared.name
                )),
                other => other,
            };
            tracing::error!("{why}");
            self.broken = Some(why);
        }
    }

    /// One transaction of the file.
    fn write(
        &mut self,
        tasks: &mut impl Iterator<Item = Task>,
        due: &[i64],
        group: &mut Group,
        now: Instant,
    ) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let fail = |e: Error| fault(&e);
        let mut write = shared.db.begin_write().map_err(|e| fail(e.into()))?;
        {
            let mut tables = Tables::open(&write).map_err(fail)?;
            for lease in due {
                let changes = tables.end(*lease).map_err(fail)?;
                group.ended.push(*lease);
                self.committed(changes, group);
            }
            for task in tasks {
                self.task(task, &mut tables, group).map_err(fail)?;
            }
            tables.reached(self.revision).map_err(fail)?;
            if self.revision + (GROUP as u64) * 2 > self.ceiling {
                self.ceiling = self.revision + CEILING_STEP;
                group.strict = true;
                tables.raise_ceiling(self.ceiling).map_err(fail)?;
            }
        }
        let durability = if group.strict { Durability::Immediate } else { Durability::None };
        write.set_durability(durability).map_err(|e| fail(e.into()))?;
        write.commit().map_err(|e| fail(e.into()))?;
        self.unflushed = if group.strict { None } else { self.unflushed.or(Some(now)) };
        Ok(())
    }

    fn task(&mut self, task: Task, tables: &mut Tables<'_>, group: &mut Group) -> Result<(), Error> {
        match task {
            Task::Commit(txn, reply) => {
                let relaxed = txn.relaxed;
                let (shared, granted, ended) = (&self.shared, &group.granted, &group.ended);
                let lives = |id: i64| {
                    !ended.contains(&id)
                        && (granted.iter().any(|(g, _)| *g == id) || lock(&shared.leases).lives(id))
                };
                let result = match tables.apply(txn, self.revision + 1, lives) {
                    Ok(applied) => applied,
                    Err(e) => {
                        group.answers.push(Answer::Commit(reply, Err(fault(&e))));
                        return Err(e);
                    }
                };
                let result = match result {
                    Applied::Done(changes) => {
                        group.strict |= !relaxed;
                        self.committed(changes, group);
                        Ok(Outcome::Done(Revision(self.revision)))
                    }
                    Applied::Conflict(key, found) => Ok(Outcome::Conflict(key, found)),
                    Applied::NoLease => Err(StoreError::NoLease),
                };
                group.answers.push(Answer::Commit(reply, result));
            }
            Task::Grant(ttl, reply) => {
                let living = lock(&self.shared.leases).len() + group.granted.len();
                if living >= MAX_LEASES {
                    let why = format!("{living} leases live already, no more are given");
                    group.answers.push(Answer::Grant(reply, Err(StoreError::Invalid(why))));
                    return Ok(());
                }
                let id = self.next_lease;
                self.next_lease += 1;
                group.answers.push(Answer::Grant(reply, Ok(LeaseId(id))));
                group.granted.push((id, ttl));
                tables.grant(id, ttl.as_millis() as u64)?;
            }
            Task::Revoke(lease, reply) => {
                let id = lease.0;
                let granted = group.granted.iter().any(|(g, _)| *g == id);
                let lives = granted || lock(&self.shared.leases).lives(id);
                if !lives || group.ended.contains(&id) {
                    group.answers.push(Answer::Revoke(reply, Err(StoreError::NoLease)));
                    return Ok(());
                }
                group.answers.push(Answer::Revoke(reply, Ok(())));
                group.ended.push(id);
                group.strict = true;
                let changes = tables.end(id)?;
                self.committed(changes, group);
            }
            Task::Turn | Task::Stop => {}
        }
        Ok(())
    }

    fn committed(&mut self, changes: Vec<Change>, group: &mut Group) {
        if !changes.is_empty() {
            self.revision += 1;
            group.commits.push((self.revision, changes));
        }
    }

    /// The file took the group: everybody may know.
    fn settle(&self, group: &mut Group, now: Instant) {
        let mut leases = lock(&self.shared.leases);
        for (id, ttl) in &group.granted {
            leases.begin(*id, *ttl, now);
        }
        for id in &group.ended {
            leases.end(*id);
        }
        drop(leases);
        self.shared.hub.publish(std::mem::take(&mut group.commits));
    }

    /// Everything to the disk, and the note that all is in order.
    fn close(self) {
        self.shared.hub.close();
        if self.broken.is_some() {
            return;
        }
        let close = || -> Result<(), Error> {
            let write = self.shared.db.begin_write()?;
            write.open_table(META)?.insert(CLEAN, 1)?;
            write.commit()?;
            Ok(())
        };
        if let Err(e) = close() {
            tracing::warn!("{}: not closed in order: {e}", self.shared.name);
        }
    }
}
