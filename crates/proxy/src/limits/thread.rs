//! The thread `limits`: once a second it reads the app's load, has the controller decide, and tells people.
//!
//! It sleeps for good while there is no rule of adaptive limiting; a configuration that brings one wakes it.
use super::{Limiting, app};
use crate::shared::Shared;
use raddle_core::Time;
use raddle_model::{LoadSignal, RuleMode};
use raddle_policy::limit::adaptive::{self, Controller, Kind, Sample};
use raddle_sense::{SenseError, Sensor};
use raddle_telemetry::{Event, Severity};
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::Thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often is decided.
const EVERY: Duration = Duration::from_secs(1);
/// Cuts and rises are events no more often than this; in between they are in the log at level debug.
const STEPS_APART: Duration = Duration::from_secs(10);
/// An app that does not start within this is an event, as what is out of reach for good is at once.
const PATIENCE: Duration = Duration::from_secs(30);
const MINUTES_OF_WEEK: u64 = 7 * 24 * 60;
/// The Unix epoch was a Thursday.
const MINUTES_FROM_MONDAY: u64 = 3 * 24 * 60;

/// Wakes the thread.
#[derive(Debug, Default)]
pub struct Bell {
    thread: OnceLock<Thread>,
    over: AtomicBool,
}

impl Bell {
    /// There may be another rule.
    pub fn ring(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// The sidecar has ended.
    pub fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.ring();
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.ring();
    }
}

/// What is read of the app, for pages.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sensing {
    /// Whether anything is: else the app's latency alone counts.
    pub sees: bool,
    /// What and from where, or why not; a sentence without a full stop.
    pub from: String,
    /// What it said last.
    pub sample: Option<Sample>,
}

/// Starts the thread. It ends with the sidecar.
pub(crate) fn start(shared: &Arc<Shared>) -> std::io::Result<()> {
    let weak = Arc::downgrade(shared);
    let thread = std::thread::Builder::new().name("limits".into()).spawn(move || run(&weak))?;
    let _ = shared.limiter.thread.set(thread.thread().clone());
    // It may have looked before it could be woken.
    shared.limiter.ring();
    Ok(())
}

fn run(weak: &Weak<Shared>) {
    let mut keeper: Option<Keeper> = None;
    loop {
        let Some(shared) = weak.upgrade() else { return };
        if shared.limiter.over.load(Ordering::Acquire) {
            return;
        }
        let now = shared.clock.now();
        let wait = match shared.limits.load_full() {
            None => {
                if let Some(keeper) = keeper.take() {
                    keeper.gone(&shared);
                }
                None
            }
            Some(limiting) => {
                let keeper = match keeper.take() {
                    None => Keeper::new(limiting, &shared, now),
                    Some(mut before) => {
                        before.follow(limiting, &shared);
                        before
                    }
                };
                Some(keeper_turn(keeper, &shared, now))
            }
        };
        drop(shared);
        match wait {
            None => std::thread::park(),
            Some((next, wait)) => {
                keeper = Some(next);
                std::thread::park_timeout(wait);
            }
        }
    }
}

fn keeper_turn(mut keeper: Keeper, shared: &Shared, now: Time) -> (Keeper, Duration) {
    if keeper.pace.due(now) {
        keeper.turn(shared, now, wall_seconds());
    }
    let wait = keeper.pace.wait(shared.clock.now());
    (keeper, wait)
}

fn wall_seconds() -> Option<u64> {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|d| d.as_secs())
}

/// Minutes since some Monday's midnight, below a week's.
fn week_minute(wall_seconds: u64) -> u32 {
    ((wall_seconds / 60 + MINUTES_FROM_MONDAY) % MINUTES_OF_WEEK) as u32
}

/// When it is time: every second from the first on, however long a turn took; what was slept through is left out.
#[derive(Clone, Copy, Debug)]
struct Pace {
    next: Time,
}

impl Pace {
    fn due(&mut self, now: Time) -> bool {
        if now < self.next {
            return false;
        }
        self.next = self.next + EVERY;
        if self.next <= now {
            self.next = now + EVERY;
        }
        true
    }

    fn wait(self, now: Time) -> Duration {
        self.next.since(now)
    }
}

/// A rule that is kept: its controller, and the sensor that it asked for.
struct Keeper {
    limiting: Arc<Limiting>,
    controller: Controller,
    sensor: Sensor,
    app: Vec<SocketAddr>,
    pace: Pace,
    /// What people were told last of what is read of the app.
    told: Told,
    /// Since when nothing was read; absent = something was.
    blind: Option<Time>,
    stepped: Option<Time>,
}

/// What people were told of what is read.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Nothing,
    Sees,
    Blind(String),
}

impl Keeper {
    fn new(limiting: Arc<Limiting>, shared: &Shared, now: Time) -> Keeper {
        let app = app::addresses(&shared.config.load());
        let mut controller = Controller::new(limiting.board.clone(), &limiting.settings);
        controller.configure(&limiting.settings);
        Keeper {
            sensor: sensor(&limiting, &app),
            controller,
            app,
            limiting,
            pace: Pace { next: now },
            told: Told::Nothing,
            blind: Some(now),
            stepped: None,
        }
    }

    /// Goes on with the rule as it is now. What was learnt stays as long as it is about the same things.
    fn follow(&mut self, limiting: Arc<Limiting>, shared: &Shared) {
        let app = app::addresses(&shared.config.load());
        if Arc::ptr_eq(&limiting, &self.limiting) && app == self.app {
            return;
        }
        let same_board = Arc::ptr_eq(&limiting.board, &self.limiting.board);
        if !same_board {
            self.controller = Controller::new(limiting.board.clone(), &limiting.settings);
        }
        self.controller.configure(&limiting.settings);
        let asked = |l: &Limiting| (l.settings.signal.clone(), l.settings.cores);
        if asked(&limiting) != asked(&self.limiting) || app != self.app {
            self.sensor = sensor(&limiting, &app);
            self.told = Told::Nothing;
        }
        (self.limiting, self.app) = (limiting, app);
    }

    fn turn(&mut self, shared: &Shared, now: Time, wall: Option<u64>) {
        let pretended = self.limiting.pretended.load_full();
        let read = match &pretended {
            Some(sample) => Ok(Some(**sample)),
            None => self.sensor.sample(now),
        };
        self.tell_sensing(shared, now, &read, pretended.is_some());
        let sample = read.ok().flatten();
        let cells = &shared.registry.adaptive;
        if sample.is_none() && self.limiting.settings.signal != LoadSignal::Latency {
            cells.samples_missing.inc();
        }
        let events = self.controller.tick(now, wall.map(week_minute), sample.as_ref());
        for event in &events {
            if event.kind == Kind::Began {
                cells.activations.inc();
            }
            self.tell(shared, now, event);
        }
        let view = self.controller.view();
        let observes = self.limiting.settings.mode == RuleMode::Observe;
        cells.active.set((view.active && !observes).into());
        cells.would_be_active.set((view.active && observes).into());
        cells.culprits.set(view.culprits.len() as i64);
        cells.interfaces.set(view.interfaces as i64);
        cells.queue.set(view.level.q);
        cells.cpu.set(view.level.cpu);
        self.limiting.view.store(Some(Arc::new(view)));
        let sensing = Sensing {
            sees: pretended.is_some() || self.sensor.sees(),
            from: if pretended.is_some() {
                "a sample that a test pretends".into()
            } else {
                self.sensor.describe()
            },
            sample,
        };
        self.limiting.sensing.store(Some(Arc::new(sensing)));
        // The control plane is told of it at once.
        if let Some(link) = shared.mesh.get().filter(|_| !events.is_empty()) {
            link.changed.notify_one();
        }
    }

    /// Says once what is read of the app, or that nothing is.
    fn tell_sensing(
        &mut self,
        shared: &Shared,
        now: Time,
        read: &Result<Option<Sample>, SenseError>,
        pretended: bool,
    ) {
        match read {
            Ok(Some(_)) => {
                self.blind = None;
                if self.told != Told::Sees && !pretended {
                    self.told = Told::Sees;
                    self.note(
                        shared,
                        "limit_signal",
                        Severity::Info,
                        format!("reads {}", self.sensor.describe()),
                    );
                }
            }
            // Between two readings; or nothing is to be read.
            Ok(None) => {
                let meant = self.limiting.settings.signal == LoadSignal::Latency;
                if meant && self.told == Told::Nothing {
                    self.told = Told::Blind(String::new());
                    self.note(shared, "limit_signal", Severity::Info, self.sensor.describe());
                }
            }
            Err(why) => {
                let since = *self.blind.get_or_insert(now);
                let said = Told::Blind(why.to_string());
                if (why.passes() && now.since(since) < PATIENCE) || self.told == said {
                    return;
                }
                self.told = said;
                let text = format!(
                    "{why}; until then the app's latency alone says whether it is short of something"
                );
                self.note(shared, "limit_signal", Severity::Warning, text);
            }
        }
    }

    /// Tells people what the controller did.
    fn tell(&mut self, shared: &Shared, now: Time, event: &adaptive::Event) {
        let (kind, severity) = match event.kind {
            Kind::Began => ("limit_began", Severity::Warning),
            Kind::Culprits => ("limit_culprits", Severity::Warning),
            Kind::Cut => ("limit_cut", Severity::Info),
            Kind::Restored => ("limit_restored", Severity::Info),
            Kind::Ended => ("limit_ended", Severity::Info),
            Kind::Signal => ("limit_signal", Severity::Info),
        };
        if matches!(event.kind, Kind::Cut | Kind::Restored) {
            if self.stepped.is_some_and(|at| now.since(at) < STEPS_APART) {
                tracing::debug!(rule = &*self.limiting.rule, kind, "{}", event.text);
                return;
            }
            self.stepped = Some(now);
        }
        let told = Event::new(kind, severity, &*self.limiting.rule, &*event.text);
        let told = if event.activation == 0 { told } else { told.with("activation", event.activation) };
        shared.events.record(told);
    }

    fn note(&self, shared: &Shared, kind: &'static str, severity: Severity, text: String) {
        shared.events.record(Event::new(kind, severity, &*self.limiting.rule, text));
    }

    /// The rule is gone, and with it all that it held.
    fn gone(self, shared: &Shared) {
        let cells = &shared.registry.adaptive;
        cells.active.set(0);
        cells.would_be_active.set(0);
        cells.culprits.set(0);
        cells.interfaces.set(0);
        cells.queue.set(0.0);
        cells.cpu.set(0.0);
        if self.controller.view().active {
            let is = if self.limiting.settings.mode == RuleMode::Observe { "would be" } else { "is" };
            let text = format!("the rule is gone: nothing {is} held any more");
            self.note(shared, "limit_ended", Severity::Info, text);
        }
    }
}

fn sensor(limiting: &Limiting, app: &[SocketAddr]) -> Sensor {
    Sensor::open(&limiting.settings.signal, app, limiting.settings.cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_is_kept_however_long_a_turn_takes() {
        let mut pace = Pace { next: Time::from_millis(5000) };
        assert!(!pace.due(Time::from_millis(4999)));
        assert!(pace.due(Time::from_millis(5030)));
        assert_eq!(pace.wait(Time::from_millis(5200)), Duration::from_millis(800));
        assert!(pace.due(Time::from_millis(6000)));
        // What was slept through is not made up for.
        assert!(pace.due(Time::from_millis(60_500)));
        assert!(!pace.due(Time::from_millis(60_501)));
        assert_eq!(pace.wait(Time::from_millis(60_500)), Duration::from_secs(1));
    }

    #[test]
    fn weeks_begin_on_monday() {
        // 2024-01-01 was a Monday.
        assert_eq!(week_minute(1_704_067_200), 0);
        assert_eq!(week_minute(1_704_067_200 + 60 * 61), 61);
        assert_eq!(week_minute(1_704_067_200 - 60), 7 * 24 * 60 - 1);
    }
}
