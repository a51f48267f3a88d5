//! A request that somebody asks about instead of sending it.
use super::facts::{Caller, Facts, Names};
use raddle_model::AuthSubject;
use std::net::IpAddr;

/// A request as a person describes it, for [`Rules::explain`](super::Rules::explain).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Who asks; `None` = in plaintext.
    pub caller: Option<Identity>,
    /// Where its connection comes from.
    pub source: Option<IpAddr>,
    /// Its service.
    pub service: Option<String>,
    /// Its method.
    pub method: Option<String>,
    /// HTTP: its path; a query is no part of it.
    pub path: Option<String>,
    /// HTTP: its host.
    pub authority: Option<String>,
    /// Its headers; one may come several times.
    pub headers: Vec<(String, String)>,
    /// What can be told of service and method.
    pub names: Names,
}

/// A caller's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// App; empty = none.
    pub app: String,
    /// Unit; empty = none.
    pub unit: String,
    /// SPIFFE id; empty = not said.
    pub id: String,
}

impl Identity {
    /// Of a certificate with this id: app and unit as it says them.
    pub fn of_id(id: &str) -> Identity {
        let part = |key: &str| {
            let mut parts = id.split('/').skip_while(|p| *p != key);
            parts.nth(1).unwrap_or_default().to_owned()
        };
        Identity { app: part("app"), unit: part("unit"), id: id.to_owned() }
    }
}

impl Asked {
    /// A request as pairs of names and values say it, `header.NAME` for headers: the sidecar's admin page and the command
    /// line ask so.
    ///
    /// # Errors
    /// A name or a value that means nothing, in words.
    pub fn from_pairs(pairs: impl Iterator<Item = (String, String)>) -> Result<Asked, String> {
        let mut asked = Asked::default();
        let (mut app, mut unit) = (None, None);
        for (name, value) in pairs {
            match name.as_str() {
                "callerApp" => app = Some(value),
                "callerUnit" => unit = Some(value),
                "callerId" => asked.caller = Some(Identity::of_id(&value)),
                "source" => {
                    let ip = value.parse().map_err(|_| format!("source: {value} is no IP address"))?;
                    asked.source = Some(ip);
                }
                "service" => asked.service = Some(value),
                "method" => asked.method = Some(value),
                "path" => asked.path = Some(value),
                "authority" => asked.authority = Some(value),
                _ => match name.strip_prefix("header.") {
                    Some(header) => asked.headers.push((header.to_owned(), value)),
                    None => {
                        return Err(format!(
                            "unknown parameter {name}; give callerApp, callerUnit, callerId, source, service, method, \
                             path, authority, header.NAME"
                        ));
                    }
                },
            }
        }
        if app.is_some() || unit.is_some() {
            let caller = asked.caller.get_or_insert_default();
            caller.app = app.unwrap_or_else(|| std::mem::take(&mut caller.app));
            caller.unit = unit.unwrap_or_else(|| std::mem::take(&mut caller.unit));
        }
        Ok(asked)
    }

    /// HTTP's header names are the same in any letters.
    fn same_header(&self, a: &str, b: &str) -> bool {
        let http = self.path.is_some() || self.authority.is_some();
        if http { a.eq_ignore_ascii_case(b) } else { a == b }
    }
}

impl Facts for Asked {
    fn caller(&self) -> Option<Caller<'_>> {
        self.caller.as_ref().map(|c| Caller { app: &c.app, unit: &c.unit, id: &c.id })
    }

    fn source(&self) -> Option<IpAddr> {
        self.source
    }

    fn values(&self, subject: &AuthSubject, f: &mut dyn FnMut(&[u8])) {
        let one = match subject {
            AuthSubject::Service => &self.service,
            AuthSubject::Method => &self.method,
            AuthSubject::Path => &self.path,
            AuthSubject::Authority => {
                if let Some(authority) = &self.authority {
                    hosts(authority.as_bytes(), f);
                }
                return;
            }
            AuthSubject::Header(name) => {
                let all = self.headers.iter().filter(|(k, _)| self.same_header(k, name));
                return all.for_each(|(_, v)| f(v.as_bytes()));
            }
            AuthSubject::CallerApp | AuthSubject::CallerUnit | AuthSubject::CallerId => return,
        };
        if let Some(text) = one {
            let end = match subject {
                AuthSubject::Path => text.find('?').unwrap_or(text.len()),
                _ => text.len(),
            };
            f(&text.as_bytes()[..end]);
        }
    }

    fn names(&self) -> Names {
        self.names
    }
}

/// Longest authority that is a host's: a DNS name, a dot, a colon and a port.
const HOST_MOST: usize = 264;

/// Calls `f` with the names of the host an HTTP request is for: the authority as it is, and the host without a port and a
/// dot at its end if that is another text; both in lower case. With none if it is none that a host could have.
pub fn hosts(authority: &[u8], f: &mut dyn FnMut(&[u8])) {
    let mut room = [0; HOST_MOST];
    let Some(lowered) = room.get_mut(..authority.len()).filter(|r| !r.is_empty()) else { return };
    lowered.copy_from_slice(authority);
    lowered.make_ascii_lowercase();
    let lowered = &*lowered;
    f(lowered);
    let host = bare(lowered);
    if host.len() < lowered.len() {
        f(host);
    }
}

/// The host of an authority without its port and without a dot at the end.
fn bare(authority: &[u8]) -> &[u8] {
    let end = match authority.first() {
        Some(b'[') => authority.iter().position(|b| *b == b']').map_or(authority.len(), |i| i + 1),
        _ => authority.iter().position(|b| *b == b':').unwrap_or(authority.len()),
    };
    let host = &authority[..end];
    host.strip_suffix(b".").unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_described_by_pairs_and_an_id_says_app_and_unit() {
        let of = |pairs: &[(&str, &str)]| {
            Asked::from_pairs(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
        };
        let id = "spiffe://mesh/unit/u1/app/shop";
        let asked = of(&[("callerId", id), ("source", "::1"), ("header.tier", "gold")]).expect("it is right");
        let caller = asked.caller.expect("it has an identity");
        assert_eq!((caller.app.as_str(), caller.unit.as_str(), caller.id.as_str()), ("shop", "u1", id));
        assert_eq!(asked.headers, [("tier".to_owned(), "gold".to_owned())]);
        let asked = of(&[("callerApp", "cart")]).expect("it is right");
        assert_eq!(asked.caller.map(|c| c.app), Some("cart".into()));
        assert!(of(&[("source", "here")]).is_err_and(|e| e.contains("here")));
        assert!(of(&[("color", "red")]).is_err_and(|e| e.contains("color")));
    }

    #[test]
    fn a_host_has_the_same_names_however_it_is_written() {
        let names = |authority: &str| {
            let mut all = Vec::new();
            hosts(authority.as_bytes(), &mut |n| all.push(String::from_utf8_lossy(n).into_owned()));
            all
        };
        assert_eq!(names("Pay.Shop"), ["pay.shop"]);
        assert_eq!(names("pay.shop.:8080"), ["pay.shop.:8080", "pay.shop"]);
        assert_eq!(names("[::1]:80"), ["[::1]:80", "[::1]"]);
        assert_eq!(names("pay.shop."), ["pay.shop.", "pay.shop"]);
        assert!(names("").is_empty() && names(&"a".repeat(265)).is_empty());
    }
}
