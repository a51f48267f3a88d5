//! What the figures were measured on.
use super::process;
use serde::Serialize;
use std::fs;

/// The machine and the time of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// When the run began, local time with zone.
    pub date: String,
    /// CPUs this process may use.
    pub cpus: usize,
    /// What the CPU calls itself.
    pub cpu_model: String,
    /// Kernel name, release and architecture.
    pub kernel: String,
    /// Whether it is a virtual machine, as far as the CPU says.
    pub virtual_machine: bool,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// Files a process may open.
    pub open_files: u64,
    /// Processes that wanted to run in the minute before, on average: other work, which disturbs.
    pub load_average: f64,
}

impl Machine {
    /// Whether other work ran before: figures then say less.
    pub fn was_busy(&self) -> bool {
        self.load_average > 0.5 * self.cpus as f64
    }

    /// Describes this machine now, where a process may open so many files.
    pub fn describe(open_files: u64) -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
            line.split_once(':').map(|(_, value)| value.trim().to_owned())
        };
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory_kib = meminfo
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        let uname = rustix::system::uname();
        Machine {
            date: jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S %z").to_string(),
            cpus: process::cpus().len(),
            cpu_model: field("model name").unwrap_or_else(|| "unknown".into()),
            kernel: format!(
                "{} {} {}",
                uname.sysname().to_string_lossy(),
                uname.release().to_string_lossy(),
                uname.machine().to_string_lossy()
            ),
            virtual_machine: field("flags").is_some_and(|f| f.split(' ').any(|flag| flag == "hypervisor")),
            memory_mib: memory_kib.unwrap_or(0) / 1024,
            open_files,
            load_average: fs::read_to_string("/proc/loadavg")
                .ok()
                .and_then(|text| text.split(' ').next()?.parse().ok())
                .unwrap_or(0.0),
        }
    }
}
