//! Who asks, and what they may.
use super::http::Problem;
use super::state::State;
use axum::http::{HeaderMap, header};
use std::net::IpAddr;

/// What a caller may do. Each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Look.
    Read,
    /// Change rules and roll them out.
    Operate,
    /// Tokens, certificates, the audit.
    Admin,
}

impl Role {
    /// As tokens and the document name it.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Operate => "operate",
            Role::Admin => "admin",
        }
    }
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    /// As the audit says it.
    pub(crate) name: String,
    /// What they may do.
    pub(crate) role: Role,
}

/// Lets a request in.
///
/// # Errors
/// 401 without a good token, 403 if it may not do this.
pub(crate) fn admit(state: &State, needed: Option<Role>, headers: &HeaderMap) -> Result<Who, Problem> {
    let anybody = Who { name: "anybody".into(), role: Role::Read };
    let Some(tokens) = &state.parts.tokens else {
        own_page(headers)?;
        return Ok(Who { name: "anybody".into(), role: Role::Admin });
    };
    let Some(needed) = needed else { return Ok(anybody) };
    let who = State::identify(tokens, bearer(headers)?)?;
    if who.role < needed {
        return Err(Problem::forbidden(format!(
            "{} has the role {}; this needs {}",
            who.name,
            who.role.name(),
            needed.name()
        )));
    }
    Ok(who)
}

/// The token of a request.
fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(Problem::unauthenticated("a token is needed: Authorization: Bearer rdl_..."));
    };
    let token = value.to_str().ok().and_then(|v| {
        let (scheme, token) = v.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    token
        .filter(|t| !t.is_empty())
        .ok_or_else(|| Problem::unauthenticated("Authorization must be: Bearer rdl_..."))
}

/// Where no token is demanded, a page from elsewhere that a browser on this machine shows must not act: its requests
/// name another origin, or reach us by a name that is not this machine's (DNS rebinding).
fn own_page(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
    if let Some(host) = text(header::HOST)
        && !is_local(host)
    {
        return Err(Problem::forbidden(format!(
            "without tokens only requests to this machine's own names are answered, not to {host:?}"
        )));
    }
    if let Some(origin) = text(header::ORIGIN) {
        let host = origin.split_once("://").map_or(origin, |(_, host)| host);
        if !is_local(host) {
            let message = format!("without tokens no page from {origin:?} may ask");
            return Err(Problem::forbidden(message));
        }
    }
    Ok(())
}

/// Whether a host, with a port or without, is this machine's own by name.
fn is_local(host: &str) -> bool {
    let bare = match host.strip_prefix('[').and_then(|h| h.split_once(']')) {
        Some((inside, _)) => inside,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_do_what_those_before_it_may() {
        assert!(Role::Read < Role::Operate && Role::Operate < Role::Admin);
    }

    #[test]
    fn a_page_from_elsewhere_does_not_act_where_no_token_is_demanded() {
        let ask = |host: &'static str, origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            own_page(&headers).map_err(|p| p.status.as_u16())
        };
        for good in ["127.0.0.1:7070", "localhost:7070", "[::1]:7070", "localhost"] {
            assert_eq!(ask(good, None), Ok(()), "{good}");
        }
        assert_eq!(ask("localhost:7070", Some("http://localhost:7070")), Ok(()));
        assert_eq!(ask("rebound.example.com:7070", None), Err(403));
        assert_eq!(ask("localhost:7070", Some("https://evil.example.com")), Err(403));
        assert_eq!(ask("localhost:7070", Some("null")), Err(403));
    }

    #[test]
    fn the_token_is_what_follows_bearer() {
        let read = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            bearer(&headers).map(str::to_owned).map_err(|p| p.status.as_u16())
        };
        assert_eq!(read("Bearer rdl_x"), Ok("rdl_x".into()));
        assert_eq!(read("bearer  rdl_x"), Ok("rdl_x".into()));
        for bad in ["rdl_x", "Basic eDp5", "Bearer", "Bearer  "] {
            assert_eq!(read(bad), Err(401), "{bad}");
        }
        assert!(bearer(&HeaderMap::new()).is_err());
    }
}
