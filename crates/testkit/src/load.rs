//! Callers in the background, who check every reply.
use crate::client::BoltClient;
use crate::frame::Ask;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the callers of a [`Load`] send: the connection's number and the request's, to a request.
pub type Make = Arc<dyn Fn(usize, u32) -> Ask + Send + Sync>;

/// Callers on connections of their own, each sending a batch, reading its replies, and resting a moment.
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
    /// Of those that ended.
    reports: Arc<Mutex<LoadReport>>,
}

/// What came of a load.
#[derive(Clone, Debug, Default)]
pub struct LoadReport {
    /// Requests sent.
    pub sent: u64,
    /// Replies with success, the right id and the request's own content.
    pub ok: u64,
    /// Everything else, by what it was: `status/flag`, `wrong content`, or the connection's error.
    pub failed: BTreeMap<String, u64>,
    /// The longest wait for a reply.
    pub slowest: Duration,
}

impl LoadReport {
    fn merge(&mut self, other: LoadReport) {
        self.sent += other.sent;
        self.ok += other.ok;
        self.slowest = self.slowest.max(other.slowest);
        for (k, n) in other.failed {
            *self.failed.entry(k).or_default() += n;
        }
    }

    pub(crate) fn fail(&mut self, what: impl Into<String>) {
        *self.failed.entry(what.into()).or_default() += 1;
    }

    /// Fails the test unless every request was answered rightly.
    #[track_caller]
    pub fn expect_all_ok(&self) {
        assert!(self.failed.is_empty() && self.ok == self.sent && self.sent > 0, "{self:?}");
    }
}

impl Load {
    /// `connections` callers of a service, `depth` requests in a batch.
    pub fn on(addr: SocketAddr, service: &str, connections: usize, depth: u32) -> Load {
        let service = service.to_owned();
        let make = move |c: usize, n: u32| {
            Ask::to(&service).content(crate::frame::noise((c as u64) << 32 | u64::from(n), 100))
        };
        Load::with(addr, connections, depth, Arc::new(make))
    }

    /// The same with requests of the test's own; their ids are set here.
    pub fn with(addr: SocketAddr, connections: usize, depth: u32, make: Make) -> Load {
        Load::of(connections, move |c, stop, done| run(addr, c, depth, &make, stop, done))
    }

    /// Callers of any kind: `run` is one, by its number, until it is told to stop; it counts its replies.
    pub(crate) fn of(
        connections: usize,
        run: impl Fn(usize, &AtomicBool, &AtomicU64) -> LoadReport + Send + Sync + 'static,
    ) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let run = Arc::new(run);
        let reports = Arc::new(Mutex::new(LoadReport::default()));
        let threads = (0..connections)
            .map(|c| {
                let (stop, done, run, reports) = (stop.clone(), done.clone(), run.clone(), reports.clone());
                std::thread::spawn(move || {
                    let report = run(c, &stop, &done);
                    reports.lock().unwrap_or_else(PoisonError::into_inner).merge(report);
                })
            })
            .collect();
        Load { stop, done, threads, reports }
    }

    /// Replies so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits until `n` more replies have come. A caller that ended before it was told to fails the test.
    #[track_caller]
    pub fn goes_on(&self, n: u64) {
        let from = self.done();
        crate::until(crate::PATIENCE, "the load goes on", || {
            let ended = self.threads.iter().filter(|t| t.is_finished()).count();
            assert!(ended == 0, "{ended} callers ended: {:?}", self.report());
            self.done() >= from + n
        });
    }

    fn report(&self) -> LoadReport {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it after the batches under way.
    pub fn stop(self) -> LoadReport {
        self.stop.store(true, Ordering::Release);
        for t in self.threads {
            if let Err(e) = t.join() {
                std::panic::resume_unwind(e);
            }
        }
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn run(
    addr: SocketAddr,
    c: usize,
    depth: u32,
    make: &Make,
    stop: &AtomicBool,
    done: &AtomicU64,
) -> LoadReport {
    let mut r = LoadReport::default();
    let mut client = match BoltClient::try_connect(addr) {
        Ok(c) => c,
        Err(e) => {
            r.sent += 1;
            r.fail(format!("connect: {:?}", e.kind()));
            return r;
        }
    };
    let mut n = 0u32;
    while !stop.load(Ordering::Acquire) {
        let mut waiting = HashMap::new();
        let mut out = Vec::new();
        let began = Instant::now();
        for _ in 0..depth {
            n += 1;
            let ask = make(c, n).id(n);
            out.extend(ask.bytes());
            waiting.insert(n, ask);
        }
        r.sent += u64::from(depth);
        if let Err(e) = std::io::Write::write_all(&mut client.stream, &out) {
            r.fail(format!("send: {:?}", e.kind()));
            return r;
        }
        while !waiting.is_empty() {
            let f = match client.try_next() {
                Ok(Some(f)) => f,
                Ok(None) => {
                    r.fail(format!("end of stream with {} in flight", waiting.len()));
                    return r;
                }
                Err(e) => {
                    r.fail(format!("{:?} with {} in flight", e.kind(), waiting.len()));
                    return r;
                }
            };
            done.fetch_add(1, Ordering::Relaxed);
            r.slowest = r.slowest.max(began.elapsed());
            match waiting.remove(&f.head.id) {
                None => r.fail("reply to a request that was not asked"),
                Some(_) if f.head.status != 0 => {
                    r.fail(format!("{}/{}", f.head.status, f.flag().unwrap_or_default()));
                }
                Some(ask) if ask.content == f.content() && f.crc_is_right() => r.ok += 1,
                Some(_) => r.fail("wrong content"),
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    r
}
