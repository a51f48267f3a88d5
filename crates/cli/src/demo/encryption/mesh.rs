//! The processes of the story: a control plane with TLS, instances of pay behind relays, callers.
use super::config::{self, Joining};
use super::tap::Tap;
use super::wire::Wire;
use crate::demo::board::{Board, Instance as Shown, Shop as ShownShop};
use crate::demo::control::Control;
use crate::demo::mesh::{sidecar, write};
use crate::demo::probe::{free_ports, stats};
use crate::demo::process::{Process, stop_all};
use crate::exit::Failure;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Instances of pay.
pub(super) const PAYS: usize = 4;
/// Sidecars of shop.
pub(super) const SHOPS: usize = 2;
/// Address of the relays: this machine, too, but not where the sidecars listen.
const RELAYS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const START: Duration = Duration::from_secs(30);

/// Everything the story started.
pub(super) struct Mesh {
    /// The control plane, and commands to it.
    pub(super) control: Control,
    /// What is seen between the sidecars.
    pub(super) wire: Arc<Wire>,
    pays: Vec<Pay>,
    shops: Vec<Shop>,
    // Last: removed when no process uses it any more.
    dir: tempfile::TempDir,
}

struct Pay {
    name: String,
    tap: SocketAddr,
    admin: SocketAddr,
    /// App and sidecar.
    running: [Process; 2],
    _relay: Tap,
}

struct Shop {
    name: String,
    outbound: SocketAddr,
    admin: SocketAddr,
    running: Process,
}

impl Mesh {
    /// Starts all of it; `stop` ends the waiting.
    pub(super) fn start(board: &Board, stop: &AtomicBool) -> Result<Mesh, Failure> {
        let failed = |e| Failure::new(format!("no temporary directory: {e}"));
        let dir = tempfile::Builder::new().prefix("raddle-demo-").tempdir().map_err(failed)?;
        let mut ports = free_ports(PAYS * 3 + SHOPS * 2 + 2)?.into_iter();
        // As many as were asked for.
        let mut port = move || ports.next().unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let control = Control::start_secured(dir.path(), port(), port())?;
        let mut mesh = Mesh { control, wire: Arc::default(), pays: Vec::new(), shops: Vec::new(), dir };
        let roots = mesh.dir.path().join("mesh-ca.pem");
        write(&roots, &mesh.control.ask(&["ca", "roots"])?)?;
        mesh.apply("policy.yaml", config::POLICY)?;
        let [pay, shop] = [mesh.token("pay")?, mesh.token("shop")?];
        let joining = Joining { control: mesh.control.grpc, roots: &roots, token: &pay };
        for n in 1..=PAYS {
            let pay = mesh.spawn_pay(n, [port(), port(), port()], joining)?;
            mesh.pays.push(pay);
        }
        for n in 1..=SHOPS {
            let shop = mesh.spawn_shop(n, port(), port(), Joining { token: &shop, ..joining })?;
            mesh.shops.push(shop);
        }
        mesh.wait(stop)?;
        mesh.show(board);
        Ok(mesh)
    }

    fn token(&self, app: &str) -> Result<PathBuf, Failure> {
        let file = self.dir.path().join(format!("{app}.token"));
        self.control.ask(&[
            "token",
            "create",
            "--app",
            app,
            "--unit",
            "u1",
            "--out",
            &file.display().to_string(),
        ])?;
        Ok(file)
    }

    fn spawn_pay(&self, n: usize, at: [SocketAddr; 3], joining: Joining<'_>) -> Result<Pay, Failure> {
        let ([inbound, app, admin], dir, name) = (at, self.dir.path(), format!("pay-{n}"));
        let tap = SocketAddr::from((RELAYS, inbound.port()));
        let served = ["bench", "serve", "--listen", &app.to_string(), "--delay", "1ms"];
        let served = Process::spawn(&format!("{name}-app"), dir, &served)?;
        let file = dir.join(format!("{name}.yaml"));
        write(&file, &config::pay(&name, at, tap, joining))?;
        let running = [served, sidecar(&name, dir, &file)?];
        let relay = Tap::start(tap, inbound, self.wire.clone())?;
        Ok(Pay { name, tap, admin, running, _relay: relay })
    }

    fn spawn_shop(
        &self,
        n: usize,
        outbound: SocketAddr,
        admin: SocketAddr,
        joining: Joining<'_>,
    ) -> Result<Shop, Failure> {
        let name = format!("shop-{n}");
        let file = self.dir.path().join(format!("{name}.yaml"));
        write(&file, &config::shop(&name, outbound, admin, joining))?;
        let running = sidecar(&name, self.dir.path(), &file)?;
        Ok(Shop { name, outbound, admin, running })
    }

    fn wait(&mut self, stop: &AtomicBool) -> Result<(), Failure> {
        let ready = |admin| move || stats(admin).is_some_and(|s| s.state == "ready");
        for pay in &mut self.pays {
            if stop.load(Ordering::Relaxed) {
                return Err(Failure::new("stopped before it had started"));
            }
            pay.running[1].wait_until(START, ready(pay.admin))?;
        }
        for shop in &mut self.shops {
            shop.running.wait_until(START, ready(shop.admin))?;
        }
        // All instances are in the registry: otherwise the first requests would go to some of them only.
        let deadline = std::time::Instant::now() + START;
        while self.known() < PAYS {
            if std::time::Instant::now() > deadline {
                return Err(Failure::new("the registry does not know all instances of pay"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn known(&self) -> usize {
        let service = format!("service/{}", config::SERVICE);
        let said = self.control.ask(&["get", &service, "-o", "json"]).unwrap_or_default();
        let page: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
        page["endpoints"].as_array().map_or(0, Vec::len)
    }

    fn show(&self, board: &Board) {
        let mut view = board.edit();
        view.instances = self.pays.iter().map(Pay::shown).collect();
        view.shops =
            self.shops.iter().map(|s| ShownShop { name: s.name.clone(), ..ShownShop::default() }).collect();
    }

    /// Where shop's instances send their requests.
    pub(super) fn shop_addresses(&self) -> Vec<SocketAddr> {
        self.shops.iter().map(|s| s.outbound).collect()
    }

    /// Admin ports of shop's sidecars.
    pub(super) fn shop_admins(&self) -> Vec<SocketAddr> {
        self.shops.iter().map(|s| s.admin).collect()
    }

    /// Where an instance of pay is called.
    pub(super) fn first_pay(&self) -> (&str, SocketAddr) {
        (&self.pays[0].name, self.pays[0].tap)
    }

    /// `raddle apply -f FILE`.
    pub(super) fn apply(&self, file: &str, text: &str) -> Result<(), Failure> {
        let file = self.dir.path().join(file);
        write(&file, text)?;
        self.control.ask(&["apply", "-f", &file.display().to_string(), "--replace"]).map(drop)
    }

    /// What `raddle apply --dry-run` says of a rule.
    pub(super) fn would(&self, text: &str) -> Result<String, Failure> {
        let file = self.dir.path().join("would.yaml");
        write(&file, text)?;
        self.control.ask_all(&["apply", "-f", &file.display().to_string(), "--replace", "--dry-run"])
    }

    /// Stops all: callers' sidecars first.
    pub(super) fn stop(self) {
        let Mesh { mut control, pays, shops, dir, .. } = self;
        stop_all(shops.into_iter().map(|s| s.running).collect(), Duration::from_secs(3));
        stop_all(pays.into_iter().flat_map(|p| p.running).collect(), Duration::from_secs(3));
        stop_all(control.take().into_iter().collect(), Duration::from_secs(3));
        drop(dir);
    }
}

impl Pay {
    fn shown(&self) -> Shown {
        Shown {
            name: self.name.clone(),
            address: self.tap.to_string(),
            group: "default".into(),
            alive: true,
            pid: Some(self.running[1].pid()),
            ..Shown::default()
        }
    }
}
