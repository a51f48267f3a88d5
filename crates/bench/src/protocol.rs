//! The protocols the generator and the echo server speak.
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A protocol of [`serve`](crate::serve()) and [`load`](crate::load()).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// SOFARPC's Bolt, version 1 or 2.
    #[default]
    Bolt,
    /// Fixed-size chunks, echoed in order.
    Tcp,
}

impl Protocol {
    /// Every protocol, in the order help texts list them.
    pub const ALL: [Protocol; 2] = [Protocol::Bolt, Protocol::Tcp];

    /// The name on the command line and in results.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Bolt => "bolt",
            Protocol::Tcp => "tcp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    fn from_str(text: &str) -> Result<Protocol, UnknownProtocol> {
        Protocol::ALL.into_iter().find(|p| p.name() == text).ok_or(UnknownProtocol)
    }
}

/// The text names no [`Protocol`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownProtocol;

impl fmt::Display for UnknownProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected one of bolt, tcp")
    }
}

impl std::error::Error for UnknownProtocol {}
