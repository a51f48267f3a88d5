//! A sidecar in the test's own process, and its admin port.
use crate::config::Config;
use crate::wait::{PATIENCE, until};
use raddle_proxy::{Options, Sidecar};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// An admin port.
#[derive(Clone, Copy, Debug)]
pub struct Admin(pub SocketAddr);

impl Admin {
    fn ask(self, method: &str, path: &str) -> Option<(u16, String)> {
        let mut s = TcpStream::connect(self.0).ok()?;
        s.set_read_timeout(Some(PATIENCE)).ok()?;
        write!(s, "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .ok()?;
        let mut all = String::new();
        s.read_to_string(&mut all).ok()?;
        let (head, body) = all.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// A page's status and body, if the port answers.
    pub fn try_get(self, path: &str) -> Option<(u16, String)> {
        self.ask("GET", path)
    }

    /// A page's body.
    #[track_caller]
    pub fn get(self, path: &str) -> String {
        match self.try_get(path) {
            Some((_, body)) => body,
            None => panic!("{} does not answer {path}", self.0),
        }
    }

    /// A page as JSON.
    #[track_caller]
    pub fn json(self, path: &str) -> Value {
        let body = self.get(path);
        match serde_json::from_str(&body) {
            Ok(v) => v,
            Err(e) => panic!("{path} is no JSON: {e}: {body}"),
        }
    }

    /// Has the configuration read again.
    pub fn reload(self) -> Option<(u16, String)> {
        self.ask("POST", "/reload")
    }

    /// The sum of a counter's or gauge's series whose labels contain all of `labels`.
    #[track_caller]
    pub fn metric(self, name: &str, labels: &[&str]) -> i64 {
        let text = self.get("/metrics");
        text.lines()
            .filter_map(|l| {
                let (series, value) = l.rsplit_once(' ')?;
                let (n, rest) = series.split_once('{').unwrap_or((series, ""));
                (n == name && labels.iter().all(|x| rest.contains(x)))
                    .then(|| value.parse::<f64>().ok().map(|v| v as i64))?
            })
            .sum()
    }

    /// Waits until a metric satisfies `f`.
    #[track_caller]
    pub fn until_metric(self, name: &str, labels: &[&str], f: impl Fn(i64) -> bool) {
        let what = format!("{name}{labels:?}");
        until(PATIENCE, &what, || f(self.metric(name, labels)));
    }

    /// Whether an event of this kind was recorded.
    #[track_caller]
    pub fn has_event(self, kind: &str) -> bool {
        self.get("/events").contains(&format!("\"{kind}\""))
    }
}

/// A configuration file in a directory of its own.
pub struct ConfigFile {
    dir: TempDir,
}

impl ConfigFile {
    /// Writes it.
    #[track_caller]
    pub fn new(config: &Config) -> ConfigFile {
        let dir = match tempfile::tempdir() {
            Ok(d) => d,
            Err(e) => panic!("temporary directory: {e}"),
        };
        let file = ConfigFile { dir };
        file.write(&config.yaml());
        file
    }

    /// Its directory, for more files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("sidecar.yaml")
    }

    /// Replaces its text at once, as careful tools do.
    #[track_caller]
    pub fn write(&self, text: &str) {
        let new = self.dir.path().join("sidecar.yaml.new");
        let done = fs::write(&new, text).and_then(|()| fs::rename(&new, self.path()));
        if let Err(e) = done {
            panic!("writing {}: {e}", self.path().display());
        }
    }
}

/// A sidecar that runs in this process until it is dropped.
pub struct Running {
    /// Its admin port.
    pub admin: Admin,
    /// Its configuration.
    pub file: ConfigFile,
    sidecar: Option<Sidecar>,
}

impl Running {
    /// Starts it.
    #[track_caller]
    pub fn start(config: &Config) -> Running {
        let file = ConfigFile::new(config);
        let options = Options { paths: vec![file.path()], ..Options::default() };
        match Sidecar::start(options, None) {
            Ok(s) => Running { admin: Admin(config.admin), file, sidecar: Some(s) },
            Err(e) => panic!("the sidecar does not start: {e}\n{}", config.yaml()),
        }
    }

    /// The sidecar.
    pub fn sidecar(&self) -> &Sidecar {
        // Only drop takes it out.
        self.sidecar.as_ref().expect("it runs until it is dropped")
    }

    /// Replaces the configuration, and waits until every worker runs the new one.
    #[track_caller]
    pub fn apply(&self, config: &Config) {
        let before = self.sidecar().shared().config.load().generation;
        self.file.write(&config.yaml());
        self.sidecar().reload();
        let now = self.sidecar().shared().config.load().generation;
        assert!(now > before, "refused: {}", self.admin.json("/stats")["config"]["mistakes"]);
        self.admin.until_metric("raddle_config_generation", &[], |g| g >= now as i64);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(s) = self.sidecar.take() {
            s.stop();
            s.join();
        }
    }
}
