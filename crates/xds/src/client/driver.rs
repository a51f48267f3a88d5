//! The task that ties the machine to the sockets.
use super::backoff::Backoff;
use super::cache::{self, Snapshot};
use super::handle::{Handle, Shared};
use super::machine::{Machine, Settings, Variant};
use super::transport::{self, Failure, Response, Responses};
use super::{Mode, Options, Sink, node};
use raddle_core::Time;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The cache is written this long after what it holds changed, and not more often.
const CACHE_EVERY: Duration = Duration::from_secs(2);
/// A stream that lived less did not prove that its server is well.
const PROVEN: Duration = Duration::from_secs(5);
/// With several servers, one that answers nothing for this long is left for another.
const SILENCE: Duration = Duration::from_secs(30);

/// Starts a client on the current tokio runtime.
///
/// # Panics
///
/// Outside of a tokio runtime.
pub fn spawn(options: Options, sink: impl Sink) -> Handle {
    let shared = Arc::new(Shared::default());
    let (closed, closes) = watch::channel(false);
    let handle = Handle::new(Arc::clone(&shared), closes);
    tokio::spawn(async move {
        let mut driver = Driver::new(options, shared, Box::new(sink));
        driver.restore().await;
        driver.run().await;
        driver.store_last().await;
        let _ = closed.send(true);
    });
    handle
}

struct Driver {
    options: Options,
    shared: Arc<Shared>,
    sink: Box<dyn Sink>,
    machine: Machine,
    backoff: Backoff,
    variant: Variant,
    began: Instant,
    cache_due: Option<Instant>,
    writing: Option<JoinHandle<()>>,
}

/// Why a wait or a stream ended.
enum End {
    /// The client shall end.
    Stopped,
    Failed(Failure),
    /// The wait is over.
    Elapsed,
}

impl Driver {
    fn new(mut options: Options, shared: Arc<Shared>, sink: Box<dyn Sink>) -> Driver {
        let mut backoff = Backoff::new(options.backoff, options.seed);
        backoff.shuffle(&mut options.targets);
        let machine = Machine::new(Settings {
            node: node::envoy(&options.node),
            rules: options.rules,
            roots: options.roots.clone(),
            listen: options.listen,
            unsubscribe_after: options.unsubscribe_after,
            warm: options.warm,
        });
        let variant = if options.mode == Mode::Sotw { Variant::Sotw } else { Variant::Delta };
        Driver {
            options,
            shared,
            sink,
            machine,
            backoff,
            variant,
            began: Instant::now(),
            cache_due: None,
            writing: None,
        }
    }

    /// Streams, one after the other, with waits between them.
    async fn run(&mut self) {
        let mut there = Instant::now();
        for turn in 0usize.. {
            let count = self.options.targets.len();
            let end = match self.options.targets.get(turn % count.max(1)).cloned() {
                Some(target) => self.stream(target).await,
                None => End::Failed(Failure::new("no control plane is configured")),
            };
            let End::Failed(failure) = end else { return };
            let hint = failure.hint;
            if failure.unknown && self.options.mode == Mode::Auto && self.variant == Variant::Delta {
                self.variant = Variant::Sotw;
            }
            if self.backoff.failures() == 0 {
                there = Instant::now();
            }
            let wait = self.backoff.failed(hint, there.elapsed());
            tracing::warn!(reason = failure.reason, wait = ?wait, "no control plane");
            {
                let mut inside = self.shared.lock();
                inside.status.connected = None;
                inside.status.since = None;
                inside.status.last_error = Some(failure.reason);
                inside.status.failures = self.backoff.failures();
            }
            if matches!(self.wait(wait).await, End::Stopped) {
                return;
            }
        }
    }

    /// A stream's life. Ends with a failure, or because the client ends.
    async fn stream(&mut self, target: super::Target) -> End {
        let (sender, messages) = mpsc::channel(transport::QUEUE);
        let opening = transport::open(target.clone(), self.variant, messages);
        tokio::pin!(opening);
        let mut responses: Option<Responses> = None;
        let mut said = None;
        let opened = Instant::now();
        self.machine.connected(self.variant);
        let end = loop {
            if !self.turn() {
                break End::Stopped;
            }
            let (speaks, listens) = (self.machine.speaks(), self.machine.listens());
            let silence = said.filter(|_| !self.machine.delivered() && self.options.targets.len() > 1);
            tokio::select! {
                result = &mut opening, if responses.is_none() => match result {
                    Ok(stream) => {
                        self.connected(&target);
                        responses = Some(stream);
                    }
                    Err(failure) => break End::Failed(failure),
                },
                response = next(&mut responses), if responses.is_some() && listens => match response {
                    Ok(response) => self.response(response, opened),
                    Err(failure) => break End::Failed(failure),
                },
                permit = sender.reserve(), if speaks => match permit {
                    Ok(permit) => if let Some(message) = self.machine.next_message(self.now()) {
                        said.get_or_insert_with(Instant::now);
                        permit.send(message);
                    },
                    // The stream took its messages no more; why comes with its end.
                    Err(_) if responses.is_none() => break End::Failed((&mut opening).await.err()
                        .unwrap_or_else(|| Failure::new("the stream ended"))),
                    Err(_) => break End::Failed(match next(&mut responses).await {
                        Err(failure) => failure,
                        Ok(_) => Failure::new("the server takes nothing any more"),
                    }),
                },
                () = until(silence.map(|said| said + SILENCE)) => {
                    break End::Failed(Failure::new(format!("{}: nothing came within {SILENCE:?}", target.uri)));
                }
                () = self.shared.woken() => {}
                () = until(self.due()) => {}
            }
        };
        self.machine.disconnected();
        if self.machine.delivered() && opened.elapsed() >= PROVEN {
            self.backoff.succeeded();
        }
        end
    }

    /// Waits, while wishes and timers go on.
    async fn wait(&mut self, wait: Duration) -> End {
        let over = Instant::now() + wait;
        loop {
            if !self.turn() {
                return End::Stopped;
            }
            tokio::select! {
                () = tokio::time::sleep_until(over) => return End::Elapsed,
                () = self.shared.woken() => {}
                () = until(self.due()) => {}
            }
        }
    }

    /// Takes wishes, does what time brings, tells how it is. False = the client shall end.
    fn turn(&mut self) -> bool {
        let Some(wishes) = self.shared.take() else { return false };
        let now = self.now();
        for (name, wanted) in wishes {
            self.machine.wish(&name, wanted, now);
        }
        if self.machine.deadline().is_some_and(|at| at <= now) {
            self.machine.tick(now, &mut |update| self.sink.apply(update));
        }
        self.machine.report(&mut self.shared.lock().status);
        if self.options.cache.is_some() {
            if self.machine.stale() {
                self.cache_due.get_or_insert(Instant::now() + CACHE_EVERY);
            }
            if self.cache_due.is_some_and(|due| due <= Instant::now()) {
                self.store();
            }
        }
        true
    }

    fn connected(&mut self, target: &super::Target) {
        tracing::info!(target.uri, "connected to the control plane");
        let mut inside = self.shared.lock();
        inside.status.connected = Some(target.uri.clone());
        inside.status.since = Some(SystemTime::now());
        inside.status.streams += 1;
        inside.status.mode = match self.variant {
            Variant::Delta => Mode::Delta.name(),
            Variant::Sotw => Mode::Sotw.name(),
        };
    }

    fn response(&mut self, response: Response, opened: Instant) {
        let now = self.now();
        match response {
            Response::Delta(response) => {
                self.machine.response(response, now, &mut |update| self.sink.apply(update));
            }
            Response::Sotw(response) => {
                self.machine.response(response, now, &mut |update| self.sink.apply(update));
            }
        }
        if self.machine.delivered() && self.backoff.failures() > 0 && opened.elapsed() >= PROVEN {
            self.backoff.succeeded();
            self.shared.lock().status.failures = 0;
        }
    }

    fn now(&self) -> Time {
        Time::ZERO + self.began.elapsed()
    }

    /// When `turn` has something to do next.
    fn due(&self) -> Option<Instant> {
        let timer = self.machine.deadline().map(|at| self.began + at.since(Time::ZERO));
        let cache = self.cache_due.filter(|_| self.writing.as_ref().is_none_or(JoinHandle::is_finished));
        timer.into_iter().chain(cache).min()
    }

    /// Begins with what the cache holds.
    async fn restore(&mut self) {
        let Some(path) = self.options.cache.clone() else { return };
        let app = self.options.node.app.clone();
        let shown = path.display().to_string();
        let read = tokio::task::spawn_blocking(move || cache::read(&path, &app)).await;
        match read {
            Ok(Ok(Some(Snapshot { names, stored }))) => {
                let now = self.now();
                self.machine.restore(&names, stored, now, &mut |update| self.sink.apply(update));
                // It is on the disk already.
                self.machine.stale();
            }
            Ok(Ok(None)) => {}
            Ok(Err(reason)) => tracing::warn!(path = shown, reason, "the cache is not used"),
            Err(e) => tracing::warn!(path = shown, reason = %e, "the cache is not used"),
        }
    }

    /// Writes the cache on another thread, unless that is still going on.
    fn store(&mut self) {
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            self.cache_due = Some(Instant::now() + CACHE_EVERY);
            return;
        }
        self.cache_due = None;
        let Some(path) = self.options.cache.clone() else { return };
        let (names, stored) = self.machine.stored();
        let app = self.options.node.app.clone();
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let written = cache::encode(&app, &Snapshot { names, stored })
                .and_then(|bytes| cache::write(&path, &bytes));
            if let Err(e) = written {
                tracing::warn!(path = %path.display(), reason = %e, "the cache is not written");
            }
        }));
    }

    /// Writes what the cache does not have yet.
    async fn store_last(&mut self) {
        if let Some(writing) = self.writing.take() {
            let _ = writing.await;
        }
        if self.cache_due.is_some() || self.machine.stale() {
            self.store();
        }
        if let Some(writing) = self.writing.take() {
            let _ = writing.await;
        }
    }
}

async fn next(responses: &mut Option<Responses>) -> Result<Response, Failure> {
    match responses {
        Some(responses) => responses.next().await,
        None => std::future::pending().await,
    }
}

/// Sleeps until then; for ever, if there is no then.
async fn until(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}
