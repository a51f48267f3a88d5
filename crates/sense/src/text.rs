//! What the kernel's files say: pure functions over text. Sources: `Documentation/admin-guide/cgroup-v2.rst`,
//! `cgroup-v1/{cpuacct,memory}.rst`, `scheduler/sched-bwc.rst`, `accounting/psi.rst`, proc(5).

/// The number after a name, in a file of `NAME NUMBER` lines (`cpu.stat`, `memory.stat`).
pub fn keyed(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// A file with one number; `max` and the numbers that mean it in version 1 are none.
pub fn bytes_bound(text: &str) -> Option<u64> {
    // Version 1 says "no bound" by the largest multiple of the page size.
    text.trim().parse().ok().filter(|n| *n < 1 << 60)
}

/// `cpu.max`: cores, none if `max`.
pub fn cpu_max(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    let quota: f64 = words.next()?.parse().ok()?;
    let period: f64 = words.next().unwrap_or("100000").parse().ok()?;
    cores(quota, period)
}

/// `cpu.cfs_quota_us` and `cpu.cfs_period_us`: cores, none if the quota is -1.
pub fn cfs_quota(quota: &str, period: &str) -> Option<f64> {
    cores(quota.trim().parse().ok()?, period.trim().parse().ok()?)
}

fn cores(quota: f64, period: f64) -> Option<f64> {
    (quota > 0.0 && period > 0.0).then_some(quota / period).filter(|c| c.is_finite())
}

/// Microseconds in which some waited, of a `*.pressure` file.
pub fn pressure_some(text: &str) -> Option<u64> {
    let some = text.lines().find_map(|l| l.strip_prefix("some "))?;
    some.split(' ').find_map(|w| w.strip_prefix("total=")?.parse().ok())
}

/// A list of CPUs, `0-3,8`: how many; none if it is empty or no list.
pub fn cpu_list(text: &str) -> Option<u32> {
    let mut all = 0u32;
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        all = all.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(all)
}

/// CPUs that a process may run on, of `/proc/PID/status`.
pub fn cpus_allowed(status: &str) -> Option<u32> {
    cpu_list(status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"))?)
}

/// Lines `cpuN` of `/proc/stat`.
pub fn cpus_of_stat(stat: &str) -> u32 {
    let is_cpu =
        |l: &&str| l.strip_prefix("cpu").is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()));
    stat.lines().filter(is_cpu).count() as u32
}

/// Memory of the machine in bytes, of `/proc/meminfo`.
pub fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Resident bytes of a process, of `/proc/PID/status`.
pub fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What `/proc/PID/stat` says of the whole process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Parent.
    pub parent: u32,
    /// Ticks spent, user and system, of all its threads.
    pub ticks: u64,
    /// When it began, ticks after boot: with the id it names a process.
    pub start: u64,
    /// It has ended, and nobody has asked how.
    pub zombie: bool,
}

/// `/proc/PID/stat`. The name is in parentheses and may hold anything, more of them included.
pub fn stat(text: &str) -> Option<Stat> {
    let rest = &text[text.rfind(')')? + 1..];
    let words: Vec<&str> = rest.split_whitespace().collect();
    // Numbered as in proc(5): the state is field 3.
    let field = |n: usize| words.get(n - 3).copied();
    let number = |n: usize| field(n)?.parse::<u64>().ok();
    Some(Stat {
        parent: field(4)?.parse().ok()?,
        ticks: number(14)?.checked_add(number(15)?)?,
        start: number(22)?,
        zombie: matches!(field(3), Some("Z" | "X")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // From a machine with Linux 6.8 and a container with 1.5 CPUs.
    const CPU_STAT_V2: &str = "usage_usec 812345678\nuser_usec 612345678\nsystem_usec 200000000\ncore_sched.force_idle_usec \
                               0\nnr_periods 40210\nnr_throttled 1203\nthrottled_usec 98765432\nnr_bursts 0\nburst_usec 0\n";

    #[test]
    fn names_are_whole_words() {
        assert_eq!(keyed(CPU_STAT_V2, "usage_usec"), Some(812_345_678));
        assert_eq!(keyed(CPU_STAT_V2, "nr_throttled"), Some(1203));
        assert_eq!(keyed(CPU_STAT_V2, "usage"), None);
        assert_eq!(keyed("inactive_file 10\ntotal_inactive_file 99\n", "inactive_file"), Some(10));
        assert_eq!(keyed("inactive_file ten\n", "inactive_file"), None);
    }

    #[test]
    fn no_bound_is_none() {
        assert_eq!(bytes_bound("max\n"), None);
        assert_eq!(bytes_bound("9223372036854771712\n"), None);
        assert_eq!(bytes_bound("536870912\n"), Some(512 << 20));
        assert_eq!(cpu_max("max 100000\n"), None);
        assert_eq!(cpu_max("150000 100000\n"), Some(1.5));
        assert_eq!(cpu_max("5000 0\n"), None);
        assert_eq!(cfs_quota("-1\n", "100000\n"), None);
        assert_eq!(cfs_quota("50000\n", "100000\n"), Some(0.5));
    }

    #[test]
    fn pressure_is_the_total_of_some() {
        let text = "some avg10=0.17 avg60=2.47 avg300=26.01 total=25257471597\nfull avg10=0.00 avg60=0.00 avg300=0.00 \
                    total=7\n";
        assert_eq!(pressure_some(text), Some(25_257_471_597));
        assert_eq!(pressure_some("full avg10=0 total=7\n"), None);
    }

    #[test]
    fn cpus_are_counted_by_ranges() {
        assert_eq!(cpu_list("0-3,8\n"), Some(5));
        assert_eq!(cpu_list("2\n"), Some(1));
        assert_eq!(cpu_list("\n"), None);
        assert_eq!(cpu_list("3-1\n"), None);
        assert_eq!(cpu_list("0-4294967295\n"), None);
        assert_eq!(cpus_allowed("Name:\tjava\nCpus_allowed:\t3\nCpus_allowed_list:\t0-1\n"), Some(2));
        assert_eq!(cpus_of_stat("cpu  1 2 3\ncpu0 1 2\ncpu1 1 2\nintr 7\n"), 2);
    }

    #[test]
    fn a_process_may_have_any_name() {
        let text = "15923 (a) R 1 (evil)) S 4711 15906 12263 0 -1 4194304 101 0 0 0 250 50 9 9 20 0 41 0 5272328 3133440 394";
        let Some(stat) = stat(text) else { panic!("it is one") };
        assert_eq!(stat, Stat { parent: 4711, ticks: 300, start: 5_272_328, zombie: false });
    }

    #[test]
    fn memory_is_in_bytes() {
        assert_eq!(mem_total("MemTotal:        8049444 kB\nMemFree: 1 kB\n"), Some(8_049_444 << 10));
        assert_eq!(resident("VmPeak:\t 10 kB\nVmRSS:\t    1576 kB\n"), Some(1576 << 10));
    }

    proptest! {
        #[test]
        fn no_text_is_fatal(text in "\\PC*", digits in "[0-9 ,()\n:-]*") {
            for t in [&text, &digits] {
                let _ = (keyed(t, "a"), bytes_bound(t), cpu_max(t), cfs_quota(t, t), pressure_some(t));
                let _ = (cpu_list(t), cpus_allowed(t), cpus_of_stat(t), mem_total(t), resident(t), stat(t));
            }
        }
    }
}
