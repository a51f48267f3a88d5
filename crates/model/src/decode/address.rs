//! Socket addresses, addresses alone, blocks of them.
use super::{At, Codec, Cx, quote, scalar};
use crate::resources::Cidr;
use crate::yaml::Node;
use std::net::{IpAddr, SocketAddr};

/// An `ip:port`. Host names are refused: a name that resolves late, or to something else tomorrow, is no
/// static endpoint. `localhost` is read as 127.0.0.1, since it means nothing else.
pub(crate) struct Address(pub(crate) Role);

/// What is done with an address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Connections are accepted there.
    Listen,
    /// Connections are made to it.
    Connect,
}

impl Codec for Address {
    type Out = SocketAddr;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<SocketAddr> {
        let (text, _) = scalar(self, node, at, cx)?;
        match self.read(text) {
            Ok(address) => Some(address),
            Err((problem, remedy)) => {
                cx.mistake(node.spot, at, problem, remedy);
                None
            }
        }
    }

    fn wanted(&self) -> String {
        format!("ip:port such as {}", self.example())
    }

    fn kind(&self) -> String {
        "ip:port".into()
    }

    fn show(&self, out: &SocketAddr) -> String {
        format!("`{out}`")
    }
}

impl Address {
    fn example(&self) -> &'static str {
        match self.0 {
            Role::Listen => "0.0.0.0:12220",
            Role::Connect => "127.0.0.1:12200",
        }
    }

    fn read(&self, text: &str) -> Result<SocketAddr, (String, String)> {
        let give = || format!("give {}", self.wanted());
        let local = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        let address = match local.as_deref().unwrap_or(text).parse::<SocketAddr>() {
            Ok(address) => address,
            Err(_) if text.parse::<IpAddr>().is_ok() || text == "localhost" => {
                return Err((format!("{} has no port", quote(text)), give()));
            }
            Err(_) => return Err(explain(text, give())),
        };
        if address.port() == 0 {
            return Err((format!("{} has port 0", quote(text)), "give a port 1..=65535".into()));
        }
        if self.0 == Role::Connect && address.ip().is_unspecified() {
            let problem = format!("{} is no address to connect to", address.ip());
            return Err((problem, format!("give 127.0.0.1:{} if it is on this machine", address.port())));
        }
        Ok(address)
    }
}

/// Why a text is no `ip:port`.
fn explain(text: &str, give: String) -> (String, String) {
    let Some((host, port)) = text.rsplit_once(':') else {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let problem = if digits { "has no ip" } else { "is not ip:port" };
        return (format!("{} {problem}", quote(text)), give);
    };
    if host.is_empty() {
        return (format!("{} has no ip", quote(text)), give);
    }
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let host_ok = host.parse::<IpAddr>().is_ok() || bare.parse::<IpAddr>().is_ok() || host == "localhost";
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    if host_ok && (!digits || port.parse::<u16>().is_err()) {
        return (format!("{} is not a port", quote(port)), "give a port 1..=65535".into());
    }
    if host_ok {
        return (
            format!("{} is not ip:port", quote(text)),
            format!("write an IPv6 address as \"[{bare}]:{port}\""),
        );
    }
    let name = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if name && digits && host.bytes().any(|b| b.is_ascii_alphabetic()) {
        return (format!("{} is a host name; names are not resolved here", quote(host)), give);
    }
    (format!("{} is not ip:port", quote(text)), give)
}

/// An address without port.
pub(crate) struct Ip;

impl Codec for Ip {
    type Out = IpAddr;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<IpAddr> {
        let (text, _) = scalar(self, node, at, cx)?;
        let parsed = text.parse();
        if parsed.is_err() {
            cx.mistake(
                node.spot,
                at,
                format!("{} is not an address", quote(text)),
                format!("give {}", self.wanted()),
            );
        }
        parsed.ok()
    }

    fn wanted(&self) -> String {
        "an address without port such as 10.0.0.7".into()
    }

    fn kind(&self) -> String {
        "ip".into()
    }
}

/// A block of addresses.
pub(crate) struct CidrText;

impl Codec for CidrText {
    type Out = Cidr;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<Cidr> {
        let (text, _) = scalar(self, node, at, cx)?;
        let parsed = text.parse();
        if parsed.is_err() {
            let problem = format!("{} is not a block of addresses", quote(text));
            cx.mistake(node.spot, at, problem, format!("give {}", self.wanted()));
        }
        parsed.ok()
    }

    fn wanted(&self) -> String {
        "a block of addresses such as 10.0.0.0/24".into()
    }

    fn kind(&self) -> String {
        "ip/bits".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_address_says_what_is_wrong_with_it() {
        let say = |text: &str| Address(Role::Connect).read(text).map_err(|(problem, _)| problem);
        assert_eq!(say("127.0.0.1:12200").map(|a| a.port()), Ok(12200));
        assert_eq!(say("localhost:12200").map(|a| a.to_string()), Ok("127.0.0.1:12200".into()));
        assert_eq!(say("[::1]:80").map(|a| a.is_ipv6()), Ok(true));
        for (text, problem) in [
            ("127.0.0.1", "\"127.0.0.1\" has no port"),
            ("localhost", "\"localhost\" has no port"),
            ("12200", "\"12200\" has no ip"),
            (":12200", "\":12200\" has no ip"),
            ("127.0.0.1:99999", "\"99999\" is not a port"),
            ("localhost:x", "\"x\" is not a port"),
            ("127.0.0.1:0", "\"127.0.0.1:0\" has port 0"),
            ("order.svc:12200", "\"order.svc\" is a host name; names are not resolved here"),
            ("300.1.1.1:80", "\"300.1.1.1:80\" is not ip:port"),
            ("0.0.0.0:80", "0.0.0.0 is no address to connect to"),
            ("http://a:80", "\"http://a:80\" is not ip:port"),
        ] {
            assert_eq!(say(text), Err(problem.into()), "{text}");
        }
    }
}
