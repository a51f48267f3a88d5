//! A request that somebody asks about instead of sending it, and the header names both kinds share.
use super::Attributes;
use crate::snapshot::Snapshot;
use crate::snapshot::service::Service;
use std::net::IpAddr;
use std::sync::Arc;

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
    /// HTTP: its path, with the query if it has one.
    pub path: Option<String>,
    /// HTTP: its host, and port if it says one.
    pub authority: Option<String>,
    /// HTTP: further parameters of its query.
    pub query: Vec<(String, String)>,
    /// The caller's address, if it is said.
    pub caller_ip: Option<IpAddr>,
}

impl Asked {
    /// The service it is for: the named one, or the one its host means. Its name is filled in.
    pub fn resolve<'s>(&mut self, snapshot: &'s Snapshot) -> Option<&'s Arc<Service>> {
        if !self.service.is_empty() {
            return snapshot.service(self.service.as_bytes());
        }
        let authority = self.authority.as_deref().unwrap_or_default();
        let Some(service) = snapshot.service_for_host(authority.as_bytes()) else {
            authority.clone_into(&mut self.service);
            return None;
        };
        service.name.as_ref().clone_into(&mut self.service);
        Some(service)
    }

    /// HTTP's header names are the same in any letters.
    fn same_header(&self, a: &str, b: &str) -> bool {
        let http = self.path.is_some() || self.authority.is_some();
        if http { a.eq_ignore_ascii_case(b) } else { a == b }
    }
}

impl Attributes for Asked {
    fn service(&self) -> &[u8] {
        self.service.as_bytes()
    }

    fn method(&self) -> Option<&[u8]> {
        self.method.as_deref().map(str::as_bytes)
    }

    fn path(&self) -> Option<&[u8]> {
        let path = self.path.as_deref()?;
        Some(path.split_once('?').map_or(path, |(path, _)| path).as_bytes())
    }

    fn authority(&self) -> Option<&[u8]> {
        self.authority.as_deref().map(str::as_bytes)
    }

    fn query(&self, name: &str) -> Option<&[u8]> {
        let in_path = self.path.as_deref().and_then(|path| path.split_once('?'));
        in_path
            .and_then(|(_, query)| query_parameter(query.as_bytes(), name))
            .or_else(|| self.query.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_bytes()))
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(k, _)| self.same_header(k, name)).map(|(_, v)| v.as_bytes())
    }

    fn caller_app(&self) -> Option<&[u8]> {
        CALLER_APP.iter().find_map(|name| self.header(name))
    }

    fn caller_ip(&self) -> Option<IpAddr> {
        self.caller_ip
    }

    fn load_test(&self) -> bool {
        self.header(LOAD_TEST.0) == Some(LOAD_TEST.1.as_bytes())
    }
}

/// The first parameter of that name in a query (without its `?`), as it was sent; empty if it has no value.
pub fn query_parameter<'q>(query: &'q [u8], name: &str) -> Option<&'q [u8]> {
    query.split(|&b| b == b'&').find_map(|pair| match pair.strip_prefix(name.as_bytes())? {
        [] => Some(&[][..]),
        [b'=', value @ ..] => Some(value),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_parameters_are_found_whole_and_the_first_of_a_name_counts() {
        let find = |name| query_parameter(b"ab=1&a=2&b&a=3&c=&d=x=y", name);
        assert_eq!(find("a"), Some(&b"2"[..]));
        assert_eq!(find("ab"), Some(&b"1"[..]));
        assert_eq!((find("b"), find("c")), (Some(&b""[..]), Some(&b""[..])));
        assert_eq!(find("d"), Some(&b"x=y"[..]));
        assert_eq!(find("e"), None);
    }

    #[test]
    fn an_imagined_path_may_have_its_query_with_it() {
        let query = vec![("c".to_owned(), "d".to_owned())];
        let asked = Asked { path: Some("/a?b=1".into()), query, ..Asked::default() };
        assert_eq!(asked.path(), Some(&b"/a"[..]));
        assert_eq!((asked.query("b"), asked.query("c")), (Some(&b"1"[..]), Some(&b"d"[..])));
        assert_eq!(asked.query("x"), None);
    }

    #[test]
    fn the_callers_app_is_found_under_either_name() {
        let with = |name: &str| Asked { headers: vec![(name.into(), "shop".into())], ..Asked::default() };
        for name in CALLER_APP {
            assert_eq!(with(name).caller_app(), Some(&b"shop"[..]));
        }
        assert_eq!(with("other").caller_app(), None);
    }
}
