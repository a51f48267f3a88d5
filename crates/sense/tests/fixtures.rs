//! Machines as the kernel shows them, below a folder: version 2, version 1, hybrid, containers.
use raddle_core::Time;
use raddle_model::LoadSignal;
use raddle_policy::limit::adaptive::Sample;
use raddle_sense::{SenseError, Sensor};
use std::net::SocketAddr;
use std::path::Path;

const STATUS: &str = "Name:\tjava\nVmRSS:\t  204800 kB\nCpus_allowed_list:\t0-3\n";
const V2_MOUNT: &str = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

struct Machine(tempfile::TempDir);

impl Machine {
    /// Eight cores, 8 GiB, and a sidecar in a cgroup of its own.
    fn new(mountinfo: &str, own: &str) -> Machine {
        let m = Machine(tempfile::tempdir().expect("a folder"));
        m.put("/sys/devices/system/cpu/online", "0-7\n");
        m.put("/proc/meminfo", "MemTotal:        8388608 kB\nMemFree:          123456 kB\n");
        m.put("/proc/self/mountinfo", mountinfo);
        m.put("/proc/self/cgroup", own);
        m
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.0.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("is made");
        std::fs::write(path, text).expect("is written");
    }

    fn remove(&self, path: &str) {
        std::fs::remove_dir_all(self.0.path().join(path.trim_start_matches('/'))).expect("is removed");
    }

    /// A process that listens on 127.0.0.1:12200.
    fn app(&self, pid: u32, cgroup: &str, start: u64) {
        self.listens("0100007F:2FA8", 73105);
        self.put(&format!("/proc/{pid}/cgroup"), cgroup);
        self.put(&format!("/proc/{pid}/status"), STATUS);
        self.ticks(pid, start, 0);
        let folder = self.0.path().join(format!("proc/{pid}/fd"));
        std::fs::create_dir_all(&folder).expect("is made");
        std::os::unix::fs::symlink("socket:[73105]", folder.join("7")).expect("is linked");
    }

    fn listens(&self, at: &str, inode: u64) {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let line = format!(
            "   0: {at} 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 {inode} 1 0 100 0 0 10 0\n"
        );
        self.put("/proc/net/tcp", &(head.to_owned() + &line));
    }

    fn ticks(&self, pid: u32, start: u64, ticks: u64) {
        let stat = format!(
            "{pid} (java) S 1 1 1 0 -1 4194304 1 0 0 0 {ticks} 0 0 0 20 0 41 0 {start} 3133440 394\n"
        );
        self.put(&format!("/proc/{pid}/stat"), &stat);
    }

    fn sensor(&self, signal: LoadSignal) -> Sensor {
        let app: SocketAddr = "127.0.0.1:12200".parse().expect("an address");
        Sensor::open_at(self.0.path(), &signal, &[app], None)
    }
}

fn at(seconds: u64) -> Time {
    Time::from_millis(seconds * 1000)
}

fn sample(sensor: &mut Sensor, seconds: u64) -> Sample {
    match sensor.sample(at(seconds)) {
        Ok(Some(sample)) => sample,
        other => panic!("no sample but {other:?}; {}", sensor.describe()),
    }
}

fn first(sensor: &mut Sensor, seconds: u64) {
    assert_eq!(sensor.sample(at(seconds)), Ok(None), "the first has nothing before it");
}

#[test]
fn version_2_with_a_quota_of_a_parent() {
    let m = Machine::new(V2_MOUNT, "0::/system.slice/raddle.service\n");
    m.app(4711, "0::/apps.slice/order.service\n", 100);
    let app = "/sys/fs/cgroup/apps.slice/order.service";
    let stat = |usage: u64, throttled: u64, periods: u64| {
        format!(
            "usage_usec {usage}\nuser_usec 1\nsystem_usec 1\nnr_periods {periods}\nnr_throttled {throttled}\n\
             throttled_usec 1\n"
        )
    };
    m.put(&format!("{app}/cpu.max"), "400000 100000\n");
    m.put("/sys/fs/cgroup/apps.slice/cpu.max", "150000 100000\n");
    m.put(&format!("{app}/cpu.stat"), &stat(5_000_000, 0, 10));
    m.put("/sys/fs/cgroup/apps.slice/cpu.stat", &stat(9_000_000, 5, 100));
    m.put(&format!("{app}/cpu.pressure"), "some avg10=0.17 avg60=2.47 avg300=26.01 total=1000000\n");
    m.put(&format!("{app}/memory.current"), "629145600\n");
    m.put(&format!("{app}/memory.stat"), "anon 1\ninactive_file 104857600\nactive_file 7\n");
    m.put(&format!("{app}/memory.max"), "max\n");
    m.put(&format!("{app}/memory.high"), "1048576000\n");
    m.put("/sys/fs/cgroup/apps.slice/memory.current", "629145600\n");
    m.put("/sys/fs/cgroup/apps.slice/memory.max", "2147483648\n");
    let mut sensor = m.sensor(LoadSignal::Auto);
    first(&mut sensor, 10);
    m.put(&format!("{app}/cpu.stat"), &stat(7_400_000, 0, 30));
    m.put("/sys/fs/cgroup/apps.slice/cpu.stat", &stat(19_000_000, 10, 120));
    m.put(&format!("{app}/cpu.pressure"), "some avg10=0.17 avg60=2.47 avg300=26.01 total=1500000\n");
    let s = sample(&mut sensor, 12);
    assert!((s.cpu - 1.2).abs() < 1e-9, "{s:?}");
    assert!(
        (s.cores - 1.5).abs() < 1e-9,
        "the parent's quota is tighter than the own, affinity and the machine: {s:?}"
    );
    assert!((s.pressure.unwrap_or(9.0) - 0.25).abs() < 1e-9, "{s:?}");
    assert!((s.throttled.unwrap_or(9.0) - 0.25).abs() < 1e-9, "by the quota that binds: {s:?}");
    assert!((s.memory.unwrap_or(9.0) - 0.5).abs() < 1e-9, "the working set, of memory.high: {s:?}");
    let says = sensor.describe();
    assert!(
        says.contains("/sys/fs/cgroup/apps.slice/order.service (version 2) of process 4711, of 1.5 cores"),
        "{says}"
    );
}

#[test]
fn version_1_with_controllers_mounted_together() {
    let mounts = "35 31 0:32 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n36 31 0:33 / \
                  /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    let m = Machine::new(mounts, "4:memory:/docker/side\n3:cpu,cpuacct:/docker/side\n");
    m.app(4711, "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n", 100);
    let cpu = "/sys/fs/cgroup/cpu,cpuacct/docker/abc";
    m.put(&format!("{cpu}/cpuacct.usage"), "5000000000\n");
    m.put(&format!("{cpu}/cpu.cfs_quota_us"), "200000\n");
    m.put(&format!("{cpu}/cpu.cfs_period_us"), "100000\n");
    m.put(&format!("{cpu}/cpu.stat"), "nr_periods 100\nnr_throttled 50\nthrottled_time 7\n");
    m.put("/sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us", "-1\n");
    m.put("/sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_period_us", "100000\n");
    let memory = "/sys/fs/cgroup/memory/docker/abc";
    m.put(&format!("{memory}/memory.usage_in_bytes"), "600\n");
    m.put(&format!("{memory}/memory.limit_in_bytes"), "1000\n");
    m.put(&format!("{memory}/memory.stat"), "cache 1\ninactive_file 1\ntotal_inactive_file 100\n");
    m.put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    let mut sensor = m.sensor(LoadSignal::Auto);
    first(&mut sensor, 10);
    m.put(&format!("{cpu}/cpuacct.usage"), "6500000000\n");
    m.put(&format!("{cpu}/cpu.stat"), "nr_periods 110\nnr_throttled 60\nthrottled_time 7\n");
    let s = sample(&mut sensor, 11);
    assert!((s.cpu - 1.5).abs() < 1e-9 && (s.cores - 2.0).abs() < 1e-9, "{s:?}");
    assert_eq!((s.pressure, s.throttled), (None, Some(1.0)));
    assert!((s.memory.unwrap_or(9.0) - 0.5).abs() < 1e-9, "{s:?}");
}

#[test]
fn hybrid_counts_by_version_2_and_bounds_by_version_1() {
    let mounts = "35 31 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n36 31 0:33 / /sys/fs/cgroup/memory rw - \
                  cgroup cgroup rw,memory\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    let m = Machine::new(mounts, "5:cpu:/side\n4:memory:/\n0::/side\n");
    m.app(4711, "5:cpu:/app\n4:memory:/\n0::/app\n", 100);
    m.put("/sys/fs/cgroup/cpu/app/cpu.cfs_quota_us", "50000\n");
    m.put("/sys/fs/cgroup/cpu/app/cpu.cfs_period_us", "100000\n");
    m.put("/sys/fs/cgroup/unified/app/cpu.stat", "usage_usec 1000000\n");
    m.put("/sys/fs/cgroup/unified/app/cpu.pressure", "some avg10=0 avg60=0 avg300=0 total=0\n");
    let mut sensor = m.sensor(LoadSignal::Auto);
    first(&mut sensor, 10);
    m.put("/sys/fs/cgroup/unified/app/cpu.stat", "usage_usec 1400000\n");
    let s = sample(&mut sensor, 11);
    assert!((s.cpu - 0.4).abs() < 1e-9 && (s.cores - 0.5).abs() < 1e-9, "{s:?}");
    assert_eq!(s.pressure, Some(0.0));
}

#[test]
fn a_cgroup_shared_with_the_sidecar_or_with_all_gives_way_to_the_process() {
    for (side, app) in [("0::/pod\n", "0::/pod\n"), ("0::/pod/side\n", "0::/pod\n"), ("0::/\n", "0::/\n")] {
        let m = Machine::new(V2_MOUNT, side);
        m.app(4711, app, 100);
        m.put("/sys/fs/cgroup/pod/cpu.stat", "usage_usec 1\nnr_periods 0\nnr_throttled 0\n");
        m.put("/sys/fs/cgroup/pod/cpu.max", "200000 100000\n");
        let mut sensor = m.sensor(LoadSignal::Auto);
        first(&mut sensor, 10);
        m.ticks(4711, 100, 70);
        let s = sample(&mut sensor, 11);
        assert!((s.cpu - 0.7).abs() < 1e-9, "{side:?} {app:?}: {s:?}");
        let quota = if app == "0::/\n" { 4.0 } else { 2.0 };
        assert!((s.cores - quota).abs() < 1e-9, "a shared quota binds the app, too: {s:?}");
        // 200 MiB resident, of the machine's 8 GiB.
        assert!((s.memory.unwrap_or(9.0) - 200.0 / 8192.0).abs() < 1e-9, "{s:?}");
        assert!(sensor.describe().contains("CPU time of process 4711"), "{}", sensor.describe());
    }
}

#[test]
fn the_cgroup_of_another_container_is_out_of_reach_but_not_its_process() {
    let m = Machine::new(V2_MOUNT, "0::/\n");
    m.app(4711, "0::/../app-container\n", 100);
    let mut sensor = m.sensor(LoadSignal::Auto);
    first(&mut sensor, 10);
    m.ticks(4711, 100, 100);
    let s = sample(&mut sensor, 12);
    assert!((s.cpu - 0.5).abs() < 1e-9 && (s.cores - 4.0).abs() < 1e-9, "bound by its affinity: {s:?}");
}

#[test]
fn an_app_that_restarts_is_found_again_and_one_that_is_not_there_is_waited_for() {
    let m = Machine::new(V2_MOUNT, "0::/\n");
    m.put("/proc/net/tcp", "head\n");
    let mut sensor = m.sensor(LoadSignal::Auto);
    let missing = sensor.sample(at(1)).expect_err("nothing listens");
    assert_eq!(missing, SenseError::NotThere(vec![12200]));
    assert!(missing.passes() && !sensor.sees());
    m.app(4711, "0::/\n", 100);
    first(&mut sensor, 2);
    m.ticks(4711, 100, 50);
    assert!((sample(&mut sensor, 3).cpu - 0.5).abs() < 1e-9);
    m.remove("/proc/4711");
    m.put("/proc/net/tcp", "head\n");
    assert!(sensor.sample(at(4)).is_err());
    m.app(5000, "0::/\n", 900);
    first(&mut sensor, 5);
    m.ticks(5000, 900, 90);
    assert!((sample(&mut sensor, 6).cpu - 0.9).abs() < 1e-9);
    // The same id, another process: what it used before is not the difference.
    m.ticks(5000, 7777, 1_000_000);
    first(&mut sensor, 7);
}

#[test]
fn an_app_that_restarts_within_its_cgroup_leaves_no_gap() {
    let m = Machine::new(V2_MOUNT, "0::/side\n");
    m.app(4711, "0::/app\n", 100);
    m.put("/sys/fs/cgroup/app/cpu.stat", "usage_usec 1000000\n");
    let mut sensor = m.sensor(LoadSignal::Auto);
    first(&mut sensor, 10);
    m.remove("/proc/4711");
    m.app(4712, "0::/app\n", 1200);
    m.put("/sys/fs/cgroup/app/cpu.stat", "usage_usec 1300000\n");
    assert!((sample(&mut sensor, 11).cpu - 0.3).abs() < 1e-9);
}

#[test]
fn a_process_in_another_namespace_is_said_to_be_so() {
    let m = Machine::new(V2_MOUNT, "0::/\n");
    m.listens("00000000:2FA8", 99);
    let mut sensor = m.sensor(LoadSignal::Auto);
    let hidden = sensor.sample(at(1)).expect_err("no process has it");
    assert_eq!(hidden, SenseError::Hidden { port: 12200, denied: false });
    assert!(!hidden.passes());
    assert!(sensor.describe().contains("shareProcessNamespace"), "{}", sensor.describe());
    assert!(sensor.describe().contains("latency alone"), "{}", sensor.describe());
}

#[test]
fn a_cgroup_that_is_named_is_taken_whoever_is_in_it() {
    let m = Machine::new(V2_MOUNT, "0::/app\n");
    let folder = "/sys/fs/cgroup/app";
    let mut sensor = m.sensor(LoadSignal::Cgroup(folder.into()));
    assert!(matches!(sensor.sample(at(1)), Err(SenseError::File(..))), "it is not there yet");
    m.put(&format!("{folder}/cgroup.procs"), "");
    m.put(&format!("{folder}/cpu.stat"), "usage_usec 1000000\n");
    m.put(&format!("{folder}/cpuset.cpus.effective"), "2-3\n");
    first(&mut sensor, 3);
    m.put(&format!("{folder}/cpu.stat"), "usage_usec 2000000\n");
    let s = sample(&mut sensor, 4);
    assert!((s.cpu - 1.0).abs() < 1e-9 && (s.cores - 2.0).abs() < 1e-9, "{s:?}");
    // It was emptied and made anew: less than before is no difference.
    m.put(&format!("{folder}/cpu.stat"), "usage_usec 5\n");
    first(&mut sensor, 5);
}

#[test]
fn a_version_1_cgroup_without_accounting_is_counted_by_its_members() {
    let mounts = "35 31 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n36 31 0:33 / /sys/fs/cgroup/cpuacct rw - \
                  cgroup cgroup rw,cpuacct\n";
    let m = Machine::new(mounts, "5:cpu:/\n4:cpuacct:/\n");
    m.put("/sys/fs/cgroup/cpu/app/cgroup.procs", "4711\n4712\n");
    m.put("/sys/fs/cgroup/cpu/app/cpu.cfs_quota_us", "150000\n");
    m.put("/sys/fs/cgroup/cpu/app/cpu.cfs_period_us", "100000\n");
    m.ticks(4711, 1, 1000);
    m.ticks(4712, 1, 2000);
    let mut sensor = m.sensor(LoadSignal::Cgroup("/sys/fs/cgroup/cpu/app".into()));
    first(&mut sensor, 10);
    m.ticks(4711, 1, 1040);
    m.ticks(4712, 1, 2050);
    let s = sample(&mut sensor, 11);
    assert!((s.cpu - 0.9).abs() < 1e-9 && (s.cores - 1.5).abs() < 1e-9, "{s:?}");
}

#[test]
fn two_calls_at_once_give_one_sample() {
    let m = Machine::new(V2_MOUNT, "0::/\n");
    m.app(4711, "0::/\n", 100);
    let mut sensor = m.sensor(LoadSignal::Auto);
    first(&mut sensor, 10);
    m.ticks(4711, 100, 50);
    assert_eq!(sensor.sample(at(10)), Ok(None));
    assert!((sample(&mut sensor, 11).cpu - 0.5).abs() < 1e-9, "nothing was lost");
}

#[test]
fn latency_alone_reads_nothing() {
    let mut sensor = Sensor::open_at(Path::new("/nowhere"), &LoadSignal::Latency, &[], None);
    assert_eq!(sensor.sample(at(1)), Ok(None));
    assert!(!sensor.sees());
    assert!(sensor.describe().contains("as the rule says"));
}
