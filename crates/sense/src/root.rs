//! Files, below a root that tests can move.
use crate::SenseError;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Most bytes read of a file: those of the kernel are far smaller, `/proc/net/tcp` of a busy machine apart.
const MOST: u64 = 32 << 20;

/// Where `/proc` and `/sys` are.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Default for Root {
    fn default() -> Root {
        Root(PathBuf::from("/"))
    }
}

impl Root {
    /// Another root, for tests.
    pub fn at(path: &Path) -> Root {
        Root(path.to_owned())
    }

    /// Whether this is the machine's own.
    pub fn real(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// Where a path is.
    pub fn path(&self, path: &Path) -> PathBuf {
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A file's text, if there is one that can be read.
    pub fn text(&self, path: &Path) -> Option<String> {
        self.read(path).ok()
    }

    /// A file's text.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, path: &Path) -> Result<String, SenseError> {
        let wrong = |e: std::io::Error| SenseError::File(path.to_owned(), e.to_string());
        let mut bytes = Vec::new();
        let file = std::fs::File::open(self.path(path)).map_err(wrong)?;
        file.take(MOST).read_to_end(&mut bytes).map_err(wrong)?;
        Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    }

    /// Whether there is a folder.
    pub fn is_folder(&self, path: &Path) -> bool {
        self.path(path).is_dir()
    }

    /// Cores that are online; at least one.
    pub fn cores(&self) -> f64 {
        let online = self.text(Path::new("/sys/devices/system/cpu/online"));
        let online = online.and_then(|t| crate::text::cpu_list(&t));
        let stat = || self.text(Path::new("/proc/stat")).map(|t| crate::text::cpus_of_stat(&t));
        online.or_else(stat).map_or(1.0, |n| f64::from(n.max(1)))
    }

    /// The machine's memory in bytes.
    pub fn memory(&self) -> Option<u64> {
        crate::text::mem_total(&self.text(Path::new("/proc/meminfo"))?)
    }
}
