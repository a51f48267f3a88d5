//! HTTP requests for services that are not known here: asked for at the control plane, else sent where they were meant
//! to go, else refused.
use crate::conn::Direction;
use crate::worker::Worker;
use raddle_core::{Protocol, Reason};
use raddle_net::Key;
use raddle_policy::Snapshot;
use raddle_wire::http::{Request, grpc};

impl Worker {
    /// A request for a service that is not known here: the control plane is asked; else it goes where it was meant
    /// to.
    #[cold]
    pub(super) fn dispatch_unknown_http(&mut self, key: Key, request: Request, changed: bool) {
        let down = self.http.exchanges.get(key).map_or(Key::NONE, |x| x.down);
        let asked = if self.passes_unasked(down) || request.is_connect() {
            Err(None)
        } else {
            let own = request.fields.get("grpc-timeout").and_then(grpc::parse_timeout);
            let names = self.http_names(key, &request);
            self.exchange_on_demand(key, &names, own)
        };
        let refusal = match asked {
            Ok(()) => return self.put_back(key, request, changed),
            Err(refusal) => refusal,
        };
        let outbound = self.http.exchanges.get(key).is_some_and(|x| x.direction == Direction::Outbound);
        let meant = match outbound {
            true => self.captured_service(down).or_else(|| self.destination_named(key, &request)),
            false => None,
        };
        if let Some(service) = meant
            && let Some(row) = self.services.get(service).map(|s| s.row)
        {
            return self.dispatch_exchange_to(key, request, changed, (service, row));
        }
        self.put_back(key, request, changed);
        let row = self.row_unknown(key);
        if let Some(x) = self.http.exchanges.get_mut(key) {
            x.row = row;
        }
        let nothing = || (Reason::NoCluster, "no Service has this host or gRPC service".to_owned());
        let (reason, text) = refusal.unwrap_or_else(nothing);
        self.answer_http(key, reason, None, &text);
    }

    /// The names an HTTP request's service may have, the most precise first: of the gRPC service, then the host.
    fn http_names(&self, key: Key, request: &Request) -> Vec<Box<[u8]>> {
        let Some(x) = self.http.exchanges.get(key) else { return Vec::new() };
        let mut names: Vec<Box<[u8]>> = Vec::new();
        if x.protocol == Protocol::Grpc {
            names.extend(grpc_names(request).into_iter().map(Vec::into_boxed_slice));
        }
        if let Some(host) = Snapshot::host_name(request.authority())
            && !is_address(&host)
        {
            names.push(host);
        }
        if names.is_empty()
            && let Some(default) = self.config.binding(x.listener).and_then(|b| b.default_service.clone())
        {
            names.push(default.as_bytes().into());
        }
        names
    }
}

/// The names a gRPC request's service may have, the most precise first: Triple's version and group are part of it.
fn grpc_names(request: &Request) -> Vec<Vec<u8>> {
    let Some((service, _)) = grpc::split_path(request.path()) else { return Vec::new() };
    let version = request.fields.get("tri-service-version").filter(|v| !v.is_empty());
    let group = request.fields.get("tri-service-group").filter(|v| !v.is_empty());
    let mut names = Vec::new();
    if version.is_some() || group.is_some() {
        let name = [service, b":", version.unwrap_or(b"")].concat();
        names.extend(group.map(|g| [&name[..], b":", g].concat()));
        names.push(name);
    }
    names.push(service.to_vec());
    names
}

/// An IP address, which is no service's name.
fn is_address(host: &[u8]) -> bool {
    std::str::from_utf8(host)
        .is_ok_and(|h| h.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok() || h == "localhost")
}
