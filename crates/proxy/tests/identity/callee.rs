//! A sidecar with a certificate of the mesh in front of an app, and callers with certificates of their own.
use raddle_identity::{Identity, Issuer, PeerRule, PrivateKey, SpiffeId, TrustBundle};
use raddle_testkit::{Config, PATIENCE, Running, free_addr, until};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: Duration = Duration::from_secs(86_400);
/// The caller's id.
pub(crate) const SHOP: &str = "spiffe://mesh.local/unit/u1/app/shop";
/// The callee's.
pub(crate) const PAY: &str = "spiffe://mesh.local/unit/u1/app/pay";

/// Names and values, as the app got them.
pub(crate) type Pairs = Vec<(String, String)>;

/// What came to the app so far.
#[derive(Clone, Default)]
pub(crate) struct Got(Arc<Mutex<Vec<Pairs>>>);

impl Got {
    pub(crate) fn push(&self, pairs: Pairs) {
        self.0.lock().unwrap().push(pairs);
    }

    /// The next request's reserved names and their values, by name.
    #[track_caller]
    pub(crate) fn reserved(&self) -> Pairs {
        until(PATIENCE, "a request at the app", || !self.0.lock().unwrap().is_empty());
        let mut pairs = self.0.lock().unwrap().remove(0);
        pairs.retain(|(name, _)| {
            let name = name.to_lowercase();
            name.contains("raddle") || name.contains("client-cert")
        });
        pairs.sort();
        pairs
    }
}

/// What an app is told under the two names that every protocol has.
pub(crate) fn shop() -> Pairs {
    vec![("x-raddle-caller".into(), "shop".into()), ("x-raddle-caller-id".into(), SHOP.into())]
}

/// A sidecar beside the app `pay`.
pub(crate) struct Callee {
    pub(crate) sidecar: Running,
    pub(crate) inbound: SocketAddr,
    issuer: Issuer,
}

impl Callee {
    pub(crate) fn of(app: SocketAddr) -> Callee {
        Callee::with(app, "")
    }

    /// With more fields of its inbound listener.
    pub(crate) fn with(app: SocketAddr, fields: &str) -> Callee {
        let issuer = Issuer::generate("mesh.local", 365 * DAY, now() - 3600).unwrap();
        let inbound = free_addr();
        let config = Config::new()
            .workers(1)
            .sidecar(&format!("inbound: [{{listen: \"{inbound}\", forward: \"{app}\"{fields}}}]"));
        let sidecar = Running::start(&config);
        let own = Some(Arc::new(identity(&issuer, "pay")));
        sidecar.sidecar().shared().set_identity(own, None).unwrap();
        Callee { sidecar, inbound, issuer }
    }

    /// A connection of the app `shop`'s, with its certificate.
    pub(crate) fn tls(&self, alpn: &[&[u8]]) -> StreamOwned<ClientConnection, TcpStream> {
        let rule = PeerRule::App { app: "pay".into(), unit: None };
        let mut config = identity(&self.issuer, "shop").client_config(rule).unwrap();
        config.alpn_protocols = alpn.iter().map(|a| a.to_vec()).collect();
        let name = ServerName::try_from("mesh.test").unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        StreamOwned::new(client, self.plain())
    }

    /// A connection of nobody known.
    pub(crate) fn plain(&self) -> TcpStream {
        let stream = TcpStream::connect(self.inbound).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn identity(issuer: &Issuer, app: &str) -> Identity {
    let id = SpiffeId::app("mesh.local", "u1", app).unwrap();
    let key = PrivateKey::generate().unwrap();
    let signed = issuer.sign_request(&key.request().unwrap(), &id, DAY, now()).unwrap();
    let trust = TrustBundle::new("mesh.local", issuer.roots().to_vec()).unwrap();
    Identity::new(signed.chain, Arc::new(key), Arc::new(trust), now()).unwrap()
}

/// Sends a request, and reads until its reply shows this.
#[track_caller]
pub(crate) fn ask(mut to: impl Read + Write, bytes: &[u8], shows: &[u8]) {
    to.write_all(bytes).unwrap();
    to.flush().unwrap();
    let (mut all, mut room) = (Vec::new(), [0; 4096]);
    while !all.windows(shows.len()).any(|w| w == shows) {
        match to.read(&mut room) {
            Ok(n @ 1..) => all.extend_from_slice(&room[..n]),
            end => panic!("{end:?} after {}", String::from_utf8_lossy(&all)),
        }
    }
}
