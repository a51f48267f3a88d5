//! Which sidecars a rule reaches.
use super::Labels;
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Which sidecars a rule reaches; every given part must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Scope {
    /// Apps; empty = all.
    pub apps: Vec<String>,
    /// Units; empty = all.
    pub units: Vec<String>,
    /// Groups; empty = all.
    pub groups: Vec<String>,
    /// Versions of the app; empty = all.
    pub versions: Vec<String>,
    /// Labels that must all be equal.
    pub labels: Labels,
    /// Where the instance's address lies, in one of them; empty = anywhere.
    pub addresses: Vec<Cidr>,
    /// Share of the instances in millionths, chosen by [`raddle_core::share`] of the instance id; absent = all.
    pub percent_ppm: Option<u32>,
}

/// A block of addresses: `10.0.0.0/24`, `2001:db8::/32`; an address alone is the block of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// Its first address: bits after the prefix are 0.
    base: IpAddr,
    /// Leading bits that count.
    prefix: u8,
}

impl Cidr {
    /// A block; bits of `base` after the prefix are cleared. `None` if the prefix is longer than the address.
    pub fn new(base: IpAddr, prefix: u8) -> Option<Cidr> {
        let base = match base {
            IpAddr::V4(ip) if prefix <= 32 => {
                IpAddr::from((u32::from(ip) & mask(32, prefix) as u32).to_be_bytes())
            }
            IpAddr::V6(ip) if prefix <= 128 => {
                IpAddr::from((u128::from(ip) & mask(128, prefix)).to_be_bytes())
            }
            _ => return None,
        };
        Some(Cidr { base, prefix })
    }

    /// Its first address.
    pub const fn base(&self) -> IpAddr {
        self.base
    }

    /// Leading bits that count.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether the address lies in the block. IPv4 mapped into IPv6 counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        Cidr::new(ip, self.prefix)
            .is_some_and(|block| ip.is_ipv4() == self.base.is_ipv4() && block.base == self.base)
    }

    /// Whether an address lies in both blocks.
    pub fn overlaps(&self, other: &Cidr) -> bool {
        if self.prefix <= other.prefix { self.contains(other.base) } else { other.contains(self.base) }
    }
}

/// The leading `prefix` of `bits` bits.
fn mask(bits: u8, prefix: u8) -> u128 {
    let all = u128::MAX >> (128 - u32::from(bits));
    all & !all.checked_shr(u32::from(prefix)).unwrap_or(0)
}

impl FromStr for Cidr {
    type Err = ();

    fn from_str(text: &str) -> Result<Cidr, ()> {
        let (ip, prefix) = text.split_once('/').map_or((text, None), |(ip, prefix)| (ip, Some(prefix)));
        let ip: IpAddr = ip.parse().map_err(drop)?;
        let whole = if ip.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().map_err(drop)?,
            Some(_) => return Err(()),
            None => whole,
        };
        Cidr::new(ip, prefix).ok_or(())
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// One who may be in a scope: a sidecar.
pub trait Member {
    /// Instance id, unique in the mesh.
    fn id(&self) -> &str;
    /// Its app.
    fn app(&self) -> &str;
    /// Its unit, if it has one.
    fn unit(&self) -> Option<&str>;
    /// Its group, `default` if it has no other.
    fn group(&self) -> &str;
    /// Its version, if it has one.
    fn version(&self) -> Option<&str>;
    /// The value of a label.
    fn label(&self, name: &str) -> Option<&str>;
    /// Where it is, if it says so.
    fn address(&self) -> Option<IpAddr>;
}
