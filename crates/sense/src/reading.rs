//! One look at the app, and the difference of two.
use crate::plan::{Group, Plan, Usage, Version};
use crate::{Root, SenseError, find, text};
use raddle_policy::limit::adaptive::Sample;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most processes of a cgroup that are counted one by one.
const MEMBERS_MOST: usize = 4096;

/// Counters as they were at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    spent: Spent,
    /// Cores the app may use.
    pub cores: f64,
    memory: Option<f64>,
    /// Microseconds in which something waited for a core.
    pressure: Option<u64>,
    throttled: Option<Throttled>,
}

/// CPU time.
#[derive(Clone, Debug, PartialEq)]
enum Spent {
    /// Microseconds of all.
    Group(u64),
    /// Start and ticks of each process.
    Processes(BTreeMap<u32, (u64, u64)>),
}

/// Periods of a quota.
#[derive(Clone, Debug, PartialEq)]
struct Throttled {
    of: PathBuf,
    periods: u64,
    throttled: u64,
}

impl Reading {
    /// Reads what the plan says.
    ///
    /// # Errors
    /// The CPU time cannot be read. What else cannot is not known.
    pub fn take(root: &Root, plan: &Plan) -> Result<Reading, SenseError> {
        let (spent, resident) = spent(root, &plan.usage)?;
        let tightest = tightest(root, &plan.quotas);
        let allowed = [cpus_of_process(root, plan), cpuset(root, plan), Some(root.cores())];
        let quota = tightest.as_ref().map(|(cores, _)| *cores);
        let cores = allowed.into_iter().chain([quota]).flatten().fold(f64::INFINITY, f64::min);
        Ok(Reading {
            spent,
            cores,
            memory: memory(root, plan, resident),
            pressure: plan
                .pressure
                .as_ref()
                .and_then(|g| text::pressure_some(&root.text(&g.file("cpu.pressure"))?)),
            throttled: tightest.and_then(|(_, group)| throttled(root, group)),
        })
    }

    /// The load between `earlier` and this, `apart` after it; absent if they are of different things.
    pub fn since(&self, earlier: &Reading, apart: Duration) -> Option<Sample> {
        let seconds = apart.as_secs_f64();
        let cpu = self.spent.since(&earlier.spent)? / seconds;
        let waited = self.pressure.zip(earlier.pressure).and_then(|(now, before)| now.checked_sub(before));
        let throttled = self.throttled.as_ref().zip(earlier.throttled.as_ref());
        Some(Sample {
            cpu,
            cores: self.cores,
            memory: self.memory,
            pressure: waited.map(|us| (us as f64 / 1e6 / seconds).min(1.0)),
            throttled: throttled.and_then(|(now, before)| now.since(before)),
        })
    }
}

impl Spent {
    /// Seconds.
    fn since(&self, earlier: &Spent) -> Option<f64> {
        match (self, earlier) {
            (Spent::Group(now), Spent::Group(before)) => Some(now.checked_sub(*before)? as f64 / 1e6),
            (Spent::Processes(now), Spent::Processes(before)) => {
                // One that came since then has its time counted from its next sample on.
                let both = now.iter().filter_map(|(pid, (start, ticks))| {
                    before.get(pid).filter(|(s, _)| s == start).map(|(_, t)| ticks.saturating_sub(*t))
                });
                let all: Vec<u64> = both.collect();
                let hz = rustix::param::clock_ticks_per_second().max(1) as f64;
                (!all.is_empty()).then(|| all.iter().sum::<u64>() as f64 / hz)
            }
            _ => None,
        }
    }
}

impl Throttled {
    fn since(&self, earlier: &Throttled) -> Option<f64> {
        let periods = self.periods.checked_sub(earlier.periods).filter(|_| self.of == earlier.of)?;
        let throttled = self.throttled.checked_sub(earlier.throttled)?;
        Some(if periods == 0 { 0.0 } else { (throttled as f64 / periods as f64).min(1.0) })
    }
}

/// CPU time, and of single processes what memory they have.
fn spent(root: &Root, usage: &Usage) -> Result<(Spent, Option<u64>), SenseError> {
    let nonsense = |path: PathBuf| SenseError::File(path, "does not say what CPU time was used".into());
    match usage {
        Usage::Group(Group { folder, version: Version::V2 }) => {
            let path = folder.join("cpu.stat");
            let us = text::keyed(&root.read(&path)?, "usage_usec").ok_or_else(|| nonsense(path))?;
            Ok((Spent::Group(us), None))
        }
        Usage::Group(Group { folder, version: Version::V1 }) => {
            let path = folder.join("cpuacct.usage");
            let ns = root.read(&path)?.trim().parse::<u64>().map_err(|_| nonsense(path))?;
            Ok((Spent::Group(ns / 1000), None))
        }
        Usage::Members(group) => {
            let path = group.file("cgroup.procs");
            let text = root.read(&path)?;
            let pids: Vec<u32> = text.lines().filter_map(|l| l.parse().ok()).take(MEMBERS_MOST).collect();
            Ok(of_processes(root, &pids))
        }
        Usage::Processes(pids) => match of_processes(root, pids) {
            (Spent::Processes(all), _) if all.is_empty() => {
                Err(SenseError::Ended(pids.first().copied().unwrap_or_default()))
            }
            known => Ok(known),
        },
    }
}

fn of_processes(root: &Root, pids: &[u32]) -> (Spent, Option<u64>) {
    let known = pids.iter().filter_map(|pid| Some((*pid, find::alive(root, *pid)?)));
    let all: BTreeMap<_, _> = known.map(|(pid, s)| (pid, (s.start, s.ticks))).collect();
    let resident = |pid: &u32| text::resident(&root.text(&find::proc(*pid, "status"))?);
    let memory = all.keys().filter_map(resident).fold(0u64, u64::saturating_add);
    (Spent::Processes(all), Some(memory))
}

/// The lowest quota, in cores, and whose it is.
fn tightest<'a>(root: &Root, groups: &'a [Group]) -> Option<(f64, &'a Group)> {
    let quota = |g: &Group| match g.version {
        Version::V2 => text::cpu_max(&root.text(&g.file("cpu.max"))?),
        Version::V1 => {
            let file = |name| root.text(&g.file(name));
            text::cfs_quota(&file("cpu.cfs_quota_us")?, &file("cpu.cfs_period_us")?)
        }
    };
    let all = groups.iter().filter_map(|g| Some((quota(g)?, g)));
    all.min_by(|(a, _), (b, _)| a.total_cmp(b))
}

fn throttled(root: &Root, group: &Group) -> Option<Throttled> {
    let stat = root.text(&group.file("cpu.stat"))?;
    let number = |name| text::keyed(&stat, name);
    let of = group.folder.clone();
    Some(Throttled { of, periods: number("nr_periods")?, throttled: number("nr_throttled")? })
}

fn cpus_of_process(root: &Root, plan: &Plan) -> Option<f64> {
    let status = root.text(&find::proc(plan.pid?, "status"))?;
    text::cpus_allowed(&status).map(f64::from)
}

fn cpuset(root: &Root, plan: &Plan) -> Option<f64> {
    let group = plan.cpuset.as_ref()?;
    let name = match group.version {
        Version::V2 => "cpuset.cpus.effective",
        Version::V1 => "cpuset.effective_cpus",
    };
    text::cpu_list(&root.text(&group.file(name))?).map(f64::from)
}

/// The share of what it may use: of its tightest bound, else of the machine's.
fn memory(root: &Root, plan: &Plan, resident: Option<u64>) -> Option<f64> {
    let machine = root.memory();
    let share = |used: u64, bound: u64| used as f64 / bound.max(1) as f64;
    let bounded = plan.memory.iter().filter_map(|g| {
        let bound = bound(root, g)?;
        Some(share(working_set(root, g)?, machine.map_or(bound, |m| m.min(bound))))
    });
    if let Some(tightest) = bounded.max_by(f64::total_cmp) {
        return Some(tightest);
    }
    let used = match plan.memory.first() {
        Some(group) if plan.memory_own => working_set(root, group),
        _ => resident,
    };
    Some(share(used?, machine?))
}

/// What a cgroup may use at most: where it is slowed down, or ended.
fn bound(root: &Root, group: &Group) -> Option<u64> {
    let number = |name: &str| text::bytes_bound(&root.text(&group.file(name))?);
    match group.version {
        Version::V2 => [number("memory.max"), number("memory.high")].into_iter().flatten().min(),
        Version::V1 => number("memory.limit_in_bytes"),
    }
}

/// What a cgroup uses, without pages of files that were not read lately: they are given back when somebody needs room.
fn working_set(root: &Root, group: &Group) -> Option<u64> {
    let (used, inactive) = match group.version {
        Version::V2 => ("memory.current", "inactive_file"),
        Version::V1 => ("memory.usage_in_bytes", "total_inactive_file"),
    };
    let used = root.text(&group.file(used))?.trim().parse::<u64>().ok()?;
    let stat = root.text(Path::new(&group.file("memory.stat"))).unwrap_or_default();
    Some(used.saturating_sub(text::keyed(&stat, inactive).unwrap_or(0)))
}
