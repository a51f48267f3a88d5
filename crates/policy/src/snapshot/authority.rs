//! Which service an HTTP request's host means.
use super::Name;
use ahash::RandomState;
use std::collections::HashMap;

/// Longest authority that can name a service: a DNS name, a colon and a port, with room for a dot.
const LONGEST: usize = 264;

/// The names of services that are found otherwise than by themselves.
#[derive(Debug, Default)]
pub(super) struct Authorities {
    /// Names with capital letters, in lower case.
    lowered: HashMap<Box<[u8]>, Name, RandomState>,
    hosts: HashMap<Box<[u8]>, Name, RandomState>,
    /// By what follows `*.`.
    wildcards: HashMap<Box<[u8]>, Name, RandomState>,
}

impl Authorities {
    /// Adds a service and its further hosts; what was added before stays.
    pub(super) fn add(&mut self, service: &Name, hosts: &[String]) {
        if service.0.len() <= LONGEST && service.0.bytes().any(|b| b.is_ascii_uppercase()) {
            let lowered = service.0.to_ascii_lowercase().into_bytes().into_boxed_slice();
            self.lowered.entry(lowered).or_insert_with(|| service.clone());
        }
        for host in hosts {
            let (index, host) = match host.strip_prefix("*.") {
                Some(suffix) => (&mut self.wildcards, suffix),
                None => (&mut self.hosts, host.as_str()),
            };
            index.entry(host.as_bytes().into()).or_insert_with(|| service.clone());
        }
    }

    /// The service whose name this is in lower case.
    pub(super) fn named(&self, lowered: &[u8]) -> Option<&Name> {
        self.lowered.get(lowered)
    }

    /// The service that has the host among its `hosts`: whole, else by the longest suffix.
    pub(super) fn of_host(&self, host: &[u8]) -> Option<&Name> {
        self.hosts.get(host).or_else(|| {
            if self.wildcards.is_empty() {
                return None;
            }
            let dots = host.iter().enumerate().filter(|(_, b)| **b == b'.');
            dots.skip_while(|(i, _)| *i == 0).find_map(|(i, _)| self.wildcards.get(&host[i + 1..]))
        })
    }
}

/// An authority in lower case.
pub(super) struct Lowered {
    bytes: [u8; LONGEST],
    whole: usize,
    host: usize,
}

impl Lowered {
    /// None for one that can name no service.
    pub(super) fn new(authority: &[u8]) -> Option<Lowered> {
        let mut bytes = [0; LONGEST];
        let place = bytes.get_mut(..authority.len()).filter(|place| !place.is_empty())?;
        place.copy_from_slice(authority);
        place.make_ascii_lowercase();
        Some(Lowered { bytes, whole: authority.len(), host: host_length(authority) })
    }

    /// With the port, as it was given.
    pub(super) fn whole(&self) -> &[u8] {
        &self.bytes[..self.whole]
    }

    /// Without port, and without a dot at the end.
    pub(super) fn host(&self) -> &[u8] {
        &self.bytes[..self.host]
    }
}

fn host_length(authority: &[u8]) -> usize {
    let digits = authority.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let mut end = authority.len();
    // An IPv6 address is in brackets, so that a colon before digits at the end is before a port.
    if let Some(colon) = end.checked_sub(digits + 1)
        && authority[colon] == b':'
    {
        end = colon;
    }
    if end > 1 && authority[end - 1] == b'.' { end - 1 } else { end }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(authority: &str) -> Option<String> {
        Lowered::new(authority.as_bytes()).map(|l| String::from_utf8_lossy(l.host()).into_owned())
    }

    #[test]
    fn the_host_is_without_port_dot_and_capitals() {
        for (authority, wanted) in [
            ("Shop.Example", "shop.example"),
            ("shop.example:80", "shop.example"),
            ("shop.example.:80", "shop.example"),
            ("shop.example:", "shop.example"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("10.0.0.1:8080", "10.0.0.1"),
            ("10.0.0.1", "10.0.0.1"),
            ("80", "80"),
            (".", "."),
            (":80", ""),
            ("a:1:2", "a:1"),
        ] {
            assert_eq!(host(authority).as_deref(), Some(wanted), "{authority}");
        }
        assert_eq!(host(""), None);
        assert_eq!(host(&"a".repeat(300)), None);
    }
}
