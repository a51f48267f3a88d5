//! CPU time and memory of processes, from `/proc`.
//!
//! CPU is the run time of `/proc/PID/task/*/schedstat`: nanoseconds, not the clock ticks of `stat`.
use std::collections::HashMap;
use std::fs;
use std::time::Duration;

/// Adds up what the threads of one process ran since the meter was made.
///
/// A thread that ends between samples keeps what it was last seen with, so the sum never falls.
#[derive(Debug)]
pub struct CpuMeter {
    pid: u32,
    first: HashMap<u32, u64>,
    last: HashMap<u32, u64>,
}

impl CpuMeter {
    /// A meter that starts at zero now.
    pub fn start(pid: u32) -> CpuMeter {
        let first = threads(pid);
        CpuMeter { pid, last: first.clone(), first }
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Reads again; returns what was used since the start.
    pub fn sample(&mut self) -> Duration {
        self.last.extend(threads(self.pid));
        let used = |(tid, &now): (&u32, &u64)| now.saturating_sub(*self.first.get(tid).unwrap_or(&0));
        Duration::from_nanos(self.last.iter().map(used).sum())
    }
}

/// Run time of a process's living threads since they began.
pub fn used(pid: u32) -> Duration {
    Duration::from_nanos(threads(pid).values().sum())
}

/// Run time of the calling thread since it began.
pub fn this_thread() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0))
}

/// Run time in nanoseconds of each thread of a process; empty if it is gone.
fn threads(pid: u32) -> HashMap<u32, u64> {
    let Ok(dir) = fs::read_dir(format!("/proc/{pid}/task")) else { return HashMap::new() };
    dir.flatten()
        .filter_map(|entry| {
            let tid = entry.file_name().to_str()?.parse().ok()?;
            let text = fs::read_to_string(entry.path().join("schedstat")).ok()?;
            Some((tid, text.split_whitespace().next()?.parse().ok()?))
        })
        .collect()
}

/// CPU of the whole machine since it was started, as far as `/proc/stat` counts it (10 ms ticks).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MachineCpu {
    /// Seconds in which a CPU did something.
    pub busy_s: f64,
    /// Seconds in which a virtual CPU wanted to run and the host did something else.
    pub stolen_s: f64,
}

impl MachineCpu {
    /// Reads the counters.
    pub fn now() -> MachineCpu {
        MachineCpu::parse(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    fn parse(text: &str) -> MachineCpu {
        let first = text.lines().next().unwrap_or_default();
        let ticks: Vec<f64> = first.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
        // user, nice, system, idle, iowait, irq, softirq, steal; guests are in user and nice already.
        let sum = |columns: &[usize]| columns.iter().filter_map(|c| ticks.get(*c)).sum::<f64>() / 100.0;
        MachineCpu { busy_s: sum(&[0, 1, 2, 5, 6]), stolen_s: sum(&[7]) }
    }

    /// What was used since `earlier`.
    pub fn since(self, earlier: MachineCpu) -> MachineCpu {
        MachineCpu { busy_s: self.busy_s - earlier.busy_s, stolen_s: self.stolen_s - earlier.stolen_s }
    }
}

/// Resident memory of a process, bytes (`VmRSS`); `None` if it is gone.
pub fn resident(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn cpu_of_an_ended_thread_is_not_lost() {
        let mut meter = CpuMeter::start(std::process::id());
        let stop = AtomicBool::new(false);
        let busy = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            let busy = loop {
                let used = meter.sample();
                if used > Duration::from_millis(5) {
                    break used;
                }
            };
            stop.store(true, Ordering::Relaxed);
            busy
        });
        assert!(meter.sample() >= busy);
    }

    #[test]
    fn the_machine_is_read_in_seconds() {
        let cpu = MachineCpu::parse("cpu  100 20 30 4000 50 6 7 8 100 0\ncpu0 1 2 3\n");
        assert_eq!(cpu, MachineCpu { busy_s: 1.63, stolen_s: 0.08 });
        assert_eq!(MachineCpu::parse(""), MachineCpu::default());
    }

    #[test]
    fn a_process_that_is_gone_costs_nothing() {
        assert_eq!(CpuMeter::start(u32::MAX).sample(), Duration::ZERO);
        assert_eq!(resident(u32::MAX), None);
        assert!(resident(std::process::id()).is_some());
    }
}
