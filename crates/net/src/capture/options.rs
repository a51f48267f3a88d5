//! What is to be captured.
use crate::original::Mode;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// What `raddle capture install` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How connections reach the listener.
    pub mode: Mode,
    /// For which families of addresses.
    pub families: Families,
    /// What the application calls; None leaves it alone.
    pub outbound: Option<Side>,
    /// What calls the application; None leaves it alone.
    pub inbound: Option<Side>,
    /// Users whose connections are never captured: the sidecar's own, above all.
    pub exclude_uids: Vec<u32>,
    /// Groups whose connections are never captured.
    pub exclude_gids: Vec<u32>,
    /// Destinations that outbound connections go to directly.
    pub exclude_cidrs: Vec<Cidr>,
    /// The mark by which TPROXY knows captured connections, under [`MARK_MASK`].
    pub mark: u32,
    /// The routing table that TPROXY's outbound connections are looked up in.
    pub table: u32,
}

/// The bits of the firewall mark that capture uses; the others are left as they are.
pub const MARK_MASK: u32 = 0xfff;
/// [`Options::mark`] if nothing else is said.
pub const DEFAULT_MARK: u32 = 0x5d1;
/// [`Options::table`] if nothing else is said.
pub const DEFAULT_TABLE: u32 = 15001;
/// The preference of the `ip rule` for TPROXY; by it the rule is known as ours.
pub const RULE_PREFERENCE: u32 = 15001;

/// One direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// The sidecar's listener.
    pub port: u16,
    /// Destination ports that are captured; none means all.
    pub include: Vec<PortRange>,
    /// Destination ports that are not captured, even if included.
    pub exclude: Vec<PortRange>,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order they are worked on.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// `4` or `6`, as `ip -4` takes it.
    pub const fn digit(self) -> char {
        match self {
            Family::V4 => '4',
            Family::V6 => '6',
        }
    }

    /// As nft calls it.
    pub const fn nft(self) -> &'static str {
        match self {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }

    /// Everything, as an address block.
    pub const fn any(self) -> &'static str {
        match self {
            Family::V4 => "0.0.0.0/0",
            Family::V6 => "::/0",
        }
    }
}

/// Some of the two families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

impl Families {
    /// Both.
    pub const BOTH: Families = Families { v4: true, v6: true };

    /// Whether `family` is one of them.
    pub const fn has(self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}

/// The tool that rules are applied with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Backend {
    /// `nft`, in tables of our own.
    Nft,
    /// `iptables` that writes to nf_tables.
    IptablesNft,
    /// `iptables` that writes to the older x_tables.
    IptablesLegacy,
    /// Whichever of the two is called `iptables` here.
    Iptables,
}

impl Backend {
    /// As the command line names it.
    pub const fn name(self) -> &'static str {
        match self {
            Backend::Nft => "nft",
            Backend::IptablesNft => "iptables-nft",
            Backend::IptablesLegacy => "iptables-legacy",
            Backend::Iptables => "iptables",
        }
    }

    /// The program for a family: `iptables-nft`, `ip6tables-nft`; with `part` such as `save`, that of it.
    pub fn program(self, family: Family, part: &str) -> String {
        let name = match (self, family) {
            (Backend::Nft, _) => return "nft".to_owned(),
            (_, Family::V4) => self.name().to_owned(),
            (_, Family::V6) => self.name().replacen("iptables", "ip6tables", 1),
        };
        if part.is_empty() { name } else { format!("{name}-{part}") }
    }
}

/// Ports from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl PortRange {
    /// One port.
    pub const fn one(port: u16) -> PortRange {
        PortRange { first: port, last: port }
    }
}

impl FromStr for PortRange {
    type Err = String;

    /// `8080` or `8000-8099`.
    fn from_str(text: &str) -> Result<PortRange, String> {
        let (first, last) = text.split_once(['-', ':']).unwrap_or((text, text));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) if 0 < first && first <= last => Ok(PortRange { first, last }),
            _ => Err("expected a port, 1 to 65535, or a range such as 8000-8099".to_owned()),
        }
    }
}

/// An address block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// Its first address.
    pub address: IpAddr,
    /// How many leading bits are fixed.
    pub prefix: u8,
}

impl Cidr {
    /// The family it is of.
    pub const fn family(&self) -> Family {
        match self.address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }
}

impl FromStr for Cidr {
    type Err = String;

    /// `10.0.0.0/8`, `fd00::/8`, or one address.
    fn from_str(text: &str) -> Result<Cidr, String> {
        let wrong = || "expected an address or a block, such as 10.0.0.0/8 or fd00::/8".to_owned();
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.trim().parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), |p| p.trim().parse::<u8>().map_err(|_| wrong()))?;
        if prefix > most {
            return Err(format!("a prefix of {prefix} bits is longer than an address, {most}"));
        }
        Ok(Cidr { address: masked(address, prefix), prefix })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The first address of the block that `address` is in.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((u32::from(a) & mask).into())
        }
        IpAddr::V6(a) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((u128::from(a) & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_one_or_a_range() {
        assert_eq!("80".parse(), Ok(PortRange::one(80)));
        assert_eq!("8000-8099".parse(), Ok(PortRange { first: 8000, last: 8099 }));
        for bad in ["", "0", "65536", "9-8", "a", "1-", "-1"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn blocks_begin_at_their_first_address() {
        assert_eq!("10.1.2.3/8".parse::<Cidr>().unwrap().to_string(), "10.0.0.0/8");
        assert_eq!("10.1.2.3".parse::<Cidr>().unwrap().to_string(), "10.1.2.3/32");
        assert_eq!("fd00::1/8".parse::<Cidr>().unwrap().to_string(), "fd00::/8");
        assert_eq!("::1/0".parse::<Cidr>().unwrap().to_string(), "::/0");
        for bad in ["", "10.0.0/8", "10.0.0.0/33", "::/129", "10.0.0.0/x"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn programs_are_named_as_distributions_name_them() {
        assert_eq!(Backend::IptablesNft.program(Family::V6, "save"), "ip6tables-nft-save");
        assert_eq!(Backend::Iptables.program(Family::V4, ""), "iptables");
        assert_eq!(Backend::Nft.program(Family::V6, ""), "nft");
    }
}
