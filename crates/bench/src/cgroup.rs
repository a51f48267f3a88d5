//! A cgroup that bounds the CPU of some processes: made for a run, removed with it. Version 2 or 1, whichever the machine
//! has. Needs root.
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// One period of the scheduler's accounts.
const PERIOD_US: u64 = 100_000;
/// Longest wait until processes that were killed have left.
const LEAVE: Duration = Duration::from_secs(5);
/// Several in one process.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A group with a bound; removed when dropped, once its processes have ended.
#[derive(Debug)]
pub struct CpuGroup {
    /// Its folders: one for version 2; for version 1 that of `cpu`, and that of `cpuacct` if it is another.
    folders: Vec<PathBuf>,
}

/// Where groups can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hierarchy {
    Two(PathBuf),
    One { cpu: PathBuf, accounts: Option<PathBuf> },
}

impl CpuGroup {
    /// Makes a group whose processes have so many cores together.
    ///
    /// # Errors
    /// When the machine has no such controller, or this process may not use it: the text says which, and what else can be
    /// done.
    pub fn create(cores: f64) -> io::Result<CpuGroup> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let hierarchy = hierarchy(&mounts, |path| {
            fs::read_to_string(path.join("cgroup.controllers"))
                .is_ok_and(|text| text.split_whitespace().any(|c| c == "cpu"))
        });
        let hierarchy = hierarchy.ok_or_else(|| {
            io::Error::new(
                ErrorKind::Unsupported,
                "no cgroup controller \"cpu\" is mounted, neither version 2 nor 1",
            )
        })?;
        let name = format!("raddle-bench-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        make(&hierarchy, &name, cores).map_err(|e| {
            let why = format!(
                "cannot make a cgroup that bounds CPU: {e}; it needs root and a writable cgroup tree"
            );
            io::Error::new(e.kind(), why)
        })
    }

    /// Puts a process into it, with all its threads.
    ///
    /// # Errors
    /// When it is gone, or may not be moved.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        self.folders.iter().try_for_each(|f| write(&f.join("cgroup.procs"), &pid.to_string()))
    }

    /// Changes the bound.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn set_cores(&self, cores: f64) -> io::Result<()> {
        self.folders.first().map_or(Ok(()), |folder| bound(folder, cores))
    }

    /// Puts a process back beside the group, for one that removes its own.
    pub fn leave(&self, pid: u32) {
        for parent in self.folders.iter().filter_map(|f| f.parent()) {
            // Where that cannot be done the group stays behind, empty and harmless.
            write(&parent.join("cgroup.procs"), &pid.to_string()).ok();
        }
    }

    /// Its folder: where its accounts are.
    pub fn folder(&self) -> &Path {
        self.folders.last().map_or(Path::new("/"), PathBuf::as_path)
    }
}

impl Drop for CpuGroup {
    fn drop(&mut self) {
        let deadline = Instant::now() + LEAVE;
        for folder in &self.folders {
            // Busy until the last of its processes has been reaped, by whoever started it.
            while fs::remove_dir(folder).is_err_and(|e| e.kind() != ErrorKind::NotFound)
                && Instant::now() < deadline
            {
                std::thread::park_timeout(Duration::from_millis(5));
            }
        }
    }
}

fn make(hierarchy: &Hierarchy, name: &str, cores: f64) -> io::Result<CpuGroup> {
    let mut group = CpuGroup { folders: Vec::new() };
    let mut folder = |parent: &Path| -> io::Result<PathBuf> {
        let folder = parent.join(name);
        fs::create_dir(&folder).map_err(|e| named(e, &folder))?;
        group.folders.push(folder.clone());
        Ok(folder)
    };
    let first = match hierarchy {
        Hierarchy::Two(root) => {
            write(&root.join("cgroup.subtree_control"), "+cpu")?;
            let first = folder(root)?;
            // Beside whatever else the machine does, the app gets what it may have.
            write(&first.join("cpu.weight"), "10000").ok();
            first
        }
        Hierarchy::One { cpu, accounts } => {
            let first = folder(cpu)?;
            accounts.as_deref().map(&mut folder).transpose()?;
            write(&first.join("cpu.shares"), "262144").ok();
            first
        }
    };
    bound(&first, cores)?;
    Ok(group)
}

fn bound(folder: &Path, cores: f64) -> io::Result<()> {
    let quota = (cores.max(0.01) * PERIOD_US as f64) as u64;
    let two = folder.join("cpu.max");
    if two.exists() {
        return write(&two, &format!("{quota} {PERIOD_US}"));
    }
    write(&folder.join("cpu.cfs_period_us"), &PERIOD_US.to_string())?;
    write(&folder.join("cpu.cfs_quota_us"), &quota.to_string())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text).map_err(|e| named(e, path))
}

fn named(e: io::Error, path: &Path) -> io::Error {
    io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}

/// Reads the mounts; `has_cpu` says whether a tree of version 2 has the controller (with both versions mounted, one of
/// them has).
fn hierarchy(mounts: &str, has_cpu: impl Fn(&Path) -> bool) -> Option<Hierarchy> {
    let mut one: [Option<PathBuf>; 2] = [None, None];
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        let (Some(path), Some(kind), Some(options)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let path = PathBuf::from(path);
        if kind == "cgroup2" && has_cpu(&path) {
            return Some(Hierarchy::Two(path));
        }
        if kind == "cgroup" {
            for (place, controller) in one.iter_mut().zip(["cpu", "cpuacct"]) {
                if place.is_none() && options.split(',').any(|o| o == controller) {
                    *place = Some(path.clone());
                }
            }
        }
    }
    let [cpu, accounts] = one;
    // Debian mounts both in one place.
    cpu.map(|cpu| Hierarchy::One { accounts: accounts.filter(|a| *a != cpu), cpu })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_with_the_controller_is_found_whatever_else_is_mounted() {
        let hybrid = "cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0\n\
                      cgroup /sys/fs/cgroup/cpuacct cgroup rw,cpuacct 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let one = |cpu: &str, accounts: Option<&str>| {
            Some(Hierarchy::One { cpu: cpu.into(), accounts: accounts.map(PathBuf::from) })
        };
        assert_eq!(hierarchy(hybrid, |_| false), one("/sys/fs/cgroup/cpu", Some("/sys/fs/cgroup/cpuacct")));
        assert_eq!(hierarchy(hybrid, |_| true), Some(Hierarchy::Two("/sys/fs/cgroup/unified".into())));
        let together = "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n";
        assert_eq!(hierarchy(together, |_| false), one("/sys/fs/cgroup/cpu,cpuacct", None));
        assert_eq!(hierarchy("tmpfs / tmpfs rw 0 0\n\nodd\n", |_| true), None);
    }

    #[test]
    fn a_group_bounds_and_is_removed() {
        // Only root may; where it may not, it is told why.
        let group = match CpuGroup::create(0.5) {
            Ok(group) => group,
            Err(e) => return assert!(e.to_string().contains("cgroup"), "{e}"),
        };
        let folders = group.folders.clone();
        let text = |name: &str| fs::read_to_string(folders[0].join(name)).unwrap_or_default();
        let quota = || format!("{}{}", text("cpu.max"), text("cpu.cfs_quota_us"));
        assert!(quota().starts_with("50000"), "{}", quota());
        group.set_cores(0.75).unwrap();
        assert!(quota().starts_with("75000"), "{}", quota());
        drop(group);
        assert!(folders.iter().all(|f| !f.exists()));
    }
}
