//! What the authority is told when it opens.
use super::Accounts;
use crate::events::Events;
use raddle_identity::GivenCa;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Says the time: seconds since 1970.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// How the authority works.
#[derive(Clone)]
pub struct CaOptions {
    /// The trust domain; it never changes.
    pub trust_domain: String,
    /// How long sidecars' certificates live.
    pub lifetime: Duration,
    /// How long a root made here lives.
    pub root_lifetime: Duration,
    /// An authority to use instead of one made here.
    pub given: Option<GivenCa>,
    /// The file with the key that seals the authority's.
    pub seal_key: PathBuf,
    /// Make that file if there is none and no authority in the store yet. Not for replicas: they must share it.
    pub create_seal_key: bool,
    /// Names and addresses by which this replica is called, besides `localhost` and the loopback addresses.
    pub hosts: Vec<String>,
    /// Kubernetes' service accounts as proof of who one is.
    pub accounts: Option<Accounts>,
    /// Where to tell what happens.
    pub events: Option<Events>,
    /// The clock.
    pub clock: Clock,
}

impl Default for CaOptions {
    fn default() -> CaOptions {
        let day = Duration::from_secs(86400);
        CaOptions {
            trust_domain: "mesh.local".into(),
            lifetime: day,
            root_lifetime: 3650 * day,
            given: None,
            seal_key: "raddle-seal.key".into(),
            create_seal_key: true,
            hosts: Vec::new(),
            accounts: None,
            events: None,
            clock: Arc::new(|| {
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
            }),
        }
    }
}

impl fmt::Debug for CaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaOptions")
            .field("trust_domain", &self.trust_domain)
            .field("given", &self.given)
            .field("seal_key", &self.seal_key)
            .finish_non_exhaustive()
    }
}
