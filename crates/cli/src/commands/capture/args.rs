//! The arguments of `raddle capture install`.
use clap::{Args, ValueEnum};
use raddle_net::capture::options::{DEFAULT_MARK, DEFAULT_TABLE, MARK_MASK};
use raddle_net::capture::{Backend, Cidr, Families, Options, PortRange, Side};
use raddle_net::original::{Mode, OWN_MARK};

/// Install the rules, or replace those installed before
///
/// Run twice, it leaves the same rules. Run with other options, it replaces the rules in one transaction: at
/// no moment is nothing captured. Connections that are open already are left alone. What stays on this
/// machine (127.0.0.0/8, ::1, its own addresses) is never captured.
#[derive(Debug, Args)]
#[command(after_help = "\
Modes:
  redirect   the kernel rewrites the destination; the sidecar needs no rights for it
  tproxy     no address translation; the sidecar needs the capability NET_ADMIN

Examples:
  raddle capture install --proxy-uid 1337
  raddle capture install --proxy-uid raddle --mode tproxy --family 4
  raddle capture install --proxy-uid 1337 --exclude-outbound-ports 3306 --exclude-cidr 10.9.0.0/16
  raddle capture install --proxy-uid 1337 --include-outbound-ports 80,12200-12299
  raddle capture install --proxy-uid 1337 --dry-run")]
pub(crate) struct InstallArgs {
    /// How connections reach the sidecar
    #[arg(long, value_enum, default_value_t = ModeArg::Redirect)]
    mode: ModeArg,
    /// User the sidecar runs as, by number or name: its connections are not captured
    #[arg(long, value_name = "USER", required_unless_present = "proxy_gid")]
    proxy_uid: Option<String>,
    /// Group the sidecar runs as, instead of the user
    #[arg(long, value_name = "GROUP")]
    proxy_gid: Option<String>,
    /// Other users whose connections are not captured
    #[arg(long, value_name = "USER", value_delimiter = ',')]
    exclude_uid: Vec<String>,
    /// What is captured
    #[arg(long, value_enum, default_value_t = DirectionArg::Both)]
    direction: DirectionArg,
    /// The sidecar's outbound listener
    #[arg(long, value_name = "PORT", default_value_t = 15001, value_parser = clap::value_parser!(u16).range(1..))]
    outbound_port: u16,
    /// The sidecar's inbound listener
    #[arg(long, value_name = "PORT", default_value_t = 15006, value_parser = clap::value_parser!(u16).range(1..))]
    inbound_port: u16,
    /// Capture outbound connections to these ports only
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    include_outbound_ports: Vec<PortRange>,
    /// Leave outbound connections to these ports alone
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    exclude_outbound_ports: Vec<PortRange>,
    /// Capture inbound connections to these ports only
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    include_inbound_ports: Vec<PortRange>,
    /// Leave inbound connections to these ports alone [default: 22, if no inbound ports are named]
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    exclude_inbound_ports: Vec<PortRange>,
    /// Leave outbound connections to these addresses alone
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    exclude_cidr: Vec<Cidr>,
    /// Families of addresses [default: both, where the machine has IPv6]
    #[arg(long, value_enum)]
    family: Option<FamilyArg>,
    /// The tool that applies the rules; auto takes nft, else an iptables
    #[arg(long, value_enum, default_value_t = BackendArg::Auto)]
    backend: BackendArg,
    /// Mark of captured packets, for tproxy: 12 bits (0x001 to 0xfff) that nothing else uses
    #[arg(long, value_name = "MARK", value_parser = mark, default_value = "0x5d1")]
    mark: u32,
    /// Routing table, for tproxy
    #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_TABLE,
          value_parser = clap::value_parser!(u32).range(1..))]
    table: u32,
    /// Print the commands, change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ModeArg {
    /// Rewrite the destination
    Redirect,
    /// Leave the destination
    Tproxy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DirectionArg {
    Both,
    Outbound,
    Inbound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FamilyArg {
    #[value(name = "4")]
    V4,
    #[value(name = "6")]
    V6,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BackendArg {
    Auto,
    Nft,
    IptablesNft,
    IptablesLegacy,
    /// Whichever the machine calls iptables
    Iptables,
}

impl InstallArgs {
    /// The tool, if one is named.
    pub(super) fn backend(&self) -> Option<Backend> {
        match self.backend {
            BackendArg::Auto => None,
            BackendArg::Nft => Some(Backend::Nft),
            BackendArg::IptablesNft => Some(Backend::IptablesNft),
            BackendArg::IptablesLegacy => Some(Backend::IptablesLegacy),
            BackendArg::Iptables => Some(Backend::Iptables),
        }
    }

    /// What is wanted.
    ///
    /// # Errors
    /// A sentence, if the options contradict each other or name a user nobody is.
    pub(super) fn options(&self, has_ipv6: bool) -> Result<Options, String> {
        if self.outbound_port == self.inbound_port && self.direction == DirectionArg::Both {
            return Err(format!(
                "--outbound-port and --inbound-port are both {}: give the port of each listener",
                self.outbound_port
            ));
        }
        let ids = |names: &[&String], file, what| -> Result<Vec<u32>, String> {
            names.iter().map(|n| id(n, &std::fs::read_to_string(file).unwrap_or_default(), what)).collect()
        };
        let users: Vec<&String> = self.proxy_uid.iter().chain(&self.exclude_uid).collect();
        let groups: Vec<&String> = self.proxy_gid.iter().collect();
        Ok(Options {
            mode: match self.mode {
                ModeArg::Redirect => Mode::Redirect,
                ModeArg::Tproxy => Mode::Tproxy,
            },
            families: match self.family {
                None => Families { v4: true, v6: has_ipv6 },
                Some(FamilyArg::V4) => Families { v4: true, v6: false },
                Some(FamilyArg::V6) => Families { v4: false, v6: true },
                Some(FamilyArg::Both) => Families::BOTH,
            },
            outbound: (self.direction != DirectionArg::Inbound).then(|| Side {
                port: self.outbound_port,
                include: self.include_outbound_ports.clone(),
                exclude: self.exclude_outbound_ports.clone(),
            }),
            inbound: (self.direction != DirectionArg::Outbound).then(|| Side {
                port: self.inbound_port,
                include: self.include_inbound_ports.clone(),
                exclude: self.excluded_inbound(),
            }),
            exclude_uids: ids(&users, "/etc/passwd", "user")?,
            exclude_gids: ids(&groups, "/etc/group", "group")?,
            exclude_cidrs: self.exclude_cidr.clone(),
            mark: self.mark,
            table: self.table,
        })
    }

    /// Nobody is to lose the way into a machine because its sidecar is down.
    fn excluded_inbound(&self) -> Vec<PortRange> {
        let asked_for = !self.include_inbound_ports.is_empty() || !self.exclude_inbound_ports.is_empty();
        if asked_for { self.exclude_inbound_ports.clone() } else { vec![PortRange::one(22)] }
    }
}

/// A number, or the number of a name in `/etc/passwd` or `/etc/group`.
fn id(name: &str, file: &str, what: &str) -> Result<u32, String> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let entry = file.lines().find(|l| l.split(':').next() == Some(name));
    entry
        .and_then(|l| l.split(':').nth(2)?.parse().ok())
        .ok_or_else(|| format!("there is no {what} {name} here: give its number"))
}

/// A mark in hexadecimal or decimal, within the bits that capture uses.
fn mark(text: &str) -> Result<u32, String> {
    let number = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    match number {
        Ok(OWN_MARK) => Err(format!("{OWN_MARK:#x} is the mark of the sidecar's own connections")),
        Ok(n) if n != 0 && n & !MARK_MASK == 0 => Ok(n),
        _ => Err(format!("expected 1 to {MARK_MASK:#x}, such as {DEFAULT_MARK:#x}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: InstallArgs,
    }

    fn options(line: &str) -> Result<Options, String> {
        let line = Line::try_parse_from(["install"].into_iter().chain(line.split_whitespace()));
        line.map_err(|e| e.to_string())?.args.options(true)
    }

    #[test]
    fn what_is_not_said_is_sensible() {
        let o = options("--proxy-uid 1337").unwrap();
        assert_eq!((o.mode, o.families, o.mark, o.table), (Mode::Redirect, Families::BOTH, 0x5d1, 15001));
        assert_eq!(o.exclude_uids, [1337]);
        let (outbound, inbound) = (o.outbound.unwrap(), o.inbound.unwrap());
        assert_eq!((outbound.port, outbound.include.len(), outbound.exclude.len()), (15001, 0, 0));
        assert_eq!((inbound.port, inbound.exclude), (15006, vec![PortRange::one(22)]));
    }

    #[test]
    fn the_way_in_is_captured_only_if_it_is_named() {
        let inbound = |line: &str| options(&format!("--proxy-uid 1 {line}")).unwrap().inbound.unwrap();
        assert!(inbound("--include-inbound-ports 22,80").exclude.is_empty());
        assert_eq!(inbound("--exclude-inbound-ports 9000").exclude, [PortRange::one(9000)]);
    }

    #[test]
    fn contradictions_are_told() {
        assert!(options("").unwrap_err().contains("--proxy-uid"));
        assert!(options("--proxy-uid no-such-user").unwrap_err().contains("no-such-user"));
        assert!(options("--proxy-uid 1 --inbound-port 15001").unwrap_err().contains("15001"));
        for bad in ["--mark 0", "--mark 0x1000", "--mark 0x5d3", "--exclude-cidr 10/8", "--table 0"] {
            assert!(options(&format!("--proxy-uid 1 {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_become_numbers() {
        assert_eq!(id("raddle", "root:x:0:0::/:\nraddle:x:1337:1337::/:\n", "user"), Ok(1337));
        assert_eq!(id("12", "", "user"), Ok(12));
    }
}
