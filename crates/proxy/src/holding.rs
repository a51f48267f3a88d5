//! Watches the certificate the sidecar holds, wherever it came from: whether callers may be told of TLS, and whether
//! people must be told that it ends.
use crate::mesh::link::Ask;
use crate::shared::Shared;
use raddle_identity::Identity;
use raddle_identity::renewal::expiring;
use raddle_model::IdentitySource;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

/// How long the certificate still holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Held {
    /// There is none.
    #[default]
    None,
    /// It is valid.
    Valid,
    /// It is valid, but should have been renewed long ago.
    Expiring,
    /// Its time is over, or has not begun.
    Expired,
}

impl Held {
    /// Of a certificate at this time, seconds since 1970.
    pub fn of(identity: Option<&Identity>, now: i64) -> Held {
        let Some(leaf) = identity.map(Identity::leaf) else { return Held::None };
        match () {
            () if now > leaf.not_after || now < leaf.not_before => Held::Expired,
            () if expiring(leaf.not_before, leaf.not_after, now) => Held::Expiring,
            () => Held::Valid,
        }
    }

    /// In one word, for pages.
    pub const fn name(self) -> &'static str {
        match self {
            Held::None => "none",
            Held::Valid => "valid",
            Held::Expiring => "expiring",
            Held::Expired => "expired",
        }
    }

    /// Whether peers take it.
    pub const fn is_valid(self) -> bool {
        matches!(self, Held::Valid | Held::Expiring)
    }
}

/// With this in the environment the process stays open to debuggers and core dumps although it holds a key.
const DUMPABLE: &str = "RADDLE_DUMPABLE";

/// What was told last.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    told: Held,
    closed: bool,
    follows_agent: bool,
}

impl Holding {
    /// Closes the process's memory to others of the same user, and keeps it out of core dumps: there is a key in it.
    fn close_memory(&mut self) {
        if std::mem::replace(&mut self.closed, true) || std::env::var_os(DUMPABLE).is_some() {
            return;
        }
        let done = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
        if let Err(e) = done {
            tracing::warn!(error = %e, "core dumps of this process may hold its private key");
        }
    }

    /// Looks, and tells what changed.
    pub(crate) fn look(&mut self, shared: &Arc<Shared>) -> Held {
        let source = shared.config.load().sidecar.identity.clone();
        if matches!(source, Some(IdentitySource::Sds { .. })) && !self.follows_agent {
            self.follows_agent = true;
            crate::mesh::secrets::start(shared);
        }
        let identity = shared.links.load().identity.clone();
        let held = Held::of(identity.as_deref(), now_s());
        if held != Held::None {
            self.close_memory();
        }
        tell_registry(shared, held);
        if held == self.told {
            return held;
        }
        self.told = held;
        // Of one that the control plane signs, its agent tells, and why it was not renewed.
        let own = source.is_some();
        let id = identity.map_or_else(String::new, |i| i.id().to_string());
        match held {
            Held::Expiring if own => {
                shared.warn("certificate_expiring", id, "it expires soon: put a new one in its place");
            }
            Held::Expired if own => {
                shared.warn(
                    "certificate_expired",
                    id,
                    "it has expired, and peers refuse it: put a new one in its place",
                );
            }
            _ => {}
        }
        held
    }
}

/// Has the registry know whether a valid certificate is held.
pub(crate) fn tell_registry(shared: &Shared, held: Held) {
    let Some(link) = shared.mesh.get() else { return };
    if link.holds_certificate.swap(held.is_valid(), Ordering::AcqRel) != held.is_valid() {
        link.ask(Ask::Local);
    }
}

/// Seconds since 1970.
pub(crate) fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}
