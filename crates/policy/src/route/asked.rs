//! A request that somebody asks about instead of sending it, and the header names both kinds share.
use super::Attributes;
use std::net::IpAddr;

/// Headers that name the caller's app, the first that is there counts.
pub const CALLER_APP: [&str; 2] = ["rpc_trace_context.sofaCallerApp", "app"];
/// The load-test mark: header and value.
pub const LOAD_TEST: (&str, &str) = ("shadowTest", "T");

/// A request as a person describes it, for [`Service::explain`](crate::Service::explain).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Its service.
    pub service: String,
    /// Its method, if it is said.
    pub method: Option<String>,
    /// Its headers.
    pub headers: Vec<(String, String)>,
}

impl Attributes for Asked {
    fn service(&self) -> &[u8] {
        self.service.as_bytes()
    }

    fn method(&self) -> Option<&[u8]> {
        self.method.as_deref().map(str::as_bytes)
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_bytes())
    }

    fn caller_app(&self) -> Option<&[u8]> {
        CALLER_APP.iter().find_map(|name| self.header(name))
    }

    fn caller_ip(&self) -> Option<IpAddr> {
        None
    }

    fn load_test(&self) -> bool {
        self.header(LOAD_TEST.0) == Some(LOAD_TEST.1.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_app_is_found_under_either_name() {
        let with = |name: &str| Asked { headers: vec![(name.into(), "shop".into())], ..Asked::default() };
        for name in CALLER_APP {
            assert_eq!(with(name).caller_app(), Some(&b"shop"[..]));
        }
        assert_eq!(with("other").caller_app(), None);
    }
}
