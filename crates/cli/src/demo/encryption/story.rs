//! What happens, in the order it happens.
use super::config::{self, RULE, SERVICE, STAGES};
use super::mesh::Mesh;
use super::phase::{Phase, Start};
use super::wire::{Look, dump};
use crate::demo::board::{Board, Mood};
use crate::demo::traffic::plain::{Answered, ask};
use crate::demo::traffic::{Call, Tally};
use crate::exit::Failure;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest wait for something that should be a matter of a second.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest wait until the control plane knows by sidecars' reports who calls.
const REPORTED: Duration = Duration::from_secs(12);
/// Pause between tries.
const RETRY: Duration = Duration::from_millis(300);
/// App of the caller without a sidecar, and the header it says it in.
const LEGACY: &str = "ledger";
const CALLER_APP: &str = "rpc_trace_context.sofaCallerApp";
/// How often it calls.
const LEGACY_EVERY: Duration = Duration::from_millis(200);

/// What whoever shows the story needs beside the board.
#[derive(Debug, Default)]
pub(super) struct Scene {
    now: Mutex<Shown>,
}

/// The content of a [`Scene`].
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    /// What is going on.
    pub(super) title: String,
    /// A request on the wire before anything was switched.
    pub(super) before: Vec<u8>,
    /// Everything has been told.
    pub(super) over: bool,
}

impl Scene {
    /// What is to be shown now.
    pub(super) fn shown(&self) -> Shown {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn edit(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Those who take part.
pub(super) struct Story<'a> {
    pub(super) mesh: &'a Mesh,
    pub(super) board: &'a Board,
    pub(super) scene: &'a Scene,
    pub(super) tally: Arc<Mutex<Tally>>,
    /// A tenth of the time it all may take.
    pub(super) unit: Duration,
    pub(super) stop: &'a AtomicBool,
}

impl Story<'_> {
    /// Tells it; what became of the requests in each part.
    pub(super) fn tell(&self) -> Result<Vec<Phase>, Failure> {
        type Act<S> = fn(&S) -> Result<(), Failure>;
        let script: [(&'static str, Act<Self>); 6] = [
            ("plaintext", Self::plaintext),
            ("permissive, in stages", Self::permissive),
            ("encrypted", Self::encrypted),
            ("strict, once nobody minds", Self::strict),
            ("plaintext is refused", Self::refused),
            ("and back", Self::back),
        ];
        let mut phases = Vec::new();
        let told = script.iter().try_for_each(|(name, act)| {
            if self.stopped() {
                return Ok(());
            }
            self.scene.edit(|s| (*name).clone_into(&mut s.title));
            let start = Start::now(&self.tally);
            act(self)?;
            phases.push(start.finish(name, &self.tally, self.mesh.wire.look().share()));
            Ok(())
        });
        self.scene.edit(|s| s.over = true);
        told.map(|()| phases)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn act(&self, text: impl Into<String>) {
        self.board.note(Mood::Act, text);
    }

    fn good(&self, text: impl Into<String>) {
        self.board.note(Mood::Good, text);
    }

    fn pass(&self, units: u32) {
        let end = Instant::now() + self.unit * units;
        while Instant::now() < end && !self.stopped() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until what is seen on the wire is so; everything new that is seen goes to `told`.
    fn until(
        &self,
        what: &str,
        most: Duration,
        holds: impl Fn(&Look) -> bool,
        mut told: impl FnMut(&Look),
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + most;
        while !self.stopped() {
            let look = self.mesh.wire.look();
            told(&look);
            if holds(&look) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let share = look.share().map_or("no link is used".into(), |s| format!("{:.0} %", s * 100.0));
                return Err(Failure::new(format!("{what}: not after {most:?}; encrypted: {share}")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// A request of a caller without a sidecar.
    fn legacy(&self) -> Result<Answered, Failure> {
        let (name, at) = self.mesh.first_pay();
        let headers = [(CALLER_APP.to_owned(), LEGACY.to_owned())];
        let call = Call { service: SERVICE, method: "pay", headers: &headers };
        ask(at, call).map_err(|e| Failure::new(format!("a plaintext request to {name}: {e}")))
    }

    fn on_the_wire(&self, bytes: &[u8]) {
        let lines: Vec<String> = dump(bytes).into_iter().map(|l| format!("          {l}")).collect();
        self.act(format!("a request of shop to pay, on the wire:\n{}", lines.join("\n")));
    }

    /// What a command that only looks prints.
    fn show(&self, args: &[&str]) -> Result<(), Failure> {
        let said = self.mesh.control.ask(args)?;
        let lines: Vec<String> = said.trim_end().lines().map(|l| format!("          {l}")).collect();
        self.act(format!("raddle {}\n{}", args.join(" "), lines.join("\n")));
        Ok(())
    }

    fn plaintext(&self) -> Result<(), Failure> {
        self.until("requests in plaintext", PATIENCE, |l| l.readable > 100, |_| {})?;
        self.pass(1);
        let sample = self.mesh.wire.sample(false);
        self.on_the_wire(&sample);
        self.scene.edit(|s| s.before = sample);
        let look = self.mesh.wire.look();
        self.good(format!(
            "who is on the network reads the card number: {} times in {} KiB so far",
            look.readable,
            look.bytes >> 10
        ));
        self.pass(1);
        Ok(())
    }

    fn permissive(&self) -> Result<(), Failure> {
        let hold = self.unit / 2;
        let stages = STAGES.map(|p| format!("{p} %")).join(", ");
        self.act(format!("raddle apply -f permissive.yaml: {RULE} asks callers of pay for TLS, {stages}"));
        let start = Instant::now();
        self.mesh.apply("permissive.yaml", &config::permissive(hold))?;
        let mut last = 0.0;
        let most = PATIENCE * 2 + hold * STAGES.len() as u32;
        self.until(
            "all links encrypted",
            most,
            |l| l.share() == Some(1.0),
            |look| {
                if let Some(share) = look.share().filter(|s| (s - last).abs() > 0.01) {
                    last = share;
                    let percent = share * 100.0;
                    self.good(format!(
                        "{percent:.0} % of the links encrypted ({} of {})",
                        look.tls,
                        look.tls + look.plain
                    ));
                }
            },
        )?;
        self.good(format!(
            "switched under load, instance by instance, in {:.1} s",
            start.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    fn encrypted(&self) -> Result<(), Failure> {
        match self.legacy()? {
            Answered::Well => {
                self.good(format!("{LEGACY}, a caller without a sidecar, is still answered in plaintext"));
            }
            Answered::Refused(flag, rule) => {
                return Err(Failure::new(format!("permissive, and plaintext is refused: {flag} {rule}")));
            }
        }
        let before = self.mesh.wire.look();
        self.pass(1);
        self.on_the_wire(&self.mesh.wire.sample(true));
        let after = self.mesh.wire.look();
        let (read, bytes) = (after.readable - before.readable, after.bytes - before.bytes);
        let text = format!("the card number was read {read} times in {} KiB", bytes >> 10);
        self.board.note(if read == 0 { Mood::Good } else { Mood::Bad }, text);
        if read > 0 {
            return Err(Failure::new("encrypted links, and the card number was read on the wire"));
        }
        self.show(&["status", "encryption", "pay"])
    }

    /// `strict` waits for those who still come in plaintext, and says who they are.
    fn strict(&self) -> Result<(), Failure> {
        let rule = config::strict(self.quiet());
        let end = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let caller = scope.spawn(|| self.keep_calling(&end));
            let tried = self.try_strict(&rule);
            end.store(true, Ordering::Relaxed);
            tried?;
            match caller.join() {
                Ok(called) => called,
                Err(_) => Err(Failure::new("the plaintext caller has ended")),
            }
        })?;
        self.act(format!("{LEGACY} got a sidecar of its own: it comes in plaintext no more"));
        let deadline = Instant::now() + PATIENCE + self.quiet();
        while let Err(refused) = self.mesh.apply("strict.yaml", &rule) {
            if Instant::now() > deadline {
                return Err(refused);
            }
            self.pass_time(RETRY);
        }
        self.good(format!(
            "raddle apply -f strict.yaml is taken; in force once no plaintext was seen for {:?}",
            self.quiet()
        ));
        self.pass_time(self.quiet() * 3 / 2);
        Ok(())
    }

    /// How long nobody may come in plaintext before it is refused.
    fn quiet(&self) -> Duration {
        (self.unit / 2).max(Duration::from_secs(1))
    }

    /// Applies it while there is a caller it would shut out: it is not taken, or waits.
    fn try_strict(&self, rule: &str) -> Result<(), Failure> {
        self.act(format!("{LEGACY}, a caller without a sidecar, calls pay in plaintext"));
        let deadline = Instant::now() + REPORTED;
        while !self.mesh.would(rule)?.contains(LEGACY) && !self.stopped() && Instant::now() < deadline {
            self.pass_time(RETRY);
        }
        self.act("raddle apply -f strict.yaml");
        if let Err(refused) = self.mesh.apply("strict.yaml", rule) {
            let words = refused.to_string();
            // The first line is the demo's own.
            let said: Vec<&str> = words.lines().skip(1).collect();
            let said = said.join("\n          ");
            self.good(format!("not taken, as it would shut a caller out:\n          {said}"));
            return Ok(());
        }
        self.pass_time(self.quiet() * 2);
        self.good(format!("{LEGACY} still comes, so nothing is refused yet: strict waits for it"));
        Ok(())
    }

    fn keep_calling(&self, end: &AtomicBool) -> Result<(), Failure> {
        while !end.load(Ordering::Relaxed) && !self.stopped() {
            if self.legacy()? != Answered::Well {
                return Err(Failure::new("a plaintext caller was cut off though it still came"));
            }
            std::thread::sleep(LEGACY_EVERY);
        }
        Ok(())
    }

    fn pass_time(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end && !self.stopped() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn refused(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.legacy()? {
                Answered::Refused(flag, rule) => {
                    self.act(format!("{LEGACY} comes again, in plaintext"));
                    self.good(format!("it is refused: {flag}, by {rule}"));
                    self.show(&["explain", "encryption", "pay"])?;
                    break;
                }
                Answered::Well if Instant::now() > deadline => {
                    return Err(Failure::new("strict, and plaintext is still answered"));
                }
                // Each try counts as plaintext seen: the time without any begins anew.
                Answered::Well => self.pass_time(self.unit.max(Duration::from_secs(1)) * 2),
            }
            if self.stopped() {
                return Ok(());
            }
        }
        self.pass(1);
        Ok(())
    }

    fn back(&self) -> Result<(), Failure> {
        self.act("raddle apply -f off.yaml: nobody is asked to encrypt any more");
        let start = Instant::now();
        self.mesh.apply("off.yaml", &config::off())?;
        self.until("all links in plaintext", PATIENCE, |l| l.share() == Some(0.0), |_| {})?;
        self.good(format!("all links in plaintext again after {:.1} s", start.elapsed().as_secs_f64()));
        self.pass(1);
        Ok(())
    }
}
