//! What routing reads of an HTTP request, under the names that every protocol has.
use crate::links::Peer;
use raddle_policy::Attributes;
use raddle_policy::route::{CALLER_APP, LOAD_TEST};
use raddle_wire::http::{Request, grpc};
use std::net::IpAddr;

/// Field by which Triple consumers name their app.
const TRIPLE_APP: &str = "tri-consumer-appname";

/// The app that a caller says it is.
pub(super) fn said_app(request: &Request) -> Option<&[u8]> {
    CALLER_APP.iter().chain(&[TRIPLE_APP]).find_map(|name| request.fields.get(name))
}

/// What routing reads of an HTTP request.
pub(crate) struct HttpAttributes<'a> {
    pub(crate) request: &'a Request,
    pub(crate) service: &'a [u8],
    pub(crate) grpc: bool,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) peer: Option<&'a Peer>,
}

impl Attributes for HttpAttributes<'_> {
    fn service(&self) -> &[u8] {
        self.service
    }

    fn method(&self) -> Option<&[u8]> {
        if self.grpc {
            return grpc::split_path(self.request.path()).map(|(_, method)| method);
        }
        Some(self.request.method())
    }

    fn path(&self) -> Option<&[u8]> {
        Some(self.request.path())
    }

    fn authority(&self) -> Option<&[u8]> {
        Some(self.request.authority()).filter(|a| !a.is_empty())
    }

    fn query(&self, name: &str) -> Option<&[u8]> {
        self.request.query(name)
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        if name.eq_ignore_ascii_case("host") {
            return self.authority();
        }
        self.request.fields.get(name)
    }

    fn caller_app(&self) -> Option<&[u8]> {
        if let Some(peer) = self.peer {
            return Some(peer.app.as_bytes());
        }
        said_app(self.request)
    }

    fn caller_ip(&self) -> Option<IpAddr> {
        self.ip
    }

    fn load_test(&self) -> bool {
        self.request.fields.get(LOAD_TEST.0) == Some(LOAD_TEST.1.as_bytes())
    }
}
