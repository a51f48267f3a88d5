//! Tokens: made, listed, revoked. The secret is answered once, when a token is made.
use super::auth::Role;
use super::http::shape::{Page, answers, bodies};
use super::http::{Call, Problem, Reply, Route};
use super::page::{after, page};
use crate::tokens::{Kind, NewToken, TokenError, TokenInfo, Tokens};
use axum::http::{Method, StatusCode, header};
use std::sync::Arc;
use std::time::Duration;

pub(super) fn routes() -> Vec<Route> {
    let admin = Some(Role::Admin);
    vec![
        Route::get("/v1/tokens", "listTokens")
            .role(admin)
            .says("All tokens, without their secrets.")
            .paged()
            .answers::<Page<TokenAnswer>>(200, "By id.")
            .refuses(&[404])
            .on(list),
        Route::new(Method::POST, "/v1/tokens", admin, "createToken")
            .says("Makes a token. Its text is in this answer and nowhere else, ever.")
            .body::<TokenBody>(true)
            .answers::<NewTokenAnswer>(201, "The token.")
            .refuses(&[404, 422])
            .on(create),
        Route::new(Method::DELETE, "/v1/tokens/{id}", admin, "revokeToken")
            .says("Revokes a token: here at once, on other replicas within moments.")
            .answers::<TokenGone>(200, "It is revoked.")
            .on(revoke),
    ]
}

bodies! {
    /// A token to be made: give `role` for one that asks the API, `app` for one that gets a sidecar its certificate.
    pub struct TokenBody {
        /// For people.
        pub name: Option<String>,
        /// `read`, `operate` or `admin`.
        pub role: Option<String>,
        /// The app a sidecar may be of.
        pub app: Option<String>,
        /// The unit it may be in; absent = any.
        pub unit: Option<String>,
        /// The instance it may be; absent = any.
        pub instance: Option<String>,
        /// Good for one certificate.
        pub once: Option<bool>,
        /// Seconds it is good for; absent = until it is revoked.
        pub lifetime_seconds: Option<u32>,
    }
}

answers! {
    /// A token, without its secret.
    pub struct TokenAnswer {
        /// The part of its text that is no secret.
        pub id: String,
        /// For people.
        pub name: String,
        /// `api` or `bootstrap`.
        pub kind: String,
        /// What an API token may do.
        pub role: Option<String>,
        /// The app a bootstrap token is for.
        pub app: Option<String>,
        /// The unit; null = any.
        pub unit: Option<String>,
        /// The instance; null = any.
        pub instance: Option<String>,
        /// Good for one certificate.
        pub once: bool,
        /// Who made it.
        pub by: String,
        /// When, milliseconds since the Unix epoch.
        pub created: u64,
        /// Until when it is good; null = until it is revoked.
        pub not_after: Option<u64>,
        /// Somebody revoked it.
        pub revoked: bool,
        /// The instance that has used a one-time token.
        pub used_by: Option<String>,
    }

    /// A new token.
    pub struct NewTokenAnswer {
        /// What is known of it from now on.
        pub token: TokenAnswer,
        /// Its text: keep it, it is not shown again.
        pub text: String,
    }

    /// A token that is no more.
    pub struct TokenGone {
        /// Its id.
        pub id: String,
    }
}

impl TokenAnswer {
    fn new(info: TokenInfo) -> TokenAnswer {
        let mut answer = TokenAnswer {
            id: info.id.to_string(),
            name: info.name,
            by: info.by,
            created: millis(info.created),
            not_after: info.not_after.map(millis),
            revoked: info.revoked,
            used_by: info.used.map(|u| u.instance),
            ..TokenAnswer::default()
        };
        match info.kind {
            Kind::Api { role } => {
                answer.kind = "api".into();
                answer.role = Some(role.name().into());
            }
            Kind::Bootstrap { app, unit, instance, once } => {
                answer.kind = "bootstrap".into();
                answer.app = Some(app);
                (answer.unit, answer.instance, answer.once) = (unit, instance, once);
            }
        }
        answer
    }
}

fn millis(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
}

fn tokens(call: &Call) -> Result<Arc<Tokens>, Problem> {
    let none = "this control plane runs without tokens (--no-auth)";
    call.state.parts.tokens.clone().ok_or_else(|| Problem::not_found(none))
}

async fn list(call: Call) -> Result<Reply, Problem> {
    let after = after(&call);
    let all = tokens(&call)?.list().into_iter().filter(|t| *t.id > *after);
    Reply::json(&page(&call, all.map(|t| (t.id.to_string(), TokenAnswer::new(t)))))
}

async fn create(call: Call) -> Result<Reply, Problem> {
    let body: TokenBody = call.json()?;
    let new = wanted(body, &call.who.name)?;
    let (info, text) = tokens(&call)?.create(new).await?;
    let note = format!("{} ({})", info.id, info.name);
    let answer = NewTokenAnswer { token: TokenAnswer::new(info), text: text.to_string() };
    let reply = Reply::status_json(StatusCode::CREATED, &answer)?;
    Ok(reply.header(header::CACHE_CONTROL, "no-store").noted(note))
}

/// What a body asks for.
fn wanted(body: TokenBody, by: &str) -> Result<NewToken, Problem> {
    let wrong = |why: &str| Err(Problem::mistakes(why, Vec::new()));
    let TokenBody { name, role, app, unit, instance, once, lifetime_seconds } = body;
    let kind = match (role, app) {
        (Some(_), Some(_)) => return wrong("a token has a role or an app, not both"),
        (None, None) => return wrong("give role (read, operate, admin) or app"),
        (Some(role), None) => {
            if unit.is_some() || instance.is_some() || once.is_some() {
                return wrong("unit, instance and once are for tokens of an app");
            }
            match Role::ALL.into_iter().find(|r| r.name() == role) {
                Some(role) => Kind::Api { role },
                None => return wrong("role must be read, operate or admin"),
            }
        }
        (None, Some(app)) => Kind::Bootstrap { app, unit, instance, once: once.unwrap_or(false) },
    };
    if lifetime_seconds == Some(0) {
        return wrong("lifetimeSeconds must be more than 0");
    }
    let lifetime = lifetime_seconds.map(|s| Duration::from_secs(s.into()));
    Ok(NewToken { name: name.unwrap_or_default(), kind, lifetime, by: by.to_owned() })
}

async fn revoke(call: Call) -> Result<Reply, Problem> {
    let id = call.param("id").to_owned();
    tokens(&call)?.revoke(&id).await?;
    Ok(Reply::json(&TokenGone { id: id.clone() })?.noted(id))
}

impl From<TokenError> for Problem {
    fn from(e: TokenError) -> Problem {
        match e {
            TokenError::Invalid(why) => Problem::mistakes(why, Vec::new()),
            TokenError::None => Problem::not_found("there is no such token"),
            TokenError::Store(e) => e.into(),
            TokenError::File(..) => Problem::unavailable(e.to_string()),
        }
    }
}
