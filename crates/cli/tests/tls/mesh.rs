//! A control plane and sidecars as processes, in a folder of their own.
use raddle_testkit::{free_addr, until};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How long is waited for what takes half of a certificate's life at most.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The shortest life there is: it is renewed after 4 to 6 s.
pub(crate) const LIFETIME: &str = "10s";

/// A process that ends with the test; what it says is in a file.
pub(crate) struct Process {
    child: Child,
    /// What it said on standard error.
    pub(crate) log: PathBuf,
}

impl Process {
    fn start(args: &[&str], log: PathBuf) -> Process {
        let child = Command::new(env!("CARGO_BIN_EXE_raddle"))
            .args(args)
            .arg("--exit-with-stdin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a file"))
            .spawn()
            .expect("the binary runs");
        Process { child, log }
    }

    /// Its arguments, as everybody on the machine sees them.
    pub(crate) fn cmdline(&self) -> Vec<u8> {
        fs::read(format!("/proc/{}/cmdline", self.child.id())).expect("it lives")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            eprintln!("--- {}\n{}", self.log.display(), tail.join("\n"));
        }
    }
}

/// A control plane, and the folder all files are in.
pub(crate) struct Mesh {
    pub(crate) control: Process,
    pub(crate) dir: TempDir,
    pub(crate) tls: SocketAddr,
    pub(crate) rest: SocketAddr,
}

impl Mesh {
    /// Starts one whose gRPC is TLS only, and takes its roots.
    pub(crate) fn start() -> Mesh {
        Mesh::listening("127.0.0.1:0")
    }

    /// The same, with REST at this address.
    pub(crate) fn listening(rest: &str) -> Mesh {
        let dir = tempfile::tempdir().expect("a folder");
        let store = dir.path().join("control.db").display().to_string();
        let args = ["control", "--store", &store, "--grpc-listen", "off", "--tls-listen", "127.0.0.1:0"];
        let more = ["--rest-listen", rest, "--cert-lifetime", LIFETIME, "--grace", "5s", "--log", "debug"];
        let mut control = Process::start(&[&args[..], &more].concat(), dir.path().join("control.log"));
        let mut line = String::new();
        let out = control.child.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("it says where it serves");
        let address = |what: &str| {
            let of = line.split_whitespace().find_map(|w| w.strip_prefix(what)?.strip_prefix('='));
            of.and_then(|a| a.parse().ok()).unwrap_or_else(|| panic!("{what} in {line:?}"))
        };
        Mesh { tls: address("tls"), rest: address("rest"), dir, control }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `raddle …` as the first administrator.
    pub(crate) fn raddle(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_raddle"));
        let token = self.path("control.admin-token");
        command.args(args).arg("--token-file").arg(token).env_remove("RADDLE_TOKEN");
        command.args(["--server", &format!("http://{}", self.rest)]).output().expect("the binary runs")
    }

    /// The same; it must work.
    #[track_caller]
    pub(crate) fn done(&self, args: &[&str]) -> String {
        let output = self.raddle(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// The same, as JSON.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.done(&[args, &["-o", "json"]].concat())).expect("JSON")
    }

    /// Writes the roots in force and a token for this app into files; the token's name is `APP.token`.
    #[track_caller]
    pub(crate) fn invite(&self, app: &str) -> PathBuf {
        fs::write(self.path("roots.pem"), self.done(&["ca", "roots"])).expect("written");
        let file = self.path(&format!("{app}.token"));
        let out = file.display().to_string();
        self.done(&["token", "create", "--app", app, "--unit", "u1", "--lifetime", "1h", "--out", &out]);
        file
    }

    /// Starts a sidecar of an app that has been invited. `spec` is further YAML of the Sidecar's `spec`.
    #[track_caller]
    pub(crate) fn sidecar(&self, app: &str, spec: &str) -> Sidecar {
        let admin = free_addr();
        let file = self.path(&format!("{app}.yaml"));
        let tls = self.tls;
        let text = format!(
            "apiVersion: raddle.io/v1\nkind: Sidecar\nmetadata: {{name: {app}-1}}\nspec:\n  app: {app}\n  unit: u1\n  \
             admin: {admin}\n  workers: 1\n  controlPlane:\n    addresses: [\"https://{tls}\"]\n    rootsFile: roots.pem\n    \
             tokenFile: {app}.token\n    sds: {{socket: {app}.sock}}\n    cache: {app}-cache\n{spec}"
        );
        fs::write(&file, text).expect("written");
        let log = self.path(&format!("{app}.log"));
        let process =
            Process::start(&["proxy", "--config", &file.display().to_string(), "--log", "debug"], log);
        let sidecar = Sidecar { process, admin, socket: self.path(&format!("{app}.sock")) };
        until(PATIENCE, "the sidecar is ready", || {
            sidecar.get("/ready").is_some_and(|p| p.starts_with("ready"))
        });
        sidecar
    }

    /// A file of the folder, or what is in a folder of it, as bytes.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        let path = self.path(name);
        if path.is_dir() {
            let all = fs::read_dir(&path).expect("a folder").filter_map(|e| fs::read(e.ok()?.path()).ok());
            return all.flatten().collect();
        }
        fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }
}

/// A sidecar's process.
pub(crate) struct Sidecar {
    pub(crate) process: Process,
    pub(crate) admin: SocketAddr,
    /// Where it serves its certificate.
    pub(crate) socket: PathBuf,
}

impl Sidecar {
    /// A page's body, if it answers.
    pub(crate) fn get(&self, path: &str) -> Option<String> {
        let mut s = TcpStream::connect(self.admin).ok()?;
        s.set_read_timeout(Some(PATIENCE)).ok()?;
        write!(s, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
        let mut all = String::new();
        s.read_to_string(&mut all).ok()?;
        all.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
    }

    /// What it says about the control plane.
    pub(crate) fn mesh(&self) -> Value {
        self.get("/mesh").and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Waits until the page about the control plane is as wanted.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, mut so: impl FnMut(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            last = Some(self.mesh()).filter(|m| !m.is_null()).unwrap_or(last);
            if so(&last) {
                return last;
            }
            assert!(std::time::Instant::now() < end, "not in time: {what}: {last}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The sum of a metric's series.
    pub(crate) fn metric(&self, name: &str) -> i64 {
        let text = self.get("/metrics").unwrap_or_default();
        let of = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let named = series.split('{').next() == Some(name);
            named.then(|| value.parse::<f64>().ok().map(|v| v as i64))?
        };
        text.lines().filter_map(of).sum()
    }

    /// How many certificates it has got.
    pub(crate) fn renewals(&self) -> u64 {
        self.mesh()["certificate"]["renewals"].as_u64().unwrap_or(0)
    }

    /// Waits until it has got so many more certificates than it has now.
    #[track_caller]
    pub(crate) fn until_renewed(&self, more: u64) {
        let wanted = self.renewals() + more;
        self.until("it is renewed", |m| m["certificate"]["renewals"].as_u64() >= Some(wanted));
    }
}
