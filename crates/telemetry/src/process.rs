//! The process's own cost, read from `/proc` at each scrape, under the names Prometheus clients share.
use crate::cell::Kind;
use crate::cells::Family;
use crate::exposition::Exposition;
use std::fs;

/// `/proc` counts CPU time in hundredths of a second whatever the kernel's own tick (USER_HZ, proc(5)).
const TICKS_PER_SECOND: u64 = 100;

const fn family(name: &'static str, kind: Kind, unit: &'static str, help: &'static str) -> Family {
    Family { name, kind, constant: "", label: "", unit, help }
}

/// In the order they are written.
pub(crate) const FAMILIES: [Family; 6] = [
    family("process_cpu_seconds_total", Kind::Counter, "seconds", "CPU time used, user and system."),
    family("process_threads", Kind::Gauge, "threads", "Threads."),
    family(
        "process_start_time_seconds",
        Kind::Gauge,
        "seconds",
        "When the process started, since the epoch.",
    ),
    family("process_resident_memory_bytes", Kind::Gauge, "bytes", "Resident memory."),
    family("process_open_fds", Kind::Gauge, "descriptors", "Open file descriptors."),
    family("process_max_fds", Kind::Gauge, "descriptors", "How many file descriptors the process may open."),
];

/// What `/proc` tells; a part that cannot be read is left out.
#[derive(Debug, Default, PartialEq)]
struct Usage {
    cpu_ticks: Option<u64>,
    threads: Option<u64>,
    started: Option<u64>,
    resident: Option<u64>,
    fds: Option<u64>,
    max_fds: Option<u64>,
}

/// Writes what is known about the process.
pub(crate) fn expose(out: &mut Exposition) {
    let usage = read();
    let cpu = usage.cpu_ticks.map(|ticks| ticks * (1_000_000_000 / TICKS_PER_SECOND));
    let [cpu_family, others @ ..] = &FAMILIES;
    if let Some(ns) = cpu {
        out.family(cpu_family);
        out.seconds(cpu_family.name, "", "", ns);
    }
    let values = [usage.threads, usage.started, usage.resident, usage.fds, usage.max_fds];
    for (family, value) in others.iter().zip(values) {
        if let Some(value) = value {
            out.family(family);
            out.sample(family.name, "", "", "", value);
        }
    }
}

fn read() -> Usage {
    let text = |path| fs::read_to_string(path).unwrap_or_default();
    let mut usage = parse_stat(&text("/proc/self/stat"), &text("/proc/stat"));
    usage.resident = number_after(&text("/proc/self/status"), "VmRSS:").map(|kib| kib * 1024);
    usage.max_fds = number_after(&text("/proc/self/limits"), "Max open files");
    // The descriptor the directory itself is read through is not the process's.
    usage.fds = fs::read_dir("/proc/self/fd").ok().map(|dir| (dir.count() as u64).saturating_sub(1));
    usage
}

/// proc_pid_stat(5): the command may hold spaces and parentheses, so fields are counted from its end.
fn parse_stat(own: &str, system: &str) -> Usage {
    let after_command = own.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = |n: usize| after_command.split_ascii_whitespace().nth(n - 3)?.parse::<u64>().ok();
    let boot = number_after(system, "btime");
    Usage {
        cpu_ticks: field(14).zip(field(15)).map(|(user, kernel)| user + kernel),
        threads: field(20),
        started: boot.zip(field(22)).map(|(boot, ticks)| boot + ticks / TICKS_PER_SECOND),
        ..Usage::default()
    }
}

fn number_after(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let own = "7 (a) b (c) S 1 7 7 0 -1 4194304 1 0 0 0 250 50 0 0 20 0 4 0 12345 1 2 3";
        let usage = parse_stat(own, "cpu 1 2\nbtime 1000\n");
        assert_eq!(usage.cpu_ticks, Some(300));
        assert_eq!(usage.threads, Some(4));
        assert_eq!(usage.started, Some(1123));
    }

    #[test]
    fn this_process_has_memory_threads_and_descriptors() {
        let usage = read();
        assert!(usage.resident.is_some_and(|bytes| bytes > 100_000));
        assert!(usage.threads.is_some_and(|n| n >= 1));
        assert!(usage.fds.is_some_and(|n| n >= 1));
        assert!(usage.max_fds.is_some_and(|n| n >= 1));
    }

    #[test]
    fn nothing_is_made_up_where_proc_is_not_readable() {
        assert_eq!(parse_stat("", ""), Usage::default());
    }
}
