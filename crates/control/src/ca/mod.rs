//! The certificate authority, and who may get which name.
//!
//! Several replicas share one authority through the store: the first makes it, its key sealed. What is kept and how one
//! authority takes another's place is in [`state`] and [`keep`]; who gets a certificate, in [`sign`]; the control plane's own one, in
//! [`serving`].
mod accounts;
mod deny;
mod error;
mod issued;
mod keep;
mod options;
mod pace;
mod service;
mod serving;
mod sign;
mod state;

pub use accounts::{Accounts, Fetch, JwksSource};
pub use deny::{Denial, DenyTarget};
pub use error::CaError;
pub use issued::Issued;
pub use options::{CaOptions, Clock};
pub use sign::{Asker, SignError};
pub use state::{Authority, CaState, Rotation, RotationError, Stage, Step};

use crate::events::Severity;
use crate::serve::Tls;
use crate::tokens::Tokens;
use accounts::Reviewer;
use keep::{assemble, begin, denied_prefix, put_state, state_key};
use raddle_identity::{DenyList, GivenCa, Identity, Issuer, SealKey, TrustBundle, check_trust_domain};
use raddle_store::{Entry, Expect, Op, Outcome, Revision, Store, Txn};
use rustls::ServerConfig;
use sign::Paces;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_secs(10);
/// An old root stays so much longer than what it signed, for clocks that differ.
const SLACK: i64 = 600;
/// Times a change of the state is tried when others change it too.
const TRIES: u32 = 10;

/// The authority.
pub struct Ca {
    store: Arc<dyn Store>,
    tokens: Arc<Tokens>,
    options: CaOptions,
    seal: SealKey,
    current: Mutex<Current>,
    denials: Mutex<Vec<Denial>>,
    paces: Mutex<Paces>,
    reviewer: Option<Reviewer>,
    trust: watch::Sender<Arc<TrustBundle>>,
    denied: watch::Sender<Arc<DenyList>>,
    own: watch::Sender<Arc<Identity>>,
    serving: watch::Sender<Arc<ServerConfig>>,
    /// Which authority signed the own certificate.
    signed_by: Mutex<String>,
    pruned: Mutex<i64>,
}

/// The state in force.
#[derive(Clone)]
struct Current {
    revision: Revision,
    state: Arc<CaState>,
    /// Who signs.
    issuer: Arc<Issuer>,
    trust: Arc<TrustBundle>,
}

impl Ca {
    /// Opens the authority that is in the store, or makes it; follows it in tasks of the running runtime.
    ///
    /// # Errors
    /// A sentence for people: the seal key is another, the given authority cannot be one, the store does not answer.
    pub async fn open(
        store: Arc<dyn Store>,
        tokens: Arc<Tokens>,
        options: CaOptions,
    ) -> Result<Arc<Ca>, CaError> {
        check_trust_domain(&options.trust_domain).map_err(|e| CaError::Option(e.to_string()))?;
        if options.lifetime < Duration::from_secs(10) {
            return Err(CaError::Option("certificates must live at least 10 s".into()));
        }
        let reviewer = options.accounts.clone().map(Reviewer::new).transpose()?;
        let now = (options.clock)();
        let (seal, current) = begin(store.as_ref(), &options, now).await?;
        let own = serving::identity(&current, &options, now)?;
        let denied = watch::Sender::new(Arc::new(DenyList::default()));
        let config = serving::config(&own, denied.subscribe())?;
        let ca = Arc::new(Ca {
            seal,
            trust: watch::Sender::new(current.trust.clone()),
            denials: Mutex::default(),
            paces: Mutex::new(Paces::new()),
            reviewer,
            denied,
            own: watch::Sender::new(Arc::new(own)),
            serving: watch::Sender::new(Arc::new(config)),
            signed_by: Mutex::new(current.issuer.id().to_owned()),
            current: Mutex::new(current),
            pruned: Mutex::new(0),
            tokens,
            options,
            store,
        });
        let listing = ca.store.list(&denied_prefix()).await?;
        ca.take_denials(listing.entries.iter());
        ca.take_given().await?;
        tokio::spawn(keep::follow_state(Arc::downgrade(&ca), ca.store.clone()));
        tokio::spawn(keep::follow_denials(Arc::downgrade(&ca), ca.store.clone()));
        tokio::spawn(keep::tick(Arc::downgrade(&ca)));
        Ok(ca)
    }

    /// Whom the mesh trusts: the roots in force.
    pub fn trust(&self) -> watch::Receiver<Arc<TrustBundle>> {
        self.trust.subscribe()
    }

    /// Who is denied.
    pub fn denied(&self) -> watch::Receiver<Arc<DenyList>> {
        self.denied.subscribe()
    }

    /// The control plane's own identity; a new one from time to time.
    pub fn identity(&self) -> watch::Receiver<Arc<Identity>> {
        self.own.subscribe()
    }

    /// What the control plane's listeners serve with: its own certificate, those of peers checked if they show one.
    pub fn serving(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.serving.subscribe()
    }

    /// The same for [`crate::serve::serve`], with those denied later kept out too.
    pub fn tls(&self) -> Tls {
        Tls { config: self.serving(), denied: Some(self.denied()) }
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &str {
        &self.options.trust_domain
    }

    /// The authorities, who signs, and how far a rotation is. Nothing secret is in what it shows or serializes but
    /// sealed.
    pub fn state(&self) -> Arc<CaState> {
        self.current().state.clone()
    }

    /// Begins to replace the authority: by the one given, else by one made now. After `hold` (default: the life of a
    /// certificate, within which every sidecar asks for one and learns the new root) it signs; when the last
    /// certificate of the old one has ended, the old root goes.
    ///
    /// # Errors
    /// A rotation is on its way, the authority cannot be one, or the store does not do it.
    pub async fn rotate(
        &self,
        given: Option<GivenCa>,
        hold: Option<Duration>,
    ) -> Result<Arc<CaState>, CaError> {
        let now = self.now();
        let issuer = match &given {
            Some(files) => files.load(now)?,
            None => Issuer::generate(self.trust_domain(), self.options.root_lifetime, now)?,
        };
        let new = Authority::seal(&issuer, &self.seal, given.is_some())?;
        let hold = hold.unwrap_or(self.options.lifetime).as_secs().min(i64::MAX as u64) as i64;
        let state = self.change(|state| Ok(state.begin(new.clone(), now, hold)?)).await?;
        self.tell(Severity::Info, "rotationBegun", &format!("authority {} is trusted from now on", new.id));
        Ok(state)
    }

    /// Goes one step on with a rotation, if it is time or `forced`.
    ///
    /// # Errors
    /// There is no rotation, or the store does not do it.
    pub async fn advance(&self, forced: bool) -> Result<Step, CaError> {
        let (now, lifetime) = (self.now(), self.longest());
        let mut step = Step::Waits;
        self.change(|state| {
            step = state.advance(now, forced, lifetime)?;
            Ok(())
        })
        .await?;
        match step {
            Step::Waits => {}
            Step::Switched => {
                self.tell(Severity::Info, "rotationSwitched", "the new authority signs from now on");
            }
            Step::Finished => {
                self.tell(Severity::Info, "rotationFinished", "the old root is trusted no more");
            }
        }
        Ok(step)
    }

    /// Takes a rotation back: before the switch the new root goes at once, after it with overlap.
    ///
    /// # Errors
    /// There is no rotation, or the store does not do it.
    pub async fn revert(&self) -> Result<Arc<CaState>, CaError> {
        let (now, lifetime) = (self.now(), self.longest());
        let state = self.change(|state| Ok(state.revert(now, lifetime)?)).await?;
        self.tell(Severity::Warning, "rotationReverted", "the old authority signs again");
        Ok(state)
    }

    /// Denies somebody from now on: no certificates, no connections to the control plane, and sidecars are told.
    ///
    /// # Errors
    /// The store does not do it.
    pub async fn deny(&self, target: &DenyTarget, reason: &str, by: &str) -> Result<Denial, CaError> {
        let denial =
            Denial { target: target.to_string(), reason: reason.into(), by: by.into(), at: self.now() };
        let value = serde_json::to_vec(&denial).unwrap_or_default().into();
        let ops = vec![Op::Put { key: target.key(), value, lease: None }];
        self.store.commit(Txn { ops, ..Txn::default() }).await?;
        self.reload_denials().await?;
        self.tell(Severity::Warning, "identityDenied", &format!("{target} is denied: {reason}"));
        Ok(denial)
    }

    /// Takes a denial back; whether there was one.
    ///
    /// # Errors
    /// The store does not do it.
    pub async fn undeny(&self, target: &DenyTarget) -> Result<bool, CaError> {
        let txn = Txn {
            expect: vec![(target.key(), Expect::Present)],
            ops: vec![Op::Delete { key: target.key() }],
            ..Txn::default()
        };
        let done = matches!(self.store.commit(txn).await?, Outcome::Done(_));
        self.reload_denials().await?;
        Ok(done)
    }

    /// All denials.
    pub fn denials(&self) -> Vec<Denial> {
        lock(&self.denials).clone()
    }

    /// What was signed, at most `most`, those that end last.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn issued(&self, most: usize) -> Result<Vec<Issued>, CaError> {
        Ok(issued::list(self.store.as_ref(), most).await?)
    }

    /// Does what is due: steps of a rotation, the renewal of the own certificate, forgetting. Called by a task of its
    /// own; by tests after they moved the clock.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn tick(&self) -> Result<(), CaError> {
        let now = self.now();
        if self.current().state.rotation.is_some() {
            match self.advance(false).await {
                // Another replica was faster.
                Ok(_) | Err(CaError::Rotation(RotationError::None)) => {}
                Err(e) => return Err(e),
            }
        } else if self.root_is_old(now) {
            match self.rotate(None, None).await {
                Ok(_) | Err(CaError::Rotation(RotationError::Busy)) => {}
                Err(e) => return Err(e),
            }
        }
        self.renew_if_due(now)?;
        let day = now.div_euclid(86400);
        if std::mem::replace(&mut *lock(&self.pruned), day) != day {
            issued::prune(self.store.as_ref(), now).await?;
        }
        Ok(())
    }

    /// A root made here is replaced when a tenth of its life is left; of a given one its giver takes care.
    fn root_is_old(&self, now: i64) -> bool {
        let current = self.current();
        let given = current.state.authority(current.issuer.id()).is_some_and(|a| a.given);
        let validity = current.issuer.validity();
        !given && validity.not_after - now < (validity.not_after - validity.not_before) / 10
    }

    fn renew_if_due(&self, now: i64) -> Result<(), CaError> {
        let current = self.current();
        // Held until it is done: two must not renew at once.
        let mut signed_by = lock(&self.signed_by);
        if !serving::is_due(&self.own.borrow(), &signed_by, &current, now) {
            return Ok(());
        }
        let own = serving::identity(&current, &self.options, now)?;
        let config = serving::config(&own, self.denied())?;
        current.issuer.id().clone_into(&mut signed_by);
        self.own.send_replace(Arc::new(own));
        self.serving.send_replace(Arc::new(config));
        Ok(())
    }

    /// Changes the state in the store, and takes it in. Others may change it at the same time.
    async fn change(
        &self,
        mut change: impl FnMut(&mut CaState) -> Result<(), CaError>,
    ) -> Result<Arc<CaState>, CaError> {
        for _ in 0..TRIES {
            let Some(entry) = self.store.get(&state_key()).await? else { return Err(CaError::Gone) };
            let old = CaState::read(&entry.value).map_err(CaError::State)?;
            let mut state = old.clone();
            change(&mut state)?;
            if state == old {
                return Ok(Arc::new(state));
            }
            match self.store.commit(put_state(&state, Expect::At(entry.changed))).await? {
                Outcome::Done(revision) => {
                    self.install(revision, &state)?;
                    return Ok(Arc::new(state));
                }
                Outcome::Conflict(..) => {}
            }
        }
        Err(CaError::Contended)
    }

    /// Takes a state in, if it is newer.
    fn install(&self, revision: Revision, state: &CaState) -> Result<(), CaError> {
        let now = self.now();
        let new = {
            let mut current = lock(&self.current);
            if current.revision >= revision {
                return Ok(());
            }
            let known = (current.issuer.id() == state.signing).then(|| current.issuer.clone());
            *current = assemble(revision, state, &self.seal, known, now)?;
            current.clone()
        };
        self.trust.send_if_modified(|trust| {
            let differs = *trust != new.trust;
            trust.clone_from(&new.trust);
            differs
        });
        self.renew_if_due(now)
    }

    /// An authority given at the start that is not the one in the store takes its place: at once if the roots are the
    /// same (a renewed intermediate), else as a rotation does.
    async fn take_given(&self) -> Result<(), CaError> {
        let Some(files) = &self.options.given else { return Ok(()) };
        let issuer = files.load(self.now())?;
        let current = self.current();
        if current.state.authority(issuer.id()).is_some() {
            return Ok(());
        }
        if current.state.retired.iter().any(|id| id == issuer.id()) {
            tracing::warn!(
                "the given authority {} was replaced; the mesh goes on with the later one",
                issuer.id()
            );
            return Ok(());
        }
        let same_roots = issuer.roots() == current.issuer.roots();
        match self.rotate(Some(files.clone()), None).await {
            Ok(_) if same_roots => self.advance(true).await.map(|_| ()),
            Ok(_) => Ok(()),
            Err(CaError::Rotation(e)) => {
                tracing::warn!("the given authority {} is not taken: {e}", issuer.id());
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    async fn reload_denials(&self) -> Result<(), CaError> {
        let listing = self.store.list(&denied_prefix()).await?;
        self.take_denials(listing.entries.iter());
        Ok(())
    }

    fn take_denials<'a>(&self, entries: impl Iterator<Item = &'a Entry>) {
        let (list, told) = deny::read(entries);
        *lock(&self.denials) = told;
        self.denied.send_if_modified(|denied| {
            let differs = **denied != list;
            *denied = Arc::new(list);
            differs
        });
    }

    fn tell(&self, severity: Severity, what: &str, message: &str) {
        tracing::info!("authority: {message}");
        if let Some(events) = &self.options.events {
            events.tell(severity, what, "authority", message);
        }
    }

    fn current(&self) -> Current {
        lock(&self.current).clone()
    }

    fn now(&self) -> i64 {
        (self.options.clock)()
    }

    /// For how long what was signed until now may be shown, in seconds.
    fn longest(&self) -> i64 {
        self.options.lifetime.as_secs() as i64 + SLACK
    }
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Ca")
            .field("trust_domain", &state.trust_domain)
            .field("signing", &state.signing)
            .finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
