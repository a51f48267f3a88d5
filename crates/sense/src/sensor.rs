//! The sensor: finds the app, keeps the last reading, makes samples.
use crate::http::Fetcher;
use crate::plan::{Plan, Usage};
use crate::reading::Reading;
use crate::{Root, SenseError, find};
use raddle_core::Time;
use raddle_model::LoadSignal;
use raddle_policy::limit::adaptive::Sample;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Two readings that are closer say nothing: counters of processes go by hundredths of a second.
const APART: Duration = Duration::from_millis(100);
/// An app that is not there is looked for again after this.
const SOON: Duration = Duration::from_secs(1);
/// One that cannot be seen, or an app of several processes, is looked for again after this: that walks over all
/// processes of the machine.
const LATER: Duration = Duration::from_secs(30);

/// Reads the load of the app beside the sidecar.
///
/// Blocks for as long as reading a few of the kernel's files takes; looking for the app walks over all processes.
#[derive(Debug)]
pub struct Sensor {
    root: Root,
    signal: LoadSignal,
    app: Vec<SocketAddr>,
    cores: Option<f64>,
    target: Option<Target>,
    last: Option<(Time, Reading)>,
    /// Why there is nothing, and when to look again.
    missing: Option<(SenseError, Time)>,
    fetcher: Option<Fetcher>,
    /// What the app's own word was, when.
    said: Option<Time>,
}

/// The app, found.
#[derive(Debug)]
struct Target {
    plan: Plan,
    /// The process it was found by and when that began.
    process: Option<(u32, u64)>,
    found: Time,
}

impl Sensor {
    /// A sensor for the app at these addresses; nothing is read yet. `cores` overrides what the app is seen to have.
    pub fn open(signal: &LoadSignal, app: &[SocketAddr], cores: Option<f64>) -> Sensor {
        Sensor::with_root(Root::default(), signal, app, cores)
    }

    /// The same with `/proc` and `/sys` below another folder, for tests.
    pub fn open_at(root: &Path, signal: &LoadSignal, app: &[SocketAddr], cores: Option<f64>) -> Sensor {
        Sensor::with_root(Root::at(root), signal, app, cores)
    }

    fn with_root(root: Root, signal: &LoadSignal, app: &[SocketAddr], cores: Option<f64>) -> Sensor {
        Sensor {
            root,
            signal: signal.clone(),
            app: app.to_vec(),
            cores: cores.filter(|c| c.is_finite() && *c > 0.0),
            target: None,
            last: None,
            missing: None,
            fetcher: None,
            said: None,
        }
    }

    /// The load since the last call; absent the first time, after the app was found anew, and if the signal is
    /// [`LoadSignal::Latency`].
    ///
    /// # Errors
    /// The load cannot be read: the next call tries again.
    pub fn sample(&mut self, now: Time) -> Result<Option<Sample>, SenseError> {
        match self.signal.clone() {
            LoadSignal::Latency => Ok(None),
            LoadSignal::Http(url) => self.ask(&url, now),
            LoadSignal::Auto | LoadSignal::Cgroup(_) | LoadSignal::PidFile(_) => self.look(now),
        }
    }

    /// What is read and from where, or why nothing is: one sentence without a full stop.
    pub fn describe(&self) -> String {
        let cores = self.cores.or_else(|| self.last.as_ref().map(|(_, r)| r.cores));
        match (&self.signal, &self.missing, &self.target) {
            (LoadSignal::Latency, ..) => {
                "nothing of the app is read, as the rule says: its latency alone counts".into()
            }
            (_, Some((why, _)), _) => format!("{why}; until then the app's latency alone counts"),
            (LoadSignal::Http(url), ..) => format!("what the app says of itself at {url}"),
            (_, None, Some(target)) => target.plan.describe(cores),
            (_, None, None) => "the app has not been looked for yet".into(),
        }
    }

    /// Whether something of the app can be read.
    pub fn sees(&self) -> bool {
        self.missing.is_none() && (self.target.is_some() || self.said.is_some())
    }

    fn look(&mut self, now: Time) -> Result<Option<Sample>, SenseError> {
        if let Some((why, until)) = &self.missing
            && now < *until
        {
            return Err(why.clone());
        }
        let read = self.target(now).and_then(|plan| Reading::take(&self.root, &plan));
        match read {
            Ok(reading) => {
                self.missing = None;
                Ok(self.difference(reading, now))
            }
            Err(why) => {
                let walked = matches!(why, SenseError::Hidden { .. } | SenseError::Elsewhere(_));
                self.missing = Some((why.clone(), now + if walked { LATER } else { SOON }));
                self.target = None;
                self.last = None;
                Err(why)
            }
        }
    }

    fn difference(&mut self, mut reading: Reading, now: Time) -> Option<Sample> {
        reading.cores = self.cores.unwrap_or(reading.cores);
        match &self.last {
            Some((at, _)) if now.since(*at) < APART => None,
            last => {
                let sample = last.as_ref().and_then(|(at, before)| reading.since(before, now.since(*at)));
                self.last = Some((now, reading));
                sample
            }
        }
    }

    /// What to read now; the app is looked for if it is not there any more.
    fn target(&mut self, now: Time) -> Result<Plan, SenseError> {
        if let Some(target) = &self.target
            && !self.stale(target, now)
        {
            return Ok(target.plan.clone());
        }
        let (pids, plan) = match &self.signal {
            LoadSignal::Cgroup(folder) => (Vec::new(), Plan::of_folder(&self.root, folder)?),
            LoadSignal::PidFile(file) => {
                let pid = find::of_file(&self.root, file)?;
                (vec![pid], Plan::of_processes(&self.root, &[pid]))
            }
            _ => {
                let pids = find::listeners(&self.root, &self.app)?;
                let plan = Plan::of_processes(&self.root, &pids);
                (pids, plan)
            }
        };
        let first = pids.first().copied();
        let process = first.and_then(|pid| Some((pid, find::alive(&self.root, pid)?.start)));
        self.target = Some(Target { plan: plan.clone(), process, found: now });
        Ok(plan)
    }

    /// Whether the app is to be looked for anew.
    fn stale(&self, target: &Target, now: Time) -> bool {
        let gone = target
            .process
            .is_some_and(|(pid, start)| find::alive(&self.root, pid).is_none_or(|stat| stat.start != start));
        // Processes come and go; a cgroup knows by itself.
        let counted_singly = matches!(target.plan.usage, Usage::Processes(_));
        gone || counted_singly && now.since(target.found) >= LATER
    }

    fn ask(&mut self, url: &str, now: Time) -> Result<Option<Sample>, SenseError> {
        let wrong = |why: String| SenseError::Http(url.to_owned(), why);
        if self.fetcher.is_none() {
            self.fetcher = Some(Fetcher::start(url).map_err(|e| wrong(e.to_string()))?);
        }
        match self.fetcher.as_ref().and_then(Fetcher::ask) {
            None => Ok(None),
            Some(Ok(word)) => {
                self.missing = None;
                self.said = Some(now);
                let cores = self.cores.or(word.cores).unwrap_or_else(|| self.root.cores());
                let cpu = word.cpu * cores;
                Ok(Some(Sample { cpu, cores, memory: word.memory, ..Sample::default() }))
            }
            Some(Err(why)) => {
                let why = wrong(why);
                self.missing = Some((why.clone(), now));
                Err(why)
            }
        }
    }
}
