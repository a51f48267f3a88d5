//! Finding the app's processes.
use crate::table::Listening;
use crate::text::{self, Stat};
use crate::{Root, SenseError, table};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

/// Most processes that are taken for one app.
const PROCESSES_MOST: usize = 1024;
/// Most open files of a process that are looked at.
const FILES_MOST: usize = 1 << 17;

/// The processes that listen where the app is, the lowest id first; at least one.
///
/// # Errors
/// Nothing listens there, or its process cannot be seen.
pub fn listeners(root: &Root, app: &[SocketAddr]) -> Result<Vec<u32>, SenseError> {
    if app.is_empty() {
        return Err(SenseError::NoPort);
    }
    let here: Vec<SocketAddr> = app.iter().copied().filter(|a| !root.real() || is_here(*a)).collect();
    if here.is_empty() {
        return Err(SenseError::Elsewhere(app[0].to_string()));
    }
    let texts = ["/proc/net/tcp", "/proc/net/tcp6"].map(|t| root.text(Path::new(t)).unwrap_or_default());
    let mut sockets: Vec<Listening> = texts.iter().flat_map(|t| table::listening(t)).collect();
    sockets.retain(|l| here.iter().any(|a| l.takes(*a)));
    // The sidecar may have the same port at all addresses, beside the app's at one.
    if sockets.iter().any(|l| here.contains(&l.addr)) {
        sockets.retain(|l| here.contains(&l.addr));
    }
    let Some(port) = sockets.first().map(|l| l.addr.port()) else {
        return Err(SenseError::NotThere(here.iter().map(SocketAddr::port).collect()));
    };
    let inodes = sockets.iter().map(|l| l.inode).collect();
    let (found, denied) = holders(root, &inodes);
    if found.is_empty() { Err(SenseError::Hidden { port, denied }) } else { Ok(found) }
}

/// Whether an address is one of this machine's: only then can a socket be bound to it.
fn is_here(addr: SocketAddr) -> bool {
    addr.ip().is_unspecified() || UdpSocket::bind((addr.ip(), 0)).is_ok()
}

/// Processes that have one of these sockets open, and whether some would not show what they have.
fn holders(root: &Root, inodes: &BTreeSet<u64>) -> (Vec<u32>, bool) {
    let mut found = Vec::new();
    let mut denied = false;
    let Ok(all) = std::fs::read_dir(root.path(Path::new("/proc"))) else { return (found, true) };
    let pids = all.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids {
        match std::fs::read_dir(root.path(&proc(pid, "fd"))) {
            Err(e) => denied |= e.kind() == ErrorKind::PermissionDenied,
            Ok(files) => {
                let mut links =
                    files.take(FILES_MOST).flatten().filter_map(|f| std::fs::read_link(f.path()).ok());
                if links.any(|l| table::socket_inode(&l).is_some_and(|i| inodes.contains(&i))) {
                    found.push(pid);
                }
            }
        }
    }
    found.sort_unstable();
    found.truncate(PROCESSES_MOST);
    (found, denied)
}

/// The process that a file names.
///
/// # Errors
/// The file cannot be read, or names none; or there is no such process.
pub fn of_file(root: &Root, file: &Path) -> Result<u32, SenseError> {
    let wrong = |why: &str| SenseError::File(file.to_owned(), why.to_owned());
    // Where people write it is no part of the kernel's files, so not below the root.
    let text = std::fs::read_to_string(file).map_err(|e| wrong(&e.to_string()))?;
    let pid = text.trim().parse().map_err(|_| wrong("is not a process id"))?;
    alive(root, pid).map(|_| pid).ok_or(SenseError::Ended(pid))
}

/// What `/proc` says of a process that runs.
pub fn alive(root: &Root, pid: u32) -> Option<Stat> {
    text::stat(&root.text(&proc(pid, "stat"))?).filter(|s| !s.zombie)
}

/// The processes and all that they began, but not this one: an app may have started its sidecar.
pub fn with_children(root: &Root, pids: &[u32]) -> Vec<u32> {
    let own = std::process::id();
    let mut all: BTreeSet<u32> = pids.iter().copied().collect();
    let mut open: Vec<u32> = pids.to_vec();
    while let Some(pid) = open.pop() {
        let Ok(tasks) = std::fs::read_dir(root.path(&proc(pid, "task"))) else { continue };
        for task in tasks.flatten() {
            // Absent where the kernel was built without: then they are not counted.
            let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in text.split_whitespace().filter_map(|w| w.parse().ok()) {
                if child != own && all.len() < PROCESSES_MOST && all.insert(child) {
                    open.push(child);
                }
            }
        }
    }
    all.into_iter().collect()
}

/// A file of a process.
pub fn proc(pid: u32, file: &str) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join(file)
}
