//! The processes of the story: a control plane, the app order with its sidecar, shop's sidecar.
use super::config::{self, SERVICE};
use crate::demo::control::Control;
use crate::demo::mesh::{sidecar, write};
use crate::demo::probe::{free_ports, stats};
use crate::demo::process::{Process, stop_all};
use crate::exit::Failure;
use raddle_bench::cgroup::CpuGroup;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const START: Duration = Duration::from_secs(30);
/// Cores of an app that is bounded by its threads: it has one.
const ONE: f64 = 1.0;

/// Everything the story started.
pub(super) struct Mesh {
    control: Control,
    app: Process,
    order: Process,
    shop: Process,
    /// Where shop sends its requests.
    pub(super) outbound: SocketAddr,
    /// Of the sidecar that limits.
    pub(super) admin: SocketAddr,
    /// Cores the app has.
    pub(super) cores: f64,
    /// Why it is not a cgroup that bounds it, if so.
    pub(super) unbounded: Option<String>,
    pid_file: PathBuf,
    // After the processes: a group can be removed when they are gone.
    group: Option<CpuGroup>,
    // Last: removed when no process uses it any more.
    dir: tempfile::TempDir,
}

impl Mesh {
    /// Starts all of it, with the rule on or off; `stop` ends the waiting.
    pub(super) fn start(cores: f64, on: bool, stop: &AtomicBool) -> Result<Mesh, Failure> {
        let failed = |e| Failure::new(format!("no temporary directory: {e}"));
        let dir = tempfile::Builder::new().prefix("raddle-demo-").tempdir().map_err(failed)?;
        let mut ports = free_ports(7)?.into_iter();
        // As many as were asked for.
        let mut port = move || ports.next().unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let control = Control::start(dir.path(), port(), port())?;
        let [listen, forward, admin, outbound, shop_admin] = [port(), port(), port(), port(), port()];
        let (group, unbounded) = match CpuGroup::create(cores) {
            Ok(group) => (Some(group), None),
            Err(e) => (None, Some(e.to_string())),
        };
        let app = start_app(dir.path(), forward, group.is_some())?;
        group
            .iter()
            .try_for_each(|g| g.add(app.pid()))
            .map_err(|e| Failure::new(format!("the cgroup: {e}")))?;
        let pid_file = dir.path().join("app.pid");
        write(&pid_file, &app.pid().to_string())?;
        let [order_file, shop_file] = ["order.yaml", "shop.yaml"].map(|name| dir.path().join(name));
        write(&order_file, &config::order([listen, forward, admin, control.grpc]))?;
        write(&shop_file, &config::shop([outbound, shop_admin, control.grpc]))?;
        let order = sidecar("order-1", dir.path(), &order_file)?;
        let shop = sidecar("shop-1", dir.path(), &shop_file)?;
        let cores = if group.is_some() { cores } else { ONE };
        let mut mesh =
            Mesh { control, app, order, shop, outbound, admin, cores, unbounded, pid_file, group, dir };
        mesh.apply("policy.yaml", config::POLICY)?;
        mesh.limit(on)?;
        mesh.order.wait_until(START, || ready(admin))?;
        mesh.shop.wait_until(START, || ready(shop_admin))?;
        mesh.wait_for_service(stop)?;
        Ok(mesh)
    }

    /// Puts the rule in force, or lets it only watch.
    pub(super) fn limit(&self, on: bool) -> Result<(), Failure> {
        let process = config::Process { pid_file: &self.pid_file, cores: self.cores };
        self.apply("limit.yaml", &config::rule(on, self.group.is_none().then_some(process)))
    }

    fn apply(&self, file: &str, text: &str) -> Result<(), Failure> {
        let file = self.dir.path().join(file);
        write(&file, text)?;
        self.control.ask(&["apply", "-f", &file.display().to_string(), "--replace"]).map(drop)
    }

    /// What `raddle explain limit order` says; `None` if it cannot.
    pub(super) fn explained(&self) -> Option<String> {
        self.control.ask(&["explain", "limit", "order"]).ok()
    }

    pub(super) fn app_pid(&self) -> u32 {
        self.app.pid()
    }

    /// The registry knows order, and shop's sidecar heard of it.
    fn wait_for_service(&self, stop: &AtomicBool) -> Result<(), Failure> {
        let deadline = Instant::now() + START;
        let mut said = String::new();
        while Instant::now() < deadline && !stop.load(Ordering::Relaxed) {
            match crate::demo::limit::ask::once(self.outbound, SERVICE, "/load") {
                Ok(200) => return Ok(()),
                Ok(status) => said = format!("it is answered {status}"),
                Err(e) => said = e.to_string(),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(Failure::new(format!("order cannot be called through shop's sidecar: {said}")))
    }

    /// Stops all: callers' sidecars first.
    pub(super) fn stop(self) {
        let Mesh { mut control, app, order, shop, group, dir, .. } = self;
        stop_all(vec![shop], Duration::from_secs(3));
        stop_all(vec![order, app], Duration::from_secs(3));
        stop_all(control.take().into_iter().collect(), Duration::from_secs(3));
        drop(group);
        drop(dir);
    }
}

fn start_app(dir: &std::path::Path, at: SocketAddr, bounded: bool) -> Result<Process, Failure> {
    let listen = at.to_string();
    let mut args = vec!["bench", "serve", "--burn", "--listen", &listen];
    if !bounded {
        args.extend(["--burn-threads", "1"]);
    }
    let mut app = Process::spawn("order-app", dir, &args)?;
    app.wait_until(START, || TcpStream::connect_timeout(&at, Duration::from_secs(1)).is_ok())?;
    Ok(app)
}

fn ready(admin: SocketAddr) -> bool {
    stats(admin).is_some_and(|s| s.state == "ready")
}
