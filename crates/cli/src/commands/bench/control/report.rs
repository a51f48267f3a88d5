//! What was measured.
use raddle_bench::compare::Machine;
use serde::Serialize;
use std::fmt;

/// Everything.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) machine: Option<Machine>,
    pub(super) streams: usize,
    pub(super) services: usize,
    pub(super) instances: usize,
    pub(super) apps: usize,
    /// Services each sidecar subscribes to.
    pub(super) subscribe: usize,
    pub(super) phases: Vec<Phase>,
    pub(super) changes: Vec<Changes>,
    pub(super) vanished: Option<Vanished>,
}

/// One phase: how long, and what it cost the control plane.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Phase {
    pub(super) name: &'static str,
    /// Wall-clock time, seconds.
    pub(super) seconds: f64,
    /// CPU of the control plane, seconds.
    pub(super) cpu_seconds: f64,
    /// The same, of one core.
    pub(super) cpu_percent: f64,
    /// CPU of the simulated sidecars, seconds, on the same machine.
    pub(super) sidecars_cpu_seconds: f64,
    /// Cores that were kept busy by neither, or taken by the host: what disturbs.
    pub(super) others_cores: f64,
    /// Its resident memory at the end, and the highest until then, MiB.
    pub(super) resident_mib: f64,
    pub(super) peak_mib: f64,
    /// Connections that failed and were tried again.
    pub(super) failed: usize,
    /// Whether it came to its end within the patience.
    pub(super) done: bool,
}

/// Time from a change to each subscriber having it, milliseconds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Changes {
    pub(super) what: &'static str,
    pub(super) changes: usize,
    pub(super) subscribers: usize,
    pub(super) missed: usize,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
}

/// What became of the instances that vanished at once.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Vanished {
    pub(super) sidecars: usize,
    pub(super) instances: usize,
    /// Instances kept by self-protection after all graces.
    pub(super) kept: usize,
    pub(super) mesh_protected: bool,
    /// Fewest endpoints of the service everybody subscribes to that a survivor saw, and how many there are.
    pub(super) fewest_endpoints: usize,
    pub(super) endpoints: usize,
    /// Kept ones after they had come back.
    pub(super) kept_after: usize,
}

impl Report {
    /// Whether other work took so much of the machine that the figures say less.
    fn disturbed(&self) -> bool {
        self.phases.iter().any(|p| p.others_cores > 0.2)
    }

    /// Whether everything came to its end.
    pub(super) fn whole(&self) -> bool {
        self.phases.iter().all(|p| p.done) && self.changes.iter().all(|c| c.missed == 0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} sidecars, {} services, {} instances of {} apps; each sidecar subscribes to {} services\n",
            self.streams, self.services, self.instances, self.apps, self.subscribe
        )?;
        writeln!(
            f,
            "{:<34} {:>9} {:>9} {:>7} {:>9} {:>9} {:>8} {:>10} {:>7}",
            "phase", "seconds", "CPU s", "CPU %", "MiB", "peak MiB", "retries", "sidecars s", "others"
        )?;
        for p in &self.phases {
            let Phase {
                name, seconds, cpu_seconds, cpu_percent, resident_mib, peak_mib, failed, done, ..
            } = p;
            let (own, others) = (p.sidecars_cpu_seconds, p.others_cores);
            let mark = if *done { "" } else { "  NOT DONE" };
            writeln!(
                f,
                "{name:<34} {seconds:>9.2} {cpu_seconds:>9.2} {cpu_percent:>7.1} {resident_mib:>9.1} {peak_mib:>9.1} {failed:>8} {own:>10.2} {others:>7.2}{mark}"
            )?;
        }
        if self.disturbed() {
            writeln!(f, "DISTURBED: other work took part of the machine; measure again at rest")?;
        }
        writeln!(
            f,
            "\n{:<34} {:>9} {:>11} {:>9} {:>9} {:>9}",
            "change until applied, ms", "changes", "subscribers", "p50", "p99", "max"
        )?;
        for c in &self.changes {
            let Changes { what, changes, subscribers, missed, p50_ms, p99_ms, max_ms } = c;
            let mark = if *missed == 0 { String::new() } else { format!("  {missed} MISSED") };
            writeln!(
                f,
                "{what:<34} {changes:>9} {subscribers:>11} {p50_ms:>9.1} {p99_ms:>9.1} {max_ms:>9.1}{mark}"
            )?;
        }
        if let Some(v) = &self.vanished {
            let protected = if v.mesh_protected { ", the mesh as a whole protected" } else { "" };
            writeln!(
                f,
                "\n{} sidecars with {} instances vanished at once: {} kept{protected}; survivors saw {} of {} endpoints or \
                 more; {} kept after all had come back",
                v.sidecars, v.instances, v.kept, v.fewest_endpoints, v.endpoints, v.kept_after
            )?;
        }
        Ok(())
    }
}
