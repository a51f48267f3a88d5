//! What must hold whatever a client sends: shared by the tests and the fuzz target `xds_requests`.
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use prost::Message;
use raddle_xds::resource::Resource;
use raddle_xds::server::delta::Delta;
use raddle_xds::server::sotw::Sotw;
use raddle_xds::server::{Limits, Response, View};
use raddle_xds::types::Kind;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// A world whose content is a hash of the generation: it changes, grows and shrinks.
struct Small(u64);

impl View for Small {
    fn generation(&self) -> u64 {
        self.0
    }

    fn get(&self, kind: Kind, name: &str) -> Option<Arc<Resource>> {
        let at = NAMES.iter().position(|n| *n == name)? as u64;
        let content = (self.0 / (at + 2) + kind as u64) % 5;
        let message = Cluster { name: name.into(), alt_stat_name: content.to_string(), ..Cluster::default() };
        (content != 0).then(|| Arc::new(Resource::new(kind, name, &message)))
    }

    fn all(&self, kind: Kind, _: &dyn Fn(&str) -> bool) -> Vec<Arc<Resource>> {
        NAMES.iter().filter_map(|name| self.get(kind, name)).collect()
    }

    fn changed(&self, since: u64) -> Option<Vec<(Kind, Arc<str>)>> {
        let all = || Kind::ALL.into_iter().flat_map(|k| NAMES.map(|n| (k, n.into()))).collect();
        (!since.is_multiple_of(3)).then(all)
    }
}

fn limits() -> Limits {
    Limits { names: 8, name_bytes: 32, response_bytes: 256, in_flight: 2 }
}

/// Reads bytes as what a client does on a stream: which variant, then requests (a length of one byte, and the encoded
/// message; of a type by number if it names none it could mean) with changes of the world between.
pub(crate) fn requests(data: &[u8]) {
    let Some((variant, mut rest)) = data.split_first() else { return };
    let mut generation = 1;
    let mut sotw = Sotw::new(limits(), "r".into(), "n".into());
    let mut delta = Delta::new(limits(), "r".into(), "n".into());
    let mut bounds = Bounds::default();
    while let Some((&what, more)) = rest.split_first() {
        let view = Small(generation);
        let mut out = Vec::new();
        if what < 32 {
            generation += u64::from(what) + 1;
            let view = Small(generation);
            if variant % 2 == 0 {
                sotw.change(&view, &mut out);
            } else {
                delta.change(&view, &mut out);
            }
            rest = more;
            Bounds::unasked(&out);
        } else {
            let length = usize::from(what - 32).min(more.len());
            let (bytes, more) = more.split_at(length);
            rest = more;
            let ended = if variant % 2 == 0 {
                let Ok(mut request) = DiscoveryRequest::decode(bytes) else { return };
                meant(&mut request.type_url, what);
                bounds.last(&mut request.response_nonce);
                sotw.request(&request, &view, 0, &mut out).is_err()
            } else {
                let Ok(mut request) = DeltaDiscoveryRequest::decode(bytes) else { return };
                meant(&mut request.type_url, what);
                bounds.last(&mut request.response_nonce);
                delta.request(&request, &view, 0, &mut out).is_err()
            };
            if ended {
                return;
            }
        }
        bounds.sent(&out);
    }
    for kind in sotw.status().into_iter().chain(delta.status()) {
        assert!(kind.names <= limits().names && kind.nacked.len() <= 256);
    }
}

/// Type URLs are long, and chance finds none.
fn meant(url: &mut String, number: u8) {
    if Kind::of(url).is_none() && number % 8 != 7 {
        Kind::ALL[usize::from(number) % Kind::ALL.len()].type_url().clone_into(url);
    }
}

#[derive(Default)]
struct Bounds {
    nonces: BTreeSet<String>,
    newest: String,
}

impl Bounds {
    /// A nonce of one byte means the newest there was.
    fn last(&self, nonce: &mut String) {
        if nonce.len() == 1 {
            nonce.clone_from(&self.newest);
        }
    }

    /// A change alone sends no more than may be under way.
    fn unasked(out: &[Response]) {
        let mut by_kind: BTreeMap<Kind, usize> = BTreeMap::new();
        for kind in out.iter().filter_map(|r| r.kind) {
            *by_kind.entry(kind).or_default() += 1;
        }
        assert!(by_kind.values().all(|n| *n <= limits().in_flight));
    }

    fn sent(&mut self, out: &[Response]) {
        for response in out {
            let mut bytes = Vec::new();
            response.encode(&mut bytes);
            assert_eq!(bytes.len(), response.encoded_len());
            let sotw = response.variant.name() == "sotw";
            let nonce = if sotw {
                DiscoveryResponse::decode(&*bytes).expect("a response").nonce
            } else {
                DeltaDiscoveryResponse::decode(&*bytes).expect("a response").nonce
            };
            assert!(self.nonces.insert(nonce.clone()), "a nonce twice");
            self.newest = nonce;
            let mut names: Vec<&str> = response.resources.iter().map(|r| &*r.name).collect();
            names.extend(response.removed.iter().map(|n| &**n));
            let distinct: BTreeSet<&&str> = names.iter().collect();
            assert_eq!(distinct.len(), names.len(), "a name twice in one response");
        }
    }
}
