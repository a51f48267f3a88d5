//! What of an app is read: which cgroup's or processes' CPU time, whose quotas, memory and pressure.
//!
//! Each controller of version 1 has a hierarchy of its own, and in hybrid setups an app can have a cgroup to itself in
//! one and share that of the whole machine in another. So each is decided by itself.
use crate::table::{Cgroups, Mount, cgroup_mounts};
use crate::{Root, SenseError, find};
use std::path::{Path, PathBuf};

/// A version of the kernel's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy for each controller.
    V1,
    /// One for all.
    V2,
}

/// A cgroup's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Where.
    pub folder: PathBuf,
    /// Of which version.
    pub version: Version,
}

impl Group {
    /// A file of it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Whose CPU time is the app's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usage {
    /// All in a cgroup and in those below.
    Group(Group),
    /// The processes in a cgroup, one by one: what it counts by itself is not known.
    Members(Group),
    /// These processes.
    Processes(Vec<u32>),
}

/// What of an app is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whose CPU time.
    pub usage: Usage,
    /// Quotas that hold, that of the app's own cgroup first, those of its parents after it.
    pub quotas: Vec<Group>,
    /// Bounds of memory that hold, likewise.
    pub memory: Vec<Group>,
    /// Whether the first of them counts the app's memory and no other's.
    pub memory_own: bool,
    /// Cgroup of the app's own that knows how long something waited for a core.
    pub pressure: Option<Group>,
    /// Process whose allowed CPUs bound it.
    pub pid: Option<u32>,
    /// Folder whose cpuset bounds it.
    pub cpuset: Option<Group>,
}

/// The cgroups mounted here.
struct Hierarchies {
    mounts: Vec<Mount>,
    own: Cgroups,
}

impl Hierarchies {
    fn read(root: &Root) -> Hierarchies {
        let mounts = root.text(Path::new("/proc/self/mountinfo")).unwrap_or_default();
        let own = root.text(Path::new("/proc/self/cgroup")).unwrap_or_default();
        Hierarchies { mounts: cgroup_mounts(&mounts), own: Cgroups::read(&own) }
    }

    fn mount(&self, controller: Option<&str>) -> impl Iterator<Item = &Mount> {
        self.mounts.iter().filter(move |m| match controller {
            Some(c) => m.controllers.iter().any(|own| own == c),
            None => m.controllers.is_empty(),
        })
    }

    /// The cgroup's folder and those above it, as far as they are mounted, and whether it is without this process.
    fn levels(&self, app: &Cgroups, controller: Option<&str>) -> Option<(Vec<Group>, bool)> {
        let of = |c: &'_ Cgroups| controller.map_or_else(|| c.v2(), |name| c.v1(name)).map(Path::to_owned);
        let path = of(app)?;
        let (mount, folder) = self.mount(controller).find_map(|m| Some((m, m.folder(&path)?)))?;
        let version = if controller.is_some() { Version::V1 } else { Version::V2 };
        let shared = of(&self.own).is_none_or(|own| own.starts_with(&path));
        Some((up(&folder, &mount.at, version), !shared))
    }
}

/// A folder and those above it, up to where the hierarchy is mounted.
fn up(folder: &Path, top: &Path, version: Version) -> Vec<Group> {
    let all = folder.ancestors().take_while(|f| f.starts_with(top));
    all.map(|f| Group { folder: f.to_owned(), version }).collect()
}

impl Plan {
    /// For an app of these processes; the first is who says where it is.
    pub fn of_processes(root: &Root, pids: &[u32]) -> Plan {
        let h = Hierarchies::read(root);
        let first = pids.first().copied();
        let text = first.and_then(|pid| root.text(&find::proc(pid, "cgroup"))).unwrap_or_default();
        let app = Cgroups::read(&text);
        let v2 = h.levels(&app, None);
        let cpuacct = h.levels(&app, Some("cpuacct"));
        let own = |levels: &Option<(Vec<Group>, bool)>, file: &str| {
            let (levels, own) = levels.as_ref()?;
            levels.first().filter(|g| *own && root.text(&g.file(file)).is_some()).cloned()
        };
        let usage = own(&v2, "cpu.stat").or_else(|| own(&cpuacct, "cpuacct.usage"));
        let pressure = own(&v2, "cpu.pressure");
        let levels_of = |controller| h.levels(&app, Some(controller)).or_else(|| v2.clone());
        let (memory, memory_own) = levels_of("memory").unwrap_or_default();
        Plan {
            usage: usage.map_or_else(|| Usage::Processes(find::with_children(root, pids)), Usage::Group),
            quotas: levels_of("cpu").map_or_else(Vec::new, |(levels, _)| levels),
            memory,
            memory_own,
            pressure,
            pid: first,
            cpuset: None,
        }
    }

    /// For an app that has a cgroup's folder.
    ///
    /// # Errors
    /// It is not there, or is none.
    pub fn of_folder(root: &Root, folder: &Path) -> Result<Plan, SenseError> {
        let wrong = |why: &str| SenseError::File(folder.to_owned(), why.to_owned());
        if !root.is_folder(folder) {
            return Err(wrong("there is no such folder"));
        }
        if root.text(&folder.join("cgroup.procs")).is_none() {
            return Err(wrong("is not the folder of a cgroup: it has no cgroup.procs"));
        }
        let h = Hierarchies::read(root);
        // The innermost mount: a folder can be below several, `tmpfs` at /sys/fs/cgroup apart.
        let below = h.mounts.iter().filter(|m| folder.starts_with(&m.at));
        let mount = below.max_by_key(|m| m.at.components().count());
        let version = match mount {
            Some(m) if m.controllers.is_empty() => Version::V2,
            Some(_) => Version::V1,
            None if root.text(&folder.join("cgroup.controllers")).is_some() => Version::V2,
            None => Version::V1,
        };
        let top = mount.map_or(folder, |m| m.at.as_path());
        let inside = folder.strip_prefix(top).unwrap_or(Path::new(""));
        let here = up(folder, top, version);
        if version == Version::V2 {
            let group = here[0].clone();
            return Ok(Plan {
                usage: Usage::Group(group.clone()),
                quotas: here.clone(),
                memory: here,
                memory_own: true,
                pressure: Some(group.clone()),
                pid: None,
                cpuset: Some(group),
            });
        }
        // The folders of the same name in the hierarchies of other controllers.
        let beside = |controller: &str| {
            let there = h.mount(Some(controller)).map(|m| (m.at.join(inside), m.at.clone()));
            let mut there =
                there.filter(|(f, _)| f == folder || root.is_folder(f) && f.file_name().is_some());
            let (folder, top) = there.next()?;
            Some(up(&folder, &top, Version::V1))
        };
        let first = |levels: Option<Vec<Group>>| levels.and_then(|l| l.into_iter().next());
        let cpuacct = first(beside("cpuacct")).unwrap_or_else(|| here[0].clone());
        let counted = root.text(&cpuacct.file("cpuacct.usage")).is_some();
        // One that nobody put the app into counts nothing.
        let peopled = cpuacct.folder == folder || has_members(root, &cpuacct);
        let usage = if counted && peopled { Usage::Group(cpuacct) } else { Usage::Members(here[0].clone()) };
        let memory = beside("memory").unwrap_or_default();
        let memory_own = memory.first().is_some_and(|g| g.folder == folder || has_members(root, g));
        Ok(Plan {
            usage,
            quotas: beside("cpu").unwrap_or(here),
            memory: if memory_own { memory } else { Vec::new() },
            memory_own,
            pressure: None,
            pid: None,
            cpuset: first(beside("cpuset")),
        })
    }

    /// What is read, for people; `cores` as it was read.
    pub fn describe(&self, cores: Option<f64>) -> String {
        let mut text = match &self.usage {
            Usage::Group(g) => format!("CPU time of cgroup {} ({})", g.folder.display(), version(g)),
            Usage::Members(g) => format!("CPU time of the processes in cgroup {}", g.folder.display()),
            Usage::Processes(pids) => format!("CPU time of process {}", some(pids)),
        };
        if let (Usage::Group(_), Some(pid)) = (&self.usage, self.pid) {
            text += &format!(" of process {pid}");
        }
        let alone = !matches!(self.usage, Usage::Processes(_)) || self.pid.is_none();
        if !alone {
            text += ", as no cgroup that can be read is its alone";
        }
        if let Some(cores) = cores {
            text += &format!(", of {} cores", (cores * 100.0).round() / 100.0);
        }
        let also = [
            (self.pressure.is_some(), "pressure"),
            (!self.quotas.is_empty(), "quota and throttling"),
            (!self.memory.is_empty(), "memory"),
        ];
        let also: Vec<_> = also.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect();
        if !also.is_empty() {
            let whose = if alone { "its cgroup" } else { "the cgroup it is in, which others share" };
            text += &format!("; {} of {whose}", also.join(", "));
        }
        text
    }
}

fn has_members(root: &Root, group: &Group) -> bool {
    root.text(&group.file("cgroup.procs")).is_some_and(|t| !t.trim().is_empty())
}

const fn version(group: &Group) -> &'static str {
    match group.version {
        Version::V1 => "version 1",
        Version::V2 => "version 2",
    }
}

fn some(pids: &[u32]) -> String {
    let first: Vec<String> = pids.iter().take(3).map(u32::to_string).collect();
    let more = pids.len().saturating_sub(3);
    first.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_cgroup_is_not_called_the_apps_own() {
        let group = Group { folder: "/sys/fs/cgroup/a".into(), version: Version::V2 };
        let mut plan = Plan {
            usage: Usage::Processes(vec![7]),
            quotas: vec![group.clone()],
            memory: vec![group.clone()],
            memory_own: false,
            pressure: None,
            pid: Some(7),
            cpuset: None,
        };
        assert_eq!(
            plan.describe(Some(2.0)),
            "CPU time of process 7, as no cgroup that can be read is its alone, of 2 cores; quota and throttling, memory \
             of the cgroup it is in, which others share"
        );
        plan.usage = Usage::Group(group);
        let own = "CPU time of cgroup /sys/fs/cgroup/a (version 2) of process 7; quota and throttling, memory of its cgroup";
        assert_eq!(plan.describe(None), own);
    }
}
