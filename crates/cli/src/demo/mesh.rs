//! The processes of the demo, and what can be done to them.
use super::board::{Board, Instance as Shown, Mood, Shop as ShownShop};
use super::config::{self, CANARY_PERCENT};
use super::control::Control;
use super::probe::{free_ports, requests_by_address, stats};
use super::process::{Process, stop_all};
use super::traffic::Tally;
use crate::exit::Failure;
use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Instances of order that take traffic; one more is the canary, which takes none until a rule says so.
pub(super) const ORDERS: usize = 3;
const SHOPS: usize = 2;
const START: Duration = Duration::from_secs(20);
/// How long each reply of order is held back: enough that a kill meets requests in flight.
const DELAY: &str = "2ms";
/// Weights that `shift_weights` goes through.
const WEIGHTS: [[u32; ORDERS]; 4] = [[100, 100, 100], [80, 10, 10], [10, 80, 10], [0, 50, 50]];

/// Everything the demo started.
pub(super) struct Mesh {
    board: Arc<Board>,
    tally: Option<Arc<Mutex<Tally>>>,
    control: Control,
    orders: Vec<Order>,
    shops: Vec<Shop>,
    weights: usize,
    canary: bool,
    edition: u32,
    next_kill: usize,
    // Last: removed when no process uses it any more.
    dir: tempfile::TempDir,
}

struct Order {
    name: String,
    group: &'static str,
    app: SocketAddr,
    inbound: SocketAddr,
    admin: SocketAddr,
    /// App and sidecar; `None` after a kill.
    running: Option<[Process; 2]>,
}

struct Shop {
    name: String,
    outbound: SocketAddr,
    admin: SocketAddr,
    running: Process,
}

impl Mesh {
    /// Starts all of it; `stop` ends the waiting.
    pub(super) fn start(board: Arc<Board>, stop: &AtomicBool) -> Result<Mesh, Failure> {
        let failed = |e| Failure::new(format!("no temporary directory: {e}"));
        let dir = tempfile::Builder::new().prefix("raddle-demo-").tempdir().map_err(failed)?;
        let mut ports = free_ports((ORDERS + 1) * 3 + SHOPS * 2 + 2)?.into_iter();
        // As many as were asked for.
        let mut port = move || ports.next().unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let control = Control::start(dir.path(), port(), port())?;
        control.apply(&config::policy(1))?;
        let orders = (1..=ORDERS + 1).map(|n| Order {
            name: format!("order-{n}"),
            group: if n > ORDERS { "canary" } else { "default" },
            app: port(),
            inbound: port(),
            admin: port(),
            running: None,
        });
        let mut mesh = Mesh {
            board,
            tally: None,
            control,
            orders: orders.collect(),
            shops: Vec::new(),
            weights: 0,
            canary: false,
            edition: 1,
            next_kill: 1,
            dir,
        };
        for n in 0..mesh.orders.len() {
            mesh.orders[n].running = Some(mesh.spawn_order(n)?);
        }
        for n in 1..=SHOPS {
            let shop = mesh.spawn_shop(n, port(), port())?;
            mesh.shops.push(shop);
        }
        mesh.show();
        for order in &mut mesh.orders {
            if stop.load(Ordering::Relaxed) {
                return Err(Failure::new("stopped before it had started"));
            }
            order.wait()?;
        }
        for shop in &mut mesh.shops {
            let admin = shop.admin;
            shop.running.wait_until(START, || stats(admin).is_some_and(|s| s.state == "ready"))?;
        }
        Ok(mesh)
    }

    fn spawn_order(&self, n: usize) -> Result<[Process; 2], Failure> {
        let (order, dir) = (&self.orders[n], self.dir.path());
        let app = order.app.to_string();
        let serve = ["bench", "serve", "--listen", &app, "--delay", DELAY];
        let app = Process::spawn(&format!("{}-app", order.name), dir, &serve)?;
        let file = dir.join(format!("{}.yaml", order.name));
        let text = config::order(
            &order.name,
            order.group,
            [order.inbound, order.app, order.admin, self.control.grpc],
        );
        write(&file, &text)?;
        Ok([app, sidecar(&order.name, dir, &file)?])
    }

    fn spawn_shop(&self, n: usize, outbound: SocketAddr, admin: SocketAddr) -> Result<Shop, Failure> {
        let name = format!("shop-{n}");
        let file = self.dir.path().join(format!("{name}.yaml"));
        write(&file, &config::shop(&name, outbound, admin, self.control.grpc))?;
        let running = sidecar(&name, self.dir.path(), &file)?;
        Ok(Shop { name, outbound, admin, running })
    }

    /// Where shop's instances send their requests.
    pub(super) fn shop_addresses(&self) -> Vec<SocketAddr> {
        self.shops.iter().map(|s| s.outbound).collect()
    }

    /// Admin ports of shop's sidecars.
    pub(super) fn shop_admins(&self) -> Vec<SocketAddr> {
        self.shops.iter().map(|s| s.admin).collect()
    }

    /// Kills are told to this tally, so that it knows which failures they explain.
    pub(super) fn count_kills_in(&mut self, tally: Arc<Mutex<Tally>>) {
        self.tally = Some(tally);
    }

    /// Requests sent to each instance of order so far, retries included.
    pub(super) fn requests(&self) -> Vec<(String, u64)> {
        let by_address = requests_by_address(&self.shop_admins());
        let of = |o: &Order| by_address.get(&o.inbound.to_string()).copied().unwrap_or(0);
        self.orders.iter().map(|o| (o.name.clone(), of(o))).collect()
    }

    /// Goes to the next set of weights, or to the given one.
    pub(super) fn shift_weights(&mut self, to: Option<usize>) -> Result<(), Failure> {
        let before = self.weights;
        self.weights = to.unwrap_or(self.weights + 1) % WEIGHTS.len();
        let weights = WEIGHTS[self.weights];
        let text = weights.map(|w| w.to_string()).join("/");
        match (before, self.weights) {
            (0, 0) => Ok(()),
            (_, 0) => self.act("raddle delete Route/order-weights: equal weights again", |control| {
                control.delete(config::WEIGHTS)?;
                control.wait_for(config::WEIGHTS, 0)
            }),
            _ => {
                self.act(&format!("raddle apply: Route/order-weights gives order-1/2/3 {text}"), |control| {
                    control.apply(&config::weights(&weights))?;
                    control.wait_for(config::WEIGHTS, SHOPS)
                })
            }
        }
    }

    /// Turns the canary rule on or off.
    pub(super) fn set_canary(&mut self, on: bool) -> Result<(), Failure> {
        self.canary = on;
        if on {
            let canary = ORDERS + 1;
            let text = format!(
                "raddle apply: Route/order-canary sends {CANARY_PERCENT} % of the requests to group canary (order-{canary})"
            );
            self.act(&text, |control| {
                control.apply(&config::canary())?;
                control.wait_for(config::CANARY, SHOPS)
            })
        } else {
            self.act("raddle delete Route/order-canary", |control| {
                control.delete(config::CANARY)?;
                control.wait_for(config::CANARY, 0)
            })
        }
    }

    /// Whether the canary rule is on.
    pub(super) fn canary(&self) -> bool {
        self.canary
    }

    /// Applies `times` revisions of a rule, one after the other.
    pub(super) fn reload_storm(&mut self, times: u32) -> Result<(), Failure> {
        self.board.note(Mood::Act, format!("raddle apply: {times} revisions of {} in a row", config::POLICY));
        let start = Instant::now();
        for _ in 0..times {
            self.edition += 1;
            self.control.apply(&config::policy(self.edition))?;
        }
        self.control.wait_for(config::POLICY, SHOPS)?;
        let took = start.elapsed().as_millis();
        self.board.note(
            Mood::Good,
            format!("the last of {times} revisions was in force everywhere after {took} ms"),
        );
        Ok(())
    }

    /// Applies a rule that does harm, in stages, and waits until its guard has taken it back.
    pub(super) fn harm(&mut self) -> Result<(), Failure> {
        let text = "raddle apply: Route/order-hasty, a timeout of 1 ms, to 50 % of the sidecars first, guard 5 % errors";
        self.board.note(Mood::Act, text);
        if let Some(tally) = &self.tally {
            Tally::lock(tally).harmed(true);
        }
        let undone = self
            .control
            .apply(&config::harmful())
            .and_then(|()| self.control.wait_for_rollback(config::HARMFUL));
        if let Some(tally) = &self.tally {
            Tally::lock(tally).harmed(false);
        }
        let (reached, after) = undone?;
        let after = after.as_secs_f64();
        let text =
            format!("rolled back by its guard after {after:.1} s; {reached} of {SHOPS} sidecars had it");
        self.board.note(Mood::Good, text);
        Ok(())
    }

    /// Kills the control plane without a word.
    pub(super) fn kill_control(&mut self) {
        self.board.note(Mood::Act, "kill -9 control plane: sidecars go on with what they have");
        self.control.kill();
    }

    /// Starts the control plane again.
    pub(super) fn restart_control(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        self.control.spawn()?;
        self.control.wait_for(config::POLICY, SHOPS)?;
        let took = start.elapsed().as_millis();
        self.board
            .note(Mood::Good, format!("the control plane is back, and knows its sidecars, after {took} ms"));
        Ok(())
    }

    /// Kills the control plane, or starts it again.
    pub(super) fn toggle_control(&mut self) -> Result<(), Failure> {
        if self.control.runs() {
            self.kill_control();
            return Ok(());
        }
        self.restart_control()
    }

    fn act(&mut self, what: &str, command: impl Fn(&Control) -> Result<(), Failure>) -> Result<(), Failure> {
        self.board.note(Mood::Act, what);
        let start = Instant::now();
        command(&self.control)?;
        let took = start.elapsed().as_millis();
        self.board.note(Mood::Good, format!("in force everywhere after {took} ms"));
        Ok(())
    }

    /// Kills an instance of order, app and sidecar, without a word; but never the last one.
    pub(super) fn kill(&mut self) {
        let running = |o: &Order| o.running.is_some();
        if self.orders[..ORDERS].iter().filter(|o| running(o)).count() < 2 {
            self.board.note(Mood::Bad, "only one instance of order is left: restart some first");
            return;
        }
        while self.orders[self.next_kill].running.is_none() {
            self.next_kill = (self.next_kill + 1) % ORDERS;
        }
        let order = &mut self.orders[self.next_kill];
        self.next_kill = (self.next_kill + 1) % ORDERS;
        let Some([app, sidecar]) = order.running.take() else { return };
        self.board.note(Mood::Act, format!("kill -9 {}: app and sidecar", order.name));
        if let Some(tally) = &self.tally {
            Tally::lock(tally).killed();
        }
        sidecar.kill();
        app.kill();
        self.show();
    }

    /// Starts what was killed.
    pub(super) fn restart(&mut self) -> Result<(), Failure> {
        let dead: Vec<usize> = (0..self.orders.len()).filter(|n| self.orders[*n].running.is_none()).collect();
        if dead.is_empty() {
            self.board.note(Mood::Bad, "every instance runs; k kills one");
        }
        for n in dead {
            let start = Instant::now();
            self.board.note(Mood::Act, format!("{} is started again", self.orders[n].name));
            self.orders[n].running = Some(self.spawn_order(n)?);
            self.orders[n].wait()?;
            let took = start.elapsed().as_millis();
            self.board.note(Mood::Good, format!("{} is ready after {took} ms", self.orders[n].name));
        }
        self.show();
        Ok(())
    }

    /// Notes processes that ended though nobody killed them.
    pub(super) fn look_after(&mut self) {
        let mut lost = Vec::new();
        for order in &mut self.orders {
            if order.running.as_mut().is_some_and(|pair| pair.iter_mut().any(|p| !p.alive())) {
                let words = order.running.take().map(|pair| pair[1].last_words()).unwrap_or_default();
                lost.push((order.name.clone(), words));
            }
        }
        for (name, words) in lost {
            let last = words.lines().last().unwrap_or("no output").to_owned();
            self.board.note(Mood::Bad, format!("{name} ended by itself: {last}"));
            self.show();
        }
    }

    /// Puts names, groups and processes on the board.
    fn show(&self) {
        let mut view = self.board.edit();
        let known: HashMap<String, Shown> = view.instances.drain(..).map(|i| (i.name.clone(), i)).collect();
        for order in &self.orders {
            let mut shown = known.get(&order.name).cloned().unwrap_or_default();
            shown.name.clone_from(&order.name);
            shown.address = order.inbound.to_string();
            order.group.clone_into(&mut shown.group);
            shown.alive = order.running.is_some();
            shown.pid = order.running.as_ref().map(|pair| pair[1].pid());
            view.instances.push(shown);
        }
        view.shops =
            self.shops.iter().map(|s| ShownShop { name: s.name.clone(), ..ShownShop::default() }).collect();
    }

    /// Stops all: callers' sidecars first.
    pub(super) fn stop(mut self) {
        let shops = std::mem::take(&mut self.shops).into_iter().map(|s| s.running).collect();
        stop_all(shops, Duration::from_secs(3));
        let orders = self.orders.iter_mut().filter_map(|o| o.running.take()).flatten().collect();
        stop_all(orders, Duration::from_secs(3));
        stop_all(self.control.take().into_iter().collect(), Duration::from_secs(3));
    }
}

impl Order {
    /// Waits until its app and its sidecar answer.
    fn wait(&mut self) -> Result<(), Failure> {
        let (app, admin) = (self.app, self.admin);
        if let Some([process, sidecar]) = &mut self.running {
            process.wait_until(START, || TcpStream::connect(app).is_ok())?;
            sidecar.wait_until(START, || stats(admin).is_some_and(|s| s.state == "ready"))?;
        }
        Ok(())
    }
}

/// Starts a sidecar on a file.
pub(super) fn sidecar(name: &str, dir: &std::path::Path, file: &std::path::Path) -> Result<Process, Failure> {
    let file = file.display().to_string();
    Process::spawn(name, dir, &["proxy", "--log", "info", "--config", &file])
}

/// Replaces a file in one step: a sidecar that watches it never reads half of it.
pub(super) fn write(file: &std::path::Path, text: &str) -> Result<(), Failure> {
    let new = file.with_extension("new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, file))
        .map_err(|e| Failure::new(format!("{}: {e}", file.display())))
}
