//! The authorities there are and which of them signs, as the store keeps it; how one takes the place of another is
//! decided here, without store or clock.
use raddle_identity::{Issuer, SealError, SealKey};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Layout of what is kept.
const VERSION: u32 = 1;
/// Ids of authorities that signed once; so many are remembered.
const RETIRED: usize = 16;

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaState {
    version: u32,
    /// The trust domain.
    pub trust_domain: String,
    /// All whose roots are trusted.
    pub authorities: Vec<Authority>,
    /// Which of them signs.
    pub signing: String,
    /// One taking another's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// Ids of those that are trusted no more, the latest last.
    #[serde(default)]
    pub retired: Vec<String>,
}

/// An authority as it is kept; its key sealed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Authority {
    /// Names it: the beginning of its certificate's SHA-256.
    pub id: String,
    /// Its certificate, then those that vouch for it; hexadecimal DER.
    chain: Vec<String>,
    /// Its roots; hexadecimal DER.
    roots: Vec<String>,
    /// Its key in an envelope, hexadecimal.
    sealed: String,
    /// Until when it is valid, seconds since 1970.
    pub not_after: i64,
    /// The user gave it; else it was made here.
    pub given: bool,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({}, until {})", self.id, self.not_after)
    }
}

/// One authority taking another's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// Who is to go.
    pub from: String,
    /// Who is to stay.
    pub to: String,
    /// How far it is.
    #[serde(flatten)]
    pub stage: Stage,
    /// When it began, seconds since 1970.
    pub begun: i64,
}

/// How far a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "stage")]
pub enum Stage {
    /// Both are trusted, the old one signs: the new root is on its way to everybody.
    Announced {
        /// When the new one begins to sign, seconds since 1970.
        switch_at: i64,
    },
    /// Both are trusted, the new one signs: certificates of the old one are running out.
    Switched {
        /// When the old root is removed, seconds since 1970.
        remove_at: i64,
    },
}

/// What a step of a rotation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is not time.
    Waits,
    /// The new authority signs from now on.
    Switched,
    /// The old root is gone.
    Finished,
}

/// Why a rotation does not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationError {
    /// One is on its way already.
    Busy,
    /// There is none.
    None,
    /// The authority is there already, or was.
    Known,
}

impl fmt::Display for RotationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RotationError::Busy => "a rotation is on its way; let it finish, or take it back",
            RotationError::None => "no rotation is on its way",
            RotationError::Known => "this authority is in the mesh, or was; a rotation needs another",
        })
    }
}

impl std::error::Error for RotationError {}

impl CaState {
    /// With one authority.
    pub fn new(trust_domain: &str, authority: Authority) -> CaState {
        CaState {
            version: VERSION,
            trust_domain: trust_domain.into(),
            signing: authority.id.clone(),
            authorities: vec![authority],
            rotation: None,
            retired: Vec::new(),
        }
    }

    /// Reads what is kept.
    ///
    /// # Errors
    /// A sentence: it cannot be read, or is of a later version.
    pub fn read(bytes: &[u8]) -> Result<CaState, String> {
        let state: CaState = serde_json::from_slice(bytes)
            .map_err(|e| format!("the authority's state in the store is damaged: {e}"))?;
        if state.version != VERSION {
            return Err(format!("the authority's state in the store is of version {}", state.version));
        }
        match state.authority(&state.signing) {
            Some(_) => Ok(state),
            None => Err("the authority's state in the store is damaged: nobody signs".into()),
        }
    }

    /// As it is kept.
    pub fn bytes(&self) -> Vec<u8> {
        // Strings and numbers always can be written.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// An authority.
    pub fn authority(&self, id: &str) -> Option<&Authority> {
        self.authorities.iter().find(|a| a.id == id)
    }

    /// Begins a rotation: from now on both are trusted, and after `hold` seconds the new one signs.
    ///
    /// # Errors
    /// One is on its way, or the authority is no new one.
    pub fn begin(&mut self, new: Authority, now: i64, hold: i64) -> Result<(), RotationError> {
        if self.rotation.is_some() {
            return Err(RotationError::Busy);
        }
        if self.authority(&new.id).is_some() || self.retired.contains(&new.id) {
            return Err(RotationError::Known);
        }
        let stage = Stage::Announced { switch_at: now.saturating_add(hold) };
        self.rotation = Some(Rotation { from: self.signing.clone(), to: new.id.clone(), stage, begun: now });
        self.authorities.push(new);
        Ok(())
    }

    /// Goes one step on if it is time, or if told to. `lifetime` is how long certificates live at most, in seconds: the
    /// old root stays so long after its last signature.
    ///
    /// # Errors
    /// There is no rotation.
    pub fn advance(&mut self, now: i64, forced: bool, lifetime: i64) -> Result<Step, RotationError> {
        let rotation = self.rotation.as_mut().ok_or(RotationError::None)?;
        match rotation.stage {
            Stage::Announced { switch_at } if forced || now >= switch_at => {
                self.signing.clone_from(&rotation.to);
                rotation.stage = Stage::Switched { remove_at: now.saturating_add(lifetime) };
                Ok(Step::Switched)
            }
            Stage::Switched { remove_at } if forced || now >= remove_at => {
                let old = rotation.from.clone();
                self.rotation = None;
                self.remove(&old);
                Ok(Step::Finished)
            }
            _ => Ok(Step::Waits),
        }
    }

    /// Takes a rotation back. Before the switch the new root goes at once, for nobody has a certificate of it. After it
    /// the old authority signs again, and the new root goes when what it signed has ended.
    ///
    /// # Errors
    /// There is no rotation.
    pub fn revert(&mut self, now: i64, lifetime: i64) -> Result<(), RotationError> {
        let rotation = self.rotation.take().ok_or(RotationError::None)?;
        match rotation.stage {
            Stage::Announced { .. } => self.authorities.retain(|a| a.id != rotation.to),
            Stage::Switched { .. } => {
                self.signing.clone_from(&rotation.from);
                self.rotation = Some(Rotation {
                    stage: Stage::Switched { remove_at: now.saturating_add(lifetime) },
                    from: rotation.to,
                    to: rotation.from,
                    begun: now,
                });
            }
        }
        Ok(())
    }

    fn remove(&mut self, id: &str) {
        self.authorities.retain(|a| a.id != id);
        self.retired.push(id.to_owned());
        if self.retired.len() > RETIRED {
            self.retired.remove(0);
        }
    }
}

impl Authority {
    /// Seals an authority.
    ///
    /// # Errors
    /// It cannot be sealed.
    pub fn seal(issuer: &Issuer, key: &SealKey, given: bool) -> Result<Authority, SealError> {
        let hex = |certs: &[rustls::pki_types::CertificateDer<'_>]| {
            certs.iter().map(|c| raddle_identity::crypto::hex(c)).collect()
        };
        Ok(Authority {
            id: issuer.id().to_owned(),
            chain: hex(issuer.chain()),
            roots: hex(issuer.roots()),
            sealed: raddle_identity::crypto::hex(&key.seal(&purpose(issuer.id()), issuer.key().der())?),
            not_after: issuer.validity().not_after,
            given,
        })
    }

    /// Its roots.
    pub fn roots(&self) -> Option<Vec<rustls::pki_types::CertificateDer<'static>>> {
        self.roots.iter().map(|c| Some(unhex(c)?.into())).collect()
    }

    /// Opens it.
    ///
    /// # Errors
    /// A sentence: the key is another, or what is kept is damaged.
    pub fn open(&self, key: &SealKey, now: i64) -> Result<Issuer, String> {
        let damaged = || "the authority's state in the store is damaged".to_owned();
        let chain: Option<Vec<_>> = self.chain.iter().map(|c| Some(unhex(c)?.into())).collect();
        let sealed = unhex(&self.sealed).ok_or_else(damaged)?;
        let secret = key.open(&purpose(&self.id), &sealed).map_err(|e| e.to_string())?;
        let (chain, roots) = (chain.ok_or_else(damaged)?, self.roots().ok_or_else(damaged)?);
        Issuer::restore(chain, roots, &secret, now).map_err(|e| e.to_string())
    }
}

fn purpose(id: &str) -> String {
    format!("authority {id}")
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|p| Some(digit(p[0])? << 4 | digit(*p.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(id: &str) -> Authority {
        let none = Vec::new;
        Authority {
            id: id.into(),
            chain: none(),
            roots: none(),
            sealed: String::new(),
            not_after: 0,
            given: false,
        }
    }

    fn trusted(state: &CaState) -> Vec<&str> {
        state.authorities.iter().map(|a| &*a.id).collect()
    }

    #[test]
    fn the_old_root_stays_until_what_it_signed_has_ended() {
        let mut state = CaState::new("mesh", authority("old"));
        state.begin(authority("new"), 100, 10).unwrap();
        assert_eq!((trusted(&state), &*state.signing), (vec!["old", "new"], "old"));
        assert_eq!(state.begin(authority("other"), 100, 10), Err(RotationError::Busy));
        assert_eq!(state.advance(109, false, 50), Ok(Step::Waits));
        assert_eq!(state.advance(110, false, 50), Ok(Step::Switched));
        assert_eq!((trusted(&state), &*state.signing), (vec!["old", "new"], "new"));
        assert_eq!(state.advance(159, false, 50), Ok(Step::Waits));
        let kept = CaState::read(&state.bytes()).unwrap();
        assert_eq!(kept, state, "each stage survives a restart");
        assert_eq!(state.advance(160, false, 50), Ok(Step::Finished));
        assert_eq!((trusted(&state), &*state.signing), (vec!["new"], "new"));
        assert_eq!(state.advance(161, false, 50), Err(RotationError::None));
        assert_eq!(state.begin(authority("old"), 200, 10), Err(RotationError::Known));
    }

    #[test]
    fn before_the_switch_it_is_taken_back_at_once() {
        let mut state = CaState::new("mesh", authority("old"));
        let before = state.clone();
        state.begin(authority("new"), 100, 10).unwrap();
        state.revert(105, 50).unwrap();
        assert_eq!(state, before);
        assert_eq!(state.revert(105, 50), Err(RotationError::None));
        state.begin(authority("new"), 200, 10).unwrap();
    }

    #[test]
    fn after_the_switch_it_is_taken_back_with_overlap() {
        let mut state = CaState::new("mesh", authority("old"));
        state.begin(authority("new"), 100, 10).unwrap();
        state.advance(100, true, 50).unwrap();
        state.revert(120, 50).unwrap();
        assert_eq!((trusted(&state), &*state.signing), (vec!["old", "new"], "old"));
        assert_eq!(state.advance(169, false, 50), Ok(Step::Waits));
        assert_eq!(state.advance(170, false, 50), Ok(Step::Finished));
        assert_eq!((trusted(&state), &*state.signing), (vec!["old"], "old"));
    }
}
