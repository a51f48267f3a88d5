//! Tables of the kernel: sockets, cgroups of a process, mounts. Pure functions over text.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};

/// Most sockets, mounts or cgroups looked at in a table.
const MOST: usize = 1 << 20;

/// A listening socket of `/proc/net/tcp` or `tcp6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Where.
    pub addr: SocketAddr,
    /// Its number.
    pub inode: u64,
}

impl Listening {
    /// Whether connections to `addr` come here.
    pub fn takes(&self, addr: SocketAddr) -> bool {
        let own = self.addr.ip().to_canonical();
        // A listener on `::` takes version 4 as well, unless told not to.
        let any = own.is_unspecified() && (own.is_ipv6() || addr.ip().to_canonical().is_ipv4());
        let asked_any = addr.ip().is_unspecified();
        self.addr.port() == addr.port() && (any || asked_any || own == addr.ip().to_canonical())
    }
}

/// The listening sockets of `/proc/net/tcp` or `tcp6`.
pub fn listening(text: &str) -> impl Iterator<Item = Listening> + '_ {
    text.lines().skip(1).take(MOST).filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let addr = socket_addr(words.next()?)?;
        let state = words.nth(1)?;
        let inode = words.nth(5)?.parse().ok()?;
        (state == "0A").then_some(Listening { addr, inode })
    })
}

/// `0100007F:1F90`: words of the address in the machine's order, the port as a number.
fn socket_addr(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (i, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(i)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// The number of a socket that a link in `/proc/PID/fd` names.
pub fn socket_inode(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Where a process is in each hierarchy, of `/proc/PID/cgroup`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroups(Vec<(Vec<String>, PathBuf)>);

impl Cgroups {
    /// Reads the table.
    pub fn read(text: &str) -> Cgroups {
        let line = |l: &str| {
            let mut parts = l.splitn(3, ':');
            let _hierarchy = parts.next()?;
            let controllers = parts.next()?.split(',').filter(|c| !c.is_empty()).map(str::to_owned).collect();
            Some((controllers, PathBuf::from(parts.next()?)))
        };
        Cgroups(text.lines().take(MOST).filter_map(line).collect())
    }

    /// Its place in the hierarchy of version 1 with this controller.
    pub fn v1(&self, controller: &str) -> Option<&Path> {
        let has = |(all, _): &&(Vec<String>, PathBuf)| all.iter().any(|c| c == controller);
        self.0.iter().find(has).map(|(_, path)| path.as_path())
    }

    /// Its place in version 2.
    pub fn v2(&self) -> Option<&Path> {
        self.0.iter().find(|(all, _)| all.is_empty()).map(|(_, path)| path.as_path())
    }
}

/// A mounted hierarchy of cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Which part of the hierarchy is mounted.
    pub root: PathBuf,
    /// Where.
    pub at: PathBuf,
    /// Version 1: its controllers; empty = version 2.
    pub controllers: Vec<String>,
}

impl Mount {
    /// The folder of a cgroup, if it is in what is mounted.
    pub fn folder(&self, cgroup: &Path) -> Option<PathBuf> {
        let inside = cgroup.strip_prefix(&self.root).ok()?;
        // `/..` is what the kernel says of cgroups outside of the reader's namespace.
        let whole = inside.components().all(|c| matches!(c, Component::Normal(_)));
        whole.then(|| self.at.join(inside))
    }
}

/// The hierarchies of cgroups of `/proc/self/mountinfo`.
pub fn cgroup_mounts(mountinfo: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let (own, fs) = line.split_once(" - ")?;
        let mut own = own.split(' ');
        let (root, at) = (own.nth(3)?, own.next()?);
        let mut fs = fs.split(' ');
        let kind = fs.next()?;
        let options = fs.nth(1)?;
        let controllers = match kind {
            "cgroup2" => Vec::new(),
            "cgroup" => {
                options.split(',').filter(|o| !matches!(*o, "rw" | "ro")).map(str::to_owned).collect()
            }
            _ => return None,
        };
        Some(Mount { root: unescape(root).into(), at: unescape(at).into(), controllers })
    };
    mountinfo.lines().take(MOST).filter_map(mount).collect()
}

/// Mountinfo writes spaces and the like as three octal digits.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        match rest.get(at + 1..at + 4).and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(byte) => {
                out.push(byte as char);
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: \
00000000:07E8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 487 1 00000000b58f2abe 100 0 0 10 0\n   \
1: 0100007F:2FA8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 73105 1 0000000000000000 100 0 0 10 \
0\n   2: 0100007F:2FA8 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 73999 1 0000000000000000 20 4 30 \
10 -1\n";
    const TCP6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue \
tr tm->when retrnsmt   uid  timeout inode\n   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 \
0A 00000000:00000000 00:00000000 00000000  1000        0 50001 1 0000000000000000 100 0 0 10 0\n   1: \
0000000000000000FFFF00000100007F:2FA9 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000   \
     0 50002 1 0000000000000000 100 0 0 10 0\n";

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn listeners_are_found_by_where_they_take_connections() {
        let all: Vec<_> = listening(TCP).collect();
        assert_eq!(all.len(), 2, "established ones are none");
        assert_eq!(all[1], Listening { addr: addr("127.0.0.1:12200"), inode: 73105 });
        assert!(all[0].takes(addr("10.1.2.3:2024")));
        assert!(!all[1].takes(addr("10.1.2.3:12200")));
        let six: Vec<_> = listening(TCP6).collect();
        assert!(six[0].takes(addr("127.0.0.1:8080")), "`::` takes version 4");
        assert!(six[1].takes(addr("127.0.0.1:12201")), "a mapped address is what it maps to");
    }

    #[test]
    fn places_in_each_version_are_told_apart() {
        let hybrid =
            "9:name=systemd:/a\n4:memory:/m\n2:cpu,cpuacct:/docker/abc\n0::/system.slice/app.service\n";
        let all = Cgroups::read(hybrid);
        assert_eq!(all.v1("cpuacct"), Some(Path::new("/docker/abc")));
        assert_eq!(all.v1("memory"), Some(Path::new("/m")));
        assert_eq!(all.v1("cpuset"), None);
        assert_eq!(all.v2(), Some(Path::new("/system.slice/app.service")));
    }

    #[test]
    fn folders_of_cgroups_outside_are_not_made_up() {
        let v2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let mounts = cgroup_mounts(v2);
        assert_eq!(mounts.len(), 1);
        assert_eq!(mounts[0].folder(Path::new("/a/b")), Some("/sys/fs/cgroup/a/b".into()));
        assert_eq!(mounts[0].folder(Path::new("/../other")), None);
        let docker = "35 31 0:32 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n36 31 0:33 / \
                      /a\\040b rw master:1 - tmpfs tmpfs rw\n";
        let mounts = cgroup_mounts(docker);
        assert_eq!(mounts.len(), 1);
        assert_eq!(mounts[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(mounts[0].folder(Path::new("/docker/abc")), Some("/sys/fs/cgroup/cpu,cpuacct/".into()));
        assert_eq!(mounts[0].folder(Path::new("/docker/def")), None);
        assert_eq!(unescape("/a\\040b\\x"), "/a b\\x");
    }

    proptest! {
        #[test]
        fn no_text_is_fatal(text in "\\PC*", digits in "[0-9A-F :/,\n-]*") {
            for t in [&text, &digits] {
                let _ = listening(&format!("\n{t}")).count();
                let _ = (Cgroups::read(t), cgroup_mounts(t), unescape(t), socket_inode(Path::new(t)));
            }
        }
    }
}
