//! Why there is no sample.
use std::fmt;
use std::path::PathBuf;

/// Why the app's load could not be read. Reads as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SenseError {
    /// It is not known where the app listens.
    NoPort,
    /// The app is not on this machine: address, as configured.
    Elsewhere(String),
    /// Nothing listens on the app's ports.
    NotThere(Vec<u16>),
    /// Something listens on the app's port, but its process cannot be seen.
    Hidden {
        /// The port.
        port: u16,
        /// Some processes would not show their files: permission is what is missing.
        denied: bool,
    },
    /// The process has ended.
    Ended(u32),
    /// A file does not say what it should.
    File(PathBuf, String),
    /// The app's own word could not be had: URL, and why.
    Http(String, String),
}

impl SenseError {
    /// Whether it is nothing to speak of: the app starts, or starts again.
    pub fn passes(&self) -> bool {
        matches!(self, SenseError::NotThere(_) | SenseError::Ended(_))
    }
}

impl fmt::Display for SenseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SenseError::NoPort => f.write_str(
                "the configuration does not say on which port the app listens (forward, ports, publish): say where its \
                 load is read by the rule's signal",
            ),
            SenseError::Elsewhere(address) => {
                write!(f, "the app at {address} is not on this machine: its load cannot be read here")
            }
            SenseError::NotThere(ports) => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                write!(f, "nothing listens on the app's port {} yet", ports.join(", "))
            }
            SenseError::Hidden { port, denied: true } => write!(
                f,
                "the process that listens on port {port} cannot be looked up: run the sidecar as the app's user or as \
                 root, give it CAP_SYS_PTRACE, or say where the load is read by the rule's signal"
            ),
            SenseError::Hidden { port, denied: false } => write!(
                f,
                "the process that listens on port {port} is in another pid namespace: share it (Kubernetes: \
                 shareProcessNamespace), or say where the load is read by the rule's signal"
            ),
            SenseError::Ended(pid) => write!(f, "process {pid} has ended"),
            SenseError::File(path, why) => write!(f, "{}: {why}", path.display()),
            SenseError::Http(url, why) => write!(f, "{url}: {why}"),
        }
    }
}

impl std::error::Error for SenseError {}
