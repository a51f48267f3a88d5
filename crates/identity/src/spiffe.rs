//! SPIFFE ids: who somebody is, as a certificate says it.
//!
//! Source: the SPIFFE-ID standard (trust domain and path) and X509-SVID (one URI in the subject alternative names).
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest id there is (SPIFFE-ID, section 2.3).
pub const MAX_ID: usize = 2048;
const MAX_TRUST_DOMAIN: usize = 255;
const MAX_NAME: usize = 253;

/// `spiffe://DOMAIN/unit/UNIT/app/APP` (`spiffe://DOMAIN/app/APP` for an app in no unit), or
/// `spiffe://DOMAIN/control` for the control plane itself.
///
/// An id has one form: there is no other text that means the same, so that texts can be compared.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    trust_domain: Arc<str>,
    who: Who,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Who {
    App { unit: Arc<str>, app: Arc<str> },
    Control,
}

impl SpiffeId {
    /// The id of an app's instances in a unit; an empty unit means none.
    ///
    /// # Errors
    /// A part has a character or length that ids do not have.
    pub fn app(trust_domain: &str, unit: &str, app: &str) -> Result<SpiffeId, BadId> {
        check_trust_domain(trust_domain)?;
        if !unit.is_empty() {
            check_name("unit", unit)?;
        }
        check_name("app", app)?;
        Ok(SpiffeId {
            trust_domain: trust_domain.into(),
            who: Who::App { unit: unit.into(), app: app.into() },
        })
    }

    /// The id of the control plane.
    ///
    /// # Errors
    /// The trust domain is none.
    pub fn control(trust_domain: &str) -> Result<SpiffeId, BadId> {
        check_trust_domain(trust_domain)?;
        Ok(SpiffeId { trust_domain: trust_domain.into(), who: Who::Control })
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The app; empty for the control plane.
    pub fn app_name(&self) -> &str {
        match &self.who {
            Who::App { app, .. } => app,
            Who::Control => "",
        }
    }

    /// The unit; empty if there is none.
    pub fn unit(&self) -> &str {
        match &self.who {
            Who::App { unit, .. } => unit,
            Who::Control => "",
        }
    }

    /// Whether it is the control plane's.
    pub fn is_control(&self) -> bool {
        self.who == Who::Control
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}", self.trust_domain)?;
        match &self.who {
            Who::App { unit, app } if unit.is_empty() => write!(f, "/app/{app}"),
            Who::App { unit, app } => write!(f, "/unit/{unit}/app/{app}"),
            Who::Control => f.write_str("/control"),
        }
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SpiffeId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<SpiffeId, BadId> {
        if text.len() > MAX_ID {
            return Err(BadId::new("id", "it is longer than 2048 bytes"));
        }
        let rest =
            text.strip_prefix("spiffe://").ok_or(BadId::new("id", "it does not begin with spiffe://"))?;
        let (domain, path) = rest.split_once('/').ok_or(BadId::new("id", "it has no path"))?;
        let mut parts = path.split('/');
        let found = [parts.next(), parts.next(), parts.next(), parts.next(), parts.next()];
        match found {
            [Some("unit"), Some(unit), Some("app"), Some(app), None] => {
                check_name("unit", unit)?;
                SpiffeId::app(domain, unit, app)
            }
            [Some("app"), Some(app), None, ..] => SpiffeId::app(domain, "", app),
            [Some("control"), None, ..] => SpiffeId::control(domain),
            _ => Err(BadId::new("id", "its path is neither /unit/UNIT/app/APP, /app/APP nor /control")),
        }
    }
}

/// Why a text is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadId {
    part: &'static str,
    why: &'static str,
}

impl BadId {
    fn new(part: &'static str, why: &'static str) -> BadId {
        BadId { part, why }
    }
}

impl fmt::Display for BadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} of the SPIFFE id is wrong: {}", self.part, self.why)
    }
}

impl std::error::Error for BadId {}

/// Checks that a text can be a trust domain.
///
/// # Errors
/// It has another character, is empty or too long.
pub fn check_trust_domain(name: &str) -> Result<(), BadId> {
    let bad = |why| Err(BadId::new("trust domain", why));
    match name {
        "" => bad("it is empty"),
        _ if name.len() > MAX_TRUST_DOMAIN => bad("it is longer than 255 bytes"),
        _ if !name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_')) => {
            bad("it has a character other than a-z, 0-9, '.', '-' and '_'")
        }
        _ => Ok(()),
    }
}

/// A path segment (SPIFFE-ID, section 2.2), shorter than the standard allows: names of apps and units are.
fn check_name(part: &'static str, name: &str) -> Result<(), BadId> {
    let bad = |why| Err(BadId::new(part, why));
    match name {
        "" => bad("it is empty"),
        "." | ".." => bad("it is a path of dots"),
        _ if name.len() > MAX_NAME => bad("it is longer than 253 bytes"),
        _ if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')) => {
            bad("it has a character other than a-z, A-Z, 0-9, '.', '-' and '_'")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_form_and_reads_back() {
        for text in [
            "spiffe://mesh.local/unit/u1/app/pay",
            "spiffe://mesh.local/app/Pay_2.x-y",
            "spiffe://mesh.local/control",
            "spiffe://mesh.local/unit/app/app/app",
        ] {
            let id: SpiffeId = text.parse().expect(text);
            assert_eq!(id.to_string(), text);
        }
        let id: SpiffeId = "spiffe://mesh.local/unit/u1/app/pay".parse().expect("an id");
        assert_eq!((id.trust_domain(), id.unit(), id.app_name()), ("mesh.local", "u1", "pay"));
    }

    #[test]
    fn what_could_mean_something_else_elsewhere_is_refused() {
        let long = format!("spiffe://mesh/app/{}", "a".repeat(254));
        for text in [
            "",
            "spiffe://",
            "SPIFFE://mesh/app/a",
            "spiffe:///app/a",
            "spiffe://Mesh/app/a",
            "spiffe://mesh",
            "spiffe://mesh/",
            "spiffe://mesh/app",
            "spiffe://mesh/app/",
            "spiffe://mesh/app/a/",
            "spiffe://mesh/app/a/b",
            "spiffe://mesh//app/a",
            "spiffe://mesh/unit//app/a",
            "spiffe://mesh/unit/u/app/..",
            "spiffe://mesh/unit/./app/a",
            "spiffe://mesh/unit/u/app/a/app/b",
            "spiffe://mesh/app/a%2e",
            "spiffe://mesh/app/a?b",
            "spiffe://mesh/app/a#b",
            "spiffe://mesh:8080/app/a",
            "spiffe://user@mesh/app/a",
            "spiffe://mesh/app/ä",
            "spiffe://mesh/app/a\0",
            "spiffe://mesh/control/x",
            &long,
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text}");
        }
    }
}
